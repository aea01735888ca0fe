// The page: what is chosen, what is shown, and the state of things.
import * as book from "./book.js";
import * as charts from "./charts.js";
import * as chooser from "./chooser.js";
import { age, clock, span, title, write } from "./format.js";
import * as health from "./health.js";
import * as heat from "./heat.js";
import { Socket } from "./socket.js";

const USUAL = ["mid_price", "ofi_sum_5s", "imbalance_L0"];
const LONGER = [1800, 86400];
const at = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const choice = { market: query.get("market") ?? "", duration: query.get("duration") ?? "60", columns: query.get("columns") ?? USUAL.join() };

let state = { state: "connecting", markets: [], durations: [] };
let keep = 900;
let skew = 0;
let captured = 0;
let lost = null;
let wrong = null;

/** Ages in ms of the newest event at the moment of its pixels, newest last: in the book, and in the features' charts. */
const ages = { book: [], features: [] };
/** For whoever measures: the ages, and records in the topic of features. */
window.fluxforge = { ages, records: 0 };

function note(kind, event) {
  const list = ages[kind];
  list.push(Date.now() + skew - event);
  if (list.length > 5000) list.splice(0, 1000);
}

const socket = new Socket((message) => hear[message.type](message), (pause) => {
  lost = pause;
  tell();
});
const ask = () => {
  wrong = null;
  socket.send(choice);
  history.replaceState(null, "", `?${new URLSearchParams(Object.entries(choice).filter(([, value]) => value))}`);
};

const hear = {
  hello(message) {
    lost = null;
    const units = Object.fromEntries(message.catalogue.map(([name, unit, formula]) => [name, [unit, formula]]));
    charts.setUnits(units);
    chooser.setUnits(units);
    socket.send(choice);
  },
  state(message) {
    skew = message.now - Date.now();
    state = message;
    options();
    tell();
    health.markets(state.markets, choice.market, state.now, state.kind, (name) => choose({ market: name }));
  },
  chosen(message) {
    const other = message.market !== choice.market;
    choice.market = message.market;
    if (other) options();
    captured = message.captured;
    keep = message.history_s;
    const columns = choice.columns.split(",").filter((name) => message.columns.includes(name));
    chooser.show(message.columns, columns);
    book.forget();
    if (message.times.length) book.show(message.bids.at(-1), message.asks.at(-1));
    heat.reset(message.times, message.bids, message.asks);
    charts.reset(message, columns);
    at("duration").removeAttribute("aria-invalid");
    document.title = `${title(message.market)} · FluxForge`;
  },
  rows(message) {
    const fresh = message.captured !== captured; // else a bar alone has come
    captured = message.captured;
    charts.add(message, keep);
    heat.add(message.times, message.bids, message.asks, keep);
    if (!fresh || !message.times.length) return;
    requestAnimationFrame(() => {
      book.show(message.bids.at(-1), message.asks.at(-1));
      requestAnimationFrame(() => { // what was drawn in the frame before is on the screen
        note("book", message.captured);
        at("age-now").textContent = age(ages.book.at(-1));
      });
    });
  },
  health(message) {
    health.show(message);
    window.fluxforge.records = message.rates.find((rate) => rate.topic.endsWith(".features"))?.records ?? 0;
  },
  wrong(message) {
    wrong = message;
    at("duration").setAttribute("aria-invalid", "true");
    tell();
  },
};

/** The controls say what there is and what is chosen. */
function options() {
  const names = state.markets.map(([name]) => name);
  const select = at("market");
  if ([...select.options].map((option) => option.value).join() !== names.join()) {
    select.replaceChildren(...names.map((name) => new Option(title(name), name)));
  }
  if (document.activeElement !== select) select.value = choice.market;
  const longer = LONGER.filter((each) => state.durations.some((base) => each % base === 0));
  const durations = [...new Set([...state.durations, ...longer])].sort((a, b) => a - b);
  const group = at("durations");
  if ([...group.children].map((button) => button.value).join() !== durations.join()) {
    group.replaceChildren(...durations.map((seconds) => {
      const button = document.createElement("button");
      button.type = "button";
      button.value = seconds;
      button.textContent = span(seconds);
      button.addEventListener("click", () => choose({ duration: String(seconds) }));
      return button;
    }));
  }
  for (const button of group.children) button.setAttribute("aria-pressed", String(Number(button.value) === seconds(choice.duration)));
}

