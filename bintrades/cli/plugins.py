"""`bintrades plugins`: which storage plugins there are, where each comes from, and its options."""

from __future__ import annotations

import sys
import textwrap
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from bintrades.app.plugins import plugin_figures
from bintrades.cli.arguments import DEFAULT_CONFIG, add_command
from bintrades.cli.exit_status import OK
from bintrades.cli.interrupts import ended_by_ctrl_c
from bintrades.cli.output import print_pieces, print_text
from bintrades.config.loader import load_config
from bintrades.util.text import as_json, showable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

_WIDTH = 100


def add_parser(commands: Any, summary: str) -> None:
    """Describe the command and its options."""
    parser = add_command(commands, "plugins", summary)
    parser.description = (
        "List the storage plugins of [plugins] path and of installed packages: where each comes"
        " from, as which stores it is enabled, what library it lacks, and its options. What cannot"
        " be used is listed with the reason. Their code is run for that, unless everybody may"
        " change it; no store is opened. Without a configuration none is enabled."
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def execute(options: argparse.Namespace) -> int:
    """Print the plugins."""
    has_none = options.config == DEFAULT_CONFIG and not DEFAULT_CONFIG.exists()
    config = None if has_none else load_config(options.config)
    with ended_by_ctrl_c(), redirect_stdout(sys.stderr):  # what a plugin prints is none of ours
        plugins = plugin_figures(config)
    if options.json:
        print_text(as_json(plugins, indent=2))
    else:
        print_pieces(f"{line}\n" for line in _lines(plugins))
    return OK


def _lines(plugins: list[dict[str, Any]]) -> Iterator[str]:
    for plugin in plugins:
        state = "cannot be used" if plugin["problems"] else "not enabled"
        if plugin["is_enabled"]:
            state = "enabled, but cannot be used" if plugin["problems"] else "enabled"
        yield f"{showable(plugin['name'])}: {state}"
        yield from _row("from", _source(plugin))
        yield from _row("stores", ", ".join(plugin["stores"]))
        for each in plugin["libraries"]:
            yield from _row("needs", _need(each))
        for problem in plugin["problems"]:
            yield from _row("problem", problem)
        if plugin["options"] is None and not plugin["problems"]:
            yield from _row("options", "it does not say which it has")
        for option in plugin["options"] or ():
            yield from _row("option", _setting(option))
            yield from _row("", f"{option['meaning']}; allowed: {option['allowed']}", indent="  ")


def _row(name: str, text: str, indent: str = "") -> Iterator[str]:
    """Yield the lines of a row; none where there is nothing to say."""
    lines = textwrap.wrap(
        showable(text),
        _WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    for number, line in enumerate(lines):
        yield f"  {'' if number else name:<8} {line}"


def _source(plugin: Mapping[str, Any]) -> str:
    if plugin["file"]:
        instead = f", instead of {plugin['instead_of']}" if plugin["instead_of"] else ""
        return f"{plugin['file']}{instead}"
    if plugin["module"]:
        return f"{plugin['package']} {plugin['version']} ({plugin['module']})"
    return ""


def _need(library: Mapping[str, Any]) -> str:
    if library["is_installed"]:
        return f"{library['package']}, which is installed"
    return f"{library['package']}, which is not installed: {library['install']}"


def _setting(option: Mapping[str, Any]) -> str:
    if option["must_be_given"]:
        return f"{option['name']}, which must be given"
    return f"{option['name']} = {option['default']}".rstrip()
