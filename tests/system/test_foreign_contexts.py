"""Contexts of a user under a key that a node does not have: they are not lost, and block no login."""

import secrets
import signal

import pytest

from checks import check_problem
from daemon import SERVICE, unique, write_key_file
from redis_servers import wait_until
from verification import answer_with, challenge, solve, wrong

OPTIONS = dict(policy__verify_on="new_device", policy__verify_method="otp")


def logout(daemon, login):
    assert daemon.call("POST", "/v1/logout", None, login["access_token"]).status == 200


@pytest.fixture
def pair(start):
    """(a node that seals with a new key, one that does not have it, what both had in common)."""
    ahead = start(**OPTIONS)
    behind = start(key_file=ahead.node.key_file, **OPTIONS)
    old = ahead.node.key_file.read_text().splitlines()
    return ahead, behind, old


def get_ahead(ahead, old):
    new = f"key 2 {secrets.token_hex(32)}"
    token = ahead.login(unique(), second_factor=True)["access_token"]
    write_key_file(ahead.node.key_file, old + [new])
    ahead.node.signal(signal.SIGHUP)
    wait_until(lambda: ahead.login(second_factor=True)["access_token"][3:5] != token[3:5], 5,
               "the new key mints")


def remember(daemon, user, *devices):
    for device in devices:
        logout(daemon, solve(daemon, challenge(daemon, user, device={"id": device})))


def test_a_login_on_a_node_that_lacks_the_key_leaves_them_alone(pair):
    ahead, behind, old = pair
    user = unique()
    solve(ahead, challenge(ahead, user, device={"id": "phone"}))
    get_ahead(ahead, old)
    remember(ahead, user, "tablet")
    # The phone's session, sealed before, tells the other node that the phone is known.
    logout(behind, behind.login(user, device={"id": "phone"}))
    assert ahead.login(user, device={"id": "tablet"})["new_device"] is False


def test_what_is_unknown_there_is_new_and_remembered_once_verified(pair):
    ahead, behind, old = pair
    user = unique()
    get_ahead(ahead, old)
    remember(ahead, user, "phone")
    remember(behind, user, "phone")
    for daemon in (behind, ahead):
        logout(daemon, daemon.login(user, device={"id": "phone"}))
    assert ahead.devices(user)["total"] == 0


def test_wrong_codes_are_counted_whoever_has_which_key(pair):
    ahead, behind, old = pair
    user = unique()
    get_ahead(ahead, old)
    remember(ahead, user, "phone")
    for daemon in (behind, ahead) * 2 + (behind,):
        problem = challenge(daemon, user, device={"id": "d"})
        bad = {"challenge_id": problem["challenge_id"], "code": wrong(problem["otp"])}
        for _ in range(4):
            check_problem(answer_with(daemon, bad), 403, "verification_failed")
        # On the one that has the key the phone is known all the time.
        logout(ahead, ahead.login(user, device={"id": "phone"}))
    for daemon in (ahead, behind):
        check_problem(daemon.try_login(user, device={"id": "d"}), 429, "too_many_guesses")


def test_what_was_sealed_with_a_key_that_was_dropped_is_new_once(start):
    daemon = start(**OPTIONS)
    user = unique()
    remember(daemon, user, "phone", "tablet")
    names = daemon.node.key_file.read_text().splitlines()[0]
    write_key_file(daemon.node.key_file, [names, f"key 2 {secrets.token_hex(32)}"])
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: daemon.try_login(user, device={"id": "phone"}).status == 403, 5,
               "the old key is gone")
    for device in ("phone", "tablet"):
        remember(daemon, user, device)
        logout(daemon, daemon.login(user, device={"id": device}))


def test_a_session_is_verified_without_them(start):
    """Wrong codes are over with a right one, whatever the user was seen with."""
    daemon = start(policy__bind_ip="verify", **OPTIONS)
    user = unique()
    login = solve(daemon, challenge(daemon, user, device={"id": "phone"}, ip="198.51.100.7"))
    told = daemon.check(login["access_token"], ip="203.0.113.9").json
    for n in range(3):
        bad = {"challenge_id": told["challenge_id"], "code": wrong(told["otp"])}
        check_problem(answer_with(daemon, bad), 403, "verification_failed")
    good = {"challenge_id": told["challenge_id"], "code": told["otp"]}
    assert answer_with(daemon, good).status == 200
    logout(daemon, login)
    assert daemon.call("POST", f"/v1/users/{user}/logout-all", None, SERVICE).status == 200
    logout(daemon, daemon.login(user, device={"id": "phone"}))
