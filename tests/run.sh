#!/bin/bash
# A local service to try things on: a Redis Cluster and NODES nodes of sessiond, on loopback.
#
#   tests/run.sh up      start them, stay in the foreground; Ctrl-C stops sessiond, Redis goes on
#   tests/run.sh down    stop whatever `up` started, Redis too
#
# BUILD       build directory (build); everything lives in $BUILD/run
# NODES       how many nodes of sessiond (1)
# PORT        node 1 listens here, its operations listener one above; node 2 two above, and so on (8080)
# REDIS_PORT  first port of the Redis Cluster (7001, or what it used last)
#
# Keys, service keys and data are made once and kept. $BUILD/run/env has the shell variables to talk
# to it.
set -euo pipefail

cd "$(dirname "$0")/.."
run=$(realpath -m "${BUILD:-build}/run")
daemon=$(realpath -m "${SESSIOND_BINARY:-${BUILD:-build}/sessiond}")
readonly run daemon nodes=${NODES:-1} port=${PORT:-8080}
export DIR=$run/redis
pids=()

fail()
{
    echo "run.sh: $*" >&2
    exit 1
}

listen_port() { echo $((port + 2 * ($1 - 1))); }
ops_port() { echo $(($(listen_port "$1") + 1)); }

# Prints the pid in a file if that process still has the given text in its command line.
living_pid()
{
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ ]] || return 1
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$2" || return 1
    echo "$pid"
}

# Pid files of what runs now, each with the text its command line must hold.
node_pid() { living_pid "$run/node-$1.pid" "$run/node-$1.conf"; }
script_pid() { living_pid "$run/run.pid" "tests/run.sh up"; }

