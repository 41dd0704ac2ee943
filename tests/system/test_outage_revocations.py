"""Revocations while Redis is away are on this node's disk: they survive kill -9, and all nodes learn of
them when Redis is back. A revocation that cannot be kept is refused."""

import os

import pytest

from checks import check_dead, check_ended, check_problem
from daemon import SERVICE, Daemon, unique
from faults import kill_9, readiness
from machine import clock
from redis_servers import Cluster, wait_until

HEALED = 5  # seconds for all nodes to know, once Redis is back


class Story:
    def __init__(self, directory):
        self.cluster = Cluster(directory / "cluster")
        self.daemon = Daemon(directory / "daemon", self.cluster, 3, policy__max_devices=10)
        self.drawer = directory / "drawer"
        self.drawer.mkdir()
        self.fragile = Daemon(directory / "fragile", self.cluster,
                              key_file=self.daemon.node.key_file,
                              journal__file=self.drawer / "journal")
        self.ended, self.kept = [], []  # (login, reason); logins

    def know(self, *logins):
        for login in logins:
            for number in range(len(self.daemon.nodes)):
                assert self.daemon.validate(login["access_token"], number).status == 200

    def logins(self, count, user=None):
        user = user or unique("pending")
        logins = [self.daemon.login(user) for _ in range(count)]
        self.know(*logins)
        return logins

    def note(self, logins, reason, kept=()):
        self.ended += [(login, reason) for login in logins]
        self.kept += kept

    def check_here(self, logins, reason, kept=(), number=0):
        for login in logins:
            check_dead(self.daemon.validate(login["access_token"], number), reason)
            answer = self.daemon.check(login["access_token"], node=number)
            assert answer.status == 200 and answer.json["active"] is False, answer
        for login in kept:
            answer = self.daemon.validate(login["access_token"], number)
            assert answer.status == 200 and answer.json["stale"] is True, answer


@pytest.fixture(scope="module")
def before(workspace):
    story = Story(workspace / "pending")
    try:
        story.cluster.start()
        story.daemon.start()
        story.fragile.start()
        prepare(story)
        yield story
        story.daemon.stop()
        story.fragile.stop()
    finally:
        story.daemon.kill()
        story.fragile.kill()
        story.cluster.stop()


def prepare(story):
    story.kick = story.logins(2)
    story.own_kick = story.logins(2)
    story.logout = story.logins(2)
    story.all_keep = story.logins(3)
    story.all_reason = story.logins(2)
    story.own_all = story.logins(3)
    story.other_node = story.logins(1)
    user = unique()
    story.uncached = [story.daemon.login(user, node=0) for _ in range(2)]
    story.refreshed = story.daemon.login(unique())
    first = story.refreshed["access_token"]
    for _ in range(2):
        story.refreshed = story.daemon.refresh(story.refreshed["refresh_token"]).json
    story.refreshed["first_token"] = first
    story.fragile_logins = [story.fragile.login() for _ in range(3)]
    for login in story.fragile_logins:
        assert story.fragile.is_alive(login["access_token"])
    wait_until(lambda: story.daemon.node.metric("sessiond_journal_unsettled") == 0, 5, "settled")
    # Restarts in the outage begin with what the snapshot of a stop has.
    for node in story.daemon.nodes:
        node.stop()
        node.start()


@pytest.fixture(scope="module")
def outage(before):
    for port in before.cluster.ports:
        kill_9(port)
    login = before.kick[1]
    wait_until(lambda: before.daemon.validate(login["access_token"], 0).json.get("stale"), 3,
               "answers are stale")
    return before


def revoke_and_crash(story, answer, sessions, logins, reason, kept=()):
    """The answer has come, the node is killed at once; it knows after its restart."""
    story.daemon.nodes[0].process.kill()
    check_ended(answer, sessions, durability="pending")
    assert answer.status == 202, answer
    story.daemon.nodes[0].kill()
    story.daemon.nodes[0].start("/livez")
    story.note(logins, reason, kept)
    story.check_here(logins, reason, kept)


def test_a_kick_by_a_service(outage):
    victim, other = outage.kick
    answer = outage.daemon.kick(victim["user_id"], victim["session_id"])
    revoke_and_crash(outage, answer, [victim["session_id"]], [victim], "kicked", [other])


def test_a_kick_of_another_device_by_a_user(outage):
    own, victim = outage.own_kick
    answer = outage.daemon.call("DELETE", f"/v1/devices/{victim['session_id']}", None,
                                own["access_token"])
    revoke_and_crash(outage, answer, [victim["session_id"]], [victim], "kicked", [own])


def test_a_logout(outage):
    victim, other = outage.logout
    answer = outage.daemon.call("POST", "/v1/logout", None, victim["access_token"])
    revoke_and_crash(outage, answer, [victim["session_id"]], [victim], "logged_out", [other])


def test_a_logout_all_that_keeps_one_session(outage):
    kept, *victims = outage.all_keep
    answer = outage.daemon.call("POST", f"/v1/users/{kept['user_id']}/logout-all",
                                {"keep_session": kept["session_id"]}, SERVICE)
    revoke_and_crash(outage, answer, [], victims, "logged_out", [kept])


def test_a_logout_all_with_a_reason(outage):
    answer = outage.daemon.call("POST", f"/v1/users/{outage.all_reason[0]['user_id']}/logout-all",
                                {"reason": "password_changed"}, SERVICE)
    revoke_and_crash(outage, answer, [], outage.all_reason, "password_changed")


def test_a_logout_all_by_a_user_that_keeps_the_current_session(outage):
    own, *victims = outage.own_all
    answer = outage.daemon.call("POST", "/v1/logout-all", {"keep_current": True},
                                own["access_token"])
    revoke_and_crash(outage, answer, [], victims, "logged_out", [own])


