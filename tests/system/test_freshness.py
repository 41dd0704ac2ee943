"""A node's knowledge and Redis disagree: rare races and losses, each made certain here.

Two nodes on one Redis; what the second one hears of it goes through a proxy."""

import contextlib
import threading
import time

import pytest

from client import Redis
from clocks import WrongClock
from daemon import ADMIN, Daemon, reload, unique
from faults import breakers
from proxy import ProxyLoop
from redis_servers import SLOW, SingleRedis, free_port, wait_until

IDLE = 10  # seconds, the least there is
TIMEOUT = 2 * SLOW       # seconds: redis.timeout
PATIENCE = TIMEOUT / 4   # of an operation with its tenant's state
BEYOND_PATIENCE_MS = 1400 * PATIENCE


class Pair:
    """`direct` talks to Redis, `behind` through the proxy."""

    def __init__(self, directory, loop):
        self.clock = WrongClock(directory)
        self.redis = SingleRedis(directory / "redis", environment=self.clock.environment).start()
        self.proxy = loop.proxy(free_port(), self.redis.port)
        options = {"redis__mode": "standalone", "redis__wait_timeout": "0",
                   "redis__timeout": f"{int(1000 * TIMEOUT)}ms", "policy__idle_timeout": f"{IDLE}s",
                   "server__workers": "1"}
        self.direct = Daemon(directory / "direct", self, **options,
                             redis__nodes=f"127.0.0.1:{self.redis.port}")
        self.behind = Daemon(directory / "behind", self, key_file=self.direct.node.key_file,
                             **options)
        for daemon in (self.direct, self.behind):
            daemon.node.environment = self.clock.environment

    def nodes(self):
        return [f"127.0.0.1:{self.proxy.port}"]

    def start(self):
        self.direct.start()
        self.behind.start()
        return self

    def stop(self):
        for daemon in (self.direct, self.behind):
            daemon.kill()
        self.redis.stop()


@pytest.fixture(scope="module")
def loop():
    proxies = ProxyLoop()
    yield proxies
    proxies.stop()


@pytest.fixture
def pair(tmp_path, loop):
    found = Pair(tmp_path, loop)
    try:
        yield found.start()
    finally:
        found.stop()


def the_hash(redis):
    """The only user's hash."""
    keys = [key for key in redis.keys() if key.startswith(b"sd:u:")]
    assert len(keys) == 1, keys
    return keys[0]


def fields_of(redis, key):
    reply = redis.call("HGETALL", key)
    return dict(zip(reply[::2], reply[1::2]))


def test_a_new_token_is_not_judged_by_a_read_that_began_before_it(pair):
    login = pair.direct.login()
    assert pair.behind.is_alive(pair.direct.login()["access_token"])  # it is connected
    with pair.proxy.fault("delay", ms=250):
        first = threading.Thread(target=pair.behind.validate, args=(login["access_token"],))
        first.start()
        wait_until(lambda: pair.proxy.hits["delay"] > 0, 5,
                   "Redis has read the session, its answer is under way")
        fresh = pair.direct.refresh(login["refresh_token"]).json
        answer = pair.behind.validate(fresh["access_token"])
        first.join()
    assert pair.proxy.hits["delay"] > 0
    assert answer.status == 200, answer


@pytest.mark.parametrize("how", ["kick", "logout", "refresh"])
def test_a_session_that_ended_unheard_is_dead_once_somebody_was_told(pair, how):
    """The node that ended it died between its write and the news of it."""
    login = pair.direct.login()
    user, session, token = login["user_id"], login["session_id"], login["access_token"]
    field = bytes.fromhex(session)
    with Redis(pair.redis.port) as redis:
        key = the_hash(redis)
        record = redis.call("HGET", key, field)
        assert pair.direct.kick(user, session).status == 200
        grave = redis.call("HGET", key, field)
        redis.call("HSET", key, field, record)
        wait_until(lambda: pair.behind.validate(token).json.get("source") == "cache", 2, "cached")
        redis.call("HSET", key, field, grave)
    if how == "kick":
        assert pair.behind.kick(user, session).status == 404
    elif how == "logout":
        answer = pair.behind.call("POST", "/v1/logout", None, token)
        assert answer.status == 200 and answer.json["ended"] == 0, answer
    else:
        assert pair.behind.refresh(login["refresh_token"]).status == 401
    answer = pair.behind.validate(token)
    assert answer.status == 401 and answer.json["reason"] == "kicked", answer


