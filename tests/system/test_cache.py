"""The cache of validated tokens: what it saves, what it must not hide, what it is bounded by."""

import contextlib
import signal
import time

import pytest

from bounds import at_most
from checks import check_dead, check_ended, first_refusal
from client import Redis
from clocks import DrivenTime
from daemon import ACME, Daemon, unique
from faults import frozen
from machine import clock
from parallel import at_once
from probes import ask_all, log_in_all, request, validate_all, validation
from redis_servers import SLOW, SingleRedis, for_a_while, wait_until

READS = ("hmget", "hget", "hgetall", "get")


@pytest.fixture(scope="module")
def three(workspace, cluster):
    daemon = Daemon(workspace / "cache", cluster, count=3, policy__refresh_grace=2,
                    policy__max_devices=10)
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


@pytest.fixture
def own_redis(tmp_path):
    server = SingleRedis(tmp_path / "redis")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def alone(start, own_redis):
    """Starts nodes on a Redis of their own; its counts show what they ask it."""
    def begin(count=1, **options):
        return start(count, redis=own_redis, redis__mode="standalone", redis__wait_timeout=0,
                     **options)
    begin.redis = own_redis
    return begin


def source(daemon, login, node=0):
    answer = daemon.validate(login["access_token"], node)
    assert answer.status == 200 and answer.json["stale"] is False, answer
    return answer.json["source"]


def remember(daemon, *logins, nodes=None):
    """Every node has them in memory, and believes it."""
    for node in range(len(daemon.nodes)) if nodes is None else nodes:
        for login in logins:
            wait_until(lambda: source(daemon, login, node) == "cache", 3, "it is in memory")


def calls_of(redis):
    with Redis(redis.port) as node:
        return node.command_counts()


def reads_of(redis):
    counts = calls_of(redis)
    return sum(counts.get(name, 0) for name in READS)


def reset_counts(redis):
    with Redis(redis.port) as node:
        node.call("CONFIG", "RESETSTAT")


# --- what it saves --------------------------------------------------------------------------------
def test_the_source_is_redis_first_and_memory_then(three):
    login = three.login()
    remember(three, login, nodes=[0])
    assert source(three, login, 1) == "redis", "it has never seen the token"
    wait_until(lambda: [source(three, login, 1) for _ in range(3)] == ["cache"] * 3, 10, "memory answers")
    body = three.check(login["access_token"], node=1).json
    assert body["active"] is True and body["stale"] is False
    assert three.validate(login["access_token"], 1).header("X-Session-Stale") is None


def test_answers_from_memory_say_the_same_as_those_from_redis(three):
    login = three.login(roles=["admin", "häuser"], device={"id": "d\"1", "type": "web", "name": "ü"},
                        attributes={"a": [1, {"b": None}]})
    first = three.validate(login["access_token"], 2).json
    second = three.validate(login["access_token"], 2).json
    assert (first.pop("source"), second.pop("source")) == ("redis", "cache")
    assert first == second
    assert first["roles"] == ["admin", "häuser"] and first["attributes"] == {"a": [1, {"b": None}]}


def test_a_hit_asks_redis_nothing(alone):
    daemon = alone()
    logins = [daemon.login() for _ in range(5)]
    remember(daemon, *logins)
    hits = daemon.node.metric("sessiond_cache_hits_total")
    reset_counts(alone.redis)
    assert {reply.json["source"] for reply in validate_all(daemon.node, logins * 200)} == {"cache"}
    asked = set(calls_of(alone.redis)) - {"ping", "config|resetstat", "info"}
    assert not asked, asked
    assert daemon.node.metric("sessiond_cache_hits_total") == hits + 1000


def test_many_first_validations_of_one_token_share_a_read(alone):
    daemon = alone(2)
    login = daemon.login(node=0)
    with Redis(alone.redis.port) as redis:
        # A worker's first call brings its connection up; that is not what is counted.
        validate_all(daemon.nodes[1], log_in_all(daemon.nodes[1], [unique() for _ in range(8)]))
        redis.call("CONFIG", "RESETSTAT")

        # All hundred stand ready: to make so many threads may take longer than the pause.
        def pause():
            redis.call("CLIENT", "PAUSE", int(250 * min(SLOW, 1.5)), "ALL")
        answers = at_once(100, lambda n: daemon.validate(login["access_token"], 1), pause)
    assert {answer.status for answer in answers} == {200}
    # One for each of the two workers; a read that is a tenth of a second old is not joined any more.
    assert reads_of(alone.redis) <= 2 * 4, calls_of(alone.redis)
    assert daemon.nodes[1].metric("sessiond_cache_shared_total") >= 90


