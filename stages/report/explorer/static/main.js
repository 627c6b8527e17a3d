"use strict";
// From the state to the page and back: menus, keys, the URL's hash.

let current = null;
let wanted = 0;
let settled = 0;

/** Show what the state says; of several calls the last one wins. */
async function update() {
  const mine = ++wanted;
  const begun = performance.now();
  try {
    await openView();
    const keys = [state.sort, ...state.ranges.keys()];
    if (!listColumns().some(({ key }) => key === state.sort)) [state.sort, state.down, keys[0]] = ["sample", false, "sample"];
    for (const key of state.ranges.keys()) if (!listColumns().some((one) => one.key === key)) state.ranges.delete(key);
    await Promise.all(keys.map((key) => view.need(key)));
    const texts = state.query ? await loadTexts() : null;
    if (mine !== wanted) return;
    current = filterSamples(texts);
    drawMenus();
    drawGallery(current);
    storeHash();
    await Promise.all([...listColumns().filter(({ key }) => isRanged(key)).map(({ key }) => view.need(key)), loadMap()]);
    if (mine !== wanted) return;
    drawFilters(current);
    drawMatrix(current);
    drawMap(current);
    document.body.dataset.milliseconds = Math.round(performance.now() - begun);
    await drawSample();
    $("message").hidden = true;
    document.body.dataset.state = "ready";
    settled++;
  } catch (error) {
    $("message").textContent = error.message;
    $("message").hidden = false;
    document.body.dataset.state = "failed";
    throw error;
  }
}

/** The view of the state's task, run and epochs; it is made anew when these change. */
async function openView() {
  const name = JSON.stringify([state.task, state.run, state.epoch, state.beside]);
  if (view?.name === name) return;
  const opened = new View(state.run, state.task, state.epoch, state.beside);
  await opened.open();
  opened.name = name;
  view = opened;
  buildFilters();
}

async function chooseSample(sample) {
  state.sample = sample;
  storeHash();
  await drawSample();
}

function turnPage(step) {
  state.page = Math.max(0, state.page + step);
  $("gallery").scrollTop = 0;
  return update();
}

function storeHash() {
  const hash = writeHash();
  if (hash !== location.hash) history.replaceState(null, "", hash);
}

// --- menus ----------------------------------------------------------------------------------------------------------

function fillSelect(id, options, value) {
  $(id).replaceChildren(...options.map(([key, text]) => make("option", { value: key }, text)));
  $(id).value = String(value);
}

function drawMenus() {
  const { index } = explorer;
  const task = index.tasks[state.task].name;
  const runs = index.runs.map((run, number) => [number, `${run.method} · seed ${run.seed}`, run]).filter(([, , run]) => run.views[task]);
  fillSelect("task", index.tasks.map(({ name }, number) => [number, name]), state.task);
  fillSelect("run", runs.length ? runs : [[0, "none has weights"]], state.run);
  const describe = (run, one) => `${one.epoch}${index.runs[run].chosen === one.epoch ? " ★" : ""} · ${one.datasets.join(", ")}`;
  const epochs = epochsOf(state.run, state.task);
  fillSelect("epoch", epochs.length ? epochs.map((one) => [one.epoch, describe(state.run, one)]) : [["", "–"]], state.epoch ?? "");
  const others = runs.flatMap(([run, text]) => epochsOf(run, state.task).map((one) => [`${run}@${one.epoch}`, `${text} · ${describe(run, one)}`]));
  fillSelect("beside", [["", "nothing"], ...others], state.beside ? `${state.beside.run}@${state.beside.epoch}` : "");
  const place = epochs.findIndex(({ epoch }) => epoch === state.epoch);
  $("earlier").disabled = place <= 0;
  $("later").disabled = place < 0 || place === epochs.length - 1;
  const columnNames = listColumns().map(({ key, symbol, name }) => [key, symbol ? `${plainSymbol(symbol)}  ${name}` : name]);
  fillSelect("sort", columnNames, state.sort);
  if (!listColumns().some(({ key }) => key === state.colour)) state.colour = "pseudo";
  fillSelect("colour", columnNames.filter(([key]) => !/_[xy]$/.test(key)), state.colour);
  fillSelect("plane", [["pca", "PCA"], ...(view.main.has("tsne_x") ? [["tsne", "t-SNE"]] : [])], planeOf());
  fillSelect("size", SIZES.map((size) => [size, size]), state.size);
  $("direction").textContent = state.down ? "↓" : "↑";
  $("direction").setAttribute("aria-label", state.down ? "Largest first; change" : "Smallest first; change");
  $("theme").textContent = { "": "◐ auto", light: "○ light", dark: "● dark" }[state.theme];
  $("theme").setAttribute("aria-label", `Colours: ${$("theme").textContent}; change`);
  document.documentElement.dataset.theme = state.theme;
}

