#!/usr/bin/env bash
# The one test command.
#
#   tests/run.sh                   every part, in the order of PARTS below
#   tests/run.sh fmt clippy        these parts alone
#   tests/run.sh bench             speed and memory beside their limits, which no other run measures
#   tests/run.sh list              the names of the parts
#   tests/run.sh exec COMMAND …    one command, with all that the parts are given: the container
#                                  engine (DOCKER_HOST) and the binaries (STEEPLE_BIN_DIR)
#
# It goes on after a part that failed, and ends with how long each part took, what was skipped and
# why, and the summary lines of the test runners. What a part printed is in target/run/PART.log.
# With CI=true a skipped part is a failure.
#
# To add a part, write a function `part_NAME` and put NAME into PARTS.
#   - It runs in a subshell at the root of the repository, with `set -e`; what it returns decides.
#   - `need COMMAND PACKAGE…` comes first: where COMMAND is missing it installs the Debian packages
#     if this is root, and else skips the part. `want WHAT COMMAND PACKAGE…` skips WHAT alone.
#   - `skip WHAT WHY` notes that something was left out; `return 0` after it to leave out the rest.
#   - A function `before_NAME`, if there is one, runs first, outside of the subshell and without
#     `set -e`, so that it may export variables and leave things running: `binaries && engine`.
#   - Scratch files go under $SCRATCH, which is removed at the end. No fixed ports, and nothing that
#     runs on after the part.
#   - A test runner whose summary line should be shown at the end is named in `summaries`.

# Parts are called by their names, which shellcheck takes for not at all.
# shellcheck disable=SC2317

set -euo pipefail

PARTS=(fmt shell clippy doc test quickstart clients sdk fuzz)

part_fmt() {
    cargo fmt --all --check
    cargo fmt --manifest-path tests/clients/rust/Cargo.toml --check
}

part_shell() {
    need shellcheck shellcheck
    git ls-files -z '*.sh' .ci/run | xargs -0 shellcheck
}

part_clippy() {
    cargo clippy --workspace --all-targets --locked -- -D warnings
}

part_doc() {
    RUSTDOCFLAGS="-Dwarnings" cargo doc --workspace --no-deps --locked
}

before_test() {
    binaries && engine
}

part_test() {
    want "checks by openssl" openssl openssl
    want "keys in a PKCS #11 token" softhsm2-util softhsm2
    want "the check of the systemd units" systemd-analyze systemd
    cargo test --workspace --no-fail-fast --locked
}

before_clients() {
    binaries
}

# Real SPIFFE clients, each in the language of its own. They are built below target/, and run from a
# directory that every user can read, as some of them run as another user.
part_clients() {
    CLIENTS=$(mktemp -d /tmp/steeple-clients.XXXXXX)
    trap 'rm -rf "$CLIENTS"' EXIT
    chmod 755 "$CLIENTS"
    local built="$PWD/target/clients" source=tests/clients python=/usr/bin/python3 go
    mkdir -p "$built/node" "$CLIENTS"/{python,go,node,rust,proto}
    need openssl openssl
    need "$python" python3 python3-venv
    need npm nodejs npm

    # go-spiffe wants a Go that the distribution may not have yet.
    want "the client in Go" go golang-go
    if command -v go >/dev/null && go -C "$source/go" list -deps . >/dev/null; then
        go build -C "$source/go" -o "$CLIENTS/go/client" . &
        go=$!
    elif command -v go >/dev/null; then
        skip "the client in Go" "$(go version) cannot build it"
    fi

    cargo build --locked --manifest-path "$source/rust/Cargo.toml" --target-dir "$built/rust"
    cp "$built/rust/debug/client" "$CLIENTS/rust/"

    if ! "$python" -m ensurepip --version >/dev/null 2>&1 && ! packages python3-venv; then
        skip "$PART" "Python cannot make a virtual environment, and $(install_refusal)"
        return 0
    fi
    [ -x "$built/python/bin/pip" ] || "$python" -m venv "$built/python"
    "$built/python/bin/pip" install --quiet --disable-pip-version-check \
        -r "$source/python/requirements.txt"
    cp "$source/python/client.py" "$CLIENTS/python/"
    cp -r "$built"/python/lib/python3*/site-packages "$CLIENTS/python/packages"

    cp "$source"/node/package*.json "$built/node/"
    npm ci --prefix "$built/node" --ignore-scripts --no-audit --no-fund --loglevel=error
    cp -r "$built/node/node_modules" "$source/node/client.js" "$CLIENTS/node/"
    cp proto/proto/workload.proto "$CLIENTS/proto/"

    [ -z "${go:-}" ] || wait "$go"
    [ "$(id -u)" -eq 0 ] || skip "clients of another user" "only root can become one"
    PYTHONDONTWRITEBYTECODE=1 STEEPLE_CLIENTS_DIR="$CLIENTS" STEEPLE_CLIENTS_PYTHON="$python" \
        "$built/python/bin/python" -m pytest -p no:cacheprovider -n 8 "$source"
}

