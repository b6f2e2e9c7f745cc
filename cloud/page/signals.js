// A vehicle's signals: searchable and live; ticked ones are drawn.

import { breakable, el, keep, say } from "./dom.js";
import { ago, number } from "./format.js";
import { named, t } from "./texts.js";

const GUARDS = /(alive|rolling).?(counter|cnt)|check.?sum|chksum|crc\d*$/i;
const OLD_MS = 5000; // a value that has not come for so long is marked

export class Signals {
  constructor(ontoggle) {
    this.ontoggle = ontoggle;
    this.rows = new Map(); // signal -> {item, element, box, value, age, haystack}
    this.chosen = new Map();
    this.search = el("input", { type: "search", class: "field search", id: "search", autocomplete: "off", spellcheck: "false", "aria-label": t("searchLabel"), title: t("searchKey"), oninput: () => this.filter() });
    this.only = el("input", { type: "checkbox", onchange: () => this.filter() });
    this.count = el("span", { class: "note", role: "status" });
    this.list = el("ul", { class: "signals", tabindex: "-1" });
    this.none = el("p", { class: "note none", hidden: true });
    this.element = el("section", { class: "card picker", "aria-label": t("signals") },
      el("header", {}, el("h2", {}, t("signals")), this.count, el("span", { class: "grow" }), el("label", { class: "inline small" }, this.only, t("onlyDrawn"))),
      el("div", { class: "body" }, this.search, this.list, this.none));
  }

  item(signal) {
    return this.rows.get(signal)?.item;
  }

  words(signal) {
    const item = this.item(signal);
    return item ? wordsOf(item) : signal.slice(signal.lastIndexOf(".") + 1);
  }

  value(signal) {
    const item = this.item(signal);
    return item ? item.choice ?? `${number(item.value)} ${named("units", item.unit)}`.trim() : "";
  }

  // `items` of /signals, `newest` the vehicle's newest tick.
  show(items, newest) {
    const sorted = items.toSorted(inOrder);
    const now = new Set(items.map((item) => item.signal));
    const gone = [...this.rows.values()].filter((row) => !now.has(row.item.signal)).map((row) => row.item);
    const before = this.rows.size;
    const all = gone.length ? [...sorted, ...gone].sort(inOrder) : sorted;
    keep(this.list, all, (item) => item.signal, (item) => this.row(item), (_, item) => {
      const row = this.rows.get(item.signal);
      row.item = item;
      const late = newest - item.tick_ms;
      const there = now.has(item.signal);
      say(row.value, there ? item.choice ?? number(item.value) : "–"); // it had a valid value and has none now
      say(row.age, there ? (late >= OLD_MS ? ago(late) : "") : t("noValue"));
      row.element.classList.toggle("old", !there || late >= OLD_MS);
    });
    if (this.rows.size !== before) this.filter();
    if (!this.rows.size) this.filter();
  }

  row(item) {
    const box = el("input", { type: "checkbox", checked: this.chosen.has(item.signal), "aria-label": t("draw", { signal: wordsOf(item) }), onchange: () => this.ontoggle(item.signal) });
    const value = el("output", { class: "value" });
    const age = el("span", { class: "age" });
    const element = el("li", {}, el("label", { title: item.signal }, box,
      el("span", { class: "words" }, wordsOf(item)), value, el("span", { class: "unit" }, named("units", item.unit)),
      el("span", { class: "name" }, ...breakable(item.signal)), age));
    this.rows.set(item.signal, { item, element, box, value, age, haystack: `${item.signal} ${item.words} ${item.unit} ${named("units", item.unit)}`.toLowerCase() });
    return element;
  }

  choose(chosen) {
    this.chosen = chosen;
    for (const row of this.rows.values()) row.box.checked = chosen.has(row.item.signal);
    if (this.only.checked) this.filter();
  }

  filter() {
    const parts = this.search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of this.rows.values()) {
      const fits = parts.every((part) => row.haystack.includes(part)) && (!this.only.checked || this.chosen.has(row.item.signal));
      row.element.hidden = !fits;
      shown += fits;
    }
    this.search.placeholder = t("searchSignals", { count: this.rows.size });
    say(this.count, parts.length || this.only.checked ? t("shownOf", { shown, count: this.rows.size }) : String(this.rows.size));
    this.none.hidden = shown > 0;
    say(this.none, this.rows.size ? t("noMatch", { query: this.search.value.trim() }) : t("noSignals"));
  }
}

// By name; what only guards a message comes after everything that says something of the car.
function inOrder(a, b) {
  return GUARDS.test(a.signal) - GUARDS.test(b.signal) || a.signal.localeCompare(b.signal);
}

// The catalogue's words; where it has none, the signal's name without its message's.
export function wordsOf(item) {
  return item.words || item.signal.slice(item.signal.lastIndexOf(".") + 1);
}
