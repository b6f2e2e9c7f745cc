// How often the detectors were right, by what workshops found; and which faults many vehicles have at once.

import { get, part } from "./api.js";
import { el, show, styled } from "./dom.js";
import { count, percent } from "./format.js";
import { empty, since, table, tierMark } from "./parts.js";
import { language, named, t } from "./texts.js";

export class DetectorsView {
  constructor() {
    this.title = t("detectorsTitle");
    this.every_ms = 15_000;
    this.precision = el("div");
    this.groups = el("div");
    this.element = el("article", { class: "stack" }, el("div", { class: "heading" }, el("div", { class: "words" }, el("h1", {}, t("detectorsTitle")), el("p", { class: "note" }, t("detectorsNote")))), this.precision, this.groups);
  }

  async refresh() {
    const [{ precision }, { groups: all }] = await Promise.all([get("/api/precision"), get("/api/groups", { lang: language })]);
    this.shown = true;
    const groups = all.filter((one) => one.vehicles > 1);
    show(this.precision, precision, () => el("section", { class: "card", "aria-label": t("precision") },
      el("header", {}, el("h2", {}, t("precision")), el("span", { class: "note" }, t("precisionNote"))),
      precision.length ? table([[t("detector")], [t("tier")], [t("right"), "number"], [t("wrong"), "number"], [t("undecided"), "number"], [t("share"), "number"], [t("interval")]], precision.map(precisionRow), "folding") : empty(t("noVerdicts"), t("noVerdictsWhy"))));
    show(this.groups, groups, () => el("section", { class: "card", "aria-label": t("groupsTitle") }, el("header", {}, el("h2", {}, t("groupsTitle"))), groups.length
      ? table([[t("fault")], [t("tier")], [t("vehicles"), "number"], [t("openTickets"), "number"], [t("firstSeen"), "said"], [t("lastSeen"), "said"]], groups.map(groupRow), "rows folding")
      : empty(t("noGroups"))));
  }
}

function precisionRow(one) {
  const bar = el("span", { class: "interval", role: "img", "aria-label": t("intervalSays", { low: percent(one.low), high: percent(one.high) }) }, el("i"), one.share === null ? null : el("b"));
  styled(bar.firstChild, { left: `${one.low * 100}%`, width: `${(one.high - one.low) * 100}%` });
  if (one.share !== null) styled(bar.lastChild, { left: `${one.share * 100}%` });
  return el("tr", {}, el("td", { class: "title id" }, one.pack_id), el("td", {}, el("span", { class: "marked" }, tierMark(one.tier), named("tier", one.tier))),
    el("td", { class: "number" }, count(one.right)), el("td", { class: "number" }, count(one.wrong)), el("td", { class: "number" }, count(one.undecided)),
    el("td", { class: "number" }, one.share === null ? "–" : percent(one.share)), el("td", {}, bar, el("span", { class: "small" }, `${percent(one.low)} – ${percent(one.high)}`)));
}

function groupRow(one) {
  return el("tr", { onclick: () => { location.hash = `#/tickets?fault_code=${part(one.fault_code)}`; } },
    el("td", { class: "title" }, el("a", { href: `#/tickets?fault_code=${part(one.fault_code)}` }, one.fault_words), el("span", { class: "second" }, one.model, one.fleet_wide ? ` · ${t("fleetWide")}` : "")),
    el("td", {}, el("span", { class: "marked" }, tierMark(one.worst), named("tier", one.worst))),
    el("td", { class: "number" }, count(one.vehicles)), el("td", { class: "number" }, count(one.open)),
    el("td", {}, since(one.first_opened_ms)), el("td", {}, since(one.last_opened_ms)));
}