def test_a_session_that_is_gone_since_others_ended_is_dead(pair):
    """Its tombstone was dropped for later ones, while this node did not listen."""
    login = pair.direct.login()
    token = login["access_token"]
    assert pair.behind.is_alive(token)
    pair.proxy.inject("cut", whom="watch")
    pair.proxy.cut_now("watch")
    wait_until(lambda: pair.behind.validate(token).json["source"] == "redis", 3, "unverified")
    with Redis(pair.redis.port) as redis:
        key = the_hash(redis)
        version = int(fields_of(redis, key)[b"!"].split()[0])
        redis.call("HDEL", key, bytes.fromhex(login["session_id"]))
        redis.call("HSET", key, "!", f"{version + 20000} {version + 10000}")
    answer = pair.behind.validate(token)
    assert answer.status == 401, answer


def test_a_user_who_comes_back_after_all_was_forgotten_is_served(pair):
    """The hash expired right after its last session was ended."""
    user = unique("returns")
    login = pair.direct.login(user)
    assert pair.behind.is_alive(login["access_token"])
    assert pair.direct.call("POST", "/v1/logout", None, login["access_token"]).status == 200
    wait_until(lambda: not pair.behind.is_alive(login["access_token"]), 2, "heard")
    with Redis(pair.redis.port) as redis:
        redis.call("DEL", the_hash(redis))
    fresh = pair.direct.login(user)
    assert pair.direct.validate(fresh["access_token"]).status == 200
    assert pair.behind.validate(fresh["access_token"]).status == 200


def test_a_use_during_an_outage_counts_when_it_is_over(pair):
    login = pair.direct.login()
    token = login["access_token"]
    assert pair.behind.is_alive(token)
    with pair.proxy.fault("cut"):
        pair.proxy.cut_now()
        pair.clock.elapse(0.7 * IDLE)
        answer = pair.behind.validate(token)
        assert answer.status == 200 and answer.json["stale"], answer
    pair.clock.elapse(0.6 * IDLE)
    wait_until(lambda: not (answer := pair.behind.validate(token)).json["stale"] and answer.status == 200, 5,
               "Redis vouches for it again")
    wait_until(lambda: pair.direct.is_alive(token), 2, "the use was told to Redis")


@contextlib.contextmanager
def deaf(pair):
    """Nothing is proven any more, but calls are answered: the breaker that the silence opened is
    closed again, and no tracking connection that might trip it comes up."""
    node, token = pair.behind.node, pair.direct.login()["access_token"]

    def only_calls_are_answered():
        answer = pair.behind.check(token, touch=False)
        return (answer.status == 200 and answer.json["source"] == "redis"
                and node.metric("sessiond_watches") == 0
                and set(breakers(node).values()) == {"closed"})
    with pair.proxy.fault("blackhole", whom="watch"):
        wait_until(only_calls_are_answered, 10, "Redis answers, but tells nothing")
        yield


def test_who_hears_of_the_tenant_while_the_session_is_read_is_not_stale(pair):
    """Redis is slower than the patience with the tenant's state."""
    token = pair.direct.login()["access_token"]
    assert pair.behind.is_alive(token)
    with deaf(pair), pair.proxy.fault("delay", whom="client", ms=BEYOND_PATIENCE_MS):
        begun = time.monotonic()
        answer = pair.behind.validate(token)
        seconds = time.monotonic() - begun
    assert answer.status == 200 and answer.json["source"] == "redis", answer
    assert answer.json["stale"] is False, answer
    assert seconds > 2.3 * PATIENCE, "the patience, then the session; between them the tenant's answer"


def test_redis_that_is_slow_is_waited_for_where_what_is_known_of_the_tenant_may_not_be_used(pair):
    pair.behind.node.write_config(outage__grace=0)
    reload(pair.behind.node)
    token = pair.direct.login()["access_token"]
    assert pair.behind.is_alive(token)
    with deaf(pair), pair.proxy.fault("delay", whom="client", ms=BEYOND_PATIENCE_MS):
        answer = pair.behind.validate(token)
    assert answer.status == 200 and answer.json["stale"] is False, answer


