"""Nodes of the Redis Cluster die, hang, wake up, move slots and change roles."""

import contextlib
import threading
import time

import pytest

from bounds import at_most
from client import Redis, RedisError
from cluster_changes import fail_over, go_on, migrate, without_failover
from daemon import reload
from faults import (AT_ONCE, BUDGET, breakers, cpu_seconds, failover_held, frozen, is_down, kill_9, pid_in,
                    proxied_service, readiness, trial_on, users_on, with_lives)
from machine import clock
from parallel import at_once
from probes import percentile
from redis_servers import SLOW, for_a_while, wait_until
from redis_view import slot_of, tenant_slot

# cluster-node-timeout of conf/redis.conf, the election, and what sessiond needs to see it
NODE_TIMEOUT = 2.0
FAILOVER = NODE_TIMEOUT + 2.5 + 1.0


@pytest.fixture(scope="module")
def service(workspace):
    with proxied_service(workspace / "faults-nodes") as daemon:
        yield daemon


@pytest.fixture
def trial(service):
    with trial_on(service) as trial:
        yield trial


class Scene:
    """Sessions of one master that is to be hurt, and of the others."""

    def __init__(self, trial, kicked=1):
        daemon, cluster = trial.daemon, trial.cluster
        self.trial = trial
        self.port = sorted(wait_until(lambda: with_replicas(cluster), 10, "replicas"))[0]
        # The first caller for the state of the tenant waits a little, if it lies there.
        self.first_waits = int(cluster.owner(tenant_slot(daemon))[0] == self.port)
        names = users_on(daemon, cluster, self.port, 5)
        others = [port for port in cluster.shards() if port != self.port]
        self.seen = [trial.login(name) for name in names[:2]]
        self.healthy = [trial.login(name) for port in others
                        for name in users_on(daemon, cluster, port, 2)]
        trial.know_everywhere()
        # Node 1 has never seen these, so that it has to ask Redis.
        self.unseen = [trial.login(name) for name in names[2:4]]
        for _ in range(kicked):
            answer = trial.kick(trial.login(names[4]))
            assert answer.json["durability"] == "replicated", answer
        self.usual = self.ask_others() + self.ask_others() + self.ask_others()

    def ask_others(self):
        """The times of a hundred calls for users of the other masters."""
        times = []
        for _ in range(4):
            for login in self.healthy * 6:
                answer = self.trial.validate(login, 1)
                assert answer.status == 200, answer
                times.append(answer.seconds)
            answer = self.trial.try_login(self.healthy[0]["user_id"], node=1)
            assert answer.status == 201, answer
            times.append(answer.seconds)
            self.trial.kick(self.trial.living[-1])
        return times

    def look(self, seconds):
        """Validates for a while: cached sessions live, sessions of other masters do not wait."""
        quick, cached = [], []
        for _ in for_a_while(seconds, pause=0):
            for login in self.seen:
                for node in (0, 1) * 5:
                    answer = self.trial.validate(login, node)
                    assert answer.status == 200, answer
                    at_most(answer.seconds, BUDGET, "an answer")
                    cached.append(answer.seconds)
            quick += self.ask_others()
            for login in self.unseen:
                answer = self.trial.validate(login, 1)
                assert answer.status == 503, answer
                at_most(answer.seconds, BUDGET, "an answer")
        # No other call waits for the frozen one: they take what they took before, on the same machine.
        quick.sort()
        others = quick[:len(quick) - self.first_waits]
        usual = percentile(self.usual, 0.99)
        at_most(percentile(others, 0.99) - usual, AT_ONCE, "p99 of the other masters beyond the usual one")
        at_most(quick[-1], BUDGET / 2, "an answer of the other masters")
        # Held up are those before a breaker opens, and later the few that probe the server.
        held_up = sum(seconds > AT_ONCE for seconds in cached)
        at_most(percentile(cached, 0.5), AT_ONCE, "median of answers from memory")
        at_most(held_up / (8 * seconds), 1, "answers from memory that are held up, of eight a second")

    def works_again(self):
        """Whether the hurt master's users have service everywhere."""
        answers = [self.trial.validate(login, node) for login in self.unseen for node in (0, 1)]
        return all(answer.status == 200 and not answer.json["stale"] for answer in answers)


