"use strict";
// Cards of samples, and what all parts of the page draw: elements, thumbnails, classes, numbers, soft labels.

const SIZES = [30, 60, 120, 240];
const PALETTE = [
  "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#dd8844", "#777777",
  "#332288", "#44aa99", "#999933", "#882255", "#6699cc", "#cc99bb", "#117733", "#bbaa77",
];

/** An element; children that are no elements become text, so that no name is ever taken for markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style" && typeof value === "object") Object.assign(element.style, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  return fill(element, ...children);
}

/** Give an element other children; what is missing is left out. */
function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  return element;
}

const $ = (id) => document.getElementById(id);

/** A symbol such as w^c as text with a superscript. */
function makeSymbol(symbol) {
  const [base, top] = symbol.split("^");
  return make("i", { class: "symbol" }, base, top && make("sup", {}, top));
}

/** The same as plain text, for menus. */
function plainSymbol(symbol) {
  const raised = { c: "ᶜ", d: "ᵈ", s: "ˢ", g: "ᵍ" };
  return symbol.replace(/\^(.)/, (_, letter) => raised[letter] ?? letter);
}

function colourOf(number) {
  return PALETTE[number % PALETTE.length];
}

function formatNumber(value, digits = 3) {
  if (!(value === value)) return "–";
  if (value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits) return `<${(10 ** -digits).toFixed(digits)}`.replace("<0.", "<.");
  return value.toFixed(digits);
}

const formatCount = (n) => n.toLocaleString("en");

function nameOf(sample) {
  return `${explorer.index.datasets[datasetOf(sample)].name} #${explorer.ids[sample]}`;
}

/** A thumbnail of a width in pixels, cut out of its sheet. */
function makeThumbnail(sample, size) {
  const { columns, per_sheet: perSheet, width, height, pitch_x: pitchX, pitch_y: pitchY } = explorer.index.sheets;
  const dataset = datasetOf(sample);
  const row = sample - explorer.starts[dataset];
  const place = row % perSheet;
  const scale = size / Math.max(width, height);
  return make("span", {
    class: "thumbnail",
    style: {
      width: `${width * scale}px`,
      height: `${height * scale}px`,
      backgroundImage: `url("sheets/${dataset}-${Math.floor(row / perSheet)}.jpg")`,
      backgroundSize: `${columns * pitchX * scale}px auto`,
      backgroundPosition: `${-(place % columns) * pitchX * scale}px ${-Math.floor(place / columns) * pitchY * scale}px`,
    },
  });
}

/** [class, share] of a sample's soft label, the largest first; empty without one. */
function softLabelOf(source, sample) {
  const soft = source.columns.get("soft");
  if (!soft) return [];
  const width = soft.length / explorer.n;
  const found = [];
  for (let k = sample * width; k < (sample + 1) * width; k += 2) {
    if (soft[k + 1] > 0) found.push([soft[k], soft[k + 1] / 255]);
  }
  return found;
}

/** The soft label as one bar, the classes in their own order. */
function makeSoftBar(source, sample) {
  const shares = softLabelOf(source, sample).sort(([a], [b]) => a - b);
  const text = shares.map(([k, share]) => `${view.classes[k]} ${Math.round(100 * share)} %`).join(", ");
  return make("span", { class: "soft", title: text || "no soft label" },
    shares.map(([k, share]) => make("span", { style: { width: `${100 * share}%`, background: colourOf(k) } })));
}

function makeClass(number) {
  if (number < 0) return make("span", { class: "class none" }, "–");
  return make("span", { class: "class", title: view.classes[number] },
    make("span", { class: "dot", style: { background: colourOf(number) } }), view.classes[number]);
}

/** What is known of a sample's label, and whether the pseudo label is that. */
function makeVerdict(sample, source = view.main) {
  const verdict = view.verdictOf(sample, source);
  const known = view.knownOf(sample);
  if (known < 0) return make("span", { class: "verdict none", title: "no label is known" }, "not known");
  const kind = VERDICTS[verdict];
  const what = view.given[sample] >= 0 ? "given" : "held back";
  const short = { wrong: "is", differs: "given" }[kind?.name] ?? what;
  return make("span", { class: `verdict ${kind?.name ?? "given"}`, title: `${kind?.title ?? "the label is given"} (${what}: ${view.classes[known]})` },
    make("b", {}, kind?.mark ?? "·"), verdict === 0 || verdict === 2 ? kind.name : `${short} ${view.classes[known]}`);
}

/** A for what is chosen, B for what stands beside it. */
function makeTag(source) {
  return make("span", { class: "tag" }, source === view.main ? "A" : "B");
}

function makeWeights(sample) {
  const weights = explorer.index.weights;
  const cell = (source, key) => make("span", { class: source === view.main ? "" : "quiet" }, formatNumber(source.at(key, sample)));
  return make("span", { class: view.beside ? "weights two" : "weights" },
    weights.map(({ key, symbol }) => [makeSymbol(symbol), cell(view.main, key), view.beside && cell(view.beside, key)]));
}

