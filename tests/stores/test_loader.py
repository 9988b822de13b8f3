"""How plugins are found, what is said about a bad one, and how each is kept from the others."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bintrades import BintradesError, ConfigError, RejectedBars
from bintrades.stores.built_in import shipped_plugins
from bintrades.stores.loader import available, find_stores, load_stores
from bintrades.stores.store import Store, without_secrets
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[..., Path]
    Install = Callable[..., None]

GOOD = """
    taken = []

    @hookimpl
    def store_bars(bars):
        taken.extend(bars)
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a drop-in plugin."""

    def write(name: str, code: str = GOOD) -> Path:
        path = tmp_path / f"{name}.py"
        start = "import sys\nfrom bintrades import hookimpl, RejectedBars\n"
        path.write_text(start + textwrap.dedent(code))
        return path

    return write


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Return a function that installs a package with one module and one entry point to it."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def install(module: str, name: str, code: str, attribute: str = "") -> None:
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[bintrades]\n{name} = {module}{attribute}\n")
        (site / f"{module}.py").write_text(
            "from bintrades import hookimpl\n" + textwrap.dedent(code)
        )
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


def load(folder: Path, *names: str) -> list[Store]:
    return load_stores(names, folder)


def problems(folder: Path, *names: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_stores(names, folder)
    return list(refused.value.problems)


def problem(folder: Path, *names: str) -> str:
    (only,) = problems(folder, *names)
    return only


def taken(name: str) -> list[object]:
    """Return the bars that the drop-in plugin *name* was given."""
    return list(sys.modules[f"_bintrades_plugin_{name}"].taken)


def test_a_file_in_the_folder_is_a_plugin(tmp_path: Path, write: Write) -> None:
    write("mine")

    (store,) = load(tmp_path, "mine")
    store.check({"any": "option"})
    store.open({})
    store.write([sample_bar()])
    store.close()

    assert store.name == "mine"
    assert taken("mine") == [sample_bar()]


def test_mongodb_is_a_plugin_like_any_other(tmp_path: Path) -> None:
    (store,) = load(tmp_path / "no such folder", "mongodb")

    with pytest.raises(ConfigError, match="colour: unknown option"):
        store.check({"colour": "red"})


def test_an_installed_package_is_a_plugin(tmp_path: Path, install: Install) -> None:
    install("acme_store", "acme", GOOD)

    (store,) = load(tmp_path, "acme")
    store.write([sample_bar()])

    assert sys.modules["acme_store"].taken == [sample_bar()]


def test_a_file_wins_over_an_installed_package_and_the_log_says_so(
    tmp_path: Path, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = write("mongodb")

    (store,) = load(tmp_path, "mongodb")
    store.write([sample_bar()])

    assert taken("mongodb") == [sample_bar()]
    assert f"{path} is used instead of bintrades.stores.mongodb" in caplog.text


def test_a_copy_of_a_plugin_that_comes_with_us_is_that_plugin_until_it_is_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a checkout, where the file and the entry point are one; or as users copy it."""
    copy = tmp_path / "jsonl.py"
    shutil.copy(shipped_plugins()["jsonl"], copy)
    load(tmp_path, "jsonl")
    assert not caplog.messages

    copy.write_text(copy.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    load(tmp_path, "jsonl")
    assert f"{copy} is used instead of bintrades_plugins.jsonl" in caplog.text


def test_what_comes_with_us_is_a_plugin_without_a_folder_of_plugins(tmp_path: Path) -> None:
    """As after pip install, in any folder."""
    names = ["mongodb", *shipped_plugins()]

    stores = load(tmp_path / "no such folder", *names)

    assert [store.name for store in stores] == names


def test_two_packages_that_offer_the_same_name_are_refused(
    tmp_path: Path, install: Install
) -> None:
    install("acme_store", "acme", GOOD)
    install("other_store", "acme", GOOD)

    said = problem(tmp_path, "acme")

    assert "acme_store" in said
    assert "other_store" in said


RUNS = "open('ran', 'w').close()"


@pytest.mark.parametrize("place", ["mine.py", "", ".."])
def test_code_that_everybody_may_change_is_not_run(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "over" / "plugins"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(RUNS)
    open_to_all = (folder / place).resolve()
    open_to_all.chmod(0o777)

    said = problem(folder, "mine")

    assert said.startswith(
        f"[stores] enabled: mine is not run: everybody may change {open_to_all}; allowed: "
    )
    assert not (tmp_path / "ran").exists()
    assert load(folder, "mongodb"), "what is not run does no harm"


def test_compiled_code_that_everybody_may_change_is_not_run(tmp_path: Path, write: Write) -> None:
    compiled = Path(importlib.util.cache_from_source(str(write("mine"))))
    compiled.parent.mkdir()
    compiled.touch()
    compiled.parent.chmod(0o777)

    assert f"everybody may change {compiled.parent};" in problem(tmp_path, "mine")


def test_a_link_to_code_that_everybody_may_change_is_not_followed(
    tmp_path: Path, write: Write
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    code = write("mine").rename(away / "code.py")
    (tmp_path / "mine.py").symlink_to(code)
    away.chmod(0o777)

    assert f"everybody may change {away};" in problem(tmp_path, "mine")


def test_of_a_folder_where_nobody_may_touch_what_belongs_to_others_code_is_run(
    tmp_path: Path, write: Write
) -> None:
    write("mine")
    tmp_path.chmod(0o1777)

    assert load(tmp_path, "mine")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_code_of_somebody_else_in_such_a_folder_is_not_run(tmp_path: Path, write: Write) -> None:
    os.chown(write("mine"), 12_345, -1)
    tmp_path.chmod(0o1777)

    assert "everybody may change" in problem(tmp_path, "mine")


def test_all_plugins_are_listed(tmp_path: Path, write: Write, install: Install) -> None:
    write("mine")
    write("_helper")
    install("acme_store", "acme", GOOD)

    assert [name for name in available(tmp_path) if name in {"mine", "acme", "mongodb"}] == [
        "acme",
        "mine",
        "mongodb",
    ]
    assert "_helper" not in available(tmp_path)


def test_the_order_is_that_of_the_configuration(tmp_path: Path, write: Write) -> None:
    write("a")
    write("b")

    assert [store.name for store in load(tmp_path, "b", "mongodb", "a")] == ["b", "mongodb", "a"]
    assert load(tmp_path) == []


def test_an_unknown_name_is_refused_with_a_suggestion_and_the_names_there_are(
    tmp_path: Path, write: Write
) -> None:
    write("mine")

    said = problem(tmp_path, "mongdb")

    assert "no plugin 'mongdb'; did you mean 'mongodb'?" in said
    assert "mine, mongodb" in said
    assert "no plugin 'MongoDB'; did you mean 'mongodb'?" in problem(tmp_path, "MongoDB")


@pytest.mark.parametrize("name", ["../mine", "/etc/passwd", "mine.py", ""])
def test_a_path_is_not_a_name(tmp_path: Path, write: Write, name: str) -> None:
    write("mine")
    (tmp_path / "plugins").mkdir()

    assert "there is no plugin" in problem(tmp_path / "plugins", name)


def test_every_problem_is_said_at_once(tmp_path: Path, write: Write) -> None:
    write("broken", "import no_such_module")
    write("idle", "")

    said = problems(tmp_path, "mongodb", "broken", "nonsense", "idle", "mongodb")

    assert len(said) == 4
    assert said[0] == "[stores] enabled: mongodb is named 2 times"
    assert all(line.startswith("[stores] enabled: ") for line in said)
    assert all("allowed" in line for line in said[1:])


def test_the_plugins_that_can_be_used_can_be_had_beside_the_problems(
    tmp_path: Path, write: Write
) -> None:
    write("broken", "import no_such_module")
    write("mine")

    stores, said = find_stores(["broken", "mine"], tmp_path)
    stores[0].write([sample_bar()])

    assert ([store.name for store in stores], len(said)) == (["mine"], 1)
    assert taken("mine") == [sample_bar()]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("sys.exit('bye')", "SystemExit: bye"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        (
            "class Silent(Exception):\n    __str__ = None\nraise Silent",
            "Silent: which has no text",
        ),
        ("def store_bars(bars)", "SyntaxError: expected ':'"),
        ("\tx\n  y", "TabError|IndentationError"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named_with_file_line_and_reason(
    tmp_path: Path, write: Write, code: str, reason: str
) -> None:
    path = write("broken", code)

    said = problem(tmp_path, "broken")

    assert said.startswith("[stores] enabled: broken cannot be imported: ")
    assert any(each in said for each in reason.split("|"))
    assert f"{path}, line " in said
    assert "_bintrades_plugin_broken" not in sys.modules


def test_the_line_is_the_one_in_the_plugin_that_failed(tmp_path: Path, write: Write) -> None:
    path = write("broken", "\nimport json\njson.loads('{')")

    assert f"{path}, line 5" in problem(tmp_path, "broken")


def test_an_installed_plugin_that_cannot_be_imported_is_named(
    tmp_path: Path, install: Install
) -> None:
    install("acme_store", "acme", "1 / 0")

    said = problem(tmp_path, "acme")

    assert "acme_store.py, line 2: ZeroDivisionError" in said


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "has no store_bars"),
        ("def store_bars(bars): pass", "store_bars lacks @hookimpl"),
        (
            GOOD + "\n    @hookimpl\n    def opn_store(options): pass",
            "opn_store is not a hook; did you mean 'open_store'?",
        ),
        (
            "@hookimpl\ndef store_bars(bar): pass",
            "store_bars has no argument 'bar'; did you mean 'bars'?",
        ),
        (
            GOOD + "\n    @hookimpl\n    def close_store(options): pass",
            "close_store has no argument 'options'; allowed: none",
        ),
        ("@hookimpl\ndef store_bars(): pass", "store_bars must take the argument bars"),
        ("@hookimpl\ndef store_bars(bars=()): pass", "bars must not have a default"),
        ("@hookimpl\nasync def store_bars(bars): pass", "store_bars must not be async"),
        ("@hookimpl\ndef store_bars(bars): yield", "store_bars must not yield"),
        ("@hookimpl(wrapper=True)\ndef store_bars(bars):\n return (yield)", "has no store_bars"),
        (
            GOOD + "\n    @hookimpl(wrapper=True)\n    def open_store(options): pass",
            "function is not a generator function",
        ),
    ],
)
def test_a_plugin_that_would_not_work_is_refused_with_hook_and_reason(
    tmp_path: Path, write: Write, code: str, reason: str
) -> None:
    path = write("bad", code)

    said = problems(tmp_path, "bad")

    assert [line for line in said if reason in line and str(path) in line]
    assert all("\n" not in line for line in said)


def test_an_entry_point_may_be_an_object_or_a_class(tmp_path: Path, install: Install) -> None:
    code = """
        class Shop:
            @hookimpl
            def store_bars(self, bars):
                self.taken = bars

        shop = Shop()
    """
    install("acme_object", "one", code, ":shop")
    install("acme_class", "many", code, ":Shop")

    for store in load(tmp_path, "one", "many"):
        store.write([sample_bar()])

    assert sys.modules["acme_object"].shop.taken == [sample_bar()]
    assert not hasattr(sys.modules["acme_class"].shop, "taken")


CLASS = """
    made = []

    class Store:
        def __init__(self):
            self.taken = []
            made.append(self)

        @hookimpl
        def open_store(self, options):
            self.options = options

        @hookimpl
        def store_bars(self, bars):
            self.taken.extend(bars)
"""


def made(name: str) -> list[Any]:
    """Return the objects that were made of the class in the drop-in plugin *name*."""
    return list(sys.modules[f"_bintrades_plugin_{name}"].made)


def test_of_a_class_each_store_has_an_object_of_its_own(tmp_path: Path, write: Write) -> None:
    write("mine", CLASS)

    stores = load_stores(["mine", "other"], tmp_path, {"other": "mine"})
    for store in stores:
        store.open({"of": store.name})
        store.write([sample_bar(symbol=store.name)])

    assert [(store.name, store.plugin) for store in stores] == [("mine", "mine"), ("other", "mine")]
    assert [(each.options, each.taken) for each in made("mine")] == [
        ({"of": name}, [sample_bar(symbol=name)]) for name in ("mine", "other")
    ]


def test_an_installed_class_is_made_for_each_store(tmp_path: Path, install: Install) -> None:
    install("acme_class", "acme", CLASS, ":Store")

    load_stores(["a", "b"], tmp_path, {"a": "acme", "b": "acme"})

    assert len(sys.modules["acme_class"].made) == 2


@pytest.mark.parametrize("code", [GOOD, f"{CLASS}\n    taken = []\n    {GOOD.strip()}"])
def test_a_module_with_hook_functions_is_one_plugin_whatever_classes_it_has(
    tmp_path: Path, write: Write, code: str
) -> None:
    write("mine", code)

    said = problems_of(tmp_path, ["mine", "other"], {"other": "mine"})
    (store,) = load(tmp_path, "mine")
    store.write([sample_bar()])

    assert taken("mine") == [sample_bar()]
    assert said == [
        "[store:other] plugin: mine is already registered, for the store mine: there is one of it"
        " only, since it has plain hook functions, or is one object; allowed: one store of it, or a"
        " plugin with a class Store, which is made for each"
    ]


def problems_of(folder: Path, names: list[str], plugins: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_stores(names, folder, plugins)
    return list(refused.value.problems)


def test_a_plugin_that_a_section_names_and_that_is_not_there_is_said_in_its_place(
    tmp_path: Path, write: Write
) -> None:
    write("broken", "1 / 0")

    missing, broken = problems_of(tmp_path, ["a", "b"], {"a": "mongdb", "b": "broken"})

    assert missing.startswith("[store:a] plugin: there is no plugin 'mongdb'; did you mean 'mongo")
    assert broken.startswith("[store:b] plugin: broken cannot be imported: ")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("class Store: pass", "has no store_bars"),
        ("class Store:\n  def store_bars(self, bars): pass", "store_bars lacks @hookimpl"),
        ("class Store:\n  def __init__(self): 1 / 0", "cannot be made: "),
        ("class Store:\n  def __init__(self): sys.exit(1)", "SystemExit: 1"),
        ("class Store:\n  def __init__(self, options): pass", "TypeError: "),
        (
            "class Store:\n  @hookimpl\n  def store_bars(self, bar): pass",
            "store_bars has no argument 'bar'; did you mean 'bars'?",
        ),
        (
            "class Store:\n  OPTIONS = ('path',)\n  @hookimpl\n  def store_bars(self, bars): pass",
            "OPTIONS holds what is no Option; allowed: a tuple of Option",
        ),
        (
            "class Store:\n  OPTIONS = (Option('a', '', ''), Option('a', '', ''))\n"
            "  @hookimpl\n  def store_bars(self, bars): pass",
            "OPTIONS declares a more than once",
        ),
        (
            "class Store:\n  OPTIONS = (Option('plugin', '', ''),)\n"
            "  @hookimpl\n  def store_bars(self, bars): pass",
            "OPTIONS declares plugin, which names a section's plugin",
        ),
    ],
)
def test_a_class_that_would_not_work_is_refused_with_its_reason(
    tmp_path: Path, write: Write, code: str, reason: str
) -> None:
    path = write("bad", f"from bintrades import Option\n{code}")

    said = problems(tmp_path, "bad")

    assert [line for line in said if reason in line and str(path) in line], said


DECLARED = """
    from bintrades import Option, OptionType, option_types

    def even(text):
        if int(text) % 2:
            raise ValueError(f"{text} is odd")
        return int(text)

    class Store:
        OPTIONS = (
            Option("path", "", "where", option_types.path()),
            Option("size", "2", "how many", OptionType(even, "an even number")),
            Option("level", "low", "how loud", option_types.choice("low", "high")),
            Option("password", "none", "what lets us in", option_types.text(), is_secret=True),
            Option("pin", "", "a short secret", OptionType(even, "even"), is_secret=True),
        )

        @hookimpl
        def check_store(self, options):
            seen.append(options)

        @hookimpl
        def open_store(self, options):
            seen.append(options)

        @hookimpl
        def store_bars(self, bars): pass

    seen = []
"""


def declared(folder: Path, write: Write) -> Store:
    """Return a store that declares its options."""
    write("mine", DECLARED)
    (store,) = load(folder, "mine")
    return store


def test_hooks_get_declared_options_as_text_with_the_defaults_of_those_left_out(
    tmp_path: Path, write: Write
) -> None:
    store = declared(tmp_path, write)

    store.check({"path": "x", "pin": "4"})
    store.open({"path": "x", "pin": "4", "level": "HIGH"})

    every = {"path": "x", "size": "2", "level": "low", "password": "none", "pin": "4"}
    assert sys.modules["_bintrades_plugin_mine"].seen == [every, every | {"level": "HIGH"}]


def test_hooks_of_a_plugin_that_declares_nothing_get_the_section_as_it_is(
    tmp_path: Path, write: Write
) -> None:
    write("mine", CLASS + "\n    OPTIONS = {'something': 'else'}")
    (store,) = load(tmp_path, "mine")

    store.open({"Any": "thing", "x": ""})

    assert made("mine")[0].options == {"Any": "thing", "x": ""}


@pytest.mark.parametrize("call", ["check", "open"])
def test_everything_that_is_wrong_with_declared_options_is_said_before_a_hook_is_called(
    tmp_path: Path, write: Write, call: str
) -> None:
    store = declared(tmp_path, write)

    with pytest.raises(ConfigError) as refused:
        getattr(store, call)(
            {"pth": "x", "size": "3", "level": "hi", "password": "s3cr3t", "pin": "7"}
        )

    assert list(refused.value.problems) == [
        "pth: unknown option; did you mean 'path'?; allowed: path, size, level, password, pin",
        "path: must be given; allowed: a path, relative to the configuration's folder",
        "size = 3: 3 is odd; allowed: an even number",
        "level = hi: not one of these; did you mean 'high'?; allowed: low, high",
        "pin: is wrong; allowed: even",
    ]
    assert sys.modules["_bintrades_plugin_mine"].seen == []


DESCRIBES = """
    from bintrades import Option, option_types

    asked = []

    class Store:
        @hookimpl
        def describe_store(self):
            asked.append(self)
            sizes = option_types.whole_number(1, 2 + 2)
            return [Option("size", "2", "how many", sizes), Option("pin", "", "x", is_secret=True)]

        @hookimpl
        def store_bars(self, bars): pass
"""


def test_a_plugin_may_compute_its_options_once_for_all_its_stores(
    tmp_path: Path, write: Write
) -> None:
    write("mine", DESCRIBES)

    first, second = load_stores(["mine", "other"], tmp_path, {"other": "mine"})

    assert first.shown({"pin": "1234"}) == second.shown({"pin": "1234"}) == "size = 2, pin = ***"
    assert first.secrets({"pin": "1234"}) == {"1234"}
    with pytest.raises(ConfigError, match="sise: unknown option; did you mean 'size'"):
        second.check({"sise": "3"})
    with pytest.raises(ConfigError, match="size = 5: too large; allowed: 1 to 4"):
        second.check({"size": "5"})
    assert len(sys.modules["_bintrades_plugin_mine"].asked) == 1


def test_a_module_of_functions_may_compute_its_options(tmp_path: Path, write: Write) -> None:
    code = """
    @hookimpl
    def describe_store():
        return ()

    @hookimpl
    def store_bars(bars): pass
    """
    write("mine", code)

    (store,) = load(tmp_path, "mine")

    with pytest.raises(ConfigError, match="colour: unknown option; allowed: none"):
        store.check({"colour": "red"})


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("'port', 5432, 'x'", "the default of port is 5432; allowed: a text, such as '5432'"),
        ("'name', None, 'x'", "the default of name is None; allowed: a text, such as ''"),
        ("7, '', 'x'", "the name of 7 is 7; allowed: a text, such as '7'"),
        ("'name', '', None", "the meaning of name is None; allowed: a text"),
        ("'name', '', 'x', int", "the type of name is <class 'int'>; allowed: an OptionType"),
    ],
)
def test_an_option_that_is_declared_with_what_is_no_text_is_refused_with_its_name(
    write: Write, tmp_path: Path, option: str, problem: str
) -> None:
    code = f"""
    from bintrades import Option, hookimpl
    class Store:
        OPTIONS = (Option({option}),)
        @hookimpl
        def store_bars(self, bars): pass
    """
    path = write("mine", code)

    with pytest.raises(ConfigError) as refused:
        load(tmp_path, "mine")

    (said,) = refused.value.problems
    assert f"mine ({path}): OPTIONS: {problem}" in said


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("sys.exit(3)", "mine cannot be described: {path}, line 7: SystemExit: 3"),
        ("1 / 0", "mine cannot be described: {path}, line 7: ZeroDivisionError"),
        ("None", "mine ({path}): describe_store gave what is no Option; allowed: a tuple"),
        ("[1]", "mine ({path}): describe_store gave what is no Option; allowed: a tuple"),
        ("[Option('a', '', ''), Option('a', '', '')]", "describe_store declares a more than once"),
        ("[Option('plugin', '', '')]", "describe_store declares plugin, which names a section"),
    ],
)
def test_a_plugin_that_cannot_say_what_its_options_are_is_refused_with_its_reason(
    tmp_path: Path, write: Write, answer: str, reason: str
) -> None:
    code = f"""
    from bintrades import Option
    class Store:
        @hookimpl
        def describe_store(self): return {answer}
        @hookimpl
        def store_bars(self, bars): pass
    """
    path = write("mine", code)

    assert reason.format(path=path) in problem(tmp_path, "mine")


