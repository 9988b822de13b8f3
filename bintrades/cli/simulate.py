"""`bintrades simulate`: a small Binance on this machine; needs the extra `simulator`."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Any

from bintrades.errors import BintradesError

if TYPE_CHECKING:
    import argparse


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    try:
        from bintrades.testing import simulate as simulator
    except ImportError as error:
        # Whatever options it is given, that it cannot run is what there is to say.
        parser = commands.add_parser("simulate", help=summary, prefix_chars="\0", add_help=False)
        parser.add_argument("ignored", nargs="*")
        parser.set_defaults(missing=error.name)
    else:
        parser = commands.add_parser(
            "simulate",
            help=summary,
            description="A simulated exchange on this machine (needs the extra: simulator).",
        )
        simulator.add_arguments(parser)
        parser.set_defaults(missing=None)


def execute(options: argparse.Namespace) -> int:
    """Be an exchange; return the exit status. Raises BintradesError without the extra."""
    if options.missing is not None:
        pip = f"{shlex.quote(sys.executable)} -m pip install"
        raise BintradesError(
            f"the simulator needs {options.missing}, which is not installed:"
            f" {pip} {options.missing}, or in the checkout {pip} '.[simulator]'"
        )
    from bintrades.testing import simulate as simulator

    return simulator.run(options)
