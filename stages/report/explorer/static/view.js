"use strict";
// What is chosen (state), the columns of the chosen task and epochs (view), and the samples that filters leave.

const NONE = -1;
const VERDICTS = [
  { name: "right", mark: "✓", title: "right: the pseudo label is the label held back" },
  { name: "wrong", mark: "✗", title: "wrong: the pseudo label is not the label held back" },
  { name: "agrees", mark: "=", title: "agrees: the prediction is the given label" },
  { name: "differs", mark: "≠", title: "differs: the prediction is not the given label" },
];
const FILTERS = ["dataset", "label", "verdict", "pseudo", "known", "query", "changed"];
const DISTANCES = ["sample_distance", "neighbor_distance"];

const DEFAULTS = {
  run: 0, task: 0, epoch: null, beside: null, sort: "selection_weight", down: true, page: 0, size: 60,
  dataset: NONE, label: "", verdict: "", pseudo: NONE, known: NONE, query: "", changed: false,
  plane: "pca", colour: "pseudo", sample: NONE, theme: "",
};
const state = { ...DEFAULTS, ranges: new Map() };
let view = null;

/** Epochs of a run that made labels for the task. */
function epochsOf(run, task) {
  return explorer.index.runs[run]?.views[explorer.index.tasks[task].name] ?? [];
}

/** The columns of one epoch of a run: nothing of them is loaded yet. */
class Source {
  constructor(run, task, epoch) {
    this.place = `run-${run}/epoch-${epoch}/${task}`;
    this.facts = epochsOf(run, task).find((one) => one.epoch === epoch) ?? { datasets: [], columns: [] };
    this.columns = new Map();
  }

  has(key) {
    return this.facts.columns.includes(key);
  }

  async load(key) {
    const any = this.facts.columns.length > 0 && (["pseudo", "soft"].includes(key) || this.has(key));
    if (any && !this.columns.has(key)) this.columns.set(key, (await loadColumn(`${this.place}/${key}`)).values);
  }

  at(key, sample) {
    return this.columns.get(key)?.[sample] ?? NaN;
  }

  pseudoOf(sample) {
    return this.columns.get("pseudo")?.[sample] ?? NONE;
  }
}

/** What is shown: a task, an epoch of a run, and one beside it if any. */
class View {
  constructor(run, task, epoch, beside) {
    this.task = task;
    this.classes = explorer.index.tasks[task].classes;
    this.main = new Source(run, task, epoch);
    this.beside = beside && new Source(beside.run, task, beside.epoch);
    this.derived = new Map();
    this.extents = new Map();
    this.orders = new Map();
  }

  async open() {
    const [given, held] = await Promise.all([loadColumn(`given-${this.task}`), loadColumn(`held-${this.task}`)]);
    this.given = given.values;
    this.held = held.values;
    const weights = explorer.index.weights.map(({ key }) => key);
    const sources = [this.main, this.beside].filter(Boolean);
    await Promise.all(sources.flatMap((source) => ["pseudo", "soft", ...weights].map((key) => source.load(key))));
  }

  knownOf(sample) {
    return this.given[sample] >= 0 ? this.given[sample] : this.held[sample];
  }

  /** An index of VERDICTS, or NONE. */
  verdictOf(sample, source = this.main) {
    const pseudo = source.pseudoOf(sample);
    const known = this.knownOf(sample);
    if (pseudo < 0 || known < 0) return NONE;
    return (this.given[sample] >= 0 ? 2 : 0) + (pseudo === known ? 0 : 1);
  }

  /** Load what a key of `listColumns` needs. */
  async need(key) {
    if (this.main.has(key)) await this.main.load(key);
    if (key.startsWith("beside:")) await this.beside?.load(key.slice(7));
  }

  /** A column as numbers, NaN for none; what it needs must be loaded. */
  column(key) {
    const own = this.main.columns.get(key);
    if (own instanceof Float32Array) return own;
    if (!this.derived.has(key)) this.derived.set(key, this.derive(key));
    return this.derived.get(key);
  }

