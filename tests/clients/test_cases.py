"""Each gateway and library through the cases that count: allowed, denied, kicked in between, Redis away, overload."""
import itertools

import pytest

from gateways import REAL
from guards import LIBRARIES
from redis_servers import wait_until


@pytest.fixture(scope="module", params=[*REAL, *LIBRARIES], ids=lambda client: client.name)
def client(request, testbed):
    with request.param(testbed) as started:
        yield started


def check_refused(verdict):
    """401 with a challenge, and the application was not reached."""
    assert verdict.status == 401 and verdict.seen is None, verdict
    assert "bearer" in verdict.challenge.lower(), verdict


def check_unavailable(client, verdict, status):
    assert verdict.status == status and verdict.seen is None, verdict
    if status in (429, 503):
        assert 1 <= int(verdict.retry_after) <= 3600, verdict


@pytest.mark.cell("allowed")
def test_a_user_is_let_in_under_the_own_name(client, testbed):
    for user in ("alice", "b@example.com", "ünïcode"):
        login = testbed.login(user)
        verdict = client.ask(login["access_token"])
        assert verdict.status == 200, verdict
        assert verdict.user in client.spellings(user)
        if client.tells_more:
            assert verdict.value("X-Session-Tenant") == "default"
            assert verdict.roles == ["editor", "reader"]
            assert not verdict.stale


@pytest.mark.cell("denied")
@pytest.mark.parametrize("token", [None, "sa_x", "sa_" + "A" * 60, "garbage", "sk_" + "A" * 43])
def test_no_token_and_a_bad_one_are_refused(client, token):
    check_refused(client.ask(token))


@pytest.mark.cell("denied")
def test_a_refresh_token_is_no_access_token(client, testbed):
    check_refused(client.ask(testbed.login()["refresh_token"]))


@pytest.mark.cell("kicked")
@pytest.mark.parametrize("node", [0, 1], ids=["here", "at another node"])
def test_a_kick_between_two_requests_refuses_the_second(client, testbed, node):
    login = testbed.login()
    assert client.ask(login["access_token"]).status == 200
    testbed.kick(login, node)
    if not client.settles and node == 0:
        check_refused(client.ask(login["access_token"]))
    wait_until(lambda: client.ask(login["access_token"]).status != 200, client.settles + 1, "the kick has arrived")
    for _ in range(3):
        check_refused(client.ask(login["access_token"]))


@pytest.mark.cell("overload")
def test_too_many_calls_are_refused_and_never_as_a_bad_token(client, testbed):
    token, turn = testbed.busy["access_token"], itertools.count()

    def ask():
        """Each call differs in what a cache must tell apart."""
        return refused(client.ask(token, headers={"X-Device-Fingerprint": f"turn-{next(turn)}"}))
    verdict = wait_until(ask, 20, "the limit is reached")
    check_unavailable(client, verdict, client.busy)
    assert client.ask(testbed.login()["access_token"]).status == 200, "other tenants are not held up"


def refused(verdict):
    return verdict if verdict.status != 200 else None


@pytest.mark.cell("away")
def test_without_redis_known_users_stay_in_and_unknown_ones_get_503(client, testbed):
    known, unknown = testbed.login(), testbed.login(node=1)
    assert client.ask(known["access_token"]).status == 200
    with testbed.without_redis():
        def still_in():
            verdict = client.ask(known["access_token"])
            assert verdict.status == 200 and verdict.user == known["user_id"], verdict
            return verdict.stale or not client.tells_more
        wait_until(still_in, 10, "the answer says that it is stale")
        check_unavailable(client, client.ask(unknown["access_token"]), client.away)
    wait_until(lambda: client.ask(unknown["access_token"]).status == 200, 20, "all is well again")
    wait_until(lambda: not client.ask(known["access_token"]).stale, 20, "nothing is stale any more")
