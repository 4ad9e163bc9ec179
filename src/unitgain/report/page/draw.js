"use strict";
// Charts as inline SVG, as many as this page needs and no more: lines, points and pixels over one x axis, in panels one
// above the other. Texts are set as text, so that a name is a name. What is to be drawn is described by a `spec`:
//
//   label     what the chart shows, for people who cannot see it
//   axis      "depth" or a name of its own: charts of one axis are zoomed and marked together
//   xs        ascending numbers; ticks: [[x, text]] to name them, else numbers; unit: the axis' title
//   height    of all panels
//   panels    [{title, log, range: [low, high], format, share (of the height), series, guides: [{at, text}],
//              pixels: {rows, low, high, value(column, row) -> 0..1 or null}}]
//   series    {name, color, ys, points: bool, dash, width}; null is a gap
//   marks     [{x, color}] below the axis: layers that a finding is about
//   tell      index of x -> {title, lines: [[name, value]]}, shown where the pointer is
//   pick      index of x -> what a click does

const NS = "http://www.w3.org/2000/svg";
const LEFT = 58, RIGHT = 12, TOP = 18, GAP = 24;
const zooms = new Map(); // axis -> [from, to]
const placed = new Map(); // place -> {spec, x, bottom}

const tone = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const known = v => v !== null && v !== undefined;

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) if (known(value)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function html(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

const extent = values => values.reduce(([low, high], v) => (known(v) ? [Math.min(low, v), Math.max(high, v)] : [low, high]), [Infinity, -Infinity]);

// the range of an axis: some room around the values; a log axis that hugged a flat line would turn noise into mountains
function span(panel) {
  if (panel.range) return panel.range;
  let values = panel.series.flatMap(s => s.ys).concat((panel.guides || []).map(g => g.at));
  if (panel.log) values = values.filter(v => v > 0).map(Math.log10);
  let [low, high] = extent(values);
  if (!(low <= high)) return [0, 1];
  const least = panel.log ? 2 : Math.max(1e-12, Math.abs(high) * 0.1, Math.abs(low) * 0.1);
  const margin = Math.max((high - low) * 0.06, (least - (high - low)) / 2);
  return [low - margin, high + margin];
}

function ticks(low, high, most) {
  const raw = (high - low) / Math.max(1, most), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(k => k * power).find(k => k >= raw) || raw, found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

const raised = n => String(n).replace(/[-\d]/g, c => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
const power = (base, n) => (n === 0 ? "1" : n === 1 ? String(base) : base + raised(n));

function format(value) {
  if (!known(value)) return "not measured";
  const size = Math.abs(value);
  return size !== 0 && (size < 0.01 || size >= 1e6) ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

function trace(xs, ys, x, y, points) { // the d of a path; points are lines of no length with round ends
  let d = "", pen = false;
  for (let i = 0; i < xs.length; i++) {
    if (!known(ys[i])) { pen = false; continue; }
    const at = x(xs[i]).toFixed(1) + " " + y(ys[i]).toFixed(1), alone = !pen && !known(ys[i + 1]);
    d += points || alone ? `M${at}h0` : (pen ? "L" : "M") + at;
    pen = true;
  }
  return d;
}

function picture({ rows, value }, columns) { // one pixel a value, from the bottom up
  const canvas = html("canvas", { width: columns, height: rows }), pen = canvas.getContext("2d");
  const image = pen.createImageData(columns, rows);
  const stops = ["heat-0", "heat-1", "heat-2"].map(tone).map(c => [1, 3, 5].map(i => parseInt(c.slice(i, i + 2), 16)));
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
    const v = value(column, row);
    if (!known(v)) continue;
    const at = Math.min(0.999, Math.max(0, v)) * 2, k = Math.floor(at), place = 4 * ((rows - 1 - row) * columns + column);
    for (let c = 0; c < 3; c++) image.data[place + c] = stops[k][c] + (at - k) * (stops[k + 1][c] - stops[k][c]);
    image.data[place + 3] = 255;
  }
  pen.putImageData(image, 0, 0);
  return canvas.toDataURL();
}

function drawChart(place, spec) {
  const width = Math.max(240, place.clientWidth), inner = width - LEFT - RIGHT;
  const [first, last] = spec.wide || [spec.xs[0], spec.xs[spec.xs.length - 1]];
  const [from, to] = zooms.get(spec.axis) || (first < last ? [first, last] : [first - 0.5, last + 0.5]);
  const x = v => LEFT + inner * (v - from) / (to - from);
  const slanted = spec.ticks && spec.ticks.some(([, text]) => text.length > 3) && !spec.sparse;
  const longest = slanted ? Math.max(...spec.ticks.map(([, text]) => text.length)) : 0;
  const below = (slanted ? 20 + Math.min(84, 4.8 * longest) : 20) + (spec.unit ? 16 : 0);
  const heights = spec.panels.map(p => (spec.height - GAP * (spec.panels.length - 1)) * (p.share || 1 / spec.panels.length));
  const bottom = TOP + spec.height;
  const clip = "clip" + placed.size + Math.random().toString(36).slice(2, 8);
  const root = svg("svg", { viewBox: `0 0 ${width} ${bottom + below}`, height: bottom + below, tabindex: 0, role: "img", "aria-label": spec.label });
  root.append(svg("clipPath", { id: clip }, svg("rect", { x: LEFT, y: 0, width: inner, height: bottom })));

  let top = TOP;
  spec.panels.forEach((panel, i) => {
    const [low, high] = span(panel), height = heights[i], base = top + height;
    const y = v => base - height * ((panel.log ? Math.log10(v) : v) - low) / (high - low);
    const steps = ticks(low, high, height / 40).filter(v => !panel.log || Number.isInteger(v));
    for (const v of steps) {
      const at = base - height * (v - low) / (high - low);
      root.append(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
      const text = panel.format ? panel.format(v) : panel.log ? power(10, v) : format(v);
      root.append(svg("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, text));
    }
    const inside = svg("g", { "clip-path": `url(#${clip})` });
    if (panel.pixels) {
      const half = spec.xs.length > 1 ? (spec.xs[1] - spec.xs[0]) / 2 : 0.5, a = x(spec.xs[0] - half), b = x(spec.xs[spec.xs.length - 1] + half);
      inside.append(svg("image", { class: "pixels", href: picture(panel.pixels, spec.xs.length), x: a, y: top, width: Math.max(1, b - a), height, preserveAspectRatio: "none" }));
    }
    for (const guide of panel.guides || []) {
      inside.append(svg("line", { class: "guide", x1: LEFT, x2: width - RIGHT, y1: y(guide.at), y2: y(guide.at) }));
      if (guide.text) root.append(svg("text", { x: width - RIGHT - 4, y: y(guide.at) - 4, "text-anchor": "end" }, guide.text));
    }
    for (const s of panel.series || []) {
      const ys = panel.log ? s.ys.map(v => (v > 0 ? v : null)) : s.ys, shown = s.xs || spec.xs;
      inside.append(svg("path", { d: trace(shown, ys, x, y, s.points), fill: "none", stroke: s.color, "stroke-width": s.points ? 6 : s.width || 1.6, "stroke-linecap": "round", "stroke-dasharray": s.dash }));
      // few layers: a dot on each
      if (!s.points && shown.length <= 60) inside.append(svg("path", { d: trace(shown, ys, x, y, true), stroke: s.color, "stroke-width": 4.5, "stroke-linecap": "round" }));
    }
    root.append(inside);
    if (panel.title) root.append(svg("text", { class: "title", x: LEFT, y: top - 6 }, panel.title));
    top = base + GAP;
  });

  for (const [at, text] of namedTicks(spec, from, to, inner)) {
    const px = x(at);
    if (px < LEFT - 1 || px > width - RIGHT + 1) continue;
    root.append(svg("line", { class: "grid", x1: px, x2: px, y1: bottom, y2: bottom + 4 }));
    const turn = slanted ? { transform: `rotate(-45 ${px} ${bottom + 14})`, "text-anchor": "end" } : { "text-anchor": "middle" };
    root.append(svg("text", { x: px, y: bottom + 16, ...turn }, text));
  }
  if (spec.unit) root.append(svg("text", { x: LEFT + inner / 2, y: bottom + below - 3, "text-anchor": "middle" }, spec.unit));
  for (const mark of spec.marks || []) {
    const px = x(mark.x);
    if (px >= LEFT && px <= width - RIGHT) root.append(svg("path", { d: `M${px} ${bottom}l4 8h-8z`, fill: mark.color }));
  }
  const chosen = svg("line", { class: "chosen", y1: TOP, y2: bottom, visibility: "hidden" });
  const cursor = svg("line", { class: "cursor", y1: TOP, y2: bottom, visibility: "hidden" });
  const brush = svg("rect", { class: "brush", y: TOP, height: spec.height, visibility: "hidden" });
  root.append(cursor, chosen, brush);
  place.replaceChildren(root, legend(spec));
  watchWidth.observe(place);
  const chart = { spec, root, x, from, to, width, bottom, chosen, cursor, brush, at: null };
  placed.set(place, chart);
  listen(place, chart);
}

function namedTicks(spec, from, to, inner) {
  if (!spec.ticks) return ticks(from, to, Math.max(2, inner / 90)).filter(v => !spec.whole || Number.isInteger(v)).map(v => [v, spec.whole ? String(v) : format(v)]);
  const scale = inner / (to - from), least = spec.sparse ? 74 : 15; // pixels between two names
  let before = -Infinity;
  return spec.ticks.filter(([at]) => {
    if (at < from - 0.5 || at > to + 0.5 || (at - before) * scale < least) return false;
    before = at;
    return true;
  });
}

function legend(spec) {
  const all = spec.panels.flatMap(p => p.series || []).filter(s => s.name);
  const once = all.filter((s, i) => all.findIndex(o => o.name === s.name) === i);
  return html("div", { className: "legend" }, ...(once.length > 1 ? once : []).map(s => {
    const key = html("i", { className: s.points ? "dot" : "" });
    key.style.background = s.color;
    return html("span", {}, key, s.name);
  }));
}

const watchWidth = new ResizeObserver(entries => entries.forEach(({ target }) => {
  const chart = placed.get(target);
  if (!chart || !target.clientWidth || Math.abs(Math.max(240, target.clientWidth) - chart.width) <= 1) return;
  drawChart(target, chart.spec);
  document.dispatchEvent(new Event("drawn"));
}));

// ---- pointer and keyboard ----

function nearest(spec, value) {
  let best = 0;
  spec.xs.forEach((v, i) => { if (Math.abs(v - value) < Math.abs(spec.xs[best] - value)) best = i; });
  return best;
}

function listen(place, chart) {
  const { spec, root, x } = chart;
  const inverse = px => chart.from + (px - LEFT) * (chart.to - chart.from) / (chart.width - LEFT - RIGHT);
  const position = event => (event.clientX - root.getBoundingClientRect().left) * chart.width / root.getBoundingClientRect().width;
  let down = null;
  root.addEventListener("pointermove", event => {
    const px = position(event);
    if (down !== null && Math.abs(px - down) > 6) {
      chart.brush.setAttribute("x", Math.min(px, down));
      chart.brush.setAttribute("width", Math.abs(px - down));
      chart.brush.setAttribute("visibility", "visible");
    }
    if (px >= LEFT - 4) tell(place, chart, nearest(spec, inverse(px)));
  });
  root.addEventListener("pointerdown", event => { if (event.button === 0 && position(event) >= LEFT) down = position(event); });
  root.addEventListener("pointerup", event => {
    const px = position(event), begun = down;
    down = null;
    chart.brush.setAttribute("visibility", "hidden");
    if (begun === null) return;
    if (Math.abs(px - begun) > 12) zoom(spec.axis, ...[inverse(begun), inverse(px)].sort((a, b) => a - b));
    else if (spec.pick) spec.pick(nearest(spec, inverse(px)));
  });
  root.addEventListener("pointerleave", () => { down = null; chart.brush.setAttribute("visibility", "hidden"); hush(chart); });
  root.addEventListener("dblclick", () => zoom(spec.axis));
  root.addEventListener("blur", () => hush(chart));
  root.addEventListener("keydown", event => {
    const now = chart.at ?? nearest(spec, (chart.from + chart.to) / 2);
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -1e9, End: 1e9 };
    if (event.key in moves) tell(place, chart, Math.min(spec.xs.length - 1, Math.max(0, now + moves[event.key])));
    else if (event.key === "Enter" && spec.pick) spec.pick(now);
    else if (event.key === "+" || event.key === "-") {
      const half = (chart.to - chart.from) / (event.key === "+" ? 4 : 1), middle = spec.xs[now];
      zoom(spec.axis, middle - half, middle + half);
      [...placed.keys()].find(p => p === place)?.querySelector("svg").focus();
      return event.preventDefault();
    } else if (event.key === "0") zoom(spec.axis);
    else return;
    event.preventDefault();
  });
}

function tell(place, chart, index) {
  const { spec, cursor, x } = chart, px = x(spec.xs[index]);
  chart.at = index;
  cursor.setAttribute("x1", px); cursor.setAttribute("x2", px); cursor.setAttribute("visibility", "visible");
  const said = spec.tell && spec.tell(index);
  if (!said) return;
  const tip = document.querySelector(".tip") || html("div", { className: "tip" });
  tip.setAttribute("role", "status");
  tip.replaceChildren(html("b", { textContent: said.title }), ...said.lines.map(([name, value]) => html("div", { textContent: `${name} ${value}` })));
  const figure = place.closest("figure"), left = place.offsetLeft + px;
  figure.append(tip);
  tip.style.top = place.offsetTop + 14 + "px";
  tip.style.left = (left > figure.clientWidth / 2 ? Math.max(4, left - tip.offsetWidth - 14) : left + 14) + "px";
}

function hush(chart) {
  chart.cursor.setAttribute("visibility", "hidden");
  document.querySelector(".tip")?.remove();
}

// from, to: of the axis; nothing: all of it. At least a few layers or steps stay in view.
function zoom(axis, from, to) {
  const charts = [...placed].filter(([, c]) => c.spec.axis === axis);
  const [first, last] = extent(charts.flatMap(([, c]) => c.spec.wide || c.spec.xs));
  if (from === undefined || (from <= first && to >= last)) zooms.delete(axis);
  else {
    const least = Math.min(3, last - first), middle = (from + to) / 2, half = Math.max(least, to - from) / 2;
    zooms.set(axis, [Math.max(first, middle - half), Math.min(last, middle + half)]);
  }
  charts.forEach(([place, c]) => { if (place.isConnected) drawChart(place, c.spec); });
  document.dispatchEvent(new Event("zoomed"));
}

function markAt(axis, value) {
  for (const [, c] of placed) {
    if (c.spec.axis !== axis) continue;
    const px = c.x(value), seen = known(value) && px >= LEFT - 1 && px <= c.width - RIGHT + 1;
    c.chosen.setAttribute("visibility", seen ? "visible" : "hidden");
    if (seen) { c.chosen.setAttribute("x1", px); c.chosen.setAttribute("x2", px); }
  }
}

// ---- code to copy ----

function copyButtons() {
  document.querySelectorAll(".copy").forEach(button => button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try { await navigator.clipboard.writeText(code.textContent); } catch { // not over every protocol
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }));
}
