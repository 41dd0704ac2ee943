"""Many calls at once: the device limit and the rotation of one refresh token."""

import threading

import pytest

from checks import check_dead, check_problem
from daemon import SERVICE, Daemon, unique
from parallel import at_once
from redis_servers import SLOW, wait_until


@pytest.fixture(scope="module")
def three(workspace, cluster):
    daemon = Daemon(workspace / "parallel", cluster, count=3, policy__max_devices=3,
                    policy__refresh_grace=60, redis__timeout=f"{int(10000 * SLOW)}ms")
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def test_a_hundred_parallel_logins_never_leave_more_than_three_alive(three):
    user = unique()
    watching, seen = threading.Event(), []

    def watch():
        while not watching.wait(0.005):
            seen.append(three.devices(user, node=len(seen) % 3)["total"])
    watcher = threading.Thread(target=watch)
    watcher.start()
    answers = at_once(100, lambda n: three.try_login(user, node=n % 3))
    watching.set()
    watcher.join()
    assert {answer.status for answer in answers} == {201}, answers
    assert max(seen) <= 3, max(seen)
    made = [answer.json for answer in answers]
    for node in range(3):
        alive = [login for login in made if three.is_alive(login["access_token"], node)]
        assert len(alive) <= 3
    listed = three.devices(user)
    assert listed["total"] == 3
    assert {e["session_id"] for e in listed["devices"]} == {l["session_id"] for l in alive}


def test_fifty_parallel_refreshes_give_one_pair_which_dies_with_reuse(three):
    login = three.login()
    answers = at_once(50, lambda n: three.refresh(login["refresh_token"], node=n % 3))
    assert {answer.status for answer in answers} == {200}, answers
    pairs = {(answer.json["access_token"], answer.json["refresh_token"]) for answer in answers}
    assert len(pairs) == 1
    access, refresh = pairs.pop()
    assert three.is_alive(access)
    newest = three.refresh(refresh).json  # who has the successor has no need of the grace any more
    problem = check_problem(three.refresh(login["refresh_token"]), 401, "refresh_invalid")
    assert problem["reason"] == "reuse"
    for node in range(3):
        for token in (access, newest["access_token"]):
            check_dead(three.refused(token, node), "refresh_reuse")
    check_problem(three.refresh(newest["refresh_token"]), 401, "refresh_invalid")


def test_parallel_kicks_of_one_session_end_it_once(three):
    user = unique()
    login = three.login(user)
    answers = at_once(20, lambda n: three.kick(user, login["session_id"], node=n % 3))
    codes = sorted(answer.status for answer in answers)
    assert codes.count(200) == 1, codes
    assert set(codes) <= {200, 404, 503}


def test_logins_racing_a_logout_all_are_either_ended_or_alive_never_both(three):
    user = unique()

    def race(n):
        if n % 4 == 0:
            return three.call("POST", f"/v1/users/{user}/logout-all", {}, SERVICE)
        return three.try_login(user, node=n % 3)
    results = at_once(12, race)
    ended = {s for a in results if a.status == 200 for s in a.json["sessions"]}
    listed = {e["session_id"] for e in three.devices(user)["devices"]}
    assert not ended & listed
    for answer in results:
        if answer.status == 201:
            alive = three.is_alive(answer.json["access_token"])
            assert alive == (answer.json["session_id"] in listed)


def test_many_users_at_once_do_not_mix(three):
    def life(n):
        user = unique(f"mix{n}")
        login = three.login(user, node=n % 3)
        for node in range(3):
            session = three.validate(login["access_token"], node).json
            assert session["user_id"] == user and session["session_id"] == login["session_id"]
        new = three.refresh(login["refresh_token"], node=(n + 1) % 3).json
        assert new["user_id"] == user
        three.call("POST", "/v1/logout", None, new["access_token"], node=(n + 2) % 3)
        # Node 0 has the session in memory and hears of its end by the news, at once but not before.
        wait_until(lambda: not three.is_alive(new["access_token"]), 1, "the news is here")
    at_once(40, life)
