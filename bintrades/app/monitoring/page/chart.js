// Candles with the volume of each side below them, drawn on a canvas.

const SLOT = 8, WIDEST = 16, AXIS = 68, FOOT = 20, VOLUME = 0.2;

export class Chart {
  constructor(canvas, onPoint) {
    this.canvas = canvas;
    this.candles = [];
    this.step = 1;
    this.slot = SLOT;
    this.point = null;
    canvas.addEventListener("pointermove", (event) => this.#pointAt(event.offsetX, onPoint));
    canvas.addEventListener("pointerdown", (event) => this.#pointAt(event.offsetX, onPoint));
    canvas.addEventListener("pointerleave", () => this.#pointAt(null, onPoint));
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  show(candles, step) {
    this.candles = candles;
    this.step = step;
    this.draw();
  }

  #pointAt(x, onPoint) {
    this.point = x;
    this.draw();
    onPoint(x === null ? null : this.shown?.find((each) => Math.abs(each.x - x) <= this.slot / 2));
  }

  draw() {
    const { canvas, candles, step } = this;
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "11px system-ui, 'DejaVu Sans', sans-serif";
    const style = getComputedStyle(canvas), color = (name) => style.getPropertyValue(name);
    if (!candles.length) return;

    // A place for each step of time: where there were no trades there is no candle. Few are wider.
    const right = width - AXIS, last = candles.at(-1).open_time_ms;
    const places = (last - candles[0].open_time_ms) / step + 1;
    const slot = (this.slot = Math.max(SLOT, Math.min(WIDEST, Math.floor(right / places))));
    const slots = Math.floor(right / slot);
    const shown = candles
      .map((each) => ({
        x: right - slot / 2 - ((last - each.open_time_ms) / step) * slot,
        open: Number(each.open_price), high: Number(each.max_price), low: Number(each.min_price),
        close: Number(each.close_price), buys: Number(each.buy_quantity),
        sells: Number(each.sell_quantity), candle: each,
      }))
      .filter((each) => last - each.candle.open_time_ms < slots * step);
    this.shown = shown;
    const low = Math.min(...shown.map((each) => each.low));
    const high = Math.max(...shown.map((each) => each.high));
    const foot = height - FOOT, floor = foot * (1 - VOLUME) - 12;
    const room = high - low || high * 1e-6 || 1;
    const y = (price) => 8 + ((high - price) / room) * (floor - 8);

    const here = Math.round(y(shown.at(-1).close));
    this.#drawPrices(pen, color, { low, high, room, y, here, right, width });
    this.#drawTimes(pen, color, { last, right, foot });
    const most = Math.max(...shown.map((each) => each.buys + each.sells)) || 1;
    for (const each of shown) {
      pen.fillStyle = color(each.close < each.open ? "--down" : "--up");
      pen.globalAlpha = each.candle.is_complete ? 1 : 0.5;
      pen.fillRect(each.x - 0.5, y(each.high), 1, Math.max(1, y(each.low) - y(each.high)));
      const top = y(Math.max(each.open, each.close)), end = y(Math.min(each.open, each.close));
      pen.fillRect(each.x - slot / 2 + 1, top, slot - 2, Math.max(1, end - top));
      const scale = (foot * VOLUME) / most, buys = each.buys * scale, sells = each.sells * scale;
      pen.globalAlpha *= 0.75;
      pen.fillStyle = color("--up");
      pen.fillRect(each.x - slot / 2 + 1, foot - buys, slot - 2, buys);
      pen.fillStyle = color("--down");
      pen.fillRect(each.x - slot / 2 + 1, foot - buys - sells, slot - 2, sells);
      pen.globalAlpha = 1;
    }
    this.#drawLast(pen, color, { each: shown.at(-1), here, right, width });
    if (this.point !== null && this.point < right) {
      pen.fillStyle = color("--soft");
      pen.fillRect(this.point, 0, 1, foot);
    }
    canvas.dataset.candles = shown.length;
  }

  #drawPrices(pen, color, { low, high, room, y, here, right, width }) {
    const rough = room / 5, power = 10 ** Math.floor(Math.log10(rough));
    const every = power * [1, 2, 5, 10].find((each) => each * power >= rough);
    const digits = Math.min(12, Math.max(0, -Math.floor(Math.log10(every))));
    pen.textBaseline = "middle";
    pen.textAlign = "left";
    for (let price = Math.ceil(low / every) * every; price <= high; price += every) {
      pen.fillStyle = color("--line");
      pen.fillRect(0, Math.round(y(price)), right, 1);
      if (Math.abs(y(price) - here) < 15) continue; // where the last price is written
      pen.fillStyle = color("--soft");
      pen.fillText(price.toFixed(digits), right + 6, y(price), width - right - 6);
    }
  }

  #drawTimes(pen, color, { last, right, foot }) {
    const { slot } = this;
    pen.textAlign = "center";
    pen.fillStyle = color("--soft");
    const minutes = this.step / 60_000;
    const every = this.step * (minutes < 1 ? 12 : minutes < 5 ? 15 : 12);
    for (let time = last - (last % every); ; time -= every) {
      const x = right - slot / 2 - ((last - time) / this.step) * slot;
      if (x < 20) break;
      pen.fillRect(x, foot, 1, 4);
      pen.fillText(new Date(time).toISOString().slice(11, 16), x, foot + 12);
    }
  }

  #drawLast(pen, color, { each, here, right, width }) {
    pen.fillStyle = color(each.close < each.open ? "--down" : "--up");
    for (let x = 0; x < right; x += 6) pen.fillRect(x, here, 2, 1);
    pen.fillRect(right, here - 8, width - right, 16);
    pen.fillStyle = color("--card");
    pen.textAlign = "left";
    pen.fillText(each.candle.close_price, right + 6, here, width - right - 8);
  }
}
