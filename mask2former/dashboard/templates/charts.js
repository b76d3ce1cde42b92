// Lines over two axes, as SVG, with the values under the pointer.
"use strict";
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = 8;

function element(name, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

function colourOf(series, index) { return `var(--c${(series.colour ?? index) % COLOURS})`; }

function shortNumber(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1).replace("e+", "e");
  return String(Number(value.toPrecision(size >= 1000 ? 6 : 4)));
}

// Round numbers that span [low, high] in about `count` steps.
function ticksOf(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((x) => x * power).find((x) => x >= rough * 0.999);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1) ticks.push(i * step);
  return ticks;
}

function logTicksOf(low, high) {
  const ticks = [];
  const many = Math.log10(high / low) > 3;
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (const x of many ? [1] : [1, 2, 5]) {
      const value = x * 10 ** power;
      if (value >= low * 0.999 && value <= high * 1.001) ticks.push(value);
    }
  }
  return ticks;
}

// A map from [low, high] to [start, end].
function scaleOf(axis, values, start, end) {
  const found = values.filter((v) => v !== null && (!axis.log || v > 0));
  let low = axis.min ?? Math.min(...found), high = axis.max ?? Math.max(...found);
  if (!found.length) [low, high] = [axis.min ?? (axis.log ? 0.1 : 0), axis.max ?? 1];
  if (low === high) [low, high] = axis.log ? [low / 2, high * 2] : [low - (Math.abs(low) / 2 || 0.5), high + (Math.abs(high) / 2 || 0.5)];
  if (axis.min === undefined && axis.roomy && !axis.log) { const room = (high - low) * 0.06; low -= room; high += room; }
  const f = axis.log ? Math.log : (v) => v;
  const scale = (v) => start + ((f(v) - f(low)) / (f(high) - f(low))) * (end - start);
  scale.low = low;
  scale.high = high;
  return scale;
}

