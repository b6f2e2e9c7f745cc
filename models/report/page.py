"""One HTML file: sections of words, tiles, tables and Plotly charts, in light and dark.

plotly.min.js is written into the file, so that a report can be mailed and read ten years on. Where a chart needs a colour it has a name
of the style sheet (`--series-0`), which the page looks up, so the same file follows the reader's light or dark.
"""

import html
import importlib.util
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ModelsError
from models.explanation import Language

__all__ = ["Chart", "Section", "Table", "Tiles", "axis", "check", "logarithmic", "page", "write"]

STYLE = """
:root { color-scheme: light dark; --page: #f3f5f8; --surface: #ffffff; --ink: #17212b; --muted: #566372; --line: #d5dce4; --grid: #e7ebf0;
  --series-0: #0068b3; --series-1: #c24e00; --series-2: #00805c; --series-3: #a8407f; --fault: rgba(194, 78, 0, 0.16);
  --low: #e9f1f8; --high: #004f8a; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1419; --surface: #182028; --ink: #e4eaf0; --muted: #9aa8b6; --line: #313d49;
  --grid: #26303a; --series-0: #56b4f0; --series-1: #f29149; --series-2: #2fc19a; --series-3: #e48cc0; --fault: rgba(242, 145, 73, 0.22);
  --low: #1f2a34; --high: #7cc7f7; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 24px; line-height: 1.25; margin: 8px 0 4px; }
h2 { font-size: 17px; margin: 0 0 6px; }
p { margin: 0 0 10px; max-width: 80ch; color: var(--muted); }
section { background: var(--surface); border: 1px solid var(--line); border-radius: 8px; padding: 16px 18px; margin-top: 16px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); gap: 14px 22px; }
.tiles b { display: block; font-size: 21px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--muted); font-size: 13px; }
.chart { width: 100%; margin-top: 6px; }
.caption { font-weight: 600; color: var(--ink); margin: 14px 0 0; }
.scroll { overflow: auto; max-height: 660px; background-repeat: no-repeat; background-attachment: local, local, scroll, scroll;
  background-image: linear-gradient(var(--surface) 40%, transparent), linear-gradient(transparent, var(--surface) 60%),
    linear-gradient(var(--line), transparent), linear-gradient(transparent, var(--line));
  background-size: 100% 40px, 100% 40px, 100% 12px, 100% 12px; background-position: top, bottom, top, bottom; }
@media print { .scroll { max-height: none; background: none; } }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; font-variant-numeric: tabular-nums; margin-top: 8px; }
th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--muted); font-weight: 600; }
td:first-child { min-width: 11em; }
td.number, th.number { text-align: right; }
"""

SCRIPT = """
const charts = JSON.parse(document.getElementById("charts").textContent);
const look = () => getComputedStyle(document.documentElement);
const dressed = (value, style) => typeof value === "string" && value.startsWith("--") ? style.getPropertyValue(value).trim()
  : Array.isArray(value) ? value.map(one => dressed(one, style))
  : value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([key, one]) => [key, dressed(one, style)])) : value;
function draw() {
  const style = look(), ink = style.getPropertyValue("--ink").trim(), grid = style.getPropertyValue("--grid").trim();
  charts.forEach((chart, at) => {
    const layout = dressed(chart.layout, style);
    Object.assign(layout, { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)" });
    layout.font = { color: ink, size: 12.5, family: "system-ui, sans-serif" };
    for (const key of Object.keys(layout))
      if (/^[xy]axis/.test(key)) Object.assign(layout[key], { gridcolor: grid, linecolor: grid, zerolinecolor: grid });
    const tools = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
    Plotly.react("chart-" + at, dressed(chart.data, style), layout, tools);
  });
}
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
"""


@dataclass(frozen=True)
class Chart:
    """A Plotly figure. caption: what is drawn, said above it."""

    caption: str
    data: Sequence[dict[str, Any]]
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = 340


