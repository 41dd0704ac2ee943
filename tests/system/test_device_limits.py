"""max_devices with each overflow rule, and exclusive."""


import pytest

from checks import check_problem
from daemon import Daemon, unique
from redis_servers import wait_until


@pytest.fixture(scope="module")
def rules(workspace, cluster):
    """One daemon a rule, started when first asked for."""
    daemons = {}

    def get(**policy):
        name = "-".join(f"{value}" for value in policy.values())
        if name not in daemons:
            options = {f"policy__{option}": value for option, value in policy.items()}
            daemons[name] = Daemon(workspace / f"rule-{name}", cluster, **options)
            daemons[name].start()
        return daemons[name]

    try:
        yield get
        for daemon in daemons.values():
            daemon.stop()
    finally:
        for daemon in daemons.values():
            daemon.kill()


def alive(daemon, logins):
    return [daemon.is_alive(login["access_token"]) for login in logins]


def replaced(login):
    return [(entry["session_id"], entry["reason"]) for entry in login["replaced"]]


def test_evict_oldest_ends_the_oldest_login(rules):
    daemon = rules(max_devices=3, overflow="evict_oldest")
    user = unique()
    logins = [daemon.login(user, device={"id": f"d{n}"}) for n in range(4)]
    assert replaced(logins[3]) == [(logins[0]["session_id"], "replaced")]
    assert alive(daemon, logins) == [False, True, True, True]
    answer = daemon.validate(logins[0]["access_token"])
    assert answer.json["reason"] == "replaced"


def test_evict_idlest_ends_the_one_unused_for_longest(rules):
    daemon = rules(max_devices=3, overflow="evict_idlest", idle_timeout=10)
    user = unique()
    logins = [daemon.login(user) for _ in range(3)]
    for login in (logins[0], logins[2]):
        touches = daemon.node.metric("sessiond_touches_total")
        wait_until(lambda: daemon.is_alive(login["access_token"])
                   and daemon.node.metric("sessiond_touches_total") > touches, 5, "its use is written")
    newest = daemon.login(user)
    assert replaced(newest) == [(logins[1]["session_id"], "replaced")]
    assert alive(daemon, logins) == [True, False, True]


def test_evict_all_ends_every_other_session(rules):
    daemon = rules(max_devices=2, overflow="evict_all")
    user = unique()
    logins = [daemon.login(user) for _ in range(3)]
    assert sorted(replaced(logins[2])) == sorted(
        (login["session_id"], "replaced") for login in logins[:2])
    assert alive(daemon, logins) == [False, False, True]


def test_reject_refuses_the_login_and_ends_nothing(rules):
    daemon = rules(max_devices=2, overflow="reject")
    user = unique()
    logins = [daemon.login(user) for _ in range(2)]
    check_problem(daemon.try_login(user), 409, "device_limit")
    assert alive(daemon, logins) == [True, True]
    daemon.call("POST", "/v1/logout", None, logins[0]["access_token"])
    assert daemon.try_login(user).status == 201


def test_reject_lets_a_known_device_replace_itself(rules):
    daemon = rules(max_devices=2, overflow="reject")
    user = unique()
    first = daemon.login(user, device={"id": "a"})
    daemon.login(user, device={"id": "b"})
    again = daemon.login(user, device={"id": "a"})
    assert replaced(again) == [(first["session_id"], "replaced")]


def test_the_limit_is_per_user(rules):
    daemon = rules(max_devices=2, overflow="reject")
    for _ in range(3):
        user = unique()
        for _ in range(2):
            daemon.login(user)


def test_the_device_list_shows_the_limit(rules):
    daemon = rules(max_devices=3, overflow="evict_oldest")
    user = unique()
    for _ in range(5):
        daemon.login(user)
    body = daemon.devices(user)
    assert body["total"] == 3 and body["limit"] == 3


def test_a_user_may_have_a_thousand_sessions_and_lose_them_all_at_once(rules):
    daemon = rules(max_devices=1000, overflow="reject")
    user = unique()
    tokens = [daemon.login(user)["access_token"] for _ in range(1000)]
    check_problem(daemon.try_login(user), 409, "device_limit")
    listed = daemon.call("GET", "/v1/devices", None, tokens[500]).json
    assert listed["total"] == 1000 and len(listed["devices"]) == 1000
    answer = daemon.call("POST", "/v1/logout-all", {"keep_current": True}, tokens[500])
    assert answer.status == 200, answer
    assert answer.json["ended"] == 999
    assert alive(daemon, [{"access_token": token} for token in tokens[499:502]]) == [
        False, True, False]
    assert daemon.devices(user)["total"] == 1
    assert daemon.try_login(user).status == 201


def test_exclusive_none_lets_devices_live_side_by_side(rules):
    daemon = rules(exclusive="none")
    user = unique()
    logins = [daemon.login(user, device={"id": f"d{n}", "type": "phone"}) for n in range(3)]
    assert alive(daemon, logins) == [True, True, True]


def test_exclusive_device_type_ends_those_of_the_same_type(rules):
    daemon = rules(exclusive="device_type")
    user = unique()
    phone = daemon.login(user, device={"id": "p1", "type": "phone"})
    browser = daemon.login(user, device={"id": "b1", "type": "browser"})
    assert browser["replaced"] == []
    second = daemon.login(user, device={"id": "p2", "type": "phone"})
    assert replaced(second) == [(phone["session_id"], "replaced")]
    assert alive(daemon, [phone, browser, second]) == [False, True, True]


def test_exclusive_user_ends_all_other_sessions(rules):
    daemon = rules(exclusive="user")
    user = unique()
    logins = [daemon.login(user, device={"id": f"d{n}", "type": f"t{n}"}) for n in range(3)]
    assert alive(daemon, logins) == [False, False, True]
    assert replaced(logins[2]) == [(logins[1]["session_id"], "replaced")]
