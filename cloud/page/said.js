// What the cloud writes down by itself, in the reader's language. It is kept as one English line, in a ticket's history or beside a notification;
// what is not known here is shown as it stands.

import { percent, spoken } from "./format.js";
import { lines, named, t } from "./texts.js";

const KNOWN = [
  [/^(silence|maintenance|ticket) (\d+)$/, (kind, n) => named("hiders", kind).replace("{n}", n)],
  [/^(.*), again after ticket (\d+)$/, (pack, n) => t("againAfter", { pack, n })],
  [/^(.*), (\d+)x$/, (pack, n) => t("and", { one: pack, other: t("times", { n }) })],
  [/^(\d+) turns without a rest of (\w+)$/, (n, time) => t("turnsWithoutRest", { n, duration: spoken(time) })],
  [/^(\w+) after it clears$/, (time) => t("afterItClears", { duration: spoken(time) })],
  [/^(\d+)% within ([\d.]+) h, (.*)$/, (share, hours, source) => t("and", { one: t("probabilityWithin", { share: percent(share / 100), duration: t("hours", { n: hours }) }), other: source })],
  [/^no calibrated prognosis$/, () => t("noPrognosis")],
  [/^withheld by budget: (\d+) pushes in (\d+) days, at most (\d+)$/, (n, days, most) => t("budgetPushes", { n, days, most })],
  [/^withheld by budget: (\d+) warnings in (\d+) days, at most (\d+)$/, (n, days, most) => t("budgetWarnings", { n, days, most })],
  [/^withheld by budget: displaced by the red notification \d+$/, () => t("budgetDisplaced")],
  [/^(.*) \(ended by (.*)\)$/s, (reason, name) => t("endedBy", { reason, name })],
];

export function said(line) {
  for (const [pattern, words] of KNOWN) {
    const found = line.match(pattern);
    if (found) return words(...found.slice(1));
  }
  return line;
}

// Why something was refused, put aside or is away: English too, with what it names as it stands.
export function explained(line) {
  for (const [pattern, words] of lines) {
    const found = line.match(pattern);
    if (found) return words.replace(/\{(\w+)\}/g, (_, name) => part(name, found.groups[name] ?? ""));
  }
  return line;
}

// Parts of a line that have words of their own.
function part(name, value) {
  if (name === "rest") return explained(said(value));
  if (name === "sink") return named("sinks", value);
  if (name === "role") return named("roles", value);
  if (name === "time") return spoken(value);
  return name.startsWith("handling_") ? named("handling", value) : value;
}
