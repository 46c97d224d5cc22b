// What is shown: the overview, or the page of the cell that the address names. Light or dark, keys.

const dark = window.matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
const state = () => new URLSearchParams(window.location.hash.slice(1));
const currentCell = () => state().get("cell");
let placeInList = 0; // how far the overview was scrolled when a cell was opened

function route() {
  const name = currentCell();
  if (name !== null) {
    if (!byId("overview").hidden) placeInList = window.scrollY;
    return showCell(name);
  }
  const returned = byId("overview").hidden;
  byId("cell").hidden = true;
  byId("overview").hidden = false;
  document.title = "Quantization benchmark";
  if (/^[^=]+$/.test(window.location.hash.slice(1))) return undefined; // a place on this page
  if (state().toString() !== listingState()) restoreListing(state());
  if (returned) window.scrollTo(0, placeInList);
  return undefined;
}

function startTheme() {
  const button = byId("theme");
  const name = () => { button.textContent = isDark() ? "Light" : "Dark"; button.setAttribute("aria-label", `Use ${button.textContent.toLowerCase()} colours`); };
  button.hidden = false;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    name();
    redrawCharts();
  });
  dark.addEventListener("change", () => { name(); redrawCharts(); });
  name();
}

/** The button, and the keys that browsers print by, so that charts are drawn before. */
function startPrinting() {
  byId("print").hidden = false;
  byId("print").addEventListener("click", printPage);
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "p" || event.shiftKey || event.altKey || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    printPage();
  });
}

/** Escape leaves a cell's page, arrows step to its neighbours, "/" goes to the filter. */
function onKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea, .box, pre")) return;
  const name = currentCell();
  if (event.key === "/" && name === null) {
    event.preventDefault();
    byId("find").focus();
  }
  if (name === null) return;
  if (event.key === "Escape") window.location.hash = listingState();
  const other = { ArrowLeft: 0, ArrowRight: 1 }[event.key];
  const next = other === undefined ? null : neighbours(name)[other];
  if (next) window.location.hash = `cell=${encodeURIComponent(next)}`;
}

startTheme();
startPrinting();
startListing();
window.addEventListener("hashchange", route);
document.addEventListener("keydown", onKey);
document.addEventListener("DOMContentLoaded", () => { startCharts(); route(); });
