// Which feature columns are charted.

const MOST = 6;
const at = (id) => document.getElementById(id);
let columns = [];
let units = {};
let chosen = [];
let changed = () => {};

export const setUnits = (found) => { units = found; };
export const onChange = (call) => { changed = call; };

/** The columns there are, and those that are charted. */
export function show(all, now) {
  const same = all.join() === columns.join() && now.join() === chosen.join();
  [columns, chosen] = [all, now];
  if (!same) list();
}

function list() {
  const wanted = at("find").value.trim().toLowerCase();
  const found = columns.filter((name) => name.toLowerCase().includes(wanted));
  at("chosen-told").textContent = `${chosen.length} of at most ${MOST} chosen, ${found.length} of ${columns.length} columns shown`;
  at("columns").replaceChildren(...found.map((name) => {
    const item = document.createElement("li");
    const label = document.createElement("label");
    const box = document.createElement("input");
    const unit = document.createElement("small");
    box.type = "checkbox";
    box.value = name;
    box.checked = chosen.includes(name);
    box.disabled = !box.checked && chosen.length >= MOST;
    unit.textContent = units[name]?.[0] ?? "";
    label.title = units[name]?.[1] ?? "";
    label.append(box, name, unit);
    item.append(label);
    return item;
  }));
}

at("find").addEventListener("input", list);
at("columns").addEventListener("change", (event) => {
  const { value, checked } = event.target;
  chosen = checked ? [...chosen, value] : chosen.filter((name) => name !== value);
  list();
  at("columns").querySelector(`input[value="${CSS.escape(value)}"]`)?.focus();
  changed(chosen);
});
at("choose").addEventListener("click", () => {
  at("chooser").hidden = !at("chooser").hidden;
  at("choose").setAttribute("aria-expanded", String(!at("chooser").hidden));
  if (!at("chooser").hidden) at("find").focus();
});
