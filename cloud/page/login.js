// The way in: a token is exchanged for a session that scripts cannot read.

import { el } from "./dom.js";
import { enter } from "./session.js";
import { t } from "./texts.js";

export class LoginView {
  constructor(trouble, onenter) {
    this.token = el("input", { class: "field id", type: "password", name: "token", id: "token", autocomplete: "current-password", required: true, spellcheck: "false" });
    this.trouble = el("p", { class: "trouble", role: "alert" }, trouble ?? "");
    const go = el("button", { class: "button first", type: "submit" }, t("enter"));
    const form = el("form", { class: "card login" },
      el("img", { src: "/static/icon.svg", alt: "", width: "36", height: "36" }),
      el("h1", {}, t("loginTitle")),
      el("p", { class: "note" }, t("loginNote")),
      el("input", { type: "text", name: "username", autocomplete: "username", value: "cansight", hidden: true }), // what a password manager files the token under
      el("label", { class: "labelled" }, el("span", {}, t("token")), this.token),
      this.trouble, go,
      el("p", { class: "small" }, t("loginHow"), " ", el("code", { class: "id" }, "cansight cloud token create")));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        await enter(this.token.value.trim());
        onenter();
      } catch (error) {
        this.trouble.textContent = error.status === 401 ? t("tokenRefused") : error.message;
        this.token.select();
      } finally {
        go.disabled = false;
      }
    });
    this.element = el("main", { class: "doorway", id: "main" }, form);
  }

  focus() {
    this.token.focus();
  }
}
