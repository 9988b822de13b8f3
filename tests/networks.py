"""The network of this machine, for tests that open connections."""

from __future__ import annotations

from bintrades.net.dialing import Dialer
from bintrades.net.network import SystemNetwork
from bintrades.net.tls import Certificates


def system_network() -> SystemNetwork:
    """Return a network with certificates and addresses of its own."""
    return SystemNetwork(Dialer(Certificates().context))
