// A vehicle: its signals, searchable and live, and a chart of the chosen ones.

import { Chart, COLOURS } from "./charts.js";
import { breakable, el, get, keep, say } from "./dom.js";
import { ago, language, named, number, t, when } from "./texts.js";

const RANGES_S = [60, 300, 1800, 7200, 86400];
const DEFAULT_RANGE_S = 300;
// What a newcomer wants to see move where neither the address nor a ticket says what to draw.
const FIRST_CHOICE = [/vehicle.?speed/, /state.of.charge|\bsoc/, /coolant.*temperature/, /speed/, /temp/];
const FIRST_COUNT = 3;

export class VehicleView {
  // `address`: {id, signals: [name], range_s}; `moved(address)` is told of the reader's choices, so that the address bar can be shared.
  constructor(address, moved) {
    this.id = address.id;
    this.moved = moved;
    this.chosen = new Map(); // signal -> colour
    for (const signal of address.signals.slice(0, COLOURS)) this.choose(signal);
    this.untouched = this.chosen.size === 0;
    this.full = false; // the reader asked for one more signal than there are colours
    this.range_s = RANGES_S.includes(address.range_s) ? address.range_s : DEFAULT_RANGE_S;
    this.rows = new Map(); // signal -> {item, haystack, element, box, value, unit, words}
    this.newest = null;
    this.drawnFor = "";
    this.build();
  }

  build() {
    this.title = el("h1", { class: "id" }, this.id);
    this.about = el("p", { class: "about" });
    this.tickets = el("ul", { class: "banners" });
    this.chart = new Chart(t("chart"));
    this.chips = el("ul", { class: "chips" });
    this.hint = el("p", { class: "note" }, t("pick"));
    const ranges = RANGES_S.map((s) =>
      el("label", {}, el("input", { type: "radio", name: "range", value: String(s), checked: s === this.range_s, onchange: () => this.setRange(s) }),
        el("span", {}, named("ranges", s))));
    this.search = el("input", {
      type: "search", id: "search", autocomplete: "off", spellcheck: "false", "aria-label": t("searchLabel"), title: t("searchKey"),
      oninput: () => this.filter(),
    });
    this.count = el("span", { class: "count" });
    this.list = el("ul", { class: "signals" });
    this.none = el("p", { class: "note", hidden: true });
    this.element = el("article", { class: "vehicle" },
      el("a", { class: "back", href: "#" }, `‹ ${t("back")}`),
      el("div", { class: "heading" }, this.title, this.about),
      this.tickets,
      el("div", { class: "columns" },
        el("section", { class: "card picker", "aria-label": t("signals") },
          el("div", { class: "bar" }, el("h2", {}, t("signals")), this.count),
          this.search, this.list, this.none),
        el("section", { class: "card drawing", "aria-label": t("chart") },
          el("div", { class: "bar" }, el("h2", {}, t("chart")), el("fieldset", { class: "ranges" }, el("legend", {}, t("range")), ...ranges)),
          this.chips, this.hint, this.chart.element)));
  }

  close() {
    this.chart.close();
  }

  // `fleet`: the answers of /api/vehicles and /api/tickets that this round already has.
  async refresh(fleet) {
    const vehicle = fleet.vehicles.find((one) => one.vehicle === this.id);
    if (vehicle) say(this.about, [vehicle.model, t("signalsOf", { count: vehicle.signals }), t("newest", { time: when(vehicle.last_tick_ms) })].join(" · "));
    keep(this.tickets, fleet.tickets.filter((one) => one.vehicle === this.id && one.handling !== "closed"), (one) => one.id,
      (one) => el("li", {}, el("a", { href: `#ticket=${one.id}` }, el("span", { class: "pill" }), el("span", { class: "words" }, one.fault_words))),
      (child, one) => {
        const pill = child.querySelector(".pill");
        pill.className = `pill ${one.condition}`;
        say(pill, named("condition", one.condition));
      });
    if (vehicle && vehicle.last_tick_ms === this.newest && this.drawnFor === this.wanted()) return;
    const items = await get(`/api/vehicles/${encodeURIComponent(this.id)}/signals`, { lang: language });
    this.newest = vehicle ? vehicle.last_tick_ms : Math.max(...items.map((one) => one.tick_ms));
    this.show(items);
    if (this.untouched && this.rows.size) await this.begin(fleet.tickets.find((one) => one.vehicle === this.id));
    await this.draw();
  }

  show(items) {
    const fresh = items.filter((item) => !this.rows.has(item.signal));
    for (const item of fresh) this.rows.set(item.signal, this.row(item));
    if (fresh.length) {
      const sorted = [...this.rows.values()].sort((a, b) => a.item.signal.localeCompare(b.item.signal));
      this.list.append(...sorted.map((row) => row.element));
      this.filter();
    }
    const now = new Set();
    for (const item of items) {
      const row = this.rows.get(item.signal);
      now.add(row);
      row.item = item;
      const late = this.newest - item.tick_ms;
      say(row.value, item.choice ?? number(item.value));
      say(row.age, late >= 5000 ? ago(late) : "");
      row.element.classList.toggle("old", late >= 5000);
    }
    for (const row of this.rows.values()) {
      if (now.has(row)) continue;
      say(row.value, "–"); // it had a valid value and has none now
      say(row.age, t("noValue"));
      row.element.classList.add("old");
    }
    this.none.hidden = this.rows.size > 0 && this.shown > 0;
    if (!this.rows.size) say(this.none, t("noSignals"));
    this.chip();
  }

