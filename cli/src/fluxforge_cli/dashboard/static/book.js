// The order-book ladder: asks above, bids below, best ones in the middle.
import { decimals, fixed } from "./format.js";

const at = (id) => document.getElementById(id);
const rows = { asks: [], bids: [] };
let places = { price: 0, size: 0 };

/** Another market has other ticks. */
export function forget() {
  places = { price: 0, size: 0 };
  for (const side of ["asks", "bids"]) {
    at(side).replaceChildren();
    rows[side] = [];
  }
  for (const id of ["mid", "spread", "book-told"]) at(id).textContent = "";
}

/** Show a book; a side is price, size, price… from the best on, null where a level is missing. */
export function show(bids, asks) {
  const book = { bids: levels(bids), asks: levels(asks) };
  for (const [price, size] of [...book.bids, ...book.asks]) {
    places.price = Math.max(places.price, decimals(price));
    places.size = Math.max(places.size, decimals(size, 5));
  }
  const most = Math.max(...["bids", "asks"].map((side) => book[side].at(-1)?.[2] ?? 0));
  for (const side of ["bids", "asks"]) {
    fit(side, Math.max(bids.length, asks.length) / 2);
    rows[side].forEach((row, depth) => {
      const level = book[side][depth];
      row.cells[0].textContent = level ? fixed(level[0], places.price) : "";
      row.cells[1].textContent = level ? fixed(level[1], places.size) : "";
      row.cells[2].textContent = level ? fixed(level[2], places.size) : "";
      row.style.setProperty("--share", level ? `${((100 * level[2]) / most).toFixed(1)}%` : "0%");
    });
  }
  const [bid, ask] = [book.bids[0]?.[0], book.asks[0]?.[0]];
  if (bid === undefined || ask === undefined) {
    at("book-told").textContent = bids.length ? "one side is empty" : "the rows carry no levels: see the setting features";
    return null;
  }
  const mid = (bid + ask) / 2;
  at("mid").textContent = fixed(mid, places.price + 1);
  at("spread").textContent = `spread ${fixed(ask - bid, places.price)}  ${fixed((1e4 * (ask - bid)) / mid, 2)} bps`;
  at("book-told").textContent = `${book.bids.length} + ${book.asks.length} levels`;
  return mid;
}

/** [price, size, total up to here] of the levels that are there. */
function levels(flat) {
  const found = [];
  let total = 0;
  for (let k = 0; k + 1 < flat.length; k += 2) {
    if (flat[k] === null || flat[k + 1] === null) continue;
    total += flat[k + 1];
    found.push([flat[k], flat[k + 1], total]);
  }
  return found;
}

function fit(side, count) {
  while (rows[side].length < count) {
    const row = document.createElement("tr");
    for (let k = 0; k < 3; k += 1) row.insertCell();
    rows[side].push(row);
    if (side === "asks") at(side).prepend(row);
    else at(side).append(row);
  }
}
