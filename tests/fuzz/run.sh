#!/usr/bin/env bash
# Runs the fuzz targets under libFuzzer, guided by coverage.
#
#   tests/fuzz/run.sh [SECONDS [TARGET…]]   each target (or these) for so long, two at a time
#   tests/fuzz/run.sh again TARGET FILE…    these inputs once more
#   tests/fuzz/run.sh list                  the names of the targets
#
# SECONDS is 10 where nothing is said. With FUZZ_SEED set to a number the same inputs are tried in the
# same order, as far as the time goes; else each run is another. Ends with a line for each target; 1 if one of them failed.
# src/lib.rs says what is kept where.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

STATE="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"
FUZZER="$STATE/../debug/steeple-fuzz"

# What is not ours is compiled as for the two binaries, and shared with them.
build() {
    RUSTC_WORKSPACE_WRAPPER="$PWD/tests/fuzz/rustc.sh" cargo build --locked \
        -p steeple-fuzz --features coverage
}

# Runs target $1 for $2 seconds, and prints how it went.
run() {
    local target=$1 seconds=$2 log="$STATE/$1.log" status=0
    "$FUZZER" seed "$target" "$STATE/corpus"
    "$FUZZER" "$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=1024 \
        -seed="${FUZZ_SEED:-0}" \
        -artifact_prefix="$STATE/$target-" -dict="$STATE/corpus/$target.dict" \
        "$STATE/corpus/$target" >"$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        # The property and the input, without what libFuzzer says of itself.
        grep -vE '^(#|INFO|NEW_FUNC|\s+NEW_FUNC)' "$log" | cut -c1-2000
    fi
    summary "$target" "$status" "$log"
    return "$status"
}

summary() {
    local runs covered outcome=ok
    [ "$2" -eq 0 ] || outcome=FAILED
    runs=$(sed -nE 's/^#([0-9]+).*/\1/p' "$3" | tail -n 1)
    covered=$(sed -nE 's/^#.* cov: ([0-9]+).*/\1/p' "$3" | tail -n 1)
    printf 'fuzz %-10s %s: %s inputs, %s edges of the code\n' "$1" "$outcome" "${runs:-0}" "${covered:-0}"
}

# Runs one target after the other, each for $1 seconds.
lane() {
    local seconds=$1 failed=0 target
    shift
    for target in "$@"; do
        run "$target" "$seconds" || failed=1
    done
    return "$failed"
}

main() {
    build
    case "${1:-}" in
    list) exec "$FUZZER" list ;;
    again)
        shift
        exec "$FUZZER" "$@"
        ;;
    esac
    local seconds=${1:-10} failed=0 target
    shift $(($# < 1 ? 0 : 1))
    mkdir -p "$STATE/corpus"
    local targets=("$@")
    [ "$#" -gt 0 ] || mapfile -t targets < <("$FUZZER" list)
    local odd=() even=()
    for target in "${targets[@]}"; do
        if [ "${#odd[@]}" -gt "${#even[@]}" ]; then even+=("$target"); else odd+=("$target"); fi
    done
    lane "$seconds" "${odd[@]}" &
    lane "$seconds" "${even[@]}" || failed=1
    wait $! || failed=1
    return "$failed"
}

main "$@"