# --- what it must not hide ------------------------------------------------------------------------
def test_a_refresh_on_one_node_is_at_once_in_force_on_all(three):
    logins = [three.login() for _ in range(10)]
    remember(three, *logins)
    pairs = []
    for login in logins:
        began = time.monotonic()
        pairs.append((login, three.refresh(login["refresh_token"], node=0).json, began))
    for login, new, _ in pairs:
        for node in range(3):
            assert three.is_alive(new["access_token"], node), "the new one works"
    for login, _, began in pairs:
        alive = three.is_alive(login["access_token"], 1)
        assert alive or time.monotonic() - began > 1.9, "so does the old one, for two seconds"
    for login, new, _ in pairs:
        for node in range(3):
            old = first_refusal(lambda: three.validate(login["access_token"], node), 5, "it is over")
            check_dead(old, "expired")
            assert three.is_alive(new["access_token"], node)


def test_a_wrong_secret_is_refused_and_harms_nobody(three):
    """The session is in memory; the token is of another time and still sealed by us."""
    login = three.login()
    remember(three, login)
    new = three.refresh(login["refresh_token"]).json
    assert three.is_alive(new["access_token"], 1)
    newest = three.refresh(new["refresh_token"]).json
    for node in range(3):
        wait_until(lambda: three.validate(login["access_token"], node).status == 401, 5, "the node has heard")
        assert three.is_alive(newest["access_token"], node)


def last_seen(daemon, login, node=0):
    listed = daemon.devices(login["user_id"], node=node)["devices"]
    return next(entry["last_seen_at"] for entry in listed
                if entry["session_id"] == login["session_id"])


class Aged:
    """Sessions of limits of 100 seconds that have grown old in memory."""

    def __init__(self, driven):
        self.driven = driven
        self.idle = driven.daemon(2, policy__idle_timeout=100)
        self.access = driven.daemon(policy__access_ttl=100, policy__idle_timeout=6000,
                                    policy__refresh_grace=50)
        self.reload = driven.daemon()

    def grow_old(self):
        self.unused, self.used_elsewhere, self.used_in_outage = (self.idle.login()
                                                                 for _ in range(3))
        remember(self.idle, self.unused, self.used_elsewhere, self.used_in_outage)
        self.used_all_along = self.access.login()
        self.reloaded = self.reload.login()
        remember(self.access, self.used_all_along)
        remember(self.reload, self.reloaded)
        last_use = self.driven.now()
        self.driven.go_to(last_use + 60)
        assert self.idle.is_alive(self.used_elsewhere["access_token"], 1)
        wait_until(lambda: last_seen(self.idle, self.used_elsewhere, 1) >= int(last_use) + 60, 3,
                   "the use is written")
        with frozen(self.driven.redis.process.pid):
            wait_until(lambda: self.idle.validate(self.used_in_outage["access_token"]).json["stale"],
                       5, "nobody knows what Redis knows")
        self.driven.go_to(last_use + 80)
        remember(self.access, self.used_all_along)
        # By one more, the interval in which uses are not written, and to the end of the second.
        self.driven.go_to(last_use + 112)


@pytest.fixture(scope="module")
def aged(workspace):
    with DrivenTime(workspace / "aged") as driven:
        aged = Aged(driven)
        aged.grow_old()
        yield aged


def test_the_idle_timeout_holds_for_tokens_in_memory(aged):
    for node in (0, 1):
        check_dead(aged.idle.validate(aged.unused["access_token"], node), "idle")


def test_a_token_that_looks_idle_here_and_was_used_elsewhere_goes_on(aged):
    misses = aged.idle.node.metric("sessiond_cache_misses_total")
    assert aged.idle.is_alive(aged.used_elsewhere["access_token"], 0)
    assert aged.idle.node.metric("sessiond_cache_misses_total") == misses + 1, "it was read again"


def test_a_token_that_was_used_in_an_outage_is_not_idle_after_it(aged):
    """Redis has not heard of the use and would call it idle."""
    assert aged.idle.is_alive(aged.used_in_outage["access_token"], 0)
    used = wait_until(lambda: last_seen(aged.idle, aged.used_in_outage), 3, "it is listed")
    assert used >= aged.driven.now() - 60, "it is written by now"


