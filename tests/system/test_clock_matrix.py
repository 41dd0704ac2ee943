"""A wrong clock on one of three nodes destroys nothing: by how much, where, and for how long.

Each cell is a story: a kick is pending, for Redis is away; the node's clock is wrong; Redis comes
back. Then the kicked token is dead, everybody else is logged in, and no file is gone. The whole
table, printed, with SESSIOND_TEST_FULL=1."""

import contextlib
import re
import time

import pytest

from clocks import WRONG, WrongClock
from daemon import Daemon, unique
from probes import FULL
from redis_servers import ProxiedCluster, comes_true, wait_until

NODES = (0, 1, 2)
DAY = 86400
OFFSETS = {"1 s": 1, "90 s": 90, "35 min": 2100, "1 day": DAY, "31 days": 31 * DAY,
           "400 days": 400 * DAY}
PLACES = ("at boot", "at boot, Redis at hand", "while running")
SPANS = ("half a second", "for good")
CELLS = [(place, span, sign + offset) for place in PLACES for span in SPANS
         for offset in OFFSETS for sign in "+-"]
SOME = [("at boot", "half a second", "+400 days"), ("at boot", "for good", "-400 days"),
        ("at boot, Redis at hand", "for good", "+400 days"),
        ("while running", "half a second", "-1 day"), ("while running", "for good", "+400 days")]
EVENTS = ("clock_apart", "clock_together", "clock_disputed", "clock_jumped", "audit_deleted",
          "journal_expired")
AGES = (1 / 24, 1, 30, 150, 179)    # days; audit.retention is 180


@pytest.fixture(scope="module")
def nodes(workspace):
    redis = ProxiedCluster(workspace / "matrix-cluster")
    daemon = Daemon(workspace / "matrix", redis, 3, policy__max_devices=10)
    daemon.redis, daemon.table = redis, []
    daemon.clock = WrongClock(workspace / "matrix")
    try:
        redis.start()
        for number, node in enumerate(daemon.nodes):
            node.spawn(environment=daemon.clock.environment if number == WRONG else None)
        for node in daemon.nodes:
            node.wait_for("/readyz")
        yield daemon
        daemon.stop()
        print("\n" + "\n".join(daemon.table))
    finally:
        daemon.kill()
        redis.stop()


@contextlib.contextmanager
def outage(daemon):
    with daemon.redis.fault("refuse"):
        for proxy in daemon.redis.proxies.values():
            proxy.cut_now()
        yield


def wrong(daemon):
    return daemon.nodes[WRONG]


def start_wrong(daemon, path):
    wrong(daemon).spawn(environment=daemon.clock.environment)
    wrong(daemon).wait_for(path)


def rotated_files(daemon):
    """Files of the trail that are to live, by names that are their ages."""
    names = [time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - age * DAY)) for age in AGES]
    paths = [wrong(daemon).directory / f"audit.log.{name}-1" for name in names]
    for path in paths:
        path.write_text("")
    return paths


def decided(call):
    """True or False, once it can be decided."""
    def answer():
        status = call().status
        assert status in (200, 401, 503), status
        return None if status == 503 else [status == 200]
    return wait_until(answer, 8, "a call is decided")[0]


def judged(daemon, token, node):
    return decided(lambda: daemon.validate(token, node))


def refreshes(daemon, login, node):
    return decided(lambda: daemon.refresh(login["refresh_token"], node=node))


def log_in(daemon, user, node=0):
    """Breakers may be open still."""
    def answer():
        found = daemon.try_login(user, node=node)
        assert found.status in (201, 503), found
        return found.json if found.status == 201 else None
    return wait_until(answer, 8, "a login")


def kick(daemon, login):
    return daemon.kick(login["user_id"], login["session_id"], node=WRONG)


def kick_pending(daemon, login):
    wait_until(lambda: kick(daemon, login).status == 202, 5, "the kick is pending")


def refused(daemon, logins, seconds):
    """How many the wrong node takes for over while no server can be asked."""
    daemon.clock.set(seconds)
    return sum(daemon.validate(login["access_token"], WRONG).status == 401 for login in logins)