def test_a_plugin_that_says_its_options_twice_is_refused(tmp_path: Path, write: Write) -> None:
    write("mine", DESCRIBES + "\n        OPTIONS = ()")

    assert "has both OPTIONS and describe_store; allowed: one" in problem(tmp_path, "mine")


def test_a_declared_secret_is_never_shown(tmp_path: Path, write: Write) -> None:
    store = declared(tmp_path, write)
    options = {"path": "there", "password": "s3cr3t/w0rd", "pin": "42"}

    assert store.secrets(options) == {"s3cr3t/w0rd", "42"}
    assert store.secrets({"password": "none"}) == set(), "what everybody knows"
    assert store.without_secrets("'s3cr3t/w0rd' s3cr3t%2Fw0rd there", options) == "'***' *** there"
    assert store.shown(options) == (
        "path = there, size = 2, level = low, password = ***, pin = ***"
    )


def test_hooks_may_ask_for_fewer_arguments_and_be_left_out(tmp_path: Path, write: Write) -> None:
    write("mine", GOOD + "\n    @hookimpl\n    def open_store(): taken.append('opened')")

    (store,) = load(tmp_path, "mine")
    store.check({})
    store.open({"x": "y"})
    store.close()

    assert taken("mine") == ["opened"]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="Python looks the names up at once")
