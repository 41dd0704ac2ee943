"""Changes of a Redis Cluster: slots that migrate, failovers by hand."""

import contextlib

from client import Redis, RedisError
from redis_servers import comes_true, wait_until


def go_on(loads, calls=10):
    """Returns when each load has had answers to so many calls more; what is wrong with one ends its thread."""
    before = [load.calls for load in loads]
    wait_until(lambda: all(load.calls >= count + calls or not load.is_alive()
                           for load, count in zip(loads, before)), 20, "the calls go on")


def migrate(cluster, slot, between, half_way=None, added=None):
    """Moves one slot to the next master, key by key, as redis-cli --cluster reshard does; with
    `added` to or from the master at this port, which the cluster's own list does not have.

    It calls between() from step to step, and half_way() instead when the keys have moved but the slot has
    not: then only ASK leads to them."""
    masters = {node.port: node for node in cluster.masters()}
    source_port, source_id = cluster.owner(slot)
    ports = sorted(masters)
    if added:
        masters[added] = Redis(added)
    target_port = (added if added and source_port != added else
                   ports[(ports.index(source_port) + 1) % len(ports)] if source_port in ports
                   else ports[0])
    source, target = masters[source_port], masters[target_port]
    target_id = target.call("CLUSTER", "MYID").decode()
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    between()
    while True:
        keys = source.call("CLUSTER", "GETKEYSINSLOT", slot, 10)
        if not keys:
            break
        for key in keys:
            try:
                source.call("MIGRATE", "127.0.0.1", target_port, key, 0, 2000)
            except RedisError as error:
                assert "NOKEY" in str(error), error
            between()
    (half_way or between)()
    for node in [target, source] + [n for n in masters.values() if n not in (source, target)]:
        node.call("CLUSTER", "SETSLOT", slot, "NODE", target_id)
    for node in masters.values():
        node.close()


def fail_over(port, how=None):
    """Makes a replica the master, by hand, and waits until it is. To ask again begins it again."""
    def is_master():
        with Redis(port) as node:
            return node.info("replication")["role"] == "master"

    def asked():
        with Redis(port) as node, contextlib.suppress(RedisError):
            node.call("CLUSTER", "FAILOVER", *([how] if how else []))
        return comes_true(is_master, 1)
    wait_until(asked, 15, f"{port} has become a master")


@contextlib.contextmanager
def without_failover(cluster):
    """A master may hang for as long as the test wants."""
    def set_timeout(node, milliseconds):
        before = node.call("CONFIG", "GET", "cluster-node-timeout")[1]
        node.call("CONFIG", "SET", "cluster-node-timeout", milliseconds)
        return before
    nodes = [Redis(port) for port in cluster.ports]
    before = [set_timeout(node, 60000) for node in nodes]
    try:
        yield
    finally:
        for node, milliseconds in zip(nodes, before):
            set_timeout(node, milliseconds)
            node.close()
