"""`bintrades check`: what the options are in effect, where that comes from, and no secret."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from bintrades.cli import main
from bintrades.config.schema import OPTIONS

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2hunter2"  # noqa: S105 - of nobody


@pytest.fixture
def ini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a configuration; the working directory, which check changes, is restored."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "some.ini"
    path.write_text("[stores]\nenabled = mongodb\n", encoding="utf-8")
    return path


def lines(ini: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Return what check prints of options, without the name of the file."""
    assert main(["check", "--config", str(ini), *words]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return [line.strip() for line in said.out.splitlines() if line.startswith("  [")]


def of_stores(said: list[str]) -> list[str]:
    """Return what is about stores."""
    return [line for line in said if line.startswith("[store:")]


def test_what_differs_from_its_default_is_printed_and_nothing_else(
    ini: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ini.write_text(
        "[symbols]\ninclude =\n  *USDT\n  *USDC\n[bars]\ninterval = 10s\n"
        "[journal]\npath = here.journal\n[stores]\nenabled =\n",
        encoding="utf-8",
    )

    assert lines(ini, capsys) == [
        "[symbols] include = *USDT *USDC (line 2; default: BTCUSDT, ETHUSDT)",
        f"[journal] path = {ini.parent}/here.journal (line 8; default: var/bintrades.journal)",
        "[stores] enabled = (line 10; default: mongodb)",
    ]


def test_all_of_them_are_printed_on_demand_each_with_its_origin(
    ini: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKET", "usdm")
    monkeypatch.setenv("BINTRADES_SHARD", "2/5")
    ini.write_text(
        "[binance]\nmarket = ${MARKET}\n[symbols]\nshard = 1/2\n[logging]\nlevel = INFO\n"
        "[store:mongodb]\ndatabase = trades\n",
        encoding="utf-8",
    )

    said = lines(ini, capsys, "--all")

    ours = [line for line in said if line not in of_stores(said)]
    names = [f"[{section}] {name}" for section in OPTIONS for name in OPTIONS[section]]
    assert [line.partition(" =")[0] for line in ours] == names
    for line in (
        "[binance] market = usdm (line 2, environment: MARKET; default: spot)",
        "[binance] rest_url = https://fapi.binance.com (default)",
        "[binance] api_key = (default)",
        "[symbols] shard = 2/5 (environment: BINTRADES_SHARD; default: nothing)",
        "[symbols] refresh = 5m (default)",
        "[logging] level = INFO (line 6)",
        "[store:mongodb] uri = mongodb://127.0.0.1:27017 (default)",
        "[store:mongodb] database = trades (file; default: bintrades)",
    ):
        assert line in said


@pytest.mark.parametrize("words", [(), ("--all",)])
def test_no_secret_is_printed(
    words: tuple[str, ...],
    ini: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MONGODB_PASSWORD", SECRET)
    monkeypatch.setenv("NAME_OF_DATABASE", "from_a_variable")
    ini.write_text(
        f"[binance]\nmarket = usdm\napi_key = key-{SECRET}\n[store:mongodb]\n"
        "uri = mongodb://me:${MONGODB_PASSWORD}@db.example/\ndatabase = ${NAME_OF_DATABASE}\n",
        encoding="utf-8",
    )

    said = lines(ini, capsys, *words)

    text = "\n".join(said)
    assert SECRET not in text
    assert "from_a_variable" not in text
    assert "[binance] api_key = *** (line 3; default: nothing)" in said


def test_of_a_plugin_that_declares_no_options_no_value_is_printed(
    ini: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ini.parent / "plugins").mkdir()
    (ini.parent / "plugins" / "shelf.py").write_text(
        "from bintrades import hookimpl\n@hookimpl\ndef open_store(options): pass\n"
        "@hookimpl\ndef store_bars(bars): pass\n@hookimpl\ndef close_store(): pass\n",
        encoding="utf-8",
    )
    ini.write_text(
        f"[stores]\nenabled = shelf\n[store:shelf]\nsesame = {SECRET}\n", encoding="utf-8"
    )

    assert of_stores(lines(ini, capsys, "--all")) == ["[store:shelf] sesame = *** (file)"]
    assert of_stores(lines(ini, capsys)) == []


@pytest.mark.parametrize(
    ("shard", "path", "is_remarked"),
    [
        ("2/5", "var/bintrades.journal", True),
        ("2/5", "var/bintrades-${SHARD}.journal", False),
        ("1/1", "var/bintrades.journal", False),
        ("", "var/bintrades.journal", False),
    ],
)
def test_a_journal_that_is_the_same_for_all_shards_of_the_file_is_remarked_on(
    shard: str,
    path: str,
    is_remarked: bool,
    ini: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is right where each shard has a file system of its own, and wrong everywhere else."""
    monkeypatch.setenv("BINTRADES_SHARD", shard)
    ini.write_text(f"[journal]\npath = {path}\n", encoding="utf-8")

    main(["check", "--config", str(ini)])

    remark = f"{ini}: [journal] path: the same for every shard of this file, so each needs"
    assert (remark in capsys.readouterr().out) is is_remarked


def test_a_file_of_one_shard_alone_is_not_remarked_on(
    ini: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ini.write_text("[symbols]\nshard = 2/5\n", encoding="utf-8")

    main(["check", "--config", str(ini)])

    assert "the same for every shard" not in capsys.readouterr().out


def test_the_shard_of_the_command_line_is_in_effect(ini: Path) -> None:
    checked = subprocess.run(
        [sys.executable, "-P", "-m", "bintrades", "check", "--config", ini, "--shard", "1/3"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert (
        "[symbols] shard = 1/3 (environment: BINTRADES_SHARD; default: nothing)" in checked.stdout
    )
