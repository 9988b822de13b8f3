// What the page shows comes from /api and /status, and from /events while it is open.

import { Chart } from "/chart.js";

const SPANS = {
  "10 min": 600, "1 h": 3600, "6 h": 21600, "24 h": 86400, "7 d": 604800, "30 d": 2592000, "1 y": 31536000,
};
const STATES = {
  proven: "every trade proven", verified: "equal to the exchange's klines",
  hole: "trades may be missing", unproven: "not proven yet", none: "not collected",
};
const ROWS = 25, CELLS = 120, REFRESH_MS = 10_000, COARSE_MS = 5_000, RETRY_MS = 10_000;

const $ = (id) => document.getElementById(id);
const shown = {
  symbol: symbolOf(location.hash), step: 10, span: 3600, offset: 0, search: "",
};
let symbols = [], candles = [], barMs = 10_000, clock = 0, source = null, heard = "", coarse = null;

const chart = new Chart($("chart"), (point) => describe(point?.candle));

// Who writes the address by hand may write what is no escape.
function symbolOf(hash) {
  try {
    return decodeURIComponent(hash.slice(1));
  } catch {
    return "";
  }
}

function element(name, text, classes) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text; // foreign text stays text
  if (classes) made.className = classes;
  return made;
}

async function ask(path, parameters = {}) {
  const answer = await fetch(`${path}?${new URLSearchParams(parameters)}`);
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

// What is asked for in vain is shown, and asked for again with the next refresh.
async function attempt(load) {
  try {
    await load();
    trouble("");
  } catch (error) {
    trouble(error instanceof TypeError ? "the collector does not answer" : error.message);
  }
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

function lasting(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}

// Rounded down: only all of it is 100 %.
function percent(part, whole) {
  if (!whole) return "–";
  const hundredths = Math.floor((part / whole) * 10_000);
  return hundredths === 10_000 ? "100 %" : `${(hundredths / 100).toFixed(2)} %`;
}

function moment(ms) {
  return new Date(ms).toISOString().slice(0, 19).replace("T", " ");
}

// --- the state of the collector

async function loadStatus() {
  const status = await ask("/status");
  const { collector, coverage, gaps, stores, audit } = status;
  const isWell = status.state === "running" && !status.problems.length;
  $("state").textContent = status.problems.length ? "not healthy" : status.state;
  $("state").title = status.problems.join("\n");
  $("state").className = `pill ${isWell ? "good" : "bad"}`;
  const waiting = Object.values(stores ?? {}).map((each) => each.waiting_bars);
  const tiles = {
    "trades since the start": collector.trades?.toLocaleString("en"),
    "lag of the stream": collector.lag_ms === undefined ? undefined : `${(collector.lag_ms / 1000).toFixed(1)} s`,
    "last hour covered": typeof coverage?.hour?.share === "number" ? percent(coverage.hour.share, 1) : undefined,
    "open gaps": gaps?.open?.toLocaleString("en"),
    "minutes verified": audit?.verified_minutes?.toLocaleString("en"),
    "bars wait for stores": waiting.length ? Math.max(...waiting).toLocaleString("en") : undefined,
  };
  $("tiles").replaceChildren(...Object.entries(tiles).map(([name, value]) => {
    const tile = element("div");
    tile.append(element("dt", name), element("dd", value ?? "–"));
    return tile;
  }));
}

// --- the table and the map

async function loadRows() {
  const page = { offset: shown.offset, limit: ROWS, search: shown.search };
  const [table, map] = await Promise.all([
    ask("/api/symbols", page), ask("/api/completeness", { ...page, span: shown.span, cells: cellsOf(shown.span) }),
  ]);
  symbols = table.symbols;
  barMs = table.interval_ms;
  clock = table.now_ms - Date.now();
  $("market").textContent = table.market;
  const runs = new Map(map.symbols.map((each) => [each.symbol, each.runs]));
  $("rows").replaceChildren(...symbols.map((each) => rowOf(each, runs.get(each.symbol) ?? [], map)));
  showLags();
  $("axis").replaceChildren(...axisOf(map));
  $("place").textContent = table.total > ROWS
    ? `${table.offset + 1}–${table.offset + symbols.length} of ${table.total}` : "";
  $("earlier").hidden = $("later").hidden = table.total <= ROWS;
  $("earlier").disabled = !table.offset;
  $("later").disabled = table.offset + ROWS >= table.total;
  if (!shown.symbol && symbols.length) choose(symbols[0].symbol);
  listen();
}

// A cell is a bar at least: more of them would be a longer time.
function cellsOf(span) {
  return Math.max(1, Math.min(CELLS, Math.floor((span * 1000) / barMs)));
}

function rowOf(each, runs, map) {
  const row = element("tr", undefined, each.is_collected ? "" : "left");
  row.dataset.symbol = each.symbol;
  row.tabIndex = 0;
  row.setAttribute("aria-selected", each.symbol === shown.symbol);
  const strip = element("div", undefined, "strip");
  let time = map.since_ms;
  for (const run of runs) {
    const part = element("i", undefined, run.state);
    part.style.flex = run.cells;
    const until = time + run.cells * map.cell_ms;
    part.dataset.tip = [
      `${each.symbol}: ${STATES[run.state]}`, `${moment(time)} to ${moment(until)} UTC`,
      ...(run.causes ? [`${lasting(run.missing_ms)} of it: ${run.causes.join("; ")}`] : []),
    ].join("\n");
    strip.append(part);
    time = until;
  }
  const cell = element("td", undefined, "map");
  cell.append(strip);
  row.append(
    element("td", each.symbol), element("td", each.price ?? "–", "price"),
    element("td", each.trades_of_minute), element("td", "–", "lag"),
    element("td", percent(each.covered_ms, each.of_ms)), cell,
  );
  return row;
}

function axisOf(map) {
  const format = shown.span > 172800 ? [5, 10] : [11, 16];
  return [0, 0.5, 1].map((part) =>
    element("span", moment(map.since_ms + part * (map.until_ms - map.since_ms)).slice(...format)));
}

function showLags() {
  for (const each of symbols) {
    const cell = rowFor(each.symbol)?.querySelector(".lag");
    if (cell) cell.textContent = each.proven_ms === null ? "–" : lasting(Date.now() + clock - each.proven_ms);
  }
}

function rowFor(symbol) {
  return [...$("rows").children].find((row) => row.dataset.symbol === symbol);
}

// --- the chart

async function loadCandles() {
  if (!shown.symbol) return;
  const asked = { symbol: shown.symbol, step: shown.step, limit: 200 };
  const answer = await ask("/api/bars", asked);
  if (asked.symbol !== shown.symbol || asked.step !== shown.step) return;
  candles = answer.candles;
  drawCandles(answer.step_ms);
}

function drawCandles(stepMs) {
  chart.show(candles, stepMs);
  const [before, last] = candles.slice(-2);
  $("price").textContent = (last ?? before)?.close_price ?? "";
  $("price").className = last && Number(last.close_price) < Number(before.close_price) ? "down" : "up";
  document.title = `${(last ?? before)?.close_price ?? ""} ${shown.symbol} · bintrades`;
  if (chart.point === null) describe(last ?? before);
}

function describe(candle) {
  $("legend").textContent = candle
    ? `${moment(candle.open_time_ms)}  open ${candle.open_price}  high ${candle.max_price}`
      + `  low ${candle.min_price}  close ${candle.close_price}  bought ${candle.buy_quantity}`
      + `  sold ${candle.sell_quantity}  trades ${candle.trade_count}`
      + (candle.is_closed ? (candle.is_complete ? "" : "  (paler: not proven yet)") : "  (open)")
    : "";
}

function choose(symbol) {
  shown.symbol = symbol;
  history.replaceState(null, "", `#${encodeURIComponent(symbol)}`);
  $("symbol").textContent = symbol;
  for (const row of $("rows").children) row.setAttribute("aria-selected", row.dataset.symbol === symbol);
  listen();
  attempt(loadCandles);
}

// --- what is new

function listen() {
  const names = symbols.map((each) => each.symbol).join(",");
  const address = `/events?${new URLSearchParams({ symbol: shown.symbol, symbols: names })}`;
  if (source && source.readyState !== EventSource.CLOSED && address === heard) return;
  source?.close();
  heard = address;
  const mine = (source = new EventSource(address));
  mine.addEventListener("ready", () => isLive(true));
  mine.addEventListener("bars", (event) => JSON.parse(event.data).bars.forEach(take));
  mine.addEventListener("error", () => {
    isLive(false);
    if (mine.readyState === EventSource.CLOSED) setTimeout(() => mine === source && listen(), RETRY_MS);
    else attempt(loadCandles); // it comes back by itself, but not with what was missed
  });
}

function isLive(yes) {
  $("live").textContent = yes ? "live" : "every 10 s";
  $("live").className = yes ? "pill good" : "pill";
}

function take(bar) {
  const cell = rowFor(bar.symbol)?.querySelector(".price");
  if (cell && cell.textContent !== bar.close_price && isNewest(bar)) {
    cell.textContent = bar.close_price;
    cell.classList.remove("tick");
    void cell.offsetWidth; // so that the animation begins again
    cell.classList.add("tick");
  }
  if (bar.symbol !== shown.symbol) return;
  if (shown.step * 1000 > barMs) {
    coarse ??= setTimeout(() => { coarse = null; attempt(loadCandles); }, COARSE_MS);
    return;
  }
  const place = candles.findIndex((each) => each.open_time_ms >= bar.open_time_ms);
  if (place < 0) candles.push(bar);
  else candles.splice(place, candles[place].open_time_ms === bar.open_time_ms ? 1 : 0, bar);
  candles = candles.slice(-300);
  drawCandles(barMs);
}

// An old bar that was amended is no newer price.
function isNewest(bar) {
  const each = symbols.find((one) => one.symbol === bar.symbol);
  if (!each || bar.last_trade_ms < each.last_trade_ms) return false;
  each.last_trade_ms = bar.last_trade_ms;
  return true;
}

// --- what people do

function buttons(id, choices, name, load) {
  $(id).replaceChildren(...Object.entries(choices).map(([label, value]) => {
    const button = element("button", label);
    button.type = "button";
    button.setAttribute("aria-pressed", shown[name] === value);
    button.addEventListener("click", () => {
      shown[name] = value;
      for (const each of $(id).children) each.setAttribute("aria-pressed", each === button);
      attempt(load);
    });
    return button;
  }));
}

function turn(rows) {
  shown.offset = Math.max(0, shown.offset + rows);
  attempt(loadRows);
}

function tell(event) {
  const text = event.target.dataset?.tip;
  const tip = $("tip");
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  tip.style.left = `${Math.max(8, Math.min(event.clientX - 40, innerWidth - tip.offsetWidth - 8))}px`;
  const above = event.clientY - tip.offsetHeight - 14;
  tip.style.top = `${above > 0 ? above : event.clientY + 18}px`;
}

buttons("steps", { "10 s": 10, "1 min": 60, "5 min": 300 }, "step", loadCandles);
buttons("spans", SPANS, "span", loadRows);
$("earlier").addEventListener("click", () => turn(-ROWS));
$("later").addEventListener("click", () => turn(ROWS));
$("search").addEventListener("input", (event) => {
  Object.assign(shown, { search: event.target.value, offset: 0 });
  attempt(loadRows);
});
$("rows").addEventListener("click", (event) => choose(event.target.closest("tr").dataset.symbol));
$("rows").addEventListener("keydown", (event) => event.key === "Enter" && choose(event.target.dataset.symbol));
for (const kind of ["pointermove", "pointerdown"]) document.addEventListener(kind, tell);

function refresh() {
  attempt(() => Promise.all([loadStatus(), loadRows()]));
}

if (shown.symbol) choose(shown.symbol);
refresh();
setInterval(() => document.hidden || refresh(), REFRESH_MS);
setInterval(showLags, 1000);
document.addEventListener("visibilitychange", () => document.hidden || (refresh(), attempt(loadCandles)));
