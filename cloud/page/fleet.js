// The fleet: how it does as a whole, then every vehicle, the silent ones first.

import { get, part } from "./api.js";
import { dayBars } from "./days.js";
import { el, keep, say, show } from "./dom.js";
import { count, duration, percent } from "./format.js";
import { Rows } from "./keys.js";
import { card, choice, empty, figures, labelCells, meter, shareOf, since, table, tierMark } from "./parts.js";
import { language, named, t } from "./texts.js";

const QUALITY_EVERY_MS = 60_000;
const COMPLETE_ENOUGH = 0.95; // the platform's own promise
const LATENCY_PROMISE_S = 5;
const MOST = 200; // rows drawn; a search finds the rest
const TIERS = ["red", "yellow", "blue", "unrated"];

export class FleetView {
  constructor(query) {
    this.title = t("fleetTitle");
    this.every_ms = 3000;
    this.state = query.get("state") ?? "";
    this.body = el("tbody");
    this.rows = new Rows(this.body);
    this.figures = el("div", { class: "figures" });
    this.quality = el("div", { class: "stack" });
    this.groups = el("div");
    this.none = el("div", { hidden: true });
    this.search = el("input", { type: "search", class: "field search", placeholder: t("searchVehicles"), "aria-label": t("searchVehicles"), value: query.get("q") ?? "", oninput: () => this.changed() });
    this.about = el("span", { class: "note" });
    this.heads = [[t("vehicle")], [t("state")], [t("lastData"), "said"], [t("completenessToday"), "less"], [t("openTickets")]];
    this.table = table(this.heads, [], "rows folding");
    this.table.querySelector("tbody").replaceWith(this.body);
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row && !event.target.closest("a") && !getSelection().toString()) location.hash = `#/vehicles/${row.dataset.key}`;
    });
    this.element = el("article", { class: "fleet stack" },
      el("div", { class: "heading" }, el("div", { class: "words" }, el("h1", {}, t("fleetTitle")))),
      this.figures,
      el("div", { class: "wide" },
        el("section", { class: "card", "aria-label": t("vehicles") },
          el("header", {}, el("h2", {}, t("vehicles")), this.about, el("span", { class: "grow" }),
            choice(t("state"), [["", t("all")], ["silent", t("silent")], ["online", t("onlineOnes")]], this.state, (state) => { this.state = state; this.changed(); }), this.search),
          el("div", { class: "flush" }, this.table, this.none)),
        el("div", { class: "stack" }, this.groups, this.quality)));
  }

  keys() {
    return this.rows.keys((row) => { location.hash = `#/vehicles/${row.dataset.key}`; });
  }

  changed() {
    const query = new URLSearchParams([["state", this.state], ["q", this.search.value.trim()]].filter(([, value]) => value));
    history.replaceState(null, "", `#/fleet${query.size ? `?${query}` : ""}`);
    this.refresh().catch(() => {}); // the next round asks again and says what is wrong
  }

  async refresh() {
    const asked = `${this.state} ${this.search.value}`;
    const [fleet, tickets, system] = await Promise.all([
      get("/api/vehicles", { q: this.search.value.trim(), state: this.state, order: "attention", limit: MOST }),
      get("/api/tickets", { hidden: 0, limit: 1 }),
      get("/api/system"),
      this.refreshQuality(),
    ]);
    if (asked !== `${this.state} ${this.search.value}`) return;
    this.shown = true;
    this.showFigures(fleet, tickets, system);
    const { vehicles, found } = fleet;
    say(this.about, found > vehicles.length ? t("firstOf", { count: count(vehicles.length), all: count(found) }) : count(found));
    keep(this.body, vehicles, (one) => one.vehicle, (one) => this.row(one), (row, one) => this.update(row, one));
    this.rows.mark();
    this.table.classList.toggle("no-quality", !vehicles.some((one) => one.completeness != null));
    this.table.hidden = vehicles.length === 0;
    this.none.hidden = vehicles.length > 0;
    const nothing = this.search.value || this.state ? [t("noVehicleFits"), ""] : [t("noVehicles"), t("noVehiclesWhy")];
    if (!vehicles.length) show(this.none, nothing, (words) => empty(...words));
  }

  row(one) {
    return labelCells(el("tr", {},
      el("td", { class: "title" }, el("a", { class: "id", href: `#/vehicles/${part(one.vehicle)}` }, one.vehicle), el("span", { class: "second" }, one.model)),
      el("td", {}), el("td", { class: "num" }), el("td", { class: "num less" }), el("td", {})), this.heads);
  }

  update(row, one) {
    const [, state, last, complete, tickets] = row.children;
    const silent = one.state === "silent";
    const words = silent ? t("silentFor", { duration: duration(Date.now() - heard(one)) }) : t("online");
    show(state, [silent, words], () => el("span", { class: "marked" }, el("span", { class: `mark ${silent ? "warn" : "good"}` }), words));
    show(last, [Math.round((Date.now() - one.last_tick_ms) / 1000), one.last_tick_ms], () => since(one.last_tick_ms));
    show(complete, one.completeness ?? null, (share) => (share === null ? el("span", { class: "small" }, "–") : [meter(share, COMPLETE_ENOUGH), ` ${shareOf(share)}`]));
    show(tickets, one.tiers, () => openTickets(one));
  }

  showFigures(fleet, tickets, system) {
    const { online = 0, silent = 0 } = fleet.counts;
    const open = Object.entries(tickets.counts).reduce((sum, [handling, n]) => sum + (handling === "closed" ? 0 : n), 0);
    const p99 = system.delays.recent?.p99_s ?? null;
    const behind = Object.values(system.sinks).reduce((most, sink) => Math.max(most, sink.behind), 0);
    const today = this.days?.at(-1);
    figures(this.figures, [
      { name: t("onlineNow"), value: count(online), unit: t("ofAll", { count: count(online + silent) }) },
      { name: t("silentVehicles"), value: count(silent), look: silent ? "warn" : "", more: silent ? t("silentMore") : t("nobodySilent"), href: silent ? "#/fleet?state=silent" : null },
      { name: t("openTickets"), value: count(open), more: t("newOnes", { count: tickets.counts.new ?? 0 }), href: "#/tickets" },
      today ? { name: t("completenessToday"), value: percent(today.completeness, 1).replace(" %", ""), unit: "%", look: today.completeness < COMPLETE_ENOUGH ? "warn" : "", more: t("promise", { value: "95 %" }) } : null,
      { name: t("latencyP99"), value: p99 === null ? "–" : p99.toFixed(1), unit: p99 === null ? "" : "s", look: p99 > LATENCY_PROMISE_S ? "warn" : "", more: p99 === null ? t("notMeasured") : t("promise", { value: duration(LATENCY_PROMISE_S * 1000) }), href: "#/system" },
      { name: t("behind"), value: count(behind), more: behind ? t("behindMore") : t("nothingWaits"), href: "#/system" },
    ]);
  }

  async refreshQuality() {
    const now = Date.now();
    if (now < (this.qualityUntil ?? 0)) return;
    this.qualityUntil = now + QUALITY_EVERY_MS;
    const [{ groups: all }, { days }] = await Promise.all([get("/api/groups", { lang: language }), get("/api/quality")]);
    const groups = all.filter((one) => one.vehicles > 1);
    this.days = days;
    show(this.groups, groups, () => card(t("groupsTitle"), groups.length ? groupList(groups) : el("p", { class: "note" }, t("noGroups"))));
    show(this.quality, days, () => (days.length ? [
      card(t("completeness"), dayBars(days, (one) => one.completeness, { label: t("completeness"), floor: COMPLETE_ENOUGH })),
      card(t("coverage"), dayBars(days, (one) => one.coverage, { label: t("coverage"), floor: 0.9 })),
    ] : []));
  }
}

function heard(one) {
  return one.gone_ms ?? one.online_ms ?? one.last_tick_ms;
}

function openTickets(one) {
  const tiers = TIERS.filter((tier) => one.tiers[tier]);
  return tiers.length && el("span", { class: "marks" }, tiers.map((tier) => el("span", { class: "marked num" }, tierMark(tier), `${one.tiers[tier]} ${named("tier", tier)}`)));
}

function groupList(groups) {
  return el("ul", { class: "lines" }, groups.slice(0, 8).map((group) => el("li", {},
    el("a", { href: `#/tickets?fault_code=${part(group.fault_code)}` }, group.fault_words),
    el("span", { class: "small" }, t("onVehicles", { count: group.vehicles })))));
}
