// The frame around every view: navigation, search, who is here, language and theme.

import { el, say } from "./dom.js";
import { icon, iconButton } from "./parts.js";
import { may, me } from "./session.js";
import { chooseLanguage, language, languages, named, t } from "./texts.js";

const PAGES = [
  ["fleet", "#/fleet"],
  ["tickets", "#/tickets"],
  ["detectors", "#/detectors"],
  ["silences", "#/silences"],
  ["system", "#/system"],
];

export class Shell {
  constructor({ onleave, onhelp, onpalette }) {
    const pages = PAGES.filter(([name]) => name === "tickets" || may("fleet"));
    const own = me.vehicle ? [["fleet", el("a", { href: `#/vehicles/${me.vehicle}` }, icon("fleet"), el("span", {}, t("vehicle")))]] : []; // an owner's first page
    this.links = new Map([...own, ...pages.map(([name, href]) => [name, el("a", { href }, icon(name), el("span", {}, named("pages", name)), el("span", { class: "count" }))])]);
    this.status = el("span", { class: "state", role: "status" }, t("connecting"));
    this.main = el("main", { id: "main", tabindex: "-1" });
    const { theme } = window;
    const themeButton = iconButton(theme.chosen() === "system" ? "system_theme" : theme.chosen(), "", () => {
      theme.choose(theme.themes[(theme.themes.indexOf(theme.chosen()) + 1) % theme.themes.length]);
      paint();
    });
    const paint = () => {
      const words = t("theme", { name: named("themes", theme.chosen()) });
      themeButton.replaceChildren(icon(theme.chosen() === "system" ? "system_theme" : theme.chosen()));
      themeButton.title = words;
      themeButton.setAttribute("aria-label", words);
    };
    paint();
    const other = Object.keys(languages).find((name) => name !== language);
    const skip = el("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); this.main.focus(); } }, t("skip"));
    this.side = el("header", { class: "side" },
      el("a", { class: "brand", href: "#/" }, el("img", { src: "/static/icon.svg", alt: "", width: "22", height: "22" }), el("span", { class: "name" }, "Cansight"), el("span", { class: "unseen" }, t("home"))),
      el("button", { type: "button", class: "find", onclick: onpalette, "aria-label": t("findAnything") }, icon("search", 16), el("span", {}, t("find")), el("kbd", {}, "Ctrl K")),
      el("nav", { class: "nav", "aria-label": t("pagesLabel") }, [...this.links.values()]),
      el("div", { class: "foot" },
        this.status,
        el("div", { class: "who" }, el("span", { class: "name" }, me.name), el("span", {}, `· ${named("roles", me.role)}`)),
        el("div", { class: "tools" }, themeButton,
          el("button", { type: "button", class: "button bare", lang: other, title: languages[other], onclick: () => chooseLanguage(other) }, other === "zh" ? "中" : "EN", el("span", { class: "unseen" }, ` ${languages[other]}`)),
          iconButton("help", t("keysTitle"), onhelp), iconButton("leave", t("leave"), onleave))));
    this.elements = [skip, el("div", { class: "frame" }, this.side, this.main)];
  }

  show(element, place) {
    this.main.replaceChildren(element);
    for (const [name, link] of this.links) {
      if (name === place) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  count(name, number) {
    const place = this.links.get(name)?.querySelector(".count");
    if (place) say(place, number ? String(number) : "");
  }

  state(look, words) {
    this.status.className = `state ${look}`;
    say(this.status, words);
  }
}
