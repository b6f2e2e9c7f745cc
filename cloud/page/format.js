// Numbers, times and durations as the reader's language writes them.

import { language, t } from "./texts.js";

const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const date = new Intl.DateTimeFormat(language, { year: "numeric", month: "short", day: "numeric" });
const short = new Intl.DateTimeFormat(language, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dayMonth = new Intl.DateTimeFormat(language, { month: "short", day: "numeric" });
const minute = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const plain = new Intl.NumberFormat(language, { maximumSignificantDigits: 6, useGrouping: false });
const grouped = new Intl.NumberFormat(language);
const DAY_MS = 86_400_000;

const today = (ms) => new Date(ms).toDateString() === new Date().toDateString();

// Local time of day; with its date when that is not today.
export function when(ms) {
  return today(ms) ? clock.format(ms) : `${date.format(ms)}${language === "zh" ? "" : ","} ${clock.format(ms)}`;
}

// The same without year and seconds, for lists.
export function shortly(ms) {
  return today(ms) ? minute.format(ms) : short.format(ms);
}

export function calendarDay(day) {
  return dayMonth.format(new Date(`${day}T12:00:00`));
}

// The words below an axis for ticks `step` ms apart: seconds only where they matter, the date where a day begins.
export function axisTime(ms, step) {
  const at = new Date(ms);
  if (step >= DAY_MS || (at.getHours() === 0 && at.getMinutes() === 0 && step >= 60_000)) return dayMonth.format(at);
  return step < 60_000 ? clock.format(at) : minute.format(at);
}

export function duration(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return t("seconds", { n: s });
  if (s < 5400) return t("minutes", { n: Math.round(s / 60) });
  if (s < 129_600) return t("hours", { n: Math.round(s / 3600) });
  return t("days", { n: Math.round(s / 86_400) });
}

// A policy's "90s", "10m", "8h", "14d".
export function spoken(time) {
  return t({ s: "seconds", m: "minutes", h: "hours", d: "days" }[time.slice(-1)] ?? "seconds", { n: time.slice(0, -1) });
}

export function ago(ms) {
  return ms < 3000 ? t("now") : t("ago", { duration: duration(ms) });
}

export function count(value) {
  return value === null || value === undefined ? "–" : grouped.format(value);
}

export function bytes(size) {
  return size < 10_000 ? `${count(size)} B` : `${count(Math.round(size / 1000))} kB`;
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-4 || size >= 1e9) ? value.toExponential(3) : plain.format(value);
}

export function percent(share, digits = 0) {
  if (share === null || share === undefined) return "–";
  const said = (share * 100).toFixed(digits);
  // 99.96 % is not 100 %: what is not complete is not called complete
  return `${share < 1 && Number(said) >= 100 ? (100 - 10 ** -digits).toFixed(digits) : said} %`;
}

export function rounded(value) {
  return value === null || value === undefined ? null : Number(value.toPrecision(3));
}

// The reader's distance from UTC at an instant: it is not the same in summer and in winter.
export function zone(ms) {
  const minutes = -new Date(ms).getTimezoneOffset();
  const two = (n) => String(n).padStart(2, "0");
  return `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
}

// For <input type="datetime-local">, which knows no zone: the reader's own.
export function localInput(ms) {
  return new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