  derive(key) {
    if (key.startsWith("beside:") && key !== "beside:pseudo") {
      const other = this.beside?.columns.get(key.slice(7));
      if (other) return other;
    }
    const known = (value) => (value < 0 ? NaN : value);
    const read = {
      sample: (i) => i,
      dataset: null,
      given: (i) => (this.given[i] >= 0 ? 1 : 0),
      pseudo: (i) => known(this.main.pseudoOf(i)),
      known: (i) => known(this.knownOf(i)),
      verdict: (i) => known(this.verdictOf(i)),
      "beside:pseudo": (i) => known(this.beside?.pseudoOf(i) ?? NONE),
      change: (i) => this.main.at("selection_weight", i) - (this.beside?.at("selection_weight", i) ?? NaN),
    }[key];
    const values = new Float32Array(explorer.n).fill(NaN);
    if (key === "dataset") {
      explorer.index.datasets.forEach((_, k) => values.fill(k, explorer.starts[k], explorer.starts[k + 1]));
    } else if (read) {
      for (let i = 0; i < values.length; i++) values[i] = read(i);
    }
    return values;
  }

  /** Where a column begins and ends; weights are shown from 0 to 1. */
  extent(key) {
    if (!this.extents.has(key)) {
      let low = Infinity;
      let high = -Infinity;
      for (const value of this.column(key)) {
        if (value < low) low = value;
        if (value > high) high = value;
      }
      const weight = explorer.index.weights.some((one) => one.key === key) && !DISTANCES.includes(key);
      this.extents.set(key, weight ? [0, 1] : low <= high ? [low, high] : [0, 1]);
    }
    return this.extents.get(key);
  }

  /** All samples in the order of a column, those without a value last whichever way. */
  order(key, down) {
    const name = `${key} ${down}`;
    if (!this.orders.has(name)) this.orders.set(name, sortByColumn(this.column(key), down));
    return this.orders.get(name);
  }
}

/** Samples sorted by a Float32Array: its bits, made to rise with the value, are sorted 11 at a time. Stable. */
function sortByColumn(values, down) {
  const n = values.length;
  const bits = new Uint32Array(values.buffer, values.byteOffset, n);
  const keys = new Uint32Array(n);
  for (let i = 0; i < n; i++) {
    const word = values[i] === 0 ? 0 : bits[i];
    let key = word & 0x80000000 ? ~word : word | 0x80000000;
    if (down) key = ~key;
    keys[i] = values[i] === values[i] ? key >>> 0 : 0xffffffff;
  }
  let order = new Uint32Array(n).map((_, i) => i);
  let sorted = new Uint32Array(n);
  for (const shift of [0, 11, 22]) {
    const places = new Uint32Array(2049);
    for (let i = 0; i < n; i++) places[((keys[i] >>> shift) & 2047) + 1]++;
    for (let k = 0; k < 2048; k++) places[k + 1] += places[k];
    for (let i = 0; i < n; i++) sorted[places[(keys[order[i]] >>> shift) & 2047]++] = order[i];
    [order, sorted] = [sorted, order];
  }
  return order;
}

/** The filters in use, as [name, whether a sample fails]. */
function listFilters(texts) {
  const { given } = view;
  const found = [];
  if (state.dataset >= 0) {
    const [start, stop] = [explorer.starts[state.dataset], explorer.starts[state.dataset + 1]];
    found.push(["dataset", (i) => i < start || i >= stop]);
  }
  if (state.label) found.push(["label", state.label === "given" ? (i) => given[i] < 0 : (i) => given[i] >= 0]);
  if (state.verdict) {
    const wanted = VERDICTS.findIndex(({ name }) => name === state.verdict);
    found.push(["verdict", (i) => view.verdictOf(i) !== wanted]);
  }
  if (state.pseudo >= 0) found.push(["pseudo", (i) => view.main.pseudoOf(i) !== state.pseudo]);
  if (state.known >= 0) found.push(["known", (i) => view.knownOf(i) !== state.known]);
  if (state.query) {
    const wanted = state.query.toLowerCase();
    found.push(["query", (i) => !texts[i].includes(wanted)]);
  }
  if (state.changed && view.beside) {
    found.push(["changed", (i) => {
      const [here, there] = [view.main.pseudoOf(i), view.beside.pseudoOf(i)];
      return here < 0 || there < 0 || here === there;
    }]);
  }
  return found;
}

const TEXTS = {};

