"use strict";
// The filters with their histograms, the chips that name them, and the confusion matrix.

const BINS = 30;
const MATRIX_CLASSES = 25;

/** An SVG element. */
function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** How often each value of a column of small whole numbers occurs among the samples that no other filter hides. */
function countValues(result, ignored, values, n) {
  const counts = new Uint32Array(n);
  let bits = 0;
  for (const name of ignored) bits |= result.bits[name] ?? 0;
  const others = ~bits;
  for (let i = 0; i < values.length; i++) {
    if ((result.fails[i] & others) === 0 && values[i] === values[i]) counts[values[i]]++;
  }
  return counts;
}

// --- filters --------------------------------------------------------------------------------------------------------

/** Build the filters of a view anew. */
function buildFilters() {
  const { index } = explorer;
  const choose = (name, label, options, none) =>
    make("label", { class: "row" }, make("span", {}, label),
      make("select", { id: `filter-${name}`, onchange: (event) => setFilter(name, event.target.value) },
        make("option", { value: none }, "any"), options.map(([value, text]) => make("option", { value, "data-text": text }, text))));
  const names = (list) => list.map((name, number) => [number, name]);
  const ranged = listColumns().filter(({ key }) => isRanged(key));
  const axes = ranged.filter(({ key }) => /_[xy]$/.test(key));
  fill($("filters"),
    make("label", { class: "row" }, make("span", {}, "search"),
      make("input", { id: "filter-query", type: "search", placeholder: "path, #number#", onchange: (event) => setFilter("query", event.target.value) })),
    choose("dataset", "dataset", names(index.datasets.map(({ name }) => name)), NONE),
    choose("label", "label", [["given", "given"], ["missing", "not given"]], ""),
    choose("verdict", "verdict", VERDICTS.map(({ name, mark }) => [name, `${mark} ${name}`]), ""),
    choose("pseudo", "pseudo", names(view.classes), NONE),
    choose("known", "known", names(view.classes), NONE),
    view.beside && make("label", { class: "row" }, make("span", {}, "changed"),
      make("input", { id: "filter-changed", type: "checkbox", onchange: (event) => setFilter("changed", event.target.checked) }),
      make("span", { class: "note" }, "other pseudo label beside it")),
    ranged.filter((column) => !axes.includes(column)).map(buildHistogram),
    axes.length > 0 && make("details", {}, make("summary", {}, "axes of the map"), axes.map(buildHistogram)));
}

function isRanged(key) {
  const name = key.replace("beside:", "");
  return explorer.index.weights.some((one) => one.key === name) || ["neighbor_distance", "change"].includes(name) || /_[xy]$/.test(name);
}

function setFilter(name, value) {
  state[name] = typeof DEFAULTS[name] === "number" ? Number(value) : value;
  state.page = 0;
  update();
}

function setRange(key, low, high, empty = false) {
  if (low === -Infinity && high === Infinity) state.ranges.delete(key);
  else state.ranges.set(key, { low, high, empty });
  state.page = 0;
  update();
}

function drawFilters(result) {
  const code = (key) => view.column(key);
  const count = (name, counts) => {
    const select = $(`filter-${name}`);
    [...select.options].slice(1).forEach((option, k) => {
      option.textContent = `${option.dataset.text} (${formatCount(counts[k] ?? 0)})`;
    });
    select.value = String(state[name]);
    select.closest(".row").classList.toggle("used", state[name] !== DEFAULTS[name]);
  };
  count("dataset", countValues(result, ["dataset"], code("dataset"), explorer.index.datasets.length));
  count("label", countValues(result, ["label"], code("given"), 2).reverse());
  count("verdict", countValues(result, ["verdict"], code("verdict"), VERDICTS.length));
  count("pseudo", countValues(result, ["pseudo"], code("pseudo"), view.classes.length));
  count("known", countValues(result, ["known"], code("known"), view.classes.length));
  $("filter-query").value = state.query;
  if ($("filter-changed")) $("filter-changed").checked = state.changed;
  for (const element of $("filters").querySelectorAll(".histogram")) drawHistogram(element, result);
  drawChips(result);
}

