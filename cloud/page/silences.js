// Silences and maintenance windows: what is hidden, until when, why; a new one shows first what it would hide.

import { get, part, send } from "./api.js";
import { ask, labelled, toast } from "./dialogs.js";
import { el, show } from "./dom.js";
import { count, duration, localInput, shortly } from "./format.js";
import { button, empty, table, tierMark } from "./parts.js";
import { said } from "./said.js";
import { may } from "./session.js";
import { language, t } from "./texts.js";

const KINDS = { silence: "/api/silences", maintenance: "/api/maintenance" };
const USUAL_MS = { silence: 7 * 86_400_000, maintenance: 4 * 3_600_000 };
const PREVIEW_AFTER_MS = 250;
const MOST = 5; // tickets named in a preview

export class SilencesView {
  constructor() {
    this.title = t("silencesTitle");
    this.every_ms = 10_000;
    this.places = { silence: el("div"), maintenance: el("div") };
    this.element = el("article", { class: "stack" },
      el("div", { class: "heading" }, el("div", { class: "words" }, el("h1", {}, t("silencesTitle")), el("p", { class: "note" }, t("silencesNote"))),
        may("operate") ? el("div", { class: "bar actions" }, button(t("newSilence"), () => this.make("silence"), { look: "first" }), button(t("newMaintenance"), () => this.make("maintenance"))) : null),
      this.places.silence, this.places.maintenance);
  }

  async refresh() {
    const [silences, maintenance] = await Promise.all(Object.values(KINDS).map((path) => get(path, { over: 1 })));
    this.shown = true;
    const now = Math.round(Date.now() / 60_000);
    show(this.places.silence, [silences, now], () => this.card("silence", silences.silences));
    show(this.places.maintenance, [maintenance, now], () => this.card("maintenance", maintenance.silences));
  }

  card(kind, all) {
    const rows = [...all].sort((a, b) => over(a) - over(b) || b.from_ms - a.from_ms).map((one) => el("tr", { class: over(one) ? "over" : "" },
      el("td", { class: "title" }, what(one), one.red ? el("span", { class: "second" }, t("redToo")) : null), el("td", {}, state(one)), el("td", { class: "less" }, `${shortly(one.from_ms)} – ${shortly(one.ended_ms ?? one.to_ms)}`), el("td", {}, said(one.reason)), el("td", { class: "num less" }, one.made_by),
      el("td", { class: "number" }, may("operate") && !over(one) ? button(t("endNow"), () => this.end(kind, one), { look: "bare" }) : "")));
    const title = t(kind === "silence" ? "silences" : "maintenance");
    return el("section", { class: "card", "aria-label": title }, el("header", {}, el("h2", {}, title)),
      rows.length ? table([[t("hides")], [t("state")], [t("period"), "less"], [t("reason")], [t("madeBy"), "less"], [""]], rows, "folding") : empty(t(kind === "silence" ? "noSilences" : "noMaintenance")));
  }

  async make(kind) {
    await askSilence({}, kind);
    await this.refresh().catch(() => {}); // the next round says what is wrong
  }

  async end(kind, one) {
    await send("DELETE", `${KINDS[kind]}/${part(one.id)}`).then(() => toast(t("ended")), (error) => toast(error.message, "bad"));
    await this.refresh().catch(() => {});
  }
}

function over(one) {
  return one.state === "over";
}

function state(one) {
  if (over(one)) return el("span", { class: "small" }, t("isOver"));
  if (one.state === "waiting") return el("span", { class: "pill" }, t("beginsIn", { duration: duration(one.from_ms - Date.now()) }));
  return el("span", { class: "pill warn" }, t("hidesFor", { duration: duration(one.to_ms - Date.now()) }));
}

function what(one) {
  const words = [["vehicle", one.vehicle], ["model", one.model], ["faultCode", one.fault_code], ["detector", one.pack_id]].filter(([, value]) => value);
  return words.length ? words.flatMap(([name, value], i) => [i ? " · " : "", `${t(name)} `, el("span", { class: "id" }, value)]) : t("everything");
}

