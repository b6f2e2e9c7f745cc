// A share by day as bars: small, with its axis and unit, and readable without eyes.

import { styled } from "./dom.js";
import { calendarDay, percent } from "./format.js";
import { t } from "./texts.js";

const HEIGHT = 92, LEFT = 38, BOTTOM = 16, TOP = 8;
const NS = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// `shareOf(day)` 0..1 or null; bars below `floor` are marked. The axis begins where the difference can be seen, and says so.
export function dayBars(days, shareOf, { label, floor, width = 308 }) {
  const shares = days.map(shareOf);
  const known = shares.filter((share) => share !== null && share !== undefined);
  const low = known.length && Math.min(...known, floor) >= 0.8 ? 0.8 : 0;
  const y = (share) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (Math.max(low, share) - low) / (1 - low));
  const slot = (width - LEFT) / Math.max(1, days.length);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, class: "bars", role: "img", "aria-label": `${label}: ${days.map((one, i) => `${calendarDay(one.day)} ${percent(shares[i], 1)}`).join(", ")}` });
  for (const share of [low, floor, 1]) {
    picture.append(svg("line", { x1: LEFT, x2: width, y1: y(share), y2: y(share), class: share === floor ? "floor" : "grid" }));
    if (share !== floor || (y(floor) - y(1) > 11 && y(low) - y(floor) > 11)) picture.append(svg("text", { x: LEFT - 5, y: y(share) + 3.5, class: "tick right" }, `${Math.round(share * 100)} %`));
  }
  days.forEach((one, i) => {
    const share = shares[i], x = LEFT + i * slot;
    const title = svg("title", {}, t("says", { what: calendarDay(one.day), words: share === null || share === undefined ? t("noData") : percent(share, 1) }));
    if (share !== null && share !== undefined) {
      const top = y(share);
      picture.append(svg("rect", { x: x + slot * 0.15, width: slot * 0.7, y: top, height: Math.max(1, HEIGHT - BOTTOM - top), rx: 1.5, class: share < floor ? "bad" : "good" }, title));
    }
    if (i === 0 || i === days.length - 1) picture.append(svg("text", { x: i === 0 ? x : width, y: HEIGHT - 3, class: `tick ${i === 0 ? "" : "right"}` }, calendarDay(one.day)));
  });
  return styled(picture, { "max-width": `${width}px` });
}
