"""The signals of the energy bus, from the model's state."""

from __future__ import annotations

import numpy as np

from simulator.sheet import Context, Sheet
from simulator.signals_drive import FAN_MOST_RPM, PACK_NEW_KWH, PUMP_MOST_RPM, measured_charge, network
from simulator.state import CELLS, Array

__all__ = ["ENERGY_PARTS", "energy_constants"]

MODULES, CELLS_PER_MODULE = 24, 4
CONTACTOR_OHM = 1.5e-4
COOLANT_W = 61.8  # of 1 L/min for 1 K: 1.06 kg/L of 50 % glycol, 3.5 kJ/(kg K)
FLUX_MWB, FLUX_PER_K = 52.0, -0.0011  # NdFeB: the remanence falls by 0.11 % for each kelvin
PLUG_STATE = np.array([0.0, 1.0, 2.0, 2.0, 1.0])  # by the charging's state


def energy_constants(c: Context, v: Sheet) -> None:
    """What stays the same for the whole run."""
    v["NM_Energy.SourceNode"] = 30.0
    v["MCU_Detail.RotorAngleError"] = 60 * (c.who["torque_gain"] - 1)
    v["BMS_Estimator.PolarisationResistance"] = 1000 * c.car.polarisation_resistance_ohm * c.who["resistance_gain"]


def _network(c: Context, v: Sheet) -> None:
    network(c, v, "NM_Energy", "bus.energy")


def _modules(c: Context, v: Sheet) -> None:
    """Four cells in series are a module."""
    cells = v.values[v.rows("BMS_CellVoltages.CellVoltage", CELLS)]
    v.values[v.rows("BMS_ModuleVoltage.ModuleVoltage", MODULES)] = _sums(cells)
    share = _sums(c.state["cells.resistance"].T)
    v.values[v.rows("BMS_ModuleResistance.ModuleResistance", MODULES)] = share * (1000 / CELLS * c.state["battery.resistance"])


def _sums(cells: Array) -> Array:
    """(24, n) of (96, n)."""
    total: Array = cells[0::CELLS_PER_MODULE] + cells[1::CELLS_PER_MODULE]
    for place in range(2, CELLS_PER_MODULE):
        total += cells[place::CELLS_PER_MODULE]
    return total


def _pack(c: Context, v: Sheet) -> None:
    s, who = c.state, c.who
    current, voltage, health = s["battery.current"], s["battery.voltage"], s["battery.health"] + who["health_error"]
    closed = s["battery.contactor"] == 2
    insulation, battery_c = s["battery.insulation_kohm"], s["loop.battery_c"]
    warmth = (current / 100) ** 2
    v["BMS_PackDetail.LinkVoltage"] = voltage * closed
    v["BMS_PackDetail.CurrentShunt"] = current * who["current_gain"] + 0.1 * who["current_error_a"]
    v["BMS_PackDetail.CurrentHall"] = current * (2 - who["current_gain"]) - who["current_error_a"]
    v["BMS_PackDetail.ContactorDropPositive"] = 1000 * CONTACTOR_OHM * np.abs(current)
    v["BMS_PackDetail.ContactorDropNegative"] = 1100 * CONTACTOR_OHM * np.abs(current)
    v["BMS_PackDetail.InsulationPositive"] = 1.9 * insulation  # two in parallel are the resistance to the chassis
    v["BMS_PackDetail.InsulationNegative"] = 1.9 / 0.9 * insulation
    v["BMS_PackDetail.FuseTemperature"] = s["battery.busbar_c"] + 4 * warmth
    v["BMS_PackDetail.ShuntTemperature"] = s["battery.busbar_c"] + 2 * warmth
    v["BMS_PackDetail.BatteryHumidity"] = 100 * np.clip(
        0.5 * s["world.humidity"] * np.exp(0.045 * (s["world.ambient_c"] - battery_c)), 0, 1
    )
    v["BMS_PackDetail.BatteryHousingPressure"] = 10 * s["world.pressure_kpa"]
    v["BMS_PackDetail.BalancingCurrent"] = 45 * v["BMS_CellStatistics.BalancingCells"]
    v["BMS_Estimator.ChargeEstimate"] = 100 * measured_charge(c)
    v["BMS_Estimator.ChargeUncertainty"] = 0.8 + 0.4 * np.abs(current) / 200
    v["BMS_Estimator.CapacityEstimate"] = c.car.capacity_a_h * health
    v["BMS_Estimator.HealthByCapacity"] = 100 * health
    v["BMS_Estimator.HealthByResistance"] = 100 / s["battery.resistance_growth"]
    v["BMS_Estimator.OhmicResistance"] = 1000 * s["battery.resistance"]
    v["BMS_Estimator.OverPotential"] = s["battery.open_circuit_v"] - voltage
    v["BMS_Estimator.CoreTemperature"] = battery_c + s["battery.heat_w"] / 900
    v["BMS_Estimator.EnergyAvailable"] = measured_charge(c) * PACK_NEW_KWH * health
    v["BMS_Estimator.CalendarAge"] = who.age_days + s["time_s"] / 86_400
    v["BMS_Estimator.CycleLoss"] = 100 * s["battery.cycle_loss"]