function describeSample(sample) {
  const pseudo = view.main.pseudoOf(sample);
  const verdict = VERDICTS[view.verdictOf(sample)]?.name;
  const known = view.knownOf(sample);
  return [
    nameOf(sample),
    pseudo >= 0 ? `pseudo label ${view.classes[pseudo]}` : "no prediction",
    verdict ?? "verdict not known",
    known >= 0 && `${view.given[sample] >= 0 ? "given" : "held back"} ${view.classes[known]}`,
    `selection weight ${formatNumber(view.main.at("selection_weight", sample))}`,
  ].filter(Boolean).join(", ");
}

function makeCard(sample) {
  const verdict = VERDICTS[view.verdictOf(sample)]?.name ?? "none";
  const sources = [view.main, view.beside].filter(Boolean);
  const weighed = sources.some(({ facts }) => facts.columns.length);
  return make("li", {},
    make("button", {
      type: "button", class: `card ${verdict}`, "data-sample": sample, tabindex: "-1",
      "aria-label": describeSample(sample), "aria-pressed": String(sample === state.sample),
      onclick: () => chooseSample(sample),
    },
    make("span", { class: "top" }, makeThumbnail(sample, 64),
      make("span", { class: "facts" },
        make("span", { class: "name" }, nameOf(sample)),
        sources.map((source) => make("span", { class: "said" },
          make("span", { class: "line" }, view.beside && makeTag(source), makeClass(source.pseudoOf(sample))), makeVerdict(sample, source))))),
    weighed && [sources.map((source) => makeSoftBar(source, sample)), makeWeights(sample)]));
}

function drawGallery(result) {
  const pages = Math.max(1, Math.ceil(result.shown.length / state.size));
  state.page = Math.min(state.page, pages - 1);
  const samples = result.shown.subarray(state.page * state.size, (state.page + 1) * state.size);
  $("gallery").classList.toggle("beside", Boolean(view.beside));
  $("gallery").replaceChildren(...Array.from(samples, makeCard));
  const cards = [...$("gallery").querySelectorAll(".card")];
  const first = cards.find((card) => card.getAttribute("aria-pressed") === "true") ?? cards[0];
  first?.setAttribute("tabindex", "0");
  if (!cards.length) $("gallery").append(make("li", { class: "note" }, "No sample is left by these filters."));
  $("count").replaceChildren(make("b", {}, formatCount(result.shown.length)), ` of ${formatCount(explorer.n)} samples`);
  $("page").textContent = `${formatCount(state.page + 1)} / ${formatCount(pages)}`;
  $("previous").disabled = state.page === 0;
  $("next").disabled = state.page === pages - 1;
}

/** Arrow keys walk over the cards, one of which is in the order of the tab key. */
function walkGallery(event) {
  const cards = [...$("gallery").querySelectorAll(".card")];
  const here = cards.indexOf(document.activeElement);
  if (here < 0) return;
  const columns = cards.filter((card) => card.offsetTop === cards[0].offsetTop).length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  const there = { Home: 0, End: cards.length - 1 }[event.key] ?? (step ? here + step : NaN);
  if (event.key === "PageDown" || event.key === "PageUp") {
    event.preventDefault();
    turnPage(event.key === "PageDown" ? 1 : -1).then(() => $("gallery").querySelector(".card")?.focus());
  } else if (cards[there]) {
    event.preventDefault();
    cards[here].setAttribute("tabindex", "-1");
    cards[there].setAttribute("tabindex", "0");
    cards[there].focus();
  }
}

function markChosen() {
  for (const card of $("gallery").querySelectorAll(".card")) {
    card.setAttribute("aria-pressed", String(+card.dataset.sample === state.sample));
  }
}

// --- CSV of what the filters leave ----------------------------------------------------------------------------------

/** The selection as text, a row each, with names and paths whole. */
async function writeCsv(samples) {
  const paths = await Promise.all(explorer.index.datasets.map((_, dataset) => loadPaths(dataset)));
  const quote = (text) => `"${String(text).replace(/"/g, '""')}"`;
  const number = (value) => (value === value ? String(+value.toPrecision(7)) : "");
  const className = (k) => (k >= 0 ? quote(view.classes[k]) : "");
  const sources = [[view.main, ""], [view.beside, "beside_"]].filter(([source]) => source);
  const weights = explorer.index.weights.map(({ key }) => key);
  const head = ["dataset", "sample_id", "path", "given_label", "held_back_label"];
  for (const [, prefix] of sources) head.push(`${prefix}pseudo_label`, `${prefix}verdict`, ...weights.map((key) => prefix + key));
  const rows = [head.join(",")];
  for (const sample of samples) {
    const dataset = datasetOf(sample);
    const row = [quote(explorer.index.datasets[dataset].name), explorer.ids[sample], quote(paths[dataset][sample - explorer.starts[dataset]])];
    row.push(className(view.given[sample]), className(view.held[sample]));
    for (const [source] of sources) {
      row.push(className(source.pseudoOf(sample)), VERDICTS[view.verdictOf(sample, source)]?.name ?? "");
      row.push(...weights.map((key) => number(source.at(key, sample))));
    }
    rows.push(row.join(","));
  }
  return `${rows.join("\n")}\n`;
}

async function downloadCsv() {
  const blob = new Blob([await writeCsv(current.shown)], { type: "text/csv" });
  const link = make("a", { href: URL.createObjectURL(blob), download: `${explorer.index.experiment}-samples.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
