// Behaviour of the page: draws the charts one after another, marks a layer everywhere, opens, sorts and filters the table.

const root = document.documentElement;
const $ = id => document.getElementById(id);
const view = { step: data.now, selected: 0 };
const figures = [...document.querySelectorAll("figure[data-chart]")];
const rows = [...document.querySelectorAll("#network tbody tr[id]")];
const bodies = [...document.querySelectorAll("#network tbody")];
const homes = new Map(rows.map(row => [row, row.parentElement]));
const numberOf = row => Number(row.id.slice(6));

function draw(figure) {
  const spec = charts[figure.dataset.chart](view.step), place = figure.querySelector(".plot");
  figure.hidden = !spec;
  if (!spec) return;
  if (Array.isArray(spec)) {
    place.classList.add("small");
    place.replaceChildren(...spec.map(() => html("div")));
    spec.forEach((one, i) => drawChart(place.children[i], one));
  } else drawChart(place, spec);
}

function drawAll(which = figures) {
  const queue = [...which];
  (function next() {
    const figure = queue.shift();
    if (!figure) { markAt("depth", view.selected || null); root.dataset.ready = "true"; return; }
    draw(figure);
    if (!root.dataset.first && !figure.hidden) root.dataset.first = Math.round(performance.now());
    setTimeout(next, 0); // lets the page scroll between two charts
  })();
}

function select(number, { row = false, scroll = false } = {}) {
  view.selected = number >= 1 && number <= layers.length ? number : 0;
  markAt("depth", view.selected || null);
  rows.forEach(r => r.classList.toggle("selected", numberOf(r) === view.selected));
  $("selected").hidden = !view.selected;
  if (!view.selected) return;
  const layer = layers[view.selected - 1], d = data.depth[view.step], i = view.selected - 1;
  $("selected-name").textContent = `${view.selected}: ${cut(layer.title, 60)}`;
  const facts = [layer.title.includes(" · ") ? "" : layer.module, layer.shape, "std " + format(d.std[i]), "mean " + format(d.mean[i])];
  if (d.saturated[i] > 0) facts.push(`saturated ${format(100 * d.saturated[i])}%`);
  if (d.dead[i] > 0) facts.push(`dead ${format(100 * d.dead[i])}%`);
  if (known(d.gradient[i])) facts.push("gradient rms " + format(d.gradient[i]));
  $("selected-facts").textContent = facts.concat(layer.codes || []).filter(Boolean).join(" · ");
  $("selected-shape").replaceChildren(...shapes(view.selected));
  if (row) showRow();
  if (scroll) $("charts").scrollIntoView();
  const map = $("map");
  if (Object.hasOwn(data.maps, layer.key) && map.value !== layer.key) { map.value = layer.key; redraw("saturation"); }
}

const redraw = name => draw(figures.find(f => f.dataset.chart === name));

function showRow() { // scrolls inside the table only
  const row = $("layer-" + view.selected), box = row && row.closest(".scroll");
  if (!row) return;
  fold(row.parentElement, false);
  box.scrollTop = row.offsetTop - box.clientHeight / 2;
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
$("to-table").addEventListener("click", () => { showRow(); $("network").scrollIntoView(); });
document.addEventListener("keydown", event => { if (event.key === "Escape" && view.selected) select(0); });

// ---- code and explanations ----

copyButtons();

function openTarget() { // a link to a rule opens its text
  let target = null;
  try { target = location.hash.length > 1 && $(decodeURIComponent(location.hash.slice(1))); } catch { /* not one of ours */ }
  if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", openTarget);
document.addEventListener("click", event => { // also where the address already ends so
  if (event.target.closest('a[href^="#rule-"]')) setTimeout(openTarget, 0);
});

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
    drawAll(figures.filter(f => ["scale", "magnitudes", "fractions", "ratios"].includes(f.dataset.chart)));
    if (view.selected) select(view.selected);
  });
}