def _drive(c: Context, v: Sheet) -> None:
    s = c.state
    phase = np.hypot(s["drive.current_q"], s["drive.current_d"]) * s["ready"]
    switch, winding = s["drive_loop.inverter_c"], s["drive_loop.stator_c"] + c.who["stator_error_c"]
    heat = s["drive.inverter_loss_w"] / 1000
    for name, gain, above, hot in (("U", 1.0, 1.2, 0.0), ("V", 1.004, 2.0, 1.5), ("W", 0.997, 1.5, -0.8)):
        v[f"MCU_Detail.PhaseCurrent{name}"] = gain * phase
        v[f"MCU_Detail.SwitchTemperature{name}"] = switch + above * heat
        v[f"MCU_Detail.WindingTemperature{name}"] = winding + hot
    v["MCU_Detail.InverterInputPower"] = s["drive.electric_w"] / 1000
    v["MCU_Detail.SwitchingFrequency"] = s["ready"] * np.where(s["drive.motor_rad_s"] > 500, 10.0, 8.0)
    v["MCU_Detail.MagnetFlux"] = FLUX_MWB * (1 + FLUX_PER_K * (s["drive_loop.rotor_c"] - 20))
    v["VCU_EnergyFlow.FlowBattery"] = s["battery.current"] * s["battery.voltage"] / 1000
    v["VCU_EnergyFlow.FlowDrive"] = s["drive.electric_w"] / 1000
    v["VCU_EnergyFlow.FlowWheels"] = s["drive.push_n"] * s["drive.speed"] / 1000
    v["VCU_EnergyFlow.FlowCompressor"] = s["climate.compressor_w"]
    v["VCU_EnergyFlow.FlowCabinHeater"] = s["climate_w"] - s["climate.compressor_w"]
    v["VCU_EnergyFlow.FlowBatteryHeater"] = s["loop.heater_w"]
    v["VCU_EnergyFlow.FlowLowVoltage"] = s["auxiliary_w"]
    v["VCU_EnergyFlow.FlowCharger"] = s["charging.power_w"] / 1000
    v["VCU_EnergyFlow.FlowLosses"] = s["battery.heat_w"] + s["drive.motor_loss_w"] + s["drive.inverter_loss_w"]


def _low_voltage_and_thermal(c: Context, v: Sheet) -> None:
    s = c.state
    loss = s["low.converter_loss_w"]
    v["DCDC_Detail.ConverterInputVoltage"] = s["battery.voltage"] * (s["battery.contactor"] == 2)
    v["DCDC_Detail.ConverterTarget"] = s["low.converter_on"] * np.where(s["low.charge"] > 0.95, 13.6, 14.4)
    v["DCDC_Detail.ConverterOutputPower"] = s["low.voltage"] * s["low.converter_a"]
    v["DCDC_Detail.ConverterSwitchTemperature"] = s["drive_loop.converter_c"] + 0.05 * loss
    v["DCDC_Detail.ConverterTransformerTemperature"] = s["drive_loop.converter_c"] + 0.08 * loss
    v["TMS_Detail.RadiatorInletTemperature"] = s["loop.outlet_c"]
    v["TMS_Detail.RadiatorOutletTemperature"] = s["loop.coolant_c"]
    v["TMS_Detail.ThreeWayValve"] = 100 * np.maximum(s["loop.chiller_valve"], np.minimum(1.0, s["loop.heater_w"] / 4000))
    v["TMS_Detail.BatteryPumpTarget"] = PUMP_MOST_RPM * s["loop.pump_duty"]
    v["TMS_Detail.FanTarget"] = FAN_MOST_RPM * s["front.fan_duty"]
    v["TMS_Detail.BatteryHeatRejected"] = s["loop.plate_w"]
    v["TMS_Detail.DriveHeatRejected"] = COOLANT_W * s["drive_loop.flow_l_min"] * (s["drive_loop.return_c"] - s["drive_loop.coolant_c"])
    v["TMS_Detail.SuperHeat"] = np.where(s["climate.compressor_rpm"] > 500, 5 + s["climate.compressor_rpm"] / 2000, 0.0)


