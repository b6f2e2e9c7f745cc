// A ticket: what the vehicle's detector found, why, what was done, and what to do next.

import { assignTickets, closeTickets, judgeTicket, moveTickets } from "./actions.js";
import { get, part, send } from "./api.js";
import { broken, Chart, COLOURS, described } from "./charts.js";
import { toast } from "./dialogs.js";
import { breakable, el, show } from "./dom.js";
import { duration, number, percent, rounded, when } from "./format.js";
import { button, card, clockPill, conditionPill, fact, meter, since, tierMark, tierPill, time } from "./parts.js";
import { said } from "./said.js";
import { may } from "./session.js";
import { askSilence } from "./silences.js";
import { language, named, t } from "./texts.js";

const SCORE = "score"; // the window's name for the detector's own score
const SIMILAR_EVERY_MS = 60_000;
const AGENTS = { detector: 1, cansight: 1 }; // who writes by rule; what people write stays as it is
const ORDER = ["acknowledged", "scheduled", "in workshop", "closed"];

export class TicketView {
  constructor(id) {
    this.id = id;
    this.title = t("ticketTitle", { id });
    this.every_ms = 3000;
    this.head = el("div", { class: "heading" });
    this.notes = el("div", { class: "stack notes" });
    this.advice = el("div");
    this.why = el("div");
    this.facts = el("div");
    this.history = el("div");
    this.similar = el("div");
    this.chart = new Chart(t("window"), { height: 460 });
    this.legend = el("ul", { class: "chips" });
    this.text = el("textarea", { class: "field", name: "text", maxlength: "4000", "aria-label": t("comment"), placeholder: t("commentHint"), required: true });
    this.form = el("form", { class: "comment", onsubmit: (event) => this.comment(event) }, this.text, el("div", { class: "bar" }, el("span", { class: "grow" }), el("button", { class: "button", type: "submit" }, t("addComment"))));
    this.element = el("article", { class: "ticket" }, this.head, this.notes,
      el("div", { class: "wide" },
        el("div", { class: "stack" }, this.advice, this.why,
          el("section", { class: "card", "aria-label": t("window") }, el("header", {}, el("h2", {}, t("window")), el("span", { class: "note" }, t("windowNote"))), el("div", { class: "body" }, this.legend, this.chart.element))),
        el("div", { class: "stack" }, this.facts, this.told = el("section", { class: "card", "aria-label": t("history") }, el("header", {}, el("h2", {}, t("history"))), el("div", { class: "body" }, this.history, may("work") ? this.form : null)), this.similar)));
  }

  close() {
    this.chart.close();
  }

  keys() {
    return may("work") ? { e: () => this.ticket && this.ticket.next_handlings.includes("acknowledged") && this.act(() => moveTickets([this.ticket.id], "acknowledged")) } : {};
  }

  async refresh() {
    const ticket = await get(`/api/tickets/${part(this.id)}`, { lang: language });
    this.ticket = ticket;
    this.shown = true;
    show(this.head, [ticket.fault_words, ticket.tier, ticket.condition, ticket.handling, ticket.verdict, ticket.assignee, ticket.flapping], () => this.heading());
    show(this.notes, [ticket.hidden_by, ticket.linked, ticket.notifications], () => this.notices());
    show(this.advice, [ticket.action, ticket.tier], () => (ticket.action ? card(t("action"), el("p", { class: "advice" }, ticket.action)) : null));
    show(this.why, [ticket.evidence.contributions, ticket.evidence.explanation], () => this.reasons());
    show(this.facts, [ticket.occurrences, ticket.sla, ticket.group, ticket.webhooks, ticket.budget, ticket.probability], () => this.about());
    this.told.hidden = !ticket.history.length && !may("work"); // an owner is told nothing of who did what
    show(this.history, ticket.history, () => this.lines());
    if (!this.drawn) {
      this.drawn = true;
      this.view = windowView(ticket.evidence);
      this.chart.panels.setAttribute("aria-label", described(this.view));
      this.legend.replaceChildren(...this.view.lines.map((line) => el("li", { class: `chip series-${line.colour}` }, el("span", { class: "name" }, line.name))));
      this.chart.draw(this.view).catch((error) => this.chart.say(error.message));
    }
    if (Date.now() < (this.similarUntil ?? 0) || !may("fleet")) return;
    this.similarUntil = Date.now() + SIMILAR_EVERY_MS;
    const { similar } = await get(`/api/tickets/${part(this.id)}/similar`, { lang: language });
    show(this.similar, similar, () => card(t("similar"), similar.length ? el("ul", { class: "lines tall" }, similar.map(alike)) : el("p", { class: "note" }, t("noSimilar"))));
  }