def with_replicas(cluster):
    """{port of a master: ports of its replicas} once every master has one."""
    shards = cluster.shards()
    return shards if len(shards) == 3 and all(shards.values()) else None


def test_kill_9_of_a_master(trial, service):
    scene = Scene(trial)
    before = [node.metric("sessiond_journal_replays_total") for node in service.nodes]
    with failover_held(trial.cluster, scene.port) as let_go:
        begun = clock()
        kill_9(scene.port)
        scene.look(1.2)
        answer = trial.kick(scene.seen[0], node=0)
        assert answer.status == 202 and answer.json["durability"] == "pending", answer
        assert trial.validate(scene.seen[0], 0).status == 401
        trial.nobody_gets_in()
        let_go()
        held_up = max(0, clock() - begun - NODE_TIMEOUT)
        wait_until(scene.works_again, FAILOVER + 5, "the replica serves")
        took = clock() - begun - held_up
    assert is_down(scene.port) and scene.port not in trial.cluster.shards()
    at_most(took, FAILOVER + 2 * SLOW, "normal again after the kill")
    print(f"normal again {took:.2f} s after the kill")
    trial.aftermath()
    assert service.node.metric("sessiond_journal_replays_total") > before[0]


def test_a_frozen_master(trial, service):
    scene = Scene(trial)
    opened = [node.metric("sessiond_breaker_opened_total") for node in service.nodes]
    rejected = service.nodes[1].metric("sessiond_store_rejected_total")
    announced = trial.cluster.proxies[scene.port].port
    pid = pid_in(trial.cluster, scene.port)
    with failover_held(trial.cluster, scene.port) as let_go, frozen(pid):
        scene.look(1.2)
        assert service.nodes[1].metric("sessiond_breaker_opened_total") > opened[1]
        assert breakers(service.nodes[1])[announced] != "closed", readiness(service.nodes[1])
        times = [trial.validate(login, 1).seconds for login in scene.unseen for _ in range(10)]
        at_most(percentile(times, 0.5), AT_ONCE, "median of refusals of an open breaker")
        at_most(max(times), BUDGET, "an answer")
        assert service.nodes[1].metric("sessiond_store_rejected_total") > rejected
        trial.nobody_gets_in()
        let_go()
        wait_until(scene.works_again, FAILOVER + 3, "the replica serves")
    trial.aftermath()


def test_users_of_other_masters_do_not_wait_for_the_state_of_their_tenant(trial, service):
    port, _ = trial.cluster.owner(tenant_slot(service))
    logins = [trial.login(name) for other in trial.cluster.shards() if other != port
              for name in users_on(service, trial.cluster, other, 2)]
    known, unseen = logins[::2], logins[1::2]
    trial.know_everywhere(known)
    for node in (0, 1):
        assert trial.validate(logins[0], node).json["stale"] is False
    answers = []
    with without_failover(trial.cluster), frozen(pid_in(trial.cluster, port)):
        # After a second what is known of the tenant is not known to be true any more.
        for node in (0, 1):
            wait_until(lambda: trial.validate(known[0], node).json["stale"], 5, "its tenant is in doubt")
        for _ in for_a_while(0.5, pause=0):
            for login in known + unseen:
                answers += [(200, trial.validate(login, node)) for node in (0, 1)]
            if len(answers) < 5 * len(logins):
                answers.append((201, trial.try_login(known[0]["user_id"], node=1)))
    for expected, answer in answers:
        assert answer.status == expected, answer
        at_most(answer.seconds, 0.3 * SLOW, "an answer")
        # Somebody may have logged all of the tenant out meanwhile: who cannot know that says so.
        assert expected == 201 or answer.json["stale"] is True, answer
    held_up = [answer.seconds for _, answer in answers if answer.seconds > AT_ONCE]
    assert len(answers) > 8
    at_most(len(held_up) / 8, 1, "answers that are held up, of eight")
    wait_until(lambda: not trial.validate(logins[0], 1).json["stale"], 3 * SLOW, "all is known again")
    trial.aftermath()


