"""The container image: built from its Dockerfile, and run as etc/docker/compose.yaml runs it."""

from __future__ import annotations

import configparser
import json
import re
import shutil
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest

from tests.checkout import REPOSITORY
from tests.images import Buildah, Container, base
from tests.shared_folders import folder_of_the_run, shared

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bintrades.testing.exchange_simulator import ExchangeSimulator

INI = "/etc/bintrades/bintrades.ini"
LARGEST = 60_000_000
"""Of what it adds to its base; bytes."""
SORTING = """
import sqlite3
journal = sqlite3.connect("/data/sorted")
journal.executescript("pragma temp_store = file; pragma cache_size = 10; create temp table t (a)")
journal.executemany("insert into t values (?)", ((f"{n:01000}",) for n in range(9999, -1, -1)))
print(int(journal.execute("select a from t order by a").fetchone()[0]))
"""


def build(folder: Path) -> None:
    """Build the image of this checkout, with a store of buildah's in *folder*."""
    buildah = Buildah(folder)
    dockerfile = REPOSITORY / "etc" / "docker" / "Dockerfile"
    buildah(
        "build-using-dockerfile",
        "--format=docker",
        f"--build-arg=BASE={base(buildah, folder)}",
        f"--file={dockerfile}",
        f"--ignorefile={dockerfile}.dockerignore",
        "--tag=bintrades",
        REPOSITORY,
    )


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """Return where the image is."""
    with shared(folder_of_the_run(tmp_path_factory) / "image", build) as folder:
        yield Buildah(folder)


@pytest.fixture(scope="module")
def config(buildah: Buildah) -> dict[str, Any]:
    """Return the configuration of the image."""
    told: dict[str, Any] = json.loads(buildah("inspect", "--type=image", "bintrades"))
    return dict(told["Docker"]["config"])


@pytest.fixture(scope="module")
def root(buildah: Buildah) -> Iterator[Path]:
    """Return where a container of the image is mounted."""
    with buildah.mounted("bintrades") as root:
        yield root


@pytest.fixture
def volumes(
    root: Path, config: dict[str, Any], exchange: ExchangeSimulator, tmp_path: Path
) -> dict[str, Path]:
    """Return the folders of a container, whose configuration is its own with another exchange."""
    volumes = {path: tmp_path / path.strip("/") for path in config["Volumes"]}
    user, group = map(int, config["User"].split(":"))
    for folder in volumes.values():
        folder.mkdir()
        shutil.chown(folder, user, group)
    ini = configparser.ConfigParser(interpolation=None)
    ini.read(root / INI.strip("/"), encoding="utf-8")
    ini.read_dict(
        {
            "binance": {"stream_url": exchange.stream_url, "rest_url": exchange.rest_url},
            "stores": {"enabled": ""},
            "http": {"listen": ini["http"]["listen"].replace(":8787", ":0")},
        }
    )
    ini.remove_section("store:mongodb")
    folder = tmp_path / "configuration"
    folder.mkdir()
    with (folder / "bintrades.ini").open("w", encoding="utf-8") as file:
        ini.write(file)
    return {**volumes, "/etc/bintrades": folder}


class Running(Container):
    """The image as a container whose log can be read."""

    def __init__(self, root: Path, config: dict[str, Any], volumes: dict[str, Path]) -> None:
        super().__init__(root, config, volumes)
        self._log = volumes["/logs"] / "bintrades.log"

    def begin(self) -> None:
        """Start, and wait until it is subscribed."""
        before = len(self.events("connection_subscribed"))
        self.start()
        self.wait_until(
            lambda: len(self.events("connection_subscribed")) > before, lambda: self.log
        )

    @property
    def log(self) -> str:
        """Return all that it has logged."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's whole lines with an event of this name."""
        lines = [json.loads(each) for each in self.log.splitlines(keepends=True) if "\n" in each]
        return [each for each in lines if each.get("event") == name]

    def trade_ids(self) -> list[int]:
        """Return the ids of the trades in the bars of BTCUSDT, as a command in it tells them."""
        status, printed = self.run("bintrades", "bars", "BTCUSDT", "--format=json", "--config", INI)
        return [
            number
            for bar in (json.loads(printed) if status == 0 else ())
            for number in range(bar["first_trade_id"], bar["last_trade_id"] + 1)
        ]

    def wait_for_trades(self, count: int) -> None:
        """Wait until the bars have all trades from the first one on, so many."""
        self.wait_until(
            lambda: self.trade_ids() == list(range(1, count + 1)),
            lambda: f"{self.trade_ids()}\n{self.log}",
        )


@pytest.fixture
def container(root: Path, config: dict[str, Any], volumes: dict[str, Path]) -> Iterator[Running]:
    with Running(root, config, volumes) as container:
        yield container


def test_it_records_is_healthy_ends_in_good_order_and_goes_on_where_it_was(
    container: Running, exchange: ExchangeSimulator
) -> None:
    container.begin()
    for _ in range(3):
        exchange.publish("BTCUSDT", 100, 1)
    container.wait_for_trades(3)
    container.wait_until(lambda: container.is_healthy()[0], container.is_healthy)
    assert container.stop() == (0, "")

    assert not container.is_healthy()[0], "nothing runs"
    exchange.publish("BTCUSDT", 101, 1)
    container.begin()
    exchange.publish("BTCUSDT", 102, 1)
    container.wait_for_trades(5)
    assert container.stop() == (0, "")
    assert not re.findall('"level": "(?:WARNING|ERROR|CRITICAL)".*', container.log)


def test_it_is_nobody_and_may_do_nothing(container: Running, exchange: ExchangeSimulator) -> None:
    container.begin()
    status = container.status()

    assert set(status["Uid"].split() + status["Gid"].split()) == {"10001"}
    assert status["Groups"] == ""
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0


def test_its_page_can_be_looked_at_from_outside(container: Running) -> None:
    container.begin()
    container.wait_until(lambda: container.events("http_started"), lambda: container.log)
    (started,) = container.events("http_started")
    host, port = started["address"].split(":")
    with urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
        page = answer.read()

    assert host == "0.0.0.0", "the loopback of a container is its own"
    assert b'src="/page.js"' in page


def test_what_sqlite_cannot_sort_in_memory_it_sorts_where_it_may_write(container: Running) -> None:
    assert container.run("python", "-c", SORTING) == (0, "0\n")
    status, printed = container.run("python", "-c", "open('/tmp/x', 'w')")
    assert (status, printed.splitlines()[-1].split(":")[0]) == (1, "OSError"), printed


def test_it_is_small_and_has_nothing_that_could_install_more(root: Path) -> None:
    environment = root / "opt" / "bintrades"
    files = [each for each in environment.rglob("*") if each.is_file() and not each.is_symlink()]

    assert sum(each.stat().st_size for each in files) < LARGEST
    assert not any("pip" in each.parts for each in files)
    assert not (root / "src").exists()
