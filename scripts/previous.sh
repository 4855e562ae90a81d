#!/usr/bin/env bash
# Builds the previous version (the commit in scripts/PREVIOUS) in the dev profile, in a directory of its
# own, and prints the path of its program. What was built for that commit is used again.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(cat scripts/PREVIOUS)
source="$PWD/target/previous/$commit"
program="$source/target/debug/mesita"
if [ -x "$program" ]; then
    echo "$program"
    exit 0
fi
if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
    echo "scripts/PREVIOUS names $commit, which this clone does not have: fetch it (git fetch --unshallow)" >&2
    exit 1
fi
mkdir -p "$source"
git archive "$commit" | tar -x -C "$source"
# Lints are the business of the commit that is tested, not of this one.
RUSTFLAGS='' cargo build --locked --manifest-path "$source/Cargo.toml" --target-dir "$source/target" >&2
echo "$program"