def test_annotations_may_name_what_is_there_for_type_checkers_alone(
    tmp_path: Path, write: Write
) -> None:
    write("mine", GOOD.replace("(bars):", "(bars: Sequence[Bar]) -> None:"))

    (store,) = load(tmp_path, "mine")
    store.write([sample_bar()])

    assert taken("mine") == [sample_bar()]


def test_a_store_can_be_read_by_a_generator_of_the_plugin(tmp_path: Path, write: Write) -> None:
    code = (
        GOOD
        + "\n    from bintrades.testing.bars import sample_bars"
        + "\n    @hookimpl\n    def read_bars(symbol, since, until):"
        + "\n        taken.append((symbol, since.isoformat(), until.isoformat()))"
        + "\n        yield from sample_bars(2)"
    )
    write("mine", code)
    (store,) = load(tmp_path, "mine")
    first, second = sample_bars(2)

    assert store.can_be_read
    assert list(store.read("BTCUSDT", OPEN_TIME_MS, OPEN_TIME_MS + 20_000, "spot")) == [
        first,
        second,
    ]
    assert taken("mine") == [("BTCUSDT", "2024-08-08T00:00:00+00:00", "2024-08-08T00:00:20+00:00")]
    for symbol, since, until in (
        ("ETHUSDT", OPEN_TIME_MS, OPEN_TIME_MS + 20_000),
        ("BTCUSDT", OPEN_TIME_MS + 1, OPEN_TIME_MS + 20_000),
        ("BTCUSDT", OPEN_TIME_MS, OPEN_TIME_MS + 10_000),
    ):
        with pytest.raises(BintradesError, match="which was not asked for"):
            list(store.read(symbol, since, until, "spot"))


