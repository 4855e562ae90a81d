#!/usr/bin/env bash
# Kills a whole cluster with kill -9 at random moments, KILLS times (50), over one data directory.
# A failing run prints its seed: MESITA_SEED=N scripts/kills.sh repeats it.
set -euo pipefail
cd "$(dirname "$0")/.."
MESITA_KILLS=${1:-50} exec cargo test --locked --test e2e -- --nocapture everything_comes_back_after_kill_9
