// Every word of the page, in one place. Another language is another object with the same keys.

const texts = {
  en: {
    skip: "Skip to content",
    token: "Token",
    enter: "Log in",
    tokenWhence: "`cansight cloud token create` prints one.",
    tokenRefused: "This token is not known, or no longer good.",
    vehicles: "Vehicles",
    tickets: "Open tickets",
    noVehicles: "No vehicle has reported yet. It appears here within seconds of its first batch.",
    noTickets: "None. A finding on a vehicle opens one.",
    choose: "Choose a vehicle or a ticket.",
    back: "All vehicles and tickets",
    live: "Live",
    lost: "No answer from the cloud, trying again",
    newest: "newest data {time}",
    signalsOf: "{count} signals",
    ticketsOf: "{count} tickets",
    ticketOne: "1 ticket",
    signals: "Signals",
    search: "Search {count} signals by name, words or unit",
    searchLabel: "Search signals",
    searchKey: "Press / to search",
    noMatch: "No signal has “{query}” in its name, words or unit.",
    noSignals: "No signal has been stored for this vehicle yet.",
    shown: "{shown} of {count}",
    chart: "Chart",
    range: "Time span",
    pick: "Choose signals in the list to draw them here.",
    most: "At most {count} signals at a time; take one away first.",
    remove: "Take {signal} off the chart",
    draw: "Draw {signal}",
    noUnit: "no unit",
    localTime: "local time ({zone})",
    chartOf: "Chart of {signals}",
    chartLoading: "Loading the chart…",
    chartFailed: "The chart could not be loaded; reload the page.",
    seconds: "{n} s ago",
    minutes: "{n} min ago",
    hours: "{n} h ago",
    days: "{n} d ago",
    now: "now",
    noValue: "no valid value",
    ticket: "Ticket {id}",
    missing: "There is no such vehicle or ticket (any more).",
    condition: { "pending": "pending", "active": "active", "recovered": "recovered", "no-data": "no data" },
    handling: { "new": "new", "acknowledged": "acknowledged", "scheduled": "scheduled", "in workshop": "in workshop", "closed": "closed" },
    verdict: { "confirmed": "confirmed", "false alarm": "false alarm", "no fault found": "no fault found" },
    tier: { "unrated": "unrated" },
    tierWhy: "No probability of a breakdown has been calibrated for this finding, so it has no colour.",
    action: "What to do",
    factVehicle: "Vehicle",
    factCode: "Fault code",
    factOpened: "Opened",
    factSince: "Began",
    factOccurrences: "Seen",
    times: "{n} times",
    once: "once",
    factScore: "Score",
    scoreOf: "{score} (threshold {threshold})",
    factP: "p-value",
    factPack: "Detector",
    factVerdict: "Verdict",
    why: "Why it opened",
    whyNote: "Frozen when the ticket opened: what the detector expected of each signal and what it saw.",
    signal: "Signal",
    expected: "Expected",
    seen: "Seen",
    unit: "Unit",
    share: "Share",
    window: "The time around it",
    score: "Anomaly score",
    threshold: "threshold",
    began: "began",
    history: "History",
    facts: "Facts",
    events: {
      "opened": "opened",
      "occurred again": "occurred again",
      "active": "active again",
      "recovered": "recovered",
      "acknowledged": "acknowledged",
      "scheduled": "scheduled",
      "in workshop": "in workshop",
      "closed": "closed",
    },
    units: { degC: "°C", degF: "°F", deg: "°" }, // a DBC file's ASCII
    ranges: { 60: "1 min", 300: "5 min", 1800: "30 min", 7200: "2 h", 86400: "24 h" },
  },
};

export const language = navigator.languages.map((name) => name.split("-")[0]).find((name) => name in texts) ?? "en";
const words = texts[language];

// t("signalsOf", {count: 3}) -> "3 signals"
export function t(key, values = {}) {
  return words[key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// named("condition", "active"); a value this page does not know yet is shown as it came.
export function named(kind, value) {
  return words[kind][value] ?? value;
}

const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const date = new Intl.DateTimeFormat(language, { year: "numeric", month: "short", day: "numeric" });
const brief = new Intl.DateTimeFormat(language, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

// Local time of day; with its date when that is not today.
export function when(ms) {
  const at = new Date(ms);
  return at.toDateString() === new Date().toDateString() ? clock.format(at) : `${date.format(at)}, ${clock.format(at)}`;
}

// The same without year and seconds, for lists.
export function shortly(ms) {
  return new Date(ms).toDateString() === new Date().toDateString() ? clock.format(ms) : brief.format(ms);
}

export function ago(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 3) return t("now");
  if (s < 90) return t("seconds", { n: s });
  if (s < 5400) return t("minutes", { n: Math.round(s / 60) });
  if (s < 129600) return t("hours", { n: Math.round(s / 3600) });
  return t("days", { n: Math.round(s / 86400) });
}

const plain = new Intl.NumberFormat(language, { maximumSignificantDigits: 6, useGrouping: false });

export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-4 || size >= 1e9) ? value.toExponential(3) : plain.format(value);
}

// Two values to be compared, with as many decimals as their difference deserves.
export function pair(a, b) {
  const apart = a === null || b === null ? 0 : Math.abs(a - b);
  if (apart === 0 || apart < 1e-6 || apart >= 1e6) return [number(rounded(a)), number(rounded(b))];
  const decimals = Math.max(0, 1 - Math.floor(Math.log10(apart)));
  return [a.toFixed(decimals), b.toFixed(decimals)];
}

export function rounded(value) {
  return value === null ? null : Number(value.toPrecision(3));
}

// The reader's distance from UTC at an instant: it is not the same in summer and in winter.
export function zone(ms) {
  const minutes = -new Date(ms).getTimezoneOffset();
  const two = (n) => String(n).padStart(2, "0");
  return `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
}
