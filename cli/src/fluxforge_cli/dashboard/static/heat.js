// The depth map: one column a second, one cell a level, stronger where more is quoted. The line is the mid.
import { clock, colour, decimals, faint, fixed } from "./format.js";

const canvas = document.getElementById("heat");
const told = document.getElementById("heat-told");
const AXIS = 64;
const FOOT = 16;

let columns = [];
let span = 300;
let cross = null;
let drawn = null;
let waiting = false;

/** Books of the past, in order. */
export function reset(times, bids, asks) {
  columns = times.map((time, k) => column(time, bids[k], asks[k]));
  cross = null;
  draw();
}

/** What is new: the second that was running comes again. */
export function add(times, bids, asks, keep) {
  times.forEach((time, k) => {
    const last = columns.at(-1);
    if (last && Math.floor(last.time / 1000) === Math.floor(time / 1000)) columns.pop();
    columns.push(column(time, bids[k], asks[k]));
  });
  columns.splice(0, columns.length - keep);
  later();
}

export function setSpan(seconds) {
  span = seconds;
  draw();
}

/** Draw, but at most twice a second. */
function later() {
  if (waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    draw();
  }, 500);
}

function column(time, bids, asks) {
  const mid = bids[0] != null && asks[0] != null ? (bids[0] + asks[0]) / 2 : null;
  return { time, bids, asks, mid };
}

export function draw() {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width) return;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.clearRect(0, 0, width, height);
  const end = columns.at(-1)?.time;
  const seen = columns.filter((one) => one.time > end - span * 1000 && one.mid !== null);
  if (!seen.length) {
    drawn = null;
    canvas.setAttribute("aria-label", "Depth: no book is known");
    return;
  }
  const scale = scaled(seen);
  const x = (time) => ((time - (end - span * 1000)) / (span * 1000)) * (width - AXIS);
  const y = (price) => ((scale.high - price) / (scale.high - scale.low)) * (height - FOOT);
  drawn = { seen, scale, x, y, end, width, height };
  cells(pen, drawn);
  line(pen, drawn);
  axes(pen, drawn);
  if (cross) crosshair(pen, drawn);
  const last = seen.at(-1);
  canvas.setAttribute("aria-label", `Depth of the last ${span} seconds, mid ${fixed(last.mid, scale.places)}, prices from ${fixed(scale.low, scale.places)} to ${fixed(scale.high, scale.places)}`);
}

/** Prices and sizes that are seen, and the smallest step between two levels. */
function scaled(seen) {
  let [low, high, tick, places] = [Infinity, -Infinity, Infinity, 0];
  const sizes = [];
  for (const { bids, asks } of seen) {
    for (const side of [bids, asks]) {
      for (let k = 0; k + 1 < side.length; k += 2) {
        const price = side[k];
        if (price === null) continue;
        low = Math.min(low, price);
        high = Math.max(high, price);
        sizes.push(side[k + 1]);
        const step = k ? Math.abs(price - side[k - 2]) : Infinity;
        if (step > 1e-12) tick = Math.min(tick, step);
      }
    }
  }
  for (const price of seen.at(-1).bids.filter((_, k) => k % 2 === 0 && seen.at(-1).bids[k] !== null)) places = Math.max(places, decimals(price));
  sizes.sort((a, b) => a - b);
  if (tick === Infinity) tick = (high - low) / 20 || high * 1e-5;
  return { low: low - tick, high: high + tick, tick, places, strong: sizes[Math.floor(sizes.length * 0.97)] || 1 };
}

function cells(pen, { seen, scale, x, y, end }) {
  const tall = Math.max(1, y(0) - y(scale.tick) + 0.5);
  const colours = { bids: shades(colour("bid")), asks: shades(colour("ask")) };
  seen.forEach((one, k) => {
    const left = x(one.time);
    const next = seen[k + 1]?.time ?? end + 1000;
    const wide = Math.max(1, x(Math.min(next, one.time + 5000)) - left + 0.5);
    for (const side of ["bids", "asks"]) {
      for (let at = 0; at + 1 < one[side].length; at += 2) {
        if (one[side][at] === null) continue;
        const strength = Math.min(1, Math.sqrt(one[side][at + 1] / scale.strong));
        pen.fillStyle = colours[side][Math.round(strength * 15)];
        pen.fillRect(left, y(one[side][at]) - tall / 2, wide, tall);
      }
    }
  });
}

