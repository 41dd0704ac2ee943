"""A node whose clock is wrong: its skew is reported, and its writes harm no other node.

Node 1 is ten years ahead of the others. In a cluster the masters outvote its clock. With a single
Redis they cannot: then it goes by its own, and the others live with what it has written."""

import pytest

from checks import check_dead, check_ended
from client import Redis
from clocks import RIGHT, WRONG, WrongClock
from daemon import ADMIN, SERVICE, Daemon, now, unique
from redis_servers import SingleRedis, wait_until

TEN_YEARS = 3653 * 86400


def start_nodes(directory, redis, ahead, **options):
    daemon = Daemon(directory, redis, 3, **options)
    daemon.clock = WrongClock(directory)
    daemon.clock.set(ahead)
    for number, node in enumerate(daemon.nodes):
        node.spawn(environment=daemon.clock.environment if number == WRONG else None)
    for node in daemon.nodes:
        node.wait_for("/readyz")
    return daemon


@pytest.fixture(scope="module")
def ahead(workspace, cluster):
    daemon = start_nodes(workspace / "clock-ahead", cluster, TEN_YEARS)
    try:
        wait_until(lambda: clock_of(daemon, WRONG) == "warn", 5, "the skew is seen")
        yield daemon
        daemon.stop()
    finally:
        daemon.kill()


@pytest.fixture(scope="module")
def disputed(workspace):
    server = SingleRedis(workspace / "clock-redis").start()
    daemon = start_nodes(workspace / "clock-disputed", server, TEN_YEARS, redis__mode="standalone",
                         redis__wait_timeout=0)
    try:
        wait_until(lambda: clock_of(daemon, WRONG) == "warn", 5, "the dispute is seen")
        yield daemon
        daemon.stop()
    finally:
        daemon.kill()
        server.stop()


@pytest.fixture
def behind(tmp_path):
    """Ten years behind, with no server to outvote its clock."""
    server = SingleRedis(tmp_path / "redis").start()
    daemon = start_nodes(tmp_path, server, -TEN_YEARS, redis__mode="standalone",
                         redis__wait_timeout=0)
    daemon.redis = server
    try:
        yield daemon
        daemon.stop()
    finally:
        daemon.kill()
        server.stop()


def readiness(daemon, number):
    answer = daemon.nodes[number].ops.call("GET", "/readyz")
    assert answer.status == 200, answer
    return answer.json


def clock_of(daemon, number):
    return readiness(daemon, number)["checks"]["clock"]


def logout_all(daemon, login, number):
    return daemon.call("POST", f"/v1/users/{login['user_id']}/logout-all?tenant={login['tenant']}",
                       None, ADMIN, node=number)


def tenant_logout_all(daemon, login, number):
    return daemon.call("POST", f"/v1/tenants/{login['tenant']}/logout-all", {}, ADMIN, node=number)


def freeze_and_unfreeze(daemon, login, number):
    path, tenant = f"/v1/users/{login['user_id']}", f"tenant={login['tenant']}"
    frozen = daemon.call("POST", f"{path}/freeze?{tenant}", None, ADMIN, node=number)
    lifted = daemon.call("POST", f"{path}/unfreeze?{tenant}", None, ADMIN, node=number)
    assert lifted.status == 200, lifted
    return frozen


ENDINGS = [logout_all, tenant_logout_all, freeze_and_unfreeze]


def check_life(daemon, login, nodes=RIGHT):
    """As every login lives, shown and validated everywhere."""
    assert 7198 <= login["expires_in"] <= 7200, login
    assert 604798 <= login["refresh_expires_in"] <= 604800, login
    for number in nodes:
        answer = daemon.validate(login["access_token"], number)
        assert answer.status == 200, (number, answer)
        session = answer.json
        assert abs(session["created_at"] - now()) < 60, session
        assert now() + 7100 < session["expires_at"] <= now() + 7201, session
        assert now() + 1700 < session["idle_expires_at"] <= now() + 1862, session
        [listed] = [entry for entry in daemon.call(
            "GET", "/v1/devices", None, login["access_token"], node=number).json["devices"]
            if entry["session_id"] == login["session_id"]]
        assert abs(listed["created_at"] - now()) < 60, listed
        assert listed["expires_at"] <= now() + 1862, listed


def check_remembered(login):
    assert login["refresh_expires_in"] <= 604800 and login["expires_in"] <= 7200


