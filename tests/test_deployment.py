"""etc/systemd, etc/docker and etc/kubernetes, as far as they can be checked where they stand."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sysconfig
from typing import TYPE_CHECKING

import pytest

from bintrades.config.loader import load_config
from bintrades.exchange.shards import Shard
from tests.checkout import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

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


def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text(encoding="utf-8").replace("/opt/bintrades/bin/bintrades", "/bin/true")
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")

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
    assert {"bintrades", "setup.cfg", "setup.py", "pyproject.toml", "README.md"} <= set(kept)
