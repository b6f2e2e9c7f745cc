#!/bin/sh
# Evaluate the packs over the network, over sensors and over all signals on simulated cars that nothing was trained or chosen on.
# Usage: models/network_packs/evaluate.sh [YEAR]
# YEAR: a folder of `cansight sim dataset --scenario fleet_year`; of its test cars, what the packs over sensors find in a year.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cansight=${CANSIGHT:-cansight}
packs=${PACKS:-$root/models/network_packs}

"$cansight" models attacks "$packs" --scenario "$packs/drives.toml" --drives 100 --events 400 --frames 60 --seed 800002
if [ $# -gt 0 ]; then
    for pack in sensor_stuck sensor_noise; do
        "$cansight" models evaluate "$packs/$pack" "$1" --split test --month-hours 40
    done
fi
