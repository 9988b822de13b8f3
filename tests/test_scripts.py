"""What the scripts do before Python runs: find it, make an environment, hand over."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.checkout import REPOSITORY, Checkout
from tests.wheels import find_uv, uv_without_a_network

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a copy of the checkout, installed, in a path with spaces."""
    checkout = Checkout(tmp_path_factory.mktemp("scripts") / "a check out")
    first = checkout.use_environment()
    assert first.returncode == 0, first.stderr
    assert "installing bintrades into" in first.stderr
    return checkout


def only(folder: Path, *commands: str) -> str:
    """Return a PATH that has nothing but *commands* and what was put into *folder* before."""
    folder.mkdir(exist_ok=True)
    for command in commands:
        found = shutil.which(command)
        assert found is not None
        (folder / command).symlink_to(found)
    return str(folder)


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which uv, without a network, finds what the package needs."""
    folder = tmp_path_factory.mktemp("uv")
    environ = uv_without_a_network(folder, "setuptools")
    (folder / "bin").mkdir()
    (folder / "bin" / "uv").symlink_to(find_uv())
    return environ | {
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "BINTRADES_INSTALLER": "uv",
    }


def write_command(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!{shutil.which('bash')}\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def test_the_second_use_installs_nothing_and_says_nothing(checkout: Checkout) -> None:
    second = checkout.use_environment(then="command -v python")

    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout == f"{checkout.folder}/.venv/bin/python\n"


def test_an_installed_environment_needs_no_python_on_the_path(
    checkout: Checkout, tmp_path: Path
) -> None:
    path = only(tmp_path / "bin", "bash", "cat", "dirname")

    assert checkout.use_environment(PATH=path).returncode == 0


def test_the_package_is_the_one_of_the_checkout_whatever_pythonpath_says(
    checkout: Checkout, tmp_path: Path
) -> None:
    (tmp_path / "bintrades.py").write_text("raise SystemExit('the wrong one')", encoding="utf-8")
    where = "cd / && python -c 'import bintrades; print(bintrades.__file__)'"

    used = checkout.use_environment(
        then=where, PYTHONPATH=str(tmp_path), VIRTUAL_ENV=str(tmp_path), PYTHONHOME=str(tmp_path)
    )

    assert used.stdout == f"{checkout.folder}/bintrades/__init__.py\n", used.stderr


def test_an_extra_is_added_to_what_is_there_and_stays(checkout: Checkout) -> None:
    added = checkout.use_environment("simulator")
    again = checkout.use_environment("simulator")
    without = checkout.use_environment()

    assert (added.returncode, again.stderr, without.stderr) == (0, "", "")
    assert "installing bintrades[simulator]" in added.stderr


@pytest.mark.parametrize("name", ["setup.cfg", "pyproject.toml"])
def test_of_two_that_find_a_changed_setup_one_installs_and_the_other_waits(
    checkout: Checkout, name: str
) -> None:
    setup = checkout.folder / name
    setup.write_text(setup.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    script = 'source "$0"; use_environment; python -c "import bintrades"'
    command = ["bash", "-c", script, str(checkout.folder / "scripts/environment.sh")]
    both = [
        subprocess.Popen(command, env=checkout.environ, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert sum("installing" in each for each in said) == 1, said


def test_an_interrupted_first_installation_is_made_anew(checkout: Checkout, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    script = 'source "$0"; use_environment'
    command = ["bash", "-c", script, str(checkout.folder / "scripts/environment.sh")]
    environ = checkout.environ | {"BINTRADES_VENV": str(environment)}
    with subprocess.Popen(
        command, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as first:
        assert first.stderr is not None
        assert "making a virtual environment" in first.stderr.readline()
        os.killpg(first.pid, signal.SIGKILL)
    (environment / "left behind").touch()

    # Nothing can be downloaded to build with, so that pip fails: what it says must be shown.
    second = checkout.use_environment(
        BINTRADES_VENV=str(environment), PIP_NO_BUILD_ISOLATION="1", PIP_NO_INDEX="1"
    )

    assert "making a virtual environment" in second.stderr
    assert not (environment / "left behind").exists()
    assert second.returncode == 1
    assert "No matching distribution found" in second.stderr
    assert second.stderr.endswith("the installation failed, for the reason that pip gives above\n")


def test_without_a_network_the_failed_installation_asks_for_it(
    checkout: Checkout, tmp_path: Path
) -> None:
    """Here nobody listens where the packages should come from."""
    network = {
        "PIP_NO_INDEX": "0",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_CONFIG_FILE": os.devnull,
    }
    failed = checkout.use_environment(
        BINTRADES_VENV=str(tmp_path / "environment"),
        PIP_NO_BUILD_ISOLATION="1",
        PIP_RETRIES="0",
        **network,
    )

    assert failed.returncode == 1
    assert "no network? " in failed.stderr
    assert "HTTPS_PROXY" in failed.stderr


def test_uv_makes_an_environment_in_a_path_with_spaces_and_nothing_is_left_to_do(
    checkout: Checkout, uv: dict[str, str], tmp_path: Path
) -> None:
    environ = uv | {"BINTRADES_VENV": str(tmp_path / "an environment")}

    first = checkout.use_environment(then="bintrades --version", **environ)
    second = checkout.use_environment(**environ)

    assert (first.returncode, first.stdout[:10]) == (0, "bintrades "), first.stderr
    assert "an environment with uv; the first time" in first.stderr
    assert not list((tmp_path / "an environment").glob("lib/*/site-packages/pip"))
    assert (second.returncode, second.stderr) == (0, "")


def test_what_uv_was_interrupted_in_is_made_anew(
    checkout: Checkout, uv: dict[str, str], tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    environ = uv | {"BINTRADES_VENV": str(environment)}
    assert checkout.use_environment(**environ).returncode == 0
    (environment / ".bintrades.stamp").unlink()  # as it is while something installs
    (environment / "left behind").touch()

    mended = checkout.use_environment(then="python -c 'import bintrades'", **environ)

    assert mended.returncode == 0, mended.stderr
    assert "making a virtual environment" in mended.stderr
    assert not (environment / "left behind").exists()


def test_of_two_that_install_with_uv_one_waits(
    checkout: Checkout, uv: dict[str, str], tmp_path: Path
) -> None:
    script = 'source "$0"; use_environment; python -c "import bintrades"'
    command = ["bash", "-c", script, str(checkout.folder / "scripts/environment.sh")]
    environ = checkout.environ | uv | {"BINTRADES_VENV": str(tmp_path / "environment")}
    both = [
        subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert sum("installing" in each for each in said) == 1, said


def test_where_uv_fails_pip_installs_and_the_reason_is_shown(
    checkout: Checkout, tmp_path: Path
) -> None:
    write_command(
        tmp_path / "bin/uv", '[ "$1" = --version ] || { echo "the moon is full"; exit 1; }'
    )
    checkout.add_environment(tmp_path / "environment")

    used = checkout.use_environment(
        then="python -c 'import bintrades'",
        PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
        BINTRADES_VENV=str(tmp_path / "environment"),
        BINTRADES_INSTALLER="uv",
    )

    assert used.returncode == 0, used.stderr
    assert "the moon is full\n" in used.stderr
    assert "uv has failed, for the reason that it gives above: trying pip" in used.stderr


def test_uv_is_left_alone_where_pip_alone_was_told_where_packages_are(
    checkout: Checkout, tmp_path: Path
) -> None:
    write_command(tmp_path / "bin/uv", "echo uv was asked >&2")
    checkout.add_environment(tmp_path / "environment")

    used = checkout.use_environment(
        PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
        BINTRADES_VENV=str(tmp_path / "environment"),
        BINTRADES_INSTALLER="",
    )

    assert used.returncode == 0, used.stderr
    assert "with uv" not in used.stderr


def test_an_installer_that_is_none_is_refused(checkout: Checkout, tmp_path: Path) -> None:
    refused = checkout.use_environment(
        BINTRADES_VENV=str(tmp_path / "environment"), BINTRADES_INSTALLER="conda"
    )

    assert refused.returncode == 1
    assert "BINTRADES_INSTALLER=conda: allowed are uv and pip" in refused.stderr


def test_a_folder_with_other_things_is_refused_and_left_alone(
    checkout: Checkout, tmp_path: Path
) -> None:
    (tmp_path / "precious").touch()

    refused = checkout.use_environment(BINTRADES_VENV=str(tmp_path))

    assert refused.returncode == 1
    assert "holds other things than a virtual environment" in refused.stderr
    assert (tmp_path / "precious").exists()


def test_a_place_that_pip_cannot_install_into_is_said_at_once(
    checkout: Checkout, tmp_path: Path
) -> None:
    refused = checkout.use_environment(BINTRADES_VENV=str(tmp_path / "a$b"))

    assert refused.returncode == 1
    (said,) = refused.stderr.splitlines()
    assert f"with a $ in its path: {tmp_path}/a$b. Name another with BINTRADES_VENV" in said
    assert not (tmp_path / "a$b").exists()


def test_a_place_that_cannot_be_written_is_said(checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    refused = checkout.use_environment(BINTRADES_VENV=str(tmp_path / "file" / "environment"))

    assert refused.returncode == 1
    assert "make them writable" in refused.stderr


def test_without_a_python_that_is_new_enough_it_says_what_to_install(
    checkout: Checkout, tmp_path: Path
) -> None:
    write_command(tmp_path / "bin/python3", "exit 1")
    path = only(tmp_path / "bin", "bash", "cat", "dirname")

    refused = checkout.use_environment(PATH=path, BINTRADES_VENV=str(tmp_path / "environment"))

    assert refused.returncode == 1
    assert "Python 3.11 or newer is needed" in refused.stderr


def test_a_python_without_venv_is_named_with_the_package_to_install(
    checkout: Checkout, tmp_path: Path
) -> None:
    script = 'case $3 in *ensurepip*) exit 1 ;; *) echo "$0" ;; esac'
    write_command(tmp_path / "bin/python3", script)
    path = only(tmp_path / "bin", "bash", "cat", "dirname")

    refused = checkout.use_environment(PATH=path, BINTRADES_VENV=str(tmp_path / "environment"))

    assert refused.returncode == 1
    assert f"{tmp_path}/bin/python3 lacks the modules venv and ensurepip" in refused.stderr
    assert "apt install python3-venv" in refused.stderr


def test_the_collector_explains_itself_without_installing_anything(
    checkout: Checkout, tmp_path: Path
) -> None:
    script = checkout.folder / "scripts/run_collector.sh"

    helped = checkout.bash(script, "--help", BINTRADES_VENV=str(tmp_path / "none"))
    refused = checkout.bash(script, "--hepl", BINTRADES_VENV=str(tmp_path / "none"))

    assert (helped.returncode, helped.stderr) == (0, "")
    assert "usage: run_collector.sh [FILE]" in helped.stdout
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "usage:" in refused.stderr
    assert not (tmp_path / "none").exists()


def test_a_bad_configuration_beside_the_caller_ends_the_collector_with_2(
    checkout: Checkout, tmp_path: Path
) -> None:
    (tmp_path / "bad.ini").write_text("[bars]\nintervall = 10s\ngrace = soon\n", encoding="utf-8")

    refused = checkout.bash(checkout.folder / "scripts/run_collector.sh", "bad.ini", cwd=tmp_path)

    assert refused.returncode == 2, refused.stderr
    problems = refused.stderr.splitlines()
    assert len(problems) == 2, refused.stderr
    assert "intervall" in problems[0]
    assert "interval" in problems[0]
    assert "grace" in problems[1]


def test_the_oldest_versions_are_those_of_setup_cfg_for_every_dependency(
    checkout: Checkout,
) -> None:
    printed = checkout.bash(checkout.folder / "scripts/test_versions.sh", "constraints")

    setup = configparser.ConfigParser()
    setup.read(checkout.folder / "setup.cfg", encoding="utf-8")
    extras = setup["options.extras_require"]
    of_extras = [extras[name] for name in extras if name not in ("docs", "soak", "test")]
    needed = [setup["options"]["install_requires"], *of_extras]
    oldest = [
        re.sub(r"\[.*\]", "", line).replace(" >= ", "==")
        for line in "\n".join(needed).split("\n")
        if line and not line.startswith("bintrades[")
    ]
    assert printed.stdout.splitlines() == oldest
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", line) for line in oldest)


def test_the_quick_tests_reach_into_every_dependency(checkout: Checkout) -> None:
    script = (checkout.folder / "scripts/test_versions.sh").read_text(encoding="utf-8")
    printed = checkout.bash(checkout.folder / "scripts/test_versions.sh", "constraints")
    (quick,) = re.findall(r"(?ms)^QUICK=\((.+?)^\)$", script)
    reached = re.findall(r"[\w-]+", " ".join(re.findall(r"# (.+)", quick)))

    assert {line.partition("==")[0] for line in printed.stdout.splitlines()} <= set(reached)
    for path in re.findall(r"tests/\S+", quick):
        assert (REPOSITORY / path).exists(), path


def test_which_versions_to_test_with_must_be_said(checkout: Checkout) -> None:
    for arguments in ([], ["latest"]):
        refused = checkout.bash(checkout.folder / "scripts/test_versions.sh", *arguments)
        assert refused.returncode == 2
        assert "usage: test_versions.sh oldest|newest" in refused.stderr
