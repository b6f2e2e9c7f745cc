// The keyboard: one key, one action. A view's keys come first, then the page's own; while somebody types, keys are letters.

const page = new Map();
let view = new Map();

export function pageKeys(keys) {
  for (const [key, action] of Object.entries(keys)) page.set(key, action);
}

export function viewKeys(keys) {
  view = new Map(Object.entries(keys ?? {}));
}

function typing(target) {
  return target.matches?.("textarea, select, input:not([type=checkbox]):not([type=radio]), [contenteditable]");
}

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    page.get("palette")?.();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && typing(event.target) && !event.target.closest("dialog")) return event.target.blur();
  if (typing(event.target) || document.querySelector("dialog[open]")) return;
  const action = view.get(event.key) ?? page.get(event.key);
  if (!action) return;
  event.preventDefault();
  action(event);
});

// j and k over rows: the row that is "here" is marked, kept in view, and has the focus on its link.
export class Rows {
  constructor(body) {
    this.body = body;
    this.key = null;
  }

  get here() {
    return [...this.body.children].find((row) => row.dataset.key === this.key) ?? null;
  }

  move(by) {
    const rows = [...this.body.children].filter((row) => row.dataset.key !== undefined && !row.hidden);
    if (!rows.length) return;
    const at = rows.indexOf(this.here);
    const row = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by))];
    this.key = row.dataset.key;
    this.mark();
    row.querySelector("a")?.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }

  mark() {
    for (const row of this.body.children) row.classList.toggle("here", row.dataset.key === this.key);
  }

  keys(open) {
    return { j: () => this.move(1), k: () => this.move(-1), Enter: (event) => (event.target.matches?.("button, a") ? event.target.click() : this.here && open(this.here)) };
  }
}