/** What a search looks through: number, dataset and path of every sample. */
async function loadTexts() {
  if (!TEXTS.all) {
    const paths = await Promise.all(explorer.index.datasets.map((_, dataset) => loadPaths(dataset)));
    const names = explorer.index.datasets.map(({ name }) => name.toLowerCase());
    TEXTS.all = paths.flatMap((list, dataset) =>
      list.map((path, row) =>
        `#${explorer.ids[explorer.starts[dataset] + row]}# ${names[dataset]}/${path.toLowerCase()}`));
  }
  return TEXTS.all;
}

/**
 * Which filters each sample fails, a bit each, and the samples that fail none in the order that is asked for.
 * A chart of one column counts what fails no other filter: (fails & ~bit) === 0.
 */
function filterSamples(texts) {
  const fails = new Uint32Array(explorer.n);
  const bits = { };
  FILTERS.forEach((name, number) => { bits[name] = 1 << number; });
  for (const [name, failsIt] of listFilters(texts)) {
    const bit = bits[name];
    for (let i = 0; i < fails.length; i++) if (failsIt(i)) fails[i] |= bit;
  }
  let number = FILTERS.length;
  for (const [key, { low, high, empty }] of state.ranges) {
    const bit = 1 << number++;
    bits[`range ${key}`] = bit;
    const values = view.column(key);
    for (let i = 0; i < fails.length; i++) {
      const value = values[i];
      const inside = value === value ? value >= low && value <= high : empty;
      if (!inside) fails[i] |= bit;
    }
  }
  const order = view.order(state.sort, state.down);
  const shown = new Uint32Array(order.length);
  let n = 0;
  for (const sample of order) if (fails[sample] === 0) shown[n++] = sample;
  return { fails, bits, shown: shown.subarray(0, n) };
}

/** Samples that only one filter, by name, keeps away because they have no value. */
function countEmpty(result, key) {
  const values = view.column(key);
  const others = ~(result.bits[`range ${key}`] ?? 0);
  let n = 0;
  for (let i = 0; i < values.length; i++) if (values[i] !== values[i] && (result.fails[i] & others) === 0) n++;
  return n;
}

/** The columns to sort and colour by: {key, symbol, title}. */
function listColumns() {
  const weights = explorer.index.weights.filter(({ key }) => view.main.has(key));
  const found = weights.map((one) => ({ ...one, name: one.key.replace(/_/g, " ") }));
  if (view.main.has("neighbor_distance")) found.push({ key: "neighbor_distance", name: "distance of the nearest" });
  found.push({ key: "pseudo", name: "pseudo label" }, { key: "known", name: "known label" });
  found.push({ key: "verdict", name: "verdict" }, { key: "given", name: "label is given" });
  found.push({ key: "dataset", name: "dataset" }, { key: "sample", name: "sample" });
  if (view.beside) {
    found.push({ key: "change", symbol: "Δw", name: "selection weight, A − B" });
    for (const one of explorer.index.weights) {
      if (view.beside.has(one.key)) {
        found.push({ key: `beside:${one.key}`, symbol: one.symbol, name: `${one.key.replace(/_/g, " ")} B` });
      }
    }
    found.push({ key: "beside:pseudo", name: "pseudo label B" });
  }
  for (const key of ["pca_x", "pca_y", "tsne_x", "tsne_y"]) {
    if (view.main.has(key)) found.push({ key, name: key.replace("pca_", "PCA ").replace("tsne_", "t-SNE ") });
  }
  return found;
}

// --- the view in the URL's hash, by names: numbers of classes or runs may change with the next export -------------

function writeHash() {
  const { index } = explorer;
  const hash = new URLSearchParams();
  const put = (key, value) => { if (value !== "" && value !== null && value !== undefined) hash.set(key, value); };
  const nameRun = (run) => `${index.runs[run].method}/${index.runs[run].seed}`;
  const nameClass = (number) => (number >= 0 ? view.classes[number] : "");
  put("task", index.tasks[state.task].name);
  if (index.runs.length) put("run", nameRun(state.run));
  put("epoch", state.epoch);
  if (state.beside) put("beside", `${nameRun(state.beside.run)}@${state.beside.epoch}`);
  put("sort", (state.down ? "-" : "") + state.sort);
  if (state.page) put("page", state.page + 1);
  if (state.size !== DEFAULTS.size) put("size", state.size);
  if (state.dataset >= 0) put("dataset", index.datasets[state.dataset].name);
  for (const key of ["label", "verdict", "query", "theme"]) put(key, state[key]);
  put("pseudo", nameClass(state.pseudo));
  put("known", nameClass(state.known));
  if (state.changed) put("changed", 1);
  for (const [key, { low, high, empty }] of state.ranges) {
    const bound = (value) => (Number.isFinite(value) ? String(+value.toPrecision(6)) : "");
    put(`range.${key}`, `${bound(low)}:${bound(high)}${empty ? ":empty" : ""}`);
  }
  if (state.plane !== DEFAULTS.plane) put("plane", state.plane);
  if (state.colour !== DEFAULTS.colour) put("colour", state.colour);
  if (state.sample >= 0) put("sample", `${index.datasets[datasetOf(state.sample)].name}:${explorer.ids[state.sample]}`);
  return `#${hash}`;
}

