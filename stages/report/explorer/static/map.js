"use strict";
// Samples as points of a plane: coloured by any column, a dragged region filters, a point is a sample.

const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const MARGIN = 14;
const mapView = { xs: null, ys: null, width: 0, height: 0, scale: 1, left: 0, bottom: 0, ratio: 1 };

function isDark() {
  return state.theme ? state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Colours of a share from 0 to 1; neither end is lost on the background. */
function rampColour(share) {
  const [from, to] = isDark() ? [0.15, 1] : [0, 0.88];
  const place = (from + (to - from) * share) * (VIRIDIS.length - 1);
  const k = Math.min(VIRIDIS.length - 2, Math.floor(place));
  return VIRIDIS[k].map((value, channel) => value + (VIRIDIS[k + 1][channel] - value) * (place - k));
}

const VERDICT_COLOURS = ["#2f6fb5", "#d1541f", "#7fa7cc", "#e3a27f"];

/** Which names the values of a column have, and their colours; null for one of numbers. */
function namesOfColumn(key) {
  const list = {
    pseudo: view.classes, known: view.classes, "beside:pseudo": view.classes,
    verdict: VERDICTS.map(({ name }) => name), given: ["not given", "given"],
    dataset: explorer.index.datasets.map(({ name }) => name),
  }[key];
  return list && list.map((name, k) => [name, key === "verdict" ? VERDICT_COLOURS[k] : colourOf(k)]);
}

function planeOf() {
  return state.plane === "tsne" && view.main.has("tsne_x") ? "tsne" : "pca";
}

async function loadMap() {
  const plane = planeOf();
  const keys = [`${plane}_x`, `${plane}_y`, state.colour];
  await Promise.all(keys.map((key) => view.need(key)));
}

function drawMap(result) {
  const plane = planeOf();
  const there = view.main.has(`${plane}_x`);
  $("map-note").textContent = there ? "" : "The features of this epoch are not there.";
  $("map").classList.toggle("absent", !there);
  $("legend").replaceChildren();
  if (!there) return;
  mapView.xs = view.column(`${plane}_x`);
  mapView.ys = view.column(`${plane}_y`);
  fitMap(plane);
  paintPoints(result);
  drawMarks();
  drawLegend();
}

function fitMap(plane) {
  const box = $("map").getBoundingClientRect();
  const [x0, x1] = view.extent(`${plane}_x`);
  const [y0, y1] = view.extent(`${plane}_y`);
  const scale = Math.min((box.width - 2 * MARGIN) / (x1 - x0 || 1), (box.height - 2 * MARGIN) / (y1 - y0 || 1));
  Object.assign(mapView, {
    width: Math.round(box.width), height: Math.round(box.height), scale, ratio: Math.min(2, devicePixelRatio || 1),
    left: (box.width - scale * (x1 - x0)) / 2 - scale * x0, bottom: (box.height - scale * (y1 - y0)) / 2 - scale * y0,
  });
}

const toX = (x) => mapView.left + mapView.scale * x;
const toY = (y) => mapView.height - mapView.bottom - mapView.scale * y;
const fromX = (x) => (x - mapView.left) / mapView.scale;
const fromY = (y) => (mapView.height - y - mapView.bottom) / mapView.scale;

/** Points are written into the pixels one by one: that is far faster than drawing them. */
function paintPoints(result) {
  const { xs, ys, ratio } = mapView;
  const canvas = $("points");
  const [width, height] = [Math.round(mapView.width * ratio), Math.round(mapView.height * ratio)];
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const word = ([r, g, b], a = 255) => ((a << 24) | (Math.round(b) << 16) | (Math.round(g) << 8) | Math.round(r)) >>> 0;
  const hex = (text) => [1, 3, 5].map((k) => parseInt(text.slice(k, k + 2), 16));
  const quiet = word(isDark() ? [75, 80, 88] : [214, 217, 222]);
  const names = namesOfColumn(state.colour);
  const values = view.column(state.colour);
  const [low, high] = view.extent(state.colour);
  const named = names?.map(([, colour]) => word(hex(colour)));
  const ramp = Array.from({ length: 256 }, (_, k) => word(rampColour(k / 255)));
  const none = word(isDark() ? [130, 135, 142] : [150, 154, 160]);
  const side = Math.max(2, Math.round((result.shown.length > 20000 ? 1.5 : result.shown.length > 2000 ? 2.5 : 4) * ratio));
  const dot = (i, colour) => {
    const left = Math.round(toX(xs[i]) * ratio - side / 2);
    const top = Math.round(toY(ys[i]) * ratio - side / 2);
    for (let y = Math.max(0, top); y < Math.min(height, top + side); y++) {
      for (let x = Math.max(0, left); x < Math.min(width, left + side); x++) pixels[y * width + x] = colour;
    }
  };
  let n = 0;
  for (let i = 0; i < xs.length; i++) if (result.fails[i] !== 0 && xs[i] === xs[i]) dot(i, quiet);
  for (let k = result.shown.length - 1; k >= 0; k--) {
    const i = result.shown[k];
    if (xs[i] !== xs[i]) continue;
    const value = values[i];
    n++;
    if (value !== value) dot(i, none);
    else dot(i, named ? named[value] : ramp[Math.max(0, Math.min(255, Math.round((255 * (value - low)) / (high - low || 1))))]);
  }
  context.putImageData(image, 0, 0);
  mapView.shown = result.shown;
  canvas.setAttribute("aria-label", `Map of ${n} samples; filter by the axes of the map to choose a region`);
  const absent = result.shown.length - n;
  $("map-note").textContent = absent ? `${formatCount(absent)} of these are not on the map` : "";
}

/** The chosen sample, its neighbours and the region that is filtered by. */
function drawMarks(brush = null) {
  const { xs, ys } = mapView;
  const marks = $("marks");
  marks.setAttribute("viewBox", `0 0 ${mapView.width} ${mapView.height}`);
  const drawn = [];
  const plane = planeOf();
  const x = state.ranges.get(`${plane}_x`);
  const y = state.ranges.get(`${plane}_y`);
  if (x || y) {
    const clamp = (value, most) => Math.min(most, Math.max(0, value));
    const [a, b] = x ? [toX(x.low), toX(x.high)].map((value) => clamp(value, mapView.width)) : [0, mapView.width];
    const [c, d] = y ? [toY(y.high), toY(y.low)].map((value) => clamp(value, mapView.height)) : [0, mapView.height];
    drawn.push(draw("rect", { x: a, y: c, width: Math.max(0, b - a), height: Math.max(0, d - c), class: "region" }));
  }
  if (brush) drawn.push(draw("rect", { ...brush, class: "brush" }));
  const chosen = state.sample;
  if (xs && chosen >= 0 && xs[chosen] === xs[chosen]) {
    drawn.push(draw("circle", { cx: toX(xs[chosen]), cy: toY(ys[chosen]), r: 7, class: "halo" }));
    drawn.push(draw("circle", { cx: toX(xs[chosen]), cy: toY(ys[chosen]), r: 7, class: "chosen" }));
  }
  marks.replaceChildren(...drawn);
}

function drawLegend() {
  const names = namesOfColumn(state.colour);
  const used = names && names.filter((_, k) => k < 15);
  const [low, high] = view.extent(state.colour);
  const stops = Array.from({ length: 9 }, (_, k) => `rgb(${rampColour(k / 8).map(Math.round).join(" ")})`);
  fill($("legend"), names
    ? [...used.map(([name, colour]) => make("span", { class: "class", title: name }, make("span", { class: "dot", style: { background: colour } }), name)),
      names.length > used.length && make("span", { class: "note" }, `and ${names.length - used.length} more`)]
    : [make("span", { class: "number" }, formatNumber(low, 2)), make("span", { class: "ramp", style: { background: `linear-gradient(90deg, ${stops.join(",")})` } }),
      make("span", { class: "number" }, formatNumber(high, 2))]);
}

/** The shown sample nearest to a place, within some pixels. */
function findPoint(x, y, reach = 9) {
  const { xs, ys, shown } = mapView;
  let [best, least] = [NONE, reach * reach];
  for (const i of shown ?? []) {
    const dx = toX(xs[i]) - x;
    const dy = toY(ys[i]) - y;
    const distance = dx * dx + dy * dy;
    if (distance < least) [best, least] = [i, distance];
  }
  return best;
}

function startMap() {
  const map = $("map");
  const place = (event) => {
    const box = map.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  let start = null;
  map.addEventListener("pointerdown", (event) => {
    if (!mapView.xs || map.classList.contains("absent")) return;
    start = place(event);
    map.setPointerCapture(event.pointerId);
  });
  map.addEventListener("pointermove", (event) => {
    if (!mapView.xs || map.classList.contains("absent")) return;
    const [x, y] = place(event);
    if (start) {
      const [x0, y0] = start;
      hideTip();
      drawMarks({ x: Math.min(x, x0), y: Math.min(y, y0), width: Math.abs(x - x0), height: Math.abs(y - y0) });
    } else {
      const sample = findPoint(x, y);
      if (sample >= 0) showTip(sample, event);
      else hideTip();
    }
  });
  map.addEventListener("pointerleave", hideTip);
  map.addEventListener("pointerup", (event) => {
    if (!start) return;
    const [[x0, y0], [x, y]] = [start, place(event)];
    start = null;
    if (Math.abs(x - x0) < 4 && Math.abs(y - y0) < 4) {
      const sample = findPoint(x, y);
      if (sample >= 0) chooseSample(sample);
      else selectRegion(null);
    } else {
      selectRegion([fromX(Math.min(x, x0)), fromX(Math.max(x, x0)), fromY(Math.max(y, y0)), fromY(Math.min(y, y0))]);
    }
  });
}

/** Filter by a rectangle of the plane; null takes it away. */
function selectRegion(bounds) {
  const plane = planeOf();
  const had = [`${plane}_x`, `${plane}_y`].map((key) => state.ranges.delete(key)).some(Boolean);
  if (bounds) {
    state.ranges.set(`${plane}_x`, { low: bounds[0], high: bounds[1], empty: false });
    state.ranges.set(`${plane}_y`, { low: bounds[2], high: bounds[3], empty: false });
  }
  if (!bounds && !had) return;
  state.page = 0;
  update();
}

function showTip(sample, event) {
  const tip = $("tip");
  tip.replaceChildren(makeThumbnail(sample, 72), make("span", { class: "facts" }, make("span", { class: "name" }, nameOf(sample)),
    makeClass(view.main.pseudoOf(sample)), makeVerdict(sample)));
  tip.hidden = false;
  const [width, height] = [tip.offsetWidth, tip.offsetHeight];
  tip.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
  tip.style.top = `${Math.min(event.clientY + 14, innerHeight - height - 8)}px`;
}

function hideTip() {
  $("tip").hidden = true;
}
