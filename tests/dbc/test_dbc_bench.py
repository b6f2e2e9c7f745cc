"""The benchmark checks equality first, and gives what `cansight bench` prints; its speed is not judged here."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbc import bench


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "RUNS", 1)
    monkeypatch.setattr(bench, "TURN_S", 0.0)


def test_the_vehicle_of_our_own_decodes_as_cantools_does() -> None:
    result = bench.bench_decode(frames=2000)
    assert result["frames"] == 2000
    assert result["ours"] > 0
    assert result["ratio"] == result["ours"] / result["rival"]


def test_a_recording_decodes_as_cantools_does(data_dir: Path) -> None:
    folder = data_dir / "logs" / "kuksa"
    result = bench.bench_decode(
        str(folder / "candump_Manual_SOC_DogMode_CabinTemp.log"), [f"{folder / 'Model3CAN.dbc'}@vcan0"], frames=4000
    )
    assert result["signals_per_frame"] > 8


def test_a_difference_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    physical = bench.Decoder.decode

    def wrong(self: bench.Decoder, block: bench.FrameBlock) -> object:
        signals = physical(self, block)
        signals.raw[-1] ^= 1
        return signals

    monkeypatch.setattr(bench.Decoder, "decode", wrong)
    with pytest.raises(ValueError, match="is not cantools'"):
        bench.bench_decode(frames=400)
