"""M7: slots that migrate, masters that change or freeze, under load of validate, login and kick."""

import collections
import os
import signal
import subprocess
import threading
import time

import pytest

from client import Redis, RedisError, key_slot
from daemon import BINARY, SERVICE, Daemon, unique
from redis_servers import SLOW, Cluster, process_id, wait_until


@pytest.fixture(scope="module")
def own_cluster(workspace):
    servers = Cluster(workspace / "own-cluster")
    try:
        yield servers.start()
    finally:
        servers.stop()


@pytest.fixture(scope="module")
def loaded(workspace, own_cluster):
    # Deadlines are not stretched for slow builds: Redis' own times are not either.
    daemon = Daemon(workspace / "migration", own_cluster, count=2, redis__timeout="500ms",
                    redis__connect_timeout="300ms")
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def slot_of(daemon, user):
    text = subprocess.run([BINARY, "keys", "--tenant", "default", "--user", user, "--config",
                           str(daemon.node.config)], stdout=subprocess.PIPE, text=True,
                          timeout=30, check=True).stdout
    return key_slot(text.split()[0].encode())


NEWS_BOUND = 1.2  # seconds for a kick to be known to every node, also if it cannot be heard of


class Load(threading.Thread):
    """Lives of sessions of one user, one after the other: login, validate, kick, validate.

    A 503 is no wrong answer, but how long they last is measured. Everything else that contradicts
    what was answered before is collected in `wrong`."""

    def __init__(self, daemon, user):
        super().__init__()
        self.daemon, self.user = daemon, user
        self.slot = slot_of(daemon, user)
        self.stopping = threading.Event()
        self.wrong, self.times, self.news = [], [], []
        self.lives, self.errors, self.codes = 0, 0, collections.Counter()
        self.failing_since, self.longest = None, 0.0

    def call(self, what, expected, function, *arguments, **options):
        """The status; notes the time it took and how long errors last."""
        begun = time.monotonic()
        try:
            answer = function(*arguments, **options)
        except OSError as error:
            self.wrong.append((what, repr(error)))
            return 0, None
        ended = time.monotonic()
        self.times.append(ended - begun)
        if answer.status == 503:
            self.errors += 1
            self.codes[f"{what} {answer.code}"] += 1
            self.failing_since = self.failing_since or begun
        else:
            if self.failing_since:
                self.longest = max(self.longest, begun - self.failing_since)
                self.failing_since = None
            if answer.status not in expected:
                self.wrong.append((what, answer))
        return answer.status, answer

    def live_once(self):
        node = self.lives % len(self.daemon.nodes)
        status, answer = self.call("login", (201,), self.daemon.try_login, self.user, node=node)
        if status != 201:
            return
        token, session = answer.json["access_token"], answer.json["session_id"]
        for look in range(3):
            self.call("validate", (200,), self.daemon.validate, token,
                      node=look % len(self.daemon.nodes))
        expected = (200, 202)
        while not self.stopping.is_set():
            status, _ = self.call("kick", expected, self.daemon.kick, self.user, session,
                                  node=node)
            if status != 503:
                break
            expected = (200, 202, 404)
        else:
            return
        self.call("validate after kick", (401,), self.daemon.validate, token, node=node)
        self.wait_for_news(token, time.monotonic(), 5 if status == 202 else NEWS_BOUND)
        self.lives += 1

    def wait_for_news(self, token, kicked, bound):
        """The other nodes hear of a kick after the one that was asked, within a bound."""
        for node in range(len(self.daemon.nodes)):
            while True:
                last = time.monotonic() - kicked > bound
                status, _ = self.call("validate after kick", (401,) if last else (200, 401),
                                      self.daemon.validate, token, node=node)
                if last or status != 200:
                    break
        self.news.append(time.monotonic() - kicked)

    def run(self):
        try:
            while not self.stopping.is_set():
                self.live_once()
        except Exception as error:  # whatever it was, it is not to be lost with the thread
            self.wrong.append(("exception", repr(error)))


def under_load(daemon, users, action):
    """Runs the action while every user lives sessions; returns the finished loads."""
    loads = [Load(daemon, user) for user in users]
    for load in loads:
        load.start()
    try:
        time.sleep(0.5)
        action(loads)
        time.sleep(1.0 * SLOW)
    finally:
        for load in loads:
            load.stopping.set()
        for load in loads:
            load.join()
    return loads


