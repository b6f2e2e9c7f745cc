// Small parts that several views are made of.

import { el, keep, show, styled } from "./dom.js";
import { ago, duration, percent, shortly, when } from "./format.js";
import { named, t } from "./texts.js";

const ICONS = {
  fleet: "M3 11l1.5-4.5A2 2 0 0 1 6.4 5h7.2a2 2 0 0 1 1.9 1.5L17 11v4h-2.5M3 11v4h2.5m9 0a1.5 1.5 0 1 1-3 0m3 0h0M5.5 15a1.5 1.5 0 1 0 3 0m0 0h3M3 11h14",
  tickets: "M4 5h12v3a2 2 0 0 0 0 4v3H4v-3a2 2 0 0 0 0-4zM12 5v2m0 2.5v1m0 2.5v2",
  detectors: "M3 11h3l2-6 4 10 2-6 1 2h2",
  silences: "M5 13V9a5 5 0 0 1 8-4M15 8v5l1.5 2h-11M8.5 17h3M3 3l14 14",
  system: "M4 4h12v5H4zM4 11h12v5H4zM7 6.5h.01M7 13.5h.01",
  search: "M9 14A5 5 0 1 0 9 4a5 5 0 0 0 0 10zm3.6-1.4L16.5 16.5",
  system_theme: "M3 5h14v9H3zM8 17h4",
  light: "M10 13a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM10 2.5v2m0 11v2M2.5 10h2m11 0h2M4.7 4.7l1.4 1.4m7.8 7.8 1.4 1.4m0-10.6-1.4 1.4m-7.8 7.8-1.4 1.4",
  dark: "M16 12.5A6.5 6.5 0 0 1 7.5 4 6.5 6.5 0 1 0 16 12.5z",
  language: "M3 5h8M7 3v2m2.5 0c-.8 3.5-3 6-6 7.5M5 8c1 2 2.8 3.5 5 4.3M10.5 17l3.5-9 3.5 9m-6-2.5h5",
  help: "M7.5 7.5a2.5 2.5 0 1 1 3.6 2.2c-.7.4-1.1.9-1.1 1.8m0 2.5h.01M10 17.5a7.5 7.5 0 1 0 0-15 7.5 7.5 0 0 0 0 15z",
  leave: "M8 4H4v12h4m4-9 3 3-3 3m3-3H8",
  earlier: "M12 5l-5 5 5 5",
  later: "M8 5l5 5-5 5",
  wider: "M9 14A5 5 0 1 0 9 4a5 5 0 0 0 0 10zm3.6-1.4L16.5 16.5M7 9h4",
};

export function icon(name, size = 18) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [key, value] of Object.entries({ viewBox: "0 0 20 20", width: size, height: size, fill: "none", stroke: "currentColor", "stroke-width": 1.5, "stroke-linecap": "round", "stroke-linejoin": "round", "aria-hidden": "true" })) svg.setAttribute(key, value);
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

export function button(words, onclick, { look = "", key = "", ...more } = {}) {
  return el("button", { type: "button", class: `button ${look}`, onclick, ...(key ? { "aria-keyshortcuts": key } : {}), ...more }, words, key ? el("kbd", { "aria-hidden": "true" }, key) : null);
}

export function iconButton(name, words, onclick, more = {}) {
  return el("button", { type: "button", class: "button bare icon", "aria-label": words, title: words, onclick, ...more }, icon(name));
}

// Colour is never the only sign: every mark has its word beside it, or in its name for who cannot see it.
export function tierMark(tier) {
  return el("span", { class: `mark ${tier}`, role: "img", "aria-label": named("tier", tier), title: named("tier", tier) });
}

export function tierPill(tier) {
  return el("span", { class: `pill ${tier}` }, named("tier", tier));
}

export function conditionPill(condition) {
  return el("span", { class: `pill ${condition}` }, named("condition", condition));
}

export function meter(share, warnBelow, look = "") {
  const bar = el("span", { class: `meter ${look} ${share !== null && share < warnBelow ? "warn" : ""}`, "aria-hidden": "true" }, el("i"));
  styled(bar.firstChild, { width: `${Math.max(0, Math.min(1, share ?? 0)) * 100}%` });
  return bar;
}

export function time(ms, text = shortly(ms)) {
  return el("time", { datetime: new Date(ms).toISOString(), title: when(ms) }, text);
}

export function since(ms) {
  return time(ms, ago(Date.now() - ms));
}

export function fact(name, ...value) {
  return [el("dt", {}, name), el("dd", {}, ...value)];
}

export function card(title, ...children) {
  return el("section", { class: "card" }, el("header", {}, el("h2", {}, title)), el("div", { class: "body" }, ...children));
}

// A row of figures. Each stays in its place while its value changes: a click on one is not lost to the next answer.
export function figures(row, all) {
  keep(row, all.filter(Boolean), (one) => `${one.name} ${one.href ?? ""}`, (one) => el(one.href ? "a" : "div", { href: one.href }), (place, one) => {
    place.className = `figure ${one.look ?? ""}`;
    show(place, [one.value, one.unit, one.more, one.mark], () => [
      el("span", { class: "name" }, one.name),
      el("span", { class: "value" }, one.mark ? el("span", { class: "marked" }, el("span", { class: `mark ${one.mark}` }), one.value) : one.value, one.unit ? el("small", {}, one.unit) : null),
      el("span", { class: "more" }, one.more ?? ""),
    ]);
  });
}

// `heads`: [words, kind]. A number, or what is of the kind "said", says its column's words where a phone has no heads.
export function table(heads, rows, look = "") {
  for (const row of rows) labelCells(row, heads);
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": heads.map(([words]) => words).filter(Boolean).join(", ") },
    el("table", { class: look }, el("thead", {}, el("tr", {}, heads.map(([words, kind = ""]) => el("th", { scope: "col", class: kind }, words || el("span", { class: "unseen" }, t("actions")))))), el("tbody", {}, rows)));
}

export function labelCells(row, heads) {
  heads.forEach(([words, kind = ""], i) => { if (/number|said/.test(kind)) row.children[i].dataset.label = words; });
  return row;
}

export function empty(title, words = "") {
  return el("p", { class: "empty" }, el("strong", {}, title), words);
}

// A ticket's clock: what is left until its target, or how long it has been over.
export function clockPill(clock) {
  if (!clock || clock.done) return "";
  if (clock.breached) return el("span", { class: "pill warn" }, t("overdue", { duration: duration(clock.elapsed_ms - clock.target_ms) }));
  if (clock.paused || clock.due_ms === null) return el("span", { class: "small" }, t("paused"));
  return el("span", { class: "num" }, duration(clock.due_ms - Date.now()));
}

export function shareOf(share) {
  return percent(share, share !== null && share !== undefined && share >= 0.95 && share < 1 ? 1 : 0);
}

export function choice(label, options, now, onchoose) {
  const group = el("div", { class: "choice", role: "group", "aria-label": label });
  for (const [value, words] of options) {
    group.append(el("button", { type: "button", "aria-pressed": String(value === now), "data-value": String(value), onclick: () => { press(group, value); onchoose(value); } }, words));
  }
  return group;
}

export function press(group, value) {
  for (const one of group.querySelectorAll("button")) one.setAttribute("aria-pressed", String(one.dataset.value === String(value)));
}
