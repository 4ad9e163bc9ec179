// One function per chart: the data of html_data.py -> a spec for draw.js (or several), or null if there is nothing to
// show. All charts over depth have x = 1, 2, ... (execution order), so that one mark fits them all.

const data = JSON.parse(document.getElementById("data").textContent);
const layers = data.layers;
const X = layers.map((_, i) => i + 1);
const FEW_LINES = 12, NAMED_TICKS = 40;
const LINE_COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8a939c", "#a6611a"];
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const height = letter => LETTERS.indexOf(letter) / 63;
const cut = (s, n) => { const c = [...s]; return c.length <= n ? s : c.slice(0, Math.ceil(n / 2) - 1).join("") + "…" + c.slice(-Math.floor(n / 2)).join(""); };
const some = values => values && values.some(known);
const narrow = () => innerWidth < 760;
const titled = layer => (layer.title.includes(" · ") || !layer.module ? layer.title : `${layer.title} · ${cut(layer.module, 24)}`);

function overDepth(label, panels, lines) {
  const named = layers.length <= (narrow() ? 16 : NAMED_TICKS);
  const ticks = named ? layers.map((l, i) => [i + 1, cut(l.title, 20)]) : data.blocks.filter(([, t]) => t).map(([n, t]) => [n, cut(t, 12)]);
  return {
    label, panels, axis: "depth", xs: X, wide: [0.5, layers.length + 0.5], ticks, sparse: !named, height: panels.length > 1 ? 360 : 230,
    marks: layers.flatMap((l, i) => (l.level ? [{ x: i + 1, color: tone(l.level) }] : [])),
    tell: i => ({ title: `${i + 1}: ${titled(layers[i])}`, lines: lines(i).filter(([, v]) => v !== "not measured").concat((layers[i].codes || []).map(c => ["", c])) }),
    pick: i => select(i + 1, { row: true }),
  };
}

const column = (name, ys, color, more) => ({ name, ys, color: tone(color), ...more });

const charts = {
  scale(step) {
    const d = data.depth[step];
    if (!some(d.rms) && !some(d.std)) return null;
    const panels = [{ title: "activations", log: true, guides: [{ at: 1, text: "1" }], series: [column("rms", d.rms, "forward-2", { width: 1.2 }), column("std", d.std, "forward")] }];
    if (some(d.gradient)) panels.push({ title: "gradients", log: true, series: [column("gradient rms", d.gradient, "backward")] });
    return overDepth("Scale of activations and gradients over depth", panels, i => [["std", format(d.std[i])], ["rms", format(d.rms[i])], ["gradient rms", format(d.gradient[i])]]);
  },

  repair() {
    const was = data.before, now = data.depth[data.now];
    if (!was) return null;
    const pair = (kind, color) => [column("before", was[kind], "zero", { dash: "5 4" }), column("after", now[kind], color)];
    const panels = [{ title: "std of activations", log: true, guides: [{ at: 1, text: "1" }], series: pair("std", "forward") }];
    if (some(was.gradient) || some(now.gradient)) panels.push({ title: "rms of gradients", log: true, series: pair("gradient", "forward") });
    return overDepth("Scale over depth before and after", panels, i => [["std before", format(was.std[i])], ["after", format(now.std[i])], ["gradient before", format(was.gradient[i])], ["after", format(now.gradient[i])]]);
  },

  fractions(step) {
    const d = data.depth[step];
    const columns = [["zero", d.zero, "zero"], ["saturated", d.saturated, "saturated"], ["dead units", d.dead, "dead"], ["non-finite", d.nonfinite, "sick"]];
    const series = columns.filter(([, y]) => y.some(v => v > 0)).map(([name, y, color]) => column(name, y.map(v => (v > 0 ? 100 * v : null)), color, { points: true }));
    if (!series.length) return null;
    return overDepth("Share of zero, saturated, dead and non-finite over depth", [{ range: [-4, 104], format: v => v + "%", series }], i => series.filter(s => known(s.ys[i])).map(s => [s.name, format(s.ys[i]) + "%"]));
  },

  magnitudes(step) {
    const found = Object.entries(data.magnitudes[step] || {});
    if (!found.length) return null;
    const panels = found.map(([kind, h]) => {
      const rows = Math.max(...h.rows.map(r => r.length));
      return { title: kind + "s", range: [h.low, h.low + rows], format: v => (Number.isInteger(v) ? power(2, v) : ""), series: [], pixels: { rows, value: (i, row) => (h.rows[i] ? height(h.rows[i][row]) : null) } };
    });
    const peak = h => i => { const r = [...(h.rows[i] || "")], best = r.reduce((b, c, k) => (height(c) > height(r[b]) ? k : b), 0); return r.length ? `${power(2, h.low + best)} (${format(100 * h.top * height(r[best]))}%)` : "not measured"; };
    return overDepth("Distribution of magnitudes over depth", panels, i => found.map(([kind, h]) => [`most ${kind}s near`, peak(h)(i)]));
  },

  ratios(step) {
    const p = data.parameters;
    const rows = [["gradient:data", p.gradient[step], "backward"], ["update:data", p.update[step], "forward"]].filter(([, y]) => some(y));
    if (!rows.length) return null;
    const series = rows.map(([name, y, color]) => column(name, y, color, { points: true, xs: p.x }));
    const guides = rows.some(([name]) => name === "update:data") ? [{ at: -3, text: "−3" }] : [];
    const at = i => p.x.flatMap((x, k) => (x === i + 1 ? [k] : []));
    return overDepth("Ratios of the weights over depth", [{ series, guides }], i => at(i).flatMap(k => rows.map(([name, y]) => [`${cut(p.names[k], 40)} ${name}`, format(y[k])])));
  },

  saturation() {
    const map = data.maps[document.getElementById("map").value];
    if (!map) return null;
    const bytes = atob(map.bits), on = (row, col) => { const bit = row * map.cols + col; return bytes.charCodeAt(bit >> 3) >> (7 - (bit & 7)) & 1; };
    const xs = Array.from({ length: map.cols }, (_, i) => i), stuck = i => Array.from({ length: map.rows }, (_, row) => on(row, i)).reduce((a, b) => a + b, 0);
    return {
      label: "Saturation map", axis: "unit", xs, wide: [-0.5, map.cols - 0.5], whole: true, unit: "unit", height: 200,
      panels: [{ title: "example", range: [-0.5, map.rows - 0.5], format: v => (Number.isInteger(v) ? v : ""), series: [], pixels: { rows: map.rows, value: (i, row) => on(row, i) * 0.999 } }],
      tell: i => ({ title: "unit " + i, lines: [["in a flat tail for", `${stuck(i)} of ${map.rows} examples`]] }),
    };
  },

  metrics() {
    const found = Object.entries(data.time.metrics);
    if (!found.length) return null;
    return found.map(([name, [xs, ys]]) => {
      const guides = name === "loss" && data.start ? [{ at: data.start, text: "ln C" }] : [];
      return {
        label: name + " over time", axis: "step", xs, whole: true, height: 150,
        panels: [{ title: cut(name, 40), series: [{ ys, color: tone("forward"), width: xs.length > 400 ? 1 : 1.6 }], guides }],
        tell: i => ({ title: "step " + xs[i], lines: [[name, format(ys[i])]] }),
      };
    });
  },

  time() {
    const which = document.getElementById("statistic").value;
    const labels = { std: "std", mean: "mean", gradient: "gradient rms" };
    return overTime(data.time[which], X, labels[which], which !== "mean", []);
  },

  updates() {
    return overTime(data.time.update, data.time.update_layers, "log10 update:data", false, [{ at: -3, text: "−3" }]);
  },
};

