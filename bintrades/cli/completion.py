"""`bintrades completion`: what has a shell complete commands, options, files and symbols."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from bintrades.cli.dispatch import whole_parser
from bintrades.cli.exit_status import EXIT_CODES, OK
from bintrades.cli.extras import lacking
from bintrades.cli.output import print_text

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHELLS = ("bash", "zsh", "fish")
_HOW = """\
Print what makes a shell complete commands, options, files, and symbols of
the journal (needs the extra: terminal). Keep it for

  bash   as ~/.local/share/bash-completion/completions/bintrades
  zsh    as _bintrades in a folder of $fpath, such as ~/.zfunc
  fish   as ~/.config/fish/completions/bintrades.fish"""

_SYMBOLS = {
    "bash": "_bintrades_symbols",
    "zsh": "_bintrades_symbols",
    "fish": "(_bintrades_symbols)",
    "preamble": {
        "bash": """\
_bintrades_symbols() {
  local place name config=()
  for ((place = 1; place < COMP_CWORD - 1; place++)); do
    [ "${COMP_WORDS[place]}" != --config ] || config=(--config "${COMP_WORDS[place + 1]}")
  done
  while read -r name; do
    [[ $name != "$1"* ]] || printf '%s\\n' "$name"
  done < <("${COMP_WORDS[0]}" symbols --names "${config[@]}" 2>/dev/null)
}""",
        "zsh": """\
_bintrades_symbols() {
  local -a config names typed=(${(Q)${(z)LBUFFER}})
  local place=${typed[(i)--config]}
  (( place >= ${#typed} )) || config=(--config "${typed[place + 1]}")
  names=("${(@f)$(bintrades symbols --names $config 2>/dev/null)}")
  compadd -a names
}""",
        "fish": """\
function _bintrades_symbols
  set -l tokens (commandline -opc)
  set -l config
  if set -l place (contains -i -- --config $tokens)
    set config --config $tokens[(math $place + 1)]
  end
  $tokens[1] symbols --names $config 2>/dev/null
end""",
    },
}
"""The names in the journal of the configuration that is named on the line, or of the usual one.

They are never expanded by the shell, whatever the exchange calls a symbol.
"""


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its argument."""
    parser = commands.add_parser(
        "completion",
        help=summary,
        description=_HOW,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=_SHELLS, help="which shell")


def execute(options: argparse.Namespace) -> int:
    """Print a script for a shell. Raises BintradesError without the extra."""
    try:
        import shtab
    except ImportError as error:
        raise lacking("completion", error.name, "terminal") from None
    parser = whole_parser()
    completed = {"FILE": shtab.FILE, "SYMBOL": _SYMBOLS}
    for action in _actions(parser):
        if action.metavar in completed:
            action.complete = completed[action.metavar]  # type: ignore[attr-defined]
    print_text(shtab.complete(parser, options.shell).rstrip("\n"))
    return OK


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the options and arguments of all commands."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for command in action.choices.values():
                yield from _actions(command)
