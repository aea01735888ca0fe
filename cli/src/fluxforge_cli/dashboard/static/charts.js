// Candles with volume, and the chosen features one above the other, by plotly.js.
import { colour, faint, fixed, decimals, span } from "./format.js";

const PACE = 500;
const LEAST = 60; // candles that the axis has room for
const TALL = 118; // px of a feature's chart
const touch = matchMedia("(pointer: coarse)").matches;
const CONFIG = { displayModeBar: false, responsive: true, scrollZoom: !touch, doubleClick: "reset" };
const at = (id) => document.getElementById(id);

let bars = [];
let series = { times: [], columns: [], values: {} };
let shown = { market: "", duration: 60 };
let units = {};
const waiting = { candles: false, features: false };
const cost = { candles: 0, features: 0 };
let captured = 0;
let painted = () => {};

export const setUnits = (found) => { units = found; };
/** Called with the capture time of the newest event when the features' charts show it. */
export const onPaint = (call) => { painted = call; };

/** The past of a market. */
export function reset(message, columns) {
  shown = { market: message.market, duration: message.duration };
  bars = message.bars;
  series = { times: message.times, columns, values: message.features };
  candles();
  features();
}

/** What is new: the last candle and the last second come again. */
export function add(message, keep) {
  for (const bar of message.bars) {
    while (bars.length && bars.at(-1)[0] >= bar[0]) bars.pop();
    bars.push(bar);
  }
  bars.splice(0, bars.length - 600);
  message.times.forEach((time, k) => {
    const again = series.times.length && Math.floor(series.times.at(-1) / 1000) === Math.floor(time / 1000);
    if (again) series.times.pop();
    series.times.push(time);
    for (const name of series.columns) {
      const values = (series.values[name] ??= []);
      if (again) values.pop();
      values.push(message.features[name]?.[k] ?? null);
    }
  });
  const over = series.times.length - keep;
  if (over > 0) {
    series.times.splice(0, over);
    for (const name of series.columns) series.values[name]?.splice(0, over);
  }
  if (message.bars.length) later("candles", candles);
  if (message.captured === captured || !series.columns.length) return;
  captured = message.captured;
  later("features", () => {
    const event = captured;
    return features().then(() => requestAnimationFrame(() => requestAnimationFrame(() => painted(event))));
  });
}

/** Colours have changed. */
export function redraw() {
  if (!shown.market) return;
  candles();
  features();
}

/** Draw at most twice a second, and on a slow machine so seldom that the book has most of the time. */
function later(name, draw) {
  if (waiting[name]) return;
  waiting[name] = true;
  setTimeout(async () => {
    const began = performance.now();
    waiting[name] = false;
    await draw();
    cost[name] = performance.now() - began;
  }, Math.max(PACE, 4 * cost[name]));
}

function layout(extra) {
  const axis = { gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, fixedrange: touch };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 6, r: 64, t: 4, b: 34 },
    font: { family: "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif", size: 11, color: colour("quiet") },
    hovermode: "x unified", dragmode: touch ? false : "pan", showlegend: false, uirevision: `${shown.market} ${shown.duration}`,
    hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("line"), font: { color: colour("text") } },
    ...extra(axis),
  };
}