def test_of_a_plugin_that_knows_no_markets_bars_of_others_are_left_out(
    tmp_path: Path, write: Write
) -> None:
    code = (
        GOOD
        + "\n    from bintrades.testing.bars import sample_bar"
        + "\n    @hookimpl\n    def read_bars(symbol, since, until):"
        + "\n        return [sample_bar(market=name) for name in ('coinm', 'spot', 'usdm')]"
    )
    write("mine", code)
    (store,) = load(tmp_path, "mine")

    found = list(store.read("BTCUSDT", OPEN_TIME_MS, OPEN_TIME_MS + 10_000, "usdm"))

    assert [bar.market for bar in found] == ["usdm"]


def test_a_store_without_the_hook_cannot_be_read(tmp_path: Path, write: Write) -> None:
    write("mine")
    (store,) = load(tmp_path, "mine")

    assert not store.can_be_read
    with pytest.raises(BintradesError, match="plugin mine: has no read_bars"):
        list(store.read("BTCUSDT", 0, 1, "spot"))


def test_a_call_reaches_one_plugin_and_no_other(tmp_path: Path, write: Write) -> None:
    names = ["first", "second", "third"]
    for name in names:
        write(name)

    for store in load(tmp_path, *names):
        store.write([sample_bar(symbol=store.name)])

    for name in names:
        assert taken(name) == [sample_bar(symbol=name)]


