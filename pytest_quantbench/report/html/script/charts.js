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
  // Of an address with nothing behind its # Vega makes references that lead nowhere: a legend without colours.
  if (window.location.href.endsWith("#")) history.replaceState(null, "", window.location.href.slice(0, -1));
  if ("columns" in specification) specification.columns = Math.max(1, Math.floor(place.clientWidth / PANEL));
  const { finalize } = await embed(place, specification, { actions: false, ast: true, config: THEMES[theme], renderer: "svg", tooltip: { theme: "custom" } });
  if (!("drawn" in figure.dataset)) figure.querySelector("figcaption").append(...specification.usermeta.notes.map((note) => element("p", { class: "note" }, note)));
  figure.dataset.drawn = theme;
  drawnCharts.set(figure, (onPaper) => { finalize(); return drawChart(figure, onPaper); });
}

/** What a specification tells as a table: texts, of which those that are numbers stand on the right. */
function asTables({ usermeta: { table: { columns, rows } } }) {
  const shown = rows.slice(0, MOST_ROWS);
  const numeric = columns.flatMap((_, place) => (place > 1 && rows.every((row) => /^[-+−\d]|^$/u.test(row[place])) ? [place] : []));
  const cells = shown.map((row) => row.map((text) => text || MISSING));
  const more = rows.length > MOST_ROWS ? element("p", { class: "legend" }, `The first ${number(MOST_ROWS)} of ${number(rows.length)} rows.`) : null;
  return [table(columns, cells, numeric), more].filter(Boolean);
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