function candles() {
  const [up, down] = [colour("bid"), colour("ask")];
  const whole = { x: [], open: [], high: [], low: [], close: [] };
  const partial = { x: [], open: [], high: [], low: [], close: [] };
  let places = 0;
  for (const [time, open, high, low, close, , , incomplete] of bars) {
    if (open === null) continue;
    places = Math.max(places, decimals(close, 6));
    const into = incomplete ? partial : whole;
    [into.x, into.open, into.high, into.low, into.close].forEach((list, k) => list.push([time, open, high, low, close][k]));
  }
  if (bars.length === 1) { // alone it would have no width: it gets an empty neighbour
    whole.x.push(bars[0][0] - shown.duration * 1000);
    for (const list of [whole.open, whole.high, whole.low, whole.close]) list.push(null);
  }
  if (bars.length) places = Math.min(places, Math.max(0, 8 - Math.abs(Math.trunc(bars.at(-1)[4] ?? 0)).toString().length));
  const style = (fill) => ({
    type: "candlestick", increasing: { line: { color: up, width: 1 }, fillcolor: fill ? up : "rgba(0,0,0,0)" },
    decreasing: { line: { color: down, width: 1 }, fillcolor: fill ? down : "rgba(0,0,0,0)" }, yaxis: "y", whiskerwidth: 0,
  });
  const volume = {
    type: "bar", x: bars.map((bar) => bar[0]), y: bars.map((bar) => bar[5]), width: 800 * shown.duration, yaxis: "y2", name: "volume",
    marker: { color: bars.map((bar) => faint(bar[4] >= bar[1] ? up : down, 0.45)), line: { width: 0 } }, hovertemplate: "%{y:.6~g}<extra>volume</extra>",
  };
  const last = bars.at(-1);
  const told = last && last[4] !== null
    ? `${span(shown.duration)}  O ${fixed(last[1], places)}  H ${fixed(last[2], places)}  L ${fixed(last[3], places)}  C ${fixed(last[4], places)}  V ${fixed(last[5], 3)}`
    : `${span(shown.duration)}  no bars yet`;
  at("candles-told").textContent = told;
  at("candles").setAttribute("aria-label", `${bars.length} candles with volume, newest ${told}`);
  return Plotly.react(at("candles"), [{ ...style(true), ...whole, name: "mid" }, { ...style(false), ...partial, name: "incomplete" }, volume], layout((axis) => ({
    xaxis: { ...axis, type: "date", range: range(), rangeslider: { visible: false }, hoverformat: "%Y-%m-%d %H:%M:%S UTC", anchor: "y2" },
    yaxis: { ...axis, side: "right", domain: [0.24, 1], tickformat: `,.${Math.min(places, 4)}~f`, nticks: 7 },
    yaxis2: { ...axis, side: "right", domain: [0, 0.19], nticks: 3, rangemode: "tozero" },
  })), CONFIG);
}

/** From the first candle to the last, and never so short that a few would fill it. */
function range() {
  if (!bars.length) return undefined;
  const wide = shown.duration * 1000;
  const end = bars.at(-1)[0] + wide;
  return [Math.min(bars[0][0], end - LEAST * wide) - wide / 2, end];
}

function features() {
  const count = series.columns.length;
  const lines = [];
  const axes = {};
  const notes = [];
  const [mark, text, grid] = [colour("mark"), colour("text"), colour("line")];
  series.columns.forEach((name, k) => {
    const key = k ? `y${k + 1}` : "y";
    const top = 1 - k / count;
    axes[k ? `yaxis${k + 1}` : "yaxis"] = { side: "right", domain: [top - 0.86 / count, top - 0.02], nticks: 4, gridcolor: grid, zerolinecolor: grid, tickformat: "~g", fixedrange: touch, anchor: "x" };
    const values = series.values[name] ?? [];
    lines.push({ type: "scatter", mode: "lines", x: series.times, y: values, yaxis: key, name, line: { color: mark, width: 1.25 }, connectgaps: false, hovertemplate: "%{y:.6~g}" });
    const unit = units[name]?.[0];
    const newest = values.at(-1);
    notes.push({ text: `<b>${escape(name)}</b>${unit && unit !== "1" ? `, ${escape(unit)}` : ""}  ${newest == null ? "–" : Number(newest.toPrecision(8))}`, x: 0, xref: "paper", xanchor: "left", y: top, yref: "paper", yanchor: "top", showarrow: false, font: { color: text, size: 11 }, bgcolor: colour("panel") });
  });
  at("features").setAttribute("aria-label", count ? `Charts of ${series.columns.join(", ")}` : "No feature is chosen");
  at("features").style.height = count ? `${count * TALL + 38}px` : "0";
  if (!count) { // without axes plotly.js has no place to draw at
    Plotly.purge(at("features"));
    return Promise.resolve();
  }
  return Plotly.react(at("features"), lines, layout((axis) => ({
    ...axes, annotations: notes, xaxis: { ...axis, type: "date", hoverformat: "%H:%M:%S.%L UTC", anchor: count > 1 ? `y${count}` : "y" },
  })), CONFIG);
}

/** plotly.js reads some tags in texts. */
const escape = (text) => text.replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]);