@contextlib.contextmanager
def with_option(nodes, option, value):
    """Until the end of the block the nodes run with another value of an option ("section.name")."""
    def take(options):
        for node, of_node in zip(nodes, options):
            node.options = of_node
            node.write_config()
            reload(node)
    before = [node.options for node in nodes]
    take([{**options, option: value} for options in before])
    try:
        yield
    finally:
        take(before)


def test_whose_tenant_may_have_ended_all_sessions_does_nothing_with_a_token(trial, service):
    """But a service may end sessions, and everybody his own."""
    port, _ = trial.cluster.owner(tenant_slot(service))
    other = next(other for other in trial.cluster.shards() if other != port)
    user = users_on(service, trial.cluster, other, 1)[0]
    login, victim = trial.login(user), trial.login(user)
    token, refresh = login["access_token"], {"refresh_token": login["refresh_token"]}
    calls = [("GET", "/v1/validate", None, token), ("GET", "/v1/devices", None, token),
             ("POST", "/v1/refresh", refresh), ("POST", "/v1/logout-all", {}, token),
             ("DELETE", f"/v1/devices/{victim['session_id']}", None, token),
             ("PUT", "/v1/session/attributes", {"a": "b"}, token)]
    trial.know_everywhere([login, victim])
    with with_option(service.nodes[1:], "outage.grace", 0), without_failover(trial.cluster), \
            frozen(pid_in(trial.cluster, port)):
        wait_until(lambda: trial.validate(login, 1).status == 503, 5, "its tenant is in doubt")
        answers = at_once(len(calls), lambda number: trial.call(*calls[number], node=1))
        assert [answer.status for answer in answers] == [503] * len(calls), answers
        assert trial.kick(victim, node=1).status == 200
        assert trial.call("POST", "/v1/logout", None, token, node=1).status == 200
        trial.living.remove(login)
    trial.aftermath()


def test_a_frozen_master_wakes_up_after_the_failover(trial, service):
    scene = Scene(trial)
    victims = [trial.login(scene.unseen[0]["user_id"]) for _ in range(6)]
    trial.know_everywhere(victims)
    pid = pid_in(trial.cluster, scene.port)
    answers = []
    kicking = [threading.Thread(target=lambda login=login: answers.append(trial.kick(login)))
               for login in victims[:5]]
    with failover_held(trial.cluster, scene.port) as let_go, frozen(pid):
        # These kicks are queued by the kernel of the frozen server, which answers too late.
        for thread in kicking:
            thread.start()
        for thread in kicking:
            thread.join()
        assert {answer.status for answer in answers} == {202}, answers
        at_most(max(answer.seconds for answer in answers), BUDGET, "an answer")
        let_go()
        wait_until(lambda: scene.port not in shards_of_others(trial.cluster, scene.port),
                   FAILOVER + 5, "the replica is the master")
        wait_until(lambda: trial.try_login(victims[0]["user_id"]).status == 201, 5,
                   "changes work again")
        answer = trial.kick(victims[5])
        assert answer.status == 200, answer
        # With the new master there the pending ones are replayed, before the old one wakes up.
        wait_until(lambda: service.node.metric("sessiond_journal_unsettled") == 0 or is_alone(answer),
                   5, "the journal is replayed")
    for login in victims[:5]:
        trial.all_must_know(login)
    for _ in for_a_while(1.5):
        trial.nobody_gets_in()
        for login in trial.living:
            for node in (0, 1):
                trial.validate(login, node)
    trial.check_no_lie()
    trial.aftermath()


