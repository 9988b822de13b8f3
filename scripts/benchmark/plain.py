"""The plain way, as most scripts do it: WebSocketApp, json.loads, floats in a dict; a process.

usage: python -m scripts.benchmark.plain URL SYMBOLS [CA_FILE]

Collects until the server closes, then prints the number of trades in its bars.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import websocket

from scripts.benchmark.load import Load

bars: dict[tuple[str, int], dict[str, float]] = {}


def on_open(app: websocket.WebSocketApp, count: int) -> None:
    """Subscribe to everything."""
    streams = Load("", 0, count).streams
    for start in range(0, count, 200):
        params = streams[start : start + 200]
        app.send(json.dumps({"method": "SUBSCRIBE", "params": params, "id": start}))


def on_message(_app: websocket.WebSocketApp, message: str) -> None:
    """Add a trade to its bar."""
    trade: dict[str, Any] = json.loads(message).get("data")
    if trade is None:
        return
    price, quantity = float(trade["p"]), float(trade["q"])
    key = trade["s"], trade["T"] // 10_000
    bar = bars.get(key)
    if bar is None:
        bars[key] = bar = {"open": price, "high": price, "low": price, "close": price}
        bar |= {"count": 0, "buys": 0, "quantity": 0.0, "value": 0.0, "buy_quantity": 0.0}
    bar["high"] = max(bar["high"], price)
    bar["low"] = min(bar["low"], price)
    bar["close"] = price
    bar["count"] += 1
    bar["quantity"] += quantity
    bar["value"] += price * quantity
    if not trade["m"]:
        bar["buys"] += 1
        bar["buy_quantity"] += quantity


def main(url: str, count: str, ca_file: str = "") -> None:
    """Collect until the server closes the connection."""
    app = websocket.WebSocketApp(
        url, on_open=lambda app: on_open(app, int(count)), on_message=on_message
    )
    sslopt = {"ca_certs": ca_file} if ca_file else {}
    app.run_forever(skip_utf8_validation=True, sslopt=sslopt)
    print(int(sum(bar["count"] for bar in bars.values())))


if __name__ == "__main__":
    main(*sys.argv[1:])
