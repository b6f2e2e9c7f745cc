#!/bin/sh
# Evaluate the shipped packs on simulated drives that nothing was trained or chosen on: other cars, drivers, roads and weather.
# Usage: models/packs/evaluate.sh [REPORT_FOLDER]   (with a folder, a page with plots for each)
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cansight=${CANSIGHT:-cansight}
reports=${1:-}

drives=$(mktemp -d)
trap 'rm -rf "$drives"' EXIT
trap 'exit 130' INT TERM

# NAME, the set's name here; SCENARIO, VEHICLES, DURATION, SEED. All splits: the whole set is unseen.
evaluate() {
    "$cansight" sim dataset --scenario "$2" --vehicles "$3" --duration "$4" --seed "$5" --signals 'TMS_*,BMS_Thermal.*' -o "$drives/$1" >&2
    "$cansight" models evaluate "$root/models/packs/coolant" "$drives/$1" --split all --month-hours 40 ${reports:+--report "$reports/coolant-$1.html"}
}

echo "healthy: 200 drives of 15 minutes"
evaluate healthy healthy 200 15m 500001
echo "leaks: 60 drives of 6 minutes, the leak fully developed at 4"
evaluate leaks coolant_leak 60 6m 600001
