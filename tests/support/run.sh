#!/bin/bash
# A local service to try things on: a Redis Cluster and NODES nodes of sessiond, on loopback.
#
#   tests/support/run.sh check   say whether `up` could start: ports that are in use, what runs already
#   tests/support/run.sh up      start them, stay in the foreground; Ctrl-C stops sessiond, Redis goes on
#   tests/support/run.sh down    stop whatever `up` started, Redis too, and say what that was
#
# BUILD       build directory (build); everything lives in $BUILD/run
# NODES       how many nodes of sessiond (1)
# PORT        node 1 listens here, its operations listener one above; node 2 two above, and so on (8080)
# REDIS_PORT  first port of the Redis Cluster (7001, or what it used last)
#
# Keys, service keys and data are made once and kept. $BUILD/run/env has the shell variables to talk
# to it. A node's log is in $BUILD/run/node-N.log; its errors are shown as well.
set -euo pipefail

cd "$(dirname "$0")/../.."
run=$(realpath -m "${BUILD:-build}/run")
daemon=$(realpath -m "${SESSIOND_BINARY:-${BUILD:-build}/sessiond}")
readonly run daemon nodes=${NODES:-1} port=${PORT:-8080}
export DIR=$run/redis
declare -A nodes_by_pid=()

fail()
{
    echo "run.sh: $*" >&2
    exit 1
}

say() { echo "$(date -u +%FT%TZ) $*"; }

listen_port() { echo $((port + 2 * ($1 - 1))); }
near() { realpath --relative-base="$PWD" "$1"; }
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
script_pid() { living_pid "$run/run.pid" "tests/support/run.sh up"; }

# The numbers of the nodes that run, a line each.
running_nodes()
{
    local file node
    for file in "$run"/node-*.pid; do
        node=${file##*/node-}
        if node_pid "${node%.pid}" >/dev/null; then echo "${node%.pid}"; fi
    done
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
                fail "port $taken of node $i is in use; choose others with PORT=... (now $port)"
            fi
        done
    done
    tests/support/redis_cluster.sh check
}

# What can be known before anything is built.
check()
{
    check_arguments
    if script_pid >/dev/null || [[ -n $(running_nodes) ]]; then
        fail "it runs already; make stop ends it"
    fi
    check_ports
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

# A key file that an older version made has no signing key: it gets one under an unused number.
add_signing_key()
{
    local number=2
    if [[ ! -s $run/keys ]] || grep -q '^sign ' "$run/keys"; then return; fi
    while grep -qE "^(key|sign) $number " "$run/keys"; do number=$((number + 1)); done
    printf 'sign %s %s\n' "$number" "$(od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n')" >>"$run/keys"
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

[oauth]
issuer = http://127.0.0.1:$(listen_port 1)

[audience:demo]
ttl = 30s

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

# The log goes to a file; shown are errors, what ends them, and words that are not sessiond's own
# (a sanitizer's, the loader's). Ctrl-C must not end this: the node still has things to say while it
# stops.
keep_log()
{
    trap '' INT TERM HUP
    tee -a "$run/node-$1.log" |
        sed -un -e '/^[^ ]* error /b show' -e '/^[^ ]* info \(store_node_up\|config_reloaded\) /b show' \
            -e '/^[^ ]* \(debug\|info\|warning\) /d' -e ':show' -e "s/^/node-$1: /p" >&2
}

# A session of its own keeps Ctrl-C from the node: it gets one signal, from here, since a second one
# would cut its drain short.
start_node()
{
    setsid "$daemon" --config "$run/node-$1.conf" 2> >(keep_log "$1") &
    nodes_by_pid[$!]=$1
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
    local pids=("${!nodes_by_pid[@]}")
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
    say "sessiond has stopped; make stop ends Redis, too"
    trap - EXIT
    exit 0
}

# How a process ended, by what `wait` returns.
describe_end()
{
    if (($1 > 128)); then echo "killed by SIG$(kill -l $(($1 - 128)))"; else echo "exit status $1"; fi
}

# Until no node is left.
watch_nodes()
{
    local status ended node
    while ((${#nodes_by_pid[@]} > 0)); do
        status=0 ended=''
        wait -n -p ended "${!nodes_by_pid[@]}" || status=$?
        [[ -n $ended ]] || continue
        node=${nodes_by_pid[$ended]}
        unset "nodes_by_pid[$ended]"
        rm -f "$run/node-$node.pid"
        say "node-$node has ended ($(describe_end "$status")), see $(near "$run/node-$node.log");" \
            "${#nodes_by_pid[@]} of $nodes go on" >&2
    done
}

up()
{
    local i
    check
    [[ -x $daemon ]] || fail "$daemon is missing; run make first"
    mkdir -p "$run/secrets"
    rm -f "$run/env"
    echo $$ >"$run/run.pid"
    trap stop_nodes EXIT
    trap interrupted INT TERM HUP

    tests/support/redis_cluster.sh up
    redis_nodes=$(tests/support/redis_cluster.sh nodes)
    make_service_key admin "login validate manage policy introspect ops" "*"
    make_service_key service "login validate manage" default
    add_signing_key
    for ((i = 1; i <= nodes; i++)); do
        write_config "$i"
        start_node "$i"
        # The first node makes the key file that all share.
        wait_ready "$i"
        say "node-$i is ready: http://127.0.0.1:$(listen_port "$i")," \
            "operations http://127.0.0.1:$(ops_port "$i"), log $(near "$run/node-$i.log")"
    done
    write_env
    cat <<HINT

In another shell:  . $(near "$run/env")
    curl -s -H "Authorization: Bearer \$SESSIOND_SERVICE_KEY" -d '{"user_id":"alice"}' \\
        -H 'Content-Type: application/json' \$SESSIOND_URL/v1/login
Ctrl-C stops sessiond; make stop ends Redis, too.

HINT
    watch_nodes
    fail "no node is left"
}

# A process that has ended, but that nobody has waited for, has no command line left.
lives() { [[ -n $(tr -d '\0' 2>/dev/null <"/proc/$1/cmdline") ]]; }

# Ends a process and waits for it; a second argument says how many seconds.
end_process()
{
    local end=$((SECONDS + $2))
    kill -TERM "$1" 2>/dev/null || return 0
    kill -CONT "$1" 2>/dev/null || true
    while lives "$1"; do
        if ((SECONDS >= end)); then fail "process $1 does not stop"; fi
        sleep 0.05
    done
}

down()
{
    local pid node redis found
    found=$(running_nodes)
    if pid=$(script_pid); then end_process "$pid" 40; fi
    for node in $found; do
        # One whose run.sh was killed.
        if pid=$(node_pid "$node"); then end_process "$pid" 30; fi
        say "node-$node has stopped"
    done
    rm -f "$run"/node-*.pid "$run/run.pid"
    redis=$(tests/support/redis_cluster.sh down)
    if [[ -n $redis ]]; then say "$redis"; fi
    if [[ -z $found$redis ]]; then echo "nothing was running in $(near "$run")"; fi
}

umask 077
case ${1:-} in
check) check ;;
up) up ;;
down) down ;;
*) fail "usage: [NODES=...] [PORT=...] [REDIS_PORT=...] tests/support/run.sh check|up|down" ;;
esac
