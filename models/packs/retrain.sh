#!/bin/sh
# Retrain the shipped packs from the simulator: 300 healthy drives of ten minutes, each another car, driver, road and weather.
# The same simulator, DBC files and seeds give the same bytes. Usage: models/packs/retrain.sh [FOLDER]   (default: models/packs)
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cansight=${CANSIGHT:-cansight}
vehicle=$root/dbc/vehicles/cansight_ev
packs=${1:-$root/models/packs}

drives=$(mktemp -d)
trap 'rm -rf "$drives"' EXIT
trap 'exit 130' INT TERM

"$cansight" sim dataset --scenario healthy --vehicles 300 --duration 10m --seed 1 --signals 'TMS_*,BMS_Thermal.*' -o "$drives/healthy"

# What a leak changes is monitored; the context is what drives the loop and does not follow the leak.
"$cansight" models train "$drives"/healthy/*.parquet \
    --dbc "$vehicle/drive.dbc@can0" --dbc "$vehicle/body.dbc@can1" --dbc "$vehicle/energy.dbc@can2" \
    --signals 'TMS_BatteryLoop.BatteryCoolantFlow,TMS_BatteryLoop.BatteryCoolantInletTemperature,TMS_BatteryLoop.BatteryCoolantOutletTemperature' \
    --context 'TMS_BatteryPump.BatteryPumpSpeed,BMS_Thermal.CellTemperatureMean,TMS_State.OutsideTemperature,TMS_Radiator.RadiatorAirSpeed,TMS_State.ChillerHeat,TMS_State.BatteryHeaterPower' \
    --fault coolant_leak --name coolant --average 20 --window 80 --seed 1 -o "$packs/coolant"
