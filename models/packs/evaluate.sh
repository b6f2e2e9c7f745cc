#!/bin/sh
# How the shipped packs do on drives that they have not seen: seeds that no training and no choice of a setting used.
# Usage: models/packs/evaluate.sh [HEALTHY [LEAKS]]   (default: 40 drives of 15 minutes, 60 drives of 5 minutes with a leak)
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cansight=${CANSIGHT:-cansight}
vehicle=$root/dbc/vehicles/cansight_ev
healthy=${1:-40}
leaks=${2:-60}

# SCENARIO SEED DURATION: the summary of `models score`, as JSON
score() {
    "$cansight" sim drive --scenario "$1" --seed "$2" --duration "$3" -o - |
        "$cansight" models score "$root/models/packs/coolant" - --dbc "$vehicle/drive.dbc@can0" --dbc "$vehicle/body.dbc@can1" \
            --dbc "$vehicle/energy.dbc@can2" --json
}

alarmed=0 unknown=0
for number in $(seq 1 "$healthy"); do
    summary=$(score healthy $((500000 + number)) 15m)
    case $summary in *coolant_leak*) alarmed=$((alarmed + 1)) && echo "false alarm: healthy drive, seed $((500000 + number))" ;; esac
    unknown=$((unknown + $(echo "$summary" | sed -n 's/.*"unknown": \([0-9]*\).*/\1/p')))
done
echo "healthy: $alarmed of $healthy drives of 15 minutes with an alarm; $unknown ticks outside the trained range"

found=0 named=0
for number in $(seq 1 "$leaks"); do
    summary=$(score coolant_leak $((600000 + number)) 5m)
    case $summary in *coolant_leak*) found=$((found + 1)) ;; *) echo "missed: seed $((600000 + number))" ;; esac
    first=$(echo "$summary" | sed -n 's/.*"signal": "\(.*\)".*/\1/p' | head -n 1)
    case $first in TMS_BatteryLoop.BatteryCoolantFlow | TMS_BatteryLoop.BatteryCoolant*Temperature) named=$((named + 1)) ;; esac
done
echo "leak: found in $found of $leaks drives before their end; coolant flow or temperature contributes most in $named"
