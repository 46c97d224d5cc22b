// The table of cells: sorted, filtered, counted; its state stands in the page's address.

const listing = byId("table");
const body = listing.tBodies[0];
const headers = [...listing.tHead.rows[0].cells];
const lines = [...body.rows].map((row, place) => ({
  row, place, name: row.dataset.name, word: row.dataset.word, level: row.dataset.level, model: row.dataset.model,
  criteria: row.dataset.criteria.split(" "),
  text: [row.dataset.name, row.dataset.word, row.querySelector(".level").textContent].join(" ").toLowerCase(),
}));
const CONTROLS = { find: byId("find"), word: byId("by-word"), level: byId("by-level"), model: byId("by-model"), criteria: byId("by-criteria") };
const FILTERED = ["word", "level", "model", "criteria"];
const FIRST = window.matchMedia("(max-width: 700px)").matches ? 50 : 200; // rows that are shown before all are asked for
let all = lines.length <= FIRST;
let found = lines; // what the filters leave
let sorted = ""; // a column's name, with "-" behind it where the order falls; "": as the records come

/** What is shown, as it stands in the address behind "#". */
function listingState() {
  const state = new URLSearchParams();
  if (sorted) state.set("sort", sorted);
  for (const [name, control] of Object.entries(CONTROLS)) if (control.value) state.set(name, control.value);
  return state.toString();
}

/** Show what an address says. */
function restoreListing(state) {
  for (const [name, control] of Object.entries(CONTROLS)) control.value = state.get(name) ?? "";
  const column = (state.get("sort") ?? "").replace(/-$/, "");
  sorted = headers.some((header) => header.dataset.column === column) ? state.get("sort") : "";
  arrange();
  filter();
}

/** What a line is sorted by in a column: a number, a text, or null where the figure is missing. */
function keyOf(line, place, numeric) {
  const key = line.row.cells[place].dataset.key;
  return key === undefined ? null : numeric ? Number(key) : key;
}

/** Put the rows in order; what is missing comes last either way, and equals stay as they came. */
function arrange() {
  const falling = sorted.endsWith("-");
  const column = sorted.replace(/-$/, "");
  const place = headers.findIndex((header) => header.dataset.column === column);
  headers.forEach((header, each) => {
    if (each === place) header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    else header.removeAttribute("aria-sort");
  });
  byId("by-column").value = sorted;
  const numeric = place >= 0 && headers[place].classList.contains("number");
  const keys = new Map(lines.map((line) => [line, place < 0 ? line.place : keyOf(line, place, numeric)]));
  lines.sort((a, b) => {
    const [x, y] = [keys.get(a), keys.get(b)];
    if (x === null || y === null) return (x === null) - (y === null) || a.place - b.place;
    const order = typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true });
    return (falling ? -order : order) || a.place - b.place;
  });
  body.append(...lines.map((line) => line.row));
}

/** Hide the rows that the filters leave out, and say how many are left. */
function filter() {
  const words = CONTROLS.find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (line) => FILTERED.every((name) => !CONTROLS[name].value || [line[name]].flat().includes(CONTROLS[name].value));
  found = lines.filter((line) => fits(line) && words.every((each) => line.text.includes(each)));
  const shown = new Set(all ? found : found.slice(0, FIRST));
  for (const line of lines) line.row.hidden = !shown.has(line);
  byId("nothing").hidden = found.length > 0 || !lines.length;
  byId("more").hidden = shown.size === found.length;
  byId("more").textContent = `Show all ${number(found.length)}`;
  const of = found.length === lines.length ? "" : `, ${number(found.length)} found`;
  byId("shown").textContent = shown.size === lines.length ? `all ${number(lines.length)} shown` : `${number(shown.size)} of ${number(lines.length)} shown${shown.size < found.length ? of : ""}`;
  for (const button of document.querySelectorAll(".count")) {
    button.setAttribute("aria-pressed", String(button.dataset.word === CONTROLS.word.value));
  }
}

/** Keep the address true without a step in the history for each letter. */
function remember() {
  history.replaceState(null, "", `#${listingState()}`);
}

function sortBy(column) {
  sorted = column;
  arrange();
  filter();
  remember();
  if (listing.getBoundingClientRect().top < 0) listing.scrollIntoView({ block: "start" }); // what is sorted first is looked for
}

/** Keep the columns as wide as they are with all rows, so that they do not jump when rows are filtered. */
function fixWidths() {
  for (const header of headers) header.style.width = "";
  if (getComputedStyle(listing).display !== "table") return;
  const hidden = lines.filter((line) => line.row.hidden);
  for (const line of hidden.slice(0, FIRST)) line.row.hidden = false;
  const widths = headers.map((header) => header.getBoundingClientRect().width);
  for (const line of hidden) line.row.hidden = true;
  headers.forEach((header, place) => { header.style.width = `${widths[place]}px`; });
}

function clearFilters() {
  restoreListing(new URLSearchParams());
  remember();
}

function startListing() {
  byId("filters").hidden = false;
  for (const header of headers) {
    header.firstElementChild.addEventListener("click", () => {
      const column = header.dataset.column;
      sortBy(sorted === column ? `${column}-` : sorted === `${column}-` ? "" : column);
    });
  }
  byId("more").addEventListener("click", () => { all = true; filter(); });
  byId("by-column").addEventListener("change", (event) => sortBy(event.target.value));
  for (const control of Object.values(CONTROLS)) {
    control.addEventListener("input", () => { filter(); remember(); });
  }
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("reset", (event) => {
    event.preventDefault();
    clearFilters();
  });
  byId("clear").addEventListener("click", () => { clearFilters(); CONTROLS.find.focus(); });
  for (const button of document.querySelectorAll(".count")) {
    button.addEventListener("click", () => {
      CONTROLS.word.value = CONTROLS.word.value === button.dataset.word ? "" : button.dataset.word;
      filter();
      remember();
      byId("cells").scrollIntoView({ block: "start" });
    });
  }
  filter();
  fixWidths();
  window.addEventListener("resize", fixWidths);
}

/** The names of the cells before and behind one, in the order that is shown. */
function neighbours(name) {
  const shown = lines.filter((line) => found.includes(line) || line.name === name).map((line) => line.name);
  const place = shown.indexOf(name);
  return [shown[place - 1] ?? null, shown[place + 1] ?? null];
}