def test_the_life_of_an_access_token_ends_in_memory_too(aged):
    reads = aged.access.node.metric("sessiond_cache_misses_total")
    check_dead(aged.access.validate(aged.used_all_along["access_token"]), "expired")
    assert aged.access.node.metric("sessiond_cache_misses_total") == reads, "memory knows"


def test_a_reloaded_policy_acts_on_tokens_in_memory(aged):
    """Not used for two minutes, which was no matter until now."""
    daemon = aged.reload

    def answered_by_memory():
        answer = daemon.check(aged.reloaded["access_token"], touch=False).json
        assert answer["active"] is True, answer
        return answer["source"] == "cache"
    wait_until(answered_by_memory, 10, "memory answers, whose watch may have been late")
    daemon.node.write_config(policy__idle_timeout=100)
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: daemon.check(aged.reloaded["access_token"], touch=False).json["active"]
               is False, 2, "the new policy is in force")
    check_dead(daemon.validate(aged.reloaded["access_token"]), "idle")


def test_a_kick_costs_the_users_other_devices_no_entry(three):
    """All nodes forget the user, and read the active sessions again before anybody asks for them."""
    users = [log_in_all(three.node, [unique()] * 3) for _ in range(40)]
    everyone = [login for logins in users for login in logins]
    for node in three.nodes:
        wait_until(lambda: all(reply.json["source"] == "cache"
                               for reply in validate_all(node, everyone)), 5, "all are in memory")
    stores = [node.metric("sessiond_cache_stores_total") for node in three.nodes]
    for kicked, *_ in users:
        answer = three.kick(kicked["user_id"], kicked["session_id"])
        check_ended(answer, [kicked["session_id"]], None)
    for node, before in zip(three.nodes, stores):
        wait_until(lambda: node.metric("sessiond_cache_stores_total") >= before + 80, 5, "all are read anew")
    for node in range(3):
        sources = [source(three, login, node) for _, *others in users for login in others]
        # The machine may have been slow for one or the other.
        assert sources.count("redis") <= 4, (node, sources.count("redis"), len(sources))
        for kicked, *_ in users:
            check_dead(three.refused(kicked["access_token"], node), "kicked", "service")


# --- what it is bounded by ------------------------------------------------------------------------
def test_without_a_cache_everything_is_read(alone):
    daemon = alone(cache__bytes=0)
    login = daemon.login()
    assert [source(daemon, login) for _ in range(5)] == ["redis"] * 5
    assert daemon.kick(login["user_id"], login["session_id"]).status == 200
    check_dead(daemon.validate(login["access_token"]), "kicked")
    other = daemon.login()
    assert daemon.node.metric("sessiond_cache_entries") == 0
    with frozen(alone.redis.process.pid):
        answer = daemon.validate(other["access_token"])
        assert answer.status == 503, answer
    wait_until(lambda: daemon.validate(other["access_token"]).status == 200, 5, "Redis is back")


def flood(daemon, count):
    """Validates many sessions of the tenant acme."""
    users = [unique("flood") for _ in range(count)]
    replies = ask_all(daemon.node, [request("POST", "/v1/login", ACME, {"user_id": user})
                                    for user in users])
    assert {reply.status for reply in replies} == {201}
    replies = ask_all(daemon.node, [validation(reply.json["access_token"]) for reply in replies])
    assert {reply.status for reply in replies} == {200}


@pytest.mark.parametrize("quota", [True, False])
def test_a_tenant_that_floods_the_cache_evicts_only_its_own(alone, quota):
    bounds = {"cache__bytes": 800_000, "cache__tenant_bytes": 300_000 if quota else 0}
    daemon = alone(**bounds)
    mine = log_in_all(daemon.node, [unique("mine") for _ in range(50)])
    remember(daemon, *mine)
    flood(daemon, 5000)
    sources = [reply.json["source"] for reply in validate_all(daemon.node, mine)]
    assert daemon.node.metric("sessiond_cache_evictions_total") > 0
    assert daemon.node.metric("sessiond_cache_bytes") <= 800_000
    if quota:
        assert sources.count("cache") == len(mine), sources.count("cache")
    else:
        assert sources.count("redis") > 0, "the control: without a quota it does evict them"


