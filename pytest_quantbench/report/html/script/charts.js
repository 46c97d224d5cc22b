// Charts: each is drawn of its specification when it comes into view, in the colours of the page.

const THEMES = valuesIn("themes");
const PANEL = 300; // pixels that a panel of a chart with several takes
const MOST_ROWS = 1000; // of a chart's table
const drawnCharts = new Map(); // figure → what draws it anew
let embedding = null;

/** Vega's own script, opened and run once. The page's policy knows it by its hash. */
function embedder() {
  embedding ??= opened(byId("vega").textContent).then((text) => {
    document.head.append(element("script", {}, text));
    return window.vegaEmbed;
  });
  return embedding;
}

async function specificationOf(figure) {
  const packed = document.querySelector(`script[data-specification="${figure.dataset.chart}"]`);
  return JSON.parse(await opened(packed.textContent));
}

/** `paper`: in light colours, whatever those of the page are. */
async function drawChart(figure, paper = false) {
  const [embed, specification] = await Promise.all([embedder(), specificationOf(figure)]);
  const theme = isDark() && !paper ? "dark" : "light";
  const place = figure.querySelector(".drawing");
  delete specification.title; // it stands above the chart
  if ("columns" in specification) specification.columns = Math.max(1, Math.floor(place.clientWidth / PANEL));
  const { finalize } = await embed(place, specification, { actions: false, ast: true, config: THEMES[theme], renderer: specification.usermeta?.renderer ?? "svg", tooltip: { theme: "custom" } });
  figure.dataset.drawn = theme;
  drawnCharts.set(figure, (onPaper) => { finalize(); return drawChart(figure, onPaper); });
  if (!figure.querySelector(".notes")) figure.querySelector(".as-table").before(notesOf(specification));
}

/** What a chart says of itself below it: what it leaves out, what its marks are. */
function notesOf(specification) {
  return element("p", { class: "legend notes" }, (specification.usermeta?.notes ?? []).join(" "));
}

/** The rows of all the data that a specification holds, in any of its parts; the same rows once. */
function rowsIn(specification) {
  const found = new Map();
  const visit = (part) => {
    if (part === null || typeof part !== "object") return;
    if (Array.isArray(part.data?.values)) found.set(JSON.stringify(part.data.values), part.data.values);
    for (const [name, each] of Object.entries(part)) if (name !== "data" && name !== "datasets") visit(each);
  };
  visit(specification);
  return [...Object.values(specification.datasets ?? {}), ...found.values()].filter((rows) => rows.length);
}

function asTables(specification) {
  const said = specification.usermeta?.table;
  if (said) return [table(said.columns, said.rows)];
  return rowsIn(specification).flatMap((rows) => {
    const titles = [...new Set(rows.flatMap(Object.keys))];
    const numeric = titles.map((title) => rows.every((row) => typeof (row[title] ?? 0) === "number"));
    const cell = (value) => (typeof value === "number" ? number(value) : value === null || value === undefined ? MISSING : String(value));
    const more = rows.length > MOST_ROWS ? element("p", { class: "legend" }, `The first ${number(MOST_ROWS)} of ${number(rows.length)} rows.`) : null;
    return [table(titles.map((title) => title.replaceAll("_", " ")), rows.slice(0, MOST_ROWS).map((row) => titles.map((title) => cell(row[title]))), numeric.flatMap((each, place) => (each ? [place] : []))), more].filter(Boolean);
  });
}

function startCharts() {
  const figures = [...document.querySelectorAll("figure.chart")];
  if (!figures.length) return;
  if (!OPENS) {
    for (const figure of figures) figure.querySelector(".drawing").replaceWith(element("p", { class: "notice" }, CANNOT_OPEN));
    return;
  }
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      watch.unobserve(target);
      drawChart(target);
    }
  }, { rootMargin: "300px" });
  for (const figure of figures) {
    watch.observe(figure);
    const details = figure.querySelector(".as-table");
    details.addEventListener("toggle", async () => {
      if (details.childElementCount === 1) details.append(...asTables(await specificationOf(figure)));
    });
  }
}

const redrawCharts = (onPaper = false) => Promise.all([...drawnCharts.values()].map((again) => again(onPaper)));

/** Every chart, drawn as it is printed; then the browser's own dialog, and after it the colours of the page again. */
async function printPage() {
  const waiting = OPENS && !byId("overview").hidden ? [...document.querySelectorAll("figure.chart:not([data-drawn])")] : [];
  await Promise.all(waiting.map((figure) => drawChart(figure, true)));
  if (isDark()) await redrawCharts(true);
  window.print();
  if (isDark()) await redrawCharts();
}
