"""Rounds of calls that race each other on three nodes: an ended session stays ended, whichever call came first; and a
hundred logins of one user at once under every rule of overflow.

30 rounds of each race, 1,000 with SESSIOND_TEST_FULL=1."""

import collections
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from checks import check_problem
from daemon import ADMIN, SERVICE, Daemon, unique
from machine import clock
from parallel import at_once
from probes import FULL, ask_all, percentile, validation
from redis_servers import SLOW

ROUNDS = 1000 if FULL else 30
CROWD = 100
SMALL_CROWD = CROWD if FULL else 24
NEWS = 1           # seconds for the other nodes to hear of a change
NODES = range(3)
APART = 0.002      # seconds by which the calls of a round may begin apart


@pytest.fixture(scope="module")
def three(workspace, cluster):
    """Patient with Redis: a round that ends with 503 shows nothing."""
    daemon = Daemon(workspace / "races", cluster, 3, redis__timeout=f"{int(5000 * SLOW)}ms")
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


class Racers:
    """Threads that keep their connections from round to round."""

    Run = collections.namedtuple("Run", "answer sent answered")

    def __init__(self, count):
        self.pool = ThreadPoolExecutor(count)
        self.gate = threading.Barrier(count)
        self.random = random.Random()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.pool.shutdown()

    def race(self, *calls):
        """Makes all calls at once or a little apart: what each answered, and when."""
        spread = self.random.choice([0, APART])

        def run(call, pause):
            self.gate.wait()
            time.sleep(pause)  # by chance: the calls overlap in other ways each time
            sent = time.perf_counter()
            return self.Run(call(), sent, time.perf_counter())
        pauses = [self.random.uniform(0, spread) for _ in calls]
        return list(self.pool.map(run, calls, pauses))


class Tally:
    """The results of the rounds of a race."""

    def __init__(self, name):
        self.name = name
        self.outcomes = collections.Counter()
        self.news = []
        self.dead = []

    def bury(self, daemon, *tokens):
        """Every token dies on every node within the bound, and is dead from then on."""
        begun = clock()
        left = {(node, token) for node in NODES for token in tokens}
        while left:
            for node, token in sorted(left):
                if not daemon.is_alive(token, node):
                    left.discard((node, token))
            assert not left or clock() < begun + NEWS * SLOW, f"{self.name}: survivors"
        self.news.append(clock() - begun)
        self.dead += tokens

    def finish(self, daemon):
        """None has come back since."""
        for node in daemon.nodes:
            replies = ask_all(node, [validation(token) for token in self.dead])
            statuses = collections.Counter(reply.status for reply in replies)
            assert set(statuses) == {401}, (self.name, node.directory.name, statuses)
        print(f"{self.name}: {sum(self.outcomes.values())} rounds, 0 survivors of {len(self.dead)} "
              f"tokens on 3 nodes; {dict(self.outcomes)}; dead everywhere after: median "
              f"{percentile(self.news, 0.5) * 1000:.1f} ms, worst {max(self.news) * 1000:.1f} ms")


def nodes_of_round(number):
    """Each role gets each node in turn."""
    return [(number + shift) % 3 for shift in NODES]


def known_login(daemon, user, node):
    """A session that every node has in memory."""
    login = daemon.login(user, node=node)
    for number in NODES:
        assert daemon.is_alive(login["access_token"], number)
    return login


def check_no_refresh(daemon, *tokens):
    for token in tokens:
        for node in NODES:
            check_problem(daemon.refresh(token, node), 401, "refresh_invalid")


def listed_by_all(daemon, user):
    """The answer of all nodes, which must agree."""
    answers = [daemon.devices(user, node=node)["devices"] for node in NODES]
    lists = [{device["session_id"] for device in devices} for devices in answers]
    assert lists[0] == lists[1] == lists[2], lists
    return lists[0]


def end_all(daemon, user, node):
    return daemon.call("POST", f"/v1/users/{user}/logout-all", {}, SERVICE, node=node)


# --- login and logout-all -------


