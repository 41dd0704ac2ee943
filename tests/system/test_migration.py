"""Slots migrate, masters change or freeze, under load of validate, login and kick."""

import collections
import os
import re
import signal
import threading
import time

import pytest

from bounds import at_most
from client import Redis
from cluster_changes import fail_over, go_on, migrate, without_failover
from daemon import SERVICE, Daemon, unique
from machine import clock
from redis_servers import SLOW, Cluster, SingleRedis, free_cluster_ports, process_id, wait_until
from redis_view import slot_of


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
        self.lives, self.calls, self.errors, self.codes = 0, 0, 0, collections.Counter()
        self.failing_since, self.longest = None, 0.0

    def call(self, what, expected, function, *arguments, **options):
        """The status; notes the time it took and how long errors last."""
        begun = clock()
        try:
            answer = function(*arguments, **options)
        except OSError as error:
            self.wrong.append((what, repr(error)))
            return 0, None
        ended = clock()
        self.times.append(ended - begun)
        self.calls += 1
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
        self.wait_for_news(token, clock(), 5 if status == 202 else NEWS_BOUND)
        self.lives += 1

    def wait_for_news(self, token, kicked, bound):
        """The other nodes hear of a kick after the one that was asked, within a bound."""
        for node in range(len(self.daemon.nodes)):
            while True:
                last = clock() - kicked > bound
                status, _ = self.call("validate after kick", (401,) if last else (200, 401),
                                      self.daemon.validate, token, node=node)
                if last or status != 200:
                    break
        self.news.append(clock() - kicked)

    def run(self):
        try:
            while not self.stopping.is_set():
                self.live_once()
        except Exception as error:  # whatever it was, it is not to be lost with the thread
            self.wrong.append(("exception", repr(error)))


def under_load(daemon, users, action):
    """Runs the action while every user lives sessions, before and after which each has lived at
    least one without an error; returns the finished loads."""
    loads = [Load(daemon, user) for user in users]
    for load in loads:
        load.start()

    def wait_for_each():
        before = [load.lives for load in loads]
        wait_until(lambda: all(load.wrong or load.lives > count + 1 and not load.failing_since
                               for load, count in zip(loads, before)), 10, "all live on")
    try:
        wait_for_each()
        action(loads)
        wait_for_each()
    finally:
        for load in loads:
            load.stopping.set()
        for load in loads:
            load.join()
    return loads


def check_loads(loads):
    wrong = [entry for load in loads for entry in load.wrong]
    assert not wrong, wrong[:5]
    longest = max(load.longest for load in loads)
    print(f"{sum(load.lives for load in loads)} lives, 0 wrong answers, "
          f"{sum(load.errors for load in loads)} errors, the longest row {longest:.2f} s",
          dict(sum((load.codes for load in loads), collections.Counter())),
          f"news {1000 * max(max(load.news) for load in loads):.1f} ms at most")
    at_most(longest, 2.0 * SLOW, "errors in a row")


def live_on(load, lives):
    """The same for whole lives."""
    before = load.lives
    wait_until(lambda: load.lives >= before + lives or not load.is_alive(), 20, "lives go on")


def test_slots_migrate_under_load_without_a_wrong_answer(loaded, own_cluster):
    def action(loads):
        first = loads[0]
        migrate(own_cluster, first.slot, lambda: go_on([first]), half_way=lambda: live_on(first, 3))
        for _ in range(3):
            for load in loads:
                migrate(own_cluster, load.slot, lambda: go_on([load]))
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


def test_manual_failovers_under_load_without_a_wrong_answer(loaded, own_cluster):
    def action(loads):
        for replica in replicas_of_masters(own_cluster).values():
            fail_over(replica)
            go_on(loads)
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


def thousand_times(loads, seconds):
    """Times of the loads' calls in the next seconds, a thousand at least."""
    begun, end = [len(load.times) for load in loads], time.monotonic() + seconds

    def times():
        return [took for load, count in zip(loads, begun) for took in load.times[count:]]
    wait_until(lambda: time.monotonic() > end and len(times()) >= 1000, 30, "a thousand calls")
    return times()


