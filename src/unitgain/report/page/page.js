// Behaviour of the page: draws the charts one after another, marks a layer everywhere, sorts and filters the table.

const root = document.documentElement;
const $ = id => document.getElementById(id);
const view = { step: data.now, selected: 0 };
const figures = [...document.querySelectorAll("figure[data-chart]")];
const rows = [...document.querySelectorAll("#layers tbody tr")];
const PLOT_OPTIONS = {
  responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "pan2d"],
  displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false, // without a mouse it would cover the chart
};
const drawn = new Map(); // figure -> shapes of its layout without the mark, for the charts over depth

function draw(figure) {
  const chart = charts[figure.dataset.chart](view.step);
  const place = figure.querySelector(".plot");
  figure.hidden = !chart;
  if (!chart) return;
  const shapes = chart.layout.shapes || [];
  const overDepth = chart.depth !== false;
  if (overDepth) { drawn.set(figure, shapes); chart.layout.shapes = shapes.concat(mark()); }
  Plotly.react(place, chart.traces, chart.layout, PLOT_OPTIONS);
  if (overDepth && !place.dataset.clickable) {
    place.dataset.clickable = "true";
    place.on("plotly_click", event => select(Math.round(event.points[0].x), { row: true }));
  }
}

function drawAll(which = figures) {
  const queue = [...which];
  (function next() {
    const figure = queue.shift();
    if (!figure) { root.dataset.ready = "true"; return; }
    draw(figure);
    setTimeout(next, 0); // lets the page scroll between two charts
  })();
}

const mark = () => view.selected
  ? [{ type: "line", xref: "x", x0: view.selected, x1: view.selected, yref: "paper", y0: 0, y1: 1, line: { color: tone("mark"), width: 2 } }] : [];

function select(number, { row = false, scroll = false } = {}) {
  view.selected = number >= 1 && number <= layers.length ? number : 0;
  for (const [figure, shapes] of drawn) {
    if (!figure.hidden) Plotly.relayout(figure.querySelector(".plot"), { shapes: shapes.concat(mark()) });
  }
  rows.forEach(r => r.classList.toggle("selected", r.id === "layer-" + view.selected));
  $("selected").hidden = !view.selected;
  if (!view.selected) return;
  const layer = layers[view.selected - 1], d = data.depth[view.step], i = view.selected - 1;
  $("selected-name").textContent = cut(layer.name, 60);
  const facts = [layer.module, layer.shape, "std " + format(d.std[i]), "mean " + format(d.mean[i])];
  if (d.saturated[i] > 0) facts.push(`saturated ${format(100 * d.saturated[i])}%`);
  if (d.dead[i] > 0) facts.push(`dead ${format(100 * d.dead[i])}%`);
  if (d.gradient[i] !== null) facts.push("gradient rms " + format(d.gradient[i]));
  $("selected-facts").textContent = facts.concat(layer.codes).filter(Boolean).join(" · ");
  if (row) showRow();
  if (scroll) $("charts").scrollIntoView();
  const map = $("map");
  if (Object.hasOwn(data.maps, layer.key) && map.value !== layer.key) { map.value = layer.key; redraw("saturation"); }
}

const redraw = name => draw(figures.find(f => f.dataset.chart === name));

function showRow() { // scrolls inside the table only
  const row = $("layer-" + view.selected), box = row && row.closest(".scroll");
  if (row) box.scrollTop = row.offsetTop - box.clientHeight / 2;
}

document.addEventListener("click", event => {
  const link = event.target.closest("a[data-layer]");
  if (!link) return;
  event.preventDefault();
  const fromFinding = Boolean(link.closest(".finding"));
  select(Number(link.dataset.layer), { row: fromFinding, scroll: fromFinding });
});
document.querySelectorAll("[data-move]").forEach(button => button.addEventListener("click", () => {
  select(Math.min(layers.length, Math.max(1, view.selected + Number(button.dataset.move))), { row: true });
}));
$("clear").addEventListener("click", () => select(0));
$("to-charts").addEventListener("click", () => $("charts").scrollIntoView());
$("to-table").addEventListener("click", () => { showRow(); $("layers").scrollIntoView(); });
document.addEventListener("keydown", event => { if (event.key === "Escape" && view.selected) select(0); });

// ---- controls ----

$("theme").addEventListener("click", () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("unitgain-theme", root.dataset.theme); } catch { /* a page from disk may have no storage */ }
  drawAll();
});

if (data.steps.length > 1) {
  $("step-control").hidden = false;
  $("step").max = data.steps.length - 1;
  $("step").value = view.step;
  $("step-value").textContent = data.steps[view.step];
  $("step").addEventListener("input", () => {
    view.step = Number($("step").value);
    $("step-value").textContent = data.steps[view.step];
    drawAll(figures.filter(f => ["health", "scale", "distribution", "fractions", "ratios"].includes(f.dataset.chart)));
    if (view.selected) select(view.selected);
  });
}

for (const key of Object.keys(data.maps)) {
  const option = document.createElement("option"), layer = layers.find(l => l.key === key);
  option.value = key;
  option.textContent = cut(layer ? layer.name : key, 48);
  $("map").append(option);
}
$("map").addEventListener("change", () => redraw("saturation"));
$("statistic").addEventListener("change", () => redraw("time"));

// ---- table ----

const heads = [...document.querySelectorAll("#layers thead th")];
const key = (row, column) => { const cell = row.cells[column]; return cell.dataset.v ?? cell.textContent; };

heads.forEach((head, column) => {
  if (head.classList.contains("fixed")) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const numeric = rows.every(r => key(r, column) === "" || !Number.isNaN(Number(key(r, column))));
    rows.sort((a, b) => {
      const x = key(a, column), y = key(b, column);
      if (x === "" || y === "") return (x === "") - (y === ""); // what was not measured stays at the end
      return (down ? -1 : 1) * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
    });
    document.querySelector("#layers tbody").append(...rows);
  });
});

function filter() {
  const wanted = $("filter").value.trim().toLowerCase();
  let shown = 0;
  for (const row of rows) {
    const layer = layers[Number(row.id.slice(6)) - 1];
    const text = [layer.name, layer.module, ...layer.codes].join(" ").toLowerCase();
    row.hidden = !text.includes(wanted) || ($("only").checked && !layer.severity);
    shown += !row.hidden;
  }
  $("shown").textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
}
$("filter").addEventListener("input", filter);
$("only").addEventListener("change", filter);

drawAll();
