// Small pictures of a cell's page, drawn of the figures beside them: an interval against its limit, histograms, a heat map.

/** How wide a picture is drawn, so that its letters stay as large as those around it. */
const wide = () => Math.max(240, Math.min(560, byId("cell").clientWidth - 8));

/** A number's place on a line from `low` to `high`, drawn from `left` to `right`. */
const scale = (low, high, left, right) => (value) => left + ((value - low) / (high - low || 1)) * (right - left);

/** Round values between two ends, about so many. */
function ticks(low, high, about = 5) {
  const rough = (high - low || 1) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step); tick * step <= high + step * 1e-9; tick += 1) found.push(Number((tick * step).toPrecision(12)));
  return found;
}

function axis(low, high, place, top) {
  const about = Math.max(2, Math.round((place(high) - place(low)) / 90));
  return ticks(low, high, about).map((value) => shape("g", { class: "tick" },
    shape("line", { x1: place(value), x2: place(value), y1: top, y2: top + 5 }),
    shape("text", { x: place(value), y: top + 18, "text-anchor": "middle" }, number(value))));
}

/**
 * Which values a picture of intervals spans: the limit, all of the last interval, every estimate; of earlier intervals
 * so much that the last one stays at least a third of the picture.
 */
function span(intervals, limit) {
  const last = intervals.at(-1);
  const core = [limit, last.low, last.high, ...intervals.map((each) => each.estimate)].filter(Number.isFinite);
  const room = Math.max(...core) - Math.min(...core);
  const [least, most] = [Math.min(...core) - room, Math.max(...core) + room];
  const known = intervals.flatMap((each) => [each.low, each.high]).filter(Number.isFinite);
  const shown = [...core, ...known.map((value) => Math.min(most, Math.max(least, value)))];
  const [low, high] = [Math.min(...shown), Math.max(...shown)];
  const margin = (high - low || Math.abs(high) || 1) * 0.12;
  return [low - margin, high + margin];
}

/**
 * Intervals under each other, each against the limit, the good side shaded. Ends that are unknown or far away leave
 * the picture with an arrow. `better`: on which side of the limit a model is good.
 */
function intervals(found, limit, better, told) {
  if (!found.some((each) => Number.isFinite(each.estimate)) && !Number.isFinite(limit)) return null;
  const shown = found.filter((each) => Number.isFinite(each.estimate));
  if (!shown.length) return null;
  const [low, high] = span(shown, limit);
  const width = wide();
  const [left, right, row] = [12, width - 12, 26];
  const place = scale(low, high, left, right);
  const bottom = 24 + row * shown.length;
  const parts = [];
  if (Number.isFinite(limit)) {
    const [from, to] = better === "higher" ? [place(limit), right] : [left, place(limit)];
    parts.push(shape("rect", { class: "good", x: from, y: 18, width: Math.max(0, to - from), height: bottom - 18 }));
    parts.push(shape("line", { class: "limit", x1: place(limit), x2: place(limit), y1: 14, y2: bottom }));
    const end = place(limit) > width / 2 ? "end" : "start";
    parts.push(shape("text", { class: "limit-word", x: place(limit) + (end === "end" ? 4 : -4), y: 11, "text-anchor": end }, `limit ${number(limit)}`));
  }
  shown.forEach((each, line) => parts.push(bar(each, 18 + row * (line + 0.5), place, left, right)));
  return shape("svg", { class: "intervals", viewBox: `0 0 ${width} ${bottom + 24}`, width, role: "img", "aria-label": told },
    parts, shape("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }), axis(low, high, place, bottom));
}

function bar(each, y, place, left, right) {
  const ends = [each.low, each.high].map((value, side) => (Number.isFinite(value) ? place(value) : side ? right + 1 : left - 1));
  const [from, to] = [Math.max(left, ends[0]), Math.min(right, ends[1])];
  const arrow = (x, way) => shape("path", { class: "beyond", d: `M${x} ${y - 5} L${x + 7 * way} ${y} L${x} ${y + 5} Z` });
  return shape("g", { class: `interval ${each.outcome ?? ""}` },
    shape("title", {}, each.told ?? ""),
    shape("line", { class: "range", x1: from, x2: to, y1: y, y2: y }),
    ends[0] < left ? arrow(left + 2, -1) : shape("line", { class: "end", x1: from, x2: from, y1: y - 6, y2: y + 6 }),
    ends[1] > right ? arrow(right - 2, 1) : shape("line", { class: "end", x1: to, x2: to, y1: y - 6, y2: y + 6 }),
    shape("circle", { cx: place(each.estimate), cy: y, r: 4.5 }));
}

/** A histogram as it was counted, with what lies beyond its ends in words. `mark`: a value with a line of its own. */
function histogram(found, title, unit, mark = null) {
  const { counts, low, high } = found;
  const all = counts.reduce((sum, count) => sum + count, 0) + found.below + found.above;
  const whole = wide();
  const [left, right, top, bottom] = [44, whole - 10, 12, 150];
  const place = scale(low, high, left, right);
  const tallest = Math.max(...counts);
  const height = scale(0, tallest, 0, bottom - top);
  const width = (right - left) / counts.length;
  const bars = counts.map((count, each) => shape("rect", {
    class: "bar", x: left + each * width + 0.5, y: bottom - height(count), width: Math.max(0.5, width - 1), height: height(count),
  }, shape("title", {}, `${counted(count, "value")} from ${number(low + ((high - low) * each) / counts.length)} to ${number(low + ((high - low) * (each + 1)) / counts.length)}`)));
  const marked = mark !== null && mark >= low && mark <= high
    ? shape("line", { class: "limit", x1: place(mark), x2: place(mark), y1: top, y2: bottom }) : null;
  const told = `${title}: ${counted(all, "value")}, median ${number(found.median)}, from ${number(found.least)} to ${number(found.most)} ${unit}.`;
  const tails = [found.below && `${number(found.below)} smallest`, found.above && `${number(found.above)} largest`].filter(Boolean);
  const beyond = tails.length ? ` The ${tails.join(" and ")} are beyond the picture.` : "";
  const broken = found.not_numbers ? ` ${counted(found.not_numbers, "value is no number", "values are no numbers")}.` : "";
  return element("figure", { class: "drawn" },
    element("figcaption", {}, element("h4", {}, title), element("p", {}, told.slice(title.length + 2), beyond, broken)),
    shape("svg", { viewBox: `0 0 ${whole} ${bottom + 40}`, width: whole, role: "img", "aria-label": told }, bars, marked,
      shape("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }), axis(low, high, place, bottom),
      ticks(0, tallest, 3).map((value) => shape("text", { x: left - 6, y: bottom - height(value) + 4, "text-anchor": "end" }, number(value))),
      shape("text", { class: "unit", x: right, y: bottom + 36, "text-anchor": "end" }, unit)));
}
