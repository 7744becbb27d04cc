// What the report and the pages of `sojourn view` share: theme, colours of tokens, the values under the pointer.
const root = document.documentElement, tip = document.getElementById("tip"), themeButton = document.getElementById("theme");
const kept = (name, value) => { try { return value === undefined ? localStorage.getItem(name) : localStorage.setItem(name, value); } catch { return null; } };

function setTheme(name) { root.dataset.theme = name; themeButton.textContent = name === "dark" ? "light" : "dark"; }
const preferred = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
setTheme(location.hash === "#dark" ? "dark" : kept("theme") || preferred);
themeButton.onclick = () => { setTheme(root.dataset.theme === "dark" ? "light" : "dark"); kept("theme", root.dataset.theme); };

function setColour(name) {
  document.body.dataset.color = name;
  for (const other of document.querySelectorAll("[data-set]")) other.ariaPressed = String(other.dataset.set === name);
}
document.addEventListener("click", event => {
  const button = event.target.closest("[data-set]");
  if (button) { setColour(button.dataset.set); kept("colour", button.dataset.set); }
});
setColour(kept("colour") || "author");

const show = (v, percent) => percent ? (100 * v).toFixed(1) + "%" : Math.abs(v) >= 1000 ? Math.round(v).toLocaleString("en") : String(Number(v.toPrecision(4)));
let marked = null;
function hide() { tip.style.display = "none"; if (marked) marked.remove(); marked = null; }
function place(event) {
  tip.style.display = "block";
  tip.style.left = Math.max(8, Math.min(event.clientX + 16, innerWidth - tip.offsetWidth - 8)) + "px";
  tip.style.top = Math.max(8, Math.min(event.clientY + 16, innerHeight - tip.offsetHeight - 8)) + "px";
}
function overChart(svg, event) {
  const chart = JSON.parse(svg.dataset.chart), steps = [...new Set(chart.series.flatMap(s => s.points.map(p => p[0])))];
  if (!steps.length) return;
  const px = x => chart.left + (x - chart.x[0]) / (chart.x[1] - chart.x[0]) * (chart.right - chart.left);
  const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).x;
  const near = (values, of) => values.reduce((a, b) => Math.abs(px(of(b)) - at) < Math.abs(px(of(a)) - at) ? b : a);
  const step = near(steps, x => x);
  hide();
  marked = document.createElementNS("http://www.w3.org/2000/svg", "path");
  marked.setAttribute("stroke", "var(--muted)");
  marked.setAttribute("d", `M${px(step)} ${chart.top}V${chart.bottom}`);
  svg.append(marked);
  tip.replaceChildren(Object.assign(document.createElement("div"), {textContent: `${chart.unit} ${show(step)}`}));
  for (const s of chart.series) {
    const point = chart.unit === "step" ? s.points.find(p => p[0] === step) : s.points.length && near(s.points, p => p[0]);
    if (!point) continue;
    const row = document.createElement("div"), dot = document.createElement("i"), value = document.createElement("b");
    dot.style.background = s.color; value.textContent = show(point[1], chart.percent); row.append(dot, s.name, value); tip.append(row);
  }
  place(event);
}
function overText(block, event) {
  const token = event.target.closest(".t"), lines = [token && token.title, block.dataset.why].filter(Boolean);
  tip.replaceChildren(...lines.map(line => Object.assign(document.createElement("div"), {textContent: line})));
  if (lines.length) place(event);
}
document.addEventListener("pointermove", event => {
  const svg = event.target.closest?.("svg[data-chart]"), block = event.target.closest?.(".block[data-why]");
  if (svg) overChart(svg, event); else if (block) overText(block, event); else if (tip.style.display === "block") hide();
});
document.addEventListener("scroll", hide, {passive: true});