any_node()
{
    local file node
    for file in "$run"/node-*.pid; do
        node=${file##*/node-}
        if node_pid "${node%.pid}" >/dev/null; then return 0; fi
    done
    return 1
}

check_arguments()
{
    [[ $nodes =~ ^[1-9][0-9]?$ ]] || fail "NODES=$nodes: a number from 1 to 99 is needed"
    if [[ ! $port =~ ^[0-9]+$ ]] || ((port < 1 || $(ops_port "$nodes") > 65535)); then
        fail "PORT=$port is no port, or leaves no room for $nodes nodes"
    fi
}

check_ports()
{
    local i taken
    for ((i = 1; i <= nodes; i++)); do
        for taken in "$(listen_port "$i")" "$(ops_port "$i")"; do
            if (exec 3<>"/dev/tcp/127.0.0.1/$taken") 2>/dev/null; then
                fail "port $taken is in use; choose others with PORT=... (now $port)"
            fi
        done
    done
}

# A service key and the stanza of the configuration that admits it, made once.
make_service_key()
{
    local name=$1 scopes=$2 tenant=$3 text
    if [[ -s $run/secrets/$name.key && -s $run/secrets/$name.stanza ]]; then return; fi
    text=$("$daemon" keygen --name "$name" --scopes "$scopes" --tenant "$tenant") ||
        fail "sessiond keygen failed"
    grep -oE 'sk_[A-Za-z0-9_-]+' <<<"$text" | head -n 1 >"$run/secrets/$name.key"
    sed -n '/^\[key:/,$p' <<<"$text" | grep -v 'sk_' >"$run/secrets/$name.stanza"
    [[ -s $run/secrets/$name.key && -s $run/secrets/$name.stanza ]] ||
        fail "cannot read what sessiond keygen printed"
}

write_config()
{
    cat >"$run/node-$1.conf" <<CONF
[server]
listen = 127.0.0.1:$(listen_port "$1")
ops_listen = 127.0.0.1:$(ops_port "$1")
node_name = node-$1

[redis]
nodes = $redis_nodes

[keys]
file = $run/keys

[audit]
file = $run/audit-$1.log

[journal]
file = $run/journal-$1

[alerts]
file = $run/alerts-$1

[cache]
snapshot = $run/cache-$1

$(cat "$run/secrets/admin.stanza")

$(cat "$run/secrets/service.stanza")
CONF
}

shell_variable() { printf "%s='%s'\n" "$1" "${2//\'/\'\\\'\'}"; }

write_env()
{
    local i
    {
        shell_variable SESSIOND_URL "http://127.0.0.1:$(listen_port 1)"
        shell_variable SESSIOND_OPS_URL "http://127.0.0.1:$(ops_port 1)"
        if ((nodes > 1)); then
            for ((i = 1; i <= nodes; i++)); do
                shell_variable "SESSIOND_URL_$i" "http://127.0.0.1:$(listen_port "$i")"
                shell_variable "SESSIOND_OPS_URL_$i" "http://127.0.0.1:$(ops_port "$i")"
                shell_variable "SESSIOND_AUDIT_$i" "$run/audit-$i.log"
            done
        fi
        shell_variable SESSIOND_ADMIN_KEY "$(cat "$run/secrets/admin.key")"
        shell_variable SESSIOND_SERVICE_KEY "$(cat "$run/secrets/service.key")"
        shell_variable SESSIOND_AUDIT "$run/audit-1.log"
        shell_variable REDIS_NODES "$redis_nodes"
    } >"$run/env.new"
    mv "$run/env.new" "$run/env"
}

# A session of its own keeps Ctrl-C from the node: it gets one signal, from here, since a second one
# would cut its drain short. The log goes to the terminal and to a file; tee -i, since Ctrl-C does
# reach it and the node still has things to say while it stops.
start_node()
{
    setsid "$daemon" --config "$run/node-$1.conf" 2> >(exec tee -ia "$run/node-$1.log" >&2) &
    pids+=($!)
    echo $! >"$run/node-$1.pid"
}

wait_ready()
{
    local end=$((SECONDS + 30))
    until curl -sf -o /dev/null --max-time 2 "http://127.0.0.1:$(ops_port "$1")/readyz"; do
        if ! node_pid "$1" >/dev/null; then fail "node $1 has ended, see $run/node-$1.log"; fi
        if ((SECONDS >= end)); then fail "node $1 is not ready after 30 s, see $run/node-$1.log"; fi
        sleep 0.05
    done
}

# Stops the nodes and waits: they finish what runs, at most drain_timeout (20 s).
stop_nodes()
{
    trap '' INT TERM HUP
    if ((${#pids[@]} > 0)); then
        kill -TERM "${pids[@]}" 2>/dev/null || true
        wait "${pids[@]}" || true
    fi
    rm -f "$run"/node-*.pid "$run/run.pid"
}

# Ctrl-C, SIGTERM or `make stop`: nothing went wrong.
interrupted()
{
    stop_nodes
    trap - EXIT
    exit 0
}

up()
{
    local i
    check_arguments
    [[ -x $daemon ]] || fail "$daemon is missing; run make first"
    umask 077
    mkdir -p "$run/secrets"
    if script_pid >/dev/null || any_node; then fail "it runs already; make stop ends it"; fi
    check_ports
    rm -f "$run/env"
    echo $$ >"$run/run.pid"
    trap stop_nodes EXIT
    trap interrupted INT TERM HUP

    tests/redis_cluster.sh up
    redis_nodes=$(tests/redis_cluster.sh nodes)
    make_service_key admin "login validate manage policy introspect ops" "*"
    make_service_key service "login validate manage" default
    for ((i = 1; i <= nodes; i++)); do
        write_config "$i"
        start_node "$i"
        # The first node makes the key file that all share.
        wait_ready "$i"
    done
    write_env
    cat <<HINT

sessiond is ready: $nodes node(s), the first on http://127.0.0.1:$(listen_port 1)
In another shell:  . ${run#"$PWD"/}/env
    curl -s -H "Authorization: Bearer \$SESSIOND_SERVICE_KEY" -d '{"user_id":"alice"}' \\
        -H 'Content-Type: application/json' \$SESSIOND_URL/v1/login
Ctrl-C stops it; make stop ends Redis too.

HINT
    wait -n "${pids[@]}" || true
    fail "a node has ended; stopping the rest"
}

# Ends a process and waits for it; a second argument says how many seconds.
end_process()
{
    local end=$((SECONDS + $2))
    kill -TERM "$1" 2>/dev/null || return 0
    kill -CONT "$1" 2>/dev/null || true
    while kill -0 "$1" 2>/dev/null; do
        if ((SECONDS >= end)); then fail "process $1 does not stop"; fi
        sleep 0.05
    done
}

down()
{
    local file pid node
    if pid=$(script_pid); then end_process "$pid" 40; fi
    # Nodes whose run.sh was killed.
    for file in "$run"/node-*.pid; do
        node=${file##*/node-}
        if pid=$(node_pid "${node%.pid}"); then end_process "$pid" 30; fi
        rm -f "$file"
    done
    tests/redis_cluster.sh down
}

case ${1:-} in
up) up ;;
down) down ;;
*) fail "usage: [NODES=...] [PORT=...] [REDIS_PORT=...] tests/run.sh up|down" ;;
esac
