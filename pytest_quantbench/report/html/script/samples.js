// The raw samples of a cell: losses, times, runs, matrices, what it wrote, the questions it lost and won.

const NOT_KEPT = "Not kept in this record.";
const SHOWN_MATRICES = 12;
const MOST_KINDS = 24; // columns of the heat map

function samplesSections(packet) {
  const found = packet.samples;
  const tasks = Object.entries(found.tasks ?? {});
  return [
    ["questions", "Questions it lost and won", tasks.length ? tasks.map(([name, task]) => questions(name, task)) : absent()],
    ["texts", "What it wrote", found.texts ? found.texts.map(written) : absent()],
    ["raw", "Raw samples", rawSamples(found, packet)],
    ["weights", "Weights, matrix by matrix", found.matrices ? matrices(found.matrices) : absent()],
  ];
}

const absent = (why = NOT_KEPT) => [element("p", { class: "notice" }, why)];

function rawSamples(found, packet) {
  const drawn = [
    found.loss_differences && histogram(found.loss_differences, "Loss of each token, minus the reference's", "nats", 0),
    found.divergences && histogram(found.divergences, "KL divergence of each token from the reference", "nats"),
    found.gaps && histogram(found.gaps, "Time from one token to the next", "ms"),
    found.runs && runs(found.runs),
  ].filter(Boolean);
  const where = packet.has_arrays ? element("p", { class: "legend" }, "Counted for this page in bins; the samples themselves are in ",
    element("code", {}, `${packet.file}.npz`), " beside the record.") : null;
  return drawn.length ? [element("div", { class: "beside" }, drawn), where] : absent();
}

/** Every run of T1, by prompt: its rate, beside the reference's where they were interleaved. */
function runs(found) {
  const told = (prompts, rates, prompt) => prompts.map((each, place) => (each === prompt ? number(rates[place]) : null)).filter(Boolean).join(", ");
  const prompts = [...new Set(found.prompt)];
  const paired = found.reference_prompt.length > 0;
  const titles = ["prompt", "tokens/s of each run", ...(paired ? ["reference's tokens/s"] : []), "time to first token, s"];
  return element("figure", { class: "drawn" },
    element("figcaption", {}, element("h4", {}, "Rate of each run"), element("p", {}, `${counted(found.prompt.length, "run")} of ${counted(prompts.length, "prompt")}.`)),
    table(titles, prompts.map((prompt) => [number(prompt + 1), told(found.prompt, found.tokens_per_second, prompt),
      ...(paired ? [told(found.reference_prompt, found.reference_tokens_per_second, prompt)] : []),
      told(found.prompt, found.first_token_seconds, prompt) || MISSING])));
}

function matrices(found) {
  const short = (name) => name.replace(/^model\./, "").replace(/\.weight$/, "");
  const order = found.names.map((_, place) => place).filter((place) => found.snr_db[place] !== null).sort((a, b) => found.snr_db[a] - found.snr_db[b]);
  const rows = order.slice(0, SHOWN_MATRICES).map((place) => [short(found.names[place]), number(found.snr_db[place]),
    found.cosine ? number(found.cosine[place], 6) : MISSING, found.bits_per_weight ? number(found.bits_per_weight[place]) : MISSING, found.quantizer?.[place] ?? MISSING]);
  return [
    element("h3", {}, `The worst ${rows.length} of ${number(found.names.length)} matrices`),
    table(["matrix", "SNR, dB", "cosine", "bits per weight", "method"], rows, [1, 2, 3]),
    heatMap(found, short),
  ];
}

/** Layers × matrices, each with its SNR as a number and a shade: the stronger, the worse. */
function heatMap(found, short) {
  const cells = new Map();
  const [kinds, layers] = [new Set(), new Set()];
  found.names.forEach((name, place) => {
    const parts = short(name).match(/^(.*?)(\d+)\.(.*)$/);
    if (!parts) return;
    const [, , layer, kind] = parts;
    kinds.add(kind);
    layers.add(Number(layer));
    cells.set(`${layer} ${kind}`, found.snr_db[place]);
  });
  if (!layers.size || kinds.size > MOST_KINDS) return null;
  const known = [...cells.values()].filter((value) => value !== null);
  const shade = scale(Math.min(...known), Math.max(...known), 6, 0);
  return element("figure", {},
    element("figcaption", {}, element("h3", {}, "SNR in dB, layer by layer"), element("p", {}, `The stronger the shade, the farther from the original. The worst, ${number(Math.min(...known))} dB, is framed.`)),
    element("div", { class: "box", tabindex: "0" }, element("table", { class: "heat" },
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "layer"), [...kinds].map((kind) => element("th", { scope: "col" }, kind.split(".").at(-1))))),
      element("tbody", {}, [...layers].sort((a, b) => a - b).map((layer) => element("tr", {}, element("th", { scope: "row" }, layer),
        [...kinds].map((kind) => {
          const value = cells.get(`${layer} ${kind}`);
          return element("td", typeof value === "number" ? { class: `shade-${Math.round(shade(value))}`, "data-worst": value === Math.min(...known) } : {}, typeof value === "number" ? value.toFixed(1) : MISSING);
        })))))));
}

