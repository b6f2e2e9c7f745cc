// The page: the fleet on the left, one vehicle or ticket beside it. The address after # says which, so the back button and links work.

import { el, get, HttpError, keep, say } from "./dom.js";
import { enter } from "./session.js";
import { ago, language, named, shortly, t } from "./texts.js";
import { TicketView } from "./ticket.js";
import { VehicleView } from "./vehicle.js";

const EVERY_MS = 1000; // data comes once a second

const $ = (id) => document.getElementById(id);
let view = null;
let shownAddress = null;
let fleet = { vehicles: [], tickets: [] };
let wake = null;

// "#vehicle=ID&s=SIGNAL&s=SIGNAL&r=SECONDS" or "#ticket=ID"
function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  if (parts.has("vehicle")) return { kind: "vehicle", id: parts.get("vehicle"), signals: parts.getAll("s"), range_s: Number(parts.get("r")) };
  if (parts.has("ticket")) return { kind: "ticket", id: parts.get("ticket") };
  return { kind: "none", id: "" };
}

// The reader's choices go into the address without a step in the history.
function remember({ id, signals, range_s }) {
  const parts = new URLSearchParams([["vehicle", id], ...signals.map((signal) => ["s", signal]), ["r", String(range_s)]]);
  history.replaceState(null, "", `#${parts}`);
}

function route() {
  const address = readAddress();
  view?.close();
  view = address.kind === "vehicle" ? new VehicleView(address, remember) : address.kind === "ticket" ? new TicketView(address) : null;
  shownAddress = address;
  document.body.classList.toggle("detail", view !== null);
  $("main").replaceChildren(view ? view.element : el("p", { class: "note empty" }, t("choose")));
  for (const link of document.querySelectorAll("#fleet a")) mark(link);
  scrollTo(0, 0);
  wake?.();
}

function mark(link) {
  const { kind, id } = shownAddress;
  const current = kind !== "none" && link.getAttribute("href") === `#${kind}=${id}`;
  if (current) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

function showFleet() {
  const { vehicles, tickets } = fleet;
  say($("vehicles-count"), vehicles.length ? String(vehicles.length) : "");
  say($("tickets-count"), tickets.length ? String(tickets.length) : "");
  list($("vehicles"), vehicles, (one) => one.vehicle, "noVehicles",
    (one) => item(`#vehicle=${one.vehicle}`, "id", one.vehicle),
    (child, one) => {
      const [, second, badge] = child.firstElementChild.children;
      // A recorded log's ticks lie in the past however live they come; so where the cloud knows when it last heard, that counts.
      const seen = one.online_ms ? ago(Date.now() - one.online_ms) : shortly(one.last_tick_ms);
      say(second, `${one.model} · ${t("signalsOf", { count: one.signals })} · ${seen}`);
      say(badge, one.open_tickets ? t(one.open_tickets === 1 ? "ticketOne" : "ticketsOf", { count: one.open_tickets }) : "");
    });
  list($("tickets"), tickets, (one) => one.id, "noTickets",
    (one) => item(`#ticket=${one.id}`, "words", one.fault_words),
    (child, one) => {
      const [, second, badge] = child.firstElementChild.children;
      say(second, `${one.vehicle.slice(0, 8)} · ${shortly(one.opened_ms)} · ${named("handling", one.handling)}`);
      badge.className = `pill ${one.condition}`;
      say(badge, named("condition", one.condition));
    });
}

function item(href, look, first) {
  const link = el("a", { href }, el("span", { class: look }, first), el("span", { class: "second" }), el("span", { class: "badge" }));
  mark(link);
  return el("li", {}, link);
}

function list(element, items, keyOf, empty, make, update) {
  if (!items.length) {
    if (!element.querySelector(".note")) element.replaceChildren(el("li", { class: "note" }, t(empty)));
    return;
  }
  keep(element, items, keyOf, make, update);
}

async function round() {
  const [{ vehicles }, { tickets }] = await Promise.all([get("/api/vehicles"), get("/api/tickets", { lang: language })]);
  fleet = { vehicles, tickets: tickets.filter((one) => one.handling !== "closed") };
  showFleet();
  // With one vehicle there is nothing to choose; a phone keeps its list, since there the vehicle would hide it.
  if (shownAddress.kind === "none" && vehicles.length && matchMedia("(min-width: 900px)").matches && !location.hash) {
    history.replaceState(null, "", `#vehicle=${vehicles[0].vehicle}`);
    route();
  }
  const asked = view;
  try {
    await view?.refresh(fleet);
  } catch (error) {
    if (!(error instanceof HttpError) || error.status !== 404 || view !== asked) throw error;
    view.close();
    view = null;
    $("main").replaceChildren(el("a", { class: "back", href: "#" }, `‹ ${t("back")}`), el("p", { class: "note empty" }, t("missing")));
  }
}

async function live() {
  for (;;) {
    const woken = new Promise((resolve) => (wake = resolve));
    if (!document.hidden) {
      try {
        await round();
        state("live", t("live"));
      } catch (error) {
        if (error.status === 401) location.reload(); // the session has ended: log in again
        state("lost", error.message);
        if (!(error instanceof HttpError)) console.error(error); // a bug of this page, not of the world
      }
    }
    await Promise.race([woken, new Promise((resolve) => setTimeout(resolve, EVERY_MS))]);
  }
}

function state(look, words) {
  $("state").className = look;
  say($("state"), words);
}

document.documentElement.lang = language;
for (const element of document.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address after # is the view's
  $("main").focus();
});
addEventListener("hashchange", () => { if (shownAddress) route(); });
document.addEventListener("visibilitychange", () => wake?.());
document.addEventListener("keydown", (event) => {
  const search = $("search");
  if (event.key === "/" && search && !event.target.matches("input[type=search]")) {
    event.preventDefault();
    search.focus();
    search.select();
  }
});
enter($("main")).then(() => { route(); live(); }, (error) => state("lost", error.message));
