"use strict";
// Asks the server every two seconds and draws what is new. Texts are set as text; what goes into plotly, which reads tags in
// its texts, is made literal first.

const $ = id => document.getElementById(id);
const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#8a939c", "#a6611a"];
const EVERY = 2000;
const color = i => COLORS[i % COLORS.length];
const tone = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const literal = s => String(s).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const cut = (s, n) => { const c = [...s]; return c.length <= n ? s : c.slice(0, Math.ceil(n / 2) - 1).join("") + "…" + c.slice(-Math.floor(n / 2)).join(""); };
const last = values => { for (let i = values.length - 1; i >= 0; i--) if (values[i] !== null) return values[i]; return null; };
const shown = v => (v === null || v === undefined ? "" : Math.abs(v) !== 0 && (Math.abs(v) < 0.01 || Math.abs(v) >= 1e5) ? v.toExponential(2) : String(Number(v.toPrecision(4))));
const percent = v => (v === null ? "" : v > 0 && v < 0.005 ? "<1%" : Math.round(100 * v) + "%");
const some = values => values.some(v => v !== null);

let overview = null, heat = null, picked = null, versions = "";

function node(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

async function ask(path) {
  const reply = await fetch(path, { signal: AbortSignal.timeout(20000) });
  const body = await reply.json();
  if (!reply.ok) throw new Error(body.error || reply.statusText);
  return body;
}

// ---- what is asked ----

async function round() {
  try {
    overview = await ask("/api/runs");
    $("state").textContent = "updated " + new Date().toLocaleTimeString();
    $("state").className = "";
    drawOverview();
    document.documentElement.dataset.first ??= Math.round(performance.now()); // benchmarks/pages.py reads it
    await drawLayers();
    document.documentElement.dataset.ready = "true";
  } catch (error) {
    $("state").textContent = overview ? "the server does not answer; what is shown is old" : "the server does not answer";
    $("state").className = "lost";
    document.documentElement.dataset.trouble = error.message;
  }
  setTimeout(round, document.hidden ? 5 * EVERY : EVERY);
}

function drawOverview() {
  const now = overview.runs.map(r => r.version + r.state + r.judged + r.status).join();
  drawTable();
  if (now === versions) return;
  versions = now;
  options($("metric"), [...new Set(overview.runs.flatMap(r => Object.keys(r.metrics)))].sort((a, b) => (b === "loss") - (a === "loss")).map(m => [m, m]));
  options($("run"), overview.runs.map((r, i) => [String(i), r.name]));
  options($("quantity"), Object.entries(overview.quantities));
  $("run").hidden = overview.runs.length < 2;
  drawFindings();
  drawMetric();
  drawUpdates();
  drawWorst();
}

function options(select, wanted) {
  if (wanted.map(w => w[0]).join("\n") === [...select.options].map(o => o.value).join("\n")) return;
  const before = select.value;
  select.replaceChildren(...wanted.map(([value, text]) => node("option", { value, textContent: cut(text, 60) })));
  if (wanted.some(([value]) => value === before)) select.value = before;
}

function ago(seconds) {
  const passed = Date.now() / 1000 - seconds;
  return passed < 10 ? "" : passed < 120 ? `, last written ${Math.round(passed)} s ago` : passed < 7200 ? `, last written ${Math.round(passed / 60)} min ago` : `, last written ${Math.round(passed / 3600)} h ago`;
}

function drawTable() {
  $("runs").tBodies[0].replaceChildren(...overview.runs.map((r, i) => {
    const key = node("span", { className: "key" });
    key.style.background = color(i);
    const state = node("td", { className: r.state }, r.state + (r.state === "running" || r.state === "stopped" ? ago(r.changed) : ""));
    if (r.trouble) state.append(node("small", { textContent: r.trouble }));
    return node("tr", {}, node("td", {}, key, r.name, node("small", { textContent: r.model })), state,
      node("td", { className: "n", textContent: r.step.toLocaleString("en") }), node("td", { className: "n", textContent: shown(r.metrics.loss ? last(r.metrics.loss[1]) : null) }),
      node("td", { className: "n", textContent: shown(last(r.updates.middle)) }), node("td", { className: r.status, textContent: r.verdict || "not judged yet" }));
  }));
}

function drawFindings() {
  const several = overview.runs.length > 1;
  const found = overview.runs.flatMap(r => r.findings.map(f => [r, f]));
  $("findings").replaceChildren(...(found.length ? found : []).map(([r, f]) => {
    const place = [several ? r.name : "", f.site].filter(Boolean).join(", ");
    const head = node("div", {}, node("span", { className: "what " + f.severity, textContent: f.severity }), node("b", { textContent: `${f.code} ${f.name}` }), place ? ` at ${cut(place, 90)}` : "", node("span", { className: "muted", textContent: f.since === null ? "" : `  since step ${f.since.toLocaleString("en")}` }));
    return node("div", { className: "finding " + f.severity }, head, node("p", { textContent: f.message }), f.cause ? node("p", { className: "muted", textContent: f.cause }) : "", f.remedy ? node("p", {}, node("b", { textContent: "Do " }), f.remedy) : "");
  }));
  if (!found.length) $("findings").append(node("p", { className: "muted", textContent: overview.runs.some(r => r.verdict) ? "None so far." : "Nothing was judged yet." }));
}

function drawWorst() {
  const run = overview.runs[Number($("run").value) || 0];
  $("worst-section").hidden = !run.worst.length;
  $("worst").tBodies[0].replaceChildren(...run.worst.map(w => node("tr", {}, node("td", { textContent: w.site }), node("td", { className: "n", textContent: percent(w.dead) }), node("td", { className: "n", textContent: percent(w.saturated) }))));
}

// ---- charts ----

function layout(more) {
  const axis = { gridcolor: tone("grid"), linecolor: tone("line"), zeroline: false, automargin: true };
  const { xaxis, yaxis, ...rest } = more;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: tone("text"), size: 12, family: "system-ui, 'Liberation Sans', sans-serif" },
    margin: { l: 56, r: 16, t: 10, b: 40 }, hovermode: "closest", uirevision: "kept", legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
    hoverlabel: { bgcolor: tone("card"), bordercolor: tone("line"), font: { color: tone("text") }, align: "left" },
    xaxis: { ...axis, title: { text: "step" }, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
  };
}
const PLOT = { responsive: true, displaylogo: false, displayModeBar: false, scrollZoom: false };

