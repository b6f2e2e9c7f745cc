// The platform itself: does it hear, store and tell, how fast, and what has it put aside.

import { get } from "./api.js";
import { el, show, styled } from "./dom.js";
import { count, duration } from "./format.js";
import { card, fact, figures, table } from "./parts.js";
import { Quarantine } from "./quarantine.js";
import { explained } from "./said.js";
import { language, named, t } from "./texts.js";
import { Webhooks } from "./webhooks.js";

const PROMISE_S = 5; // from the frame to the query
const COUNTS = ["landed", "receipts", "duplicates", "findings", "requests", "quarantined", "refused", "replayed", "unknown", "revoked", "landing_gaps"];

export class SystemView {
  constructor() {
    this.title = t("systemTitle");
    this.every_ms = 3000;
    this.figures = el("div", { class: "figures" });
    this.replica = el("div");
    this.trouble = el("div", { class: "stack" });
    this.sinks = el("div");
    this.latency = el("div");
    this.quarantine = new Quarantine();
    this.webhooks = new Webhooks();
    this.counters = el("div");
    this.element = el("article", { class: "stack" },
      el("div", { class: "heading" }, el("div", { class: "words" }, el("h1", {}, t("systemTitle")), this.replica)),
      this.trouble, this.figures,
      el("div", { class: "wide" }, el("div", { class: "stack" }, this.latency, this.sinks, this.quarantine.element, this.webhooks.element), this.counters));
  }

  async refresh() {
    const [{ stats, sinks: readers, delays, store, tickets }, held] = await Promise.all([get("/api/system"), this.quarantine.refresh(), this.webhooks.refresh()]);
    this.shown = true;
    const sinks = Object.entries(readers);
    const behind = sinks.reduce((most, [, sink]) => Math.max(most, sink.behind), 0);
    const p99 = delays.recent?.p99_s ?? null;
    const parts = [["broker", { error: stats.connected === false ? t("brokerAway") : null, answer_ms: null }], ["store", store], ["database", { ...tickets, error: tickets.error || stats.database_error || null }]];
    const troubles = [...(stats.landing_error ? [t("says", { what: named("platform", "landing"), words: t("landingAway", { error: explained(stats.landing_error) }) })] : []), ...parts.filter(([, one]) => one.error).map(([name, one]) => t("says", { what: named("platform", name), words: explained(one.error) })), ...sinks.filter(([, sink]) => sink.error).map(([name, sink]) => t("says", { what: named("sinks", name), words: explained(sink.error) }))];
    show(this.replica, stats.replica, () => (stats.replica ? el("p", { class: "note" }, t("ofReplica", { name: stats.replica })) : null));
    show(this.trouble, troubles, () => troubles.map((words) => el("p", { class: "notice bad", role: "alert" }, words)));
    figures(this.figures, [
      ...parts.map(([name, one]) => ({ name: named("platform", name), mark: one.error ? "warn" : "good", value: one.error ? t("trouble") : t("fine"), more: one.answer_ms === null ? "" : t("answersIn", { ms: Math.max(1, Math.round(one.answer_ms)) }), look: one.error ? "warn word" : "word" })),
      { name: t("latencyP99"), value: p99 === null ? "–" : p99.toFixed(1), unit: p99 === null ? "" : "s", look: p99 > PROMISE_S ? "warn" : "", more: p99 === null ? t("notMeasured") : t("promise", { value: duration(PROMISE_S * 1000) }) },
      { name: t("waiting"), value: count(stats.waiting), more: t("waitingMore") },
      { name: t("behind"), value: count(behind), more: behind ? t("behindMore") : t("nothingWaits") },
      { name: t("quarantine"), value: count(held), look: held ? "warn" : "", more: t("quarantineMore") },
    ]);
    show(this.latency, delays, () => (delays.start ? card(t("latencyTitle"), latencyTable(delays)) : null));
    show(this.sinks, sinks, () => el("section", { class: "card", "aria-label": t("sinksTitle") }, el("header", {}, el("h2", {}, t("sinksTitle")), el("span", { class: "note" }, t("sinksNote"))),
      table([[t("sink")], [t("state")], [t("behind"), "number"], [t("position"), "number less"], [t("unreadable"), "number less"]], sinks.map(([name, sink]) => el("tr", {},
        el("td", { class: "title num" }, named("sinks", name)), el("td", {}, el("span", { class: "marked wrap" }, el("span", { class: `mark ${sink.error ? "warn" : "good"}` }), sink.error ? explained(sink.error) : t("fine"))),
        el("td", { class: "number" }, count(sink.behind)), el("td", { class: "number less" }, count(sink.position)), el("td", { class: "number less" }, count(sink.unreadable)))), "tight folding")));
    show(this.counters, [COUNTS.map((name) => stats[name]), stats.refusals], () => card(t("countersTitle"), el("dl", { class: "facts counts" },
      COUNTS.filter((name) => stats[name] !== undefined).map((name) => fact(named("counters", name), count(name === "landing_gaps" ? lostIn(stats[name]) : stats[name]))),
      refusals(stats.refusals ?? {})), el("p", { class: "small tier-why" }, t("sinceStart"))));
  }
}

// "refused: Swapped" and the like: what was done, and the program's name of what was wrong.
function refusals(kinds) {
  return Object.entries(kinds).sort(([, a], [, b]) => b - a).map(([kind, n]) => {
    const [done, why] = kind.split(": ");
    return fact(why ? t("says", { what: named("refusals", done), words: named("refusalKinds", why) }) : named("refusals", done), count(n));
  });
}

// Records that the landing log has lost: [first, last] of each gap.
function lostIn(gaps) {
  return gaps.reduce((sum, [first, last]) => sum + last - first + 1, 0);
}

// Half, 99 % and the longest, of the last ten minutes and since the start, against the promise.
function latencyTable(delays) {
  const spans = ["recent", "start"];
  const most = Math.max(PROMISE_S, ...spans.map((span) => delays[span].greatest_s ?? 0)) * 1.05;
  const rows = spans.flatMap((span) => ["p50_s", "p99_s", "greatest_s"].filter((name) => delays[span][name] !== null).map((name) => {
    const seconds = delays[span][name];
    const bar = styled(el("i", { class: seconds > PROMISE_S ? "bad" : "" }), { width: `${(seconds / most) * 100}%` });
    return el("li", {}, el("span", { class: "small" }, t("and", { one: named("delaySpans", span), other: named("percentiles", name) })), el("span", { class: "track" }, bar, styled(el("b"), { left: `${(PROMISE_S / most) * 100}%` })), el("span", { class: "num" }, `${seconds.toFixed(2)} s`));
  }));
  if (!rows.length) return el("p", { class: "note" }, t("notMeasured"));
  const late = delays.start.backlog ? `${language === "zh" ? "" : " "}${t("backlogTicks", { count: count(delays.start.backlog) })}` : "";
  return [el("ul", { class: "latency" }, rows), el("p", { class: "small" }, t("latencyNote", { promise: duration(PROMISE_S * 1000) }) + late)];
}