@dataclass(frozen=True)
class Table:
    """Rows of text; columns whose cells begin with a digit or a minus are set to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Tiles:
    """(figure, what it is)"""

    tiles: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str
    words: str
    parts: Sequence[Chart | Table | Tiles] = ()


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis whose title says quantity and unit."""
    return {"title": {"text": title}, "automargin": True, **more}


def logarithmic(title: str, values: NDArray[np.float64]) -> dict[str, Any]:
    """A logarithmic axis with a figure at each power of ten, and where the values span few of them at 2 and 5, too."""
    shown = values[np.isfinite(values) & (values > 0)]
    ticks: dict[str, Any] = {"dtick": 1, "exponentformat": "power"}
    if len(shown) and shown.max() / shown.min() <= 300:
        first, last = (math.floor(math.log10(value)) for value in (shown.min(), shown.max()))
        places = [digit * 10.0**power for power in range(first, last + 1) for digit in (1, 2, 5)]
        ticks = {"tickvals": places, "ticktext": [f"{place:g}" for place in places]}
    return axis(title, type="log", **ticks)


def page(title: str, lead: str, sections: Sequence[Section], language: Language = "en") -> str:
    """The file's text. language: that it is written in. Raises ModelsError where plotly is not installed."""
    charts: list[dict[str, Any]] = []
    body = "".join(_section(section, charts) for section in sections)
    data = json.dumps(charts, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        f'<!doctype html>\n<html lang="{language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main><h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>"
        f'{body}</main>\n<script type="application/json" id="charts">{data}</script>\n'
        f"<script>{_plotly()}</script>\n<script>{SCRIPT}</script></body></html>\n"
    )


def check(path: Path) -> None:
    """Raises ModelsError where a report cannot be written: before the hours that it is about."""
    if not os.access(path.parent, os.W_OK | os.X_OK):
        reason = "the folder is not writable" if path.parent.is_dir() else f"there is no folder {path.parent}"
        raise ModelsError(f"{path}: cannot be written: {reason}")


def write(path: Path, text: str) -> None:
    """Write the report, whole or not at all. Raises ModelsError."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ModelsError(f"{path}: cannot be written: {error.strerror}") from error


def _section(section: Section, charts: list[dict[str, Any]]) -> str:
    parts = [f"<section><h2>{html.escape(section.title)}</h2>"]
    if section.words:
        parts.append(f"<p>{html.escape(section.words)}</p>")
    for part in section.parts:
        if isinstance(part, Tiles):
            tiles = "".join(f"<div><b>{html.escape(figure)}</b><span>{html.escape(words)}</span></div>" for figure, words in part.tiles)
            parts.append(f'<div class="tiles">{tiles}</div>')
        elif isinstance(part, Table):
            parts.append(_table(part))
        else:
            parts.append(f'<p class="caption">{html.escape(part.caption)}</p>')
            parts.append(f'<div class="chart" id="chart-{len(charts)}" style="height:{part.height}px"></div>')
            layout = {"margin": {"l": 64, "r": 16, "t": 12, "b": 48}, "hovermode": "closest", "showlegend": len(part.data) > 1}
            layout |= {"legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}} | part.layout
            charts.append({"data": list(part.data), "layout": layout})
    return "".join(parts) + "</section>\n"


def _table(table: Table) -> str:
    numbers = [all(row[at][:1].isdigit() or row[at][:1] in ("-", "") for row in table.rows) for at in range(len(table.header))]
    classes = [' class="number"' if number and table.rows else "" for number in numbers]
    head = "".join(f"<th{kind}>{html.escape(cell)}</th>" for cell, kind in zip(table.header, classes, strict=True))
    rows = "".join(
        "<tr>" + "".join(f"<td{kind}>{html.escape(cell)}</td>" for cell, kind in zip(row, classes, strict=True)) + "</tr>"
        for row in table.rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _plotly() -> str:
    spec = importlib.util.find_spec("plotly")  # found without importing: the report needs its JavaScript alone
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder) / "package_data" / "plotly.min.js"
        if path.is_file():
            return path.read_text(encoding="utf-8").replace("</script", "<\\/script")
    raise ModelsError("a report needs plotly.min.js of the package plotly; pip install plotly, or leave --report out")