function decades(traces) {
  let low = Infinity, high = 0;
  for (const t of traces) for (const v of t.y) if (v > 0) { low = Math.min(low, v); high = Math.max(high, v); }
  return high > low ? Math.log10(high / low) : 0;
}

function drawMetric() {
  const name = $("metric").value, log = $("log").checked;
  const traces = overview.runs.flatMap((r, i) => {
    const found = Object.hasOwn(r.metrics, name) ? r.metrics[name] : null;
    return found ? [{ type: "scatter", mode: found[0].length > 40 ? "lines" : "lines+markers", name: literal(r.name), x: found[0], y: found[1], line: { color: color(i), width: 1.5 }, hovertemplate: "step %{x}<br>%{y:.5g}<extra></extra>" }] : [];
  });
  Plotly.react($("metric-plot"), traces, layout({ uirevision: name + log, showlegend: traces.length > 1, yaxis: log ? { type: "log", dtick: decades(traces) > 3 ? 1 : "D2" } : {} }), PLOT);
}

function drawUpdates() {
  const runs = overview.runs.map((r, i) => [r, i]).filter(([r]) => r.updates.steps.length);
  $("updates").hidden = !runs.length;
  if (!runs.length) return;
  const traces = runs.flatMap(([r, i]) => {
    const u = r.updates, lines = [{ type: "scatter", mode: u.steps.length > 40 ? "lines" : "lines+markers", name: literal(r.name), x: u.steps, y: u.middle, line: { color: color(i), width: 1.8 }, hovertemplate: "step %{x}<br>median %{y:.2f}<extra></extra>" }];
    const edge = y => ({ type: "scatter", mode: "lines", x: u.steps, y, line: { width: 0 }, showlegend: false, hoverinfo: "skip" });
    return runs.length > 1 ? lines : [edge(u.low), { ...edge(u.high), fill: "tonexty", fillcolor: color(i) + "33" }, ...lines];
  });
  const guide = { type: "line", xref: "paper", x0: 0, x1: 1, y0: -3, y1: -3, line: { color: tone("muted"), width: 1, dash: "dash" } };
  Plotly.react($("update-plot"), traces, layout({ showlegend: runs.length > 1, shapes: [guide], yaxis: { title: { text: "log10 update:data" } } }), PLOT);
}

