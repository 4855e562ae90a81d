#!/usr/bin/env bash
# What the suite does a few times, at full length: KILLS kills of the leader (200), a quarter as many of a
# whole cluster, networks that are cut, mixed versions. Prints a summary with seeds; MESITA_SEED=N
# repeats the choices of a run. Needs root, iproute2 and nftables.
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-200}
export MESITA_REQUIRE_ROOT=1 MESITA_REQUIRE_PREVIOUS=1
MESITA_PREVIOUS=$(scripts/previous.sh)
export MESITA_PREVIOUS
log=target/chaos.log
mkdir -p target
: >"$log"
status=0
run() { cargo test --locked --test e2e -- --nocapture --test-threads=1 "$@" 2>&1 | tee -a "$log" || status=1; }
MESITA_CHAOS_KILLS=$kills run chaos:: mixed::
MESITA_KILLS=$((kills / 4)) run everything_comes_back_after_kill_9
MESITA_NODE_KILLS=$((kills / 10)) run whichever_node_is_killed
printf '\n== summary\n'
grep -E 'kills of the leader among|kills with MESITA_SEED|instances were there|^test .* (ok|FAILED)$|^test result' "$log"
exit "$status"
