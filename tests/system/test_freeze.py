"""Frozen users: their sessions end, no login succeeds until it is lifted or over, on every node - also
if it was said while Redis was away. The later of freeze and unfreeze holds."""

import time

import pytest

from checks import check_dead, check_ended, check_problem
from client import Redis
from daemon import ACME, ADMIN, KEYS, SERVICE, Daemon, now, password_file, unique
from faults import is_well, kill_9, readiness
from parallel import at_once
from redis_servers import Cluster, SingleRedis, wait_until

NEWS = 1     # seconds for the other nodes to hear of a change
HEALED = 10  # seconds for all nodes to know, once Redis is back


def freeze(daemon, user, node=0, key=SERVICE, headers=None, query="", **body):
    return daemon.call("POST", f"/v1/users/{user}/freeze{query}", body, key, headers, node)


def unfreeze(daemon, user, node=0, key=SERVICE, **body):
    return daemon.call("POST", f"/v1/users/{user}/unfreeze", body, key, node=node)


def summary(daemon, user, node=0):
    answer = daemon.call("GET", f"/v1/users/{user}", None, SERVICE, node=node)
    assert answer.status == 200, answer
    return answer.json


def check_locked(daemon, user, reason, node=0):
    problem = check_problem(daemon.try_login(user, node=node), 423, "account_frozen")
    assert problem["reason"] == reason, problem


def check_frozen(daemon, user, logins, reason="frozen"):
    """No token of the user is good on any node, and no login succeeds. After an outage a node may say
    for a moment more that it cannot know."""
    for number in range(len(daemon.nodes)):
        wait_until(lambda: daemon.try_login(user, node=number).status == 423, HEALED, "it knows")
        for login in logins:
            access, refresh = login["access_token"], login["refresh_token"]
            wait_until(lambda: daemon.validate(access, number).status != 200, NEWS, "the news")
            wait_until(lambda: daemon.validate(access, number).status == 401, HEALED, "it knows")
            wait_until(lambda: daemon.refresh(refresh, number).status == 401, HEALED, "it knows")
            check_dead(daemon.validate(login["access_token"], number), "frozen")
            problem = check_problem(daemon.refresh(login["refresh_token"], number), 401,
                                    "refresh_invalid")
            assert problem["reason"] == "frozen", problem
        check_locked(daemon, user, reason, number)


def check_free(daemon, user):
    """Logins through every node give tokens that are good on every node."""
    for number in range(len(daemon.nodes)):
        answer = daemon.try_login(user, node=number)
        assert answer.status == 201, answer
        for other in range(len(daemon.nodes)):
            assert daemon.is_alive(answer.json["access_token"], other)


# --- with Redis at hand ---


def test_a_freeze_ends_all_sessions_and_refuses_logins_everywhere(shared):
    user, other = unique(), shared.login()
    logins = [shared.login(user, node=number) for number in range(3)]
    for number in range(3):
        for login in logins:
            assert shared.is_alive(login["access_token"], number)
    answer = freeze(shared, user, 1, headers={"X-Operator": "alice@example.com"}, reason="fraud")
    check_ended(answer, [login["session_id"] for login in logins])
    check_frozen(shared, user, logins, "fraud")
    check_dead(shared.validate(logins[0]["access_token"], 2), "frozen", "alice@example.com")
    for number in range(3):
        body = summary(shared, user, number)
        assert body["frozen"] is True and body["frozen_reason"] == "fraud", body
        assert body["devices"] == 0 and "until" not in body, body
        assert shared.is_alive(other["access_token"], number)


def test_a_disabled_account_has_no_session_left_and_the_operator_is_on_record(shared):
    user = unique()
    logins = [shared.login(user, node=number) for number in range(3)]
    answer = freeze(shared, user, headers={"X-Operator": "carol@example.com"}, reason="dismissed")
    check_ended(answer, [login["session_id"] for login in logins])
    check_frozen(shared, user, logins, "dismissed")
    line = shared.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.action"] == "freeze" and line["event.outcome"] == "success", line
    for fact in (user, "carol@example.com", *(login["session_id"] for login in logins)):
        assert fact in str(line), (fact, line)


def test_unfreeze_lets_logins_in_and_revives_nothing(shared):
    user = unique()
    login = shared.login(user)
    assert shared.is_alive(login["access_token"], 2)
    assert freeze(shared, user).status == 200
    check_locked(shared, user, "frozen", 2)
    answer = unfreeze(shared, user, 2)
    check_ended(answer, [])
    check_free(shared, user)
    for number in range(3):
        check_dead(shared.validate(login["access_token"], number), "frozen")
        body = summary(shared, user, number)
        assert body["frozen"] is False and body["frozen_reason"] is None, body
    line = shared.nodes[2].audit_of(answer.header("X-Request-Id"))
    assert line["event.action"] == "unfreeze" and line["event.outcome"] == "success", line


