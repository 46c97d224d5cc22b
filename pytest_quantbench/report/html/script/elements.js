// Elements, numbers as text, and what is packed in the page: what the other files are made of.
// Texts are only ever set as text, never as HTML: names and outputs come from other people's models.

const MISSING = "–";
const MARKS = { pass: "✓", fail: "✗", undecided: "?", anomalous: "!", informational: "·", reference: "=" };
const WORDS = { informational: "not judged", anomalous: "better than its original" }; // where the outcome's own name says less
const byId = (id) => document.getElementById(id);
const valuesIn = (id) => JSON.parse(byId(id).textContent);

/** An HTML element with attributes (`on…` listens) and children: elements, texts, or nothing. */
function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same of SVG. */
function shape(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

/** A number for reading: whole ones with thousands separated, others with so many digits that count. */
function number(value, digits = 4) {
  if (value === null || value === undefined) return MISSING;
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en-US").replace("-", "−");
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e9) return powerOfTen(value, digits);
  return value.toLocaleString("en-US", { maximumSignificantDigits: size >= 1000 ? 6 : digits }).replace("-", "−");
}

/** `7.25·10⁻⁶`. */
function powerOfTen(value, digits) {
  const [shown, power] = value.toExponential(digits - 2).split("e");
  return `${shown.replace("-", "−")}·10${[...power.replace("+", "")].map((sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign])).join("")}`;
}

/** A share as percent. */
const percent = (share) => (share === null || share === undefined ? MISSING : `${number(100 * share, 4)} %`);
const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** The text that was packed as gzip in base64. Throws where the browser cannot open it. */
async function opened(packed) {
  const bytes = Uint8Array.from(atob(packed.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

const OPENS = typeof DecompressionStream === "function";
const CANNOT_OPEN =
  "This browser cannot open what is packed in this page (it lacks DecompressionStream). Chrome from 80, Firefox from 113 and Safari from 16.4 on can.";

/** Offer a text as a file. */
function download(name, text, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** A verdict's mark with its word, which is never told by colour alone. */
function word(outcome, said = WORDS[outcome] ?? outcome) {
  return element("span", { class: `word ${outcome}` }, element("span", { "aria-hidden": "true" }, MARKS[outcome] ?? "·"), ` ${said}`);
}

/** A table: titles, and rows of texts or elements; `numbers`: the places of columns that hold numbers. */
function table(titles, rows, numbers = [], attributes = {}) {
  const right = (place) => (numbers.includes(place) ? { class: "number" } : {});
  return element("div", { class: "box", tabindex: "0" },
    element("table", { class: "plain", ...attributes },
      element("thead", {}, element("tr", {}, titles.map((title, place) => element("th", { scope: "col", ...right(place) }, title)))),
      element("tbody", {}, rows.map((row) => element("tr", {}, row.map((cell, place) => element("td", right(place), cell)))))));
}