def judge_logout_all(daemon, tally, user, before, logins, end):
    """Ended or listed, never both and never neither; who was in before the call is ended."""
    assert end.answer.status == 200, end.answer
    ended = set(end.answer.json["sessions"])
    assert before["session_id"] in ended
    listed = listed_by_all(daemon, user)
    assert not ended & listed
    dead, alive = [before], []
    for run in logins:
        assert run.answer.status == 201, run.answer
        login = run.answer.json
        if login["session_id"] in ended:
            dead.append(login)
            continue
        assert run.answered > end.sent, "it was there before everybody was logged out"
        assert login["session_id"] in listed, "it was neither ended nor made after that"
        alive.append(login)
    tally.outcomes[f"{len(alive)} after"] += 1
    tally.bury(daemon, *(login["access_token"] for login in dead))
    check_no_refresh(daemon, *(login["refresh_token"] for login in dead))
    for login in alive:
        for node in NODES:
            assert daemon.is_alive(login["access_token"], node)
    return alive


def test_a_login_that_races_a_logout_all_is_dead_or_was_made_after_it(three):
    tally = Tally("login and logout-all")
    with Racers(3) as racers:
        for number in range(ROUNDS):
            user = unique("race")
            first, second, third = nodes_of_round(number)
            before = known_login(three, user, first)
            *logins, end = racers.race(lambda: three.try_login(user, node=first),
                                       lambda: three.try_login(user, node=second),
                                       lambda: end_all(three, user, third))
            judge_logout_all(three, tally, user, before, logins, end)
    tally.finish(three)


# --- refresh and kick -------


def pair_of(run):
    """The pair that a racing refresh answered with, if it did."""
    if run.answer.status == 200:
        return run.answer.json
    check_problem(run.answer, 401, "refresh_invalid")
    return None


def test_a_session_that_was_kicked_while_it_was_refreshed_is_dead_with_all_its_pairs(three):
    tally = Tally("refresh and kick")
    with Racers(3) as racers:
        for number in range(ROUNDS):
            user = unique("race")
            first, second, third = nodes_of_round(number)
            login = known_login(three, user, first)
            old = login["refresh_token"]
            again, refreshed, kick = racers.race(
                lambda: three.refresh(old, first), lambda: three.refresh(old, second),
                lambda: three.kick(user, login["session_id"], node=third))
            assert kick.answer.status == 200, kick.answer
            assert kick.answer.json["sessions"] == [login["session_id"]]
            pairs = [pair for pair in map(pair_of, (again, refreshed)) if pair]
            assert len({pair["refresh_token"] for pair in pairs}) <= 1, "a retry gets the same pair"
            tally.outcomes[f"{len(pairs)} refreshed"] += 1
            tally.bury(three, *{t["access_token"] for t in [login, *pairs]})
            check_no_refresh(three, *{t["refresh_token"] for t in [login, *pairs]})
            assert not listed_by_all(three, user)
    tally.finish(three)


# --- login and freeze -------


def freeze(daemon, user, node, word="freeze"):
    return daemon.call("POST", f"/v1/users/{user}/{word}", {}, SERVICE, node=node)


def test_a_login_that_races_a_freeze_is_dead_or_refused(three):
    tally = Tally("login and freeze")
    with Racers(3) as racers:
        for number in range(ROUNDS):
            user = unique("race")
            first, second, third = nodes_of_round(number)
            before = known_login(three, user, first)
            *logins, frozen = racers.race(lambda: three.try_login(user, node=first),
                                          lambda: three.try_login(user, node=second),
                                          lambda: freeze(three, user, third))
            assert frozen.answer.status == 200, frozen.answer
            made = [run.answer.json for run in logins if run.answer.status == 201]
            assert {run.answer.status for run in logins} <= {201, 423}, logins
            assert {login["session_id"] for login in [before, *made]} == set(
                frozen.answer.json["sessions"]), "each had been made before"
            tally.outcomes[f"{len(made)} before"] += 1
            tally.bury(three, *(login["access_token"] for login in [before, *made]))
            for node in NODES:
                check_problem(three.try_login(user, node=node), 423, "account_frozen")
            assert freeze(three, user, second, "unfreeze").status == 200
            check_no_refresh(three, *(login["refresh_token"] for login in [before, *made]))
            assert not listed_by_all(three, user)
    tally.finish(three)


# --- a hundred logins at once under every rule of overflow ---