# --- when it cannot hear --------------------------------------------------------------------------
def test_a_redis_that_was_emptied_makes_nobody_alive(alone):
    daemon = alone(2)
    user = unique()
    kicked, living = daemon.login(user), daemon.login(user)
    unseen = daemon.login()
    remember(daemon, kicked, living)
    assert daemon.kick(user, kicked["session_id"]).status == 200
    wait_until(lambda: daemon.validate(kicked["access_token"], 1).status == 401, 2, "dead")
    with Redis(alone.redis.port) as redis:
        redis.call("FLUSHALL")
    for _ in for_a_while(1.5, pause=0.05):
        for node in (0, 1):
            check_dead(daemon.refused(kicked["access_token"], node), "kicked")
            # Memory may go on to vouch for it for a while, but must say so.
            answer = daemon.validate(living["access_token"], node)
            assert answer.status in (200, 401, 503), answer
    answer = daemon.validate(living["access_token"], 1)
    assert answer.status != 200 or answer.json["stale"] is True, answer
    assert daemon.validate(unseen["access_token"], 1).status == 401
    again = daemon.login(user)
    for node in (0, 1):
        assert daemon.is_alive(again["access_token"], node)
        check_dead(daemon.refused(kicked["access_token"], node), "kicked")


def cut_the_news(redis):
    with Redis(redis.port) as connection:
        return connection.call("CLIENT", "KILL", "TYPE", "pubsub")


def test_when_the_news_are_cut_everything_is_read_until_they_are_back(alone):
    daemon = alone(2)
    logins = [daemon.login() for _ in range(20)]
    remember(daemon, *logins)
    cut = 0
    for login in logins:
        cut += cut_the_news(alone.redis)
        assert daemon.kick(login["user_id"], login["session_id"], node=0).status == 200
        kicked = clock()
        wait_until(lambda: daemon.validate(login["access_token"], 1).status == 401, 1.2,
                   "the other node knows")
        at_most(clock() - kicked, 1.2 * SLOW, "a kick that cannot be heard")
    lost = daemon.nodes[1].metric("sessiond_watches_lost_total")
    assert cut >= 4 and lost >= 2, (cut, lost)
    login = daemon.login()
    remember(daemon, login)


@contextlib.contextmanager
def deaf_user(redis, tmp_path):
    """A user of Redis that may do everything but listen."""
    with Redis(redis.port) as connection:
        connection.call("ACL", "SETUSER", "deaf", "on", ">secret", "~*", "&*", "+@all",
                        "-client|tracking")
    path = tmp_path / "password"
    path.write_text("secret")
    path.chmod(0o600)
    yield {"redis__user": "deaf", "redis__password_file": path}


def test_where_redis_does_not_tell_everything_is_read(alone, tmp_path):
    with deaf_user(alone.redis, tmp_path) as options:
        daemon = alone(2, **options)
        logins = [daemon.login() for _ in range(10)]
        for login in logins:
            assert [source(daemon, login, node) for node in (0, 1, 0, 1)] == ["redis"] * 4
            assert daemon.kick(login["user_id"], login["session_id"], node=0).status == 200
            check_dead(daemon.validate(login["access_token"], 1), "kicked", "service")
    nodes = daemon.node.ops.call("GET", "/readyz").json["store"]["nodes"]
    assert nodes and not any(entry["watched"] for entry in nodes), nodes
    assert "store_watch_refused" in daemon.node.log_text()


# --- uses that could not be written ---------------------------------------------------------------
def test_a_use_in_an_outage_is_written_afterwards(tmp_path):
    """With an idle timeout of 30 s a use is written every 3 s at most."""
    with DrivenTime(tmp_path / "driven") as driven:
        daemon = driven.daemon(policy__idle_timeout=30)
        login = daemon.login()
        remember(daemon, login)
        before = last_seen(daemon, login)
        driven.clock.elapse(4)
        use_in_an_outage(driven, daemon, login, before)


def use_in_an_outage(driven, daemon, login, before):
    with frozen(driven.redis.process.pid):
        wait_until(lambda: daemon.check(login["access_token"], touch=False).json.get("stale"), 3,
                   "the answer is stale")
        used = int(driven.now())
        answer = daemon.validate(login["access_token"])
        assert answer.json["stale"] is True and answer.json["idle_expires_at"] >= used + 29, answer

    def is_fresh():
        # It is read again, and has not been used until then as far as Redis knows.
        answer = daemon.check(login["access_token"], touch=False)
        assert answer.status in (200, 503), answer
        return answer.status == 200 and answer.json["stale"] is False
    wait_until(is_fresh, 2, "Redis is back")
    assert last_seen(daemon, login) == before, "nobody has told Redis yet"
    # Used again so soon, it would not be written if it were not owed.
    assert daemon.validate(login["access_token"]).status == 200
    wait_until(lambda: last_seen(daemon, login) >= used, 2, "the use is written")
