#!/bin/sh
# Retrain the shipped packs from the simulator, without keeping a log: each drive is simulated into a FIFO while the training reads it.
# The same simulator, DBC files and seeds give the same bytes. Usage: models/packs/retrain.sh [FOLDER]   (default: models/packs)
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cansight=${CANSIGHT:-cansight}
vehicle=$root/dbc/vehicles/cansight_ev
packs=${1:-$root/models/packs}
drives=80

fifos=$(mktemp -d)
producer= trainer=
clean() {
    trap '' INT TERM
    if [ -n "$producer" ]; then kill "$producer" 2>/dev/null || :; fi
    if [ -n "$trainer" ]; then kill "$trainer" 2>/dev/null || :; fi
    rm -rf "$fifos"
}
trap clean EXIT
trap 'exit 130' INT TERM

logs=
for seed in $(seq 1 $drives); do
    mkfifo "$fifos/healthy-$seed.log"
    logs="$logs $fifos/healthy-$seed.log"
done

# A drive that cannot be simulated would leave the training waiting for its FIFO, so it ends everything.
(
    for seed in $(seq 1 $drives); do
        "$cansight" sim drive --scenario healthy --seed "$seed" --duration 10m -o "$fifos/healthy-$seed.log" >/dev/null || kill $$
    done
) &
producer=$!

# What a leak changes is monitored; the context is what drives the loop and does not follow the leak.
# shellcheck disable=SC2086 # the list of FIFOs is split on purpose, mktemp's names hold no blanks
"$cansight" models train $logs \
    --dbc "$vehicle/drive.dbc@can0" --dbc "$vehicle/body.dbc@can1" --dbc "$vehicle/energy.dbc@can2" \
    --signals 'TMS_BatteryLoop.BatteryCoolantFlow,TMS_BatteryLoop.BatteryCoolantInletTemperature,TMS_BatteryLoop.BatteryCoolantOutletTemperature' \
    --context 'TMS_BatteryPump.BatteryPumpSpeed,BMS_Thermal.CellTemperatureMean,TMS_State.OutsideTemperature,TMS_Radiator.RadiatorAirSpeed,TMS_State.ChillerHeat,TMS_State.BatteryHeaterPower' \
    --fault coolant_leak --name coolant --average 20 --window 80 --seed 1 -o "$packs/coolant" &
trainer=$!
wait "$trainer"
