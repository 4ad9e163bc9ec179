"use strict";
// One function per chart: the data of html_data.py -> {traces, layout} for plotly, or null if there is nothing
// to show. All charts over depth have x = 1, 2, ... (execution order), so that one mark fits them all.

const data = JSON.parse(document.getElementById("data").textContent);
const layers = data.layers;
const X = layers.map((_, i) => i + 1);
const FEW_LINES = 12, NAMED_TICKS = 40;
const LINE_COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8a939c", "#a6611a"];

const tone = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
// plotly reads <b>, <a href> and entities in its texts; names must stay what they are
const literal = s => String(s).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const cut = (s, n) => { const c = [...s]; return c.length <= n ? s : c.slice(0, Math.ceil(n / 2) - 1).join("") + "…" + c.slice(-Math.floor(n / 2)).join(""); };
const title = layer => literal(cut(layer.name, 60)) + (layer.module ? " · " + literal(cut(layer.module, 24)) : "");
const titles = layers.map(title);
const some = values => values && values.some(v => v !== null);
const narrow = () => window.innerWidth < 640;

function axis(text, more) {
  return { title: { text, font: { size: 12 }, standoff: 8 }, gridcolor: tone("grid"), zeroline: false, linecolor: tone("line"), automargin: true, ...more };
}

function base(more) {
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
    font: { color: tone("text"), size: 12, family: "system-ui, 'Liberation Sans', sans-serif" },
    margin: { l: 58, r: 16, t: 28, b: 40 }, showlegend: true,
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: 11 } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: tone("zero"), activecolor: tone("text") },
    hoverlabel: { bgcolor: tone("card"), bordercolor: tone("line"), font: { color: tone("text") }, align: "left" },
    ...more,
  };
}

function depthAxis(more) {
  const room = narrow() ? 14 : NAMED_TICKS;
  const ticks = layers.length <= room
    ? { tickvals: X, ticktext: layers.map(l => literal(cut(l.name, 18))), tickangle: -50, tickfont: { size: 10 } } : {};
  const text = layers.length <= room ? "" : "layer, in execution order";
  return axis(text, { range: [0.5, layers.length + 0.5], showgrid: false, ...ticks, ...more });
}

// one tick per power of ten, or per several where there are many
const logAxis = (text, more) => axis(text, { type: "log", exponentformat: "power", dtick: more.range ? Math.ceil((more.range[1] - more.range[0]) / 6) : 1, ...more });

// no ticks at half steps
function stepAxis(steps, more) {
  const few = steps.reduce((a, b) => Math.max(a, b), 0) - steps[0] <= 12;
  return axis("step", { ...(few ? { dtick: 1 } : {}), ...more });
}

// a log axis hugging a flat line would turn noise into mountains: at least two decades
function decades(...columns) {
  const logs = columns.flat().filter(v => v > 0).map(Math.log10);
  if (!logs.length) return {};
  const low = logs.reduce((a, b) => Math.min(a, b)), high = logs.reduce((a, b) => Math.max(a, b));
  const margin = Math.max(0.15, (2 - high + low) / 2);
  return { range: [low - margin, high + margin] };
}

function line(name, y, color, more) {
  const mode = layers.length <= 80 ? "lines+markers" : "lines";
  return {
    type: "scatter", mode, name, x: X, y: y.map(v => v > 0 ? v : null), customdata: titles, line: { color, width: 1.6 }, marker: { size: 5, color },
    hovertemplate: `%{customdata}<br>${name} %{y:.3g}<extra></extra>`, ...more,
  };
}

function colorbar(text, more) {
  return { title: { text, side: "right", font: { size: 11 } }, thickness: 10, outlinewidth: 0, tickfont: { size: 10 }, ...more };
}

function panelTitle(text, y) {
  return { text, x: 0, y, xref: "paper", yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false, font: { size: 12, color: tone("muted") } };
}

