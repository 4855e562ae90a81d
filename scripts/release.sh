#!/usr/bin/env bash
# Builds the released program: one stripped file in target/release-files, its checksum beside it.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked --bin mesita
target="$(cargo metadata --format-version 1 --no-deps --locked | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')"
program="$target/release/mesita"

# It is whole: alone in a directory and without an environment it knows its version.
alone="$(mktemp -d)"
trap 'rm -rf "$alone"' EXIT
cp "$program" "$alone/mesita"
said="$(cd "$alone" && env -i ./mesita version | head -n 1)"
version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
if [ "$said" != "mesita $version" ]; then
    echo "the program says \"$said\", not \"mesita $version\"" >&2
    exit 1
fi
if command -v readelf >/dev/null && readelf --sections --wide "$alone/mesita" | grep -q ' \.symtab '; then
    echo "$program is not stripped" >&2
    exit 1
fi

files="$target/release-files"
name="mesita-$version-$(rustc -vV | sed -n 's/^host: //p')"
mkdir -p "$files"
install -m 755 "$alone/mesita" "$files/$name"
(cd "$files" && sha256sum "$name" >"$name.sha256" && sha256sum --check --quiet "$name.sha256")
echo "$files/$name: $(wc -c <"$files/$name") bytes"
