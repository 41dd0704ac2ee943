"""The nemesis of a chaos run: faults of the Redis cluster, its links, and the nodes of sessiond.

The schedule is drawn from a seed before anything happens: two lanes, one of Redis and its links,
one of the nodes of sessiond, each a sequence of pauses and faults with parameters of their own. The
same seed gives the same schedule; how far a run gets in it depends on how fast things heal. Every
fault heals what it did before the next one of its lane begins.

A fault of a link hits the data connections, the watches, or both, of one node of sessiond or of
all, to one master. The announced proxies are shared by all nodes of sessiond; whose connection it
is, is found out by the process that owns its other end."""

import contextlib
import itertools
import os
import pathlib
import random
import resource
import signal
import threading
import time
import types
from typing import NamedTuple, Optional

from client import Redis, RedisError
from faults import freeze, is_gone, pid_in
from history import Fault
from proxy import Proxy
from redis_servers import wait_until

SLOTS_OF_A_SHARD = 16384 / 3
FAULTS = {"redis": {}, "sessiond": {}}      # lane -> name -> function(world, chance)
FAILOVER_SECONDS = 15


def fault(lane, name):
    """A row of the table. The function draws its parameters first, then acts, then heals; it
    yields the target as soon as that is known, before it harms anything."""
    def register(function):
        FAULTS[lane][name] = function
        return function
    return register


def schedule(lane, seed, pauses, only=()):
    """The sequence of (pause, name, seed of the fault's parameters): all kinds in a drawn order,
    then all again in another one, for ever; or `only` some kinds."""
    chance = random.Random(f"{seed}/{lane}")
    allowed = sorted(name for name in FAULTS[lane] if not only or name in only)
    for step in itertools.count() if allowed else ():
        names = list(allowed)
        chance.shuffle(names)
        for name in names:
            yield chance.uniform(*pauses), name, f"{seed}/{lane}/{step}/{name}"


class World:
    """The targets of faults."""

    def __init__(self, cluster, nodes):
        self.cluster, self.nodes = cluster, nodes
        self.in_hand = set()            # numbers of nodes that a fault may have stopped
        for proxy in cluster.proxies.values():
            proxy.fault_for = types.MethodType(fault_for_owner, proxy)

    def master(self, shard):
        """The port of the master of a shard; its last slots never migrate."""
        return self.cluster.owner(int((shard + 1) * SLOTS_OF_A_SHARD) - 2)[0]

    def replica(self, shard):
        return self.cluster.shards()[self.master(shard)][0]

    def pid(self, port):
        return pid_in(self.cluster, port)

    def kill_redis(self, *ports):
        pids = [self.pid(port) for port in ports]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            wait_until(lambda pid=pid: is_gone(pid), 5, f"redis-server {pid} is gone")

    def wait_for_failover(self, shard, before):
        def replaced():
            with contextlib.suppress(AssertionError):
                return self.master(shard) != before
        with contextlib.suppress(AssertionError):
            wait_until(replaced, FAILOVER_SECONDS, "the replica has taken over")

    def mend_redis(self):
        """Undoes all faults of Redis and its links. A cluster that has not come to rest
        by itself is given another turn: starting it again does no harm."""
        for port in self.cluster.ports:
            with contextlib.suppress(OSError, ValueError):
                os.kill(self.pid(port), signal.SIGCONT)
        self.cluster.make_whole(seconds=40)

    @contextlib.contextmanager
    def holding(self, number):
        """The process may end meanwhile without anybody wondering."""
        self.in_hand.add(number)
        try:
            yield self.nodes[number]
        finally:
            self.in_hand.discard(number)

    def start_node(self, node):
        node.spawn(start_new_session=True)
        node.wait_for("/livez", 20)

    def died_by_itself(self):
        """Nodes that ended without being asked to, with the status."""
        return {number: node.process.returncode for number, node in enumerate(self.nodes)
                if number not in self.in_hand and node.process and node.process.poll() is not None}


# --- whose connection it is -----------------------------------------------------------------------
class Whose(NamedTuple):
    """The targets of a fault: connections of a kind, or data and tracking ("all"), never replication; of
    one process, or of all (None)."""
    kind: str
    pid: Optional[int]


def fault_for_owner(proxy, name, connection):
    """Proxy.fault_for that also understands Whose."""
    found = proxy.faults.get(name)
    if not found or not isinstance(found.whom[0], Whose):
        return Proxy.fault_for(proxy, name, connection)
    kind, pid = found.whom[0]
    if kind not in ("all", connection.kind) or connection.kind == "replication":
        return None
    if pid is None:
        return found
    if not hasattr(connection, "owned_by"):
        connection.owned_by = {}
    if pid not in connection.owned_by:
        connection.owned_by[pid] = owns(pid, connection.client)
    return found if connection.owned_by[pid] else None


