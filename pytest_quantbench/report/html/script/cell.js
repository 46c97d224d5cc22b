// The page of one cell, made when it is opened.

const HOW_JUDGED = "The bar is the interval, the dot the estimate; the shaded side of the limit is the good one. An arrow: farther than the picture, or no end is known.";

async function showCell(name) {
  const page = byId("cell");
  const packed = [...document.querySelectorAll("script[data-packet]")].find((each) => each.dataset.packet === name);
  page.replaceChildren(element("p", { class: "back" }, element("a", { href: `#${listingState()}` }, "← all cells")));
  byId("overview").hidden = true;
  page.hidden = false;
  document.title = `${name} – Quantization benchmark`;
  if (!packed || !OPENS) {
    page.append(element("h1", {}, name), element("p", { class: "notice" }, packed ? CANNOT_OPEN : "There is no such cell in this report."));
    return;
  }
  const packet = JSON.parse(await opened(packed.textContent));
  if (page.hidden || currentCell() !== name) return; // left again in the meantime
  page.replaceChildren(...cellPage(name, packet));
  const worst = page.querySelector("[data-worst]"); // into view where its table is wider than the window
  if (worst) worst.closest(".box").scrollLeft = worst.offsetLeft - worst.closest(".box").clientWidth / 2;
  page.querySelector("h1").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function cellPage(name, packet) {
  const { record } = packet;
  const [before, behind] = neighbours(name);
  const step = (other, text, rel) => (other ? element("a", { href: `#cell=${encodeURIComponent(other)}`, rel }, text) : element("span", { class: "faint" }, text));
  const sections = [
    ["verdicts", "Verdicts", verdicts(record, packet)],
    ...samplesSections(packet),
    ["coverage", "What was quantized, and what was not", coverage(record)],
    ["figures", "All figures", allFigures(record, packet)],
    ["json", "The record itself", raw(record, packet.file)],
  ];
  return [
    element("nav", { class: "back", "aria-label": "Cells" }, element("a", { href: `#${listingState()}` }, "← all cells"),
      element("span", {}, step(before, "previous", "prev"), " · ", step(behind, "next", "next"))),
    element("h1", { tabindex: "-1" }, record.model_id, " ", element("span", { class: "recipe" }, record.recipe)),
    element("p", { class: "answer" }, word(packet.outcome, packet.word), packet.judged ? element("small", {}, ` by ${packet.judged}`) : null),
    element("p", { class: "answer" }, packet.sentence || "What the other cells of this model are compared with."),
    packet.settled_by ? element("p", { class: "settle" }, element("b", {}, "What would settle it: "), `${packet.settled_by}.`) : null,
    facts(record, packet),
    element("nav", { class: "within", "aria-label": "On this page" }, sections.map(([id, title]) => element("a", {
      href: `#cell=${encodeURIComponent(name)}`,
      onclick: (event) => { event.preventDefault(); const there = byId(`at-${id}`); there.scrollIntoView(); there.focus({ preventScroll: true }); },
    }, title))),
    ...sections.map(([id, title, content]) => element("section", {}, element("h2", { id: `at-${id}`, tabindex: "-1" }, title), content)),
  ].filter(Boolean);
}

/** The few figures that are asked for first. */
function facts(record, packet) {
  const { compression: size, throughput: speed, perplexity: text, accuracy: answers, weights } = record;
  const rows = [
    ["method", packet.method],
    size && ["bits per weight", number(size.bits_per_weight, 3)],
    size && ["size", `${number(size.compressed_gb, 3)} GB of ${number(size.original_gb, 3)}`],
    speed && ["rate", `${number(speed.mean_tps, 3)} tokens/s${speed.bound_share === null ? "" : `, ${number(100 * speed.bound_share, 2)} % of the memory's bandwidth`}`],
    speed?.gap_sec["99"] && speed.gap_sec["50"] && ["slowest 1 % of gaps between tokens", `${slowest(speed.gap_sec)} × the median, ${number(1000 * speed.gap_sec["99"].estimate, 3)} ms`],
    text && text.ppl !== null && [`perplexity, all ${number(text.tokens)} tokens`, `${text.ppl.toFixed(3)}${text.bf16_ppl === null ? "" : ` against ${text.bf16_ppl.toFixed(3)}`}`],
    ...Object.entries(answers?.tasks ?? {}).map(([name, task]) => [`${name}, all ${counted(task.questions, "question")}`, `${percent(task.accuracy)}${task.bf16_accuracy === null ? "" : ` against ${percent(task.bf16_accuracy)}`}`]),
    weights?.worst_tensor && ["worst matrix", `${weights.worst_tensor.replace(/^model\.|\.weight$/g, "")}, ${number(weights.worst_snr_db, 3)} dB`],
    record.cost?.per_million_tokens && ["per million tokens", money(record.cost)],
  ].filter(Boolean);
  return element("dl", { class: "key" }, rows.map(([title, value]) => element("div", {}, element("dt", {}, title), element("dd", {}, value))));
}

function money({ per_million_tokens: found, currency }) {
  const [middle, low, high] = [found.estimate, found.low, found.high].map((each) => number(each, 3));
  return `${middle} [${low},\u00a0${high}] ${currency}`;
}

/** How many times the median the gap is that 99 % of all stay below. */
const slowest = (gaps) => number(gaps["99"].estimate / gaps["50"].estimate, 3);

function verdicts(record, packet) {
  if (!record.verdicts.length) return absent("No criterion was judged here: this is what others are compared with, or nothing that has a limit was measured.");
  return [element("div", { class: "beside" }, record.verdicts.map((each, place) => verdict(each, packet.told[place]))), element("p", { class: "legend" }, HOW_JUDGED)];
}

/** `said`: the sentences on it, as they are shown. */
function verdict(found, said) {
  const metric = LABELS.metrics[found.metric] ?? { label: found.metric, better: "lower", unit: "" };
  const title = found.of ? `${metric.label}, ${found.of}` : metric.label;
  const told = (each) => `${number(each.estimate)} [${number(each.low)}, ${number(each.high)}] ${metric.unit}`;
  const drawn = intervals([{ ...found, told: told(found) }], found.limit, metric.better, `${title}: ${told(found)}, limit ${number(found.limit)}`);
  return element("article", { class: "judged" },
    element("h3", {}, word(found.outcome), " ", title, found.given ? element("small", {}, " by a limit that a test gave") : null),
    element("p", {}, said.sentence),
    found.needed ? element("p", { class: "settle" }, element("b", {}, "What would settle it: "), said.needed, ".") : null,
    found.not_judged ? element("p", {}, element("b", {}, "Not judged: "), found.not_judged, ".") : null,
    drawn,
    said.alone ? element("p", { class: "sure" }, element("b", {}, "How sure: "), [said.alone, said.together].filter(Boolean).join(" ")) : null,
    said.whole ? element("p", { class: "sure" }, said.whole) : null,
    behind(found, metric),
    looks(found, metric, title),
    found.baseline?.length ? element("div", {}, element("h4", {}, "Since the baseline"),
      element("ul", {}, found.baseline.map((each) => element("li", {}, element("b", {}, `${each.word}: `), each.sentence)))) : null);
}

/** The numbers that a verdict comes from, folded; nothing where there are none. */
function behind(found, metric) {
  const asPercent = metric.unit === "points" ? percent : number;
  const unit = metric.unit ? ` ${metric.unit}` : "";
  if (found.low === found.high) return null; // counted, or without an interval
  const rows = [
    ["this cell", found.value, asPercent], ["reference", found.reference_value, asPercent], [metric.items, found.items, number],
    ["confidence of the interval, both sides", found.confidence, percent],
    ["smallest distance from the limit that these tell in four of five cases", found.detectable, (value) => `${number(value)}${unit}`],
    ["p against “on the bad side of the limit”", found.p_good, number],
    ["p against “on the good side of the limit”", found.p_bad, number],
    ["p against “no better than the reference”", found.p_better, number],
  ].filter(([, value]) => value !== null && value !== undefined);
  return rows.length ? element("details", {}, element("summary", {}, "The numbers behind it"),
    element("table", { class: "facts" }, element("tbody", {}, rows.map(([name, value, shownAs]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, shownAs(value))))))) : null;
}

/** The looks of a sequential check: each one's interval under the other. */
function looks(found, metric, title) {
  if (found.looks.length < 2) return null;
  const rows = found.looks.map((look) => [[number(look.items), element("small", { class: "under" }, `${number(100 * look.fraction, 3)} % of the plan`)], number(look.alpha, 2),
    [number(look.estimate, 3), element("small", { class: "under" }, look.low === null ? "too early to say" : `[${number(look.low, 3)}, ${number(look.high, 3)}]`)], word(look.outcome)]);
  return element("details", {}, element("summary", {}, `${found.looks.length} looks`),
    intervals(found.looks.map((look) => ({ ...look, told: `${number(look.items)} ${metric.items}: ${number(look.estimate)}` })), found.limit, metric.better,
      `${title}: the intervals of ${found.looks.length} looks, the first on top`),
    table([metric.items ?? "items", "error spent", "estimate", "said"], rows, [0, 1, 2]));
}

/** Tensors that were kept or encoded otherwise, by their reason; what is wrong with the weights; how a candidate differs. */
function coverage(record) {
  const size = record.compression;
  const grouped = (notes) => Object.entries(byNote(notes));
  const list = (title, notes) => element("details", {}, element("summary", {}, `${title}: ${counted(Object.keys(notes).length, "tensor")}`),
    grouped(notes).map(([note, named]) => element("div", { class: "noted" }, element("p", {}, element("b", {}, `${note} `), `(${number(named.length)})`),
      element("p", { class: "names" }, named.map(([each]) => each).join(", ")))));
  const findings = record.integrity === null ? "Whether the decoded weights are the source's at all, and not another model's or another layer's, was not checked."
    : record.integrity.length ? null : "The decoded weights are the source's, but for rounding.";
  return [
    size ? element("p", {}, `${percent(size.quantized_fraction)} of the parameters quantized; ${number(size.bits_per_weight)} bits per weight, counted from the stored bytes.`) : absent()[0],
    findings ? element("p", {}, findings) : element("ul", { class: "findings" }, record.integrity.map((each) => element("li", {}, each))),
    record.integrity_notes.length ? element("ul", {}, record.integrity_notes.map((each) => element("li", {}, each))) : null,
    size && Object.keys(size.kept).length ? list("Kept as they were", size.kept) : null,
    size && Object.keys(size.notes).length ? list("Encoded otherwise than the recipe says", size.notes) : null,
    record.candidate?.differences.length ? table(["differs in", "candidate", "reference"], record.candidate.differences.map((each) => [each.what, each.candidate, each.reference])) : null,
  ];
}

/** Entries of a map by what they map to. */
function byNote(notes) {
  const found = {};
  for (const entry of Object.entries(notes)) (found[entry[1]] ??= []).push(entry);
  return found;
}

function raw(record, file) {
  const text = JSON.stringify(record, null, 2);
  const said = element("output", { "aria-live": "polite" });
  return [
    element("p", {},
      element("button", { type: "button", onclick: () => download(`${file}.json`, text, "application/json") }, "Save as JSON"), " ",
      element("button", { type: "button", onclick: async () => { said.textContent = (await copied(text)) ? "copied" : "this browser lets no page copy: select the text below"; } }, "Copy"), " ", said),
    element("details", {}, element("summary", {}, "Show the JSON"), element("pre", { class: "json", tabindex: "0" }, text)),
  ];
}

const copied = (text) => (navigator.clipboard ? navigator.clipboard.writeText(text).then(() => true, () => false) : Promise.resolve(false));