// The open tickets it fits, and what it would have cost before: confirmed faults that nobody would have seen.
function wouldHide(would) {
  const more = would.open_tickets - Math.min(MOST, would.open.length);
  return [
    el("p", { class: "small" }, would.open_tickets ? t("wouldHide", { count: count(would.open_tickets) }) : t("wouldHideNothing")),
    would.open.length ? el("ul", { class: "lines" }, would.open.slice(0, MOST).map((one) => el("li", {}, el("span", { class: "marked wrap" }, tierMark(one.tier), el("span", {}, would.fault_words[one.fault_code])), el("span", { class: "small id" }, one.vehicle))),
      more ? el("li", { class: "small" }, t("andMore", { count: count(more) })) : null) : "",
    would.red ? el("p", { class: "small" }, t("redStay", { count: would.red })) : "",
    would.past_tickets ? el("p", { class: would.past_confirmed ? "trouble" : "small" }, t("wouldHaveHidden", { days: would.past_days, count: count(would.past_tickets), confirmed: count(would.past_confirmed) })) : "",
    would.past_tickets > 1 ? el("ul", { class: "lines" }, Object.entries(would.by_fault_code).slice(0, MOST).map(([code, n]) => el("li", {}, el("span", {}, would.fault_words[code]), el("span", { class: "small num" }, t("ticketsCounted", { count: count(n) }))))) : "",
  ];
}

// Asks for a silence or a maintenance window; `given` fills the form.
export function askSilence(given, kind = "silence") {
  const now = Date.now();
  const field = (name, more = {}) => el("input", { class: "field", name, autocomplete: "off", value: given[name] ?? "", oninput: () => later(), ...more });
  const fields = {
    vehicle: field("vehicle", { required: kind === "maintenance", class: "field id" }),
    ...(kind === "silence" ? { model: field("model"), fault_code: field("fault_code", { class: "field id", list: "fault-codes" }) } : {}),
  };
  const from = el("input", { class: "field", type: "datetime-local", name: "from", required: true, value: localInput(now), oninput: () => later() });
  const to = el("input", { class: "field", type: "datetime-local", name: "to", required: true, value: localInput(now + USUAL_MS[kind]), oninput: () => later() });
  const preview = el("div", { class: "preview", role: "status" });
  const codes = el("datalist", { id: "fault-codes" }); // of what is open now: nobody knows codes by heart
  get("/api/groups", { lang: language }).then(({ groups }) => codes.append(...new Map(groups.map((one) => [one.fault_code, el("option", { value: one.fault_code }, one.fault_words)])).values()), () => {});
  const body = (data) => Object.fromEntries([...Object.keys(fields).map((name) => [name, data[name]?.trim() || null]), ["from_ms", new Date(data.from).getTime()], ["to_ms", new Date(data.to).getTime()]].filter(([, value]) => value !== null));
  let timer = null;
  function later() {
    clearTimeout(timer);
    timer = setTimeout(look, PREVIEW_AFTER_MS);
  }
  async function look() {
    const form = preview.closest("form");
    if (!form) return;
    const data = body(Object.fromEntries(new FormData(form)));
    if (!(data.from_ms < data.to_ms) || (kind === "maintenance" && !data.vehicle)) return preview.replaceChildren();
    if (!data.vehicle && !data.model && !data.fault_code) return preview.replaceChildren(el("p", { class: "small" }, t("needsOne")));
    try {
      const would = await send("POST", `${KINDS[kind]}/preview?lang=${language}`, { ...data, reason: "preview" });
      preview.replaceChildren(...wouldHide(would));
    } catch (error) {
      preview.replaceChildren(el("p", { class: "trouble" }, error.message));
    }
  }
  const asked = ask({
    title: t(kind === "silence" ? "newSilence" : "newMaintenance").replace("…", ""),
    about: el("p", { class: "note" }, t(kind === "silence" ? "silenceNote" : "maintenanceNote")),
    fields: [
      labelled(t("vehicle"), fields.vehicle), ...(kind === "silence" ? [labelled(t("model"), fields.model), labelled(t("faultCodePattern"), fields.fault_code)] : []),
      el("div", { class: "pair" }, labelled(t("from"), from), labelled(t("to"), to)),
      labelled(t("reason"), el("input", { class: "field", name: "reason", required: true, maxlength: "500", autocomplete: "off" })), codes, preview],
    submit: t("hideThem"),
    onsubmit: async (data) => {
      preview.replaceChildren(); // what is refused is said once
      await send("POST", KINDS[kind], { ...body(data), reason: data.reason.trim() });
      toast(t("silenceMade"));
    },
  });
  later();
  return asked;
}