function seconds(text) {
  const [, count, unit] = text.trim().toLowerCase().match(/^(\d+)([smhd]?)$/) ?? [];
  return Number(count) * { "": 1, s: 1, m: 60, h: 3600, d: 86400 }[unit ?? ""];
}

function choose(change) {
  Object.assign(choice, change);
  options();
  ask();
}

/** The state, once in a word and once in a sentence with what to do. */
function tell() {
  const now = Date.now() + skew;
  const name = lost === null ? state.state : "error";
  const [told, banner, advice] = words(name, now);
  at("state").dataset.state = name;
  say("state-word", name);
  say("state-told", told);
  const shown = banner || (wrong ? wrong.told : "");
  at("banner").hidden = !shown;
  at("banner").dataset.state = name === "error" ? "error" : "stalled";
  say("banner-told", shown);
  say("banner-advice", banner ? advice : (wrong?.advice ?? ""));
  const empty = name === "empty" || (name === "error" && !state.markets.length);
  document.querySelector("main").classList.toggle("bare", empty);
  document.body.classList.toggle("old", name === "error" || name === "stalled");
  at("nothing").hidden = name !== "empty";
  if (name === "empty") say("nothing-told", `${state.kind === "lake" ? "The lake" : "The log"} ${state.place} has no rows of features or bars.`);
  at("age").hidden = name !== "live";
}

function words(name, now) {
  if (lost !== null) return ["", "The dashboard's server does not answer.", `Is \`fluxforge dashboard\` still running? Trying again every ${Math.round(lost / 1000)} s.`];
  if (name === "error") return [`since ${clock(state.since)}`, `Nothing can be read since ${clock(state.since)}: ${state.told}.`, `${state.advice}. It is tried again by itself.`];
  if (name === "stalled") return [`since ${clock(state.since)}`, `${title(choice.market)} has had no row for ${age(now - state.since)}, since ${clock(state.since)}.`, "Do the other markets go on? The pipeline's health says what is not well."];
  if (name === "live") return [clock(now), "", ""];
  if (name === "lake") return [`rows end ${clock(state.since)}`, "", ""];
  return ["", "", ""];
}

/** Only what is another: a live region repeats what is set. */
const say = (id, text) => write(at(id), text);

function neighbour(step) {
  const names = state.markets.map(([name]) => name);
  if (names.length) choose({ market: names[(names.indexOf(choice.market) + step + names.length) % names.length] });
}

function longer(step) {
  const buttons = [...at("durations").children];
  const now = buttons.findIndex((button) => Number(button.value) >= seconds(choice.duration));
  buttons[Math.min(Math.max((now < 0 ? buttons.length : now) + step, 0), buttons.length - 1)]?.click();
}

function theme() {
  const dark = getComputedStyle(document.documentElement).colorScheme.startsWith("light dark") ? matchMedia("(prefers-color-scheme: dark)").matches : document.documentElement.dataset.theme === "dark";
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
  repaint();
}

function repaint() {
  charts.redraw();
  heat.draw();
  health.calendar();
}

if (localStorage.getItem("theme")) document.documentElement.dataset.theme = localStorage.getItem("theme");
charts.onPaint((event) => note("features", event));
chooser.onChange((columns) => choose({ columns: columns.join() }));
at("market").addEventListener("change", (event) => choose({ market: event.target.value }));
at("duration").addEventListener("change", (event) => event.target.value && choose({ duration: event.target.value }));
at("span").addEventListener("change", (event) => heat.setSpan(Number(event.target.value)));
at("theme").addEventListener("click", theme);
at("help").addEventListener("click", () => at("keys").showModal());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey || at("keys").open) return;
  const act = { "[": () => neighbour(-1), "]": () => neighbour(1), "-": () => longer(-1), "+": () => longer(1), f: () => at("choose").click(), t: theme, "?": () => at("keys").showModal() }[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});
options();
tell();