def freeze_shortly(look, *who, **body):
    """(until, answer, what look() returned) of a freeze that is not over yet when look() has returned, which may take
    longer than a
    short one on a slow machine: then a longer one is tried."""
    seconds = 2
    while True:
        until = now() + seconds
        answer = freeze(*who, until=until, **body)
        seen = look()
        if now() < until:
            return until, answer, seen
        seconds *= 2


def test_a_freeze_with_an_end_lifts_itself(shared):
    user = unique()
    login = shared.login(user)
    until, answer, (locked, seen) = freeze_shortly(
        lambda: (shared.try_login(user, node=1), summary(shared, user, 1)), shared, user, reason="too_fast")
    assert answer.status == 200, answer
    check_problem(locked, 423, "account_frozen")
    assert seen["until"] == until and seen["frozen_reason"] == "too_fast"
    wait_until(lambda: shared.try_login(user, node=1).status == 201, 6 + until - now(), "the freeze is over")
    assert now() >= until
    check_free(shared, user)
    check_dead(shared.validate(login["access_token"], 1), "frozen")
    assert summary(shared, user)["frozen"] is False


def test_the_last_word_holds(shared):
    user = unique()
    for number, reason in ((0, "one"), (1, "two"), (2, "three")):
        assert freeze(shared, user, number, reason=reason).status == 200
    check_locked(shared, user, "three")
    for number in range(3):
        assert unfreeze(shared, user, number).status == 200
    check_free(shared, user)
    assert freeze(shared, user, 1, reason="again").status == 200
    check_frozen(shared, user, [], "again")


def test_somebody_who_was_never_here_is_frozen_all_the_same(shared):
    user = unique()
    check_ended(freeze(shared, user), [])
    check_locked(shared, user, "frozen", 1)
    assert summary(shared, unique())["frozen"] is False


@pytest.mark.parametrize("body", [
    {"until": 1}, {"until": 0}, {"until": -1}, {"until": 1.5}, {"until": "2030"}, {"until": [1]},
    {"until": 10**12}, {"until": 2**53}, {"until": now() + 11 * 366 * 86400}, {"reason": ""},
    {"reason": "Fraud"}, {"reason": "x" * 33}, {"reason": 7}, {"untill": 5}])
def test_a_wrong_body_freezes_nobody(shared, body):
    user = unique()
    problem = check_problem(freeze(shared, user, **body), 400, "body_invalid")
    assert next(iter(body)) in problem["detail"], problem
    assert "until" not in body or "from now to ten years ahead" in problem["detail"], problem
    assert shared.try_login(user).status == 201


def test_unfreeze_has_no_end(shared):
    check_problem(unfreeze(shared, unique(), until=now() + 60), 400, "body_invalid")


@pytest.mark.parametrize("key,code", [(None, "credentials_missing"), ("sk_" + "w" * 43, "key_invalid"),
                                      (KEYS["only-validate"][0], "scope_missing"),
                                      (KEYS["only-login"][0], "scope_missing")],
                         ids=["none", "unknown", "only-validate", "only-login"])
def test_only_services_that_manage_freeze(shared, key, code):
    user = unique()
    for call in (freeze, unfreeze):
        answer = call(shared, user, key=key)
        assert answer.code == code, answer
    assert shared.try_login(user).status == 201


def test_a_user_cannot_freeze_with_a_token(shared):
    login = shared.login()
    assert freeze(shared, login["user_id"], key=login["access_token"]).status in (401, 403)
    assert shared.is_alive(login["access_token"])


def test_a_tenant_freezes_its_own_users_only(shared):
    user = unique()
    login = shared.login(user)
    check_problem(freeze(shared, user, key=ACME, query="?tenant=default"), 403, "tenant_forbidden")
    assert freeze(shared, user, key=ACME).status == 200  # its own user of this name
    assert shared.is_alive(login["access_token"]) and shared.try_login(user).status == 201
    check_problem(shared.try_login(user, key=ACME), 423, "account_frozen")
    assert freeze(shared, user, key=ADMIN, query="?tenant=default").status == 200
    check_locked(shared, user, "frozen")


def test_where_tenants_may_not_force_logouts_their_keys_freeze_nobody(start):
    daemon = start(policy__force_logout="no")
    user = unique()
    login = daemon.login(user)
    for call in (freeze, unfreeze):
        problem = check_problem(call(daemon, user), 403, "forbidden")
        assert "force_logout" in problem["detail"], problem
        assert "unfreeze" in problem["detail"], problem
    assert daemon.is_alive(login["access_token"])
    assert freeze(daemon, user, key=ADMIN, query="?tenant=default").status == 200
    check_dead(daemon.validate(login["access_token"]), "frozen")