  heading() {
    const one = this.ticket;
    const next = ORDER.filter((to) => one.next_handlings.includes(to));
    const act = (to) => (to === "closed" ? closeTickets([one.id]) : moveTickets([one.id], to));
    // the first button is what usually comes next
    const moves = one.handling === "in workshop" ? next.toReversed() : next;
    const buttons = may("work") ? [
      ...moves.map((to, i) => button(named("moves", to), () => this.act(() => act(to)), { look: i === 0 ? "first" : "", key: to === "acknowledged" ? "e" : "" })),
      one.handling === "closed" ? button(one.verdict ? t("changeVerdict") : t("giveVerdict"), () => this.act(() => judgeTicket(one.id)), { look: one.verdict ? "" : "first" }) : null,
      one.handling !== "closed" ? button(t("assign"), () => this.act(() => assignTickets([one.id]))) : null,
      may("operate") && one.handling !== "closed" ? button(t("silence"), () => this.act(() => askSilence({ vehicle: one.vehicle, fault_code: one.fault_code })), { look: "bare" }) : null,
    ] : [];
    return [
      el("div", { class: "words" },
        el("nav", { class: "crumbs", "aria-label": t("whereLabel") }, el("a", { href: "#/tickets" }, t("tickets")), "/", el("span", {}, `#${one.id}`)),
        el("h1", {}, one.fault_words),
        el("div", { class: "about" }, tierPill(one.tier), conditionPill(one.condition), el("span", { class: "pill" }, named("handling", one.handling)),
          one.verdict ? el("span", { class: `pill ${one.verdict === "confirmed" ? "good" : "warn"}` }, named("verdict", one.verdict)) : null,
          one.flapping ? el("span", { class: "pill" }, t("flapping")) : null,
          one.assignee ? el("span", {}, t("assignedTo", { name: one.assignee })) : null)),
      el("div", { class: "bar actions" }, buttons)];
  }

  notices() {
    const { id, hidden_by: hidden, linked, notifications } = this.ticket;
    return [
      hidden ? el("p", { class: "notice" }, hiddenBy(hidden)) : null,
      linked.map((one) => el("p", { class: "notice" }, t(one.id < id ? "reopenedFrom" : "reopenedAs"), " ", el("a", { href: `#/tickets/${one.id}` }, `#${one.id}`), one.verdict ? t("and", { one: "", other: named("verdict", one.verdict) }) : "")),
      notifications.filter((one) => one.owner_state === "withheld" || one.owner_state === "displaced").map((one) => el("p", { class: "notice" }, t("notTold", { reason: said(one.owner_reason) }))),
    ];
  }

  // Each signal's part in the finding's own words, the most important first.
  reasons() {
    const { contributions, explanation } = this.ticket.evidence;
    const rows = contributions.map((one) => {
      const name = one.words || one.signal;
      const said = one.sentence.startsWith(name) ? one.sentence.slice(name.length) : one.sentence;
      return el("li", {},
        el("div", { class: "what" }, el("span", { class: "sentence" }, el("strong", {}, name), said),
          one.words ? el("span", { class: "small id" }, ...breakable(one.signal)) : null),
        el("span", { class: "part" }, meter(one.share, 0, "share"), el("span", { class: "num" }, percent(one.share))));
    });
    const more = [explanation.rarity, explanation.likeness].filter(Boolean);
    return [el("section", { class: "card", "aria-label": t("why") }, el("header", {}, el("h2", {}, t("why")), el("span", { class: "note" }, t("whyNote"))),
      el("div", { class: "body" }, el("ol", { class: "reasons" }, rows), more.length ? el("p", { class: "small looks" }, more.join(language === "zh" ? "" : " ")) : null))];
  }

  about() {
    const { evidence, ...one } = this.ticket;
    return card(t("facts"), el("dl", { class: "facts" },
      fact(t("vehicle"), el("a", { class: "id", href: this.vehicleAddress() }, one.vehicle), ` ${one.model}`),
      fact(t("opened"), time(one.opened_ms, when(one.opened_ms))),
      fact(t("began"), time(evidence.since_ms, when(evidence.since_ms))),
      fact(t("seenTimes"), one.occurrences === 1 ? t("once") : t("times", { n: one.occurrences })),
      one.sla ? [this.clock("toAcknowledge", "acknowledged", one.sla.acknowledge), this.clock("toClose", "closed", one.sla.close)] : [],
      fact(t("score"), t("scoreOf", { score: number(rounded(evidence.score)), threshold: number(rounded(evidence.threshold)) })),
      one.probability === null ? [] : fact(t("probability"), t("probabilityWithin", { share: percent(one.probability), duration: duration(one.within_ms) })),
      evidence.p_value === null ? [] : fact(t("pValue"), evidence.p_value.toPrecision(2)),
      fact(t("detector"), el("span", { class: "id" }, evidence.pack_id)),
      fact(t("faultCode"), el("a", { class: "id", href: `#/tickets?fault_code=${part(one.fault_code)}` }, one.fault_code), one.group ? ` · ${t("openInFleet", { count: one.group.open })}` : ""),
      one.budget ? fact(t("ownerTold"), t("budget", { warnings: one.budget.warnings, of: one.budget.warnings_allowed })) : [],
      latestOf(one.webhooks).map((hook) => fact(t("told"), t("says", { what: hook.webhook, words: named("deliveries", hook.state) })))),
    one.tier === "unrated" ? el("p", { class: "small tier-why" }, t("tierWhy")) : null);
  }

