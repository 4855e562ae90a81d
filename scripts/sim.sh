#!/usr/bin/env bash
# Runs the simulator at length, optimised: sim.sh [WORLDS] [SECONDS]. MESITA_SEED sets the first seed.
# sim.sh planted: each bug that is planted on purpose must be found.
set -euo pipefail
cd "$(dirname "$0")/.."
run() { cargo test --locked --profile sim --no-default-features --test sim "$@"; }
if [ "${1:-}" = planted ]; then
    MESITA_PLANTED=1 run planted_bugs_are_found -- --nocapture
    exit
fi
export MESITA_SIM_SEEDS="${1:-1000}" MESITA_SIM_SECONDS="${2:-60}"
run -- --nocapture --test-threads 1
