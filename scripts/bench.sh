#!/usr/bin/env bash
# Runs the benchmarks and prints one table: floor of the same run, ours, ratio, target.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo bench --locked --bench cluster
