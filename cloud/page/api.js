// The API: questions, changes, and what went wrong.

import { explained } from "./said.js";
import { t } from "./texts.js";

export class HttpError extends Error {
  constructor(status, line, after_s = 0) {
    super(explained(line));
    this.line = line; // as the cloud wrote it
    this.status = status; // 0: no answer at all
    this.after_s = after_s; // 429: how long to wait
  }
}

export function get(path, query = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") url.searchParams.append(name, one);
  }
  return ask(url, {});
}

export function send(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  return ask(new URL(path, location.origin), options);
}

async function ask(url, options) {
  const response = await fetch(url, { ...options, headers: { Accept: "application/json", ...options.headers } }).catch(() => {
    throw new HttpError(0, t("lost")); // fetch's own error is a TypeError, as a bug's would be
  });
  const text = await response.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    throw new HttpError(response.status || 502, t("lost")); // a proxy's page, not our answer
  }
  if (!response.ok) throw new HttpError(response.status, body?.error ?? response.statusText, Number(response.headers.get("Retry-After")) || 0);
  return body;
}

export const part = encodeURIComponent;
