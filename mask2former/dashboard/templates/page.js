// What every page does: the switch of light and dark, sorting, enlarging, charts.
"use strict";
document.getElementById("theme").addEventListener("click", () => {
  theme.use(theme.now() === "dark" ? "light" : "dark");
  remembered.set("theme", theme.now());
});

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  for (const button of table.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), column = Number(button.dataset.column);
      const text = column === 0;
      const first = text ? "ascending" : "descending";
      const order = head.getAttribute("aria-sort") === first
        ? (text ? "descending" : "ascending") : first;
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const compare = (a, b) => {
        if (text) return sign * value(a).localeCompare(value(b), undefined, { numeric: true });
        const [x, y] = [value(a), value(b)].map((v) => (v === "" ? NaN : Number(v)));
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // undefined ones last
        return sign * (x - y);
      };
      body.append(...[...body.rows].sort(compare));
    });
  }
}

const enlarged = document.getElementById("enlarged");
if (enlarged) {
  const images = [...document.querySelectorAll(".shot img[role=button]")];
  let place = 0;
  const show = (number) => {
    place = (number + images.length) % images.length;
    const big = enlarged.querySelector("img");
    big.src = images[place].src;
    big.alt = images[place].alt;
    if (!enlarged.open) enlarged.showModal();
  };
  images.forEach((image, number) => {
    image.addEventListener("click", () => show(number));
    image.addEventListener("keydown", (event) => { if (event.key === "Enter") show(number); });
  });
  enlarged.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) { event.preventDefault(); show(place + step); }
  });
  enlarged.addEventListener("click", () => enlarged.close());
}

// Draw the charts, or those that are wanted; a page may change them first.
function drawAll(wanted = () => true) {
  const data = document.getElementById("charts");
  for (const spec of data ? JSON.parse(data.textContent) : []) {
    const prepared = typeof prepare === "function" ? prepare(spec) : spec;
    if (wanted(spec)) drawChart(document.getElementById(spec.id), prepared);
  }
}
drawAll();