  row(item) {
    const box = el("input", { type: "checkbox", checked: this.chosen.has(item.signal), "aria-label": t("draw", { signal: item.signal }), onchange: () => this.toggle(item.signal) });
    const value = el("output", { class: "value" });
    const age = el("span", { class: "age" });
    const element = el("li", {}, el("label", { title: item.signal }, box,
      el("span", { class: "words" }, wordsOf(item)), value, el("span", { class: "unit" }, named("units", item.unit)),
      el("span", { class: "name" }, ...breakable(item.signal)), age));
    return { item, element, box, value, age, haystack: `${item.signal} ${item.words} ${item.unit} ${named("units", item.unit)}`.toLowerCase() };
  }

  filter() {
    const query = this.search.value.trim().toLowerCase();
    const parts = query.split(/\s+/).filter(Boolean);
    this.shown = 0;
    for (const row of this.rows.values()) {
      const fits = parts.every((part) => row.haystack.includes(part));
      row.element.hidden = !fits;
      this.shown += fits;
    }
    this.search.placeholder = t("search", { count: this.rows.size });
    say(this.count, parts.length ? t("shown", { shown: this.shown, count: this.rows.size }) : String(this.rows.size));
    this.none.hidden = this.shown > 0;
    say(this.none, t("noMatch", { query: this.search.value.trim() }));
  }

  // Nothing was asked for: begin with what an open ticket is about, or else with a few that are likely to move.
  async begin(ticket) {
    this.untouched = false;
    const about = ticket ? (await get(`/api/tickets/${ticket.id}`)).evidence.contributions.map((one) => one.signal) : [];
    let first = about.filter((signal) => this.rows.has(signal));
    if (!first.length) {
      const rows = [...this.rows.values()].filter((row) => row.item.unit);
      first = FIRST_CHOICE.map((likely) => rows.find((row) => likely.test(row.haystack))?.item.signal).filter(Boolean);
    }
    for (const signal of [...new Set(first)].slice(0, FIRST_COUNT)) this.choose(signal);
    for (const row of this.rows.values()) row.box.checked = this.chosen.has(row.item.signal);
    this.chip();
  }

  choose(signal) {
    const used = new Set(this.chosen.values());
    const colour = [...Array(COLOURS).keys()].find((one) => !used.has(one));
    if (colour === undefined) return false;
    this.chosen.set(signal, colour);
    return true;
  }

  toggle(signal) {
    this.untouched = false;
    this.full = !this.chosen.delete(signal) && !this.choose(signal);
    const row = this.rows.get(signal);
    if (row) row.box.checked = this.chosen.has(signal);
    this.chip();
    this.changed();
  }

  setRange(s) {
    this.range_s = s;
    this.changed();
  }

  changed() {
    this.moved({ id: this.id, signals: [...this.chosen.keys()], range_s: this.range_s });
    this.draw().catch(() => {}); // the next round asks again and reports what is wrong
  }

  chip() {
    keep(this.chips, [...this.chosen], ([signal]) => signal,
      ([signal, colour]) => el("li", { class: `chip series-${colour}` }, el("span", { class: "name", title: signal }, signal), el("output", {}),
        el("button", { type: "button", "aria-label": t("remove", { signal }), title: t("remove", { signal }), onclick: () => this.toggle(signal) }, "×")),
      (child, [signal]) => {
        const item = this.rows.get(signal)?.item;
        say(child.querySelector(".name"), item ? wordsOf(item) : signal);
        say(child.querySelector("output"), item ? item.choice ?? `${number(item.value)} ${named("units", item.unit)}`.trim() : "");
      });
    this.hint.hidden = !this.full && this.chosen.size > 0;
    say(this.hint, this.full ? t("most", { count: COLOURS }) : t("pick"));
    this.chart.element.hidden = this.chosen.size === 0;
  }

  label(signal) {
    const row = this.rows.get(signal);
    return row ? wordsOf(row.item) : signal;
  }

  wanted() {
    return `${this.newest} ${this.range_s} ${[...this.chosen.keys()].join(" ")}`;
  }

  async draw() {
    if (this.newest === null || !this.chosen.size) return;
    const wanted = this.wanted();
    const from = this.newest - this.range_s * 1000;
    const answer = await get(`/api/vehicles/${encodeURIComponent(this.id)}/series`,
      { signal: [...this.chosen.keys()], from_ms: from, to_ms: this.newest + 1, points: 600 });
    if (wanted !== this.wanted()) return; // the reader has chosen anew since; that choice has its own request
    this.drawnFor = wanted;
    const signals = Object.keys(answer.series).filter((signal) => this.chosen.has(signal));
    this.chart.element.setAttribute("aria-label", t("chartOf", { signals: signals.join(", ") }));
    const lines = signals.map((signal) => ({ name: this.label(signal), unit: answer.units[signal], values: answer.series[signal], colour: this.chosen.get(signal) }));
    await this.chart.draw({ tickMs: answer.tick_ms, lines, range: [from, this.newest], key: `${this.range_s} ${[...this.chosen.keys()].join(" ")}` });
  }
}

// The catalogue's words; where it has none, the signal's name without its message's.
function wordsOf(item) {
  return item.words || item.signal.slice(item.signal.lastIndexOf(".") + 1);
}
