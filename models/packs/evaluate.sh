#!/bin/sh
# How the shipped packs do on drives that they have not seen: seeds that no training and no choice of a setting used.
# Usage: models/packs/evaluate.sh [HEALTHY [LEAKS]]   (default: 200 drives of 15 minutes, 60 drives of 6 minutes with a leak)
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cansight=${CANSIGHT:-cansight}
healthy=${1:-200}
leaks=${2:-60}

drives=$(mktemp -d)
trap 'rm -rf "$drives"' EXIT
trap 'exit 130' INT TERM

# SCENARIO VEHICLES DURATION SEED: how many drives the pack alarms on
alarmed() {
    "$cansight" sim dataset --scenario "$1" --vehicles "$2" --duration "$3" --seed "$4" --signals 'TMS_*,BMS_Thermal.*' -o "$drives/$1" >&2
    "$cansight" models score "$root/models/packs/coolant" "$drives/$1"/*.parquet --json |
        sed -n 's/.*"source": "\(.*\)".*/\1/p' | sort -u | wc -l
}

echo "healthy: $(alarmed healthy "$healthy" 15m 500001) of $healthy drives of 15 minutes with an alarm"
echo "leak: found in $(alarmed coolant_leak "$leaks" 6m 600001) of $leaks drives of 6 minutes, the leak fully developed at 4"
