// The command palette: pages, vehicles and tickets by what one remembers of them.

import { get } from "./api.js";
import { open } from "./dialogs.js";
import { el } from "./dom.js";
import { icon } from "./parts.js";
import { may } from "./session.js";
import { language, named, t } from "./texts.js";

const PAGES = ["fleet", "tickets", "detectors", "silences", "system"];
const ASK_AFTER_MS = 120;
const MOST = 8; // of each kind

export function openPalette() {
  if (document.querySelector("dialog.palette")) return;
  const input = el("input", { type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "palette-list", "aria-autocomplete": "list", "aria-label": t("findAnything"), placeholder: t("findAnything"), autocomplete: "off", spellcheck: "false" });
  const list = el("ul", { id: "palette-list", role: "listbox", "aria-label": t("findAnything") });
  const dialog = el("dialog", { class: "palette", "aria-label": t("findAnything") }, input, list);
  let found = [], chosen = 0, timer = null, asked = 0;

  const go = (item) => {
    dialog.close();
    location.hash = item.href;
  };
  const choose = (at) => {
    chosen = Math.max(0, Math.min(found.length - 1, at));
    [...list.children].forEach((child, i) => child.setAttribute("aria-selected", String(i === chosen)));
    input.setAttribute("aria-activedescendant", found.length ? `palette-${chosen}` : "");
    list.children[chosen]?.scrollIntoView({ block: "nearest" });
  };
  const show = (items) => {
    found = items;
    list.replaceChildren(...(items.length
      ? items.map((item, i) => el("li", { id: `palette-${i}`, role: "option", "aria-selected": "false", onclick: () => go(item) }, icon(item.icon, 16), el("span", { class: item.look ?? "" }, item.words), el("span", { class: "kind" }, item.kind)))
      : [el("li", { class: "empty", role: "presentation" }, t("nothingFound"))]));
    choose(0);
  };
  const pages = (query) => PAGES.filter((name) => name === "tickets" || may("fleet"))
    .map((name) => ({ href: `#/${name}`, words: named("pages", name), kind: t("goTo"), icon: name }))
    .filter((item) => item.words.toLowerCase().includes(query.toLowerCase()));
  const search = async () => {
    const query = input.value.trim(), mine = ++asked;
    if (!query) return show(pages(""));
    const [vehicles, tickets] = await Promise.all([get("/api/vehicles", { q: query, limit: MOST }), get("/api/tickets", { q: query, limit: MOST, lang: language })]).catch(() => [{ vehicles: [] }, { tickets: [] }]);
    if (mine !== asked) return;
    show([...pages(query),
      ...vehicles.vehicles.map((one) => ({ href: `#/vehicles/${one.vehicle}`, words: one.vehicle, look: "id", kind: one.model, icon: "fleet" })),
      ...tickets.tickets.map((one) => ({ href: `#/tickets/${one.id}`, words: one.fault_words, kind: `${one.vehicle.slice(0, 8)} · ${named("handling", one.handling)}`, icon: "tickets" }))]);
  };
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, ASK_AFTER_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      choose(chosen + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter" && found[chosen]) {
      event.preventDefault();
      go(found[chosen]);
    }
  });
  show(pages(""));
  open(dialog);
  input.focus();
}
