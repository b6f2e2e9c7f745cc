// Charts over time: one panel for each unit above one common time axis, a band from the least to the greatest value where points are thinned.

import { el, show, styled } from "./dom.js";
import { axisTime, number, when, zone } from "./format.js";
import { named, t } from "./texts.js";

export const COLOURS = 8; // how many --series-N the tokens have
export const LEFT = 62; // px from the panel's edge to the plot: lanes below the chart line up with it
export const RIGHT = 12;
const AXIS_HEIGHT = 42; // ticks' words and the label
const LABEL = 18;
const LEAST_PANEL = 96;

let loading;
let groups = 0;

// The library comes after the page has been painted; whoever draws waits for it here.
function library() {
  loading ??= new Promise((resolve, reject) => {
    if (window.uPlot) return resolve(window.uPlot);
    const script = document.getElementById("uplot");
    script.addEventListener("load", () => resolve(window.uPlot));
    script.addEventListener("error", () => reject(new Error(t("chartFailed"))));
  });
  return loading;
}

export class Chart {
  // `label`: what a screen reader says the picture is. onselect(from_ms, to_ms): the reader has dragged over a span; onreset(): double click.
  constructor(label, { height = 380, onselect = null, onreset = null } = {}) {
    this.height = height;
    this.calls = { onselect, onreset };
    this.note = el("p", { class: "note" }, t("chartLoading"));
    this.panels = el("div", { class: "panels", role: "img", "aria-label": label });
    this.readout = el("div", { class: "readout", hidden: true, "aria-hidden": "true" });
    this.element = el("div", { class: "chart" }, this.panels, this.readout, this.note);
    styled(this.element, { "min-height": `${height}px` });
    this.plots = [];
    this.shape = "";
    this.view = null;
    this.group = `chart-${groups++}`;
    this.recolour = () => this.plots.forEach((plot) => plot.redraw(false));
    addEventListener("themechange", this.recolour);
    // while the reader drags over it, the picture stands still
    this.panels.addEventListener("pointerdown", () => { this.held = true; });
    this.release = () => {
      if (!this.held) return;
      this.held = false;
      if (this.waiting) setTimeout(() => this.view && this.draw(this.view), 0); // after the drag's own handler
    };
    addEventListener("pointerup", this.release);
    this.resized = new ResizeObserver(() => this.fit());
    this.resized.observe(this.panels);
  }

  close() {
    this.closed = true;
    removeEventListener("themechange", this.recolour);
    removeEventListener("pointerup", this.release);
    this.resized.disconnect();
    this.clear();
  }

  clear() {
    for (const plot of this.plots) plot.destroy();
    this.plots = [];
    this.panels.replaceChildren();
  }

  say(words) {
    this.note.textContent = words;
    this.note.hidden = !words;
  }

  // view: {ms: [..], lines: [{name, unit, low: [..], high: [..], colour, bare?, limit?: {value, words}}], marks: [{ms, words}], spans: [{from, to}], range: [from, to]}.
  // `bare`: its unit is only the axis' name. `low` and `high` are one array where nothing is thinned. A null is no valid value.
  async draw(view) {
    this.view = view;
    this.waiting = this.held;
    if (this.held) return;
    const uPlot = await library().catch((error) => this.say(error.message));
    if (this.closed || this.view !== view || !uPlot) return;
    this.say("");
    const units = [...new Set(view.lines.map((line) => line.unit))];
    const panels = units.map((unit) => view.lines.filter((line) => line.unit === unit));
    const shape = JSON.stringify(panels.map((lines) => lines.map((line) => [line.unit, line.colour, line.low !== line.high])));
    if (shape !== this.shape) {
      this.clear();
      this.shape = shape;
      this.plots = panels.map((lines, i) => new uPlot(this.options(lines, i === panels.length - 1), this.data(lines), this.panels));
      this.fit();
    } else {
      panels.forEach((lines, i) => this.plots[i].setData(this.data(lines), false));
    }
    const [min, max] = view.range;
    for (const plot of this.plots) plot.setScale("x", { min, max }); // draws everything anew, whatever has changed
    this.element.dataset.drawn = String(view.lines.length); // said for whoever waits for it
    this.element.dataset.points = String(view.ms.length);
  }

  data(lines) {
    return [this.view.ms, ...lines.flatMap((line) => (line.low === line.high ? [line.high] : [line.high, line.low]))];
  }