def is_alone(answer):
    """The new master has no replica yet, so that nothing can be confirmed."""
    return answer.json["durability"] == "accepted"


def shards_of_others(cluster, port):
    """The masters as the other nodes see them."""
    for other in cluster.ports:
        if other != port:
            with Redis(other) as node:
                return {cluster.real(entry[2][1]) for entry in node.call("CLUSTER", "SLOTS")}
    raise AssertionError("no other node")


def check_outage_contract(trial, service, seen, unseen):
    """Design: what works without Redis, and what says 503 at once."""
    wait_until(lambda: all(trial.validate(login, node).json.get("stale") is True
                           for login in seen for node in (0, 1)), 4, "answers are marked stale")
    for node in (0, 1):
        for login in seen:
            answer = trial.validate(login, node)
            assert answer.status == 200 and answer.json["stale_for"] >= 0, answer
            at_most(answer.seconds, AT_ONCE * 2, "an answer at once")
        for login in unseen:
            answer = trial.validate(login, 1)
            assert answer.status == 503, answer
            at_most(answer.seconds, BUDGET, "an answer")
        answer = trial.try_login(node=node)
        assert answer.status == 503, answer
        at_most(answer.seconds, BUDGET, "an answer")
        answer = trial.call("POST", "/v1/refresh", {"refresh_token": seen[1]["refresh_token"]},
                            None, node)
        assert answer.status == 503, answer
        at_most(answer.seconds, BUDGET, "an answer")
        status, body = readiness(service.nodes[node])
        assert status == 200 and body["status"] == "warn", body
        assert service.nodes[node].ops.call("GET", "/livez").status == 200
    answer = trial.kick(seen[0], node=0)
    assert answer.status == 202 and answer.json["durability"] == "pending", answer
    at_most(answer.seconds, BUDGET, "an answer")
    assert trial.validate(seen[0], 0).status == 401
    trial.nobody_gets_in()


def everywhere(trial, count=2):
    """(sessions that all nodes know, sessions that node 1 does not know) of every master."""
    cluster, daemon = trial.cluster, trial.daemon
    names = [users_on(daemon, cluster, port, count) for port in cluster.shards()]
    seen = [trial.login(name) for row in names for name in row]
    trial.know_everywhere()
    unseen = [trial.login(row[0]) for row in names]
    answer = trial.kick(trial.login())
    assert answer.json["durability"] == "replicated", answer
    return seen, unseen


def test_all_of_redis_is_killed(trial, service):
    seen, unseen = everywhere(trial)
    opened = service.nodes[1].metric("sessiond_breaker_opened_total")
    for port in trial.cluster.ports:
        kill_9(port)

    def breaker_open():
        for login in unseen:
            assert trial.validate(login, 1).status == 503
        return service.nodes[1].metric("sessiond_breaker_opened_total") > opened
    begun = clock()
    wait_until(breaker_open, 2, "a breaker opens")
    at_most(clock() - begun, 1.0 * SLOW, "a breaker opens")
    check_outage_contract(trial, service, seen, unseen)
    check_quiet(service.nodes)
    assert all(is_down(port) for port in trial.cluster.ports)
    trial.aftermath(seconds=15)


def check_quiet(nodes):
    """Without calls: no busy reconnecting, no spinning. At first pauses still double, from 10 ms to a
    second (redis.reconnect_max): then there are more attempts than later on."""
    for most_per_second in (60, 40):
        for node in nodes:
            check_pace(node, most_per_second)


def check_pace(node, most_per_second, count=40):
    """So many attempts are not made faster."""
    def attempts():
        return node.metric("sessiond_store_connects_total") - before
    before, used, begun = node.metric("sessiond_store_connects_total"), cpu_seconds(node.process.pid), time.monotonic()
    wait_until(lambda: attempts() >= count, 30, "it is tried again")
    made, busy, seconds = attempts(), cpu_seconds(node.process.pid) - used, time.monotonic() - begun
    assert made <= most_per_second * seconds + 20, f"{made} connections in {seconds} s"
    at_most(busy / seconds, 0.1 * SLOW, "share of a processor while nobody calls")


