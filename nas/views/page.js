"use strict";

// Every head of a sortable table becomes a button; empty cells stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, head));
    head.append(button);
  }
}

function sort(table, head) {
  const up = head.getAttribute("aria-sort") !== "ascending";
  const value = row => {
    const text = row.cells[head.cellIndex].textContent.trim();
    return head.classList.contains("text") || text === "" ? text : parseFloat(text.replaceAll(",", ""));
  };
  const order = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
  const rows = [...table.tBodies[0].rows].map(row => [value(row), row]);
  rows.sort(([a], [b]) => (a === "") - (b === "") || (a === "" ? 0 : up ? order(a, b) : order(b, a)));
  table.tBodies[0].append(...rows.map(([, row]) => row));
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
}

// A link to a trial opens what it is folded in.
function reveal() {
  const target = document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", reveal);
document.addEventListener("click", event => {
  const link = event.target.closest("a[href^='#']");
  if (link && link.getAttribute("href") === location.hash) reveal();
});
reveal();

// Over a dot: what its title says, with the trial's network, and the same trial in all other figures and tables.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
document.body.append(tip);
const said = new Map();
let over = null;

document.addEventListener("pointerover", event => {
  const place = event.target.closest("a.dot, tr");
  const link = place?.matches("tr") ? place.querySelector("a[href^='#trial-']") : place;
  const address = link?.getAttribute("href") ?? null;
  if (address !== over) mark(address);
  const dot = event.target.closest("a.dot");
  tip.hidden = !dot;
  if (dot) show(dot, event);
});

function mark(address) {
  for (const one of document.querySelectorAll(".same")) one.classList.remove("same");
  over = address;
  if (!address) return;
  for (const one of document.querySelectorAll(`a[href="${address}"]`)) (one.closest("tr") ?? one).classList.add("same");
}

function show(dot, event) {
  const address = dot.getAttribute("href");
  if (!said.has(address)) {
    const network = document.getElementById(address.slice(1))?.querySelector(".network");
    const title = document.querySelector(`a.dot[href="${address}"] title`);
    said.set(address, [title, network].map(one => one?.textContent ?? "").join("\n"));
  }
  dot.querySelector("title")?.remove(); // else the browser shows it too
  tip.textContent = said.get(address);
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, innerWidth - width - 4))}px`;
  tip.style.top = `${event.clientY + 16 + height > innerHeight ? Math.max(4, event.clientY - height - 12) : event.clientY + 16}px`;
}
