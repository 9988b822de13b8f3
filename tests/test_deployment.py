"""etc/systemd, etc/docker and etc/kubernetes, as far as they can be checked where they stand."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import pytest

from bintrades.config.loader import load_config
from bintrades.exchange.shards import Shard
from tests.checkout import REPOSITORY

ETC = REPOSITORY / "etc"
UNIT = ETC / "systemd" / "bintrades@.service"


def output_of(*command: str | Path, cwd: Path = REPOSITORY) -> str:
    """Return what a command prints; skip the test where there is no such program."""
    program, *arguments = map(str, command)
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"
    found = shutil.which(program, path=path)
    if found is None:
        pytest.skip(f"needs {program}")
    ended = subprocess.run(
        [found, *arguments], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return parser


def section_of_systemd() -> str:
    page = (REPOSITORY / "docs" / "deployment.md").read_text(encoding="utf-8")
    return page.partition("## systemd\n")[2].partition("\n## ")[0]


def test_systemd_finds_no_fault_with_the_unit_or_with_its_change_for_shards(
    tmp_path: Path,
) -> None:
    text = UNIT.read_text(encoding="utf-8")
    drop_in = section_of_systemd().partition("```\n[Service]\n")[2].partition("```")[0]
    for name, content in ((UNIT.name, text), (f"{UNIT.name}.d/more.conf", "[Service]\n" + drop_in)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        installed = content.replace("/opt/bintrades/bin/bintrades", "/bin/true")
        (tmp_path / name).write_text(installed, encoding="utf-8")

    assert "BINTRADES_SHARD=%i/5" in drop_in
    assert output_of("systemd-analyze", "verify", tmp_path / UNIT.name) == ""


def test_the_unit_may_do_little() -> None:
    told = output_of("systemd-analyze", "security", "--offline=true", UNIT)

    exposure = re.search(r"exposure level for \S+: ([0-9.]+) OK", told)
    assert exposure is not None, told
    page = (REPOSITORY / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert f"exposure {exposure[1]}" in page


def test_the_unit_starts_again_whatever_another_start_may_help() -> None:
    service = unit()["Service"]

    assert (service["Type"], service["Restart"]) == ("notify", "always")
    assert service["RestartPreventExitStatus"] == "2"
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"
    assert int(service["WatchdogSec"]) >= 12 * 5, "it says every five seconds that it goes on"


def steps_of_systemd() -> list[str]:
    """Return the commands of the documentation that put what is needed in its place."""
    commands = section_of_systemd().split("```")[1].splitlines()
    return [line for line in commands if line.startswith(("install ", "sed ", "systemd-sysusers"))]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_unit_can_read_and_write_the_files_that_its_documented_steps_name() -> None:
    """Done as documented, but below a folder; then the user of the unit reads the file."""
    service = unit()["Service"]
    with tempfile.TemporaryDirectory(prefix="bt") as name:
        root = Path(name)
        root.chmod(0o755)
        (root / "etc").mkdir()
        user, group = 0, 0
        for step in steps_of_systemd():
            here = re.sub(r"(?<= )/etc/", f"{root}/etc/", step)
            here = here.replace("systemd-sysusers", f"systemd-sysusers --root={root}")
            here = here.replace(f" -g {service['Group']} ", f" -g {group} ")
            output_of("bash", "-c", f"umask 027; {here}")
            if step == "systemd-sysusers":
                made = (root / "etc" / "passwd").read_text(encoding="utf-8")
                found = re.search(rf"^{service['User']}:[^:]*:(\d+):(\d+):", made, re.MULTILINE)
                assert found is not None, made
                user, group = int(found[1]), int(found[2])
        ini = root / "etc" / "bintrades" / "usdm.ini"
        read = subprocess.run(
            ["cat", ini], user=user, group=group, extra_groups=[], capture_output=True, check=False
        )
        config = load_config(ini, {})

    assert (read.returncode, read.stderr) == (0, b"")
    assert user != 0
    own, shared = (f"/var/lib/{each}" for each in service["StateDirectory"].split())
    assert str(config.journal.path.parent) == own.replace("%i", "usdm")
    assert config.exchange_options.shared_budget is not None
    assert str(config.exchange_options.shared_budget.parent) == shared


def test_the_configurations_are_right_as_they_stand() -> None:
    docker = load_config(ETC / "docker" / "bintrades.ini", {})
    pod = load_config(ETC / "kubernetes" / "bintrades.ini", {"BINTRADES_SHARD": "1/1"})

    assert pod.symbols.shard == Shard(1, 1)
    for config in (docker, pod):
        assert str(config.journal.path) == "/data/bintrades.journal"
        assert config.http.listen == ("0.0.0.0", 8787)


def test_the_pods_are_as_the_rest_of_the_documentation_says() -> None:
    made = output_of("kubectl", "kustomize", ETC / "kubernetes")

    assert "matchLabels:\n      app.kubernetes.io/name: bintrades" in made
    assert "path: /healthz" in made
    assert "path: /readyz" in made
    assert "readOnlyRootFilesystem: true" in made
    assert "ordinals:\n    start: 1" in made, "shards are counted from 1"


def test_hadolint_finds_no_fault_with_the_dockerfile() -> None:
    assert output_of("hadolint", "--no-color", ETC / "docker" / "Dockerfile") == ""


def test_the_compose_file_asks_for_the_health_as_the_image_does() -> None:
    """Images in the format of OCI have no HEALTHCHECK, so it is in both."""
    dockerfile = (ETC / "docker" / "Dockerfile").read_text(encoding="utf-8")
    compose = (ETC / "docker" / "compose.yaml").read_text(encoding="utf-8")

    (command,) = re.findall(r'CMD \[("bintrades", "status".*)\]', dockerfile)
    (given,) = re.findall(r"HEALTHCHECK (.*) \\\n", dockerfile)
    assert f'test: ["CMD", {command}]' in compose
    for option, value in re.findall(r"--([a-z-]+)=(\S+)", given):
        assert f"{option.replace('-', '_')}: {value}\n" in compose


def test_the_image_has_all_that_is_installed_and_nothing_else() -> None:
    ignored = (ETC / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    kept = [line[1:] for line in ignored.splitlines() if line.startswith("!")]

    assert ignored.startswith("*\n")
    assert all((REPOSITORY / each).exists() for each in kept)
    assert {"bintrades", "plugins", "setup.cfg", "setup.py", "pyproject.toml", "README.md"} <= set(
        kept
    )
