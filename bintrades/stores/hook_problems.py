"""What is wrong with the hooks of a plugin, said before any of them is called."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

from bintrades.stores import hookspecs
from bintrades.util.text import did_you_mean

if sys.version_info >= (3, 14):
    import annotationlib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pluggy

_MAY_YIELD = {"read_bars"}
"""Hooks of which the result is iterated."""

_SPEC_MARK = f"{hookspecs.PROJECT}_spec"


def hook_problems(plugins: pluggy.PluginManager, plugin: object) -> Iterator[str]:
    """Yield what pluggy would not notice, or would notice only in the middle of the night."""
    known = {name: spec for name, spec in vars(hookspecs).items() if hasattr(spec, _SPEC_MARK)}
    can_store = False
    for attribute in dir(plugin):
        options = plugins.parse_hookimpl_opts(plugin, attribute)
        if options is None:
            continue
        function = getattr(plugin, attribute)
        hook = options["specname"] or attribute
        is_wrapper = options["wrapper"] or options["hookwrapper"]
        if hook in known:
            yield from _signature_problems(hook, function, known[hook])
            if not is_wrapper:
                yield from _kind_problems(hook, function)
            can_store = can_store or (hook == "store_bars" and not is_wrapper)
        elif not options["optionalhook"]:
            yield f"{hook} is not a hook{did_you_mean(hook, known)}; allowed: {', '.join(known)}"
    if not can_store:
        is_there = inspect.isroutine(getattr(plugin, "store_bars", None))
        is_marked = plugins.parse_hookimpl_opts(plugin, "store_bars") if is_there else None
        wrong = "store_bars lacks @hookimpl" if is_there and not is_marked else "has no store_bars"
        where = "of the module or of its class Store"
        yield f"{wrong}; allowed: @hookimpl before the store_bars(bars) {where}"


def _signature_problems(
    hook: str, function: Callable[..., Any], spec: Callable[..., Any]
) -> Iterator[str]:
    allowed = list(_parameters(spec))
    given = _parameters(function)
    for parameter in given.values():
        if parameter.name not in allowed:
            yield (
                f"{hook} has no argument {parameter.name!r}"
                f"{did_you_mean(parameter.name, allowed)}; allowed: {', '.join(allowed) or 'none'}"
            )
        elif parameter.default is not parameter.empty:
            yield f"{hook}: {parameter.name} must not have a default, or it may not be filled in"


def _kind_problems(hook: str, function: Callable[..., Any]) -> Iterator[str]:
    """Yield why calling *function* would do nothing at all, without an error."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        yield f"{hook} must not be async: nothing awaits it"
    elif inspect.isgeneratorfunction(function) and hook not in _MAY_YIELD:
        yield f"{hook} must not yield, unless it is marked as a wrapper"
    if hook == "store_bars" and "bars" not in _parameters(function):
        yield "store_bars must take the argument bars"


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return what *function* takes.

    Annotations stay as they are written: their names may be there for type checkers alone, and
    from Python 3.14 on they are looked up only when somebody asks.
    """
    if sys.version_info >= (3, 14):
        written = annotationlib.Format.STRING
        return inspect.signature(function, annotation_format=written).parameters
    return inspect.signature(function).parameters
