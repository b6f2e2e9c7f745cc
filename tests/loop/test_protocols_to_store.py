"""Recorded logs of higher protocols through the whole loop (edge, mosquitto with mutual TLS, aggregator, store): plausible physical values.

The J1939 recordings go through our own converter first, as a user's would: MF4 to candump.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import processes
import servers
from dbc.logs import open_log
from dbc.logs.writers import open_log_writer

Ranges = dict[str, tuple[float, float]]

J1939: Ranges = {
    "EEC1.EngineSpeed": (600, 700),  # at idle
    "CCVS1.WheelBasedVehicleSpeed": (0, 0),
    "EC1.EngineSpeedAtPoint5": (1675, 1675),  # 40 bytes, over BAM
    "gnss_pos.Latitude": (41, 42),
    "gnss_pos.Longitude": (-93, -92),
    "gnss_altitude.Altitude": (200, 300),
}
TRUCK: Ranges = {"EEC1.EngineSpeed": (0, 0), "CCVS1.WheelBasedVehicleSpeed": (0, 0)}  # with its ignition on
OBD: Ranges = {
    "OBD2_7E8.EngineSpeed": (0, 3500),
    "OBD2_7E8.VehicleSpeed": (0, 80),
    "OBD2_7E8.EngineCoolantTemperature": (20, 100),
    "OBD2_7E8.FuelLevel": (50, 56),
    "OBD2_7E8.ControlModuleVoltage": (11.5, 15),
    "gnss_pos.Latitude": (56, 56.2),
    "gnss_pos.Longitude": (10.1, 10.3),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("log", "files", "ranges", "ticks"),
    [
        pytest.param(
            *("11111111-j1939-gnss.mf4", ["CSS-Electronics-SAE-J1939-DEMO.dbc@can0", "tp_j1939.dbc@can0", "canmod-gps.dbc@can1"]),
            *(J1939, 127),
            id="machine",
        ),
        pytest.param("j1939-truck.mf4", ["CSS-Electronics-SAE-J1939-DEMO.dbc@can0"], TRUCK, 400, id="truck"),
        pytest.param("3BA199E2-obd2-gps.mf4", ["builtin:obd2@can0", "canmod-gps.dbc@can1"], OBD, 540, id="car"),
    ],
)
def test_a_recorded_log_arrives_as_plausible_values(
    tmp_path: Path, pki: Path, mosquitto: servers.Server, data_dir: Path, log: str, files: list[str], ranges: Ranges, ticks: int
) -> None:
    from cloud.pki import vehicle as enrol

    folder = data_dir / "logs" / "css_electronics"
    dbc = [file if file.startswith("builtin:") else str(folder / file) for file in files]
    converted, frames = tmp_path / "converted.log", 0
    with open_log_writer(converted) as writer:
        for block in open_log(folder / log):
            writer.write(block)
            frames += len(block)
    vehicle = enrol(pki)
    cloud, api = processes.cloud_settings(tmp_path, pki, mosquitto.port, dbc, {"kind": "embedded"})
    edge = processes.edge_settings(tmp_path, pki, mosquitto.port, vehicle, converted, dbc)
    aggregator = processes.cansight("cloud", "run", "-c", cloud, log=tmp_path / "cloud.log")
    agent = processes.cansight("edge", "run", "-c", edge, log=tmp_path / "edge.log")
    try:
        assert agent.wait(processes.WAIT_S) == 0, (tmp_path / "edge.log").read_text()
        status = json.loads((tmp_path / vehicle / "status.json").read_text())
        query = "&".join(["points=10000", *(f"signal={name}" for name in ranges)])
        found: dict[str, Any] = {}

        def arrived() -> bool:
            newest = (processes.get(f"{api}/api/vehicles/{vehicle}/newest") or {}).get("tick_ms", 0)
            found.update(processes.get(f"{api}/api/vehicles/{vehicle}/series?from_ms={newest - 1_000_000}&{query}") or {})
            return len(found.get("tick_ms", ())) >= status["ticks"] - 1

        processes.until(arrived, "every tick")
    finally:
        for process in (agent, aggregator):
            process.terminate()
        codes = [process.wait(20) for process in (agent, aggregator)]
    assert codes == [0, 0]
    assert status["frames"] == frames
    assert abs(status["ticks"] - ticks) <= 5
    for name, (low, high) in ranges.items():
        values = np.array([value for value in found["series"][name] if value is not None], float)
        assert len(values) > ticks // 3, name
        assert low <= values.min() <= values.max() <= high, (name, values.min(), values.max())
