// A vehicle: its signals live, charts of any of them over any time, findings on the same axis, tickets, data quality, versions.

import { get, part } from "./api.js";
import { broken, Chart, COLOURS, described } from "./charts.js";
import { dayBars } from "./days.js";
import { el, keep, say, show } from "./dom.js";
import { calendarDay, duration, localInput, number, percent, shortly, when } from "./format.js";
import { Lanes } from "./lanes.js";
import { button, card, choice, conditionPill, empty, fact, iconButton, press, since, table, tierMark } from "./parts.js";
import { may } from "./session.js";
import { Signals } from "./signals.js";
import { language, named, t } from "./texts.js";

const TOUCH = matchMedia("(pointer: coarse)").matches; // a finger that drags moves the page
const SPANS_S = [300, 3600, 21_600, 86_400, 604_800];
const DEFAULT_SPAN_S = 3600;
const POINTS = 1400; // about two for each pixel column
const SHORTEST_MS = 20_000;
const SLOW_MS = 30_000; // findings, tickets and quality change seldom
const QUALITY_DAYS = 14;
const MOST_TOLD = 2; // gaps, and sensors, in a day's row
// What a newcomer wants to see move where neither the address nor a ticket says what to draw.
const FIRST_CHOICE = [/vehicle.?speed|车速/, /state.of.charge|\bsoc/, /coolant.*temperature/, /speed/, /temp/];
const FIRST_COUNT = 3;

export class VehicleView {
  constructor(id, query) {
    this.id = id;
    this.path = `/api/vehicles/${part(id)}`;
    this.title = id;
    this.every_ms = 1000; // data come once a second
    this.chosen = new Map(); // signal -> colour
    for (const signal of query.getAll("s").slice(0, COLOURS)) this.choose(signal);
    this.untouched = this.chosen.size === 0;
    const [from, to] = [Number(query.get("from")), Number(query.get("to"))];
    this.fixed = from > 0 && to > from ? [from, to] : null; // else it follows the newest tick
    this.span_s = SPANS_S.includes(Number(query.get("r"))) ? Number(query.get("r")) : DEFAULT_SPAN_S;
    this.newest = null;
    this.drawnFor = "";
    this.findings = [];
    this.quality = [];
    this.build();
  }

  build() {
    this.signals = new Signals((signal) => this.toggle(signal));
    this.signals.choose(this.chosen);
    this.about = el("div", { class: "about" });
    this.tickets = el("div");
    this.chart = new Chart(t("chart"), { onselect: (from, to) => this.zoom(from, to), onreset: () => this.follow(this.span_s) });
    this.lanes = new Lanes();
    this.chips = el("ul", { class: "chips" });
    this.hint = el("p", { class: "note" });
    this.spans = choice(t("span"), SPANS_S.map((s) => [s, named("spans", s)]), this.fixed ? null : this.span_s, (s) => this.follow(s));
    this.from = el("input", { type: "datetime-local", class: "field", "aria-label": t("from"), onchange: () => this.typed() });
    this.to = el("input", { type: "datetime-local", class: "field", "aria-label": t("to"), onchange: () => this.typed() });
    this.live = button(t("followLive"), () => this.follow(this.span_s), { "aria-pressed": String(!this.fixed) });
    this.save = el("a", { class: "button", download: "" }, "CSV");
    this.says = el("span", { class: "note" });
    this.under = el("div", { class: "bar under" }, this.says, el("span", { class: "grow" }), el("span", { class: "range" }, this.from, el("span", { "aria-hidden": "true" }, "–"), this.to), this.save);
    this.daily = el("div");
    this.facts = el("div");
    this.element = el("article", { class: "vehicle" },
      el("div", { class: "heading" }, el("div", { class: "words" },
        may("fleet") ? el("nav", { class: "crumbs", "aria-label": t("whereLabel") }, el("a", { href: "#/fleet" }, t("fleetTitle"))) : null,
        el("h1", { class: "id" }, this.id), this.about)),
      this.tickets,
      el("div", { class: "board" },
        this.signals.element,
        el("section", { class: "card drawing", "aria-label": t("chart") },
          el("header", {}, this.spans, this.live,
            iconButton("earlier", t("earlier"), () => this.shift(-0.5)), iconButton("later", t("later"), () => this.shift(0.5)), iconButton("wider", t("wider"), () => this.widen())),
          el("div", { class: "body" }, this.chips, this.hint, this.chart.element, this.lanes.element,
            this.under))),
      el("div", { class: "wide below" }, this.daily, this.facts));
  }