before_sdk() {
    binaries
}

# Every call of SPIRE's APIs, by SPIRE's own client code, and every message beside the published wire.
part_sdk() {
    need go golang-go
    if ! go -C tests/sdk list -deps ./... >/dev/null; then
        skip "$PART" "$(go version) cannot build it"
        return 0
    fi
    [ -z "$(gofmt -l tests/sdk tests/clients/go | tee /dev/stderr)" ]
    go -C tests/sdk vet ./...
    go -C tests/sdk test -count=1 ./...
}

# Seconds of what tests/fuzz/run.sh does for hours.
part_fuzz() {
    need g++ g++
    # One seed, so that what is found here was changed here; long runs look further.
    FUZZ_SEED=1 tests/fuzz/run.sh 10
}

# Measured with what is shipped, and only when asked for: it takes minutes, and what else runs on the
# machine disturbs it. That it works is a test of its own.
part_bench() {
    cargo build --release --locked -p steeple-agent -p steeple-server -p steeple-bench --bins
    local binaries="${CARGO_TARGET_DIR:-$PWD/target}/release"
    "$binaries/steeple-bench" --bin-dir "$binaries" --output "${BENCH_OUTPUT:-table}"
}

before_quickstart() {
    binaries && engine
}

# As whoever runs this, and where that is root as somebody else too: neither needs to be root.
part_quickstart() {
    need openssl openssl
    deploy/quickstart.sh | tee "$SCRATCH/quickstart"
    if [ -n "${DOCKER_HOST-}" ]; then
        grep -q 'spiffe://example.org/container$' "$SCRATCH/quickstart"
    fi
    if [ "$(id -u)" -eq 0 ]; then
        local copy status=0
        copy=$(mktemp -d /tmp/steeple-checkout.XXXXXX)
        chmod 755 "$copy"
        cp -r deploy "$STEEPLE_BIN_DIR/steeple-server" "$STEEPLE_BIN_DIR/steeple-agent" "$copy"
        setpriv --reuid 65534 --regid 65534 --clear-groups env -u DOCKER_HOST HOME="$copy" \
            STEEPLE_BIN_DIR="$copy" "$copy/deploy/quickstart.sh" || status=$?
        rm -rf "$copy"
        return "$status"
    fi
}

# The lines that test runners close with: cargo's (save for those of no test), pytest's, go's, node's,
# the fuzzer's.
summaries() {
    grep -hE -e '^test result: ' -e '^=+ .*(passed|failed|error).* =+$' \
        -e '^(ok|FAIL)\s+\S+\s+[0-9.]+s' -e '^# (tests|pass|fail) ' -e '^fuzz ' "$@" |
        grep -v '^test result: ok. 0 passed; 0 failed; 0 ignored'
}

# Builds the two binaries as they ship, and says where they are.
binaries() {
    cargo build --locked -p steeple-agent -p steeple-server --bins || return
    export STEEPLE_BIN_DIR="${CARGO_TARGET_DIR:-$PWD/target}/debug"
}

# Finds a Docker engine, or starts one where this is root; exports DOCKER_HOST where one answers.
# What runs in a container is busybox, or else brought by the test: no image comes from a registry.
engine() {
    local what="tests with containers"
    want "$what" busybox busybox-static
    if command -v docker >/dev/null && docker version >/dev/null 2>&1; then
        DOCKER_HOST="${DOCKER_HOST:-$(docker context inspect --format '{{.Endpoints.docker.Host}}')}"
        export DOCKER_HOST
    elif [ "$(id -u)" -ne 0 ]; then
        skip "$what" "no Docker engine answers, and only root can start one"
    elif ! install dockerd docker.io iptables; then
        skip "$what" "the command dockerd is missing, and $(install_refusal)"
    elif ! start_engine; then
        skip "$what" "dockerd did not start, see $LOGS/dockerd.log"
    fi
}

# The engine is as plain as can be: no network, and file copies for layers, which work on every
# file system. Its sockets lie under /tmp because a path of more than 107 bytes is none for a socket.
start_engine() {
    command -v docker >/dev/null || return 1
    ENGINE_RUN=$(mktemp -d /tmp/steeple-engine.XXXXXX)
    ENGINE_DATA="$SCRATCH/docker"
    mkdir -p "$ENGINE_DATA"
    dockerd --host "unix://$ENGINE_RUN/docker.sock" --exec-root "$ENGINE_RUN/exec" \
        --pidfile "$ENGINE_RUN/pid" --data-root "$ENGINE_DATA" --storage-driver vfs \
        --bridge none --iptables=false >"$LOGS/dockerd.log" 2>&1 &
    ENGINE_PID=$!
    for _ in $(seq 150); do
        if DOCKER_HOST="unix://$ENGINE_RUN/docker.sock" docker version >/dev/null 2>&1; then
            export DOCKER_HOST="unix://$ENGINE_RUN/docker.sock"
            echo "Started a Docker engine on $DOCKER_HOST"
            return 0
        fi
        kill -0 "$ENGINE_PID" 2>/dev/null || return 1
        sleep 0.2
    done
    return 1
}

