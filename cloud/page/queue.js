// The ticket queue: what is open, by handling, with filters that can be kept and actions on many at once.

import { get, part, send } from "./api.js";
import { closeTickets, moveTickets, assignTickets } from "./actions.js";
import { ask, labelled, toast } from "./dialogs.js";
import { el, keep, say, show } from "./dom.js";
import { count } from "./format.js";
import { Rows } from "./keys.js";
import { button, clockPill, conditionPill, empty, labelCells, press, table, tierMark, time } from "./parts.js";
import { may, me } from "./session.js";
import { language, named, t } from "./texts.js";

const OPEN = ["new", "acknowledged", "scheduled", "in workshop"];
const TABS = ["open", ...OPEN, "closed"];
const PAGE = 100;
const MOST = 500; // tickets in a list; a filter finds the rest
const FIELDS = ["q", "tier", "condition", "assignee", "fault_code", "vehicle", "hidden"];

export class QueueView {
  constructor(query) {
    this.title = t("tickets");
    this.every_ms = 5000;
    this.handling = TABS.includes(query.get("handling")) ? query.get("handling") : "open";
    this.values = Object.fromEntries(FIELDS.map((name) => [name, query.get(name) ?? ""]));
    this.chosen = new Set();
    this.limit = PAGE;
    this.tickets = [];
    this.body = el("tbody");
    this.rows = new Rows(this.body);
    this.filters = el("div", { class: "bar saved" });
    this.tabs = el("div", { class: "tabs", role: "group", "aria-label": t("handlingLabel") }, TABS.map((tab) =>
      el("button", { type: "button", "aria-pressed": String(tab === this.handling), "data-value": tab, onclick: () => this.choose({ handling: tab }) }, named("tabs", tab), el("span", { class: "count" }))));
    this.search = el("input", { type: "search", class: "field search", placeholder: t("searchTickets"), "aria-label": t("searchTickets"), value: this.values.q, oninput: () => this.later({ q: this.search.value.trim() }) });
    const select = (name, options) => el("select", { class: "field", "aria-label": t(name), onchange: (event) => this.choose({ [name]: event.target.value }) },
      el("option", { value: "" }, t(`${name}Any`)), options.map(([value, words]) => el("option", { value, selected: this.values[name] === value }, words)));
    this.selects = {
      tier: select("tier", ["red", "yellow", "blue", "unrated"].map((one) => [one, named("tier", one)])),
      condition: select("condition", ["active", "pending", "recovered", "no-data"].map((one) => [one, named("condition", one)])),
      ...(may("fleet") ? { assignee: select("assignee", [[me.name, t("mine")]]) } : {}), // an owner is not told whose it is, or what is hidden
    };
    this.hidden = el("input", { type: "checkbox", checked: this.values.hidden === "1", onchange: () => this.choose({ hidden: this.hidden.checked ? "1" : "" }) });
    this.narrow = el("div", { class: "bar narrow" });
    this.all = el("input", { type: "checkbox", "aria-label": t("chooseAll"), onchange: () => this.chooseAll() });
    this.bulk = el("div", { class: "bar bulk", role: "region", "aria-label": t("bulkLabel"), hidden: true });
    this.heads = [[""], [t("ticket")], [t("condition")], [t("handlingLabel")], [t("assignee"), "less"], [t("dueIn"), "said"], [t("opened"), "said"], [t("seenTimes"), "number less"]];
    this.table = table(this.heads, [], "rows folding");
    const heads = this.table.querySelectorAll("th");
    if (may("work")) heads[0].replaceChildren(this.all);
    else heads[0].hidden = true;
    this.table.querySelector("tbody").replaceWith(this.body);
    this.body.addEventListener("click", (event) => this.clicked(event));
    this.none = el("div", { hidden: true });
    this.more = button(t("more"), () => { this.limit += PAGE; this.refresh().catch(() => {}); }, { hidden: true });
    this.rest = el("p", { class: "note", hidden: true }, t("firstTickets", { count: MOST }));
    this.element = el("article", { class: "queue stack" },
      el("div", { class: "heading" }, el("div", { class: "words" }, el("h1", {}, t("tickets")))),
      this.filters,
      el("section", { class: "card", "aria-label": t("tickets") },
        this.tabs,
        el("div", { class: "bar tools-row" }, this.search, Object.values(this.selects), may("fleet") ? el("label", { class: "inline small" }, this.hidden, t("showHidden")) : null, this.narrow, el("span", { class: "grow" }), may("fleet") ? button(t("saveFilter"), () => this.save(), { look: "bare" }) : null),
        this.bulk, el("div", { class: "flush" }, this.table, this.none), el("div", { class: "bar foot-row" }, this.more, this.rest)));
    this.showNarrow();
  }

