#!/usr/bin/env bash
# Tests the tests: builds the programs with deliberate bugs in them, which only a debug build with a `--cfg` of its own
# can have, commits one bug at a time, and demands that the test named for it fails. Some minutes, mostly building.
#   scripts/seeded-bugs.sh [BUG…]    only these
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
export RUSTFLAGS="${RUSTFLAGS:-} --cfg kingpost_bugs"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/seeded-bugs"
command -v cargo-nextest >/dev/null || { echo "seeded-bugs: cargo-nextest is missing: cargo install --locked cargo-nextest" >&2; exit 1; }
log=$(mktemp -d)
trap 'rm -rf -- "$log"' EXIT
packages=(-p e2e -p kingpost-loader -p kingpost-connectors)

mapfile -t rows < <(grep -v '^#' tests/seeded-bugs.txt | sort -u)
if [ $# -gt 0 ]; then
    mapfile -t rows < <(for bug in "$@"; do grep -E "^$bug " tests/seeded-bugs.txt || { echo "seeded-bugs: no bug is called $bug" >&2; exit 2; }; done)
fi

echo '· building the programs with bugs in them'
cargo build --quiet --workspace --bins
cargo nextest run "${packages[@]}" --no-run 2>"$log/build" || { cat "$log/build" >&2; exit 1; }

# One test, by its last name; the exit code tells a failed test (100) from one that is missing or can't be run.
run() { KINGPOST_BUG=$1 cargo nextest run "${packages[@]}" --retries 0 -E "test(/(^|::)$2\$/)" >"$log/run" 2>&1; }

noticed=0 wrong=0
for row in "${rows[@]}"; do
    read -r bug test <<<"$row"
    status=0
    run '' "$test" || status=$?
    if [ $status -ne 0 ]; then
        printf 'WRONG    %-30s %s fails without the bug, or is missing (%s)\n' "$bug" "$test" "$status"
        tail -n 20 "$log/run"
        wrong=$((wrong + 1))
        continue
    fi
    status=0
    run "$bug" "$test" || status=$?
    if [ $status -eq 100 ]; then
        printf 'noticed  %-30s %s\n' "$bug" "$test"
        noticed=$((noticed + 1))
    else
        printf 'MISSED   %-30s %s passes with the bug (%s)\n' "$bug" "$test" "$status"
        wrong=$((wrong + 1))
    fi
done
echo "seeded bugs: $((noticed + wrong)) committed, $noticed noticed, $wrong missed or wrong"
[ "$wrong" -eq 0 ]
