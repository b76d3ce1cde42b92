// The images of an evaluation: filters, cards, and a viewer with ground truth beside prediction.
"use strict";
const album = JSON.parse(document.getElementById("album-data").textContent);
const filters = document.getElementById("filters"), viewer = document.getElementById("viewer");
const NOTHING = album.classes.length, STEP = 24, MOST_WORDS = 40;
let chosen = [], cards = 0, current = 0;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function nameOf(place) { return place === NOTHING ? "nothing" : album.classes[place]; }
function percent(share) { return `${(100 * share).toFixed(1)} %`; }

// Whether marks are of pixels: then each has a share of them and no box. A tiny segment has no box either.
function ofPixels() { return filters.elements.task.value === "semantic"; }

// What is asked for; numbers where the form has texts.
function asked() {
  const values = Object.fromEntries(new FormData(filters));
  const place = (text) => (text === "" ? null : Number(text));
  const limit = (text, otherwise) => (text === "" ? otherwise : Number(text) / 100);
  return {
    task: values.task, order: values.order, wrong: values.kind === "wrong",
    kind: values.kind === "wrong" ? null : place(values.kind),
    class: place(values.class), true: place(values.true), found: place(values.found),
    low: limit(values.low, 0), high: limit(values.high, 1), score: limit(values.score, 0),
  };
}

// The marks [kind, true, found, weight, box] of an image that are asked for.
function marksOf(entry, wanted) {
  return entry.m.filter(([kind, truth, found, weight]) =>
    (wanted.kind === null || kind === wanted.kind)
    && (!wanted.wrong || kind !== album.correct)
    && (wanted.class === null || truth === wanted.class || found === wanted.class)
    && (wanted.true === null || truth === wanted.true)
    && (wanted.found === null || found === wanted.found)
    && (!wanted.score || (!ofPixels() && weight !== null && weight >= wanted.score)));
}

function isNarrow(wanted) {
  return wanted.wrong || wanted.score > 0 || [wanted.kind, wanted.class, wanted.true, wanted.found].some((x) => x !== null);
}

// {entry, marks} of the images to show, in order. An image stays if one of its marks does, or if none is asked for.
function select(entries, wanted) {
  const narrow = isNarrow(wanted);
  const amount = (one) => one.marks.reduce((sum, mark) => sum + (ofPixels() ? mark[3] : 1), 0);
  const orders = {
    worst: (a, b) => a.entry.q - b.entry.q,
    best: (a, b) => b.entry.q - a.entry.q,
    most: (a, b) => amount(b) - amount(a),
    name: (a, b) => a.entry.n.localeCompare(b.entry.n, undefined, { numeric: true }),
  };
  return entries
    .filter((entry) => entry.q >= wanted.low && entry.q <= wanted.high)
    .map((entry) => ({ entry, marks: marksOf(entry, narrow ? wanted : { ...wanted, wrong: true }) }))
    .filter((one) => !narrow || one.marks.length)
    .sort(orders[wanted.order]);
}

function wordsOf([kind, truth, found, weight]) {
  const score = weight === null ? "" : `, ${percent(weight)}${ofPixels() ? " of the pixels" : ""}`;
  if (truth === found) return `${nameOf(truth)}: correct${score}`;
  const pair = truth === NOTHING ? nameOf(found) : found === NOTHING ? nameOf(truth) : `${nameOf(truth)} taken for ${nameOf(found)}`;
  const what = kind > -1 ? album.kinds[kind] : found === NOTHING ? "not matched" : "confused";
  return `${pair}: ${what}${score}`;
}