def test_the_majority_of_the_masters_is_killed(trial, service):
    seen, unseen = everywhere(trial)
    masters = sorted(trial.cluster.shards())
    for port in masters[:2]:
        kill_9(port)

    def knows_it_is_alone():
        with Redis(masters[2]) as node:
            return b"cluster_state:fail" in node.call("CLUSTER", "INFO")
    wait_until(knows_it_is_alone, FAILOVER, "the last master has no majority")
    check_outage_contract(trial, service, seen, unseen)
    with Redis(masters[2]) as node, pytest.raises(RedisError, match="CLUSTERDOWN"):
        node.call("GET", "x")
    assert all(is_down(port) for port in masters[:2])
    trial.aftermath(seconds=15)


def test_slots_move_under_load_and_no_client_sees_it(trial, service):
    redirects = service.node.metric("sessiond_store_redirects_total")
    refreshes = sum(node.metric("sessiond_store_map_refreshes_total") for node in service.nodes)
    begun = time.monotonic()

    def reshard(lives):
        for _ in range(2):
            for life in lives:
                migrate(trial.cluster, life.slot, lambda: go_on([life]))
    users = [name for port in trial.cluster.shards()
             for name in users_on(service, trial.cluster, port, 1)]
    # A server that the machine holds up for half a second is no matter of slots.
    with with_option(service.nodes, "redis.timeout", "10s"), without_failover(trial.cluster):
        lives = with_lives(trial, users, reshard)
    assert sum(life.errors for life in lives) == 0, "clients saw errors"
    followed = service.node.metric("sessiond_store_redirects_total") - redirects
    fetched = sum(n.metric("sessiond_store_map_refreshes_total") for n in service.nodes) - refreshes
    seconds = time.monotonic() - begun
    print(f"{followed} redirects, {fetched} maps fetched in {seconds:.1f} s")
    assert followed > 0, "no redirect was seen"
    assert fetched < 2 * (10 * seconds), "the map is fetched no more often than ten times a second"
    trial.aftermath()


@pytest.mark.parametrize("moved", ["half-way", "whole"])
def test_a_kick_is_heard_when_its_slot_has_moved(trial, service, moved):
    """Node 1 answers from memory and has no reason to ask the old owner of the slot."""
    user = users_on(service, trial.cluster, sorted(trial.cluster.shards())[0], 1)[0]
    login = trial.login(user)
    trial.know_everywhere()
    half = HalfMoved(trial.cluster, slot_of(service, user))
    half.move(half.keys())
    try:
        if moved == "whole":
            half.finish()
        answer = trial.kick(login, 0)
        assert answer.status == 200, answer
        wait_until(lambda: trial.refuses(login, 1), 3, "node 1 has heard")
    finally:
        if moved != "whole":
            half.finish()
    trial.aftermath()


class HalfMoved:
    """A slot on its way from one master to another, for as long as the test wants."""

    def __init__(self, cluster, slot):
        self.cluster, self.slot = cluster, slot
        self.source, source_id = cluster.owner(slot)
        self.target = next(port for port in sorted(cluster.shards()) if port != self.source)
        self.from_node, self.to_node = Redis(self.source), Redis(self.target)
        self.target_id = self.to_node.call("CLUSTER", "MYID").decode()
        self.to_node.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        self.from_node.call("CLUSTER", "SETSLOT", slot, "MIGRATING", self.target_id)

    def keys(self):
        return sorted(self.from_node.call("CLUSTER", "GETKEYSINSLOT", self.slot, 100))

    def move(self, keys):
        for key in keys:
            with contextlib.suppress(RedisError):
                self.from_node.call("MIGRATE", "127.0.0.1", self.target, key, 0, 2000)

    def finish(self):
        self.move(self.keys())
        others = [Redis(port) for port in self.cluster.shards()
                  if port not in (self.source, self.target)]
        for node in [self.to_node, self.from_node] + others:
            node.call("CLUSTER", "SETSLOT", self.slot, "NODE", self.target_id)
            node.close()


