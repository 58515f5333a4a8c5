#!/usr/bin/env bash
# Writes what each program is built of into target/sbom, a CycloneDX file for each, with the help of cargo-cyclonedx. The same
# sources give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
out=${CARGO_TARGET_DIR:-target}/sbom
# It writes beside the manifests, and nowhere else.
clean() { find crates tests -name '*.cdx.json' -not -path '*/target/*' -delete; }
trap clean EXIT
cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --target "$(rustc --print host-tuple)" --no-build-deps
rm -rf -- "$out"
mkdir -p "$out"
find crates -name '*.cdx.json' -exec mv -t "$out" {} +
# The directory it was made in says nothing of what is in it.
sed -i "s#file://$PWD/#file:///kingpost/#g" "$out"/*.json
ls "$out"
