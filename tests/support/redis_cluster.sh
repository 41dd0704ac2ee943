#!/bin/bash
# A Redis Cluster of 3 masters and 3 replicas on loopback, with the settings of conf/redis.conf.
#
#   tests/support/redis_cluster.sh check    say which port is in use that `up` would need
#   tests/support/redis_cluster.sh up       start it (create it the first time) and wait until it is whole
#   tests/support/redis_cluster.sh down     stop it; its data stays
#   tests/support/redis_cluster.sh status   a line a node; success if the cluster is whole
#   tests/support/redis_cluster.sh nodes    host:port of every node, on one line
#
# DIR         where it lives (build/run/redis); every directory is a cluster of its own
# REDIS_PORT  first of its six ports (7001, or what the cluster in DIR used last); each node also
#             takes port + 10000 for the cluster bus
# ANNOUNCE    first of six ports that the nodes announce instead of their own: those of proxies
#             before them, which clients and replicas then go through; only for a new DIR
#
# `up` on a running cluster starts what is missing: nodes that were killed come back with their
# data. Waiting is bounded. Only processes that run in DIR are ever signalled.
set -euo pipefail

readonly nodes=6 wait_seconds=40
readonly root=${BASH_SOURCE[0]%/*}/../..
dir=${DIR:-$root/build/run/redis}
config=$(realpath "$root/conf/redis.conf")

fail()
{
    echo "redis_cluster.sh: $*" >&2
    exit 1
}

node_dir() { echo "$dir/node-$1"; }
node_port() { echo $((base_port + $1 - 1)); }

# The node's process id if it runs: what the pid file names must be a Redis that works in the
# node's directory.
node_pid()
{
    local pid
    pid=$(cat "$(node_dir "$1")/redis.pid" 2>/dev/null) || return 1
    [[ $pid =~ ^[0-9]+$ && $(cat "/proc/$pid/comm" 2>/dev/null) == redis-server ]] || return 1
    [[ $(readlink "/proc/$pid/cwd") == "$(node_dir "$1")" ]] || return 1
    echo "$pid"
}

any_running()
{
    local i
    for ((i = 1; i <= nodes; i++)); do
        if node_pid "$i" >/dev/null; then return 0; fi
    done
    return 1
}

ask() { timeout 2 redis-cli -h 127.0.0.1 -p "$(node_port "$1")" "${@:2}" 2>/dev/null; }

# Repeats a command every 0.1 s until it succeeds.
wait_for()
{
    local end=$((SECONDS + wait_seconds))
    until "$@"; do
        if ((SECONDS >= end)); then return 1; fi
        sleep 0.1
    done
}

# The cluster in DIR keeps its ports unless REDIS_PORT says otherwise.
choose_ports()
{
    local kept
    kept=$(cat "$dir/port" 2>/dev/null || true)
    base_port=${REDIS_PORT:-${kept:-7001}}
    if [[ ! $base_port =~ ^[0-9]+$ ]] || ((base_port < 1024 || base_port + nodes + 10000 > 65536)); then
        fail "REDIS_PORT=$base_port: a number from 1024 to 55529 is needed"
    fi
    if [[ -n $kept && $kept != "$base_port" ]]; then
        if any_running; then
            fail "the cluster in $dir runs on ports from $kept; stop it first, or choose another DIR"
        fi
        if [[ $1 == move ]]; then move_ports "$kept"; fi
    fi
}

# Nodes find each other by the addresses in their nodes.conf.
move_ports()
{
    local i j old new script=''
    for ((j = 0; j < nodes; j++)); do
        old=$(($1 + j)) new=$((base_port + j))
        script+="s/127\\.0\\.0\\.1:$old@$((old + 10000))/127.0.0.1:=$new@$((new + 10000))/;"
    done
    for ((i = 1; i <= nodes; i++)); do
        if [[ -f $(node_dir "$i")/nodes.conf ]]; then
            sed -i "$script s/127\\.0\\.0\\.1:=/127.0.0.1:/" "$(node_dir "$i")/nodes.conf"
        fi
    done
}

port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

check_ports()
{
    local port
    for port in "$(node_port "$1")" $(($(node_port "$1") + 10000)); do
        if port_taken "$port"; then
            fail "port $port of Redis is in use; choose others with REDIS_PORT=... (now $base_port; six ports, and those + 10000)"
        fi
    done
}

# Ports that are needed for the nodes that do not run.
check_missing()
{
    local i
    for ((i = 1; i <= nodes; i++)); do
        if ! node_pid "$i" >/dev/null; then check_ports "$i"; fi
    done
}

start_node()
{
    local here port announced=()
    here=$(node_dir "$1") port=$(node_port "$1")
    mkdir -p "$here"
    if [[ -n ${ANNOUNCE:-} ]]; then
        announced=(--cluster-announce-port $((ANNOUNCE + $1 - 1))
            --cluster-announce-bus-port $((port + 10000)))
    fi
    # Masters ping replicas each second, so that these are soon seen. At rest nobody has to catch up, so a node
    # need not wait for its replicas when it stops.
    redis-server "$config" --port "$port" --dir "$here" --daemonize yes --pidfile "$here/redis.pid" \
        --logfile "$here/redis.log" --shutdown-timeout 0 --repl-ping-replica-period 1 "${announced[@]}" >/dev/null 9>&- ||
        fail "node $1 did not start: $(tail -n 3 "$here/redis.log" 2>/dev/null)"
}

answers() { [[ $(ask "$1" ping) =~ ^(PONG|LOADING) ]]; }

create()
{
    local i addresses=()
    for ((i = 1; i <= nodes; i++)); do addresses+=("127.0.0.1:$(node_port "$i")"); done
    timeout "$wait_seconds" redis-cli --cluster create "${addresses[@]}" --cluster-replicas 1 \
        --cluster-yes >"$dir/create.log" || fail "the cluster could not be created, see $dir/create.log"
    touch "$dir/created"
}

# True if the node sees a whole cluster, its replicas too (CLUSTER SLOTS leaves out those that have received
# nothing yet), and, as a replica, has its master's data.
node_ready()
{
    local state role seen
    state=$(ask "$1" cluster info | tr -d '\r') || return 1
    role=$(ask "$1" info replication | tr -d '\r') || return 1
    grep -qx 'cluster_state:ok' <<<"$state" && grep -qx 'cluster_slots_ok:16384' <<<"$state" &&
        grep -qx "cluster_known_nodes:$nodes" <<<"$state" || return 1
    seen=$(ask "$1" cluster slots | grep -xE '[0-9a-f]{40}' | sort -u | wc -l)
    ((seen == nodes)) || return 1
    if grep -qx 'role:slave' <<<"$role"; then
        grep -qx 'master_link_status:up' <<<"$role"
    fi
}

whole()
{
    local i
    for ((i = 1; i <= nodes; i++)); do node_ready "$i" || return 1; done
}

up()
{
    local i missing=()
    choose_ports move
    # A creation that was cut off is begun again.
    if [[ ! -e $dir/created ]]; then
        stop_all || true
        rm -rf "$dir"/node-*
    fi
    for ((i = 1; i <= nodes; i++)); do
        if ! node_pid "$i" >/dev/null; then missing+=("$i") && check_ports "$i"; fi
    done
    echo "$base_port" >"$dir/port"
    for i in "${missing[@]}"; do start_node "$i"; done
    for ((i = 1; i <= nodes; i++)); do
        wait_for answers "$i" || fail "node $i does not answer, see $(node_dir "$i")/redis.log"
    done
    if [[ ! -e $dir/created ]]; then create; fi
    wait_for whole || fail "the cluster is not whole after $wait_seconds s:"$'\n'"$(status)"
    echo "Redis Cluster on 127.0.0.1:$base_port..$((base_port + nodes - 1)) ($dir)"
}

all_stopped() { ! any_running; }

# False if there was nothing to stop.
stop_all()
{
    local i pid pids=()
    for ((i = 1; i <= nodes; i++)); do
        if pid=$(node_pid "$i"); then pids+=("$pid"); fi
    done
    if ((${#pids[@]} == 0)); then return 1; fi
    # A frozen process (SIGSTOP) takes SIGTERM only when it goes on.
    kill -TERM "${pids[@]}" 2>/dev/null || true
    kill -CONT "${pids[@]}" 2>/dev/null || true
    wait_for all_stopped || fail "these nodes do not stop: ${pids[*]}"
}

status()
{
    local i pid result=0
    for ((i = 1; i <= nodes; i++)); do
        pid=$(node_pid "$i") || pid=''
        if [[ -z $pid ]]; then
            echo "127.0.0.1:$(node_port "$i") down"
        else
            echo "127.0.0.1:$(node_port "$i") pid $pid $(ask "$i" info replication |
                grep -E '^(role|master_link_status):' | cut -d: -f2 | tr -d '\r' | tr '\n' ' ')$(
                    ask "$i" cluster info | grep -E '^cluster_state' | tr -d '\r')"
        fi
        if [[ -z $pid ]] || ! node_ready "$i"; then result=1; fi
    done
    return $result
}

mkdir -p "$dir"
dir=$(realpath "$dir")
exec 9>"$dir/lock"
flock -w 120 9 || fail "another redis_cluster.sh works in $dir"

case ${1:-} in
check)
    choose_ports keep
    check_missing
    ;;
up) up ;;
down)
    choose_ports keep
    if stop_all; then
        echo "Redis Cluster on 127.0.0.1:$base_port..$((base_port + nodes - 1)) has stopped; its data stays in $dir"
    fi
    ;;
status)
    choose_ports keep
    status
    ;;
nodes)
    choose_ports keep
    for ((n = 1; n <= nodes; n++)); do printf '%s127.0.0.1:%d' "${sep-}" "$(node_port "$n")" && sep=' '; done
    echo
    ;;
*) fail "usage: [DIR=...] [REDIS_PORT=...] $0 check|up|down|status|nodes" ;;
esac
