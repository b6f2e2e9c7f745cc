// The document. Elements without markup in strings: names and words come from DBC files and catalogues, and stay text.

// el("button", {class: "button", onclick: f, disabled: true}, "Words"). A child that is null or false is left out.
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean" && !name.startsWith("aria-")) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// A style that is data (a width, a place): the content security policy allows it through the object model alone.
export function styled(element, styles) {
  for (const [name, value] of Object.entries(styles)) element.style.setProperty(name, value);
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
export function keep(list, items, keyOf, make, update = () => {}) {
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

// Puts new content into `element` only when what it shows (`data`, as JSON) has changed: focus and selection stay where they are.
export function show(element, data, build) {
  const shown = JSON.stringify(data);
  if (element.shown === shown) return;
  element.shown = shown;
  element.replaceChildren(...[build(data)].flat(Infinity).filter(Boolean));
}