const charts = {
  health(step) {
    const d = data.depth[step];
    const raw = { scale: d.rms, gradient: d.gradient, saturated: d.saturated, dead: d.dead, "non-finite": d.nonfinite, "gradient:data": d.gradient_ratio, "update:data": d.update_ratio };
    const says = { scale: "rms", gradient: "gradient rms", saturated: "saturated fraction", dead: "dead fraction", "non-finite": "non-finite fraction", "gradient:data": "log10", "update:data": "log10" };
    const kept = data.measures.map((m, i) => [m, i]).filter(([, i]) => some(d.concerns[i])).reverse();
    if (!kept.length) return null;
    const hover = kept.map(([m]) => titles.map((t, i) => `${t}<br>${says[m]} ${format(raw[m][i])}`));
    return {
      traces: [{
        type: "heatmap", x: X, y: kept.map(([m]) => m), z: kept.map(([, i]) => d.concerns[i]), zmin: 0, zmax: 1, text: hover,
        hovertemplate: "%{text}<extra></extra>", xgap: layers.length > 60 ? 0 : 1, ygap: 2,
        colorscale: [[0, tone("off-0")], [0.5, tone("off-1")], [1, tone("off-2")]],
        colorbar: colorbar("", { tickvals: [0, 1], ticktext: ["calm", "far off"] }),
      }],
      layout: base({ xaxis: depthAxis(), yaxis: axis("", { showgrid: false, ticksuffix: " " }), margin: { l: 90, r: 16, t: 8, b: 40 } }),
    };
  },

  scale(step) {
    const d = data.depth[step];
    if (!some(d.rms) && !some(d.std)) return null;
    const back = some(d.gradient);
    const traces = [
      line("rms", d.rms, tone("forward-2"), { line: { color: tone("forward-2"), width: 1.2 } }),
      line("std", d.std, tone("forward")),
    ];
    if (back) traces.push(line("gradient rms", d.gradient, tone("backward"), { yaxis: "y2" }));
    const layout = base({
      xaxis: depthAxis({ anchor: back ? "y2" : "y" }),
      yaxis: logAxis("activations", { domain: back ? [0.46, 1] : [0, 1], ...decades(d.rms, d.std, [1]) }),
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, yref: "y", y0: 1, y1: 1, line: { color: tone("muted"), width: 1, dash: "dash" } }],
    });
    if (back) layout.yaxis2 = logAxis("gradients", { domain: [0, 0.4], ...decades(d.gradient) });
    return { traces, layout };
  },

  repair() { // left as the model came, right as it is now, on the same axes
    const was = data.before, now = data.depth[data.now];
    if (!was) return null;
    const back = some(was.gradient) || some(now.gradient);
    const traces = [
      line("before", was.std, tone("warning")),
      line("after", now.std, tone("forward"), { xaxis: "x2" }),
    ];
    if (back) {
      traces.push(line("before", was.gradient, tone("warning"), { yaxis: "y2", showlegend: false }));
      traces.push(line("after", now.gradient, tone("backward"), { xaxis: "x2", yaxis: "y2", showlegend: false }));
    }
    const plain = { showticklabels: narrow() ? false : layers.length <= 24 };
    const layout = base({
      xaxis: depthAxis({ domain: [0, 0.48], anchor: back ? "y2" : "y", ...plain }),
      xaxis2: depthAxis({ domain: [0.52, 1], anchor: back ? "y2" : "y", ...plain }),
      yaxis: logAxis("std", { domain: back ? [0.46, 1] : [0, 1], ...decades(was.std, now.std, [1]) }),
      showlegend: false,
      annotations: [panelTitle("before", 1.005), { ...panelTitle("after", 1.005), x: 0.52 }],
      shapes: [{ type: "line", xref: "paper", x0: 0, x1: 1, yref: "y", y0: 1, y1: 1, line: { color: tone("muted"), width: 1, dash: "dash" } }],
    });
    if (back) layout.yaxis2 = logAxis("gradient rms", { domain: [0, 0.4], ...decades(was.gradient, now.gradient) });
    return { traces, layout, depth: false };
  },

  distribution(step) {
    const found = Object.entries(data.histograms[step] || {});
    if (!found.length) return null;
    const top = Math.max(...found.flatMap(([, h]) => h.share.map(row => row.reduce((a, b) => Math.max(a, b), 0))));
    const layout = base({ showlegend: false, annotations: [] });
    const traces = found.map(([kind, h], i) => {
      const share = found.length > 1 ? 0.44 : 1, low = found.length > 1 && i === 0 ? 0.56 : 0;
      layout[i ? "yaxis2" : "yaxis"] = axis("magnitude", { domain: [low, low + share], tickprefix: "2<sup>", ticksuffix: "</sup>", showgrid: false, nticks: 8 });
      layout.annotations.push(panelTitle(kind + "s", low + share + 0.005));
      return {
        type: "heatmap", x: X, y: h.share.map((_, k) => h.low + k + 0.5), z: h.share.map(row => row.map(v => v === null ? null : v / 10)), zmin: 0, zmax: top / 10, yaxis: i ? "y2" : "y",
        text: h.share.map((_, k) => titles.map(t => `${t}<br>2<sup>${h.low + k}</sup> to 2<sup>${h.low + k + 1}</sup>`)),
        hovertemplate: "%{text}<br>%{z:.1f}% of values<extra></extra>", colorscale: "Cividis", showscale: i === 0, colorbar: colorbar("% of values", { len: 0.9 }),
      };
    });
    layout.xaxis = depthAxis({ anchor: traces.length > 1 ? "y2" : "y" });
    return { traces, layout };
  },

  fractions(step) {
    const d = data.depth[step];
    const columns = [["zero", d.zero, tone("zero"), "circle"], ["saturated", d.saturated, tone("saturated"), "square"], ["dead units", d.dead, tone("error"), "x"], ["non-finite", d.nonfinite, tone("error"), "star"]];
    const traces = columns.filter(([, y]) => y.some(v => v > 0)).map(([name, y, color, symbol]) => {
      const at = X.filter(x => y[x - 1] > 0);
      return { type: "scatter", mode: "markers", name, x: at, y: at.map(x => 100 * y[x - 1]), customdata: at.map(x => titles[x - 1]), marker: { color, symbol, size: 7 }, hovertemplate: `%{customdata}<br>%{y:.3g}% ${name}<extra></extra>` };
    });
    if (!traces.length) return null;
    return { traces, layout: base({ xaxis: depthAxis(), yaxis: axis("% of values or units", { range: [-3, 103] }) }) };
  },

  ratios(step) {
    const p = data.parameters;
    const rows = [["gradient:data", p.gradient[step], tone("backward"), "circle"], ["update:data", p.update[step], tone("forward"), "diamond"]];
    const traces = rows.filter(([, y]) => some(y)).map(([name, y, color, symbol]) => ({
      type: "scatter", mode: "markers", name, x: p.x, y, customdata: p.names.map(n => literal(cut(n, 60))), marker: { color, symbol, size: 7, opacity: 0.85 },
      hovertemplate: `%{customdata}<br>log10 ${name} %{y:.2f}<extra></extra>`,
    }));
    if (!traces.length) return null;
    const shapes = some(p.update[step]) ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: -3, y1: -3, line: { color: tone("muted"), width: 1, dash: "dash" } }] : [];
    return { traces, layout: base({ xaxis: depthAxis(), yaxis: axis("log10 of the ratio", {}), shapes }) };
  },

  saturation() {
    const map = data.maps[document.getElementById("map").value];
    if (!map) return null;
    const bytes = atob(map.bits), z = [];
    for (let row = 0; row < map.rows; row++) {
      const line = new Array(map.cols);
      for (let col = 0; col < map.cols; col++) {
        const bit = row * map.cols + col;
        line[col] = bytes.charCodeAt(bit >> 3) >> (7 - (bit & 7)) & 1;
      }
      z.push(line);
    }
    return {
      traces: [{ type: "heatmap", z, zmin: 0, zmax: 1, showscale: false, colorscale: [[0, "#15181c"], [1, "#ffffff"]], hovertemplate: "example %{y}, unit %{x}<extra></extra>" }],
      layout: base({ showlegend: false, margin: { l: 58, r: 16, t: 8, b: 40 }, xaxis: axis("unit", { showgrid: false }), yaxis: axis("example", { showgrid: false, autorange: "reversed" }) }),
      depth: false,
    };
  },

  metrics() {
    const found = Object.entries(data.time.metrics);
    if (!found.length) return null;
    const traces = found.map(([name, [x, y]], i) => ({ type: "scatter", mode: x.length > 30 ? "lines" : "lines+markers", name: literal(cut(name, 30)), x, y, line: { color: LINE_COLORS[i % 8], width: 1.6 } }));
    return { traces, layout: base({ xaxis: stepAxis(found.flatMap(([, [x]]) => x)), yaxis: axis("value"), showlegend: true }), depth: false };
  },

  time() {
    const which = document.getElementById("statistic").value;
    const labels = { std: "std", mean: "mean", gradient: "gradient rms" };
    return overTime(data.time[which], X, labels[which], which !== "mean", {});
  },

  updates() {
    return overTime(data.time.update, data.time.update_layers, "log10 update:data", false, { guide: -3 });
  },
};