@pytest.mark.parametrize("end", ENDINGS)
@pytest.mark.parametrize("fixture", ["ahead", "disputed"])
def test_logins_after_an_ending_at_the_wrong_node_live_as_long_as_others(request, fixture, end):
    daemon = request.getfixturevalue(fixture)
    tenant, user = unique(), unique()
    old = [daemon.login(user, key=ADMIN, tenant=tenant, node=number) for number in RIGHT]
    for login in old:
        assert all(daemon.is_alive(login["access_token"], number) for number in RIGHT)
    answer = end(daemon, old[0], WRONG)
    assert answer.status == 200, answer

    fresh = daemon.login(user, key=ADMIN, tenant=tenant)
    check_life(daemon, fresh)
    check_remembered(daemon.login(user, key=ADMIN, tenant=tenant, remember=True))
    refreshed = daemon.refresh(fresh["refresh_token"], node=2).json
    check_life(daemon, refreshed)
    for login in old:
        for number in RIGHT:
            assert not daemon.is_alive(login["access_token"], number)
            assert daemon.refresh(login["refresh_token"], node=number).status == 401

    # And so they end: by a kick, by a logout of a right node; and who comes then lives again.
    answer = daemon.call("POST", "/v1/logout", None, fresh["access_token"], node=2)
    check_ended(answer, [fresh["session_id"]], answer.json["durability"])
    last = daemon.login(user, key=ADMIN, tenant=tenant, node=2)
    answer = end(daemon, last, 0)
    assert answer.status == 200, answer
    for number in RIGHT:
        assert not daemon.is_alive(last["access_token"], number)
    check_life(daemon, daemon.login(user, key=ADMIN, tenant=tenant, node=2))


def test_a_tenant_that_the_wrong_node_logged_out_lists_those_who_came_back(disputed):
    tenant, user = unique(), unique()
    gone = disputed.login(unique(), key=ADMIN, tenant=tenant)
    assert tenant_logout_all(disputed, gone, WRONG).status == 200
    disputed.login(user, key=ADMIN, tenant=tenant)

    def listed():
        answer = disputed.call("GET", f"/v1/tenants/{tenant}/sessions", None, ADMIN)
        return {entry["user_id"] for entry in answer.json["users"]} == {user}
    wait_until(listed, 3, "the one who came back is listed, the other is not")


def test_a_wrong_clock_is_told_by_its_node_alone(ahead):
    why = readiness(ahead, WRONG)["why"]["clock"]
    assert "ms ahead of" in why, why
    assert abs(ahead.nodes[WRONG].metric("sessiond_clock_skew_seconds") - TEN_YEARS) < 2
    assert ahead.nodes[WRONG].log_text().count("clock_apart") == 1
    for number in RIGHT:
        assert clock_of(ahead, number) == "pass"
        assert abs(ahead.nodes[number].metric("sessiond_clock_skew_seconds")) < 1
        assert "clock_apart" not in ahead.nodes[number].log_text()


def test_the_wrong_node_goes_by_common_time(ahead):
    """Its own logins live as long as others, and it finds those of others alive."""
    user = unique()
    check_life(ahead, ahead.login(user, node=WRONG), (0, 1, 2))
    mine = ahead.login(user, node=0)
    check_life(ahead, mine, (0, 1, 2))
    check_life(ahead, ahead.refresh(mine["refresh_token"], node=WRONG).json, (0, 1, 2))
    assert ahead.devices(user, node=WRONG)["total"] == 2


def test_a_clock_that_is_set_in_the_middle_of_the_day_does_no_harm(cluster, tmp_path):
    """From the first call on: no server is asked in between."""
    daemon = start_nodes(tmp_path, cluster, 0)
    try:
        user = unique()
        old = daemon.login(user)
        wait_until(lambda: "clock_compared" in daemon.nodes[WRONG].log_text(), 5, "compared")
        daemon.clock.set(TEN_YEARS)
        assert daemon.is_alive(old["access_token"], WRONG)
        assert logout_all(daemon, old, WRONG).status == 200
        check_life(daemon, daemon.login(user), (0, 1, 2))
        check_life(daemon, daemon.login(user, node=WRONG), (0, 1, 2))
        check_dead(daemon.validate(old["access_token"]), "logged_out")
        assert clock_of(daemon, WRONG) == "warn"
        wait_until(lambda: "clock_apart" in daemon.nodes[WRONG].log_text(), 5, "it is told")
        daemon.clock.set(0)
        check_life(daemon, daemon.login(user, node=WRONG), (0, 1, 2))
        assert clock_of(daemon, WRONG) == "pass"
        wait_until(lambda: "clock_together" in daemon.nodes[WRONG].log_text(), 5, "it is told")
        assert daemon.nodes[WRONG].log_text().count("clock_apart") == 1
        daemon.stop()
    finally:
        daemon.kill()