const shades = (rgb) => Array.from({ length: 16 }, (_, k) => faint(rgb, 0.06 + (0.94 * k) / 15));

function line(pen, { seen, x, y }) {
  pen.strokeStyle = colour("text");
  pen.lineWidth = 1.25;
  pen.beginPath();
  seen.forEach((one, k) => {
    const gap = k === 0 || one.time - seen[k - 1].time > 5000;
    if (gap) pen.moveTo(x(one.time), y(one.mid));
    else pen.lineTo(x(one.time), y(one.mid));
  });
  pen.stroke();
}

function axes(pen, { scale, x, y, end, width, height }) {
  pen.fillStyle = colour("quiet");
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  for (let k = 0; k <= 4; k += 1) {
    const price = scale.low + ((scale.high - scale.low) * (k + 0.5)) / 5;
    pen.fillText(fixed(price, scale.places), width - AXIS + 6, y(price));
  }
  pen.textBaseline = "bottom";
  pen.textAlign = "center";
  const step = span > 300 ? 180000 : span > 60 ? 60000 : 15000;
  for (let time = Math.ceil((end - span * 1000) / step) * step; time < end; time += step) {
    if (x(time) > 28 && x(time) < width - AXIS - 28) pen.fillText(new Date(time).toISOString().slice(11, 19), x(time), height);
  }
}

/** The level under the cross, told beside the heading. */
function crosshair(pen, { seen, scale, x, y, end, width, height }) {
  pen.strokeStyle = colour("quiet");
  pen.setLineDash([3, 3]);
  pen.beginPath();
  pen.moveTo(cross.x, 0);
  pen.lineTo(cross.x, height - FOOT);
  pen.moveTo(0, cross.y);
  pen.lineTo(width - AXIS, cross.y);
  pen.stroke();
  pen.setLineDash([]);
  const time = end - span * 1000 * (1 - cross.x / (width - AXIS));
  const one = seen.reduce((best, each) => (Math.abs(each.time - time) < Math.abs(best.time - time) ? each : best));
  const price = scale.high - ((scale.high - scale.low) * cross.y) / (height - FOOT);
  let best = null;
  for (const side of ["bids", "asks"]) {
    for (let k = 0; k + 1 < one[side].length; k += 2) {
      const distance = Math.abs(one[side][k] - price);
      if (one[side][k] !== null && (!best || distance < best.distance)) best = { distance, side, price: one[side][k], size: one[side][k + 1] };
    }
  }
  told.textContent = best ? `${clock(one.time)}  ${best.side === "bids" ? "bid" : "ask"} ${fixed(best.price, scale.places)} × ${fixed(best.size, decimals(best.size, 5))}` : "";
}

function point(event) {
  if (!drawn) return;
  const box = canvas.getBoundingClientRect();
  cross = bounded(event.clientX - box.left, event.clientY - box.top);
  draw();
}

function bounded(x, y) {
  return { x: Math.min(Math.max(x, 0), drawn.width - AXIS), y: Math.min(Math.max(y, 0), drawn.height - FOOT) };
}

function leave() {
  cross = null;
  told.textContent = "";
  draw();
}

canvas.addEventListener("pointermove", point);
canvas.addEventListener("pointerdown", point);
canvas.addEventListener("pointerleave", leave);
canvas.addEventListener("blur", leave);
canvas.addEventListener("keydown", (event) => {
  const move = { ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -6], ArrowDown: [0, 6] }[event.key];
  if (!move || !drawn) return;
  event.preventDefault();
  const from = cross ?? { x: (drawn.width - AXIS) / 2, y: (drawn.height - FOOT) / 2 };
  cross = bounded(from.x + move[0], from.y + move[1]);
  draw();
});
new ResizeObserver(draw).observe(canvas);
