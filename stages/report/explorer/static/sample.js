"use strict";
// One sample: what is known and said of it, its history over the epochs, its nearest neighbours.

const HISTORY = { width: 380, height: 150, left: 26, right: 8, top: 8, bottom: 34 };
const LINES = {
  selection_weight: "#d1541f", confidence_weight: "#4477aa", density_weight: "#228833", distribution_weight: "#aa3377",
  confident_weight: "#8a8f98",
};

async function drawSample() {
  const { sample } = state;
  markChosen();
  drawMarks();
  if (sample < 0) {
    $("sample-title").textContent = "Sample";
    $("sample-content").replaceChildren(make("p", { class: "note" }, "Choose a sample in the gallery or on the map."));
    return;
  }
  const here = view;
  const dataset = datasetOf(sample);
  const path = (await loadPaths(dataset))[sample - explorer.starts[dataset]];
  const history = await loadHistory(sample);
  const neighbors = view.main.has("neighbor_distance") ? await loadColumn(`${view.main.place}/neighbors`) : null;
  // Another sample or view may have been chosen meanwhile.
  if (here !== view || sample !== state.sample) return;
  $("sample-title").textContent = nameOf(sample);
  fill($("sample-content"),
    make("div", { class: "portrait" }, makeThumbnail(sample, 128), makeFacts(sample, path)),
    makeSoftTable(sample), makeWeightTable(sample), makeHistory(sample, history), neighbors && makeNeighbors(sample, neighbors));
}

function makeFacts(sample, path) {
  const [given, held] = [view.given[sample], view.held[sample]];
  const fact = (name, ...content) => [make("dt", {}, name), make("dd", {}, ...content)];
  return make("dl", {},
    fact("path", make("code", {}, path)),
    fact("pseudo", makeClass(view.main.pseudoOf(sample)), view.beside && [" · B ", makeClass(view.beside.pseudoOf(sample))]),
    fact(given >= 0 ? "given" : "held back", given >= 0 ? makeClass(given) : held >= 0 ? makeClass(held) : "not known"),
    fact("verdict", makeVerdict(sample)));
}

function makeSoftTable(sample) {
  const rows = softLabelOf(view.main, sample).map(([k, share]) => make("tr", {},
    make("th", { scope: "row" }, makeClass(k)),
    make("td", { class: "long" }, make("span", { class: "share", style: { width: `${100 * share}%`, background: colourOf(k) } })),
    make("td", { class: "number" }, `${Math.round(100 * share)} %`)));
  return rows.length > 0 && make("table", { class: "shares" }, make("caption", {}, `Soft label, epoch ${state.epoch}`), make("tbody", {}, rows));
}

function makeWeightTable(sample) {
  const sources = [view.main, view.beside].filter(Boolean);
  if (!sources.some(({ facts }) => facts.columns.length)) return null;
  const head = view.beside && make("thead", {}, make("tr", {}, make("td", {}), make("th", { scope: "col" }, `A ${nameEpoch(state)}`), make("th", { scope: "col" }, `B ${nameEpoch(state.beside)}`)));
  return make("table", { class: "values" }, head, make("tbody", {}, explorer.index.weights.map(({ key, symbol, title }) => make("tr", { title },
    make("th", { scope: "row" }, makeSymbol(symbol), make("span", {}, key.replace(/_/g, " "))),
    sources.map((source) => make("td", { class: "number" }, formatNumber(source.at(key, sample), 4)))))));
}

function nameEpoch({ run, epoch }) {
  const { method, seed } = explorer.index.runs[run];
  return `${method}/${seed} · ${epoch}`;
}

// --- history --------------------------------------------------------------------------------------------------------

/** What every epoch of the run said of a sample: [{epoch, pseudo, weight by key}]. */
async function loadHistory(sample) {
  const keys = explorer.index.weights.map(({ key }) => key);
  const rows = await Promise.all(epochsOf(state.run, state.task).map(async ({ epoch }) => {
    const source = new Source(state.run, state.task, epoch);
    await Promise.all(["pseudo", ...keys].map((key) => source.load(key)));
    return { epoch, pseudo: source.pseudoOf(sample), ...Object.fromEntries(keys.map((key) => [key, source.at(key, sample)])) };
  }));
  return rows.filter(({ pseudo }) => pseudo >= 0);
}

