// Lanes below a chart, on its time axis: findings, and where data are missing.

import { LEFT, RIGHT } from "./charts.js";
import { el, show, styled } from "./dom.js";
import { when } from "./format.js";
import { t } from "./texts.js";

const MOST_ROWS = 6;
const LEAST_SHARE = 0.004; // of the axis: what is shorter can still be seen and hit
const WORDS_SHARE = 0.06; // in what is shorter there is no room for words

export class Lanes {
  constructor() {
    this.element = el("div", { class: "lanes" });
    styled(this.element, { "--left": `${LEFT}px`, "--right": `${RIGHT}px` });
  }

  // lanes: [{name, look, items: [{from, to, words, href}]}] over [start, end]
  show(lanes, [start, end]) {
    show(this.element, [lanes, start, end], () => lanes.flatMap((lane) => rowsOf(lane.items.filter((item) => item.to > start && item.from < end)).map((row, i) =>
      el("div", { class: `lane ${lane.look}` }, el("span", { class: "lane-name" }, i ? "" : lane.name), el("div", { class: "track" }, row
        .map((item) => {
          const from = Math.max(0, (item.from - start) / (end - start)), to = Math.min(1, (item.to - start) / (end - start));
          const words = t("fromTo", { words: item.words, from: when(item.from), to: item.to >= end ? t("stillOn") : when(item.to) });
          return styled(el(item.href ? "a" : "span", { class: "span", href: item.href, title: words, "aria-label": words, role: item.href ? null : "img" }, to - from < WORDS_SHARE ? null : el("span", { "aria-hidden": "true" }, item.words)),
            { left: `${from * 100}%`, width: `${Math.max(LEAST_SHARE, to - from) * 100}%` });
        }))))));
  }
}

// What overlaps lies in rows below one another, each in the first row that has room.
function rowsOf(items) {
  const rows = [];
  for (const item of [...items].sort((a, b) => a.from - b.from)) {
    const row = rows.find((one) => one.at(-1).to <= item.from);
    if (row) row.push(item);
    else if (rows.length < MOST_ROWS) rows.push([item]);
  }
  return rows;
}
