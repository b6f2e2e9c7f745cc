"""The gallery's pictures: they can be drawn, and show what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import simulator.gallery
from cansight.commands.sim_gallery import gallery
from simulator.errors import ScenarioError
from simulator.fault_kinds import KINDS
from simulator.gallery import WEEKS, draw_gallery, pictures
from simulator.scenario import scenario


def test_there_is_a_picture_of_every_fault_of_the_car() -> None:
    codes = {kind.code for kind in KINDS.values() if kind.group == "physical"}
    assert codes < set(pictures())
    assert {fault.code for fault in scenario(WEEKS).table.faults} == codes
    assert CliRunner().invoke(gallery, []).output.split() == list(pictures())


def test_a_picture_is_drawn_and_a_name_that_is_none_is_told(tmp_path: Path) -> None:
    draw_gallery(tmp_path, ("charging_dc",), ".svg")
    assert [path.name for path in tmp_path.iterdir()] == ["charging_dc.svg"]
    with pytest.raises(ScenarioError, match="no picture 'charging'; there are: drive"):
        draw_gallery(tmp_path, ("charging",))


def test_a_fault_of_days_leaves_its_twin_at_its_onset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator.gallery, "SLICE_S", 10_800.0)
    ((code, reel),) = simulator.gallery._weeks(("brake_drag",))
    assert code == "brake_drag"
    fault, time_s = reel.truth.faults[0], np.array(reel.time_s)
    (_, disc), (_, other) = reel.signals[:2]
    assert disc.words == "DiscTemperatureFrontLeft"
    apart = np.array(disc.value) - np.array(disc.other)
    assert np.abs(apart[time_s < fault["onset_s"] - 43_200]).max() == 0
    assert apart[time_s > fault["failed_s"]].min() > 100
    assert np.abs(np.array(other.value) - np.array(other.other)).max() < 5
    severity = np.array(reel.severities[0].value)
    assert severity[0] == 0
    assert (np.diff(severity) >= 0).all()
    assert severity[-1] == 2