RULES = ["evict_oldest", "evict_idlest", "evict_all", "reject"]
LIMITED = {
    # name: (policy, members of the login by its number, {device type, or None for all: limit})
    "tenant": ({"max_devices": 3}, lambda n: {}, {None: 3}),
    "role": ({"max_devices": 9, "roles": {"clerk": {"max_devices": 2}}},
             lambda n: {"roles": ["clerk"]}, {None: 2}),
    "type": ({"max_devices": 4, "device_types": {"tv": {"max_devices": 1},
                                                 "phone": {"max_devices": 2}}},
             lambda n: {"device": {"id": f"d{n}", "type": ["tv", "phone", "desktop"][n % 3]}},
             {None: 4, "tv": 1, "phone": 2}),
}


class Crowd:
    """Logins of one user at once, and somebody who looks at the list all the while."""

    def __init__(self, daemon, policy):
        self.daemon, self.user, self.tenant = daemon, unique("crowd"), unique("tenant")
        answer = daemon.call("PUT", f"/v1/tenants/{self.tenant}/policy", policy, ADMIN)
        assert answer.status == 200, answer
        self.seen = []

    def login(self, number, **fields):
        return self.daemon.try_login(self.user, ADMIN, number % 3, tenant=self.tenant, **fields)

    def listed(self, node=0):
        path = f"/v1/users/{self.user}/devices?tenant={self.tenant}"
        answer = self.daemon.call("GET", path, None, ADMIN, node=node)
        assert answer.status == 200, answer
        return answer.json["devices"]

    def watch(self, over):
        while not over.wait(0.002):
            self.seen.append(self.listed(len(self.seen) % 3))

    def rush(self, count, fields):
        over = threading.Event()
        watcher = threading.Thread(target=self.watch, args=(over,))
        watcher.start()
        try:
            return at_once(count, lambda n: self.login(n, **fields(n)))
        finally:
            over.set()
            watcher.join()


def check_limits(devices, limits):
    for kind, most in limits.items():
        counted = [d for d in devices if kind is None or d["device"].get("type") == kind]
        assert len(counted) <= most, (kind, most, counted)


def check_refusals(answers, made, limits):
    """Each names the devices that are in its way, which are as many as the limit says."""
    for answer in answers:
        problem = check_problem(answer, 409, "device_limit")
        named = [device["session_id"] for device in problem["devices"]]
        assert named and set(named) <= {login["session_id"] for login in made}, problem
        assert len(set(named)) == len(named) <= limits[None], problem
        assert problem["limit"] in limits.values(), problem


def check_successions(made, listed):
    """Each session was replaced once, or is listed."""
    gone = [session["session_id"] for login in made for session in login["replaced"]]
    assert len(set(gone)) == len(gone), "one was replaced twice"
    assert {login["session_id"] for login in made} == set(gone) | listed and not set(gone) & listed


@pytest.mark.parametrize("limited", LIMITED)
@pytest.mark.parametrize("rule", RULES)
def test_a_crowd_of_logins_never_exceeds_its_limits(three, rule, limited):
    policy, fields, limits = LIMITED[limited]
    crowd = Crowd(three, {**policy, "overflow": rule})
    count = CROWD if limited == "tenant" else SMALL_CROWD
    answers = crowd.rush(count, fields)
    statuses = collections.Counter(answer.status for answer in answers)
    print(f"{rule}, limits by {limited}: {dict(statuses)}, the list was seen {len(crowd.seen)} "
          f"times, with at most {max(map(len, crowd.seen), default=0)}")
    assert set(statuses) <= {201, 409 if rule == "reject" else 201}, statuses
    assert crowd.seen
    devices = crowd.listed()
    for seen in [*crowd.seen, devices]:
        check_limits(seen, limits)
    made = [answer.json for answer in answers if answer.status == 201]
    listed = {device["session_id"] for device in devices}
    check_successions(made, listed)
    if rule == "reject":
        assert {login["session_id"] for login in made} == listed
        check_refusals([answer for answer in answers if answer.status == 409], made, limits)
    if rule != "evict_all":
        assert len(devices) == limits[None], devices
    tally = Tally(f"{rule} by {limited}")
    tally.bury(three, *(l["access_token"] for l in made if l["session_id"] not in listed))
    alive = [l for l in made if l["session_id"] in listed]
    assert all(three.is_alive(login["access_token"], node) for login in alive for node in NODES)
