// Logging in: a token, from the address's #token=... or typed in, becomes a session in a cookie that no script can read.

import { el, HttpError } from "./dom.js";
import { t } from "./texts.js";

// Resolves once there is a session; shows the form in `place` while there is none.
export async function enter(place) {
  const parts = new URLSearchParams(location.hash.slice(1));
  const token = parts.get("token");
  if (token !== null) {
    parts.delete("token");
    history.replaceState(null, "", `#${parts}`); // a shared or remembered address has no token in it
    if (await exchange(token)) return;
  } else if ((await fetch("/api/me")).ok) return;
  await ask(place);
}

async function exchange(token) {
  const response = await fetch("/api/session", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }),
  }).catch(() => { throw new HttpError(0, t("lost")); });
  return response.ok;
}

function ask(place) {
  return new Promise((resolve) => {
    const input = el("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
    const said = el("p", { class: "note", role: "alert" });
    place.replaceChildren(el("form", {
      class: "login",
      onsubmit: async (event) => {
        event.preventDefault();
        if (await exchange(input.value.trim()).catch(() => false)) {
          place.replaceChildren();
          resolve();
        } else said.textContent = t("tokenRefused");
      },
    }, el("label", { for: "token" }, t("token")), input, el("button", {}, t("enter")), el("p", { class: "note" }, t("tokenWhence")), said));
    input.focus();
  });
}
