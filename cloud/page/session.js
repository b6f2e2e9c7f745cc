// Who the reader is, and what they may do.

import { get, send } from "./api.js";

export const me = { name: "", role: "", vehicle: null };

const MAY = {
  work: ["service", "operator"], // tickets: handling, comments, verdicts, assignment
  operate: ["operator"], // silences, maintenance, webhooks, quarantine
  fleet: ["read-only", "service", "operator"], // everything but an owner's one vehicle
};

export function may(what) {
  return MAY[what].includes(me.role);
}

export async function recognise() {
  Object.assign(me, { vehicle: null }, await get("/api/me"));
}

export async function enter(token) {
  await send("POST", "/api/session", { token });
  await recognise();
}

export async function leave() {
  await send("DELETE", "/api/session");
  me.role = "";
}