# For a part: COMMAND must be there, from PACKAGE… if need be; else the part is skipped.
need() {
    install "$@" && return 0
    skip "$PART" "the command $1 is missing, and $(install_refusal)"
    exit 0
}

# For a part: WHAT in it wants COMMAND from PACKAGE…; else it is skipped and the part goes on.
want() {
    local what=$1
    shift
    install "$@" || skip "$what" "the command $1 is missing, and $(install_refusal)"
}

# Installs PACKAGE… where COMMAND is missing.
install() {
    local command=$1
    shift
    command -v "$command" >/dev/null && return 0
    packages "$@" || return 1
    command -v "$command" >/dev/null
}

# Installs PACKAGE….
packages() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
    echo "Installing $*"
    if [ ! -e "$SCRATCH/apt-updated" ]; then
        apt-get update -q >>"$LOGS/apt.log" 2>&1 || return 1
        touch "$SCRATCH/apt-updated"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" \
        >>"$LOGS/apt.log" 2>&1
}

install_refusal() {
    if [ "$(id -u)" -ne 0 ]; then
        echo "only root can install it"
    else
        echo "installing it failed, see $LOGS/apt.log"
    fi
}

skip() {
    echo "SKIPPED $1: $2"
    printf '%s: %s\n' "$1" "$2" >>"$SCRATCH/skipped"
}

# Runs one part and notes how it went.
run_part() {
    local status=0 started=$SECONDS
    PART=$1
    printf '\n==> %s\n' "$PART"
    if declare -F "before_$PART" >/dev/null; then
        set +e
        "before_$PART"
        status=$?
        set -e
    fi
    if [ "$status" -eq 0 ]; then
        set +e
        (
            set -e
            "part_$PART"
        ) 2>&1 | tee "$LOGS/$PART.log"
        status=${PIPESTATUS[0]}
        set -e
    fi
    local outcome=ok
    if [ "$status" -ne 0 ]; then
        outcome="FAILED ($status)"
        FAILED=1
    fi
    REPORT+=("$(printf '%-12s %4d s  %s' "$PART" $((SECONDS - started)) "$outcome")")
}

report() {
    printf '\n==> summary\n'
    local part logs=()
    for part in "$@"; do
        [ -e "$LOGS/$part.log" ] && logs+=("$LOGS/$part.log")
    done
    printf '%s\n' "${REPORT[@]}"
    if [ -s "$SCRATCH/skipped" ]; then
        printf 'skipped:\n'
        sed 's/^/  /' "$SCRATCH/skipped"
        if [ "${CI:-}" = true ]; then
            echo "With CI=true a skipped part is a failure."
            FAILED=1
        fi
    fi
    [ "${#logs[@]}" -eq 0 ] || summaries "${logs[@]}" || true
}

stop() {
    if [ -n "${ENGINE_PID:-}" ]; then
        kill "$ENGINE_PID" 2>/dev/null || true
        wait "$ENGINE_PID" 2>/dev/null || true
        # An engine that did not end by itself leaves its data directory mounted.
        umount -q "$ENGINE_DATA" 2>/dev/null || true
        rm -rf "$ENGINE_RUN"
    fi
    rm -rf "$SCRATCH" || echo "tests/run.sh: left behind: $SCRATCH" >&2
}

prerequisites() {
    command -v cargo >/dev/null || {
        echo "tests/run.sh: cargo is missing: install Rust from https://rustup.rs" >&2
        exit 1
    }
    install cc gcc libc6-dev || {
        echo "tests/run.sh: a C compiler is missing, and $(install_refusal)" >&2
        exit 1
    }
}

main() {
    cd "$(dirname "${BASH_SOURCE[0]}")/.."
    LOGS="$PWD/target/run"
    FAILED=0
    REPORT=()
    if [ "${1:-}" = list ]; then
        printf '%s\n' "${PARTS[@]}"
        exit
    fi
    mkdir -p "$LOGS"
    SCRATCH=$(mktemp -d "$PWD/target/run/scratch.XXXXXX")
    export SCRATCH
    trap stop EXIT
    prerequisites
    if [ "${1:-}" = exec ]; then
        shift
        binaries
        engine
        "$@"
        exit
    fi

    local chosen=("$@") part
    [ "$#" -gt 0 ] || chosen=("${PARTS[@]}")
    for part in "${chosen[@]}"; do
        declare -F "part_$part" >/dev/null || {
            echo "tests/run.sh: no part is called $part; there are: ${PARTS[*]}" >&2
            exit 2
        }
    done
    for part in "${chosen[@]}"; do
        run_part "$part"
    done
    report "${chosen[@]}"
    exit "$FAILED"
}

main "$@"