function pathOf(series, x, y, log) {
  let path = "", pen = "M";
  series.x.forEach((value, i) => {
    const level = series.y[i];
    if (level === null || value === null || (log && level <= 0)) { pen = "M"; return; }
    path += `${pen}${x(value).toFixed(1)} ${y(level).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

function nearest(xs, wanted) {
  let best = 0;
  for (let i = 1; i < xs.length; i += 1) if (Math.abs(xs[i] - wanted) < Math.abs(xs[best] - wanted)) best = i;
  return best;
}

// spec: {title, x: {label, min, max, ticks}, y: {label, min, max, log}, series: [{name, x, y, colour, faint, dots}], notes, height}
function drawChart(box, spec) {
  box.classList.add("chart");
  const hidden = new Set(JSON.parse(remembered.get(`hidden ${spec.id}`) || "[]"));
  const holder = document.createElement("div"), legend = document.createElement("div"), tip = document.createElement("div");
  holder.style.position = "relative";
  tip.className = "tip";
  tip.hidden = true;
  legend.className = "legend";
  box.replaceChildren(holder, legend);
  let plot = null;

  function draw() {
    const width = Math.max(240, holder.clientWidth), height = spec.height ?? 260;
    const edge = { left: 46, right: 10, top: 10, bottom: 40 };
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", tabindex: "0",
      "aria-label": `${spec.title}: ${spec.series.map((s) => s.name).join(", ")}` });
    const shown = spec.series.filter((s) => !hidden.has(s.name));
    const of = (axis) => shown.flatMap((s) => s[axis]);
    const x = scaleOf(spec.x.ticks ? { min: 0, max: Math.max(1, spec.x.ticks.length - 1) } : spec.x, of("x"), edge.left, width - edge.right);
    const y = scaleOf({ roomy: true, ...spec.y }, of("y"), height - edge.bottom, edge.top);
    for (const tick of spec.y.log ? logTicksOf(y.low, y.high) : ticksOf(y.low, y.high, 5)) {
      svg.append(element("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: y(tick), y2: y(tick) }));
      svg.append(element("text", { x: edge.left - 7, y: y(tick) + 4, "text-anchor": "end" }, shortNumber(tick)));
    }
    const marks = spec.x.ticks ? spec.x.ticks.map((text, i) => [i, text])
      : ticksOf(x.low, x.high, width > 420 ? 6 : 4).map((value) => [value, shortNumber(value)]);
    const every = spec.x.ticks ? Math.ceil(marks.length / (width / 42)) : 1;
    for (const [value, text] of marks.filter((_, i) => i % every === 0)) {
      svg.append(element("text", { x: x(value), y: height - edge.bottom + 17, "text-anchor": "middle" }, text));
    }
    svg.append(element("text", { x: (edge.left + width - edge.right) / 2, y: height - 4, "text-anchor": "middle" }, spec.x.label));
    spec.series.forEach((series, i) => {
      if (hidden.has(series.name)) return;
      const path = pathOf(series, x, y, spec.y.log);
      svg.append(element("path", { class: "curve", d: path, style: `stroke: ${colourOf(series, i)}; opacity: ${series.faint ? 0.45 : 1}` }));
      if (series.x.length <= 20) {
        series.x.forEach((value, j) => {
          if (series.y[j] === null || (spec.y.log && series.y[j] <= 0)) return;
          svg.append(element("circle", { cx: x(value), cy: y(series.y[j]), r: 3, style: `fill: ${colourOf(series, i)}` }));
        });
      }
    });
    const cursor = element("line", { class: "cursor", y1: edge.top, y2: height - edge.bottom, visibility: "hidden" });
    svg.append(cursor);
    holder.replaceChildren(svg, tip);
    plot = { svg, x, shown, width, cursor, edge };
    svg.addEventListener("pointermove", (event) => point((event.clientX - svg.getBoundingClientRect().left) * width / svg.clientWidth));
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("blur", leave);
    svg.addEventListener("keydown", walk);
  }

  function leave() {
    tip.hidden = true;
    plot.cursor.setAttribute("visibility", "hidden");
    plot.place = undefined;
  }

  // Arrow keys move the cursor along the longest of the lines.
  function walk(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const longest = plot.shown.reduce((a, b) => (b.x.length > a.length ? b.x : a), []);
    if (!step || !longest.length) return;
    event.preventDefault();
    const next = plot.place === undefined ? 0 : Math.min(longest.length - 1, Math.max(0, plot.place + step));
    point(plot.x(longest[next]));
    plot.place = next;
  }

  function point(at) {
    const { x, shown, width, cursor, edge } = plot;
    const all = shown.flatMap((s) => s.x);
    if (!all.length || at < edge.left - 8) { leave(); return; }
    const target = all[nearest(all.map(x), at)];
    cursor.setAttribute("x1", x(target));
    cursor.setAttribute("x2", x(target));
    cursor.setAttribute("visibility", "visible");
    const head = document.createElement("div");
    head.textContent = spec.notes ? spec.notes[target] : `${spec.x.label} ${shortNumber(target)}`;
    tip.replaceChildren(head);
    for (const series of shown) {
      const i = nearest(series.x, target);
      const close = Math.abs(x(series.x[i]) - x(target)) < 14;
      if (!series.x.length || !close || series.y[i] === null) continue;
      const line = document.createElement("div"), dot = document.createElement("i");
      dot.style.setProperty("--colour", colourOf(series, spec.series.indexOf(series)));
      line.append(dot, `${series.name}: ${shortNumber(series.y[i])}`);
      tip.append(line);
    }
    tip.hidden = false;
    const right = x(target) / width > 0.55;
    tip.style.top = "6px";
    tip.style.left = right ? "" : `${(x(target) / width) * 100 + 2}%`;
    tip.style.right = right ? `${100 - (x(target) / width) * 100 + 2}%` : "";
  }

  function list() {
    legend.replaceChildren(...spec.series.map((series, i) => {
      const button = document.createElement("button"), mark = document.createElement("i");
      button.type = "button";
      button.style.setProperty("--colour", colourOf(series, i));
      button.setAttribute("aria-pressed", String(!hidden.has(series.name)));
      button.append(mark, series.name);
      button.addEventListener("click", () => {
        if (!hidden.delete(series.name)) hidden.add(series.name);
        remembered.set(`hidden ${spec.id}`, JSON.stringify([...hidden]));
        list();
        draw();
      });
      return button;
    }));
  }

  list();
  draw();
  new ResizeObserver(() => { if (plot && Math.abs(holder.clientWidth - plot.width) > 1) draw(); }).observe(holder);
}
