// The document and the API. Elements without markup in strings: names and words come from DBC files and catalogues, and stay text.

import { t } from "./texts.js";

export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// "Message.Signal" that may break after the dot and not inside a word.
export function breakable(name) {
  const dot = name.lastIndexOf(".") + 1;
  return [name.slice(0, dot), document.createElement("wbr"), name.slice(dot)];
}

// Sets text only where it differs: a rewritten text node loses the reader's selection and costs a layout.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Keeps `list`'s children in step with `items`: one element for each key, made once by `make`, told of news by `update`.
export function keep(list, items, keyOf, make, update) {
  const there = new Map([...list.children].map((child) => [child.dataset.key, child]));
  let place = list.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = there.get(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    there.delete(key);
    if (child === place) place = place.nextElementSibling;
    else list.insertBefore(child, place);
    update(child, item);
  }
  for (const gone of there.values()) gone.remove();
}

export class HttpError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function get(path, query = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) for (const one of [value].flat()) url.searchParams.append(name, one);
  const response = await fetch(url, { headers: { Accept: "application/json" } }).catch(() => {
    throw new HttpError(0, t("lost")); // fetch's own error is a TypeError, as a bug's would be
  });
  const body = await response.json();
  if (!response.ok) throw new HttpError(response.status, body.error);
  return body;
}