  fit() {
    const width = Math.floor(this.panels.clientWidth);
    if (!width || !this.plots.length) return;
    const each = Math.max(LEAST_PANEL, Math.floor((this.height - AXIS_HEIGHT) / this.plots.length));
    this.plots.forEach((plot, i) => {
      const height = each + (i === this.plots.length - 1 ? AXIS_HEIGHT : 0);
      if (plot.width !== width || plot.height !== height) plot.setSize({ width, height });
    });
  }

  options(lines, last) {
    const css = (name) => getComputedStyle(this.element).getPropertyValue(`--${name}`).trim();
    const font = `11px ${css("sans")}`;
    const series = [{}];
    const bands = [];
    for (const line of lines) {
      const stroke = () => css(`series-${line.colour}`);
      const look = { stroke, width: line.low === line.high ? 1.6 : 1, points: { show: false }, spanGaps: false };
      if (line.low === line.high) {
        series.push(look);
      } else {
        bands.push({ series: [series.length, series.length + 1], fill: () => `color-mix(in srgb, ${css(`series-${line.colour}`)} 26%, transparent)` });
        series.push(look, look);
      }
    }
    const tick = { stroke: () => css("line-2"), width: 1, size: 4 };
    const grid = { stroke: () => css("grid"), width: 1 };
    const unit = named("units", lines[0].unit) || t("noUnit");
    return {
      width: Math.max(200, this.panels.clientWidth),
      height: LEAST_PANEL + (last ? AXIS_HEIGHT : 0),
      ms: 1,
      padding: [8, RIGHT, last ? 0 : 2, 0],
      legend: { show: false },
      cursor: {
        sync: { key: this.group, setSeries: false },
        drag: { x: true, y: false, setScale: false, dist: 4 },
        y: false,
        points: { size: 7, width: 0 },
        bind: { dblclick: () => () => this.calls.onreset?.() },
      },
      scales: { x: { time: true, auto: false }, y: { range: (_plot, low, high) => padded(low, high, lines) } },
      axes: [
        {
          show: true, stroke: () => css("ink-3"), font, grid, ticks: last ? tick : { ...tick, show: false }, size: last ? AXIS_HEIGHT - LABEL : 2, gap: 4, space: 86,
          values: (_plot, splits, _axis, _space, step) => splits.map((ms) => (last ? axisTime(ms, step) : "")),
          label: last ? t("localTime", { zone: zone(this.view.range[1]) }) : undefined, labelFont: font, labelSize: last ? LABEL : 0, labelGap: 0,
        },
        {
          stroke: () => css("ink-3"), font, grid, ticks: tick, size: LEFT - 16, gap: 5, space: 26, label: unit, labelFont: font, labelSize: 16, labelGap: 0,
          values: (_plot, splits) => splits.map((value) => (value === null ? "" : number(value))),
        },
      ],
      series,
      bands,
      hooks: {
        drawAxes: [(plot) => this.behind(plot, css)],
        draw: [(plot) => this.above(plot, lines, css, font)],
        setCursor: [(plot) => this.read(plot)],
        setSelect: [(plot) => this.selected(plot)],
      },
    };
  }

  // What the lines say where the pointer is, beside it and over the picture: nothing else on the page moves.
  read(plot) {
    const { idx, left } = plot.cursor;
    const there = left >= 0 && idx !== null && idx !== undefined && idx < this.view.ms.length;
    this.readout.hidden = !there;
    if (!there) return;
    show(this.readout, [idx, this.view.ms[idx], this.view.lines.map((line) => [line.low[idx], line.high[idx]])], () => [el("strong", {}, when(this.view.ms[idx])),
      this.view.lines.map((line) => el("div", { class: `series-${line.colour}` }, el("span", {}, line.name), el("b", {}, between(line.low[idx], line.high[idx], line.bare ? "" : line.unit))))]);
    const right = left > plot.over.clientWidth / 2;
    styled(this.readout, { left: right ? "auto" : `${LEFT + left + 14}px`, right: right ? `${this.panels.clientWidth - LEFT - left + 14}px` : "auto" });
  }

  selected(plot) {
    const { left, width } = plot.select;
    if (width < 4) return;
    const from = plot.posToVal(left, "x"), to = plot.posToVal(left + width, "x");
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.calls.onselect?.(Math.floor(from), Math.ceil(to));
  }

