// While the training runs, the file is written anew now and then: load it again, where the reader is.
"use strict";
const state = document.getElementById("state");
const seconds = Number(state.dataset.refresh);
const age = () => Date.now() / 1000 - Number(state.dataset.written);
const waiting = Math.max(5, seconds);

function loadAgain() {
  // Not under the reader's pointer, and not while nobody looks.
  if (document.hidden || document.querySelector(".tip:not([hidden])")) { setTimeout(loadAgain, 1000); return; }
  remembered.set("scroll", String(scrollY));
  location.reload();
}

if (seconds) {
  if (performance.getEntriesByType("navigation")[0]?.type === "reload") scrollTo({ top: Number(remembered.get("scroll") || 0), behavior: "instant" });
  if (age() > 4 * waiting + 60) {
    state.classList.remove("running");
    state.querySelector("span").textContent = `training, but nothing new for ${Math.round(age() / 60)} minutes`;
  }
  setTimeout(loadAgain, waiting * 1000);
}
