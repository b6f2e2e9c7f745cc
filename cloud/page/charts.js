// Charts: one panel for each unit, one time axis below, the reader's local time.

import { el } from "./dom.js";
import { named, number, t, zone } from "./texts.js";

export const COLOURS = 8; // how many --series-N the style sheet has

let loading;

// Plotly is 4.8 MB and comes after the page has been painted; whoever draws waits for it here.
function plotly() {
  loading ??= new Promise((resolve, reject) => {
    if (window.Plotly) return resolve(window.Plotly);
    const script = document.getElementById("plotly");
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => reject(new Error(t("chartFailed"))));
  });
  return loading;
}

// Plotly draws dates as they are written, so local time is written: daylight saving included, since each instant has its own offset.
function local(ms) {
  return new Date(ms - new Date(ms).getTimezoneOffset() * 60000).toISOString().slice(0, -1);
}

// A hole in the data must not become a straight line: where ticks are missing, one empty point breaks it.
function broken(tickMs, values) {
  const steps = tickMs.slice(1).map((ms, i) => ms - tickMs[i]).sort((a, b) => a - b);
  const widest = Math.max(5000, 4 * (steps[steps.length >> 1] ?? 0));
  const x = [], y = [];
  tickMs.forEach((ms, i) => {
    if (i > 0 && ms - tickMs[i - 1] > widest) {
      x.push(local(tickMs[i - 1] + 1));
      y.push(null);
    }
    x.push(local(ms));
    y.push(values[i]);
  });
  return { x, y };
}

export class Chart {
  // `label`: what a screen reader says the picture is.
  constructor(label) {
    this.plot = el("div", { class: "plot" });
    this.note = el("p", { class: "note" }, t("chartLoading"));
    this.element = el("div", { class: "chart", role: "img", "aria-label": label }, this.plot, this.note);
    this.last = null;
    this.busy = false;
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.recolour = () => this.last && this.draw(this.last);
    this.dark.addEventListener("change", this.recolour);
    this.resized = new ResizeObserver(() => this.drawn && window.Plotly.Plots.resize(this.plot));
    this.resized.observe(this.plot);
  }

  close() {
    this.closed = true;
    this.dark.removeEventListener("change", this.recolour);
    this.resized.disconnect();
    if (this.drawn) window.Plotly.purge(this.plot);
  }

  // view: {tickMs, lines: [{name, unit, values, colour, limit?}], marks: [{ms, words}], range: [from, to] | null, key}
  // A new `key` forgets the reader's zoom.
  async draw(view) {
    this.last = view;
    if (this.busy) return;
    this.busy = true;
    try {
      const Plotly = await plotly();
      if (this.closed) return;
      this.note.hidden = true;
      do {
        view = this.last;
        await Plotly.react(this.plot, ...figure(view, getComputedStyle(this.element), this.plot.clientWidth));
        this.drawn = true;
      } while (view !== this.last && !this.closed);
    } catch (error) {
      this.note.hidden = false;
      this.note.textContent = error.message;
    } finally {
      this.busy = false;
    }
  }
}

// `width` in px: how many times fit below the chart.
function figure(view, style, width) {
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const units = [...new Set(view.lines.map((line) => line.unit))];
  const gap = units.length > 1 ? 0.05 : 0;
  const height = (1 - gap * (units.length - 1)) / Math.max(1, units.length);
  const axis = { gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, tickfont: { color: colour("muted"), size: 11 } };
  const layout = {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: style.fontFamily, color: colour("ink"), size: 12 },
    margin: { l: 56, r: 14, t: 10, b: 44 },
    showlegend: false,
    hovermode: "x unified",
    hoversubplots: "axis",
    hoverlabel: { bgcolor: colour("surface"), bordercolor: colour("line"), font: { color: colour("ink"), size: 12 } },
    dragmode: "zoom",
    uirevision: view.key,
    shapes: [],
    annotations: [],
    xaxis: {
      ...axis,
      type: "date",
      anchor: `y${units.length > 1 ? units.length : ""}`,
      title: { text: t("localTime", { zone: zone(view.tickMs.at(-1) ?? Date.now()) }), font: { color: colour("muted"), size: 11 }, standoff: 8 },
      hoverformat: "%H:%M:%S",
      tickformatstops: [
        { dtickrange: [null, 60000], value: "%H:%M:%S" },
        { dtickrange: [60000, 86400000], value: "%H:%M" },
        { dtickrange: [86400000, null], value: "%d %b" },
      ],
      tickangle: 0,
      nticks: Math.max(3, Math.floor(width / 90)),
      ...(view.range ? { range: view.range.map(local) } : {}),
    },
  };
  units.forEach((unit, i) => {
    const top = 1 - i * (height + gap);
    layout[`yaxis${i ? i + 1 : ""}`] = {
      ...axis,
      domain: [Math.max(0, top - height), top],
      title: { text: named("units", unit) || t("noUnit"), font: { color: colour("muted"), size: 12 }, standoff: 6 },
      nticks: units.length > 2 ? 4 : 6,
      rangemode: "normal",
    };
  });
  const reference = (i) => (i ? i + 1 : "");
  const traces = view.lines.map((line) => ({
    type: "scatter",
    mode: "lines",
    name: line.name,
    ...broken(view.tickMs, line.values),
    yaxis: `y${reference(units.indexOf(line.unit))}`,
    line: { color: colour(`series-${line.colour}`), width: 1.8 },
    hovertemplate: `%{y:.6~g} ${named("units", line.unit).replaceAll("%", "&#37;")} %{fullData.name}<extra></extra>`,
  }));
  for (const line of view.lines) {
    if (line.limit === undefined) continue;
    const y = `y${reference(units.indexOf(line.unit))}`;
    layout.shapes.push({
      type: "line", xref: "paper", x0: 0, x1: 1, yref: y, y0: line.limit, y1: line.limit,
      line: { color: colour("ink"), width: 1.2, dash: "dash" },
    });
    layout.annotations.push({
      xref: "paper", x: 0, xanchor: "left", yref: y, y: line.limit, yanchor: "bottom", showarrow: false,
      text: `${t("threshold")} ${number(line.limit)}`, font: { color: colour("muted"), size: 11 },
    });
  }
  for (const mark of view.marks ?? []) {
    const x = local(mark.ms);
    layout.shapes.push({ type: "line", xref: "x", x0: x, x1: x, yref: "paper", y0: 0, y1: 1, line: { color: colour("muted"), width: 1, dash: "dot" } });
    layout.annotations.push({
      xref: "x", x, xanchor: "left", yref: "paper", y: 1, yanchor: "top", showarrow: false, text: ` ${mark.words}`,
      font: { color: colour("muted"), size: 11 },
    });
  }
  return [traces, layout, { displayModeBar: false, responsive: false, showTips: false, doubleClick: "reset" }];
}