/** A histogram with its bounds; dragging over it or choosing a bar filters. */
function buildHistogram({ key, symbol, name }) {
  const bound = (side) => make("input", {
    type: "number", step: "any", class: side, "aria-label": `${side === "low" ? "least" : "most"} ${name}`,
    onchange: (event) => {
      const range = state.ranges.get(key) ?? { low: -Infinity, high: Infinity, empty: false };
      const open = side === "low" ? -Infinity : Infinity;
      const value = event.target.value === "" ? open : Number(event.target.value);
      const changed = { ...range, [side]: value };
      setRange(key, changed.low, changed.high, changed.empty);
    },
  });
  const plot = draw("svg", { viewBox: `0 0 ${BINS * 8} 40`, preserveAspectRatio: "none", "aria-hidden": "true" });
  plot.addEventListener("pointerdown", (event) => dragHistogram(event, plot, key));
  return make("div", { class: "histogram", "data-key": key, role: "group", "aria-label": name },
    make("div", { class: "head" }, symbol && makeSymbol(symbol), make("span", {}, name)),
    plot, make("div", { class: "bounds" }, bound("low"), make("span", { class: "empty note" }), bound("high")));
}

function drawHistogram(element, result) {
  const { key } = element.dataset;
  const values = view.column(key);
  const [low, high] = view.extent(key);
  const range = state.ranges.get(key);
  const others = ~(result.bits[`range ${key}`] ?? 0);
  const counts = new Uint32Array(BINS);
  const scale = high > low ? BINS / (high - low) : 0;
  let empty = 0;
  for (let i = 0; i < values.length; i++) {
    if ((result.fails[i] & others) !== 0) continue;
    if (values[i] === values[i]) counts[Math.min(BINS - 1, Math.floor((values[i] - low) * scale))]++;
    else empty++;
  }
  const most = Math.max(1, ...counts);
  const width = (high - low) / BINS;
  const bars = Array.from(counts, (n, k) => {
    const tall = n ? Math.max(1, (38 * n) / most) : 0;
    const inside = !range || (low + (k + 1) * width > range.low && low + k * width < range.high);
    return draw("rect", { x: k * 8, y: 40 - tall, width: 7, height: tall, class: inside ? "bar" : "bar outside" },
      draw("title", {}, `${formatNumber(low + k * width)} to ${formatNumber(low + (k + 1) * width)}: ${formatCount(n)}`));
  });
  element.querySelector("svg").replaceChildren(draw("rect", { width: BINS * 8, height: 40, class: "back" }), ...bars);
  const [least, largest] = [element.querySelector(".low"), element.querySelector(".high")];
  least.placeholder = formatNumber(low, 2);
  largest.placeholder = formatNumber(high, 2);
  least.value = range && Number.isFinite(range.low) ? +range.low.toPrecision(4) : "";
  largest.value = range && Number.isFinite(range.high) ? +range.high.toPrecision(4) : "";
  element.classList.toggle("used", Boolean(range));
  element.querySelector(".empty").textContent = empty ? `${formatCount(empty)} without` : "";
}

function dragHistogram(event, plot, key) {
  const [low, high] = view.extent(key);
  const at = (one) => {
    const box = plot.getBoundingClientRect();
    return Math.min(1, Math.max(0, (one.clientX - box.left) / box.width));
  };
  const start = at(event);
  const brush = draw("rect", { y: 0, height: 40, class: "brush" });
  plot.append(brush);
  plot.setPointerCapture(event.pointerId);
  plot.onpointermove = (moved) => {
    const [a, b] = [start, at(moved)].sort((x, y) => x - y);
    brush.setAttribute("x", a * BINS * 8);
    brush.setAttribute("width", (b - a) * BINS * 8);
  };
  plot.onpointerup = (ended) => {
    plot.onpointermove = plot.onpointerup = null;
    let [a, b] = [start, at(ended)].sort((x, y) => x - y);
    if (b - a < 0.5 / BINS) [a, b] = [Math.floor(a * BINS - 1e-9) / BINS, (Math.floor(a * BINS - 1e-9) + 1) / BINS];
    // The last bar holds the largest value, whatever the rounding.
    const range = { low: low + Math.max(0, a) * (high - low), high: b >= 1 ? Infinity : low + b * (high - low) };
    if (range.low <= low) range.low = b >= 1 ? low : -Infinity;
    const old = state.ranges.get(key);
    if (old && old.low === range.low && old.high === range.high) setRange(key, -Infinity, Infinity);
    else setRange(key, range.low, range.high);
  };
}

// --- chips ----------------------------------------------------------------------------------------------------------

