"""The network between a simulated collector and the simulated exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bintrades.net.http_pool import HttpLimits
    from tests.simulation.exchange import Connection
    from tests.simulation.rest import Answer, Rest
    from tests.simulation.world import World


class RestConnection:
    """A client's connection to the REST side, with what it sends of itself."""

    def __init__(self, rest: Rest, headers: Mapping[str, str]) -> None:
        self._rest = rest
        self._headers = headers

    def get(self, target: str) -> Answer:
        """Ask. Raises OSError where there is no answer."""
        return self._rest.get(target, self._headers)

    def close(self) -> None:
        """Close nothing."""


class SimulatedNetwork:
    """In the place of bintrades.net.network.SystemNetwork; one for each process."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._connections: list[Connection] = []

    @property
    def connections(self) -> list[Connection]:
        """The stream connections that are open."""
        return [connection for connection in self._connections if not connection.is_closed]

    def open_stream(self, url: str, *, receive_timeout_s: float, copy: int) -> Connection:  # noqa: ARG002
        """Connect, or raise ConnectionError."""
        copy %= 2  # those of a redundant pair are 1 and 2
        connection = self._world.streams.connect(copy, self._world.schedule.delays[copy])
        self._connections = [*self.connections, connection]
        return connection

    def open_http(
        self,
        url: str,  # noqa: ARG002
        headers: Mapping[str, str],
        limits: HttpLimits,  # noqa: ARG002
    ) -> RestConnection:
        """Return a connection to the REST side."""
        return RestConnection(self._world.rest, headers)
