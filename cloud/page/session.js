// Who the reader is, and what they may do.

import { get, send } from "./api.js";

export const me = { name: "", role: "", vehicle: null, from_ms: null, to_ms: null };

const MAY = {
  work: ["service", "operator"], // tickets: handling, comments, verdicts, assignment
  operate: ["operator"], // silences, maintenance, webhooks, quarantine
  fleet: ["read-only", "service", "operator"], // everything but an owner's one vehicle
};

let offered = null;

// Whether this cloud has such a route: a page may be newer than its cloud, and a part without its data is left out.
export async function offers(path) {
  offered ??= get("/api/openapi.json").then(({ paths }) => new Set(Object.keys(paths).map((one) => one.replace(/\{\w+\}/g, "*"))));
  return (await offered).has(path);
}

export function may(what) {
  return MAY[what].includes(me.role);
}

export async function recognise() {
  Object.assign(me, { vehicle: null, from_ms: null, to_ms: null }, await get("/api/me"));
}

export async function enter(token) {
  await send("POST", "/api/session", { token });
  await recognise();
}

export async function leave() {
  await send("DELETE", "/api/session");
  me.role = "";
}
