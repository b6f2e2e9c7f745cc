#!/bin/sh
# Retrain the shipped packs from the simulator: healthy drives of 15 minutes, each another car, driver, road and weather.
# The same simulator, DBC files and seeds give the same bytes. Usage: models/packs/retrain.sh [FOLDER [PACK...]]   (default: models/packs, all)
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cansight=${CANSIGHT:-cansight}
vehicle=$root/dbc/vehicles/cansight_ev
packs=${1:-$root/models/packs}
[ $# -eq 0 ] || shift
chosen=" $* "

drives=${DRIVES:-}
if [ -z "$drives" ]; then
    drives=$(mktemp -d)
    trap 'rm -rf "$drives"' EXIT
    trap 'exit 130' INT TERM
fi

signals='TPMS_*,ESP_DiscTemperature.*,BRK_PadWear.PadThickness*,TMS_*,BMS_CellStatistics.CellVoltageSpread,BMS_Pack.PackCurrent'
signals=$signals',BMS_State.StateOf*,BMS_Thermal.*,BMS_Insulation.*,BMS_PackDetail.BatteryHumidity,BMS_Estimator.HealthBy*,BCM_LowVoltage.*'
signals=$signals',CLIM_Air.AirFlow,CLIM_Filter.*,MCU_Motor.*,MCU_Bearing.*,GW_Vehicle.IgnitionState'
[ -d "$drives/healthy" ] || "$cansight" sim dataset --scenario "$root/models/packs/drives.toml" --ticks --seed 1 --signals "$signals" -o "$drives/healthy"

# NAME CODE, then options of `models train`. Four drives of ten calibrate.
pack() {
    name=$1 code=$2
    shift 2
    case $chosen in "  " | *" $name "*) ;; *) return 0 ;; esac
    "$cansight" models train "$drives"/healthy/*.parquet \
        --dbc "$vehicle/drive.dbc@can0" --dbc "$vehicle/body.dbc@can1" --dbc "$vehicle/energy.dbc@can2" \
        --fault "$code" --name "$name" --rows 60: --seed 1 -o "$packs/$name" "$@"
}

# What a fault changes is monitored; the context is what the car is doing, and does not follow the fault. From the second minute on the drives know
# one state of the ignition: a pack that has it in its context says "not known here" while the car starts, stops, stands or charges.

pack tyres tyre_pressure_low --signals 'TPMS_Pressure.TyrePressure*' --twins 'TPMS_Pressure.TyrePressure*' --average 20 --window 20 --budget 1e-9
# The left disc is expected where the right one is; a brake that drags parts them, on whichever side.
pack brake_drag brake_drag --signals 'ESP_DiscTemperature.DiscTemperature*Left' --context 'ESP_DiscTemperature.DiscTemperature*Right' \
    --twins 'ESP_DiscTemperature.*' --average 20 --window 20 --persistence 30/40 --budget 1e-5
pack brake_pads brake_pad_worn --signals 'BRK_PadWear.PadThickness*' --twins 'BRK_PadWear.*' --rung limits --budget 1e-3
pack cells cell_imbalance --signals 'BMS_CellStatistics.CellVoltageSpread' \
    --context 'BMS_Pack.PackCurrent,BMS_State.StateOfCharge,BMS_Thermal.CellTemperatureMean,GW_Vehicle.IgnitionState' --average 30 --window 30 --persistence 50/60 --budget 1e-9
pack battery_resistance battery_resistance_high --signals 'BMS_Estimator.HealthByResistance' --context 'BMS_Thermal.CellTemperatureMean,GW_Vehicle.IgnitionState' --budget 1e-3
pack battery_ageing battery_ageing --signals 'BMS_State.StateOfHealth' --context 'BMS_Thermal.CellTemperatureMean,GW_Vehicle.IgnitionState' --budget 1e-3
pack insulation insulation_low --signals 'BMS_Insulation.InsulationResistance' \
    --context 'BMS_PackDetail.BatteryHumidity,TMS_State.OutsideTemperature,GW_Vehicle.IgnitionState' --average 30 --window 30 --budget 1e-3
pack low_voltage low_voltage_battery_weak --signals 'BCM_LowVoltage.LowVoltageHealth,BCM_LowVoltage.LowVoltageResistance' \
    --context 'BCM_LowVoltage.LowVoltageTemperature,GW_Vehicle.IgnitionState' --average 10 --window 10 --budget 1e-9
pack motor_bearing motor_bearing_worn --signals 'MCU_Bearing.BearingVibration' --context 'MCU_Motor.MotorSpeed,GW_Vehicle.IgnitionState' \
    --average 60 --window 60 --persistence 50/60 --budget 1e-9
pack cabin_filter cabin_filter_clogged --signals 'CLIM_Filter.FilterEfficiency' --context 'CLIM_Air.AirFlow,GW_Vehicle.IgnitionState' \
    --average 10 --window 10 --budget 1e-4
pack radiator_fan radiator_fan_degraded --signals 'TMS_Radiator.FanSpeed,TMS_Radiator.FanCurrent' \
    --context 'TMS_Radiator.FanDuty,GW_Vehicle.IgnitionState' --average 20 --window 40 --budget 1e-5
pack coolant_pump coolant_pump_degraded --signals 'TMS_BatteryPump.BatteryPumpCurrent' \
    --context 'TMS_BatteryPump.BatteryPumpSpeed,BCM_LowVoltage.LowVoltage,GW_Vehicle.IgnitionState' --average 20 --window 40 --budget 1e-9
# The inlet's warmth says how viscous the coolant is. Its own excess in a leak (1.2 °C) is no evidence: half of it is weather and habit.
pack coolant coolant_leak --signals 'TMS_BatteryLoop.BatteryCoolantFlow' \
    --context 'TMS_BatteryPump.BatteryPumpSpeed,TMS_BatteryLoop.BatteryCoolantInletTemperature,GW_Vehicle.IgnitionState' \
    --average 20 --window 20 --budget 1e-3