def test_a_frozen_master_does_not_slow_the_slots_of_the_others(loaded, own_cluster):
    users = users_by_master(loaded, own_cluster, 2)
    frozen_port = sorted(users)[0]
    frozen_users = users.pop(frozen_port)
    victims = [loaded.login(user) for user in frozen_users]
    healthy = [others[0] for others in users.values()]
    pid = process_id(frozen_port)
    slow, times, thawed = [], {}, threading.Event()

    def ask_the_frozen_one():
        while not thawed.is_set():
            for victim in victims:
                begun = clock()
                answer = loaded.validate(victim["access_token"])
                slow.append((answer.status, clock() - begun))
                begun = clock()
                answer = loaded.try_login(victim["user_id"])
                slow.append((answer.status, clock() - begun))

    def action(loads):
        times["before"] = thousand_times(loads, 0.5)
        os.kill(pid, signal.SIGSTOP)
        asking = threading.Thread(target=ask_the_frozen_one)
        asking.start()
        try:
            times["frozen"] = thousand_times(loads, 1.5)
        finally:
            thawed.set()
            asking.join()
            os.kill(pid, signal.SIGCONT)

    with without_failover(own_cluster):
        loads = under_load(loaded, healthy, action)
    check_loads(loads)
    assert sum(load.errors for load in loads) == 0, "other masters' slots saw errors"
    before, p99 = (percentile(times[phase], 0.99) for phase in ("before", "frozen"))
    print(f"frozen master: p99 of the others {p99 * 1000:.1f} ms (before {before * 1000:.1f}), "
          f"longest 503 {max(seconds for _, seconds in slow) * 1000:.0f} ms")
    at_most(p99 - before, 0.05 * SLOW, "p99 of the other masters' answers, beyond that before")
    assert slow and {status for status, _ in slow} == {503}, slow
    at_most(max(seconds for _, seconds in slow), 0.8 * SLOW, "a refusal")
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
            begun = clock()
            answer = loaded.kick(user, login["session_id"])
            assert answer.status == 200, answer
            assert answer.json["durability"] == "accepted", answer
            at_most(clock() - begun, 0.45 * SLOW, "a kick without its replica")
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


def test_calls_follow_to_a_master_that_was_just_added(loaded, own_cluster, tmp_path):
    """It has no slots, so no slot map names it, and ASK leads there already."""
    added = SingleRedis(tmp_path / "added")
    added.port = free_cluster_ports()
    # It stays a master when it gives its only slot back.
    added.start("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf",
                "--cluster-allow-replica-migration", "no")

    def all_know():
        known = []
        for port in own_cluster.ports:
            with Redis(port) as node:
                text = node.call("CLUSTER", "NODES").decode()
            known.append(re.search(rf"127.0.0.1:{added.port}@\S+ master - .* connected", text))
        with Redis(added.port) as node:
            return all(known) and "cluster_state:ok" in node.call("CLUSTER", "INFO").decode()
    try:
        with Redis(added.port) as node:
            node_id = node.call("CLUSTER", "MYID").decode()
            node.call("CLUSTER", "MEET", "127.0.0.1", own_cluster.ports[0])
        wait_until(all_know, 20, "every node knows the new one, and it serves")

        def action(loads):
            redirects = loaded.node.metric("sessiond_store_redirects_total")
            load = loads[0]
            migrate(own_cluster, load.slot, lambda: go_on([load]), lambda: live_on(load, 2), added.port)
            followed = loaded.node.metric("sessiond_store_redirects_total") - redirects
            assert followed > 0, "ASK was followed"
            assert own_cluster.owner(load.slot)[0] == added.port
            live_on(load, 2)
            migrate(own_cluster, load.slot, lambda: go_on([load]), added=added.port)
        check_loads(under_load(loaded, [unique("added")], action))
    finally:
        added.stop()
        for port in own_cluster.ports:
            with Redis(port) as node:
                node.call("CLUSTER", "FORGET", node_id)
    wait_until(own_cluster.is_whole, 30, "the cluster is whole again")
