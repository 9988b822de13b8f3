"""Container images, built by buildah and run without a container engine; both need root.

Where BINTRADES_TEST_IMAGE_BASE is set, that is the base: a tar of a root file system, or the name
of an image that buildah can get. Otherwise the base is made of the Python that runs the tests, and
of wheels of what is installed with it, so that nothing comes from a network.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.wheels import pack, pack_needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

BASE_VARIABLE = "BINTRADES_TEST_IMAGE_BASE"
_BASE = "localhost/base"
_COMMANDS = ("sh", "mkdir", "chown")  # which a Dockerfile may call
_OPTIONAL_PARTS = ("test", "idlelib", "lib2to3", "tkinter", "turtledemo", "site-packages")
_BUILT_WITHIN_S = 240
_RUN_WITHIN_S = 60
_POLL_S = 0.1
_CONTAINED = """
set -eu
chroot=$(PATH=$PATH:/usr/sbin:/sbin; command -v chroot)
root=$1 user=$2
shift 2
mount --bind "$root" "$root"
mkdir -p "$root/dev" "$root/proc"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
while [ "$1" != -- ]; do
    mount --bind "$2" "$root$1"
    shift 2
done
shift
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs "$chroot" --userspec="$user" --groups= "$root" "$@"
"""


class Buildah:
    """Images and containers in *folder*, by buildah. Any method may skip the test."""

    def __init__(self, folder: Path) -> None:
        for program in ("buildah", "unshare", "setpriv", "nsenter", "ldd"):
            if shutil.which(program) is None:
                pytest.skip(f"needs {program}")
        if os.geteuid() != 0:
            pytest.skip("needs root")
        self._folder = folder
        self._probe()

    def __call__(self, command: str, *arguments: str | Path) -> str:
        """Return what a command of buildah prints; fail with all that it says."""
        ended = self._run(command, *arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout.strip()

    def commit(self, name: str, root: Path, *settings: str) -> None:
        """Make an image of a folder or of a tar; *settings* are options of `buildah config`."""
        container = self("from", "scratch")
        self("add", "--quiet", container, root, "/")
        if settings:
            self("config", *settings, container)
        self("commit", "--quiet", container, name)
        self("rm", container)

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """Mount a container of an image for a while; yield where."""
        container = self("from", "--pull-never", image)
        try:
            yield Path(self("mount", container))
        finally:
            self("rm", container)

    def _probe(self) -> None:
        """Skip the test where this machine lets nobody build: within some containers."""
        ended = self._run("from", "scratch")
        if ended.returncode == 0:
            ended = self._run("rm", ended.stdout.strip())
        isolated = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "proc", "proc", "/proc"],
            capture_output=True,
            text=True,
            timeout=_RUN_WITHIN_S,
            check=False,
        )
        for each in (ended, isolated):
            if each.returncode:
                pytest.skip(f"needs a machine that lets root build images: {each.stderr.strip()}")

    def _run(self, command: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        store = ("--root", self._folder / "store", "--runroot", self._folder / "run")
        return subprocess.run(
            ["buildah", *store, command, *arguments],
            env=os.environ | {"BUILDAH_ISOLATION": "chroot"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_BUILT_WITHIN_S,
            check=False,
        )


def base(buildah: Buildah, folder: Path) -> str:
    """Return the name of an image with Python, for ARG BASE of a Dockerfile."""
    given = os.environ.get(BASE_VARIABLE)
    if given and not Path(given).exists():
        return given
    if given:
        buildah.commit(_BASE, Path(given))
    else:
        root = folder / "base"
        _link_folders(root)
        _copy_python(root)
        pack_needs("bintrades", root / "wheels", "web")
        pack("setuptools", root / "wheels")
        _copy_programs(root, [_python(), *_extensions(root / "wheels")])
        (root / "etc").mkdir(exist_ok=True)
        pip = "[global]\nno-index = true\nfind-links = /wheels\n"
        (root / "etc" / "pip.conf").write_text(pip, encoding="utf-8")
        (root / "tmp").mkdir()
        path = f"{_python().parent}:/usr/bin:/bin"
        buildah.commit(_BASE, root, "--env", f"PATH={path}")
        shutil.rmtree(root)
    return _BASE


def _link_folders(root: Path) -> None:
    """Have /bin, /lib and others be folders of /usr, where they are so on this machine."""
    for folder in Path("/").iterdir():
        if folder.is_symlink() and folder.resolve().parent == Path("/usr"):
            target = _within(root, folder.resolve())
            target.mkdir(parents=True)
            _within(root, folder).symlink_to(target.relative_to(root))


def _python() -> Path:
    """Return the Python that the environment of the tests was made with."""
    version = f"python3.{sys.version_info.minor}"
    return Path(sysconfig.get_config_var("BINDIR")) / version


def _extensions(wheels: Path) -> Iterator[Path]:
    """Return the compiled modules that come with Python, and those of what is in *wheels*."""
    yield from Path(sysconfig.get_path("stdlib")).glob("lib-dynload/*.so")
    for path in wheels.iterdir():
        with zipfile.ZipFile(path) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(".so")]
        yield from (Path(sysconfig.get_path("platlib"), name) for name in names)


def _copy_python(root: Path) -> None:
    stdlib = Path(sysconfig.get_path("stdlib"))
    ignored = shutil.ignore_patterns(*_OPTIONAL_PARTS, "__pycache__", "config-*", "*.a")
    shutil.copytree(stdlib, _within(root, stdlib), ignore=ignored, symlinks=True)
    if bundled := sysconfig.get_config_var("WHEEL_PKG_DIR"):  # of ensurepip, as Debian has them
        shutil.copytree(bundled, _within(root, Path(bundled)))
    python = _within(root, _python())
    python.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(_python(), python)
    (python.parent / "python3").symlink_to(python.name)


def _copy_programs(root: Path, others: Sequence[Path]) -> None:
    """Copy what a Dockerfile may call, and the libraries that it and *others* need."""
    commands = [str(shutil.which(each)) for each in _COMMANDS]
    linked = subprocess.run(
        ["ldd", *commands, *others],
        capture_output=True,
        text=True,
        timeout=_RUN_WITHIN_S,
        check=True,
    )
    libraries = set(map(Path, re.findall(r"(?:=> )?(/\S+) \(0x", linked.stdout)))
    # Threads that end need it, which nothing is linked with.
    libraries |= {
        found for each in libraries if (found := each.with_name("libgcc_s.so.1")).exists()
    }
    for path in {*map(Path, commands), *libraries}:
        target = _within(root, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def _within(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


class Container:
    """A process of an image: as its user, on a read-only root, with folders of this machine.

    *root* is where the image is mounted, *config* its own, and *volumes* has the folder for each
    path where one is to be. The network is that of this machine. Whatever is left running at the
    end of the with block is killed.
    """

    def __init__(self, root: Path, config: dict[str, Any], volumes: dict[str, Path]) -> None:
        self._root = root
        self._config = config
        self._volumes = volumes
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process is not None:
            # unshare ends with its child, and that with all of its namespace. The other way round
            # it would not: who changes its user is no longer told of the death of its parent.
            with suppress(IndexError, ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._process.communicate(timeout=_RUN_WITHIN_S)

    def start(self) -> None:
        """Start what the image starts by itself."""
        self._process = subprocess.Popen(
            self._alone(*self._config["Entrypoint"], *self._config["Cmd"]),
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.wait_until(self._has_begun, lambda: "nothing begins")

    def stop(self) -> tuple[int, str]:
        """Have the process end as an engine does; return its exit status, and what it printed."""
        assert self._process is not None
        os.kill(self.pid, signal.Signals[self._config["StopSignal"]])
        printed, _ = self._process.communicate(timeout=_RUN_WITHIN_S)
        status, self._process = self._process.returncode, None
        return status, printed

    @property
    def pid(self) -> int:
        """The process of the image, which is 1 in its own namespace; IndexError: there is none."""
        assert self._process is not None
        parent = self._process.pid
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()[0])

    def wait_until(self, is_met: Callable[[], object], problem: Callable[[], object]) -> None:
        """Wait until *is_met*; fail with the *problem* when it takes too long, or nothing runs."""
        assert self._process is not None
        deadline = time.monotonic() + _RUN_WITHIN_S
        while not is_met():
            if self._process.poll() is not None:
                pytest.fail(f"status {self._process.returncode}: {self._process.communicate()[0]}")
            assert time.monotonic() < deadline, problem()
            time.sleep(_POLL_S)

    def status(self) -> dict[str, str]:
        """Return what Linux says of the process: its user, its capabilities."""
        text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        return dict(re.findall(r"(?m)^(\w+):[ \t]*(.*)$", text))

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command beside the process, or without it; return its status and output."""
        ended = subprocess.run(
            self._alone(*command) if self._process is None else self._beside(*command),
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_RUN_WITHIN_S,
            check=False,
        )
        return ended.returncode, ended.stdout

    def is_healthy(self) -> tuple[bool, str]:
        """Return what the health check of the image says."""
        kind, *command = self._config["Healthcheck"]["Test"]
        assert kind == "CMD"
        status, printed = self.run(*command)
        return status == 0, printed

    def _has_begun(self) -> bool:
        with suppress(IndexError):
            return self.pid > 0
        return False

    @property
    def _environ(self) -> dict[str, str]:
        return dict(each.split("=", 1) for each in self._config["Env"])

    def _alone(self, *command: str) -> list[str]:
        unshare = ("--mount", "--pid", "--fork", "--")
        volumes = [str(word) for pair in self._volumes.items() for word in pair]
        inside = ("sh", "-c", _CONTAINED, "sh", str(self._root), self._config["User"])
        return [_found("unshare"), *unshare, *inside, *volumes, "--", *command]

    def _beside(self, *command: str) -> list[str]:
        user, group = self._config["User"].split(":")
        as_user = (f"--setuid={user}", f"--setgid={group}", "--")
        entered = (f"--target={self.pid}", "--mount", "--pid", "--root")
        return [_found("nsenter"), *entered, *as_user, *command]


def _found(program: str) -> str:
    """Return the path of a program of this machine, whatever PATH a container has."""
    path = shutil.which(program)
    assert path is not None, program
    return path
