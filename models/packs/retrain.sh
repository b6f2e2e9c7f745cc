#!/bin/sh
# Retrain the shipped packs from the simulator: minutes of some 60 drives of each of 160 healthy cars,
# spread over a year, each of another driver, place and age.
# The same simulator, DBC files and seeds give the same bytes. Usage: models/packs/retrain.sh [FOLDER [PACK...]]   (default: models/packs, all)
set -eu
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 # with more, sums are made in another order, and the last digits differ
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

signals='TPMS_Pressure.*,ESP_DiscTemperature.*,ESP_Slip.RoadGradient,ESP_Motion.LongitudinalAcceleration,ESP_Motion.VehicleSpeed'
signals=$signals',BRK_PadWear.PadThickness*,TMS_*,BMS_CellStatistics.CellVoltageSpread,BMS_Pack.PackCurrent,BMS_State.StateOf*,BMS_Thermal.*'
signals=$signals',BMS_Insulation.*,BMS_PackDetail.BatteryHumidity,BMS_Estimator.HealthBy*,BCM_LowVoltage.*,CLIM_Air.AirFlow,CLIM_Filter.*'
signals=$signals',MCU_Motor.*,MCU_Bearing.*,MCU_Temperatures.*,GW_Vehicle.IgnitionState,VCU_Configuration.TyreSet,TPMS_Temperature.*'
[ -d "$drives/healthy" ] || "$cansight" sim dataset --scenario "$root/models/packs/drives.toml" --drives --seed 11 \
    --signals "$signals" -o "$drives/healthy"

# NAME CODE, then options of `models train`. Each file is all drives of one car; four cars of ten calibrate.
pack() {
    name=$1 code=$2
    shift 2
    case $chosen in "  " | *" $name "*) ;; *) return 0 ;; esac
    "$cansight" models train "$drives"/healthy/*.parquet \
        --dbc "$vehicle/drive.dbc@can0" --dbc "$vehicle/body.dbc@can1" --dbc "$vehicle/energy.dbc@can2" \
        --fault "$code" --name "$name" --drive 600/150 --seed 1 -o "$packs/$name" "$@"
}

# What a fault changes is monitored; the context is what the car is doing, and does not follow the fault. The drives know one state of the
# ignition: every pack has it in its context, and so says "not known here" while the car starts, stands or charges.
# A margin says how many times the score must be what the drives show (and so while a baseline is learned); it was chosen on months of other
# cars (README.md), well over what any healthy one of them reached, and as every fault is still found days before it must be.
ignition=GW_Vehicle.IgnitionState
own='--baseline 8/30'
minute='--average 60 --window 60 --persistence 50/60'

# What is left of the coolant shows in its reservoir. Slopes and braking move the float.
loop=TMS_BatteryLoop
pack coolant_level coolant_leak --signals $loop.BatteryCoolantLevel \
    --context "ESP_Slip.RoadGradient,ESP_Motion.LongitudinalAcceleration,$ignition" $minute $own --confirm 2/3 --margin 4 2
# And in the flow, of a car that nobody knows yet as well: 3 % less is a ticket at once. A worn pump takes as much, but later than coolant_pump
# says so. The inlet's warmth says how viscous the coolant is.
pack coolant coolant_leak --signals $loop.BatteryCoolantFlow --gain $loop.BatteryCoolantFlow \
    --context "TMS_BatteryPump.BatteryPumpSpeed,$loop.BatteryCoolantInletTemperature,$ignition" \
    --average 20 --window 20 $own --confirm 2/3 --at-once 1 --budget 1e-3 --margin 14 1
# Speed and pressure say what the pump does, so that a leak changes nothing here; wear lowers one and raises the other.
pack coolant_pump coolant_pump_degraded --signals TMS_BatteryPump.BatteryPumpCurrent --gain TMS_BatteryPump.BatteryPumpCurrent \
    --context "TMS_BatteryPump.BatteryPumpSpeed,$loop.BatteryCoolantPressure,BCM_LowVoltage.LowVoltage,$loop.BatteryCoolantInletTemperature,$ignition" \
    $minute $own --confirm 2/3 --margin 8 8
pack radiator_fan radiator_fan_degraded --signals 'TMS_Radiator.FanSpeed,TMS_Radiator.FanCurrent' --context "TMS_Radiator.FanDuty,$ignition" \
    --average 20 --window 40 --persistence 30/40 --confirm 2/3 --margin 4 1
pack cells cell_imbalance --signals BMS_CellStatistics.CellVoltageSpread \
    --context "BMS_Pack.PackCurrent,BMS_State.StateOfCharge,BMS_Thermal.CellTemperatureMean,$ignition" $minute $own --confirm 3/5 --margin 20 20
pack battery_resistance battery_resistance_high --signals BMS_Estimator.HealthByResistance \
    --context "BMS_Thermal.CellTemperatureMean,$ignition" $own --confirm 3/5 --margin 12 12
pack battery_ageing battery_ageing --signals BMS_State.StateOfHealth --context "BMS_Thermal.CellTemperatureMean,$ignition" \
    $own --confirm 3/5 --margin 5 5
pack insulation insulation_low --signals BMS_Insulation.InsulationResistance --gain BMS_Insulation.InsulationResistance \
    --context "BMS_PackDetail.BatteryHumidity,TMS_State.OutsideTemperature,$ignition" $minute $own --confirm 2/3 --margin 6 6
pack low_voltage low_voltage_battery_weak --signals 'BCM_LowVoltage.LowVoltageHealth,BCM_LowVoltage.LowVoltageResistance' \
    --context "BCM_LowVoltage.LowVoltageTemperature,$ignition" --average 20 --window 20 $own --confirm 3/5 --margin 5 5
pack motor_bearing motor_bearing_worn --signals MCU_Bearing.BearingVibration --context "MCU_Motor.MotorSpeed,$ignition" \
    $minute $own --confirm 2/3 --margin 4 4
# The left disc is expected where the right one is; a brake that drags parts them, on whichever side.
pack brake_drag brake_drag --signals 'ESP_DiscTemperature.DiscTemperature*Left' --context "ESP_DiscTemperature.DiscTemperature*Right,$ignition" \
    --twins 'ESP_DiscTemperature.*' --average 20 --window 20 --persistence 30/40 --confirm 2/3 --margin 4 1
# A year wears half a millimetre off a healthy pad.
pack brake_pads brake_pad_worn --signals 'BRK_PadWear.PadThickness*' --context $ignition $own --confirm 3/5 --margin 6 6
pack tyres tyre_pressure_low --signals 'TPMS_Pressure.TyrePressure*' --context $ignition --twins 'TPMS_Pressure.TyrePressure*' \
    --average 20 --window 20 $own --confirm 2/4 --margin 4 4
pack cabin_filter cabin_filter_clogged --signals CLIM_Filter.FilterEfficiency --context "CLIM_Air.AirFlow,$ignition" \
    --average 20 --window 20 --confirm 3/5 --margin 2 1