def test_without_a_majority_the_dispute_is_told_and_nothing_is_tidied_away(disputed):
    assert "majority" in readiness(disputed, WRONG)["why"]["clock"]
    assert disputed.nodes[WRONG].log_text().count("clock_disputed") == 1
    assert all(clock_of(disputed, number) == "pass" for number in RIGHT)
    user = unique()
    login = disputed.login(user)
    disputed.login(user, node=WRONG)
    assert all(disputed.is_alive(login["access_token"], number) for number in RIGHT)
    check_life(disputed, disputed.refresh(login["refresh_token"]).json)


def test_what_the_wrong_node_issued_is_shown_no_longer_life_and_comes_right(disputed):
    user = unique()
    login = disputed.login(user, node=WRONG)
    for number in RIGHT:
        session = disputed.validate(login["access_token"], number).json
        assert session["active"] is True
        assert session["expires_at"] <= now() + 7201, session
        assert session["idle_expires_at"] <= now() + 1862, session
    refreshed = disputed.refresh(login["refresh_token"])
    check_life(disputed, refreshed.json)
    explained = disputed.call("POST", "/v1/explain", {"token": refreshed.json["access_token"]},
                              SERVICE).json["session"]
    assert explained["session_expires_at"] <= now() + 604801, explained
    assert abs(explained["issued_at"] - now()) < 60, "it is written so"


def test_a_node_that_is_behind_does_not_tell_redis_a_time_that_is_past(behind):
    user = unique()
    others = [behind.login(user, node=number, remember=True) for number in RIGHT]
    mine = behind.login(user, node=WRONG)
    logout = behind.call("POST", "/v1/logout", None, mine["access_token"], node=WRONG)
    assert logout.status == 200, logout
    for login in others:
        assert all(behind.is_alive(login["access_token"], number) for number in RIGHT)
    with Redis(behind.redis.port) as redis:
        for key in redis.call("KEYS", "sd:*"):
            left_ms = redis.call("PTTL", key)
            assert left_ms == -1 or left_ms > 600 * 1000, (key, left_ms)
    assert behind.refresh(others[1]["refresh_token"], node=2).status == 200


def test_a_node_that_is_behind_takes_no_use_back(behind):
    """Others would find the session idle."""
    login = behind.login()
    assert behind.is_alive(login["access_token"], WRONG)
    used = bytes.fromhex(login["session_id"]) + b"t"
    with Redis(behind.redis.port) as redis:
        for key in redis.call("KEYS", "sd:u:*"):
            seen = redis.call("HGET", key, used)
            assert seen is None or int(seen) > now() - 3600, seen


@pytest.fixture
def together(tmp_path):
    """A node and its Redis, which has no replica, whose clocks are set together."""
    clock = WrongClock(tmp_path)
    server = SingleRedis(tmp_path / "redis")
    server.environment = clock.environment
    daemon = Daemon(tmp_path, server.start(), redis__mode="standalone", redis__wait_timeout="50ms")
    daemon.clock = clock
    daemon.node.spawn(environment=clock.environment).wait_for("/readyz")
    try:
        yield daemon
        daemon.stop()
    finally:
        daemon.kill()
        server.stop()


def unsettled(daemon):
    return daemon.node.metric("sessiond_journal_unsettled")


def test_what_a_server_without_replicas_took_is_settled_when_nothing_lives_that_it_kills(together):
    login = together.login()
    answer = together.kick(login["user_id"], login["session_id"])
    check_ended(answer, [login["session_id"]], "accepted")
    wait_until(lambda: together.node.metric("sessiond_journal_replays_total") >= 2, 8, "replays")
    assert unsettled(together) == 1
    together.node.stop()
    together.clock.set(400 * 86400)
    together.node.spawn(environment=together.clock.environment).wait_for("/readyz")
    wait_until(lambda: unsettled(together) == 0, 8, "it is settled")


def test_when_all_clocks_jump_together_nothing_is_over_for_a_day(together):
    login = together.login()
    assert together.kick(login["user_id"], login["session_id"]).status == 200
    wait_until(lambda: clock_of(together, 0) == "pass", 5, "compared")
    together.clock.set(400 * 86400)
    wait_until(lambda: together.node.metric("sessiond_clock_jumps_total") >= 1, 5, "it is seen")
    [alert] = wait_until(lambda: [line for line in together.node.audit_lines()
                                  if line.get("rule.name") == "clock_jump"], 5, "an alert")
    assert alert["event.kind"] == "alert", alert
    replays = together.node.metric("sessiond_journal_replays_total")
    wait_until(lambda: together.node.metric("sessiond_journal_replays_total") > replays + 1, 8,
               "replays")
    assert unsettled(together) == 1