function drawChips(result) {
  const chips = [];
  const add = (text, remove, ...more) => chips.push(make("span", { class: "chip" }, text, ...more,
    make("button", { type: "button", "aria-label": `Remove the filter ${text}`, onclick: remove }, "×")));
  const names = {
    dataset: (k) => explorer.index.datasets[k].name, label: (value) => (value === "given" ? "label given" : "label not given"),
    verdict: (value) => value, pseudo: (k) => `pseudo ${view.classes[k]}`, known: (k) => `known ${view.classes[k]}`,
    query: (value) => `“${value}”`, changed: () => "changed",
  };
  for (const name of FILTERS) {
    if (state[name] !== DEFAULTS[name]) add(names[name](state[name]), () => setFilter(name, DEFAULTS[name]));
  }
  const titles = new Map(listColumns().map((one) => [one.key, one]));
  for (const [key, { low, high, empty }] of state.ranges) {
    const { symbol, name } = titles.get(key) ?? { name: key };
    const between = low === -Infinity ? `≤ ${formatNumber(high)}` : high === Infinity ? `≥ ${formatNumber(low)}` : `${formatNumber(low)} – ${formatNumber(high)}`;
    const n = countEmpty(result, key);
    const toggle = n > 0 && make("button", { type: "button", class: "empty", onclick: () => setRange(key, low, high, !empty) },
      `${formatCount(n)} without a value ${empty ? "shown" : "hidden"}`);
    add(`${symbol ? plainSymbol(symbol) : name} ${between} `, () => setRange(key, -Infinity, Infinity), toggle || "");
  }
  if (chips.length > 1) chips.push(make("button", { type: "button", id: "clear", onclick: clearFilters }, "clear all"));
  $("chips").replaceChildren(...chips);
}

function clearFilters() {
  for (const name of FILTERS) state[name] = DEFAULTS[name];
  state.ranges.clear();
  state.page = 0;
  update();
}

// --- confusion ------------------------------------------------------------------------------------------------------

/** Known against pseudo label of what the other filters leave; a cell filters by both. */
function drawMatrix(result) {
  const n = view.classes.length;
  const [pseudo, known] = [view.column("pseudo"), view.column("known")];
  const others = ~(result.bits.pseudo | result.bits.known);
  const counts = new Uint32Array(n * n);
  const totals = new Uint32Array(n);
  let [both, right] = [0, 0];
  for (let i = 0; i < pseudo.length; i++) {
    if ((result.fails[i] & others) !== 0 || pseudo[i] !== pseudo[i] || known[i] !== known[i]) continue;
    counts[known[i] * n + pseudo[i]]++;
    totals[known[i]]++;
    totals[pseudo[i]]++;
    both++;
    if (pseudo[i] === known[i]) right++;
  }
  // Of many classes those with the most samples, in their own order.
  const shown = [...totals.keys()].sort((a, b) => totals[b] - totals[a]).slice(0, MATRIX_CLASSES).sort((a, b) => a - b);
  $("matrix-note").textContent = both
    ? `${formatCount(right)} of ${formatCount(both)} agree, ${((100 * right) / both).toFixed(1)} %${n > shown.length ? `; ${shown.length} of ${n} classes` : ""}`
    : "";
  if (!both) {
    $("matrix").replaceChildren(make("p", { class: "note" }, "No sample here has both a prediction and a known label."));
    return;
  }
  const rows = shown.map((row) => {
    const total = shown.reduce((sum, column) => sum + counts[row * n + column], 0);
    return make("tr", {}, make("th", { scope: "row", title: view.classes[row] }, makeClass(row)),
      shown.map((column) => makeCell(row, column, counts[row * n + column], total)));
  });
  const head = make("tr", {}, make("td", {}, make("span", { class: "note" }, "known ↓  pseudo →")),
    shown.map((column) => make("th", { scope: "col", title: view.classes[column] }, make("span", {}, view.classes[column]))));
  $("matrix").replaceChildren(make("table", { class: Math.max(...shown.map((k) => view.classes[k].length)) * shown.length > 34 ? "upright" : "" }, make("thead", {}, head), make("tbody", {}, rows)));
}

function makeCell(row, column, count, total) {
  const chosen = state.pseudo === column && state.known === row;
  const share = total ? count / total : 0;
  return make("td", {}, make("button", {
    type: "button", class: row === column ? "cell right" : "cell wrong", disabled: count === 0 && !chosen,
    "aria-pressed": String(chosen), style: `--share: ${share.toFixed(3)}`,
    "aria-label": `known ${view.classes[row]}, pseudo ${view.classes[column]}: ${count}`,
    title: `known ${view.classes[row]}, pseudo ${view.classes[column]}: ${count} (${Math.round(100 * share)} %)`,
    onclick: () => {
      [state.known, state.pseudo] = chosen ? [NONE, NONE] : [row, column];
      state.page = 0;
      update();
    },
  }, count ? formatCount(count) : "·"));
}