def test_the_wrapper_of_a_plugin_wraps_no_other(tmp_path: Path, write: Write) -> None:
    write("plain")
    write(
        "wrapped",
        GOOD
        + """
    @hookimpl(wrapper=True, specname="store_bars")
    def around(bars):
        taken.append("before")
        try:
            return (yield)
        finally:
            taken.append("after")
""",
    )

    for store in load(tmp_path, "plain", "wrapped"):
        store.write([sample_bar()])

    assert taken("plain") == [sample_bar()]
    assert taken("wrapped") == ["before", sample_bar(), "after"]


def test_what_a_plugin_raises_arrives_as_it_is(tmp_path: Path, write: Write) -> None:
    write("refuses", "@hookimpl\ndef store_bars(bars): raise RejectedBars([(bars[1], 'ugly')])")
    write("fails", "@hookimpl\ndef store_bars(bars): raise OSError(28, 'no space')")
    refuses, fails = load(tmp_path, "refuses", "fails")
    bars = sample_bars(3)

    with pytest.raises(RejectedBars) as refused:
        refuses.write(bars)
    with pytest.raises(OSError, match="no space"):
        fails.write(bars)

    assert refused.value.rejected == [(bars[1], "ugly")]


@pytest.mark.parametrize("raised", ["SystemExit(3)", "KeyboardInterrupt(3)"])
@pytest.mark.parametrize("hook", ["check_store", "open_store", "store_bars", "close_store"])
def test_a_plugin_that_calls_sys_exit_or_the_like_raises_an_error_that_names_it(
    tmp_path: Path, write: Write, hook: str, raised: str
) -> None:
    write("quits", f"{GOOD}\n    @hookimpl\n    def {hook}(): raise {raised}")
    if hook == "store_bars":
        write("quits", f"@hookimpl\ndef store_bars(bars): raise {raised}")
    (store,) = load(tmp_path, "quits")
    calls: dict[str, Callable[[], None]] = {
        "check_store": lambda: store.check({}),
        "open_store": lambda: store.open({}),
        "store_bars": lambda: store.write([sample_bar()]),
        "close_store": lambda: store.close(),
    }

    with pytest.raises(BintradesError) as error:
        calls[hook]()

    assert str(error.value) == f"plugin quits: {hook} raised {raised}"


