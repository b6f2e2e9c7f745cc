// What the cloud keeps and cannot use today: for which reasons, each message of it a page at a time, and trying it again.

import { get, part, send } from "./api.js";
import { toast } from "./dialogs.js";
import { el, show } from "./dom.js";
import { bytes, count } from "./format.js";
import { button, empty, since, table } from "./parts.js";
import { explained } from "./said.js";
import { may } from "./session.js";
import { named, t } from "./texts.js";

const PAGE = 20;

export class Quarantine {
  constructor() {
    this.starts = [0]; // positions at which the pages before this one and this one begin
    this.summary = el("div");
    this.list = el("div");
    this.each = el("details", { ontoggle: () => this.again() }, el("summary", {}, t("eachMessage")), this.list);
    this.replayAll = button(t("replay"), () => this.replay([]));
    this.element = el("section", { class: "card quarantine", "aria-label": t("quarantine") },
      el("header", {}, el("h2", {}, t("quarantine")), el("span", { class: "note" }, t("quarantineNote")), el("span", { class: "grow" }), this.replayAll), this.summary, this.each);
  }

  // How many are held.
  async refresh() {
    const first = this.starts.at(-1);
    const [oldest, page] = await Promise.all([get("/api/quarantine", { limit: PAGE }), first ? get("/api/quarantine", { limit: PAGE, first }) : null]);
    this.replayAll.hidden = !oldest.held || !may("operate");
    this.each.hidden = !oldest.held;
    if (!oldest.held) this.starts = [0];
    show(this.summary, [oldest.reasons, oldest.items[0]?.received_ms ?? null], () => (oldest.held ? reasonsTable(oldest) : empty(t("quarantineEmpty"))));
    if (this.each.open) this.showPage(page ?? oldest);
    return oldest.held;
  }

  showPage({ items, next }) {
    show(this.list, [this.starts, items.map((one) => one.position), next], () => [
      table([[t("vehicle")], [t("received"), "said"], [t("source")], [t("size"), "number"], [""]], items.map((one) => this.row(one)), "tight folding"),
      this.starts.length > 1 || next !== null ? el("div", { class: "bar foot-row" },
        button(t("pageBefore"), () => this.turn(() => this.starts.pop()), { disabled: this.starts.length === 1 }),
        button(t("pageAfter"), () => this.turn(() => this.starts.push(next)), { disabled: next === null })) : null,
    ]);
  }

  row(one) {
    return el("tr", {}, el("td", { class: "title" }, el("a", { class: "id", href: `#/vehicles/${part(one.vehicle)}` }, one.vehicle), el("span", { class: "second" }, explained(one.reason))), el("td", { class: "num" }, since(one.received_ms)),
      el("td", { class: "num" }, named("sources", one.source)), el("td", { class: "number" }, bytes(one.bytes)),
      el("td", { class: "number" }, may("operate") ? button(t("replay"), () => this.replay([one.position]), { look: "bare" }) : null));
  }

  turn(to) {
    to();
    this.again();
  }

  again() {
    this.refresh().catch(() => {}); // the next round asks again and says what is wrong
  }

  async replay(positions) {
    try {
      const done = await send("POST", "/api/quarantine/replay", { positions });
      toast(done.done ? t("replayed", { count: done.released }) : t("replayAsked"));
    } catch (error) {
      toast(error.message, "bad");
    }
    this.again();
  }
}

function reasonsTable({ reasons, items }) {
  const oldest = (reason) => items.find((one) => one.reason === reason); // they come oldest first
  const rows = Object.entries(reasons).map(([reason, n]) => el("tr", {}, el("td", { class: "title" }, explained(reason)), el("td", { class: "number" }, count(n)), el("td", { class: "num" }, oldest(reason) ? since(oldest(reason).received_ms) : "–")));
  return table([[t("reason")], [t("messages"), "number"], [t("oldest"), "said"]], rows, "tight folding");
}