function startMenus() {
  const on = (id, change) => $(id).addEventListener("change", (event) => {
    change(event.target.value);
    update();
  });
  const move = (step) => {
    const epochs = epochsOf(state.run, state.task).map(({ epoch }) => epoch);
    state.epoch = epochs[epochs.indexOf(state.epoch) + step] ?? state.epoch;
    update();
  };
  on("task", (value) => {
    // Classes and epochs are of a task.
    Object.assign(state, { task: +value, pseudo: NONE, known: NONE, beside: null, page: 0, ranges: new Map() });
    if (!epochsOf(state.run, state.task).length) state.run = Math.max(0, explorer.index.runs.findIndex((_, run) => epochsOf(run, state.task).length));
    chooseEpoch(state.epoch ?? Infinity);
  });
  on("run", (value) => {
    state.run = +value;
    chooseEpoch(state.epoch);
  });
  on("epoch", (value) => { state.epoch = value === "" ? null : +value; });
  on("beside", (value) => {
    const [run, epoch] = value.split("@").map(Number);
    state.beside = value ? { run, epoch } : null;
    if (!value) state.changed = false;
  });
  on("sort", (value) => Object.assign(state, { sort: value, page: 0 }));
  on("size", (value) => Object.assign(state, { size: +value, page: 0 }));
  on("colour", (value) => { state.colour = value; });
  on("plane", (value) => { state.plane = value; });
  $("earlier").addEventListener("click", () => move(-1));
  $("later").addEventListener("click", () => move(1));
  $("direction").addEventListener("click", () => {
    Object.assign(state, { down: !state.down, page: 0 });
    update();
  });
  $("previous").addEventListener("click", () => turnPage(-1));
  $("next").addEventListener("click", () => turnPage(1));
  $("csv").addEventListener("click", downloadCsv);
  $("theme").addEventListener("click", () => {
    state.theme = { "": "light", light: "dark", dark: "" }[state.theme];
    update();
  });
  $("choice").addEventListener("submit", (event) => event.preventDefault());
  $("skip").addEventListener("click", (event) => {
    // The hash is the view's.
    event.preventDefault();
    ($("gallery").querySelector('[tabindex="0"]') ?? $("gallery")).focus();
  });
  $("gallery").addEventListener("keydown", walkGallery);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches("input, select, textarea");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      $("filter-query").focus();
    }
    if (event.key === "Escape" && state.sample >= 0 && !typing) chooseSample(NONE);
  });
}

async function start() {
  try {
    await loadIndex();
  } catch (error) {
    $("message").textContent = error.message;
    $("message").hidden = false;
    throw error;
  }
  const { experiment, n_all: all } = explorer.index;
  document.title = `${experiment} · sample explorer`;
  $("title").replaceChildren(experiment, make("span", {}, all > explorer.n ? ` ${formatCount(explorer.n)} of its ${formatCount(all)} training samples` : " training samples"));
  startMenus();
  startMap();
  readHash(location.hash);
  await update();
  addEventListener("hashchange", () => {
    readHash(location.hash);
    update();
  });
  addEventListener("resize", () => current && drawMap(current));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => current && drawMap(current));
}

start();
