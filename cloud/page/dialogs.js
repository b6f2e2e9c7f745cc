// What comes over the page: questions, and short notes of what has been done.

import { el } from "./dom.js";
import { button } from "./parts.js";
import { t } from "./texts.js";

// Shows a form and resolves with what `onsubmit(data)` gives, or null when it is dismissed. What `onsubmit` throws is shown in the form.
export function ask({ title, fields, submit, look = "first", onsubmit, about = null }) {
  return new Promise((resolve) => {
    const trouble = el("p", { class: "trouble", role: "alert" });
    const go = el("button", { class: `button ${look}`, type: "submit" }, submit);
    const form = el("form", { method: "dialog" }, el("h2", { id: "dialog-title" }, title), about, ...fields, trouble,
      el("div", { class: "actions" }, button(t("cancel"), () => dialog.close()), go));
    const dialog = el("dialog", { "aria-labelledby": "dialog-title" }, form);
    let result = null;
    form.addEventListener("input", () => { trouble.textContent = ""; });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        result = (await onsubmit(Object.fromEntries(new FormData(form)))) ?? true;
        dialog.close();
      } catch (error) {
        trouble.textContent = error.message;
      } finally {
        go.disabled = false;
      }
    });
    open(dialog, () => resolve(result));
  });
}

// Opens `dialog`, closes it on a click beside it, and takes it away again.
export function open(dialog, onclose = () => {}) {
  dialog.addEventListener("close", () => {
    dialog.remove();
    onclose();
  });
  dialog.addEventListener("mousedown", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
}

export function labelled(words, field) {
  return el("label", { class: "labelled" }, el("span", {}, words), field);
}

const toasts = el("div", { class: "toasts", role: "status" });
const STAYS_MS = 5000;

export function toast(words, look = "") {
  if (!toasts.isConnected) document.body.append(toasts);
  const note = el("div", { class: `toast ${look}` }, words);
  toasts.append(note);
  setTimeout(() => note.remove(), STAYS_MS);
}
