// Everything that a page does by itself: theme, menu, copying, search. No library, nothing from outside; without it pages are read all the same.
"use strict";

const top_ = document.currentScript.dataset.top;
const stored = { // a page that was opened from a file may not keep anything
  get: name => { try { return localStorage.getItem(name); } catch { return null; } },
  set: (name, value) => { try { localStorage.setItem(name, value); } catch { /* forgotten with the page */ } },
};
const theme = stored.get("theme");
if (theme) document.documentElement.dataset.theme = theme;

const element = (tag, attributes = {}, text = "") => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
};

// ---- search: every word must begin a word of the place; titles and names count more than prose

let pages = null;
const load = () => new Promise(done => {
  if (pages) return done();
  const script = element("script", { src: `${top_}search.js` });
  script.onload = () => { pages = window.lightbulbPages; done(); };
  document.head.append(script);
});

const words = text => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) || [];
const filler = new Set(`a after an and are as at be by can do does for from have how i in is it its me my of on or our own that the there
  this to use what when where which who why will with you your`.split(/\s+/));

// How many of the words a place has, and how much they weigh there.
function score(place, asked) {
  let found = 0, total = 0;
  for (const word of asked) {
    const stem = word.length > 5 ? word.replace(/(?:ing|ed|e?s)$/, "") : word.length > 3 ? word.replace(/s$/, "") : word;
    const points = place.fields.reduce((sum, [weight, have]) => {
      if (have.includes(word)) return sum + weight;
      return have.some(other => other.startsWith(stem)) ? sum + weight / 2 : sum;
    }, 0);
    found += points > 0;
    total += points;
  }
  return [found, total];
}

// Places with most of the words first.
function findPlaces(query) {
  const all = words(query), kept = all.filter(word => !filler.has(word)), asked = kept.length ? kept : all;
  for (const page of pages) for (const place of page.places) {
    place.fields ||= [[8, words(page.title)], [6, words(place.heading)], [5, words(place.names)], [1, words(place.text)]];
  }
  return pages
    .flatMap(page => page.places.map((place, i) => {
      const [found, points] = score(place, asked);
      const isNamed = place.heading.toLowerCase() === query.trim().toLowerCase();
      return { page, place, found, points: points * (i ? 1 : 1.2) + 20 * isNamed };
    }))
    .filter(hit => hit.found * 2 >= asked.length && hit.found)
    .sort((one, other) => other.found - one.found || other.points - one.points)
    .slice(0, 12);
}

async function search(input, hits) {
  await load();
  hits.replaceChildren();
  if (!input.value.trim()) return;
  const found = findPlaces(input.value);
  if (!found.length) hits.append(element("p", {}, `Nothing holds “${input.value.trim()}”.`));
  for (const { page, place } of found) {
    const link = element("a", { href: `${top_}${page.url}${place.anchor ? `#${place.anchor}` : ""}` });
    link.append(element("b", {}, place.heading && place.heading !== page.title ? `${page.title}: ${place.heading}` : page.title));
    link.append(element("span", {}, place.text.slice(0, 110)));
    hits.append(link);
  }
}

// ---- the page itself

function addCopyButtons() {
  for (const block of document.querySelectorAll("main pre:not(.output)")) {
    if (block.closest(".api")) continue;
    const button = element("button", { type: "button", class: "copy", "aria-label": "Copy this code" }, "copy");
    button.addEventListener("click", async () => {
      const text = block.querySelector("code")?.innerText ?? block.innerText;
      try { await navigator.clipboard.writeText(text); button.textContent = "copied"; }
      catch { getSelection().selectAllChildren(block); button.textContent = "selected"; }
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
    const frame = element("div", { class: "code" });
    block.replaceWith(frame);
    frame.append(block, button);
  }
}

function makeScrollableReachable() { // by keyboard
  let number = 0;
  for (const block of document.querySelectorAll("main pre, main .wide, main figure, main .html-output, main .api, main [style*='overflow-x:auto']")) {
    if (block.scrollWidth > block.clientWidth || block.scrollHeight > block.clientHeight) {
      block.tabIndex = 0;
      block.setAttribute("role", "region");
      block.setAttribute("aria-label", `wide content ${++number}, scrolls sideways`);
    } else block.removeAttribute("tabindex");
  }
}

document.addEventListener("DOMContentLoaded", () => {
  const sidebar = document.getElementById("sidebar");
  const current = sidebar.querySelector("[aria-current]");
  if (current) sidebar.scrollTop = current.offsetTop - sidebar.clientHeight / 2;

  document.getElementById("theme").addEventListener("click", () => {
    const isDark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = isDark ? "light" : "dark";
    stored.set("theme", document.documentElement.dataset.theme);
  });

  const input = document.getElementById("query"), hits = document.getElementById("hits");
  input.addEventListener("focus", load);
  input.addEventListener("input", () => search(input, hits));
  input.addEventListener("keydown", event => {
    if (event.key === "Escape") { input.value = ""; hits.replaceChildren(); input.blur(); }
    if (event.key === "Enter") hits.querySelector("a")?.click();
    if (event.key === "ArrowDown") { hits.querySelector("a")?.focus(); event.preventDefault(); }
  });
  hits.addEventListener("keydown", event => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!step) return;
    (document.activeElement[step] ?? input).focus();
    event.preventDefault();
  });
  document.addEventListener("keydown", event => {
    if (event.key === "/" && !/INPUT|TEXTAREA/.test(document.activeElement.tagName)) { input.focus(); event.preventDefault(); }
  });
  document.addEventListener("click", event => { if (!event.target.closest("#search")) hits.replaceChildren(); });

  addCopyButtons();
  makeScrollableReachable();
  addEventListener("resize", makeScrollableReachable);
  document.addEventListener("toggle", makeScrollableReachable, true);
});
