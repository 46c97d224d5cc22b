// The page of one cell, made when it is opened.

const HOW_JUDGED = "The bar is the interval, the dot the estimate; the shaded side of the limit is the good one. An arrow: farther than the picture.";

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
  page.querySelector("h1").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function cellPage(name, packet) {
  const { record } = packet;
  const [before, behind] = neighbours(name);
  const step = (other, text, rel) => (other ? element("a", { href: `#cell=${encodeURIComponent(other)}`, rel }, text) : element("span", { class: "faint" }, text));
  const sections = [
    ["verdicts", "Verdicts", verdicts(record)],
    ...samplesSections(packet),
    ["coverage", "What was quantized, and what was not", coverage(record)],
    ["figures", "All figures", allFigures(record)],
    ["json", "The record itself", raw(record, packet.file)],
  ];
  return [
    element("nav", { class: "back", "aria-label": "Cells" }, element("a", { href: `#${listingState()}` }, "← all cells"),
      element("span", {}, step(before, "previous", "prev"), " · ", step(behind, "next", "next"))),
    element("h1", { tabindex: "-1" }, record.model_id, " ", element("span", { class: "recipe" }, record.recipe)),
    element("p", { class: "answer" }, word(packet.outcome, packet.word)),
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
    speed && ["rate", `${number(speed.mean_tps, 3)} tokens/s`],
    text && text.ppl !== null && ["perplexity", `${text.ppl.toFixed(3)}${text.bf16_ppl === null ? "" : ` against ${text.bf16_ppl.toFixed(3)}`}`],
    ...Object.entries(answers?.tasks ?? {}).map(([name, task]) => [name, percent(task.accuracy)]),
    weights?.worst_tensor && ["worst matrix", `${weights.worst_tensor.replace(/^model\.|\.weight$/g, "")}, ${number(weights.worst_snr_db, 3)} dB`],
    record.cost && ["per million tokens", shown("cost.per_million_tokens", record.cost.per_million_tokens).replace(/ \(.*/, ` ${record.cost.currency}`)],
  ].filter(Boolean);
  return element("dl", { class: "key" }, rows.map(([title, value]) => element("div", {}, element("dt", {}, title), element("dd", {}, value))));
}

function verdicts(record) {
  if (!record.verdicts.length) return absent("No criterion was judged here: this is what others are compared with, or nothing that has a limit was measured.");
  return [element("div", { class: "beside" }, record.verdicts.map(verdict)), element("p", { class: "legend" }, HOW_JUDGED)];
}

function verdict(found) {
  const metric = LABELS.metrics[found.metric] ?? { label: found.metric, better: "lower", unit: "" };
  const title = found.of ? `${metric.label}, ${found.of}` : metric.label;
  const told = (each) => `${number(each.estimate)} [${number(each.low)}, ${number(each.high)}] ${metric.unit}`;
  const drawn = intervals([{ ...found, told: told(found) }], found.limit, metric.better, `${title}: ${told(found)}, limit ${number(found.limit)}`);
  const more = [
    ["p of good", found.p_good], ["p of bad", found.p_bad], ["p of better than the reference", found.p_better],
    ["can tell, from the limit", found.detectable], ["this cell", found.value], ["reference", found.reference_value],
    [metric.items ?? "items", found.items], ["confidence of the interval", found.confidence],
  ].filter(([, value]) => value !== null && value !== undefined);
  const share = (name) => name.startsWith("confidence") || (metric.unit === "points" && ["this cell", "reference"].includes(name));
  return element("article", { class: "judged" },
    element("h3", {}, word(found.outcome), " ", title, found.given ? element("small", {}, " by a limit that a test gave") : null),
    element("p", {}, found.sentence),
    found.needed ? element("p", { class: "settle" }, element("b", {}, "What would settle it: "), found.needed, ".") : null,
    found.not_judged ? element("p", {}, element("b", {}, "Not judged: "), found.not_judged, ".") : null,
    drawn,
    element("dl", { class: "small" }, more.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, share(name) ? percent(value) : number(value))))),
    looks(found, metric, title),
    found.baseline?.length ? element("div", {}, element("h4", {}, "Since the baseline"),
      element("ul", {}, found.baseline.map((each) => element("li", {}, element("b", {}, `${each.word}: `), each.sentence)))) : null);
}

/** The looks of a sequential check: each one's interval under the other. */
function looks(found, metric, title) {
  if (found.looks.length < 2) return null;
  const rows = found.looks.map((look, place) => [number(place + 1), number(look.items), percent(look.fraction), number(look.alpha, 2),
    number(look.estimate), look.low === null ? "too early to say" : `[${number(look.low)}, ${number(look.high)}]`, word(look.outcome)]);
  return element("details", {}, element("summary", {}, `${found.looks.length} looks`),
    intervals(found.looks.map((look) => ({ ...look, told: `${number(look.items)} ${metric.items}: ${number(look.estimate)}` })), found.limit, metric.better,
      `${title}: the intervals of ${found.looks.length} looks, the first on top`),
    table(["look", metric.items ?? "items", "of the plan", "error spent", "estimate", "interval", "said"], rows, [0, 1, 2, 3, 4, 5]));
}

/** Tensors that were kept or encoded otherwise, by their reason; what is wrong with the weights; how a candidate differs. */
function coverage(record) {
  const size = record.compression;
  const grouped = (notes) => Object.entries(byNote(notes));
  const list = (title, notes) => element("details", {}, element("summary", {}, `${title}: ${counted(Object.keys(notes).length, "tensor")}`),
    grouped(notes).map(([note, named]) => element("div", { class: "noted" }, element("p", {}, element("b", {}, `${note} `), `(${number(named.length)})`),
      element("p", { class: "names" }, named.map(([each]) => each).join(", ")))));
  const findings = record.integrity === null ? "The decoded weights were not compared with the source's."
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