def owns(pid, end):
    """True if the process has the other end of a loopback connection."""
    try:
        (_, port), (_, local) = end.getpeername(), end.getsockname()
        wanted = (f"0100007F:{port:04X}", f"0100007F:{local:04X}")
        with open(f"/proc/{pid}/net/tcp") as table:
            inode = next((row[9] for row in map(str.split, table) if tuple(row[1:3]) == wanted), None)
        folder = pathlib.Path(f"/proc/{pid}/fd")
        return inode is not None and any(read_link(entry) == f"socket:[{inode}]"
                                         for entry in folder.iterdir())
    except OSError:
        return False


def read_link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


# --- Redis ----------------------------------------------------------------------------------------
@fault("redis", "kill a master")
def kill_master(world, chance):
    shard = chance.randrange(3)
    port = world.master(shard)
    yield f"shard {shard}"
    world.kill_redis(port)
    world.wait_for_failover(shard, port)


@fault("redis", "kill a replica")
def kill_replica(world, chance):
    shard, seconds = chance.randrange(3), chance.uniform(0.5, 4)
    yield f"shard {shard}"
    world.kill_redis(world.replica(shard))
    time.sleep(seconds)


@fault("redis", "freeze a master for a moment")
def freeze_master_shortly(world, chance):
    yield from freeze_master(world, chance.randrange(3), chance.uniform(0.3, 1.5))


@fault("redis", "freeze a master until it is replaced")
def freeze_master_long(world, chance):
    shard = chance.randrange(3)
    port = world.master(shard)
    yield f"shard {shard}"
    freeze(world.pid(port))
    world.wait_for_failover(shard, port)
    time.sleep(chance.uniform(0, 1))
    os.kill(world.pid(port), signal.SIGCONT)


def freeze_master(world, shard, seconds):
    yield f"shard {shard}"
    pid = world.pid(world.master(shard))
    freeze(pid)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


@fault("redis", "freeze a replica")
def freeze_replica(world, chance):
    shard, seconds = chance.randrange(3), chance.uniform(0.5, 3)
    yield f"shard {shard}"
    pid = world.pid(world.replica(shard))
    freeze(pid)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


@fault("redis", "fail over by hand")
def fail_over_by_hand(world, chance):
    shard = chance.randrange(3)
    yield f"shard {shard}"
    before, replica = world.master(shard), world.replica(shard)
    with Redis(replica) as node:
        node.call("CLUSTER", "FAILOVER")
    world.wait_for_failover(shard, before)


@fault("redis", "all masters down")
def all_masters_down(world, chance):
    seconds = chance.uniform(5, 10)
    yield "all shards"
    world.kill_redis(*(world.master(shard) for shard in range(3)))
    time.sleep(seconds)


@fault("redis", "cut replication, then kill the master")
def lose_what_is_not_replicated(world, chance):
    """Only what was answered as `accepted`, and logins and refreshes like it, may be at stake."""
    shard, seconds = chance.randrange(3), chance.uniform(0.5, 2)
    port = world.master(shard)
    yield f"shard {shard}"
    world.cluster.proxies[port].inject("blackhole", "replication")
    time.sleep(seconds)
    world.kill_redis(port)
    world.wait_for_failover(shard, port)


@fault("redis", "migrate slots and bring them back")
def migrate_slots(world, chance):
    shard, target = chance.sample(range(3), 2)
    yield f"shard {shard} to {target}"
    with Redis(world.master(shard)) as source:
        keys = [key for key in source.keys() if b"{" in key]
        slots = {source.call("CLUSTER", "KEYSLOT", key)
                 for key in chance.sample(keys, min(len(keys), 4))}
    for slot in slots - {int((s + 1) * SLOTS_OF_A_SHARD) - 2 for s in range(3)}:
        move_slot(world, slot, world.master(shard), world.master(target), chance.uniform(0, 0.3))
        time.sleep(chance.uniform(0, 0.3))
        move_slot(world, slot, world.master(target), world.master(shard), chance.uniform(0, 0.3))


def move_slot(world, slot, source_port, target_port, pause):
    """Key by key, as redis-cli --cluster reshard does; for `pause` seconds only ASK leads to
    them."""
    with Redis(source_port) as source, Redis(target_port) as target:
        source_id, target_id = (node.call("CLUSTER", "MYID").decode() for node in (source, target))
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 10):
            for key in keys:
                try:
                    source.call("MIGRATE", "127.0.0.1", target_port, key, 0, 2000)
                except RedisError as error:
                    assert "NOKEY" in str(error), error
        time.sleep(pause)
        # The owners first; then the rest, which would learn it anyway.
        for node in (target, source):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", target_id)
    for other in {world.master(shard) for shard in range(3)} - {source_port, target_port}:
        with Redis(other) as node:
            node.call("CLUSTER", "SETSLOT", slot, "NODE", target_id)


@fault("redis", "flush scripts")
def flush_scripts(world, chance):
    yield "all shards"
    for _ in range(chance.randrange(1, 5)):
        world.cluster.each_master(lambda node: node.call("SCRIPT", "FLUSH"))
        time.sleep(0.2)