def check_loads(loads):
    wrong = [entry for load in loads for entry in load.wrong]
    assert not wrong, wrong[:5]
    assert all(load.lives >= 3 for load in loads), [load.lives for load in loads]
    longest = max(load.longest for load in loads)
    print(f"{sum(load.lives for load in loads)} lives, 0 wrong answers, "
          f"{sum(load.errors for load in loads)} errors, the longest row {longest:.2f} s",
          dict(sum((load.codes for load in loads), collections.Counter())),
          f"news {1000 * max(max(load.news) for load in loads):.1f} ms at most")
    assert longest < 2.0 * SLOW, f"errors lasted {longest:.2f} s"
    assert not any(load.failing_since for load in loads), "still failing at the end"


def migrate(cluster, slot, pause=0.05):
    """Moves one slot to the next master, key by key, as redis-cli --cluster reshard does.

    For `pause` seconds the keys have moved but the slot has not: then only ASK leads to them."""
    masters = {node.port: node for node in cluster.masters()}
    source_port, source_id = cluster.owner(slot)
    ports = sorted(masters)
    target_port = ports[(ports.index(source_port) + 1) % len(ports)]
    source, target = masters[source_port], masters[target_port]
    target_id = target.call("CLUSTER", "MYID").decode()
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
    time.sleep(0.05)
    while True:
        keys = source.call("CLUSTER", "GETKEYSINSLOT", slot, 10)
        if not keys:
            break
        for key in keys:
            try:
                source.call("MIGRATE", "127.0.0.1", target_port, key, 0, 2000)
            except RedisError as error:
                assert "NOKEY" in str(error), error
            time.sleep(0.03)
    time.sleep(pause)
    for node in [target, source] + [n for n in masters.values() if n not in (source, target)]:
        node.call("CLUSTER", "SETSLOT", slot, "NODE", target_id)
    for node in masters.values():
        node.close()


def test_slots_migrate_under_load_without_a_wrong_answer(loaded, own_cluster):
    def action(loads):
        migrate(own_cluster, loads[0].slot, pause=2.5 * SLOW)
        for _ in range(3):
            for load in loads:
                migrate(own_cluster, load.slot)
    loads = under_load(loaded, [unique("mig") for _ in range(6)], action)
    check_loads(loads)
    assert loaded.node.metric("sessiond_store_redirects_total") > 0, "no redirect was seen"


def replicas_of_masters(cluster):
    """Port of one replica for each master's port; a young cluster may not know them yet."""
    def known():
        found = {}
        with Redis(cluster.ports[0]) as node:
            for _, _, master, *replicas in node.call("CLUSTER", "SLOTS"):
                if replicas:
                    found[master[1]] = replicas[0][1]
        return found if len(found) == 3 else None
    return wait_until(known, 10, "every master has a replica")


def fail_over(port):
    """Makes a replica the master, by hand, and waits until it is."""
    def done():
        with Redis(port) as node:
            if node.info("replication")["role"] == "master":
                return True
            try:
                node.call("CLUSTER", "FAILOVER")
            except RedisError:
                pass
        time.sleep(0.3)
        return False
    wait_until(done, 15, f"{port} has become a master")


def test_manual_failovers_under_load_without_a_wrong_answer(loaded, own_cluster):
    def action(loads):
        for replica in replicas_of_masters(own_cluster).values():
            fail_over(replica)
            time.sleep(0.5)
    loads = under_load(loaded, [unique("fail") for _ in range(6)], action)
    check_loads(loads)
    wait_until(own_cluster.is_whole, 30, "the cluster is whole again")