async function drawLayers() {
  const run = Number($("run").value) || 0, quantity = $("quantity").value;
  if (!quantity || !overview.runs[run].sampled) { $("layers").hidden = true; return; }
  $("layers").hidden = false;
  const known = heat && heat.run === run && heat.quantity === quantity ? heat.version : "";
  const found = await ask(`/api/heat?run=${run}&quantity=${encodeURIComponent(quantity)}&known=${known}`);
  if (found.same) return;
  if (picked && (!heat || heat.run !== run || heat.quantity !== quantity)) picked = null;
  heat = { ...found, run };
  options($("layer"), [["", "one layer alone …"], ...heat.sites.map(s => [s, s])]);
  drawHeat();
  await drawSite();
}

const LOG = new Set(["std", "gradient"]); // magnitudes that span decades

function drawHeat() {
  const place = $("heat-plot"), log = LOG.has(heat.quantity);
  const z = heat.values.map(row => row.map(v => (v === null || (log && v <= 0) ? null : log ? Math.log10(v) : v)));
  const x = heat.steps.map((_, i) => i), rows = heat.sites.map((_, i) => i);
  const every = Math.max(1, Math.ceil(heat.steps.length / 8)), named = rows.length <= 40;
  const text = heat.values.map((row, i) => row.map((v, k) => `${literal(cut(heat.sites[i], 60))}<br>step ${heat.steps[k]}: ${v === null ? "not measured" : shown(v)}`));
  const centred = heat.quantity === "update" ? { zmin: -5, zmax: -1 } : {};
  const trace = { type: "heatmap", x, y: rows, z, text, hovertemplate: "%{text}<extra></extra>", colorscale: "Cividis", hoverongaps: false, ...centred, colorbar: { title: { text: (log ? "log10 of " : "") + literal(heat.title).replace("log10 ", ""), side: "right", font: { size: 11 } }, thickness: 10, outlinewidth: 0, len: 1 } };
  Plotly.react(place, [trace], layout({
    uirevision: heat.run + heat.quantity + heat.sites.length,
    xaxis: { tickvals: x.filter(i => i % every === 0), ticktext: heat.steps.filter((_, i) => i % every === 0).map(String), showgrid: false },
    yaxis: { autorange: "reversed", showgrid: false, ...(named ? { tickvals: rows, ticktext: heat.sites.map(s => literal(cut(s, 24))), tickfont: { size: 10 } } : { title: { text: "layer, in execution order" } }) },
  }), PLOT);
  if (!place.dataset.clickable) {
    place.dataset.clickable = "true";
    place.on("plotly_click", event => { picked = heat.sites[event.points[0].y]; $("layer").value = picked; drawSite(); });
  }
}

async function drawSite() {
  const asked = heat; // another one may be asked for while this waits
  const row = !asked || picked === null ? -1 : asked.sites.indexOf(picked);
  $("site-plot").hidden = row < 0;
  if (row < 0) return;
  const found = await ask(`/api/site?run=${asked.run}&quantity=${encodeURIComponent(asked.quantity)}&row=${row}`);
  const lines = Object.entries(found.lines).filter(([, l]) => some(l.values));
  const traces = lines.map(([key, l], i) => ({ type: "scatter", mode: "lines+markers", marker: { size: 3 }, name: literal(l.title), x: found.steps, y: l.values, line: { color: color(i), width: 1.5 }, visible: key === asked.quantity ? true : "legendonly", hovertemplate: "step %{x}<br>%{y:.4g}<extra></extra>" }));
  Plotly.react($("site-plot"), traces, layout({ uirevision: found.site + asked.quantity, showlegend: innerWidth >= 640, title: { text: literal(cut(found.site, 80)), font: { size: 13 }, x: 0, xref: "paper", y: 0.99, yanchor: "top" }, margin: { l: 56, r: 16, t: 46, b: 40 } }), PLOT);
}

$("metric").addEventListener("change", drawMetric);
$("log").addEventListener("change", drawMetric);
$("run").addEventListener("change", () => { drawLayers(); drawWorst(); });
$("quantity").addEventListener("change", () => drawLayers());
$("layer").addEventListener("change", () => { picked = $("layer").value || null; drawSite(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { versions = ""; heat = null; });
matchMedia("(min-width: 640px)").addEventListener("change", () => { if (heat) drawSite(); });
addEventListener("error", event => { document.documentElement.dataset.errors = event.message; });
addEventListener("unhandledrejection", event => { document.documentElement.dataset.errors = String(event.reason); });
const widths = new ResizeObserver(entries => entries.forEach(({ target }) => {
  if (target.classList.contains("js-plotly-plot") && target.clientWidth) Plotly.Plots.resize(target);
}));
document.querySelectorAll(".plot").forEach(plot => widths.observe(plot));
round();
