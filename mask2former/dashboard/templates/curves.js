// Logarithmic and smoothed losses; both choices are remembered.
"use strict";
const losses = (spec) => spec.y.label === "loss";

// The median of up to 2 * reach + 1 neighbours.
function smoothed(values, reach) {
  return values.map((_, i) => {
    const near = values.slice(Math.max(0, i - reach), i + reach + 1).sort((a, b) => a - b);
    return near[near.length >> 1];
  });
}

function prepare(spec) {
  if (!losses(spec)) return spec;
  const soft = remembered.get("smooth") !== "false";
  return { ...spec, y: { ...spec.y, log: remembered.get("log") === "true" },
    series: spec.series.map((s) => (soft && s.y.length > 40 ? { ...s, y: smoothed(s.y, Math.ceil(s.y.length / 60)) } : s)) };
}

document.addEventListener("DOMContentLoaded", () => {
  for (const name of ["log", "smooth"]) {
    const button = document.getElementById(name);
    const on = () => (remembered.get(name) ?? String(name === "smooth")) === "true";
    button.setAttribute("aria-pressed", String(on()));
    button.addEventListener("click", () => {
      remembered.set(name, String(!on()));
      button.setAttribute("aria-pressed", String(on()));
      drawAll(losses);
    });
  }
});
