"""A copy of the checkout with a virtual environment that can be filled without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PARTS = (
    *("bintrades", "etc", "plugins", "scripts"),
    *("README.md", "LICENSE", "setup.cfg", "setup.py", "pyproject.toml", "var/.gitignore"),
)


def add_environment(folder: Path) -> None:
    """Make an environment that sees the packages of the Python that runs the tests."""
    venv.create(folder, with_pip=False, symlinks=True)
    own = next(folder.glob("lib/python*/site-packages"))
    (own / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")


class Checkout:
    """A copy in *folder* whose .venv sees the packages of the Python that runs the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in PARTS:
            source, target = REPOSITORY / part, folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        self.add_environment(folder / ".venv")

    def add_environment(self, folder: Path) -> None:
        """Make an environment like one that the user had before."""
        add_environment(folder)

    @property
    def environ(self) -> dict[str, str]:
        """Environment variables under which pip needs no network."""
        # pip reads the name without its NO_: 0 turns build isolation off.
        pip = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0", "BINTRADES_INSTALLER": "pip"}
        inherited = {key: os.environ[key] for key in ("HOME", "PATH") if key in os.environ}
        return inherited | pip

    def bash(
        self, *arguments: str | Path, cwd: str | Path = "/", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run bash to its end, with a closed stdin, in the folder *cwd*."""
        return subprocess.run(
            ["bash", *arguments],
            cwd=cwd,
            env=self.environ | environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def use_environment(
        self, *extras: str, then: str = "true", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Do what every script does first, and *then* a command."""
        script = f'source "$0"; use_environment {" ".join(extras)}; {then}'
        return self.bash("-c", script, self.folder / "scripts/environment.sh", **environ)