def test_a_slot_is_half_way(trial, service):
    user = users_on(service, trial.cluster, sorted(trial.cluster.shards())[0], 1)[0]
    login = trial.login(user)
    trial.kick(trial.login(user))
    devices = f"/v1/users/{user}/devices"
    key = dict(bearer=service.node.keys["service"][0])
    half = HalfMoved(trial.cluster, slot_of(service, user))
    try:
        first, *rest = half.keys()
        assert rest, "the user has several keys"
        half.move([first])
        answer = trial.try_login(user)
        assert answer.status in (201, 503), answer
        at_most(answer.seconds, BUDGET, "an answer")
        half.move(half.keys())
        redirects = service.node.metric("sessiond_store_redirects_total")
        maps = service.node.metric("sessiond_store_map_refreshes_total")
        for _ in range(20):
            answer = trial.call("GET", devices, node=0, **key)
            assert answer.status == 200, answer
            at_most(answer.seconds, AT_ONCE * 2, "an answer at once")
        assert service.node.metric("sessiond_store_redirects_total") >= redirects + 20
        assert service.node.metric("sessiond_store_map_refreshes_total") <= maps + 2, "map unchanged"
        answer = trial.kick(trial.login(user))
        assert answer.status == 200, answer
        with trial.cluster.proxies[half.target].fault("half_open", whom="client") as hole:
            answer = trial.call("GET", devices, node=0, **key)
            assert answer.status == 503, answer
            at_most(answer.seconds, BUDGET, "an answer")
            assert hole.hits["half_open"] > 0
        wait_until(lambda: trial.call("GET", devices, node=0, **key).status == 200, 5,
                   "the target of the redirection serves again")
    finally:
        half.finish()
    assert trial.validate(login).status == 200
    trial.aftermath()


def has_moved(port):
    with Redis(port) as node:
        return node.info("replication")["role"] == "slave"


def test_a_kick_is_heard_when_its_master_was_replaced(trial, service):
    """Node 1 answers from memory, and the replaced master still answers its pings."""
    port = sorted(wait_until(lambda: with_replicas(trial.cluster), 10, "replicas"))[0]
    login = trial.login(users_on(service, trial.cluster, port, 1)[0])
    trial.know_everywhere()
    with with_option(service.nodes, "redis.timeout", "10s"), trial.cluster.fault("blackhole", whom="replication"):
        fail_over(trial.cluster.shards()[port][0], "FORCE")
        wait_until(lambda: has_moved(port), 5, "the replaced master knows that it is none")
        assert trial.kick(login, 0).status == 200
        wait_until(lambda: trial.refuses(login, 1), 3, "node 1 has heard")
    assert trial.cluster.hits("blackhole") > 0
    trial.aftermath()


def test_replicas_take_over_by_hand_under_load(trial, service):
    shards = wait_until(lambda: with_replicas(trial.cluster), 10, "replicas")

    def take_over(lives):
        for replicas in shards.values():
            fail_over(replicas[0])
            go_on(lives)
    users = [name for port in shards for name in users_on(service, trial.cluster, port, 2)]
    kicked = [trial.login(name) for name in users]
    trial.know_everywhere()
    for login in kicked:
        assert trial.kick(login).json["durability"] == "replicated"
    lives = with_lives(trial, users, take_over)
    longest = max(life.longest for life in lives)
    print(f"{sum(life.lives for life in lives)} lives, errors lasted {longest:.2f} s at most")
    at_most(longest, 1.0 * SLOW, "errors in a row")
    assert not set(shards) & set(trial.cluster.shards()), "every master has changed"
    trial.aftermath()