def users_by_master(daemon, cluster, wanted):
    """`wanted` users for each master's port."""
    found = {}
    while not found or min(len(users) for users in found.values()) < wanted or len(found) < 3:
        user = unique("frozen")
        port, _ = cluster.owner(slot_of(daemon, user))
        found.setdefault(port, []).append(user)
    return {port: users[:wanted] for port, users in found.items()}


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def test_a_frozen_master_does_not_slow_the_slots_of_the_others(loaded, own_cluster):
    users = users_by_master(loaded, own_cluster, 2)
    frozen_port = sorted(users)[0]
    frozen_users = users.pop(frozen_port)
    victims = [loaded.login(user) for user in frozen_users]
    healthy = [others[0] for others in users.values()]
    pid = process_id(frozen_port)
    slow = []

    def action(loads):
        time.sleep(0.5)
        for load in loads:
            load.quiet_times = list(load.times)
            load.times.clear()
        os.kill(pid, signal.SIGSTOP)
        try:
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                for victim in victims:
                    begun = time.monotonic()
                    answer = loaded.validate(victim["access_token"])
                    slow.append((answer.status, time.monotonic() - begun))
                    begun = time.monotonic()
                    answer = loaded.try_login(victim["user_id"])
                    slow.append((answer.status, time.monotonic() - begun))
            for load in loads:
                load.frozen_times = list(load.times)
        finally:
            os.kill(pid, signal.SIGCONT)

    loads = under_load(loaded, healthy, action)
    check_loads(loads)
    assert sum(load.errors for load in loads) == 0, "other masters' slots saw errors"
    times = [t for load in loads for t in load.frozen_times]
    assert len(times) > 100
    quiet = percentile([t for load in loads for t in load.quiet_times], 0.99)
    p99 = percentile(times, 0.99)
    print(f"frozen master: p99 of the others {p99 * 1000:.1f} ms (before {quiet * 1000:.1f}), "
          f"longest 503 {max(seconds for _, seconds in slow) * 1000:.0f} ms")
    assert p99 < 0.05 * SLOW, f"p99 {p99 * 1000:.1f}, quiet {quiet * 1000:.1f} ms"
    assert slow and {status for status, _ in slow} == {503}, slow
    assert max(seconds for _, seconds in slow) < 0.8 * SLOW, max(slow)
    for victim in victims:
        wait_until(lambda: loaded.validate(victim["access_token"]).status == 200, 3,
                   "the thawed master serves again")
    wait_until(own_cluster.is_whole, 30, "the cluster is whole again")


def test_without_its_replica_a_change_is_accepted_and_says_so(loaded, own_cluster):
    user = unique("alone")
    logins = [loaded.login(user) for _ in range(4)]
    port, _ = own_cluster.owner(slot_of(loaded, user))
    pid = process_id(replicas_of_masters(own_cluster)[port])
    os.kill(pid, signal.SIGSTOP)
    try:
        for login in logins[:3]:
            begun = time.monotonic()
            answer = loaded.kick(user, login["session_id"])
            assert answer.status == 200, answer
            assert answer.json["durability"] == "accepted", answer
            assert time.monotonic() - begun < 0.45 * SLOW
            assert not loaded.is_alive(login["access_token"])
    finally:
        os.kill(pid, signal.SIGCONT)

    def replicated():
        login = loaded.login(user)
        return loaded.kick(user, login["session_id"]).json["durability"] == "replicated"
    wait_until(replicated, 10, "changes reach the replica again")
    wait_until(own_cluster.is_whole, 30, "the cluster is whole again")


def test_a_killed_master_is_replaced_and_its_sessions_live_on(loaded, own_cluster):
    users = users_by_master(loaded, own_cluster, 3)
    port = sorted(users)[1]
    logins = [loaded.login(user) for user in users[port]]
    ended = loaded.login(users[port][0])
    answer = loaded.kick(users[port][0], ended["session_id"])
    assert answer.json["durability"] == "replicated"
    os.kill(process_id(port), signal.SIGKILL)

    def all_alive():
        answers = [loaded.validate(login["access_token"]) for login in logins]
        assert {answer.status for answer in answers} <= {200, 503}, answers
        return all(answer.status == 200 for answer in answers)
    wait_until(all_alive, 25, "the replica has taken over")
    answer = loaded.validate(ended["access_token"])
    assert answer.status == 401 and answer.json["reason"] == "kicked", answer
    assert loaded.try_login(users[port][0]).status == 201
    own_cluster.start()
    wait_until(own_cluster.is_whole, 30, "the cluster is whole again")
    assert SERVICE not in loaded.node.log_text()
