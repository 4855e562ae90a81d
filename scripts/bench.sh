#!/usr/bin/env bash
# Runs the benchmarks and prints one table each: floor of the same run, ours, ratio, target.
set -euo pipefail
cd "$(dirname "$0")/.."
for bench in cluster embedding consensus failover; do
    cargo bench --locked --bench "$bench"
done