@fault("redis", "kill connections")
def kill_connections(world, chance):
    shard, kind = chance.randrange(3), chance.choice(("normal", "pubsub"))
    yield f"shard {shard} {kind}"
    for _ in range(chance.randrange(1, 4)):
        with Redis(world.master(shard)) as node:
            node.call("CLIENT", "KILL", "TYPE", kind)
        time.sleep(0.3)


# --- links ----------------------------------------------------------------------------------------
def harm_link(world, chance, name, seconds, **arguments):
    shard, number = chance.randrange(3), chance.choice((None, 0, 1, 2))
    kind, what = chance.choice((("all", "data and watch"), ("watch", "watch"), ("client", "data")))
    pid = None
    if number is not None:
        # The node may be restarting just now; what it opens later is another process's.
        process = world.nodes[number].process
        pid = process.pid if process else 0
    proxy = world.cluster.proxies[world.master(shard)]
    yield f"{what} of {'all nodes' if number is None else f'n{number}'} to shard {shard}"
    proxy.inject(name, (Whose(kind, pid),), **arguments)
    time.sleep(seconds)
    proxy.heal()


@fault("redis", "blackhole a link")
def blackhole_link(world, chance):
    yield from harm_link(world, chance, "blackhole", chance.uniform(0.5, 4))


@fault("redis", "half-open a link")
def half_open_link(world, chance):
    yield from harm_link(world, chance, "half_open", chance.uniform(0.5, 4))


@fault("redis", "cut a link")
def cut_link(world, chance):
    yield from harm_link(world, chance, chance.choice(("cut", "reset")), chance.uniform(0.2, 3))


@fault("redis", "delay a link")
def delay_link(world, chance):
    ms = chance.choice((20, 200, 450, 700))
    yield from harm_link(world, chance, "delay", chance.uniform(0.5, 3), ms=ms, jitter=ms / 4)


@fault("redis", "slice a link")
def slice_link(world, chance):
    yield from harm_link(world, chance, "slice", chance.uniform(0.3, 1), size=7)


@fault("redis", "break replies of a link")
def limit_link(world, chance):
    yield from harm_link(world, chance, "limit", chance.uniform(0.3, 2),
                         size=chance.randrange(1, 4000))


# --- sessiond -------------------------------------------------------------------------------------
@fault("sessiond", "kill -9")
def kill_node(world, chance):
    number, seconds = chance.randrange(3), chance.choice((0, 0.5, 3))
    yield f"node {number}"
    with world.holding(number) as node:
        node.kill()
        time.sleep(seconds)
        world.start_node(node)


@fault("sessiond", "SIGTERM")
def stop_node(world, chance):
    number, seconds = chance.randrange(3), chance.choice((0, 1))
    yield f"node {number}"
    with world.holding(number) as node:
        try:
            node.stop()
            time.sleep(seconds)
        finally:
            world.start_node(node)


@fault("sessiond", "SIGHUP")
def reload_node(world, chance):
    number, times = chance.randrange(3), chance.randrange(1, 10)
    yield f"n{number}"
    for _ in range(times):
        world.nodes[number].signal(signal.SIGHUP)
        time.sleep(0.05)


@fault("sessiond", "SIGSTOP")
def freeze_node(world, chance):
    number, seconds = chance.randrange(3), chance.choice((0.3, 1.1, 3))
    yield f"n{number}"
    pid = world.nodes[number].process.pid
    freeze(pid)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


@fault("sessiond", "full disk")
def fill_disk(world, chance):
    """No file of the process may grow; other processes are not hurt."""
    number, seconds = chance.randrange(3), chance.uniform(0.5, 3)
    room = chance.choice((0, 1000, 20000))
    yield f"n{number}"
    node = world.nodes[number]
    size = node.audit.stat().st_size + room
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    time.sleep(seconds)
    resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE,
                     (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


# --- lanes ----------------------------------------------------------------------------------------
class Lane(threading.Thread):
    """Works through one schedule until it is stopped; then the last fault has healed."""

    def __init__(self, world, lane, steps, report):
        super().__init__(name=f"nemesis {lane}", daemon=True)
        self.world, self.lane, self.report = world, lane, report
        self.steps = steps
        self.stopping = threading.Event()
        self.done, self.errors = [], []

    def run(self):
        for pause, name, seed in self.steps:
            if self.stopping.wait(pause):
                return
            try:
                self.commit(name, random.Random(seed))
            except Exception as error:  # the run goes on, and fails in the end
                self.errors.append(f"{self.lane}: {name}: {error!r}")
                self.report(self.errors[-1])

    def commit(self, name, chance):
        begun, target = time.monotonic(), "?"
        steps = FAULTS[self.lane][name](self.world, chance)
        try:
            target = next(steps)
            begun = time.monotonic()
            for _ in steps:
                pass
        finally:
            if self.lane == "redis":
                self.world.mend_redis()
            self.done.append(Fault(name, target, begun, time.monotonic()))
            self.report(f"{name}: {target}")