def go_wrong(daemon, place, span, seconds, victim, others):
    """Kick, wrong clock, Redis back, in the order of the place. Returns how many were locked out
    meanwhile, and what comes last."""
    out = 0
    with outage(daemon):
        kick_pending(daemon, victim)
        if place == "at boot":
            wrong(daemon).stop()
            daemon.clock.set(seconds)
            start_wrong(daemon, "/livez")
            out = refused(daemon, others, seconds)
        elif place == "while running":
            out = refused(daemon, others, seconds)
        else:
            wrong(daemon).kill()
        if place != "at boot, Redis at hand":
            stay(daemon, span)
    if place == "at boot, Redis at hand":
        daemon.clock.set(seconds)
        start_wrong(daemon, "/livez")
        return out, lambda: stay(daemon, span)
    return out, lambda: None


def stay(daemon, span):
    time.sleep(0.5 if span == "half a second" else 1.2)  # it is the fault that lasts so long
    if span == "half a second":
        daemon.clock.set(0)


def locked_out(daemon, logins, at):
    return sum(not judged(daemon, login["access_token"], number)
               for login in logins for number in at)


def run_cell(daemon, place, span, name):
    seconds = int(name[0] + "1") * OFFSETS[name[1:]]
    log_begin = len(wrong(daemon).log_text())
    user, files = unique(), rotated_files(daemon)
    victims = [log_in(daemon, unique(), number) for number in (0, WRONG)]
    others = [log_in(daemon, user, number) for number in (0, 2)]
    idle = log_in(daemon, unique())
    for login in victims + others:
        assert all(judged(daemon, login["access_token"], number) for number in NODES)
    # The one has long been confirmed, the other is pending.
    wait_until(lambda: kick(daemon, victims[0]).status in (200, 404), 8, "a kick")

    out, afterwards = go_wrong(daemon, place, span, seconds, victims[1], others)
    wrong(daemon).wait_for("/readyz")
    out += locked_out(daemon, others, NODES)
    logins = [log_in(daemon, user, WRONG)]
    afterwards()
    out += locked_out(daemon, others + logins, NODES)

    def dead():
        return not any(judged(daemon, victim["access_token"], number)
                       for victim in victims for number in NODES)
    comes_true(dead, 6)
    alive = sum(judged(daemon, victim["access_token"], number)
                or refreshes(daemon, victim, number)
                for victim in victims for number in NODES)
    out += sum(not refreshes(daemon, login, number)
               for number, login in ((WRONG, idle), (0, others[0]), (WRONG, others[1])))
    gone = sum(not path.exists() for path in files)
    harm = alive, out, gone
    said = said_since(daemon, log_begin, () if any(harm) else expected(place, span, name))
    return harm, said


def expected(place, span, name):
    """Events that the log must have. A second may be too little for it."""
    if OFFSETS[name[1:]] == 1:
        return set()
    jumps = {"clock_jumped"} if span == "half a second" or place == "while running" else set()
    return jumps | ({"clock_apart"} if span == "for good" else set())


def said_since(daemon, log_begin, wanted):
    def said():
        log = wrong(daemon).log_text()[log_begin:]
        return [event for event in EVENTS if re.search(rf"\b{event}\b", log)]
    wait_until(lambda: set(said()) >= set(wanted), 5, f"the log says {wanted}")
    return said()


def make_right(daemon):
    """A process that has seen no jump, as the next cell wants it."""
    wrong(daemon).kill()
    daemon.clock.set(0)
    for path in wrong(daemon).directory.glob("audit.log.*"):
        path.unlink()
    start_wrong(daemon, "/readyz")
    for node in daemon.nodes:
        node.wait_for("/readyz")


@pytest.mark.parametrize("place,span,name", CELLS if FULL else SOME)
def test_a_wrong_clock_destroys_nothing(nodes, place, span, name):
    try:
        (alive, out, gone), said = run_cell(nodes, place, span, name)
    finally:
        make_right(nodes)
    nodes.table.append(f"{place:24} {span:14} {name:10} alive={alive} locked_out={out} "
                       f"deleted={gone} {' '.join(said)}")
    assert (alive, out, gone) == (0, 0, 0), nodes.table[-1]
