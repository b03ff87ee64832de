#!/usr/bin/env bash
# See Steeple work: builds it, starts a server and an agent in a directory of their own, registers
# a process, and fetches and checks what it is given.
#
#   deploy/quickstart.sh            everything, and clean up afterwards
#   deploy/quickstart.sh --keep     leave server and agent running, and say how to stop them
#
# It needs git's checkout, a C compiler, cargo and openssl; no root. The container example runs
# where a Docker engine answers. STEEPLE_BIN_DIR names a directory with binaries that are built
# already.

set -euo pipefail
cd "$(dirname "$0")/.."

keep=''
case "${1-}" in
    '') ;;
    --keep) keep=yes ;;
    *)
        sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
        [ "$1" = --help ] && exit 0
        exit 2
        ;;
esac

bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi
step_name='' step_start=''

step() {
    step_name=$1 step_start=$(date +%s%N)
    printf '\n%s==> %s%s\n' "$bold" "$step_name" "$plain"
}

took() {
    printf '    (%d ms)\n' $((($(date +%s%N) - step_start) / 1000000))
}

show() {
    printf '    $ %s\n' "$*"
    "$@" 2>&1 | sed 's/^/    /'
}

fail() {
    printf '\n%sFailed: %s%s\n' "$bold" "$step_name" "$plain" >&2
    for log in "$dir"/*.log; do
        [ -s "$log" ] || continue
        printf -- '--- the last lines of %s\n' "$log" >&2
        tail -n 15 "$log" >&2
    done
}

# Waits until a command succeeds, 20 seconds at the most.
until_it_is() {
    local deadline=$((SECONDS + 20))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || { "$@"; return 1; }
        sleep 0.05
    done
}

# The path of a Unix socket has 107 bytes at the most, so this stays short whatever TMPDIR says.
dir=$(mktemp -d /tmp/steeple.XXXXXX)
server_pid='' agent_pid=''
cleanup() {
    local status=$?
    [ "$status" -eq 0 ] || fail
    if [ -n "$keep" ] && [ "$status" -eq 0 ]; then return; fi
    # shellcheck disable=SC2086 # a missing one is no word at all
    [ -z "$server_pid$agent_pid" ] || kill $agent_pid $server_pid 2>/dev/null || true
    wait 2>/dev/null || true
    [ -z "${image-}" ] || docker rmi -f "$image" >/dev/null 2>&1 || true
    rm -rf "$dir"
}
trap cleanup EXIT

step "Build server and agent"
if [ -z "${STEEPLE_BIN_DIR-}" ]; then
    cargo build --release --locked -p steeple-server -p steeple-agent
    STEEPLE_BIN_DIR="${CARGO_TARGET_DIR:-$PWD/target}/release"
fi
took
# The paths of the programs are part of what is registered, so they are where nothing else is.
mkdir "$dir/bin"
cp "$STEEPLE_BIN_DIR/steeple-server" "$STEEPLE_BIN_DIR/steeple-agent" "$dir/bin/"
PATH=$dir/bin:$PATH
export STEEPLE_SERVER_SOCKET=$dir/server/admin/api.sock
export SPIFFE_ENDPOINT_SOCKET=unix://$dir/agent/api.sock

step "Start a server of the trust domain example.org"
mkdir "$dir/server" "$dir/agent"
cat > "$dir/server.toml" <<TOML
trust_domain = "example.org"
data_dir = "$dir/server"
socket_path = "$STEEPLE_SERVER_SOCKET"
bind_address = "127.0.0.1"
# Any port that is free.
bind_port = 0
TOML
steeple-server run --config "$dir/server.toml" 2> "$dir/server.log" &
server_pid=$!
until_it_is steeple-server healthcheck
port=$(sed -n 's/.*Starting Server APIs.*address=[^ ]*:\([0-9]*\).*/\1/p' "$dir/server.log" | head -n 1)
show steeple-server healthcheck
took

step "Start an agent, which joins with a token that is good for one use"
steeple-server bundle show > "$dir/bundle.pem"
token=$(steeple-server token generate --ttl 60 2>/dev/null | sed -n 's/^Token: //p')
cat > "$dir/agent.toml" <<TOML
server = "127.0.0.1:$port"
trust_domain = "example.org"
trust_bundle = "$dir/bundle.pem"
join_token = "$token"
data_dir = "$dir/agent-data"
socket_path = "$dir/agent/api.sock"
# What is registered here is known to the agent a second later, rather than five.
sync_interval = "1s"
TOML
# Where the engine is not at the usual place, as a rootless one, the agent is told so.
case "${DOCKER_HOST-}" in
    unix://*)
        cat >> "$dir/agent.toml" <<TOML
[[workload_attestor]]
type = "unix"
[[workload_attestor]]
type = "docker"
socket_path = "${DOCKER_HOST#unix://}"
TOML
        ;;
esac
steeple-agent run --config "$dir/agent.toml" 2> "$dir/agent.log" &
agent_pid=$!
until_it_is steeple-agent healthcheck
show steeple-server agent list
took

step "Register a workload: whoever runs $dir/bin/steeple-agent as user $(id -u)"
agent_id="spiffe://example.org/spire/agent/join_token/$token"
show steeple-server entry create --spiffe-id spiffe://example.org/quickstart \
    --parent-id "$agent_id" --selector "unix:uid:$(id -u)" \
    --selector "unix:path:$dir/bin/steeple-agent"
took

step "Fetch its X.509-SVID, as any SPIFFE client would"
until_it_is steeple-agent api fetch x509 --silent
show steeple-agent api fetch x509 --write "$dir"
took

step "Check the chain with openssl"
show openssl verify -CAfile "$dir/bundle.0.pem" -untrusted "$dir/svid.0.pem" "$dir/svid.0.pem"
show openssl x509 -in "$dir/svid.0.pem" -noout -ext subjectAltName,extendedKeyUsage
took

step "Fetch a JWT-SVID for the audience 'billing', and validate it"
jwt=$(steeple-agent api fetch jwt --audience billing | sed -n '/^token/{n;s/^\t//p;}')
printf '    %.60s…\n' "$jwt"
printf '    $ steeple-agent api validate jwt --audience billing --svid …\n'
steeple-agent api validate jwt --audience billing --svid "$jwt" | sed 's/^/    /'
took

step "The same program at another path is somebody else, and refused"
cp "$dir/bin/steeple-agent" "$dir/impostor"
if "$dir/impostor" api fetch x509 > "$dir/impostor.out" 2>&1; then
    cat "$dir/impostor.out"
    exit 1
fi
sed 's/^/    /' "$dir/impostor.out"
printf '    The agent says:\n'
grep 'No identity issued' "$dir/agent.log" | tail -n 1 | sed 's/^/    /'
took

step "A container, known by its label"
# An image with nothing in it but the agent's program and the libraries it is linked with.
container_image() {
    local root=$dir/image
    mkdir -p "$root"
    cp "$dir/bin/steeple-agent" "$root/"
    ldd "$dir/bin/steeple-agent" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$root$(dirname "$library")"
        cp -L "$library" "$root$library"
    done
    image=steeple-quickstart-$$
    tar -C "$root" -c . | docker import - "$image" >/dev/null
}
if ! command -v docker >/dev/null || ! docker version >/dev/null 2>&1; then
    printf '    Skipped: no Docker engine answers here.\n'
else
    container_image
    show steeple-server entry create --spiffe-id spiffe://example.org/container \
        --parent-id "$agent_id" --selector docker:label:app:quickstart
    in_container=(docker run --rm --network none --label app=quickstart
        --volume "$dir/agent:/run/steeple" "$image"
        /steeple-agent api fetch x509 --socket /run/steeple/api.sock)
    until_it_is "${in_container[@]}" --silent
    show "${in_container[@]}"
fi
took

cat <<TEXT

${bold}What to try next${plain}
  deploy/quickstart.sh --keep     leave it running, and use it by hand:
    steeple-server entry show                        who may have what
    steeple-agent api watch                          SVIDs, and how they are renewed
    steeple-server agent ban --spiffe-id <AGENT ID>  refuse a node from now on
    tail -f <DIRECTORY>/server/audit.jsonl           every mint: the intent, and the result
  deploy/server.toml, deploy/agent.toml              every setting, explained
  deploy/systemd/                                    units that run both for real
TEXT
if [ -n "$keep" ]; then
    cat <<TEXT

Server ($server_pid) and agent ($agent_pid) go on running in $dir. For this shell:
  export PATH=$dir/bin:\$PATH
  export STEEPLE_SERVER_SOCKET=$STEEPLE_SERVER_SOCKET
  export SPIFFE_ENDPOINT_SOCKET=$SPIFFE_ENDPOINT_SOCKET
To stop them: kill $agent_pid $server_pid; rm -r $dir
TEXT
fi