@pytest.mark.parametrize("ip, said", [("198.51.100.7", None), ("203.0.113.9", "binding")])
def test_who_hears_meanwhile_that_sessions_are_bound_now_judges_by_that(pair, ip, said):
    """The session is asked for under a policy that does not look at where it is used from."""
    token = pair.direct.login(ip="198.51.100.7")["access_token"]
    assert pair.behind.is_alive(token)
    with deaf(pair):
        changed = pair.direct.call("PUT", "/v1/tenants/default/policy", {"bind": {"ip": "strict"}},
                                   ADMIN)
        assert changed.status == 200, changed
        with pair.proxy.fault("delay", whom="client", ms=BEYOND_PATIENCE_MS):
            answer = pair.behind.check(token, ip=ip)
    assert answer.status == 200 and answer.json.get("reason") == said, answer


def test_a_user_cannot_fill_the_journal_with_names_in_an_outage(pair):
    user = unique()
    logins = [pair.direct.login(user) for _ in range(2)]  # each session has a rate of its own
    tokens = [login["access_token"] for login in logins]
    assert all(pair.behind.is_alive(token) for token in tokens)
    token = tokens[0]
    first = max(int(login["session_id"], 16) for login in logins)

    def kick(number):
        return pair.behind.call("DELETE", f"/v1/devices/{number:016x}", None,
                                tokens[number % 2]).status

    with pair.proxy.fault("cut"):
        pair.proxy.cut_now()
        assert kick(1) == 404, "too old to live still"
        assert kick(2 ** 64 - 1) == 202, "behind a cutoff of a clock that was ahead, ids are ahead too"
        statuses = [kick(first + number) for number in range(1, 120)]
        assert statuses == [202] * 99 + [503] * 20
        # The end of everything still has its place.
        answer = pair.behind.call("POST", "/v1/logout-all", {}, token)
        assert answer.status == 202 and pair.behind.validate(token).status == 401


def test_a_session_that_redis_lost_is_logged_out_all_the_same(pair):
    """A failover took the login with it, memory vouches for the token; a logout must end that."""
    login = pair.direct.login(unique(), remember=True)
    token = login["access_token"]
    for daemon in (pair.direct, pair.behind):
        assert daemon.is_alive(token)
    with Redis(pair.redis.port) as redis:
        redis.call("DEL", next(key for key in redis.keys() if key.startswith(b"sd:u:")))
    answer = pair.direct.call("POST", "/v1/logout", None, token)
    assert answer.status == 200 and answer.json["ended"] == 0, answer
    assert pair.direct.validate(token).status == 401
    wait_until(lambda: pair.behind.validate(token).status == 401, 1.2, "the other node knows")


def test_a_change_that_redis_lost_locks_a_user_out_of_a_node_for_a_minute_at_most(pair):
    """Redis goes back to before a refresh. The node that has seen the later pair believes Redis
    after a minute: the pair that Redis knows is good again, the lost one is over."""
    daemon = pair.direct
    login = daemon.login(unique(), remember=True)
    with Redis(pair.redis.port) as redis:
        key = next(key for key in redis.keys() if key.startswith(b"sd:u:"))
        before = redis.call("DUMP", key)
        later = daemon.refresh(login["refresh_token"]).json
        assert daemon.is_alive(later["access_token"])
        redis.call("RESTORE", key, 0, before, "REPLACE")
        redis.call("CLIENT", "KILL", "TYPE", "pubsub")

    def is_doubted():
        """From memory, or not at all where it has heard that the user's key has changed."""
        answer = daemon.validate(later["access_token"])
        return answer.json["stale"] if answer.status == 200 else answer.code == "store_behind"
    wait_until(is_doubted, 5, "Redis is not believed")
    pair.clock.elapse(61)
    wait_until(lambda: daemon.validate(login["access_token"]).status == 200, 5, "Redis is believed")
    assert daemon.validate(later["access_token"]).status == 401
