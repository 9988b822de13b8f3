"""`bintrades simulate`: a small Binance on this machine; needs the extra `simulator`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bintrades.cli.extras import lacking

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
        raise lacking("the simulator", options.missing, "simulator")
    from bintrades.testing import simulate as simulator

    return simulator.run(options)


def require_simulator() -> None:
    """Raise BintradesError without the extra."""
    try:
        from bintrades.testing import simulate  # noqa: F401 - whether it can be
    except ImportError as error:
        raise lacking("the simulator", error.name, "simulator") from None
