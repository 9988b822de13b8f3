"""A picture of bars: candles, volume by side, and what of the time is proven; as PNG, SVG or HTML.

Needs Altair and vl-convert, with the extra bintrades[plot], where it is used: not to be imported.
Prices stay texts up to the drawing itself.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, NamedTuple

from bintrades.model import utc
from bintrades.model.bar_fields import IN_CONTRACTS
from bintrades.model.numbers import plain
from bintrades.util.durations import UNITS_MS, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bintrades.core.resample import LongerBar
    from bintrades.core.spans import Span

ENDINGS = (".png", ".svg", ".html")

_WIDTH = 960
_HEIGHTS = (360, 120, 16)
_SHARP = 2  # pixels of a PNG to each of the chart
_UP, _DOWN = "#0f9d76", "#e0483e"
_SIDES = {"buyers": _UP, "sellers": _DOWN}
_PROVEN, _LACKING, _UNPROVEN = "proven", "trades may be missing", "not proven yet"
_STATES = {_PROVEN: "#7cc4a4", _LACKING: "#d7263d", _UNPROVEN: "#c9ced6"}
_INK, _FAINT = "#1f2933", "#e4e7eb"
_NOT_WHOLE = 0.35  # how opaque a candle is that is not proven to be whole
_BODY, _COLUMN = 7, 8  # tenths of an interval that a candle and a column of volume are wide


class Drawn(NamedTuple):
    """What is drawn."""

    symbol: str
    market: str
    interval_ms: int
    since_ms: int
    until_ms: int
    candles: Sequence[LongerBar]
    covered: Sequence[Span]
    """In order and apart from each other, within that time."""
    judged_until_ms: int
    """What is later and not covered is not proven yet; what is earlier may lack trades."""


def draw(drawn: Drawn, ending: str) -> bytes:
    """Return the picture in the form of *ending*, one of ENDINGS.

    HTML has all that it needs in itself: it asks no network.
    """
    file = io.StringIO() if ending != ".png" else io.BytesIO()
    options: dict[str, Any] = {"inline": True} if ending == ".html" else {}
    if ending == ".png":
        options["scale_factor"] = _SHARP
    _chart(drawn).save(file, format=ending.removeprefix("."), **options)
    made = file.getvalue()
    return made.encode() if isinstance(made, str) else made


def _chart(drawn: Drawn) -> Any:
    import altair as alt

    scale = alt.Scale(type="utc", domain=list(_ends(drawn)), nice=False)
    zoom = alt.selection_interval(bind="scales", encodings=["x"])
    hidden = alt.Axis(labels=False, ticks=False, title=None, grid=True, domain=False)
    shown = alt.Axis(
        title="time (UTC)", labelExpr=_labels(drawn), labelFlush=False, grid=False, tickCount=12
    )
    price, volume, proof = (
        _prices(drawn).encode(x=alt.X("middle:T", scale=scale, axis=hidden)),
        _volumes(drawn).encode(x=alt.X("middle:T", scale=scale, axis=hidden)),
        _proof(drawn).encode(x=alt.X("since:T", scale=scale, axis=shown), x2="until:T"),
    )
    charts = [
        chart.properties(width=_WIDTH, height=height)
        for chart, height in zip((price, volume, proof), _HEIGHTS, strict=True)
    ]
    return (
        alt.vconcat(charts[0].add_params(zoom), *charts[1:], spacing=8)
        .resolve_scale(x="shared", color="independent", stroke="independent")
        .properties(title=_title(drawn), background="white", padding=16)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=_INK,
            titleColor=_INK,
            gridColor=_FAINT,
            domainColor=_FAINT,
            tickColor=_FAINT,
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_legend(
            orient="right", labelColor=_INK, titleColor=_INK, labelFontSize=11, symbolType="square"
        )
    )


def _labels(drawn: Drawn) -> str:
    """Return the expression of the labels of times: the day at its beginning, else the time."""
    span_ms = drawn.until_ms - drawn.since_ms
    day = "%d %b" if span_ms < 300 * UNITS_MS["d"] else "%b %Y"
    time = "%H:%M:%S" if span_ms < 10 * UNITS_MS["m"] else "%H:%M"
    is_day = "utchours(datum.value) == 0 && utcminutes(datum.value) == 0"
    is_day += " && utcseconds(datum.value) == 0"
    return f"utcFormat(datum.value, {is_day} ? '{day}' : '{time}')"


def _title(drawn: Drawn) -> Any:
    import altair as alt

    lacking = sum(not each.bar.is_complete for each in drawn.candles)
    since, until = (f"{utc(each):%Y-%m-%d %H:%M:%S}" for each in _ends(drawn))
    whole = f"{lacking} of them (pale) not proven to be whole" if lacking else "all proven whole"
    return alt.TitleParams(
        f"{drawn.symbol} · {drawn.market} · {format_duration(drawn.interval_ms)}",
        subtitle=f"{since} to {until} UTC · {len(drawn.candles)} candles, {whole}",
        anchor="start",
        fontSize=18,
        color=_INK,
        subtitleColor="#616e7c",
        subtitleFontSize=12,
        offset=14,
    )


def _prices(drawn: Drawn) -> Any:
    import altair as alt

    color = alt.Color("way:N", scale=_colors({"up": _UP, "down": _DOWN}), legend=None)
    base = alt.Chart(
        _data(_candles(drawn), "middle", numbers=("open", "high", "low", "close"))
    ).encode(
        color=color,
        opacity=alt.condition("datum.whole", alt.value(1), alt.value(_NOT_WHOLE)),
        tooltip=[
            alt.Tooltip(f"{name}:N", title=title)
            for name, title in (
                *(("opens", "opens (UTC)"), ("open", "open"), ("high", "high"), ("low", "low")),
                *(("close", "close"), ("trades", "trades"), ("proof", "proven")),
            )
        ],
    )
    price = alt.Y("low:Q", title="price", scale=alt.Scale(zero=False, nice=True))
    wicks = base.mark_rule(strokeWidth=1).encode(y=price, y2="high:Q")
    # A body that ends where it began is a line, by its stroke.
    bodies = base.mark_bar(size=_width(drawn, _BODY), strokeWidth=1).encode(
        y="open:Q",
        y2="close:Q",
        stroke=alt.Color("way:N", scale=_colors({"up": _UP, "down": _DOWN})),
    )
    return alt.layer(wicks, bodies)


def _volumes(drawn: Drawn) -> Any:
    import altair as alt

    unit = "contracts" if drawn.market in IN_CONTRACTS else "quantity"
    return (
        alt.Chart(_data(_sides(drawn), "middle", numbers=("quantity",)))
        .mark_bar(size=_width(drawn, _COLUMN))
        .encode(
            y=alt.Y("quantity:Q", title=unit, axis=alt.Axis(tickCount=4, format="~s")),
            color=alt.Color("side:N", scale=_colors(_SIDES), title="takers"),
            order=alt.Order("place:Q"),
            tooltip=[alt.Tooltip("opens:N"), alt.Tooltip("side:N"), alt.Tooltip("amount:N")],
        )
    )


def _proof(drawn: Drawn) -> Any:
    import altair as alt

    color = alt.Color("state:N", scale=_colors(_STATES), title="bars")
    # With a stroke, so that a short hole in a long time can be seen.
    return (
        alt.Chart(_data(_runs(drawn), "since", "until"))
        .mark_rect(strokeWidth=1)
        .encode(
            color=color,
            stroke=alt.Stroke("state:N", scale=_colors(_STATES), title="bars"),
            tooltip=[alt.Tooltip(f"{name}:N") for name in ("state", "from", "to")],
        )
    )


def _candles(drawn: Drawn) -> Iterator[dict[str, Any]]:
    for each in drawn.candles:
        bar = each.bar
        missing_ms = bar.interval_ms - each.covered_ms
        yield {
            "middle": _iso(bar.open_time_ms + bar.interval_ms // 2),
            "opens": _text(bar.open_time_ms),
            "open": str(plain(bar.open_price)),
            "high": str(plain(bar.max_price)),
            "low": str(plain(bar.min_price)),
            "close": str(plain(bar.close_price)),
            "trades": bar.trade_count,
            "way": "up" if bar.close_price >= bar.open_price else "down",
            "whole": bar.is_complete,
            "proof": "all" if bar.is_complete else f"all but {missing_ms // 1_000} s",
        }


def _sides(drawn: Drawn) -> Iterator[dict[str, Any]]:
    for each in drawn.candles:
        bar = each.bar
        for place, (side, amount) in enumerate(
            zip(_SIDES, (bar.buy_quantity, bar.sell_quantity), strict=True)
        ):
            yield {
                "middle": _iso(bar.open_time_ms + bar.interval_ms // 2),
                "opens": _text(bar.open_time_ms),
                "side": side,
                "place": place,
                "quantity": str(plain(amount)),
                "amount": str(plain(amount)),
            }


def _runs(drawn: Drawn) -> Iterator[dict[str, Any]]:
    """Yield the spans of the time that is drawn, each with what is known of it."""
    at_ms = drawn.since_ms
    for since, until in [*drawn.covered, (drawn.until_ms, drawn.until_ms)]:
        lacking_ms = max(at_ms, min(since, drawn.judged_until_ms))
        yield from _run(at_ms, lacking_ms, _LACKING)
        yield from _run(lacking_ms, since, _UNPROVEN)
        yield from _run(since, until, _PROVEN)
        at_ms = until


def _run(since_ms: int, until_ms: int, state: str) -> Iterator[dict[str, Any]]:
    if since_ms < until_ms:
        yield {
            "since": _iso(since_ms),
            "until": _iso(until_ms),
            "from": _text(since_ms),
            "to": _text(until_ms),
            "state": state,
        }


def _data(rows: Iterable[dict[str, Any]], *times: str, numbers: Sequence[str] = ()) -> Any:
    """Return *rows*, of which the texts of *times* and *numbers* are read by what draws them."""
    import altair as alt

    kinds = {**dict.fromkeys(times, "date"), **dict.fromkeys(numbers, "number")}
    return alt.InlineData(values=list(rows), format=alt.JsonDataFormat(type="json", parse=kinds))


def _colors(of: dict[str, str]) -> Any:
    import altair as alt

    return alt.Scale(domain=list(of), range=list(of.values()))


def _width(drawn: Drawn, tenths: int) -> int:
    """Return how many pixels wide something is that takes *tenths* of an interval."""
    span_ms = max(1, drawn.until_ms - drawn.since_ms)
    return max(1, _WIDTH * drawn.interval_ms * tenths // (span_ms * 10))


def _ends(drawn: Drawn) -> tuple[int, int]:
    return drawn.since_ms, drawn.until_ms


def _iso(time_ms: int) -> str:
    return utc(time_ms).isoformat(timespec="milliseconds")


def _text(time_ms: int) -> str:
    return f"{utc(time_ms):%Y-%m-%d %H:%M:%S}"
