"""A drive as a picture: speed, power, temperatures, charge, and each fault from its onset to its failure. The only file with matplotlib."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")  # no display

import matplotlib.pyplot as plt
import numpy as np

from simulator.drive_truth import Truth
from simulator.errors import SimulatorError
from simulator.fault_kinds import DEVELOPED, FAILED
from simulator.film import Reel, Track

__all__ = ["check_plot_path", "draw"]

SUFFIXES = (".png", ".svg", ".pdf")
COLOURS = ("#1f5fa8", "#d1661f", "#3a8f4d", "#8a4fa3", "#7a7a7a")
SIGNAL, SENT, OTHER, SEVERITY = "#1f5fa8", "#c8102e", "#8a8a8a", "#c8102e"
UNITS = {"degC": "°C", "ohm": "Ω"}
WINDOW = {"sensor": "#f3d9a4", "network": "#cfe0f3", "attack": "#f5c6c6"}
LABELS = {"speed": "speed (km/h)", "power": "power (kW)", "temperature": "temperature (°C)", "charge": "state of charge (%)"}
TITLE_LETTERS = 110
LEAST_KM_H = 10.0  # on the axis of a car that stands
WIDTH_IN, PANEL_IN, HEAD_IN, DPI = 11.0, 1.9, 1.0, 110
SPANS = ((2 * 86_400, 86_400, "d"), (2 * 3600, 3600, "h"), (600, 60, "min"), (0, 1, "s"))


def check_plot_path(path: Path) -> None:
    """Raises SimulatorError for a name that is no picture's, before the drive is made."""
    if path.suffix.lower() not in SUFFIXES:
        raise SimulatorError(f"{path}: is no picture's name; expected one that ends in {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise SimulatorError(f"{path}: cannot be written: there is no folder {path.parent}")


def draw(film: Reel, path: Path) -> None:
    """Raises SimulatorError where the file cannot be written."""
    truth = film.truth
    panels = [*film.panels, *(("severity",) if film.severities else ()), *(str(number) for number in range(len(film.signals)))]
    figure, axes = plt.subplots(
        len(panels), 1, sharex=True, figsize=(WIDTH_IN, HEAD_IN + PANEL_IN * len(panels)), dpi=DPI, constrained_layout=True, squeeze=False
    )
    longest = film.time_s[-1] if film.time_s else 1.0
    size, unit = next((size, unit) for least, size, unit in SPANS if longest >= least)
    time = np.array(film.time_s) / size
    for axis, name in zip(axes[:, 0], panels, strict=True):
        if name in film.panels:
            _lines(axis, time, film.panels[name], LABELS[name])
        elif name == "severity":
            _severities(axis, time, film.severities)
        else:
            _signal(axis, time, film.signals[int(name)][1])
        _marks(axis, truth, size, name == "severity", name == panels[0])
        axis.grid(visible=True, color="#e3e3e3", linewidth=0.6)
        axis.margins(x=0.01)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[-1, 0].set_xlabel(f"time since the start ({unit})")
    figure.align_ylabels(axes[:, 0])
    title = f"{truth.scenario}, seed {truth.seed}, vehicle {truth.vehicle}: {truth.words}"
    figure.suptitle("\n".join(textwrap.wrap(title, TITLE_LETTERS)), fontsize=11)
    kind, partial = path.suffix.lower(), path.with_name(f".{path.name}.partial")
    try:
        figure.savefig(partial, format=kind[1:], metadata={"Software": None} if kind == ".png" else None)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SimulatorError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        plt.close(figure)


def _lines(axis: Any, time: Any, tracks: list[Track], label: str) -> None:
    for track, colour in zip(tracks, COLOURS, strict=False):
        axis.plot(time, track.value, color=colour, linewidth=1.0, label=track.words)
    axis.set_ylabel(label)
    if label == LABELS["speed"] and max(tracks[0].value, default=0.0) < LEAST_KM_H:
        axis.set_ylim(0, LEAST_KM_H)
    if len(tracks) > 1:
        axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)


def _severities(axis: Any, time: Any, tracks: list[Track]) -> None:
    for track, colour in zip(tracks, (SEVERITY, *COLOURS), strict=False):
        axis.plot(time, track.value, color=colour, linewidth=1.4, label=track.words)
    axis.set_ylabel("severity (1)")
    axis.set_ylim(-0.05, FAILED + 0.15)
    axis.set_yticks([0, DEVELOPED, FAILED], ["0 healthy", "1 developed", "2 failed"])
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)


def _signal(axis: Any, time: Any, track: Track) -> None:
    sent = track.other_words == "sent"
    axis.plot(time, track.other, color=SENT if sent else OTHER, linewidth=0.9, linestyle="-" if sent else "--", label=track.other_words)
    axis.plot(time, track.value, color=SIGNAL, linewidth=1.0, label="true" if sent else "with the fault", zorder=1.5 if sent else 2.5)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    axis.set_ylabel(f"{_words(track.words)}\n({UNITS.get(track.unit, track.unit) or '1'})", fontsize=8)


def _words(name: str) -> str:
    """`BatteryCoolantInletTemperature` in lines that fit beside the axis."""
    lines, line = [], ""
    for letter in name:
        if letter.isupper() and len(line) > 12:
            lines.append(line)
            line = ""
        line += letter
    return "\n".join([*lines, line])


def _marks(axis: Any, truth: Truth, size: float, written: bool, first: bool) -> None:
    """Onset, development and failure of physical faults; the windows of the others."""
    height = axis.get_xaxis_transform()
    for fault in truth.faults:
        if fault["group"] != "physical":
            axis.axvspan(fault["onset_s"] / size, fault["ended_s"] / size, color=WINDOW[fault["group"]], alpha=0.6, linewidth=0, zorder=0)
            if first:
                axis.text(fault["onset_s"] / size, 0.97, f" {fault['fault_code']}", fontsize=7, color="#555555", va="top", transform=height)
            continue
        for key, style in (("onset_s", ":"), ("developed_s", "--"), ("failed_s", "-")):
            at = fault[key]
            if at is None or at > truth.duration_s:
                continue
            axis.axvline(at / size, color="#555555", linestyle=style, linewidth=0.8)
            if written:
                axis.text(at / size, 2.02, f" {key.removesuffix('_s')}", fontsize=7, color="#555555", va="bottom")