for (const key of Object.keys(data.maps)) {
  const layer = layers.find(l => l.key === key);
  $("map").append(html("option", { value: key, textContent: cut(layer ? layer.title : key, 48) }));
}
$("map").addEventListener("change", () => redraw("saturation"));
$("statistic").addEventListener("change", () => redraw("time"));
document.addEventListener("drawn", () => markAt("depth", view.selected || null));
document.addEventListener("zoomed", () => { $("unzoom").hidden = zooms.size === 0; markAt("depth", view.selected || null); });
$("unzoom").addEventListener("click", () => [...zooms.keys()].forEach(axis => zoom(axis)));

// ---- blocks ----

const blocks = bodies.filter(body => body.classList.contains("block"));
function fold(body, shut) {
  if (!body.classList.contains("block")) return;
  body.classList.toggle("shut", shut);
  body.querySelector("button").setAttribute("aria-expanded", String(!shut));
}
blocks.forEach(body => body.querySelector("button").addEventListener("click", () => fold(body, !body.classList.contains("shut"))));
$("all").hidden = !blocks.length;
$("all").addEventListener("click", () => {
  const open = blocks.every(body => !body.classList.contains("shut"));
  blocks.forEach(body => fold(body, open));
  $("all").textContent = open ? "Open all blocks" : "Close all blocks";
});
document.addEventListener("click", event => {
  const link = event.target.closest("a[data-block]");
  if (!link) return;
  event.preventDefault();
  const body = $("block-" + link.dataset.block), box = body.closest(".scroll");
  fold(body, false);
  box.scrollTop = body.offsetTop - 40;
  (body.querySelector("button") || body.querySelector("a")).focus({ preventScroll: true });
});

// ---- table ----

const heads = [...document.querySelectorAll("#network thead th")];
const MEASURED = { Mean: "mean", Std: "std", "Satur.": "saturated", Dead: "dead", Zero: "zero", NaN: "nonfinite", "Grad rms": "gradient", "grad:data": "gradient_ratio", "upd:data": "update_ratio" };
const keyOf = (row, name, column) => (name === "#" ? numberOf(row) : name in MEASURED ? data.depth[data.now][MEASURED[name]][numberOf(row) - 1] : row.cells[column].textContent);

function sortBy(name, column, down) {
  const flat = name !== "#" || down;
  const keys = new Map(rows.map(row => [row, keyOf(row, name, column)])), numeric = name === "#" || name in MEASURED;
  const sorted = [...rows].sort((a, b) => {
    const x = keys.get(a), y = keys.get(b), none = v => !known(v) || v === "";
    if (none(x) || none(y)) return none(x) - none(y); // what was not measured stays at the end
    return (down ? -1 : 1) * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
  });
  const list = flat ? document.querySelector("#sorted") || html("tbody", { id: "sorted" }) : null;
  if (flat) { bodies[0].before(list); list.append(...sorted); } // without blocks, and without what flows past
  else { rows.forEach(row => homes.get(row).append(row)); document.querySelector("#sorted")?.remove(); }
  document.querySelector("#network table").classList.toggle("flat", flat);
  bodies.forEach(body => { body.hidden = flat; });
  $("order").hidden = !flat;
  $("all").hidden = flat || !blocks.length;
}

heads.forEach((head, column) => {
  if (head.classList.contains("fixed")) return;
  const name = head.textContent, button = html("button", { type: "button", textContent: name });
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    sortBy(name, column, down);
  });
});
$("order").addEventListener("click", () => { heads.forEach(h => h.removeAttribute("aria-sort")); sortBy("#", 1, false); });

function filter() {
  const wanted = $("filter").value.trim().toLowerCase();
  let shown = 0;
  for (const row of rows) {
    const layer = layers[numberOf(row) - 1];
    const text = [layer.name, layer.module, ...(layer.codes || [])].join(" ").toLowerCase();
    row.hidden = !text.includes(wanted) || ($("only").checked && !layer.codes);
    shown += !row.hidden;
  }
  const some = wanted || $("only").checked;
  for (const body of blocks) {
    body.querySelector(".head").hidden = [...body.querySelectorAll("tr[id]")].every(row => row.hidden);
    if (some) fold(body, false);
  }
  $("shown").textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
}
$("filter").addEventListener("input", filter);
$("only").addEventListener("change", filter);

drawAll();
openTarget();