/** What was written, without the empty lines that it begins with. */
const begun = (text) => text.replace(/^(\s*\n)+/, "") || "(nothing)";

function written({ prompt, text, reference }) {
  return element("article", { class: "written" }, element("h3", {}, prompt),
    element("div", { class: "beside" },
      element("div", {}, element("h4", {}, "This cell"), element("blockquote", {}, begun(text))),
      element("div", {}, element("h4", {}, "The reference"), element("blockquote", {}, reference === null ? NOT_KEPT : begun(reference)))));
}

function questions(name, task) {
  const right = `${number(task.right)} of ${counted(task.asked, "question")} right`;
  if (task.compared === undefined) return element("section", {}, element("h3", {}, name), element("p", {}, `${right}; the reference's answers are not here to be compared with.`));
  return element("section", {}, element("h3", {}, name),
    element("p", {}, `${right}. Of the ${number(task.compared)} that the reference was asked too, ${number(task.lost_total)} were lost and ${number(task.won_total)} won.`),
    flipped(task.lost, task.lost_total, "Lost: right before, wrong now", false),
    flipped(task.won, task.won_total, "Won: wrong before, right now", true));
}

/** `right`: whether this cell is right now, and the reference is not. */
function flipped(found, total, title, right) {
  if (!total) return null;
  const more = total > found.length ? ` (the first ${number(found.length)} of them)` : "";
  return element("details", { class: "flipped" }, element("summary", {}, `${title}: ${number(total)}${more}`),
    element("ol", {}, found.map((each) => element("li", {}, question(each, right)))));
}

function question(each, right) {
  const likelihoods = each.mine || each.reference;
  const options = each.options ?? each.mine?.map((_, place) => `option ${place + 1}`) ?? [];
  const chosen = { mine: choice(each, each.mine, right), reference: choice(each, each.reference, !right) };
  return [
    element("p", { class: "asked" }, each.text ?? `${each.id} (its text was not kept)`),
    options.length ? table(["option", "right", ...["this cell", "reference"].map((who) => (likelihoods ? `${who}, log-likelihood in nats` : who))], options.map((option, place) => [option,
      place === each.gold ? "✓ right" : "", told(each.mine, place, chosen.mine), told(each.reference, place, chosen.reference)]), [2, 3]) : null,
    likelihoods && !each.options ? element("p", { class: "legend" }, "Which option was chosen goes by the length of the options' texts, which were not kept.") : null,
    each.mine_text || each.reference_text ? element("div", { class: "beside" },
      element("div", {}, element("h4", {}, "This cell"), element("blockquote", {}, each.mine_text ?? NOT_KEPT)),
      element("div", {}, element("h4", {}, "The reference"), element("blockquote", {}, each.reference_text ?? NOT_KEPT))) : null,
  ];
}

/**
 * The option that was chosen: the likeliest per character (lm-eval's acc_norm), or, of tasks without that metric, the
 * likeliest. Null where neither is what the record says, which is whether the answer was right.
 */
function choice({ gold, options }, likelihoods, right) {
  if (!likelihoods) return null;
  const ways = [...(options ? [likelihoods.map((value, place) => value / (options[place].length || 1))] : []), likelihoods];
  const likeliest = ways.map((values) => values.flatMap((value, place) => (value === Math.max(...values) ? [place] : [])));
  return likeliest.flat().find((place) => (place === gold) === right) ?? null;
}

const told = (likelihoods, place, chosen) => (likelihoods ? [chosen === place ? element("b", {}, "chosen ") : "", number(likelihoods[place])] : MISSING);
