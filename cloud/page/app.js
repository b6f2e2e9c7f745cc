// The page: which view the address asks for, and how it stays fresh.

import { get, HttpError } from "./api.js";
import { DetectorsView } from "./detectors.js";
import { Events } from "./events.js";
import { FleetView } from "./fleet.js";
import { showKeys } from "./help.js";
import { pageKeys, viewKeys } from "./keys.js";
import { LoginView } from "./login.js";
import { openPalette } from "./palette.js";
import { empty } from "./parts.js";
import { QueueView } from "./queue.js";
import { enter, leave, may, me, recognise } from "./session.js";
import { Shell } from "./shell.js";
import { SilencesView } from "./silences.js";
import { SystemView } from "./system.js";
import { language, t } from "./texts.js";
import { TicketView } from "./ticket.js";
import { VehicleView } from "./vehicle.js";

const COUNTS_EVERY_MS = 15_000;

const VIEWS = [
  // the pattern, what it makes, who may see it, which entry of the navigation it belongs to
  [/^\/fleet$/, (_, query) => new FleetView(query), "fleet", "fleet"],
  [/^\/tickets$/, (_, query) => new QueueView(query), null, "tickets"],
  [/^\/tickets\/(\d+)$/, ([id]) => new TicketView(id), null, "tickets"],
  [/^\/vehicles\/([^/]+)$/, ([id], query) => new VehicleView(decodeURIComponent(id), query), null, "fleet"],
  [/^\/detectors$/, () => new DetectorsView(), "fleet", "detectors"],
  [/^\/silences$/, () => new SilencesView(), "fleet", "silences"],
  [/^\/system$/, () => new SystemView(), "fleet", "system"],
];

class App {
  constructor() {
    this.view = null;
    this.shell = null;
    this.wake = () => {};
    this.events = new Events(() => this.refreshSoon(), (on) => { this.heard = on; });
  }

  async start() {
    document.documentElement.lang = language;
    addEventListener("hashchange", () => this.tokenInAddress().then((there) => (there ? this.enterPage() : this.route())));
    document.addEventListener("visibilitychange", () => this.wake());
    pageKeys({
      "?": showKeys,
      "/": () => (document.querySelector("main input[type=search]") ?? { focus: openPalette }).focus(),
      palette: () => me.role && openPalette(),
      g: () => this.waitForSecond(),
    });
    if (!(await this.tokenInAddress())) {
      await recognise().catch((error) => {
        if (error.status !== 401) this.refused = error.message;
      });
    }
    if (me.role) this.enterPage();
    else this.signIn();
  }

  // "#token=..." as a command prints it. A secret does not stay in the address or the history. Whether it let the reader in.
  async tokenInAddress() {
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    if (!token) return false;
    history.replaceState(null, "", location.pathname);
    try {
      await enter(token);
      return true;
    } catch (error) {
      this.refused = error.status === 401 ? t("tokenRefused") : error.message;
      return false;
    }
  }

  // "g" and then the first letter of a page, as in mail and code consoles.
  waitForSecond() {
    const to = { f: "#/fleet", t: "#/tickets", d: "#/detectors", s: "#/system", n: "#/silences" };
    const listen = (event) => {
      removeEventListener("keydown", listen, true);
      clearTimeout(timer);
      if (!to[event.key] || event.ctrlKey || event.metaKey) return;
      event.stopPropagation();
      event.preventDefault();
      location.hash = to[event.key];
    };
    const timer = setTimeout(() => removeEventListener("keydown", listen, true), 1500);
    addEventListener("keydown", listen, true);
  }

  signIn() {
    this.close();
    this.events.close();
    const view = new LoginView(this.refused, () => this.enterPage());
    this.refused = "";
    this.shell = null;
    viewKeys({});
    document.getElementById("app").replaceChildren(view.element);
    view.focus();
  }

  enterPage() {
    this.shell = new Shell({ onleave: () => leave().finally(() => this.signIn()), onhelp: showKeys, onpalette: openPalette });
    document.getElementById("app").replaceChildren(...this.shell.elements);
    if (may("fleet")) this.events.open(); // an owner is told of nothing as it happens: their page asks
    this.route();
    if (!this.running) this.live();
  }

  close() {
    this.view?.close?.();
    this.view = null;
  }

  route() {
    if (!this.shell) return;
    const [path, query = ""] = location.hash.slice(1).split("?");
    const home = may("fleet") ? "/fleet" : me.vehicle ? `/vehicles/${me.vehicle}` : "/tickets";
    if (path === "/" || !path.startsWith("/")) return location.replace(`#${home}`);
    for (const [pattern, make, who, place] of VIEWS) {
      const found = path.match(pattern);
      if (!found || (who && !may(who))) continue;
      this.close();
      this.view = make(found.slice(1), new URLSearchParams(query));
      this.shell.show(this.view.element, place);
      viewKeys(this.view.keys?.());
      document.title = `${this.view.title} · Cansight`;
      scrollTo(0, 0);
      this.wake();
      return;
    }
    this.close();
    this.shell.show(empty(t("missingTitle"), t("missing")), "");
  }

  refreshSoon() {
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.wake(), 150); // events come in bursts
  }

  async live() {
    this.running = true;
    for (;;) {
      const woken = new Promise((resolve) => (this.wake = resolve));
      let pause = this.view?.every_ms ?? 5000;
      if (!document.hidden && me.role) {
        const view = this.view;
        try {
          await Promise.all([view?.refresh(), this.counts()]);
          this.shell?.state("live", t("live"));
        } catch (error) {
          if (view === this.view) pause = Math.max(this.failed(error), pause);
        }
      }
      await Promise.race([woken, new Promise((resolve) => setTimeout(resolve, pause))]);
    }
  }

  // Says what is wrong; returns how long to wait, ms.
  failed(error) {
    if (!(error instanceof HttpError)) {
      console.error(error); // a bug of this page, not of the world
      this.shell?.state("lost", error.message);
      return 0;
    }
    if (error.status === 401) {
      me.role = "";
      this.refused = t("signedOut");
      this.signIn();
    } else if ((error.status === 404 || error.status === 403) && this.view && !this.view.shown) {
      this.close();
      this.shell.show(empty(t("missingTitle"), language === "en" || error.message !== error.line ? error.message : t("missing")), ""); // the API's lines are English
    } else {
      this.shell?.state("lost", error.status === 429 ? t("tooOften") : error.message);
    }
    return error.after_s * 1000;
  }

  async counts() {
    const now = Date.now();
    if (now < (this.countedUntil ?? 0)) return;
    this.countedUntil = now + COUNTS_EVERY_MS;
    const { counts } = await get("/api/tickets", { hidden: 0, limit: 1 }); // what a silence hides is not waited for
    this.shell?.count("tickets", Object.entries(counts).reduce((sum, [handling, n]) => (handling === "closed" ? sum : sum + n), 0));
  }
}

const app = new App();
app.start();