  close() {
    this.chart.close();
  }

  keys() {
    return { "[": () => this.shift(-0.5), "]": () => this.shift(0.5) };
  }

  async refresh() {
    const vehicle = await get(this.path);
    const tick = vehicle.last_tick_ms; // null: nothing in an owner's period
    this.shown = true;
    const silent = vehicle.state === "silent";
    const heard = Math.round((Date.now() - (vehicle.online_ms ?? tick)) / 1000);
    show(this.about, [vehicle.model, vehicle.signals, silent, silent ? Math.round(heard / 60) : 0, tick], () => [
      el("span", { class: "marked" }, el("span", { class: `mark ${silent ? "warn" : "good"}` }), silent ? t("silentFor", { duration: duration(heard * 1000) }) : t("online")),
      el("span", {}, vehicle.model), el("span", {}, t("signalsOf", { count: vehicle.signals })), tick === null ? null : el("span", {}, t("newestData", { time: when(tick) }))]);
    if (tick === null) return this.signals.show([], 0);
    await this.refreshValues(tick);
    await this.refreshSlow(vehicle); // after the picture, which is what the reader waits for
  }

  async refreshValues(tick) {
    if (tick === this.newest && this.drawnFor === this.wanted()) return;
    const fresh = tick !== this.newest;
    this.newest = tick;
    // where it is known what to draw, nothing waits for the list
    await Promise.all([this.untouched ? null : this.draw(), fresh ? this.refreshList(tick) : null]);
    if (!this.untouched || !this.signals.rows.size) return;
    await this.begin();
    this.showChips();
    await this.draw();
  }

  async refreshList(tick) {
    this.signals.show(await get(`${this.path}/signals`, { lang: language }), tick);
    this.showChips();
    if (!this.view) return;
    for (const line of this.view.lines) line.name = this.signals.words(line.signal); // it may have been drawn before the words were known
    this.chart.panels.setAttribute("aria-label", described(this.view));
  }

  async refreshSlow(vehicle) {
    if (Date.now() < (this.slowUntil ?? 0)) return;
    this.slowUntil = Date.now() + SLOW_MS;
    const day = (ms) => new Date(ms).toISOString().slice(0, 10);
    const end = vehicle.last_tick_ms;
    const [tickets, findings, quality] = await Promise.all([
      get("/api/tickets", { vehicle: this.id, lang: language, limit: 50 }),
      may("fleet") ? get(`${this.path}/findings`, { from_ms: end - QUALITY_DAYS * 86_400_000, to_ms: end + 86_400_000 }) : { findings: [] },
      !may("fleet") ? { days: [], offered: false } : get(`${this.path}/quality`, { from_day: day(end - (QUALITY_DAYS - 1) * 86_400_000), to_day: day(end), lang: language }),
    ]);
    const words = new Map(tickets.tickets.map((one) => [one.fault_code, one.fault_words]));
    this.findings = findings.findings.filter((one) => one.raised_ms !== null).map((one) => ({ ...one, words: words.get(one.fault_code) ?? one.fault_code }));
    this.quality = quality.days;
    const open = tickets.tickets.filter((one) => one.handling !== "closed");
    show(this.tickets, open, () => (open.length ? el("ul", { class: "banners" }, open.map((one) => el("li", {}, el("a", { href: `#/tickets/${one.id}` },
      tierMark(one.tier), el("span", { class: "words" }, one.fault_words), conditionPill(one.condition), el("span", { class: "small" }, `${named("handling", one.handling)} · ${shortly(one.opened_ms)}`))))) : null));
    show(this.daily, [quality.offered, this.quality], () => (quality.offered === false ? null : qualityCard(this.quality, (signal) => this.signals.words(signal))));
    this.daily.hidden = quality.offered === false;
    if (may("fleet")) show(this.facts, [vehicle.status?.facts, vehicle.status?.state, vehicle.status?.tick_ms], () => factsCard(vehicle.status));
    this.showLanes();
    if (this.view && this.view.spans.length !== this.shownFindings().length) { // drawn before they were known; a parked car has no next tick
      this.view.spans = this.shownFindings();
      await this.chart.draw(this.view);
    }
  }

  range() {
    return this.fixed ?? [this.newest - this.span_s * 1000, this.newest];
  }