def test_no_login_that_races_a_freeze_survives_it(shared):
    for _ in range(5):
        user = unique("race")

        def race(number):
            if number == 4:
                return freeze(shared, user, number % 3)
            return shared.try_login(user, node=number % 3)
        answers = at_once(9, race)
        assert answers[4].status == 200, answers
        logins = [answer.json for answer in answers if answer.status == 201]
        assert {answer.status for answer in answers} <= {200, 201, 423, 503}, answers
        for number in range(3):
            for login in logins:
                wait_until(lambda: not shared.is_alive(login["access_token"], number), NEWS,
                           "the news")
        assert summary(shared, user)["devices"] == 0
        assert unfreeze(shared, user).status == 200
        for number in range(3):
            for login in logins:
                assert not shared.is_alive(login["access_token"], number), "it came back"


# --- while Redis is away ---


class Outage:
    def __init__(self, directory):
        self.cluster = Cluster(directory / "cluster")
        self.daemon = Daemon(directory / "daemon", self.cluster, 3)

    def logins(self, user):
        """Two sessions that every node has met. The outage of the test before may be felt yet."""
        logins = [self.first_login(user, 0).json for _ in range(2)]
        for number in range(3):
            for login in logins:
                wait_until(lambda: self.daemon.validate(login["access_token"], number).status == 200,
                           HEALED, "it is known everywhere")
        return logins

    def begin(self, login):
        for port in self.cluster.ports:
            kill_9(port)
        for number in range(3):
            wait_until(lambda: self.daemon.validate(login["access_token"], number).json.get("stale"), 3,
                       "answers are stale")

    def end(self):
        self.cluster.start()

    def restart(self, number, crash=True):
        node = self.daemon.nodes[number]
        node.kill() if crash else node.stop()
        node.start("/livez")  # ready it is when Redis is back

    def first_login(self, user, number):
        """The answer to the first login that Redis has a say in."""
        def answer():
            found = self.daemon.try_login(user, node=number)
            return found if found.status != 503 else None
        return wait_until(answer, HEALED, "Redis answers")

    def settle(self):
        for node in self.daemon.nodes:
            wait_until(lambda: readiness(node)[1]["journal"]["unsettled"] == 0, HEALED, "settled")
            # A breaker that has just been half open lets few pass.
            wait_until(lambda: is_well(node), HEALED, "well")


@pytest.fixture(scope="module")
def outage(workspace):
    story = Outage(workspace / "freeze")
    try:
        story.cluster.start()
        story.daemon.start()
        yield story
        story.daemon.stop()
    finally:
        story.daemon.kill()
        story.cluster.stop()


def test_a_freeze_in_an_outage_survives_kill_9_and_reaches_all_nodes(outage):
    daemon = outage.daemon
    user, early, ending = unique(), unique(), unique()
    logins, bystander = outage.logins(user), daemon.login()
    assert freeze(daemon, early).status == 200
    outage.settle()
    assert daemon.is_alive(bystander["access_token"])
    for node in daemon.nodes:  # restarts in the outage begin with what the snapshot of a stop has
        node.stop()
        node.start()
    outage.begin(logins[0])

    answer = freeze(daemon, user, headers={"X-Operator": "bob"}, reason="stolen")
    daemon.nodes[0].process.kill()
    check_ended(answer, [], durability="pending")
    outage.restart(0)
    for login in logins:
        check_dead(daemon.validate(login["access_token"]), "frozen", "bob")
        assert daemon.check(login["access_token"]).json["reason"] == "frozen"
        assert daemon.validate(login["access_token"], 1).json["stale"], "it cannot know yet"
    assert daemon.validate(bystander["access_token"]).json["stale"] is True
    _, answer, _ = freeze_shortly(lambda: None, daemon, ending)
    assert answer.status == 202, answer
    check_problem(daemon.try_login(user), 503, daemon.try_login(user).code)
    check_problem(unfreeze(daemon, early), 503, unfreeze(daemon, early).code)

    outage.end()
    answer = outage.first_login(user, 0)
    check_problem(answer, 423, "account_frozen")  # also before the replay
    outage.settle()
    check_frozen(daemon, user, logins, "stolen")
    check_locked(daemon, early, "frozen", 2)
    wait_until(lambda: daemon.try_login(ending, node=2).status == 201, 5, "that freeze is over")
    assert daemon.is_alive(bystander["access_token"], 1)
    assert unfreeze(daemon, user, 2).status == 200
    check_free(daemon, user)