// The photo with one side's regions over it, and boxes around what is marked on that side.
function stackOf({ entry, marks }, side, words) {
  const stack = make("div", { class: "stack" },
    make("img", { src: album.images[entry.i], alt: "" }),
    make("img", { class: "regions", src: entry[side], alt: `${words}: ${entry.n}` }));
  for (const mark of marks) {
    const box = mark[4];
    if (box === null || (side === "t") !== (mark[2] === NOTHING)) continue;
    const [left, top, right, bottom] = box.map((x) => x / 10);
    const frame = make("i", { title: wordsOf(mark) });
    Object.assign(frame.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
    stack.append(frame);
  }
  return make("div", {}, stack, make("div", { class: "under" }, words));
}

function sides(one) { return [stackOf(one, "t", "ground truth"), stackOf(one, "f", "prediction")]; }

function cardOf(one, number) {
  const row = make("button", { type: "button", class: "row two", "aria-label": `Enlarge ${one.entry.n}` }, ...sides(one));
  row.addEventListener("click", () => look(number));
  const head = make("figcaption", {}, make("span", { title: one.entry.n }, one.entry.n), make("span", {}, percent(one.entry.q)));
  return make("figure", { class: "card shot" }, head, row);
}

function more() {
  const next = chosen.slice(cards, cards + STEP).map((one, i) => cardOf(one, cards + i));
  document.getElementById("album-shots").append(...next);
  cards += next.length;
  document.getElementById("album-more").hidden = cards >= chosen.length;
}

// Say why images that were counted may not be found here.
function whyNone(task) {
  const { entries, seen } = album.tasks[task], reasons = [];
  if (entries.length < seen) reasons.push(`${seen - entries.length} of the ${seen} images evaluated are not on this page`);
  if (ofPixels() && entries.some((entry) => entry.m.length >= album.pairs)) {
    reasons.push(`of each image's pixels only the ${album.pairs} most frequent pairs of classes are listed`);
  }
  return reasons.length ? `. What is counted above may be elsewhere: ${reasons.join("; ")}.` : "";
}

function refresh() {
  const wanted = asked(), entries = album.tasks[wanted.task].entries;
  chosen = select(entries, wanted);
  cards = 0;
  document.getElementById("album-shots").replaceChildren();
  const count = chosen.reduce((sum, one) => sum + one.marks.length, 0);
  const boxed = ofPixels() ? "" : `, with ${count} such segment${count === 1 ? "" : "s"}`;
  document.getElementById("album-count").textContent =
    `${chosen.length} of ${entries.length} images${isNarrow(wanted) ? boxed : ""}${chosen.length ? "" : whyNone(wanted.task)}`;
  more();
}

// Show the chosen image of this number in the viewer.
function look(number) {
  current = Math.min(chosen.length - 1, Math.max(0, number));
  const one = chosen[current];
  document.getElementById("viewer-name").textContent = `${one.entry.n}, ${percent(one.entry.q)}`;
  document.getElementById("viewer-place").textContent = `${current + 1} of ${chosen.length}`;
  document.getElementById("viewer-row").replaceChildren(...sides(one));
  const lines = one.marks.slice(0, MOST_WORDS).map((mark) => make("li", {}, wordsOf(mark)));
  if (one.marks.length > MOST_WORDS) lines.push(make("li", {}, `${one.marks.length - MOST_WORDS} more`));
  document.getElementById("viewer-words").replaceChildren(...lines);
  if (!viewer.open) viewer.showModal();
}

function fill() {
  const task = filters.elements.task.value, marks = album.tasks[task].entries.flatMap((entry) => entry.m);
  const kept = {};
  for (const name of ["class", "true", "found", "kind"]) kept[name] = filters.elements[name].value;
  const option = ([value, text]) => new Option(text, value);
  const classes = (places) => [...new Set(places)].sort((a, b) => a - b).map((place) => [place, nameOf(place)]);
  const kinds = new Set(marks.map((mark) => mark[0]));
  const lists = {
    class: classes(marks.flatMap((mark) => [mark[1], mark[2]]).filter((place) => place !== NOTHING)),
    true: classes(marks.map((mark) => mark[1])),
    found: classes(marks.map((mark) => mark[2])),
    kind: album.errors.filter((kind) => kinds.has(kind)).map((kind) => [kind, album.kinds[kind]]),
  };
  for (const [name, values] of Object.entries(lists)) {
    const select = filters.elements[name], fixed = name === "kind" ? 2 : 1;
    select.replaceChildren(...[...select.options].slice(0, fixed), ...values.map(option));
    select.value = kept[name];
    if (select.selectedIndex < 0) select.value = "";
  }
  filters.elements.score.closest("label").hidden = ofPixels() || !marks.some((mark) => mark[3] !== null);
}

filters.addEventListener("input", (event) => { if (event.target.name === "task") fill(); refresh(); });
filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("reset", () => setTimeout(() => { fill(); refresh(); }));
document.getElementById("album-more").addEventListener("click", more);

for (const button of document.querySelectorAll("button.find")) {
  button.addEventListener("click", () => {
    const { task, ...wanted } = button.dataset;
    filters.reset();
    filters.elements.task.value = task;
    fill();
    for (const [name, value] of Object.entries(wanted)) filters.elements[name].value = value;
    filters.elements.order.value = "most";
    refresh();
    document.getElementById("album").scrollIntoView();
  });
}

viewer.addEventListener("keydown", (event) => {
  const place = { ArrowLeft: current - 1, ArrowRight: current + 1, Home: 0, End: chosen.length - 1 }[event.key];
  if (place === undefined) return;
  event.preventDefault();
  look(place);
});
for (const button of viewer.querySelectorAll("[data-step]")) {
  button.addEventListener("click", () => look(current + Number(button.dataset.step)));
}
for (const name of ["regions", "boxes"]) {
  document.getElementById(`viewer-${name}`).addEventListener("change", (event) => {
    viewer.classList.toggle(`without-${name}`, !event.target.checked);
  });
}
document.getElementById("viewer-close").addEventListener("click", () => viewer.close());
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
fill();
refresh();