// Lines for few layers, a row of pixels per layer for many.
function overTime(table, numbers, label, log, { guide }) {
  const steps = data.time.steps;
  const rows = (table || []).map((y, i) => [numbers[i], y]).filter(([, y]) => some(y));
  if (!steps.length || !rows.length) return null;
  const names = rows.map(([n]) => titles[n - 1]);
  if (rows.length <= FEW_LINES) {
    const traces = rows.map(([n, y], i) => ({
      type: "scatter", mode: steps.length > 30 ? "lines" : "lines+markers", name: literal(cut(layers[n - 1].name, 22)), x: steps, y: log ? y.map(v => v > 0 ? v : null) : y,
      line: { color: LINE_COLORS[i % 8], width: 1.6, dash: i < 8 ? "solid" : "dot" }, hovertemplate: `${names[i]}<br>step %{x}<br>${label} %{y:.3g}<extra></extra>`,
    }));
    const shapes = guide === undefined ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: guide, y1: guide, line: { color: tone("muted"), width: 1, dash: "dash" } }];
    const yaxis = log ? logAxis(label, decades(...rows.map(([, y]) => y))) : axis(label);
    return { traces, layout: base({ xaxis: stepAxis(steps), yaxis, shapes }), depth: false };
  }
  const z = rows.map(([, y]) => log ? y.map(v => v > 0 ? Math.log10(v) : null) : y);
  const text = rows.map(([, y], i) => steps.map((s, k) => `${names[i]}<br>step ${s}<br>${label} ${format(y[k])}`));
  const centered = guide !== undefined || !log;
  const scale = guide !== undefined ? { zmin: guide - 2, zmax: guide + 2 } : {};
  return {
    traces: [{ type: "heatmap", x: steps, y: rows.map((_, i) => i + 1), z, text, hovertemplate: "%{text}<extra></extra>", ...scale, zmid: centered ? guide ?? 0 : undefined,
      colorscale: centered ? "RdBu" : "Cividis", reversescale: false, colorbar: colorbar(log ? "log10 " + label : label) }],
    layout: base({ showlegend: false, margin: { l: 58, r: 16, t: 8, b: 40 }, xaxis: stepAxis(steps, { showgrid: false }), yaxis: axis(guide === undefined ? "layer" : "weight", { showgrid: false, autorange: "reversed" }) }),
    depth: false,
  };
}

function format(value) {
  if (value === null || value === undefined) return "not measured";
  const size = Math.abs(value);
  return size !== 0 && (size < 0.01 || size >= 1e4) ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}