def test_a_copy_of_the_process_that_comes_out_of_a_hook_ends_there(
    tmp_path: Path, write: Write
) -> None:
    """Else there would be a second collector, which stores and moves cursors as the first does."""
    code = """
    import os, warnings

    @hookimpl
    def store_bars(bars):
        warnings.simplefilter("ignore", DeprecationWarning)
        bars.append(os.fork())
        if bars[0] == 0:
            raise OSError("in the copy")
    """
    write("forks", code)
    (store,) = load(tmp_path, "forks")
    forked: list[Any] = []

    with warnings.catch_warnings():
        store.write(forked)

    assert os.waitpid(forked[0], 0)[1] == 0


def test_what_stands_in_an_option_for_a_secret_is_not_told() -> None:
    options = {"api_key": "abcd", "Password": "hidden", "path": "var/bars", "pwd": "ab"}

    assert (
        without_secrets("'hidden' of var/bars: abcd, ab", options) == "'***' of var/bars: ***, ab"
    )


def test_one_module_under_two_names_is_refused(tmp_path: Path, install: Install) -> None:
    install("acme_store", "acme", GOOD)
    install("acme_again", "again", "import acme_store, sys\nsys.modules[__name__] = acme_store")

    assert "already registered" in problem(tmp_path, "acme", "again")


def test_a_second_mongodb_is_a_section(tmp_path: Path) -> None:
    first, second = load_stores(["mongodb", "archive"], tmp_path, {"archive": "mongodb"})

    assert (first.name, second.name) == ("mongodb", "archive")
    with pytest.raises(ConfigError, match="colour: unknown option"):
        second.check({"colour": "red"})


def test_a_second_mongodb_may_be_a_plugin_of_a_few_lines_as_it_was(
    tmp_path: Path, write: Write
) -> None:
    write(
        "archive",
        """
        from bintrades.stores.mongodb import MongoStore
        _store = MongoStore()
        check_store, open_store = _store.check_store, _store.open_store
        store_bars, close_store = _store.store_bars, _store.close_store
        """,
    )

    first, second = load(tmp_path, "mongodb", "archive")

    assert (first.name, second.name) == ("mongodb", "archive")
    with pytest.raises(ConfigError, match="colour: unknown option"):
        second.check({"colour": "red"})