  // Spans (findings) lie behind the lines.
  behind(plot, css) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.fillStyle = css("unrated");
    ctx.globalAlpha = 0.07;
    for (const span of merged(this.view.spans ?? [])) {
      const from = Math.max(bbox.left, plot.valToPos(span.from, "x", true));
      const to = Math.min(bbox.left + bbox.width, plot.valToPos(span.to, "x", true));
      if (to > from) ctx.fillRect(from, bbox.top, Math.max(2, to - from), bbox.height);
    }
    ctx.restore();
  }

  // Limits and marks lie over them, with their words.
  above(plot, lines, css, font) {
    const { ctx, bbox } = plot;
    const px = devicePixelRatio;
    ctx.save();
    ctx.font = font.replace(/^\d+px/, `${Math.round(11 * px)}px`);
    ctx.lineWidth = px;
    for (const line of lines) {
      if (!line.limit) continue;
      const y = plot.valToPos(line.limit.value, "y", true);
      ctx.strokeStyle = css("red");
      ctx.setLineDash([6 * px, 4 * px]);
      stroke(ctx, bbox.left, y, bbox.left + bbox.width, y);
      ctx.fillStyle = css("red");
      ctx.textBaseline = "bottom";
      ctx.textAlign = "left";
      written(ctx, css, line.limit.words, bbox.left + 6 * px, y - 3 * px);
    }
    const taken = []; // words already there, [from, to] in px: what would lie over them goes a line below
    for (const mark of this.view.marks ?? []) {
      const x = plot.valToPos(mark.ms, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.strokeStyle = css("ink-2");
      ctx.setLineDash([2 * px, 3 * px]);
      stroke(ctx, x, bbox.top, x, bbox.top + bbox.height);
      if (plot !== this.plots[0] && this.plots.length) continue;
      const right = x < bbox.left + bbox.width * 0.7;
      ctx.fillStyle = css("ink-2");
      ctx.textBaseline = "top";
      ctx.textAlign = right ? "left" : "right";
      const width = ctx.measureText(mark.words).width, begin = right ? x + 5 * px : x - 5 * px - width;
      const below = taken.filter(([from, to]) => begin < to && begin + width > from).length;
      taken.push([begin, begin + width]);
      written(ctx, css, mark.words, x + (right ? 5 : -5) * px, bbox.top + (3 + 14 * below) * px);
    }
    ctx.restore();
  }
}

function between(low, high, unit) {
  if (high === null || low === null) return t("noValue");
  return `${low === high ? number(high) : `${number(low)} … ${number(high)}`} ${named("units", unit)}`;
}

function stroke(ctx, x0, y0, x1, y1) {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}

// Words with a rim in the ground's colour, so that a line under them does not run through them.
function written(ctx, css, words, x, y) {
  ctx.save();
  ctx.setLineDash([]);
  ctx.lineJoin = "round";
  ctx.lineWidth = 4 * devicePixelRatio;
  ctx.strokeStyle = css("surface");
  ctx.strokeText(words, x, y);
  ctx.restore();
  ctx.fillText(words, x, y);
}

// The value axis: all values and limits, with a little room; a constant is not drawn as if it trembled.
function padded(low, high, lines) {
  for (const { limit } of lines) if (limit) [low, high] = [Math.min(low ?? limit.value, limit.value), Math.max(high ?? limit.value, limit.value)];
  if (low === null || high === null || low === undefined || high === undefined) return [0, 1];
  const room = (high - low) * 0.06 || Math.abs(high) * 0.02 || 1;
  return [low - room, high + room];
}

// Overlapping spans are one: where two findings are on, the ground is no darker.
function merged(spans) {
  const found = [];
  for (const { from, to } of [...spans].sort((a, b) => a.from - b.from)) {
    const last = found.at(-1);
    if (last && from <= last.to) last.to = Math.max(last.to, to);
    else found.push({ from, to });
  }
  return found;
}

// A hole in the data must not become a straight line: where ticks are missing, one empty point breaks it. `step` ms is what is usual.
export function broken(ms, columns, step) {
  const widest = Math.max(5000, 2.5 * step);
  const at = [], values = columns.map(() => []);
  ms.forEach((now, i) => {
    if (i > 0 && now - ms[i - 1] > widest) {
      at.push(ms[i - 1] + 1);
      for (const column of values) column.push(null);
    }
    at.push(now);
    columns.forEach((column, k) => values[k].push(column[i]));
  });
  return { ms: at, columns: values };
}

// What a picture says in words: each line's least and greatest value.
export function described(view) {
  const spans = view.lines.map((line) => {
    let low = Infinity, high = -Infinity;
    for (const value of line.low) if (value !== null && value < low) low = value;
    for (const value of line.high) if (value !== null && value > high) high = value;
    return low === Infinity ? t("says", { what: line.name, words: t("noValue") }) : t("lineSays", { name: line.name, low: number(low), high: number(high), unit: named("units", line.unit) });
  });
  return t("chartSays", { from: when(view.range[0]), to: when(view.range[1]), lines: spans.join("; ") });
}