def test_a_pending_freeze_does_not_undo_a_later_unfreeze(outage):
    """The node that has it was down meanwhile."""
    daemon = outage.daemon
    user, other = unique(), unique()
    logins, others = outage.logins(user), outage.logins(other)
    outage.begin(logins[0])
    assert freeze(daemon, user, 0).status == 202
    assert freeze(daemon, other, 0).status == 202
    daemon.nodes[0].kill()
    outage.end()
    assert outage.first_login(user, 1).status == 201, "nobody but node 0 knows"
    wait_until(lambda: unfreeze(daemon, user, 1).status == 200, HEALED, "unfrozen")
    late = outage.first_login(user, 2).json
    assert outage.first_login(other, 2).status == 201
    daemon.nodes[0].start()
    outage.settle()
    check_free(daemon, user)
    for number in range(3):
        assert daemon.is_alive(late["access_token"], number)
        for login in logins:  # but these were ended by it
            wait_until(lambda: not daemon.is_alive(login["access_token"], number), NEWS, "the news")
    check_frozen(daemon, other, others)


def test_an_unfreeze_overrides_the_freeze_in_this_nodes_journal(outage):
    daemon = outage.daemon
    user = unique()
    logins = outage.logins(user)
    outage.begin(logins[0])
    assert freeze(daemon, user, 0).status == 202
    outage.end()
    wait_until(lambda: unfreeze(daemon, user, 0).status == 200, HEALED, "unfrozen")
    login = outage.first_login(user, 0).json
    outage.restart(0)
    outage.settle()
    for number in range(3):
        assert daemon.is_alive(login["access_token"], number)
        check_dead(daemon.validate(logins[0]["access_token"], number), "frozen")
    check_free(daemon, user)


# --- what Redis does not know, or no longer ---


@pytest.fixture
def single(tmp_path):
    redis = SingleRedis(tmp_path / "redis").start()
    try:
        yield redis
    finally:
        redis.stop()


def test_a_freeze_that_redis_does_not_take_holds_on_this_node_whatever_redis_says(
        start, single, tmp_path):
    """This node may read but not write; the other one knows nothing and lets the user in."""
    with Redis(single.port) as admin:
        admin.call("ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all", "-evalsha",
                   "-eval")
    daemon = start(2, single, begin_now=False, redis__mode="standalone", redis__wait_timeout=0)
    daemon.nodes[0].write_config(redis__user="reader",
                                 redis__password_file=password_file(tmp_path / "pw", "secret"))
    daemon.start()
    user = unique()
    early = daemon.login(user, node=1)
    assert daemon.is_alive(early["access_token"], 0)
    check_ended(freeze(daemon, user, 0, reason="stolen"), [], durability="pending")
    claimed = time.time() + 1
    wait_until(lambda: time.time() > claimed, 5, "the second is over that a pending freeze claims beyond the clock")
    late = daemon.login(user, node=1)
    for login in (early, late):
        assert daemon.is_alive(login["access_token"], 1)
        check_dead(daemon.validate(login["access_token"], 0), "frozen")
    check_locked(daemon, user, "stolen", 0)
    assert summary(daemon, user, 0)["frozen"] is True and summary(daemon, user, 0)["devices"] == 0
    answer = daemon.call("POST", "/v1/explain", {"token": late["access_token"]}, SERVICE)
    assert answer.json["reason"] == "frozen" and answer.json["redis"] == {"says": "alive"}, answer

    with Redis(single.port) as admin:
        admin.call("ACL", "SETUSER", "reader", "+@all")
    for login in (early, late):
        wait_until(lambda: not daemon.is_alive(login["access_token"], 1), HEALED, "it was replayed")
    check_frozen(daemon, user, [early, late], "stolen")
    assert unfreeze(daemon, user, 1).status == 200
    check_free(daemon, user)


def test_what_redis_forgets_the_journal_remembers(start, single):
    """A server that comes back empty: who was frozen still is, who was unfrozen is not again."""
    daemon = start(2, single, redis__mode="standalone", redis__wait_timeout=0)
    frozen, freed = unique(), unique()
    for user in (frozen, freed):
        assert freeze(daemon, user, 0, reason="fraud").status == 200
    assert unfreeze(daemon, freed, 0).status == 200
    assert daemon.try_login(freed).status == 201
    single.stop()
    wait_until(lambda: daemon.try_login(frozen).status == 503, 5, "Redis is away")
    single.start()

    def answer():
        found = daemon.try_login(frozen, node=0)
        return found if found.status != 503 else None
    check_problem(wait_until(answer, HEALED, "Redis answers"), 423, "account_frozen")
    wait_until(lambda: daemon.try_login(frozen, node=1).status == 423, HEALED, "it was replayed")
    wait_until(lambda: daemon.try_login(freed, node=1).status == 201, HEALED, "Redis answers")
    check_free(daemon, freed)
    check_frozen(daemon, frozen, [], "fraud")