/** Take the state from a hash; what it does not name, or names wrongly, is as in the beginning. */
function readHash(text) {
  const { index } = explorer;
  const hash = new URLSearchParams(text.replace(/^#/, ""));
  const get = (key) => hash.get(key) ?? "";
  const find = (list, test) => Math.max(NONE, list.findIndex(test));
  const findRun = (name) => find(index.runs, (run) => `${run.method}/${run.seed}` === name);
  const number = (value, other) => (value !== "" && Number.isFinite(+value) ? +value : other);
  Object.assign(state, DEFAULTS, { ranges: new Map() });
  state.task = Math.max(0, find(index.tasks, ({ name }) => name === get("task")));
  const { name, classes } = index.tasks[state.task];
  const firstRun = find(index.runs, (run) => run.views[name]);
  state.run = findRun(get("run"));
  if (state.run < 0) state.run = Math.max(0, firstRun);
  chooseEpoch(number(get("epoch"), Infinity));
  const [besideRun, besideEpoch] = get("beside").split("@");
  const run = findRun(besideRun);
  if (run >= 0 && epochsOf(run, state.task).some(({ epoch }) => epoch === +besideEpoch)) {
    state.beside = { run, epoch: +besideEpoch };
  }
  if (get("sort")) [state.sort, state.down] = [get("sort").replace(/^-/, ""), get("sort").startsWith("-")];
  state.page = Math.max(0, Math.floor(number(get("page"), 1)) - 1);
  state.size = SIZES.includes(+get("size")) ? +get("size") : DEFAULTS.size;
  state.dataset = find(index.datasets, (one) => one.name === get("dataset"));
  state.label = ["given", "missing"].includes(get("label")) ? get("label") : "";
  state.verdict = VERDICTS.some((one) => one.name === get("verdict")) ? get("verdict") : "";
  state.theme = ["light", "dark"].includes(get("theme")) ? get("theme") : "";
  state.query = get("query");
  if (hash.has("pseudo")) state.pseudo = classes.indexOf(get("pseudo"));
  if (hash.has("known")) state.known = classes.indexOf(get("known"));
  state.changed = get("changed") === "1";
  for (const [key, value] of hash) {
    if (key.startsWith("range.")) {
      const [low, high, empty] = value.split(":");
      const range = { low: number(low, -Infinity), high: number(high ?? "", Infinity), empty: empty === "empty" };
      state.ranges.set(key.slice(6), range);
    }
  }
  if (get("plane") === "tsne") state.plane = "tsne";
  if (get("colour")) state.colour = get("colour");
  const cut = get("sample").lastIndexOf(":");
  const dataset = find(index.datasets, (one) => one.name === get("sample").slice(0, Math.max(0, cut)));
  if (dataset >= 0) {
    const rows = explorer.ids.subarray(explorer.starts[dataset], explorer.starts[dataset + 1]);
    const row = rows.indexOf(+get("sample").slice(cut + 1));
    if (row >= 0) state.sample = explorer.starts[dataset] + row;
  }
}

/** The epoch that has labels for the task and is nearest to a wanted one. */
function chooseEpoch(wanted) {
  const epochs = epochsOf(state.run, state.task).map(({ epoch }) => epoch);
  const clamped = Math.min(wanted, epochs.at(-1) ?? 0);
  state.epoch = epochs.length
    ? epochs.reduce((best, one) => (Math.abs(one - clamped) < Math.abs(best - clamped) ? one : best))
    : null;
}