def _charging(c: Context, v: Sheet) -> None:
    s = c.state
    state, kind, limit = s["charging.state"], s["charging.kind"], s["charging.limit_a"]
    charging, plugged = state == 2, state > 0
    ac, dc = plugged & (kind == 1), plugged & (kind == 2)
    grid_v, grid_w, power_w = s["charging.grid_v"] * ac, s["charging.grid_w"], s["charging.power_w"]
    three = c.who["wallbox_w"] > 7000
    phase_a = _share(grid_w * ac, grid_v * np.where(three, 3, 1))
    for phase in (1, 2, 3):
        there = np.ones_like(three) if phase == 1 else three
        v[f"OBC_Detail.GridVoltage{phase}"] = grid_v * there
        v[f"OBC_Detail.GridCurrent{phase}"] = phase_a * there
    v["OBC_Detail.GridFrequency"] = np.where(grid_v > 100, 50.0, 0.0)
    v["OBC_Detail.GridPower"] = grid_w * ac
    v["OBC_Detail.ChargerOutputVoltage"] = s["battery.voltage"] * (ac & charging)
    v["OBC_Detail.ChargerOutputCurrent"] = s["charging.current_a"] * ac
    v["OBC_Detail.ChargerEfficiency"] = 100 * _share(power_w * ac, grid_w * ac)
    v["OBC_Detail.ChargerSwitchTemperature"] = s["drive_loop.charger_c"] + 0.04 * np.maximum(0, grid_w - power_w) * ac
    v["OBC_Detail.PilotDuty"] = limit / 0.6 * ac  # IEC 61851-1, table A.8: up to 51 A
    v["OBC_Detail.CableLimit"] = 32.0 * ac
    v["CCS_Charging.StationVoltage"] = s["battery.voltage"] * (dc & charging)
    v["CCS_Charging.StationCurrent"] = s["charging.current_a"] * dc
    v["CCS_Charging.StationCurrentLimit"] = limit * dc
    v["CCS_Charging.StationPowerLimit"] = limit * s["battery.voltage"] / 1000 * dc
    v["CCS_Charging.RequestedVoltage"] = 4.18 * 96 * dc
    v["CCS_Charging.RequestedCurrent"] = s["battery.charge_limit_w"] / s["battery.voltage"] * dc
    v["CCS_Charging.ChargingPower"] = power_w / 1000 * dc
    v["CCS_Charging.TimeToFull"] = s["charging.remaining_s"] / 60
    v["CCS_Charging.InletTemperaturePositive"] = s["charging.port_c"]
    v["CCS_Charging.InletTemperatureNegative"] = s["charging.port_c"] * 0.99
    v["CCS_Charging.ChargingMode"] = kind * charging
    v["CCS_Charging.InletLocked"] = charging
    session_kwh, session_s = s["charging.session_kwh"], s["charging.session_s"]
    v["CHG_Session.SessionEnergy"] = session_kwh
    v["CHG_Session.SessionTime"] = session_s
    full_kwh = s["battery.capacity_a_h"] * s["battery.open_circuit_v"] / 1000
    v["CHG_Session.SessionStartCharge"] = 100 * (measured_charge(c) - session_kwh / full_kwh)
    v["CHG_Session.SessionMeanPower"] = _share(3600 * session_kwh, session_s)
    v["CHG_Session.SessionBatteryTemperature"] = s["loop.battery_c"]
    v["CHG_Session.ChargeTarget"] = 100 * s["charging.target"]
    v["CHG_Session.AcChargeCount"] = s["battery.charges"] - s["battery.fast_charges"]
    v["CHG_Session.DcChargeCount"] = s["battery.fast_charges"]
    v["CHG_Session.SessionGridPower"] = grid_w / 1000
    v["CHG_PlugEvent.PlugState"] = PLUG_STATE.take(state.astype(np.intp))
    v["CHG_PlugEvent.ChargeStatus"] = state
    v["CHG_PlugEvent.PlugKind"] = kind


def _share(part: Array, whole: Array) -> Array:
    """part / whole; 0 where the whole is."""
    share: Array = np.divide(part, whole, out=np.zeros_like(part), where=whole > 1e-9)
    return share


ENERGY_PARTS = (_modules, _pack, _drive, _low_voltage_and_thermal, _charging, _network)
"""Together they write every other signal, at the state's instant. The drive bus's signals must have been written."""
