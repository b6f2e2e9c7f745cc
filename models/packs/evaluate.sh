#!/bin/sh
# Evaluate the shipped packs together on simulated cars that nothing was trained or chosen on.
# Usage: models/packs/evaluate.sh [YEAR [REPORT_FOLDER]]
# YEAR: a folder of `cansight sim dataset --scenario fleet_year`, of which the test vehicles are taken; without it (or with -), short drives are
# simulated: healthy ones, and leaks that develop within minutes. With a REPORT_FOLDER, the page with plots of each pack that YEAR has a fault for.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cansight=${CANSIGHT:-cansight}
packs=${PACKS:-$root/models/packs}
year=${1:--}
reports=${2:-}

if [ "$year" != - ]; then
    "$cansight" models evaluate "$packs" "$year" --split test --month-hours 40
    if [ -n "$reports" ]; then
        for pack in "$packs"/*/; do
            "$cansight" models evaluate "$pack" "$year" --split test --month-hours 40 --report "$reports/$(basename "$pack").html"
        done
    fi
    exit 0
fi

drives=$(mktemp -d)
trap 'rm -rf "$drives"' EXIT
trap 'exit 130' INT TERM

# SCENARIO, VEHICLES, DURATION, SEED. All splits: the whole set is unseen.
evaluate() {
    "$cansight" sim dataset --scenario "$1" --vehicles "$2" --duration "$3" --seed "$4" -o "$drives/$1" >&2
    "$cansight" models evaluate "$packs" "$drives/$1" --split all --month-hours 40
}

echo "healthy: 200 drives of 15 minutes"
evaluate healthy 200 15m 500001
echo "leaks: 60 drives of 6 minutes, the leak fully developed at 4"
evaluate coolant_leak 60 6m 600001
