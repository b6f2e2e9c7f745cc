#!/bin/sh
# Evaluate the shipped packs together on simulated cars that nothing was trained or chosen on: 2,000 healthy vehicle-months, and 32 cars with
# each fault of the car, from onset to failure. Some 40 and 12 minutes of one core; what is done is kept in KEEP, and begun from there.
# Usage: models/packs/evaluate.sh [KEEP_FOLDER]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cansight=${CANSIGHT:-cansight}
packs=${PACKS:-$root/models/packs}
keep=${1:-$(mktemp -d)}
mkdir -p "$keep"
"$cansight" models evaluate "$packs" "$root/models/packs/months.toml" --seed 7001 --months "${MONTHS:-2000}" --keep "$keep/months.jsonl"
"$cansight" models evaluate "$packs" "$root/models/packs/faults.toml" --seed 7002 --keep "$keep/faults.jsonl"
