// Numbers and times as people of the trade read them.

/** Decimals that a number is written with, at most `most`. */
export function decimals(value, most = 8) {
  const text = Number(value.toPrecision(12)).toString();
  if (text.includes("e")) return most;
  const at = text.indexOf(".");
  return at < 0 ? 0 : Math.min(most, text.length - at - 1);
}

/** With so many decimals, thousands set apart; a dash for what is not known. */
export function fixed(value, places) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
}

/** Short: 12.3k, 4.56M. */
export function short(value) {
  return value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
}

/** `1 gap`, `2 gaps`. */
export const counted = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`;

/** A duration in s as a setting would give it: 90s, 5m, 4h, 1d. */
export function span(seconds) {
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["m", 60]]) if (seconds % size === 0) return `${seconds / size}${unit}`;
  return `${seconds}s`;
}

/** An age in ms. */
export function age(ms) {
  if (ms < 10000) return `${(Math.max(ms, 0) / 1000).toFixed(ms < 1000 ? 2 : 1)} s`;
  if (ms < 120000) return `${Math.round(ms / 1000)} s`;
  if (ms < 7200000) return `${Math.round(ms / 60000)} min`;
  if (ms < 172800000) return `${Math.round(ms / 3600000)} h`;
  return `${Math.round(ms / 86400000)} d`;
}

/** UTC: the time, and the date where it is not today's. */
export function clock(ms, now = Date.now()) {
  const text = new Date(ms).toISOString();
  const day = text.slice(0, 10) === new Date(now).toISOString().slice(0, 10) ? "" : `${text.slice(0, 10)} `;
  return `${day}${text.slice(11, 19)} UTC`;
}

/** A text into an element, what stands between backquotes as code. Nothing is done where it says that already. */
export function write(element, text) {
  if (element.textContent === text.replaceAll("`", "")) return;
  element.replaceChildren(...text.split("`").map((part, k) => {
    if (k % 2 === 0) return part;
    const code = document.createElement("code");
    code.textContent = part;
    return code;
  }));
}

/** `exchange|symbol` for people. */
export const title = (market) => market.replace("|", " ");

const probe = document.createElement("i");
probe.hidden = true;
document.body.append(probe);

/** A colour of the style sheet as it is now, `rgb(…)`. */
export function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

/** The same, so far transparent. */
export function faint(rgb, alpha) {
  const [r, g, b] = rgb.match(/[\d.]+/g);
  return `rgba(${r},${g},${b},${alpha})`;
}
