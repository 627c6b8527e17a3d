"use strict";
// Columns arrive as classic scripts: a page from file:// may not fetch. Each is loaded when it is first asked for.

const explorer = {
  index: null,
  pending: new Map(),
  take(name, ...content) {
    this.pending.get(name)?.(content);
  },
};

const TYPES = {
  i1: Int8Array, i2: Int16Array, i4: Int32Array, u1: Uint8Array, u2: Uint16Array, f4: Float32Array, f8: Float64Array,
};
const scripts = new Map();
const columns = new Map();

/** The arguments of the call in data/<name>.js. */
function loadScript(name) {
  if (!scripts.has(name)) {
    scripts.set(name, new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const finish = (settle) => (value) => {
        explorer.pending.delete(name);
        script.remove();
        settle(value);
      };
      explorer.pending.set(name, finish(resolve));
      script.onerror = () => finish(reject)(new Error(`data/${name}.js is missing; export the explorer again`));
      script.src = `data/${name}.js`;
      document.head.append(script);
    }));
  }
  return scripts.get(name);
}

/** A column of all samples: {values, width}; what a dataset does not have is NaN, -1 or, in unsigned ones, 0. */
function loadColumn(name) {
  if (!columns.has(name)) {
    columns.set(name, loadScript(name).then(([kind, width, datasets, content]) => {
      // The text is of no use any more.
      scripts.delete(name);
      return { values: spread(decode(content, TYPES[kind]), kind, width, datasets), width };
    }));
  }
  return columns.get(name);
}

function decode(content, Type) {
  if (Uint8Array.fromBase64) return new Type(Uint8Array.fromBase64(content).buffer);
  const text = atob(content);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Type(bytes.buffer);
}

function spread(found, kind, width, datasets) {
  const { starts } = explorer;
  const total = starts.at(-1) * width;
  if (found.length === total) return found;
  const values = new found.constructor(total).fill(kind[0] === "f" ? NaN : kind[0] === "i" ? -1 : 0);
  let taken = 0;
  for (const dataset of datasets) {
    const n = (starts[dataset + 1] - starts[dataset]) * width;
    values.set(found.subarray(taken, taken + n), starts[dataset] * width);
    taken += n;
  }
  return values;
}

/** Read data/index.js, which says what there is. */
async function loadIndex() {
  [explorer.index] = await loadScript("index");
  explorer.starts = [0];
  for (const { n } of explorer.index.datasets) explorer.starts.push(explorer.starts.at(-1) + n);
  explorer.n = explorer.starts.at(-1);
  explorer.ids = (await loadColumn("ids")).values;
}

function datasetOf(sample) {
  let dataset = 0;
  while (sample >= explorer.starts[dataset + 1]) dataset++;
  return dataset;
}

/** Paths of all samples of a dataset. */
async function loadPaths(dataset) {
  return (await loadScript(`paths-${dataset}`))[0];
}
