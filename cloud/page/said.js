// What the cloud writes down by itself, in the reader's language. It is kept as one English line, in a ticket's history or beside a notification;
// what is not known here is shown as it stands.

import { percent, spoken } from "./format.js";
import { named, t } from "./texts.js";

const KNOWN = [
  [/^(silence|maintenance|ticket) (\d+)$/, (kind, n) => named("hiders", kind).replace("{n}", n)],
  [/^(.*), again after ticket (\d+)$/, (pack, n) => t("againAfter", { pack, n })],
  [/^(.*), (\d+)x$/, (pack, n) => `${pack}, ${t("times", { n })}`],
  [/^(\d+) turns without a rest of (\w+)$/, (n, time) => t("turnsWithoutRest", { n, duration: spoken(time) })],
  [/^(\w+) after it clears$/, (time) => t("afterItClears", { duration: spoken(time) })],
  [/^(\d+)% within ([\d.]+) h, (.*)$/, (share, hours, source) => `${t("probabilityWithin", { share: percent(share / 100), duration: t("hours", { n: hours }) })}, ${source}`],
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