  clock(open, done, clock) {
    return clock.done ? fact(named("tabs", done), t("doneIn", { duration: duration(clock.elapsed_ms) })) : fact(t(open), clockPill(clock));
  }

  // The vehicle's page with this ticket's signals, around the time when it began.
  vehicleAddress() {
    const { evidence, vehicle } = this.ticket;
    const { tick_ms: ticks } = evidence.window;
    const span = ticks.length ? [["from", ticks[0] - 1_200_000], ["to", ticks.at(-1) + 600_000]] : [];
    return `#/vehicles/${part(vehicle)}?${new URLSearchParams([...evidence.contributions.slice(0, 3).map((one) => ["s", one.signal]), ...span.map(([name, ms]) => [name, String(ms)])])}`;
  }

  lines() {
    const { history } = this.ticket;
    return el("ol", { class: "history" }, history.map((line) => el("li", { class: line.action === "comment" ? "said" : "" },
      el("div", {}, el("strong", {}, line.erased ? t("erased") : named("actors", line.actor)), " ", line.action === "comment" ? "" : named("events", line.action), " ", el("span", { class: "small" }, since(line.at_ms))),
      line.detail ? el("p", { class: line.action === "comment" ? "" : "small" }, detailOf(line)) : null)));
  }

  async act(action) {
    try {
      await action();
    } catch (error) {
      toast(error.message, "bad");
    }
    await this.refresh().catch(() => {}); // the next round says what is wrong
  }

  async comment(event) {
    event.preventDefault();
    const text = this.text.value.trim();
    if (!text) return;
    await this.act(async () => {
      await send("POST", `/api/tickets/${part(this.id)}/comments`, { text });
      this.text.value = "";
    });
  }
}

function alike({ ticket: one, fault_words: fault, likeness }) {
  const words = [one.vehicle.slice(0, 8), one.verdict ? named("verdict", one.verdict) : named("handling", one.handling), percent(likeness)].join(" · ");
  return el("li", {}, el("span", { class: "marked wrap" }, tierMark(one.tier), el("a", { href: `#/tickets/${one.id}` }, `#${one.id} ${fault}`)), el("span", { class: "small" }, words));
}

// By a silence, a maintenance window or the ticket of its cause: the way there is in the sentence.
function hiddenBy(what) {
  const [kind, id] = what.split(" ");
  const [before, after] = t("hiddenBy", { what: "\n" }).split("\n");
  return [before, el("a", { href: kind === "ticket" ? `#/tickets/${id}` : "#/silences" }, said(what)), after];
}

// What was said with it; a verdict comes first, in its API's word.
function detailOf({ actor, action, detail }) {
  if (actor in AGENTS) return said(detail);
  if (action !== "closed" && action !== "verdict") return detail;
  const [verdict, ...rest] = detail.split(": ");
  return rest.length ? t("says", { what: named("verdict", verdict), words: rest.join(": ") }) : named("verdict", verdict);
}

// Each webhook's newest delivery.
function latestOf(deliveries) {
  return [...new Map([...deliveries].sort((a, b) => a.id - b.id).map((one) => [one.webhook, one])).values()];
}

// In the window the score comes first, with the threshold that it crossed.
function windowView(evidence) {
  const { tick_ms: ticks, signals, values } = evidence.window;
  const units = new Map(evidence.contributions.map((one) => [one.signal, one.unit]));
  const words = new Map(evidence.contributions.map((one) => [one.signal, one.words]));
  const order = [...signals.filter((signal) => signal === SCORE), ...signals.filter((signal) => signal !== SCORE)].slice(0, COLOURS);
  const { ms, columns } = broken(ticks, order.map((signal) => values[signals.indexOf(signal)]), 1000);
  const lines = order.map((signal, i) => ({
    name: signal === SCORE ? t("score") : words.get(signal) || signal,
    unit: signal === SCORE ? t("scoreUnit") : units.get(signal) ?? "",
    low: columns[i], high: columns[i], colour: i,
    ...(signal === SCORE ? { bare: true, limit: { value: evidence.threshold, words: `${t("threshold")} ${number(rounded(evidence.threshold))}` } } : {}),
  }));
  return { ms, lines, marks: [{ ms: evidence.since_ms, words: t("beganHere") }, ...(ticks.length ? [{ ms: ticks.at(-1), words: t("openedHere") }] : [])], range: ticks.length ? [ticks[0], ticks.at(-1)] : [0, 1] };
}

