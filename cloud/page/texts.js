// The page's words in the reader's language: the system's, or what they have chosen here.

import { linesZh } from "./lines_zh.js";
import { en } from "./texts_en.js";
import { zh } from "./texts_zh.js";

const texts = { en, zh };
export const languages = { en: "English", zh: "中文" };

function chosen() {
  try {
    return localStorage.getItem("language");
  } catch {
    return null; // storage is switched off
  }
}

export const language = chosen() in texts ? chosen() : navigator.languages.map((name) => name.split("-")[0]).find((name) => name in texts) ?? "en";
const { words, names } = texts[language];
export const lines = language === "zh" ? linesZh : []; // what the cloud writes down is English

export function chooseLanguage(name) {
  try {
    localStorage.setItem("language", name);
  } catch {
    return; // without a place to keep it, the system's language stays
  }
  location.reload();
}

// t("signalsOf", {count: 3}) -> "3 signals"; where one is said otherwise, "signalsOfOne" says it.
export function t(key, values = {}) {
  const one = String(values.count) === "1" ? words[`${key}One`] : undefined;
  return (one ?? words[key]).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// named("condition", "active"); a value this page does not know yet is shown as it came.
export function named(kind, value) {
  return names[kind][value] ?? value;
}
