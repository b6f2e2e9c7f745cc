// What people do with tickets, one or many: the same words and questions wherever it is done.

import { part, send } from "./api.js";
import { ask, labelled, toast } from "./dialogs.js";
import { el } from "./dom.js";
import { explained } from "./said.js";
import { me } from "./session.js";
import { named, t } from "./texts.js";

const VERDICTS = ["confirmed", "false alarm", "no fault found"];

async function bulk(ids, action) {
  if (ids.length === 1) {
    const one = `/api/tickets/${part(ids[0])}`;
    await ("assignee" in action ? send("POST", `${one}/assignee`, { to: action.assignee }) : send("POST", `${one}/handling`, action));
    return;
  }
  const { results } = await send("POST", "/api/tickets/bulk", { ids, action });
  const failed = results.filter((one) => one.error !== null);
  if (failed.length) throw new Error(t("bulkFailed", { count: failed.length, all: ids.length, error: explained(failed[0].error) }));
}

// Moves, and says so; what goes wrong is said, not thrown: the queue is shown as it is now.
export async function moveTickets(ids, to) {
  if (to === "scheduled" || to === "in workshop") {
    const detail = el("input", { class: "field", name: "detail", autocomplete: "off", maxlength: "500", placeholder: t("detailHint") });
    await ask({
      title: t(to === "scheduled" ? "scheduleTitle" : "workshopTitle", { count: ids.length }),
      fields: [labelled(t("detail"), detail)],
      submit: t("save"),
      onsubmit: async ({ detail: words }) => {
        await bulk(ids, { to, detail: words.trim() });
        toast(t("moved", { count: ids.length, to: named("handling", to) }));
      },
    });
    return;
  }
  try {
    await bulk(ids, { to });
    toast(t("moved", { count: ids.length, to: named("handling", to) }));
  } catch (error) {
    toast(error.message, "bad");
  }
}

function verdictFields(required) {
  const options = [...VERDICTS.map((one) => [one, named("verdict", one), named("verdictWhy", one)]), ...(required ? [] : [["", t("noVerdict"), t("noVerdictWhy")]])];
  return [
    el("fieldset", { class: "options" }, el("legend", { class: "unseen" }, t("verdict")), options.map(([value, words, why], i) =>
      el("label", { class: "option" }, el("input", { type: "radio", name: "verdict", value, required: true, checked: i === 0 && required }), el("span", {}, el("strong", {}, words), el("span", { class: "small" }, why))))),
    labelled(t("foundWhat"), el("textarea", { class: "field", name: "detail", maxlength: "1000" })),
  ];
}

export function closeTickets(ids) {
  return ask({
    title: t("closeTitle", { count: ids.length }),
    fields: verdictFields(false),
    submit: t("close"),
    onsubmit: async ({ verdict, detail }) => {
      await bulk(ids, { to: "closed", detail: detail.trim(), ...(verdict ? { verdict } : {}) });
      toast(t("moved", { count: ids.length, to: named("handling", "closed") }));
    },
  });
}

export function judgeTicket(id) {
  return ask({
    title: t("verdictTitle"),
    fields: verdictFields(true),
    submit: t("save"),
    onsubmit: ({ verdict, detail }) => send("POST", `/api/tickets/${part(id)}/verdict`, { verdict, detail: detail.trim() }),
  });
}

export function assignTickets(ids) {
  const to = el("input", { class: "field", name: "to", autocomplete: "off", maxlength: "100", value: me.name });
  return ask({
    title: t("assignTitle", { count: ids.length }),
    fields: [labelled(t("assignTo"), to), el("p", { class: "small" }, t("assignNote"))],
    submit: t("save"),
    onsubmit: ({ to: name }) => bulk(ids, { assignee: name.trim() }),
  });
}