// Lines for few layers, a row of pixels per layer for many.
function overTime(table, numbers, label, log, guides) {
  const steps = data.time.steps;
  const rows = (table || []).map((ys, i) => [numbers[i], ys]).filter(([, ys]) => some(ys));
  if (!steps.length || !rows.length) return null;
  const titles = rows.map(([n]) => layers[n - 1].title), spec = { label: label + " over time", axis: "step", xs: steps, whole: true, unit: "step" };
  if (rows.length <= FEW_LINES) {
    const series = rows.map(([, ys], i) => ({ name: cut(titles[i], 28), ys, color: LINE_COLORS[i % 8], dash: i < 8 ? null : "5 4" }));
    return { ...spec, height: 250, panels: [{ log, series, guides }], tell: k => ({ title: "step " + steps[k], lines: rows.map(([, ys], i) => [cut(titles[i], 28), format(ys[k])]) }) };
  }
  const scaled = v => (log ? (v > 0 ? Math.log10(v) : null) : v);
  const [low, high] = extent(rows.flatMap(([, ys]) => ys.map(v => (known(v) ? scaled(v) : null))));
  const share = v => (known(v) && known(scaled(v)) ? (scaled(v) - low) / (high - low || 1) : null);
  const legendText = `pale ${log ? power(10, Math.round(low)) : format(low)} to dark ${log ? power(10, Math.round(high)) : format(high)}`;
  return {
    ...spec, height: Math.min(420, Math.max(220, rows.length * 3)),
    panels: [{ title: `${label}, a row per layer from the first (bottom) to the last (top): ${legendText}`, range: [0.5, rows.length + 0.5], format: v => (Number.isInteger(v) && rows[v - 1] ? cut(titles[v - 1], 8) : ""), series: [], pixels: { rows: rows.length, value: (k, row) => share(rows[row][1][k]) } }],
    tell: k => { const values = rows.map(([, ys], i) => [titles[i], ys[k]]).filter(([, v]) => known(v)).sort((a, b) => b[1] - a[1]); return { title: "step " + steps[k], lines: [...values.slice(0, 3), ...values.slice(3).slice(-3)].map(([n, v]) => [cut(n, 32), format(v)]) }; },
  };
}

// The signed histograms of one layer, small.
function shapes(number) {
  return ["activation", "gradient"].flatMap(kind => {
    const found = data.signed[kind][number - 1];
    if (!found) return [];
    const [low, high, letters, atoms] = found, width = 150, tall = 40, bar = width / letters.length;
    const d = [...letters].map((c, i) => (c === "A" ? "" : `M${(i * bar).toFixed(1)} ${tall}v${(-tall * height(c)).toFixed(1)}h${bar.toFixed(1)}V${tall}z`)).join("");
    const said = atoms ? ["-1", "0", "1"].flatMap((v, i) => (atoms[i] ? [`${atoms[i]}% are ${v}`] : [])).join(", ") : "";
    const node = svg("svg", { width, height: tall + 14, role: "img", "aria-label": `Histogram of the ${kind}s` }, svg("path", { d, fill: tone(kind === "gradient" ? "backward" : "forward") }),
      svg("text", { x: 0, y: tall + 11 }, format(low)), svg("text", { x: width, y: tall + 11, "text-anchor": "end" }, format(high)), svg("text", { x: width / 2, y: tall + 11, "text-anchor": "middle" }, said || kind));
    return [node];
  });
}