  // Nothing was asked for: begin with what an open ticket is about, or else with a few that are likely to move.
  async begin() {
    this.untouched = false;
    const { tickets } = await get("/api/tickets", { vehicle: this.id, lang: language, limit: 20 });
    const ticket = tickets.find((one) => one.handling !== "closed");
    const about = ticket ? (await get(`/api/tickets/${part(ticket.id)}`)).evidence.contributions.map((one) => one.signal) : [];
    let first = about.filter((signal) => this.signals.rows.has(signal));
    if (!first.length) {
      const rows = [...this.signals.rows.values()].filter((row) => row.item.unit);
      first = FIRST_CHOICE.map((likely) => rows.find((row) => likely.test(row.haystack))?.item.signal).filter(Boolean);
    }
    for (const signal of [...new Set(first)].slice(0, FIRST_COUNT)) this.choose(signal);
    this.signals.choose(this.chosen);
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
    this.changed();
  }

  follow(s) {
    this.fixed = null;
    this.span_s = s;
    this.changed();
  }

  zoom(from, to) {
    const middle = (from + to) / 2, half = Math.max(SHORTEST_MS, to - from) / 2;
    this.fixed = [Math.round(middle - half), Math.round(middle + half)];
    this.changed();
  }

  shift(by) {
    const [from, to] = this.range();
    this.zoom(from + (to - from) * by, to + (to - from) * by);
  }

  widen() {
    const [from, to] = this.range();
    this.zoom(from - (to - from) / 2, to + (to - from) / 2);
  }

  typed() {
    const from = new Date(this.from.value).getTime(), to = new Date(this.to.value).getTime();
    if (from < to) this.zoom(from, to);
  }

  // The reader's choices go into the address without a step in the history.
  changed() {
    const query = new URLSearchParams([...this.chosen.keys()].map((signal) => ["s", signal]));
    if (this.fixed) [["from", this.fixed[0]], ["to", this.fixed[1]]].forEach(([name, ms]) => query.set(name, String(ms)));
    else query.set("r", String(this.span_s));
    history.replaceState(null, "", `#/vehicles/${part(this.id)}?${query}`);
    press(this.spans, this.fixed ? null : this.span_s);
    this.live.setAttribute("aria-pressed", String(!this.fixed));
    this.signals.choose(this.chosen);
    this.showChips();
    this.draw().catch((error) => say(this.says, error.message)); // the next round asks again
  }

  showChips() {
    keep(this.chips, [...this.chosen], ([signal]) => signal,
      ([signal, colour]) => el("li", { class: `chip series-${colour}` }, el("span", { class: "name", title: signal }, signal), el("output", {}),
        el("button", { type: "button", "aria-label": t("remove", { signal }), title: t("remove", { signal }), onclick: () => this.toggle(signal) }, "×")),
      (child, [signal, colour]) => {
        child.className = `chip series-${colour}`;
        say(child.querySelector(".name"), this.signals.words(signal));
        say(child.querySelector("output"), this.signals.value(signal));
      });
    this.hint.hidden = !this.full && this.chosen.size > 0;
    say(this.hint, this.full ? t("most", { count: COLOURS }) : t("pick"));
    this.chart.element.hidden = this.under.hidden = this.chosen.size === 0;
  }

  wanted() {
    return `${this.fixed ?? `${this.newest} ${this.span_s}`} ${[...this.chosen.keys()].join(" ")}`;
  }

  async draw() {
    if (this.newest === null || !this.chosen.size) return;
    const wanted = this.wanted();
    const [from, to] = this.range();
    const answer = await get(`${this.path}/series`, { signal: [...this.chosen.keys()], from_ms: from, to_ms: to + 1, points: POINTS, bands: 1 });
    if (wanted !== this.wanted()) return; // the reader has chosen anew since; that choice has its own request
    this.drawnFor = wanted;
    const signals = Object.keys(answer.max).filter((signal) => this.chosen.has(signal));
    const thinned = answer.bucket_ms > 0;
    const { ms, columns } = broken(answer.tick_ms, [...signals.map((signal) => answer.max[signal]), ...(thinned ? signals.map((signal) => answer.min[signal]) : [])], answer.bucket_ms || 1000);
    const lines = signals.map((signal, i) => ({ signal, name: this.signals.words(signal), unit: answer.units[signal], high: columns[i], low: thinned ? columns[signals.length + i] : columns[i], colour: this.chosen.get(signal) }));
    this.view = { ms, lines, spans: this.shownFindings(), marks: [], range: [from, to] };
    say(this.says, ms.length ? `${thinned ? t("bands", { duration: duration(answer.bucket_ms) }) : t("everyTick")}${t(TOUCH ? "tapToRead" : "dragToZoom")}` : t("nothingThere"));
    this.save.href = `${this.path}/series?${new URLSearchParams([...signals.map((signal) => ["signal", signal]), ["from_ms", from], ["to_ms", to + 1], ["format", "csv"]])}`;
    if (document.activeElement !== this.from && document.activeElement !== this.to) [this.from.value, this.to.value] = [localInput(from), localInput(to)];
    this.chart.panels.setAttribute("aria-label", described(this.view));
    this.showLanes();
    await this.chart.draw(this.view);
  }

