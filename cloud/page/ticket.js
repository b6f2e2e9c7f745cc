// A ticket: what the vehicle's detector found, why, and what to do.

import { Chart, COLOURS } from "./charts.js";
import { breakable, el, get, keep, say } from "./dom.js";
import { language, named, number, pair, rounded, t, when } from "./texts.js";

const SCORE = "score"; // the window's name for the detector's own score

export class TicketView {
  constructor(address) {
    this.id = address.id;
    this.element = el("article", { class: "ticket" });
    this.chart = new Chart(t("window"));
    this.built = false;
  }

  close() {
    this.chart.close();
  }

  async refresh() {
    const ticket = await get(`/api/tickets/${encodeURIComponent(this.id)}`, { lang: language });
    if (!this.built) this.build(ticket);
    this.update(ticket);
  }

  build(ticket) {
    this.built = true;
    const { evidence } = ticket;
    this.pills = el("p", { class: "pills" });
    this.occurrences = el("dd");
    this.verdict = el("dd");
    this.history = el("ol", { class: "history" });
    const fact = (name, value) => el("div", {}, el("dt", {}, t(name)), value instanceof HTMLElement ? value : el("dd", {}, value));
    const facts = el("dl", { class: "facts" },
        fact("factVehicle", el("dd", {}, el("a", { class: "id", href: `#vehicle=${ticket.vehicle}${seriesOf(evidence)}` }, ticket.vehicle), ` ${ticket.model}`)),
        fact("factCode", ticket.fault_code),
        fact("factOpened", when(ticket.opened_ms)),
        fact("factSince", when(evidence.since_ms)),
        fact("factOccurrences", this.occurrences),
        fact("factScore", t("scoreOf", { score: number(rounded(evidence.score)), threshold: number(rounded(evidence.threshold)) })),
        fact("factP", number(rounded(evidence.p_value))),
        fact("factPack", evidence.pack_id),
        fact("factVerdict", this.verdict));
    this.element.append(
      el("a", { class: "back", href: "#" }, `‹ ${t("back")}`),
      el("div", { class: "heading" }, el("h1", {}, ticket.fault_words), this.pills),
      el("div", { class: "columns" },
        el("div", { class: "stack" },
          ticket.action ? el("section", { class: "card" }, el("h2", {}, t("action")), el("p", {}, ticket.action)) : "",
          el("section", { class: "card" }, el("h2", {}, t("why")), el("p", { class: "note" }, t("whyNote")), contributions(evidence.contributions)),
          el("section", { class: "card small" }, el("h2", {}, t("facts")), facts),
          el("section", { class: "card small" }, el("h2", {}, t("history")), this.history)),
        el("section", { class: "card drawing" }, el("h2", {}, t("window")), legend(evidence), this.chart.element)),
    );
    this.chart.draw(windowView(evidence));
  }

  update(ticket) {
    const pills = [
      ["condition", ticket.condition, `pill ${ticket.condition}`, ""],
      ["handling", ticket.handling, "pill plain", ""],
      ["tier", ticket.tier, "pill plain", t("tierWhy")],
    ];
    keep(this.pills, pills, ([kind]) => kind, () => el("span"), (pill, [kind, value, look, why]) => {
      pill.className = look;
      pill.title = why;
      say(pill, named(kind, value));
    });
    say(this.occurrences, ticket.occurrences === 1 ? t("once") : t("times", { n: ticket.occurrences }));
    say(this.verdict, ticket.verdict ? named("verdict", ticket.verdict) : "–");
    keep(this.history, ticket.history, (line) => `${line.at_ms} ${line.action} ${line.detail}`,
      (line) => el("li", {}, el("time", { datetime: new Date(line.at_ms).toISOString() }, when(line.at_ms)), " ",
        el("strong", {}, named("events", line.action)), ` ${[line.actor, line.detail].filter(Boolean).join(", ")}`),
      () => {});
  }
}

// In the window the score comes first; the other signals keep the colours of their rows.
function windowView(evidence) {
  const { tick_ms: tickMs, signals, values } = evidence.window;
  const units = new Map(evidence.contributions.map((one) => [one.signal, one.unit]));
  const order = drawn(evidence);
  const lines = order.map((signal, i) => ({
    name: label(evidence, signal),
    unit: signal === SCORE ? t("score") : units.get(signal) ?? "",
    values: values[signals.indexOf(signal)],
    colour: i,
    ...(signal === SCORE ? { limit: evidence.threshold } : {}),
  }));
  return { tickMs, lines, marks: [{ ms: evidence.since_ms, words: t("began") }], range: null, key: "window" };
}

function drawn(evidence) {
  const { signals } = evidence.window;
  return [...signals.filter((signal) => signal === SCORE), ...signals.filter((signal) => signal !== SCORE)].slice(0, COLOURS);
}

function label(evidence, signal) {
  return signal === SCORE ? t("score") : evidence.contributions.find((one) => one.signal === signal)?.words || signal;
}

function legend(evidence) {
  return el("ul", { class: "chips" }, ...drawn(evidence).map((signal, i) =>
    el("li", { class: `chip series-${i}` }, el("span", { class: "name", title: signal }, label(evidence, signal)))));
}

function contributions(list) {
  const head = ["signal", "expected", "seen", "unit", "share"].map((key) => el("th", { scope: "col", class: key }, t(key)));
  const rows = list.map((one) => {
    const [expected, seen] = pair(one.expected, one.seen);
    return el("tr", {},
      el("th", { scope: "row", class: "signal" }, el("span", { class: "words" }, one.words || one.signal), one.words ? el("span", { class: "name" }, ...breakable(one.signal)) : ""),
      el("td", { class: "expected" }, one.margin ? `${expected} ± ${Number(one.margin.toPrecision(2))}` : expected),
      el("td", { class: "seen" }, seen),
      el("td", { class: "unit" }, named("units", one.unit)),
      el("td", { class: "share" }, `${Math.round(one.share * 100)} %`));
  });
  return el("table", { class: "contributions" }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
}

function seriesOf(evidence) {
  return evidence.contributions.slice(0, 3).map((one) => `&s=${encodeURIComponent(one.signal)}`).join("");
}
