// What the keyboard does, on a page of its own.

import { open } from "./dialogs.js";
import { el } from "./dom.js";
import { button } from "./parts.js";
import { named, t } from "./texts.js";

const KEYS = ["/", "Ctrl K", "j  k", "Enter", "x", "e", "[  ]", "g f", "g t", "g d", "g n", "g s", "?", "Esc"];

export function showKeys() {
  const keys = KEYS.flatMap((key) => [
    el("dt", {}, key.split("  ").flatMap((one, i) => [i ? " " : "", ...one.split(" ").flatMap((part, k) => [k ? " " : "", el("kbd", {}, part)])])),
    el("dd", {}, named("keys", key)),
  ]);
  const dialog = el("dialog", { "aria-labelledby": "keys-title" }, el("form", { method: "dialog" }, el("h2", { id: "keys-title" }, t("keysTitle")), el("dl", { class: "keys" }, keys),
    el("div", { class: "actions" }, button(t("close"), () => dialog.close()))));
  open(dialog);
}