  shownFindings() {
    const [from, to] = this.range();
    return this.findings.map((one) => ({ from: one.raised_ms, to: one.cleared_ms ?? Math.max(to, this.newest), one })).filter((span) => span.to > from && span.from < to);
  }

  showLanes() {
    if (this.newest === null) return;
    const [from, to] = this.range();
    const gaps = this.quality.flatMap((day) => day.gaps).map((gap) => ({ from: gap.from_ms, to: gap.to_ms, words: gap.cause }));
    const findings = this.shownFindings().map(({ one, ...span }) => ({ ...span, words: one.level === "seen" ? `${one.words} · ${t("belowTicket")}` : one.words, href: one.ticket_id ? `#/tickets/${one.ticket_id}` : null }));
    this.lanes.show([{ name: t("findings"), look: "found", items: findings }, { name: t("gaps"), look: "missing", items: gaps }], [from, to]);
  }
}

function qualityCard(days, wordsOf) {
  if (!days.length) return card(t("dataQuality"), empty(t("noQuality"), t("noQualityWhy")));
  const rows = days.toReversed().map((day) => el("tr", {},
    el("td", { class: "title num" }, calendarDay(day.day)),
    el("td", { class: "number" }, percent(day.completeness, 1)),
    el("td", { class: "number" }, percent(day.upload, 1)),
    el("td", { class: "number" }, day.latency_ms?.p99 == null ? "–" : `${(day.latency_ms.p99 / 1000).toFixed(1)} s`),
    el("td", { class: "number less" }, day.clock_offset_ms == null ? "–" : aheadBy(day.clock_offset_ms)),
    el("td", {}, gapsOf(day)),
    el("td", { class: "less" }, told(day.implausible.toSorted((a, b) => b.share - a.share).map((one) => `${wordsOf(one.signal)} ${percent(one.share)}`)))));
  return el("section", { class: "card", "aria-label": t("dataQuality") }, el("header", {}, el("h2", {}, t("dataQuality"))),
    el("div", { class: "body" }, dayBars(days, (day) => day.completeness, { label: t("completeness"), floor: 0.95, width: innerWidth < 820 ? 308 : 640 })),
    table([[t("day")], [t("completeness"), "number"], [t("upload"), "number"], [t("latencyP99"), "number"], [t("clockOffset"), "number less"], [t("gaps")], [t("implausible"), "less"]], rows, "tight folding"));
}

// A right clock is behind by the time that a batch takes: only one that is ahead of ours when its data come is known to be wrong.
function aheadBy(ms) {
  return ms <= 0 ? t("fine") : ms < 1000 ? `${Math.round(ms)} ms` : duration(ms);
}

// What counts against the completeness, the longest first; a car that slept has lost nothing.
function gapsOf(day) {
  const lost = day.gaps.filter((gap) => gap.lost).sort((a, b) => (b.to_ms - b.from_ms) - (a.to_ms - a.from_ms));
  return told(lost.map((gap) => `${duration(gap.to_ms - gap.from_ms)} ${gap.cause}`));
}

function told(words) {
  return [...words.slice(0, MOST_TOLD), ...(words.length > MOST_TOLD ? [`+${words.length - MOST_TOLD}`] : [])].map((one) => el("div", {}, one));
}

// What runs on the vehicle, as its agent says: "pack.0", "pack.1" ... are one line.
function factsCard(status) {
  if (!status) return card(t("versions"), el("p", { class: "note" }, t("noVersions")));
  const lines = new Map();
  for (const [name, value] of Object.entries(status.facts)) {
    const [kind, which] = [name.split(".")[0], name.slice(name.indexOf(".") + 1)];
    const words = kind === "channel" ? t("says", { what: which, words: named("busStates", value) }) : value;
    lines.set(kind, [...(lines.get(kind) ?? []), words]);
  }
  return card(t("versions"), el("dl", { class: "facts" }, fact(t("agentState"), named("agentStates", status.state)), fact(t("saidAt"), since(status.tick_ms)),
    [...lines].map(([kind, values]) => fact(named("versionNames", kind), values.map((value) => el("div", { class: "id" }, value))))));
}
