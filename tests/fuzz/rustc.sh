#!/usr/bin/env bash
# A compiler for our own crates that counts for the fuzzer which edges of the code are taken:
# cargo's RUSTC_WORKSPACE_WRAPPER, see run.sh.
#
# The flags are those of cargo-fuzz that a stable compiler takes. What is run while building needs
# no counters, and could not be linked with them.
set -euo pipefail

case " $* " in
*" --crate-name build_script_build "* | *" --crate-name ___ "* | *" -vV "*)
    exec "$@"
    ;;
esac
exec "$@" \
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
