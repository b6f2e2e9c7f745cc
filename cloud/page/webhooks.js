// What webhooks were not told: by what the receiver said, each message on request, and sending it again.

import { get, part, send } from "./api.js";
import { toast } from "./dialogs.js";
import { el, show } from "./dom.js";
import { count } from "./format.js";
import { button, empty, since, table } from "./parts.js";
import { explained } from "./said.js";
import { may } from "./session.js";
import { named, t } from "./texts.js";

const MOST = 500; // letters looked at
const SHOWN = 20;

export class Webhooks {
  constructor() {
    this.note = el("span", { class: "note" });
    this.summary = el("div");
    this.list = el("div");
    this.each = el("details", {}, el("summary", {}, t("eachMessage")), this.list);
    this.element = el("section", { class: "card letters", "aria-label": t("webhooks"), hidden: true },
      el("header", {}, el("h2", {}, t("webhooks")), this.note), this.summary, this.each);
  }

  async refresh() {
    if (!may("operate")) return;
    const [{ webhooks }, { deliveries }] = await Promise.all([get("/api/webhooks"), get("/api/webhooks/deliveries", { state: "dead", limit: MOST })]);
    this.element.hidden = !webhooks.length;
    this.each.hidden = !deliveries.length;
    show(this.note, webhooks, () => webhooks.map((one) => t("delivered", { name: one.name, delivered: count(one.delivered), due: count(one.due), dead: count(one.dead) })).join(" · "));
    show(this.summary, deliveries.map((one) => [one.id, one.done_ms]), () => (deliveries.length ? this.table(byAnswer(deliveries)) : empty(t("noDeadLetters"))));
    show(this.list, deliveries.slice(0, SHOWN), () => [
      table([[t("webhook")], [t("ticket")], [t("lastAnswer"), "less"], [t("attempts"), "number"], [""]], deliveries.slice(0, SHOWN).map((one) => this.row(one)), "tight folding"),
      deliveries.length > SHOWN ? el("p", { class: "note foot-row" }, t("firstOfAll", { count: SHOWN, all: deliveries.length < MOST ? count(deliveries.length) : `${count(MOST)}+` })) : null]);
  }

  table(groups) {
    const rows = groups.map(({ webhook, last, letters }) => el("tr", {},
      el("td", { class: "title" }, webhook), el("td", {}, explained(last)), el("td", { class: "number" }, count(letters.length)), el("td", { class: "num" }, since(letters[0].done_ms ?? letters[0].made_ms)),
      el("td", { class: "number" }, button(t("tellAgain"), () => this.tellAgain(letters), { look: "bare" }))));
    return table([[t("webhook")], [t("lastAnswer")], [t("messages"), "number"], [t("newest"), "said"], [""]], rows, "tight folding");
  }

  row(one) {
    const event = one.event.replace("ticket.", "").replaceAll("_", " "); // as it is called in the message
    return el("tr", {}, el("td", { class: "title" }, one.webhook), el("td", { class: "num" }, el("a", { href: `#/tickets/${one.ticket_id}` }, `#${one.ticket_id}`), ` ${named("tellings", event)}`),
      el("td", { class: "less" }, explained(one.last)), el("td", { class: "number" }, count(one.attempts)), el("td", { class: "number" }, button(t("tellAgain"), () => this.tellAgain([one]), { look: "bare" })));
  }

  async tellAgain(letters) {
    try {
      for (const one of letters) await send("POST", `/api/webhooks/deliveries/${part(one.id)}/replay`, {});
      toast(t("toldAgain"));
    } catch (error) {
      toast(error.message, "bad");
    }
    await this.refresh().catch(() => {}); // the next round says what is wrong
  }
}

// The newest first, those with the same answer together.
function byAnswer(deliveries) {
  const groups = new Map();
  for (const one of deliveries) {
    const key = `${one.webhook}\n${one.last}`;
    if (!groups.has(key)) groups.set(key, { webhook: one.webhook, last: one.last, letters: [] });
    groups.get(key).letters.push(one);
  }
  return [...groups.values()];
}
