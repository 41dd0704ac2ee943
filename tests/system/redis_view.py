"""The keys of sessiond in Redis, and the commands that it sends."""

import subprocess

from client import Redis, key_slot
from daemon import BINARY
from redis_servers import wait_until


def printed_names(daemon, *arguments):
    """The words that the daemon's own command prints about keys of the tenant."""
    return subprocess.run([BINARY, "keys", "--config", str(daemon.node.config), *arguments], stdout=subprocess.PIPE,
                          text=True, timeout=30, check=True).stdout.split()


def user_key(daemon, user, tenant="default"):
    return printed_names(daemon, "--tenant", tenant, "--user", user)[0]


def slot_of(daemon, user):
    return key_slot(user_key(daemon, user).encode())


def tenant_slot(daemon):
    return next(key_slot(name.encode()) for name in printed_names(daemon, "--tenant", "default")
                if name.startswith("sd:p:"))


def stored(cluster, daemon, user, tenant="default"):
    """(node to ask, key of the user's hash)."""
    key = user_key(daemon, user, tenant)
    port, _ = cluster.owner(key_slot(key.encode()))
    return Redis(port), key


# Commands of connections and of the control thread without any call: GET is its look whether a master
# serves, calls never send it; and the traffic of tracking connections.
BACKGROUND = ("cluster", "ping", "info", "config", "client", "hello", "auth", "replconf", "command",
              "readonly", "select", "psync", "role", "get", "subscribe", "time")


def commands(cluster):
    return {name: count for name, count in cluster.command_counts().items()
            if not name.startswith(BACKGROUND) and count}


def quiet(cluster, *daemons):
    """Waits until calls in flight, and work that is done after an answer, are over; the commands."""
    def is_over():
        return all(node.metric(name) == 0 for daemon in daemons for node in daemon.nodes
                   for name in ("sessiond_store_pending", "sessiond_journal_unsettled"))
    wait_until(is_over, 10, "nothing is under way")
    return commands(cluster)