def test_a_user_whose_token_this_node_does_not_know_is_503(outage):
    """No cache here can vouch for it; the node that was asked for the login does not matter."""
    login = outage.uncached[0]
    for path, body in (("/v1/logout-all", {}), ("/v1/logout-all", {"keep_current": True})):
        answer = outage.daemon.call("POST", path, body, login["access_token"], node=2)
        check_problem(answer, 503, "store_unavailable")
    another = outage.uncached[1]
    answer = outage.daemon.call("DELETE", f"/v1/devices/{another['session_id']}", None,
                                login["access_token"], node=2)
    check_problem(answer, 503, "store_unavailable")


def test_an_own_session_is_kicked_with_any_token_of_it(outage):
    """As it is logged out: the token says whose it is, and no other session is at stake."""
    victim = outage.refreshed
    answer = outage.daemon.call("DELETE", f"/v1/devices/{victim['session_id']}", None,
                                victim["first_token"])
    revoke_and_crash(outage, answer, [victim["session_id"]], [victim], "kicked")


def test_a_user_that_was_revoked_here_can_revoke_nothing(outage):
    victim, other = outage.kick
    answer = outage.daemon.call("POST", "/v1/logout-all", {}, victim["access_token"])
    assert answer.status == 401, answer
    outage.check_here([], None, [other])


def test_a_revocation_through_another_node_holds_there_at_once(outage):
    victim = outage.other_node[0]
    answer = outage.daemon.kick(victim["user_id"], victim["session_id"], node=1)
    check_ended(answer, [victim["session_id"]], durability="pending")
    outage.note([victim], "kicked")
    outage.check_here([victim], "kicked", number=1)
    answer = outage.daemon.validate(victim["access_token"], 2)
    assert answer.status == 200 and answer.json["stale"] is True, "it cannot know yet"


def test_a_revocation_that_cannot_be_kept_is_refused(outage):
    """The directory of the journal is gone; service returns by itself when it is back."""
    daemon, logins = outage.fragile, outage.fragile_logins

    def kick(login):
        return daemon.kick(login["user_id"], login["session_id"])
    wait_until(lambda: kick(logins[0]).status == 202, 3, "kicks are pending")
    aside = outage.drawer.with_name("aside")
    os.rename(outage.drawer, aside)
    try:
        check_problem(kick(logins[1]), 503, "journal_unavailable")
        answer = daemon.call("POST", f"/v1/users/{logins[1]['user_id']}/logout-all", {}, SERVICE)
        check_problem(answer, 503, "journal_unavailable")
        check_problem(daemon.call("POST", "/v1/logout", None, logins[1]["access_token"]), 503,
                      "journal_unavailable")
        status, body = readiness(daemon.node)
        assert status == 200 and body["checks"]["journal"] == "warn", body
        assert daemon.validate(logins[2]["access_token"]).status == 200
        assert daemon.validate(logins[0]["access_token"]).status == 401
    finally:
        os.rename(aside, outage.drawer)
    wait_until(lambda: kick(logins[1]).status == 202, 5, "kicks are pending again")
    assert readiness(daemon.node)[1]["checks"]["journal"] == "pass"
    daemon.node.kill()
    daemon.node.start("/livez")
    for login in logins[:2]:
        check_dead(daemon.validate(login["access_token"]), "kicked")
    outage.note(logins[:2], "kicked", [logins[2]])


def test_redis_is_back_and_all_nodes_know(outage):
    unsettled = outage.daemon.node.metric("sessiond_journal_unsettled")
    assert unsettled >= 6, unsettled
    outage.cluster.start()
    back = clock()

    def knows(number, login):
        return outage.daemon.validate(login["access_token"], number).status == 401
    for number in range(3):
        for login, _ in outage.ended:
            wait_until(lambda: knows(number, login), HEALED - (clock() - back),
                       f"node {number} knows of {login['session_id']}")
    print(f"{len(outage.ended)} sessions are dead on 3 nodes {clock() - back:.2f} s"
          " after Redis was back")
    for number, node in enumerate(outage.daemon.nodes):
        wait_until(lambda: readiness(node)[1]["journal"]["unsettled"] == 0, HEALED, "settled")
        for login, reason in outage.ended:
            check_dead(outage.daemon.validate(login["access_token"], number), reason)
            answer = outage.daemon.refresh(login["refresh_token"], number)
            check_problem(answer, 401, "refresh_invalid")
        for login in outage.kept:
            wait_until(lambda: outage.daemon.validate(login["access_token"],
                                                      number).json.get("stale") is False, 3,
                       "kept sessions are fresh")
    print(f"journals are empty {clock() - back:.2f} s after Redis was back")


def test_redis_itself_has_it(outage):
    """A node that starts with nothing of its own hears the same."""
    clean = Daemon(outage.daemon.node.directory.parent / "clean", outage.cluster,
                   key_file=outage.daemon.node.key_file)
    try:
        clean.start()
        for login, reason in outage.ended:
            check_dead(clean.validate(login["access_token"]), reason)
        for login in outage.kept:
            assert clean.is_alive(login["access_token"])
        clean.stop()
    finally:
        clean.kill()


def test_logins_after_a_blind_logout_all_live(outage):
    """It allows for clocks a second apart, no more."""
    user = outage.all_reason[0]["user_id"]
    login = outage.daemon.login(user)
    for number in range(3):
        assert outage.daemon.is_alive(login["access_token"], number)
    # Either way node 1 heard it before the present call about the same user.
    late = outage.daemon.login(user)
    assert outage.daemon.is_alive(late["access_token"], 1)
    assert outage.daemon.kick(user, late["session_id"]).status == 200
    outage.daemon.refused(late["access_token"], 1)
    assert outage.daemon.is_alive(login["access_token"], 1)
