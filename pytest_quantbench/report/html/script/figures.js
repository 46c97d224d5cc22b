// Every field of a record with its name, unit and number of items, by the table of labels; nothing is left out.

const LABELS = valuesIn("labels");
// Shown in sections of their own.
const WHOLE_SECTIONS = new Set(["verdicts", "integrity", "integrity_notes", "compression.kept", "compression.notes", "candidate.differences"]);

/** A field's place as the labels have it: what belongs to any text or any task stands there once. */
const general = (path) => path.replace(/^perplexities\.[^.]*(\.[^.]*)*$/, (all) => ["perplexity", ...all.split(".").slice(2)].join("."))
  .replace(/^accuracy\.tasks\.[^.]+/, "accuracy.tasks.*");

function nameOf(path, own) {
  if (LABELS.mappings.includes(general(path.slice(0, path.lastIndexOf("."))))) return own;
  return LABELS.names[general(path)] ?? own.replaceAll("_", " ");
}

function unitOf(path) {
  const place = general(path);
  if (place in LABELS.units_of) return LABELS.units_of[place];
  const ending = Object.keys(LABELS.units).find((each) => place.endsWith(each));
  return ending === undefined ? "" : LABELS.units[ending];
}

const isInterval = (value) => value !== null && typeof value === "object" && "estimate" in value && "low" in value;
const isGroup = (value) => value !== null && typeof value === "object" && !Array.isArray(value) && !isInterval(value);

/** A value as text. Shares become percent. */
function shown(path, value, currency = "") {
  const share = LABELS.shares.includes(general(path));
  const factor = share ? 100 : LABELS.milliseconds.some((each) => path.startsWith(each)) ? 1000 : 1;
  const text = (each) => (typeof each === "number" ? number(factor * each) : number(each));
  const told = unitOf(path);
  const unit = share ? "%" : factor === 1000 ? "ms" : told === "currency" ? currency : told;
  const withUnit = (figure) => (unit ? `${figure} ${unit}` : figure);
  if (value === null || value === "") return MISSING;
  if (isInterval(value)) {
    return `${withUnit(`${text(value.estimate)} [${text(value.low)},\u00a0${text(value.high)}]`)} (${number(100 * value.confidence)} %)`;
  }
  if (Array.isArray(value)) return value.length ? value.map((each) => (typeof each === "object" ? JSON.stringify(each) : String(each))).join(", ") : "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? withUnit(text(value)) : String(value);
}

/** Of how many items a part's figures are, in words; empty where no field says so. */
function itemsOf(path, part) {
  const found = LABELS.counts[general(path)];
  return found && part[found[0]] ? `${number(part[found[0]])} ${found[1]}` : "";
}

/** The rows of one part: a row for each plain field, then those of its own parts under a heading. */
function rowsOf(path, part) {
  const entries = Object.entries(part).map(([key, value]) => [key, value, path ? `${path}.${key}` : key])
    .filter(([, , place]) => !WHOLE_SECTIONS.has(place));
  const plain = entries.filter(([, value]) => !isGroup(value)).map(([key, value, place]) => element("tr", {},
    element("th", { scope: "row" }, nameOf(place, key)), element("td", {}, shown(place, value, part.currency))));
  const parts = entries.filter(([, value]) => isGroup(value)).flatMap(([key, value, place]) => groupOf(key, value, place));
  return [...plain, ...parts];
}

function groupOf(key, value, place) {
  const items = itemsOf(place, value);
  const entries = Object.entries(value);
  const percentiles = entries.length > 0 && entries.every(([each]) => /^[\d.]+$/.test(each));
  if (!entries.length) return [element("tr", {}, element("th", { scope: "row" }, nameOf(place, key)), element("td", {}, "none"))];
  const heading = element("tr", { class: "part" }, element("th", { colspan: "2", scope: "colgroup" }, nameOf(place, key), items && element("small", {}, ` ${items}`)));
  const rows = percentiles
    ? entries.map(([each, figure]) => element("tr", {}, element("th", { scope: "row" }, `${each} %`), element("td", {}, shown(place, figure))))
    : rowsOf(place, value);
  return [heading, ...rows];
}

/** Of a cost whose share of compressing is lost in rounding: that it is, and how much it is. */
function sharedCost({ per_million_tokens: alone, amortised_per_million_tokens: spread, compression, volume_tokens: volume, currency }) {
  if (!alone || !spread || !volume || number(alone.estimate) !== number(spread.estimate)) return null;
  return element("p", { class: "legend" }, `Compressing cost ${number(compression)} ${currency} once: over ${number(volume)} tokens that is ${number((1e6 * compression) / volume)} ${currency} per million, less than the last digit shown.`);
}

function section(path, part) {
  const items = itemsOf(path, part);
  return element("details", { open: true, class: "figures" },
    element("summary", {}, element("h3", {}, LABELS.parts[path] ?? nameOf(path, path)), items && element("small", {}, ` ${items}`)),
    element("table", { class: "facts" }, element("tbody", {}, rowsOf(path, part))), path === "cost" ? sharedCost(part) : null);
}

/** A part's name; of the noise floor, which only references have, with the way to it. */
function absentPart(key, packet) {
  const name = LABELS.absent[key] ?? LABELS.parts[key].toLowerCase();
  if (key !== "noise_floor" || !packet.reference) return name;
  return ["noise floor (", element("a", { href: `#cell=${encodeURIComponent(packet.reference)}` }, "it is the reference's"), ")"];
}

/** All figures of a record: a section for each of its parts, and which parts were not measured. */
function allFigures(record, packet) {
  const own = Object.fromEntries(Object.entries(record).filter(([key, value]) => !isGroup(value) && !(key in LABELS.parts) && !WHOLE_SECTIONS.has(key)));
  const parts = Object.entries(record).filter(([key, value]) => isGroup(value) && Object.keys(value).length && !WHOLE_SECTIONS.has(key));
  const absent = Object.entries(record).filter(([key, value]) => key in LABELS.parts && (value === null || (isGroup(value) && !Object.keys(value).length)));
  return [
    element("div", { class: "columns" }, parts.map(([key, part]) => section(key, part)), section("", own)),
    absent.length ? element("p", { class: "legend" }, "Not in this record: ", absent.map(([key], place) => [place ? "; " : "", absentPart(key, packet)]), ".") : null,
  ];
}