function makeHistory(sample, rows) {
  if (!rows.length) return [];
  const { width, height, left, right, top, bottom } = HISTORY;
  const [first, last] = [rows[0].epoch, rows.at(-1).epoch];
  const x = (epoch) => (last > first ? left + ((epoch - first) / (last - first)) * (width - left - right - 14) + 7 : (left + width) / 2);
  const y = (value) => top + (1 - value) * (height - top - bottom);
  const grid = [0, 0.5, 1].flatMap((value) => [
    draw("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }),
    draw("text", { x: left - 4, y: y(value) + 3, "text-anchor": "end" }, String(value)),
  ]);
  const used = explorer.index.weights.filter(({ key }) => LINES[key] && rows.some((row) => row[key] === row[key]));
  const lines = used.map(({ key }) => {
    const points = rows.filter((row) => row[key] === row[key]).map((row) => `${x(row.epoch).toFixed(1)},${y(row[key]).toFixed(1)}`);
    return draw("g", { stroke: LINES[key], class: key === "selection_weight" ? "line main" : "line" },
      draw("polyline", { points: points.join(" ") }),
      ...points.map((point) => draw("circle", { cx: point.split(",")[0], cy: point.split(",")[1], r: 2, fill: LINES[key] })));
  });
  const known = view.knownOf(sample);
  const every = Math.ceil(rows.length / 12);
  const strip = rows.flatMap(({ epoch, pseudo }, k) => [
    draw("rect", { x: x(epoch) - 5, y: height - bottom + 6, width: 10, height: 10, rx: 2, fill: colourOf(pseudo) },
      draw("title", {}, `epoch ${epoch}: ${view.classes[pseudo]}`)),
    ...(known >= 0 && pseudo !== known ? [draw("text", { x: x(epoch), y: height - bottom + 15, "text-anchor": "middle", class: "cross" }, "×")] : []),
    ...(k % every === 0 || k === rows.length - 1 ? [draw("text", { x: x(epoch), y: height - 4, "text-anchor": "middle", class: epoch === state.epoch ? "now" : "" }, String(epoch))] : []),
  ]);
  const titles = ["epoch", "pseudo", ...explorer.index.weights.map(({ symbol }) => plainSymbol(symbol))];
  return [
    make("h3", {}, "Over the epochs",
      make("span", { class: "keys" }, used.map(({ key, symbol }) => make("span", {}, make("span", { class: "dot", style: { background: LINES[key] } }), makeSymbol(symbol))))),
    draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "history", role: "img", "aria-label": "Weights and pseudo labels over the epochs; the table below has the numbers" }, ...grid, ...lines, ...strip),
    make("details", { id: "history-table" }, make("summary", {}, "as a table"),
      make("table", { class: "values" }, make("thead", {}, make("tr", {}, titles.map((title) => make("th", { scope: "col" }, title)))),
        make("tbody", {}, rows.map((row) => make("tr", {},
          make("th", { scope: "row" }, String(row.epoch)), make("td", {}, view.classes[row.pseudo]),
          explorer.index.weights.map(({ key }) => make("td", { class: "number" }, formatNumber(row[key])))))))),
  ];
}

// --- neighbours -----------------------------------------------------------------------------------------------------

function makeNeighbors(sample, { values, width }) {
  const found = [...values.subarray(sample * width, (sample + 1) * width)].filter((other) => other >= 0);
  if (!found.length) return null;
  return make("div", { id: "neighbors" },
    make("h3", {}, "Nearest by their features", make("span", { class: "note" }, ` the first at ${formatNumber(view.main.at("neighbor_distance", sample))}`)),
    make("div", { class: "row" }, found.map((other) => make("button", {
      type: "button", class: `neighbor ${VERDICTS[view.verdictOf(other)]?.name ?? "none"}`, "aria-label": describeSample(other),
      title: describeSample(other), onclick: () => chooseSample(other),
    }, makeThumbnail(other, 40), make("span", { class: "dot", style: { background: view.main.pseudoOf(other) >= 0 ? colourOf(view.main.pseudoOf(other)) : "transparent" } })))));
}
