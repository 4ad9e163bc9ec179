// Draws the charts of sheet.py with draw.js, again when light and dark are switched; copies code.

const sheetCharts = JSON.parse(document.getElementById("data").textContent);

function specOf(chart, number) {
  const series = chart.lines.map(line => ({ ...line, color: tone(line.color), dash: line.dash ? "5 4" : null }));
  const few = chart.names.length && chart.names.length <= (innerWidth < 760 ? 16 : 40);
  const cut = s => (s.length <= 20 ? s : s.slice(0, 9) + "…" + s.slice(-10));
  const at = (line, i) => line.ys[line.xs ? line.xs.indexOf(chart.xs[i]) : i];
  return {
    label: chart.label, axis: "sheet" + number, xs: chart.xs, unit: chart.unit, height: 230, whole: true,
    wide: chart.names.length ? [chart.xs[0] - 0.5, chart.xs[chart.xs.length - 1] + 0.5] : undefined,
    ticks: few ? chart.names.map((name, i) => [chart.xs[i], cut(name)]) : undefined,
    panels: [{ log: chart.log, series, guides: known(chart.guide) ? [{ at: chart.guide, text: String(chart.guide) }] : [] }],
    tell: i => ({ title: chart.names[i] || `${chart.unit} ${chart.xs[i]}`, lines: chart.lines.filter(l => known(at(l, i))).map(l => [l.name, format(at(l, i))]) }),
  };
}

const drawSheet = () => document.querySelectorAll("figure[data-chart]").forEach(figure => {
  const number = Number(figure.dataset.chart);
  drawChart(figure.querySelector(".plot"), specOf(sheetCharts[number], number));
});

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("unitgain-theme", root.dataset.theme); } catch { /* a page from disk may have no storage */ }
  drawSheet();
});

copyButtons();
drawSheet();
document.documentElement.dataset.ready = "true";