  keys() {
    return {
      ...this.rows.keys((row) => { location.hash = `#/tickets/${row.dataset.key}`; }),
      ...(may("work") ? { x: () => this.rows.key && this.toggle(Number(this.rows.key)), e: () => this.acknowledge() } : {}),
      "[": () => this.turn(-1),
      "]": () => this.turn(1),
    };
  }

  turn(by) {
    this.choose({ handling: TABS[(TABS.indexOf(this.handling) + by + TABS.length) % TABS.length] });
  }

  later(values) {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.choose(values), 200);
  }

  choose({ handling = this.handling, ...values }) {
    this.handling = handling;
    Object.assign(this.values, values);
    this.limit = PAGE;
    this.chosen.clear();
    press(this.tabs, handling);
    for (const [name, field] of Object.entries(this.selects)) field.value = this.values[name];
    this.hidden.checked = this.values.hidden === "1";
    if (this.search !== document.activeElement) this.search.value = this.values.q;
    const query = new URLSearchParams(Object.entries(this.query()));
    history.replaceState(null, "", `#/tickets${query.size ? `?${query}` : ""}`);
    this.showNarrow();
    this.showBulk();
    this.refresh().catch(() => {}); // the next round asks again and says what is wrong
  }

  query() {
    const query = Object.fromEntries(Object.entries(this.values).filter(([, value]) => value));
    return this.handling === "open" ? query : { handling: this.handling, ...query };
  }

  // What narrows the queue and has no field of its own: a fault code, a vehicle.
  showNarrow() {
    this.narrow.replaceChildren(...["fault_code", "vehicle"].filter((name) => this.values[name]).map((name) =>
      button([el("span", { class: "small" }, `${t(name)} `), el("span", { class: "id" }, this.values[name]), " ×"], () => this.choose({ [name]: "" }), { "aria-label": t("dropFilter", { name: t(name) }) })));
  }

  async refresh() {
    const asked = JSON.stringify([this.query(), this.limit]);
    // what a silence hides is left out until the reader asks for it
    const which = { ...(this.handling === "open" ? { open: 1 } : {}), hidden: this.values.hidden ? null : 0 };
    const [answer, { counts: all }] = await Promise.all([
      get("/api/tickets", { ...this.query(), ...which, order: this.handling === "closed" ? null : "urgency", limit: this.limit, lang: language }),
      get("/api/tickets", { ...this.query(), hidden: which.hidden, limit: 1 }), // how many there are behind the other tabs
      this.refreshFilters(),
    ]);
    if (asked !== JSON.stringify([this.query(), this.limit])) return;
    this.shown = true;
    this.tickets = answer.tickets;
    const counts = { ...all, open: OPEN.reduce((sum, one) => sum + (all[one] ?? 0), 0) };
    for (const tab of this.tabs.children) say(tab.querySelector(".count"), count(counts[tab.dataset.value] ?? 0));
    this.showTab();
    for (const id of this.chosen) if (!this.tickets.some((one) => one.id === id)) this.chosen.delete(id);
    keep(this.body, this.tickets, (one) => one.id, (one) => this.row(one), (row, one) => this.update(row, one));
    this.rows.mark();
    this.more.hidden = answer.next === null || this.limit >= MOST;
    this.rest.hidden = answer.next === null || this.limit < MOST;
    this.table.hidden = this.tickets.length === 0;
    this.none.hidden = this.tickets.length > 0;
    const narrowed = Object.values(this.values).some(Boolean) || this.handling !== "open";
    if (!this.tickets.length) show(this.none, narrowed, () => (narrowed ? empty(t("noTicketFits")) : empty(t("noTickets"), t("noTicketsWhy"))));
    this.showBulk();
  }

  // Where the tabs are wider than a phone: once, as the reader may move them after that.
  showTab() {
    if (this.tabShown === this.handling) return;
    this.tabShown = this.handling;
    const tab = this.tabs.children[TABS.indexOf(this.handling)].getBoundingClientRect(), all = this.tabs.getBoundingClientRect();
    this.tabs.scrollLeft += Math.max(0, tab.right - all.right) - Math.max(0, all.left - tab.left);
  }

  row(one) {
    const box = el("input", { type: "checkbox", "aria-label": t("chooseTicket", { id: one.id }), checked: this.chosen.has(one.id) });
    return labelCells(el("tr", {},
      el("td", { class: "box", hidden: !may("work") }, box),
      el("td", { class: "title" }, el("span", { class: "marked wrap" }, tierMark(one.tier), el("span", {}, el("a", { href: `#/tickets/${one.id}` }, one.fault_words), el("span", { class: "second" }, `#${one.id} · `, el("span", { class: "id" }, one.vehicle), ` · ${one.model}`)))),
      el("td", {}), el("td", {}), el("td", { class: "num less" }), el("td", { class: "num" }), el("td", { class: "num" }, time(one.opened_ms)), el("td", { class: "number less" })), this.heads);
  }

  update(row, one) {
    const [box, , condition, handling, assignee, due, , seen] = row.children;
    box.firstChild.checked = this.chosen.has(one.id);
    show(condition, [one.condition, one.flapping, one.hidden_by], () => el("span", { class: "marks" }, conditionPill(one.condition), one.flapping ? el("span", { class: "pill" }, t("flapping")) : null, one.hidden_by ? el("span", { class: "pill" }, t("hidden")) : null));
    const words = one.verdict ? `${named("handling", one.handling)} · ${named("verdict", one.verdict)}` : named("handling", one.handling);
    show(handling, words, () => [words]);
    show(assignee, one.assignee ?? "", (name) => [name || el("span", { class: "small" }, "–")]);
    const clock = one.sla ? (one.sla.acknowledge.done ? one.sla.close : one.sla.acknowledge) : null;
    show(due, clock && [clock.done, clock.breached, Math.round((clock.due_ms ?? 0) / 60_000), Math.round(Date.now() / 60_000)], () => [clockPill(clock)]);
    say(seen, t("timesShort", { count: count(one.occurrences) }));
  }

  clicked(event) {
    const row = event.target.closest("tr");
    if (!row) return;
    if (event.target.closest(".box")) {
      if (event.target.matches("input")) this.toggle(Number(row.dataset.key), event.target.checked);
      else this.toggle(Number(row.dataset.key));
    } else if (!event.target.closest("a") && !getSelection().toString()) location.hash = `#/tickets/${row.dataset.key}`;
  }

  toggle(id, on = !this.chosen.has(id)) {
    if (on) this.chosen.add(id);
    else this.chosen.delete(id);
    for (const row of this.body.children) row.querySelector("input").checked = this.chosen.has(Number(row.dataset.key));
    this.showBulk();
  }

  chooseAll() {
    const on = this.chosen.size < this.tickets.length;
    this.chosen = new Set(on ? this.tickets.map((one) => one.id) : []);
    for (const row of this.body.children) row.querySelector("input").checked = on;
    this.showBulk();
  }

  showBulk() {
    const ids = [...this.chosen];
    this.bulk.hidden = ids.length === 0;
    this.all.checked = ids.length > 0 && ids.length === this.tickets.length;
    this.all.indeterminate = ids.length > 0 && ids.length < this.tickets.length;
    if (!ids.length) return;
    const done = () => { this.chosen.clear(); this.showBulk(); return this.refresh(); };
    show(this.bulk, ids, () => [
      el("strong", {}, t("chosen", { count: ids.length })),
      button(t("acknowledge"), () => moveTickets(ids, "acknowledged").then(done), { key: "e" }),
      button(t("schedule"), () => moveTickets(ids, "scheduled").then(done)),
      button(t("toWorkshop"), () => moveTickets(ids, "in workshop").then(done)),
      button(t("assign"), () => assignTickets(ids).then(done)),
      button(t("closeTicket"), () => closeTickets(ids).then(done)),
      button(t("unchoose"), () => { this.chosen.clear(); for (const row of this.body.children) row.querySelector("input").checked = false; this.showBulk(); }, { look: "bare" }),
    ]);
  }

  async acknowledge() {
    const ids = this.chosen.size ? [...this.chosen] : this.rows.here ? [Number(this.rows.key)] : [];
    if (!ids.length) return;
    await moveTickets(ids, "acknowledged");
    this.chosen.clear();
    await this.refresh();
  }

  async refreshFilters() {
    if (!may("fleet") || Date.now() < (this.filtersUntil ?? 0)) return;
    this.filtersUntil = Date.now() + 60_000;
    const { filters } = await get("/api/filters");
    show(this.filters, filters, () => filters.map((one) => el("span", { class: "chip" },
      el("button", { type: "button", class: "link", onclick: () => this.useFilter(one.query) }, one.name),
      el("button", { type: "button", class: "drop", "aria-label": t("dropFilter", { name: one.name }), title: t("dropFilter", { name: one.name }), onclick: () => this.dropFilter(one) }, "×"))));
    this.filters.hidden = filters.length === 0;
  }

  useFilter(query) {
    this.choose({ handling: query.handling ?? "open", ...Object.fromEntries(FIELDS.map((name) => [name, query[name] ?? ""])) });
    this.search.value = this.values.q;
  }

  async save() {
    const name = el("input", { class: "field", name: "name", required: true, maxlength: "60", autocomplete: "off" });
    await ask({ title: t("saveFilter"), fields: [labelled(t("filterName"), name)], submit: t("save"), onsubmit: (data) => send("POST", "/api/filters", { name: data.name.trim(), query: this.query() }) });
    this.filtersUntil = 0;
    await this.refresh();
  }

  async dropFilter(one) {
    await send("DELETE", `/api/filters/${part(one.id)}`).catch((error) => toast(error.message, "bad"));
    this.filtersUntil = 0;
    await this.refresh();
  }
}
