// Before the page is shown: the choice of light or dark that was made here before, else the system's.
"use strict";
const remembered = {
  // Some browsers forbid storage for files; the page then works without a memory.
  get(key) { try { return sessionStorage.getItem(key) || localStorage.getItem(key); } catch (error) { return null; } },
  set(key, value) { try { sessionStorage.setItem(key, value); localStorage.setItem(key, value); } catch (error) { return; } },
};
const theme = {
  now: () => document.documentElement.dataset.theme
    || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"),
  use(name) { document.documentElement.dataset.theme = name; },
};
if (remembered.get("theme")) theme.use(remembered.get("theme"));
