// The pipeline: rates of the topics, what is not well and what to do, markets, and the coverage calendar.
import { age, clock, colour, counted, short, title, write } from "./format.js";

const HOUR = 3600000;
const DAYS = 7;
const at = (id) => document.getElementById(id);
const told = at("coverage-told");
let coverage = [];
let seen = { at: 0, rows: {} };

export function show(message) {
  at("rates").hidden = !message.rates.length;
  fill(at("rates").tBodies[0], message.rates.map((rate) => [rate.topic, rate.per_s.toFixed(rate.per_s < 10 ? 1 : 0), short(rate.records)]));
  if (message.lines) lines(message.lines);
  if (message.coverage) {
    coverage = message.coverage;
    calendar();
  }
}

/** Every market with its rate and age; a click or Enter chooses it. */
export function markets(list, chosen, now, kind, choose) {
  const seconds = (now - seen.at) / 1000;
  const body = at("markets").tBodies[0];
  while (body.rows.length > list.length) body.deleteRow(-1);
  list.forEach(([name, newest, rows], k) => {
    const row = body.rows[k] ?? fresh(body, choose);
    const rate = name in seen.rows && seconds > 0 ? Math.max(0, rows - seen.rows[name]) / seconds : null;
    row.dataset.market = name;
    if (name === chosen) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
    row.cells[0].firstChild.textContent = title(name);
    row.cells[1].textContent = rate === null || kind === "lake" ? "–" : rate.toFixed(1);
    row.cells[2].textContent = newest ? age(now - newest) : "–";
    row.cells[2].classList.toggle("late", kind === "live" && now - newest > 15000);
  });
  at("markets-told").textContent = list.length ? `${list.length}` : "";
  if (seconds >= 2) seen = { at: now, rows: Object.fromEntries(list.map(([name, , rows]) => [name, rows])) };
}

function fresh(body, choose) {
  const row = body.insertRow();
  const button = document.createElement("button");
  button.type = "button";
  button.addEventListener("click", () => choose(row.dataset.market));
  row.insertCell().append(button);
  row.insertCell();
  row.insertCell();
  return row;
}

function fill(body, table) {
  while (body.rows.length > table.length) body.deleteRow(-1);
  table.forEach((cells, k) => {
    const row = body.rows[k] ?? body.insertRow();
    cells.forEach((text, c) => { (row.cells[c] ?? row.insertCell()).textContent = text; });
  });
}

function lines(found) {
  const bad = found.filter((line) => !line.ok).length;
  at("pipeline-told").textContent = found.length ? (bad ? `${bad} of ${found.length} not well` : `all ${found.length} well`) : "";
  at("lines").replaceChildren(...[...found].sort((a, b) => a.ok - b.ok).map((line) => {
    const item = document.createElement("li");
    item.append(element("span", line.ok ? "✓" : "!", line.ok ? "ok" : "bad"), element("b", line.name), element("span", line.told));
    item.firstChild.setAttribute("aria-label", line.ok ? "well" : "not well");
    item.firstChild.setAttribute("role", "img");
    if (!line.ok) write(item.appendChild(element("em", "")), `→ ${line.advice}`);
    return item;
  }));
}

function element(tag, text, name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = name;
  return made;
}

/** A strip of hours for each market; where several collectors saw an hour, the one that saw most. */
export function calendar() {
  const of = new Map();
  for (const cell of coverage) {
    const hours = of.get(cell.market) ?? of.set(cell.market, new Map()).get(cell.market);
    const other = hours.get(cell.hour);
    if (!other || cell.seconds - cell.dark_s > other.seconds - other.dark_s) hours.set(cell.hour, cell);
  }
  const end = Math.ceil(Date.now() / HOUR) * HOUR;
  if (!of.size) {
    at("coverage").replaceChildren(element("p", "Nothing is told yet: a collector writes its ledger when an hour ends and when it stops, and Bronze stores it with its next segment.", "quiet"));
    return;
  }
  at("coverage").replaceChildren(...[...of].map(([market, hours]) => {
    const row = element("div", "", "row");
    const canvas = document.createElement("canvas");
    const cells = [...hours.values()];
    const sum = (name) => cells.reduce((total, cell) => total + cell[name], 0);
    const said = `seen ${(sum("seconds") / 3600).toFixed(1)} h  dark ${((100 * sum("dark_s")) / Math.max(sum("seconds"), 1)).toFixed(2)} %  ${counted(sum("gaps"), "gap")}`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${market}: ${said}`);
    row.append(element("span", market), canvas, element("span", said, "num"));
    strip(canvas, hours, end);
    canvas.addEventListener("pointermove", (event) => {
      const hour = end - DAYS * 24 * HOUR + Math.floor((event.offsetX / canvas.clientWidth) * DAYS * 24) * HOUR;
      const cell = hours.get(hour);
      told.textContent = `${market} ${clock(hour)}: ${cell ? `${cell.events.toLocaleString("en")} events, dark ${cell.dark_s.toFixed(1)} s, absent ${cell.absent_s.toFixed(0)} s, ${counted(cell.gaps, "gap")}, ${counted(cell.resyncs, "resync")}` : "nothing known"}`;
    });
    canvas.addEventListener("pointerleave", () => { told.textContent = ""; });
    return row;
  }));
}

function strip(canvas, hours, end) {
  const count = DAYS * 24;
  canvas.width = count * 6;
  canvas.height = 14;
  const pen = canvas.getContext("2d");
  const colours = Object.fromEntries(["bid", "warn", "ask", "raised"].map((name) => [name, colour(name)]));
  for (let k = 0; k < count; k += 1) {
    pen.fillStyle = colours[shade(hours.get(end - (count - k) * HOUR))];
    pen.fillRect(k * 6, 0, k % 24 === 23 ? 4 : 5, 14);
  }
}

function shade(cell) {
  if (!cell || cell.seconds + cell.absent_s === 0) return "raised";
  const missing = (cell.dark_s + cell.absent_s) / (cell.seconds + cell.absent_s);
  if (missing > 0.05) return "ask";
  return missing > 0.001 || cell.gaps || cell.holes || cell.shed ? "warn" : "bid";
}
