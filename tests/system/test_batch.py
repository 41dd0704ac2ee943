"""POST /v1/validate/batch: many tokens by one call, each as by a call of its own."""

import json

import pytest

from checks import check_problem
from daemon import ACME, ADMIN, KEYS, SERVICE, unique
from faults import frozen
from redis_servers import Cluster, process_id, wait_until
from test_validate import check_session
from tokens import MALFORMED, flip_bit, never_issued

BATCH = "/v1/validate/batch"
MALFORMED_RESULT = {"active": False, "reason": "malformed"}


def ask(daemon, tokens, key=SERVICE, node=0, query="", **fields):
    return daemon.call("POST", BATCH + query, {"tokens": tokens, **fields}, key, node=node)


def results(answer, count):
    assert answer.status == 200, answer
    assert set(answer.json) == {"results"} and len(answer.json["results"]) == count, answer
    assert answer.header("Cache-Control") == "no-store"
    return answer.json["results"]


def test_each_result_is_the_one_that_a_call_of_its_own_gives(shared):
    alive, dead, other = (shared.login() for _ in range(3))
    assert shared.call("POST", "/v1/logout", None, dead["access_token"]).status == 200
    tokens = [alive["access_token"], dead["access_token"], never_issued(), other["access_token"],
              alive["refresh_token"], flip_bit(alive["access_token"], 300), *MALFORMED]
    found = results(ask(shared, tokens), len(tokens))
    check_session(found[0], alive)
    check_session(found[3], other)
    for token, result in zip(tokens, found):
        single = shared.check(token).json
        if single["active"]:
            single["source"] = result["source"]
        assert result == single, token


def test_the_results_come_in_order_from_memory_and_from_redis(shared):
    logins = [shared.login() for _ in range(300)]
    order = [login for pair in zip(logins[:150], reversed(logins[150:])) for login in pair]
    for logins_known in range(2):
        found = results(ask(shared, [login["access_token"] for login in order], node=1), 300)
        assert [result["session_id"] for result in found] == [login["session_id"] for login in order]
        if logins_known:
            assert {result["source"] for result in found} == {"cache"}


def test_a_thousand_tokens_of_many_users_are_one_call(shared):
    logins = [shared.login() for _ in range(100)]
    tokens = [login["access_token"] for login in logins] * 10
    found = results(ask(shared, tokens, node=2), 1000)
    assert [result["session_id"] for result in found] == [login["session_id"] for login in logins] * 10


def test_one_token_a_thousand_times_is_looked_up_once(start):
    daemon = start(cache__bytes=0)
    login = daemon.login()
    before = daemon.node.metric("sessiond_cache_misses_total")
    found = results(ask(daemon, [login["access_token"]] * 1000), 1000)
    assert all(result == found[0] for result in found) and found[0]["active"] is True
    assert daemon.node.metric("sessiond_cache_misses_total") == before + 1


def test_elements_may_name_address_and_device(start):
    daemon = start(policy__bind_ip="strict", policy__bind_device="strict")
    token = daemon.login(ip="192.0.2.7", device={"fingerprint": "finger"})["access_token"]
    good = {"token": token, "ip": "192.0.2.8", "device_fingerprint": "finger"}
    found = results(ask(daemon, [good, {**good, "ip": "198.51.100.1"}, {**good, "device_fingerprint": "no"},
                                 {**good, "ip": None, "device_fingerprint": None}, token, good]), 6)
    assert [result["active"] for result in found] == [True, False, False, *[found[4]["active"]] * 2, True]
    assert found[1]["reason"] == found[2]["reason"] == "binding", found


def test_an_element_of_wrong_form_is_malformed_and_spoils_nothing(shared):
    token = shared.login()["access_token"]
    odd = ["", "\x00", "\u2028", {}, {"token": None}, {"token": 1}, {"token": token, "foo": 1},
           {"token": token, "ip": 1}, {"Token": token}, {"token": [token]}]
    answer = ask(shared, [token, *odd, {"token": token}])
    if answer.status == 400:  # NUL is no text
        odd.remove("\x00")
        answer = ask(shared, [token, *odd, {"token": token}])
    found = results(answer, len(odd) + 2)
    assert found[0]["active"] is True and found[-1]["active"] is True
    assert all(result == MALFORMED_RESULT for result in found[1:-1]), found


@pytest.mark.parametrize("body, names", [
    ({}, "tokens"), ({"tokens": []}, "1 to 1000"), ({"tokens": ["x"] * 1001}, "1 to 1000"),
    ({"tokens": None}, "tokens"), ({"tokens": "sa_x"}, "tokens"), ({"tokens": {"a": 1}}, "tokens"),
    ({"tokens": ["x", 1]}, "tokens[1]"), ({"tokens": ["x", None]}, "tokens[1]"),
    ({"tokens": [["x"]]}, "tokens[0]"), ({"tokens": ["x", True]}, "tokens[1]"),
    ({"tokens": ["x"], "touch": 1}, "touch"), ({"tokens": ["x"], "tuoch": False}, "tuoch"),
    ({"tokens": ["x"], "tenant": "acme"}, "tenant"), ([], "object"), ([1], "object"),
])
def test_a_wrong_body_is_refused_by_name(shared, body, names):
    answer = shared.call("POST", BATCH, body, SERVICE)
    problem = check_problem(answer, 400, "body_invalid")
    assert names in problem["detail"], problem


@pytest.mark.parametrize("body", [
    b'{"tokens":["x"]', b'{"tokens":["x",]}', b'{"tokens":["x"]}x', b'{"tokens":["x"],"touch":tru}',
    b'{"tokens":["x"],"touch":false,}', b'{"tokens" ["x"]}', b'{"tokens":["x" "y"]}', b"",
    b'{"tokens":["x"],"tokens":["y"]}', b'{"tokens":["x\n"]}', b'{"tokens":["\xff"]}', b'{"tokens":["\\q"]}'])
def test_what_is_no_json_is_refused(shared, body):
    check_problem(shared.call("POST", BATCH, body, SERVICE), 400, "body_invalid")


def test_the_spelling_of_the_json_does_not_matter(shared):
    token = shared.login()["access_token"]
    escaped = "".join(f"\\u{ord(c):04x}" for c in token)
    for text in ('{"tokens":["%s"]}', ' {\t"tokens" :\r\n[ "%s" ] } ', '{"touch":true,"tokens":["%s"]}',
                 '{"tokens":["%s"],"touch":false}', '{"tokens":["%s"],"touch":null}', '{"\\u0074okens":["%s"]}'):
        for spelled in (token, escaped):
            answer = shared.call("POST", BATCH, (text % spelled).encode(), SERVICE)
            assert results(answer, 1)[0]["active"] is True, text


def test_the_body_may_be_larger_than_others_and_is_bounded(shared):
    padding = [never_issued() for _ in range(999)]
    token = shared.login()["access_token"]
    assert results(ask(shared, [*padding, token]), 1000)[999]["active"] is True
    check_problem(ask(shared, ["x" * 1000] * 300), 413, "too_large")
    assert results(ask(shared, ["x" * 1000] * 200), 200) == [MALFORMED_RESULT] * 200


def test_who_may_ask(shared):
    login = shared.login()
    token = login["access_token"]
    check_problem(ask(shared, [token], key=None), 401, "credentials_missing")
    check_problem(ask(shared, [token], key=KEYS["only-login"][0]), 403, "scope_missing")
    check_problem(ask(shared, [token], key=token), 403, "forbidden")
    check_problem(shared.call("GET", BATCH, None, SERVICE), 405, "method_not_allowed")


def test_a_bound_key_asks_about_its_own_tenant_alone(shared):
    own = shared.login()
    foreign = shared.try_login(unique(), ACME).json
    tokens = [own["access_token"], foreign["access_token"], own["access_token"]]
    found = results(ask(shared, tokens), 3)
    assert [result["active"] for result in found] == [True, False, True]
    assert found[1] == {"active": False, "reason": "tenant_forbidden"}
    assert foreign["user_id"] not in json.dumps(found)
    found = results(ask(shared, tokens, ADMIN), 3)
    assert [result["tenant"] for result in found] == ["default", "acme", "default"]
    found = results(ask(shared, tokens, ADMIN, query="?tenant=acme"), 3)
    assert [result["active"] for result in found] == [False, True, False]
    assert found[0] == {"active": False, "reason": "unknown"}
    check_problem(ask(shared, tokens, query="?tenant=acme"), 403, "tenant_forbidden")


def test_touch_false_is_no_use(start):
    daemon = start(policy__idle_timeout="1h")
    login = daemon.login()
    before = daemon.node.metric("sessiond_audit_lines_total")
    found = results(ask(daemon, [login["access_token"]], touch=False), 1)
    assert found[0]["active"] is True
    assert daemon.node.metric("sessiond_audit_lines_total") >= before


def test_one_audit_line_has_the_counts_and_the_sessions(shared):
    alive, dead = shared.login(), shared.login()
    assert shared.call("POST", "/v1/logout", None, dead["access_token"]).status == 200
    tokens = [alive["access_token"], dead["access_token"], never_issued(), alive["access_token"], "x"]
    answer = ask(shared, tokens)
    line = shared.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.action"] == "validate-batch" and line["event.outcome"] == "success", line
    assert (line["sessiond.tokens"], line["sessiond.active"], line["sessiond.inactive"],
            line["sessiond.undecided"]) == (5, 2, 3, 0), line
    assert sorted(line["sessiond.sessions"]) == sorted([alive["session_id"], dead["session_id"]]), line
    assert "user.id" not in line and alive["access_token"] not in json.dumps(line)


def test_a_batch_costs_as_many_calls_as_it_has_tokens(start):
    daemon = start(policy__requests_per_second=1, policy__burst=20)
    token = daemon.login()["access_token"]  # the first of the twenty
    answer = ask(daemon, [token] * 10)
    results(answer, 10)
    assert '"tenant";q=20' in answer.header("RateLimit-Policy"), answer
    problem = check_problem(ask(daemon, [token] * 15), 429, "rate_limited")
    assert "over its rate" in problem["detail"]
    problem = check_problem(ask(daemon, [token] * 21), 429, "rate_limited")
    assert "may have 20 at once" in problem["detail"], problem


def test_a_tenant_over_its_rate_spoils_no_batch_for_the_others(start):
    daemon = start()
    answer = daemon.call("PUT", "/v1/tenants/acme/policy",
                         {"rate": {"requests_per_second": 1, "burst": 5}}, ADMIN)
    assert answer.status == 200, answer
    own, acme = daemon.login(), daemon.try_login(unique(), ACME).json
    tokens = [own["access_token"], acme["access_token"]] * 20
    found = results(ask(daemon, tokens, ADMIN), 40)
    assert all(result["active"] is True for result in found[0::2])
    limited = {"active": None, "code": "rate_limited"}
    assert limited in found[1::2], found[1::2]
    assert all(result == limited or result["tenant"] == "acme" for result in found[1::2])


# --- outages ---------------------------------------------------------------------------------------

@pytest.fixture
def own_cluster(tmp_path):
    servers = Cluster(tmp_path / "cluster")
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


def test_where_one_master_hangs_the_others_tokens_are_answered(own_cluster, start):
    daemon = start(count=2, redis=own_cluster)
    logins = [daemon.login() for _ in range(40)]
    known = logins[:20]
    for login in known:
        assert daemon.is_alive(login["access_token"], node=1)
    # A master that has users and not the tenant's policy: that would make every answer of the tenant stale.
    policy = daemon.call("PUT", "/v1/tenants/default/policy", {"max_devices": 20}, ADMIN)
    assert policy.status == 200, policy
    hung = next(master for master in own_cluster.masters() if not master.call("KEYS", "sd:p:*"))
    with frozen(process_id(hung.port)):
        def stale():
            found = results(ask(daemon, [login["access_token"] for login in known], node=1), 20)
            return found if any(result["active"] and result["stale"] for result in found) else None
        found = wait_until(stale, 10, "some tokens are stale")
        assert all(result["active"] is True for result in found), found
        assert any(not result["stale"] for result in found), "the other masters answer"
        found = results(ask(daemon, [login["access_token"] for login in logins], node=1), 40)
        undecided = [result for result in found if result["active"] is None]
        assert undecided and all(result["code"].startswith("store_") for result in undecided), found
        assert all(result["active"] is not False for result in found), "unknown is never invalid"
        assert any(result["active"] and result["source"] == "redis" for result in found[20:]), found
    wait_until(lambda: all(result["active"] and not result["stale"] for result in results(
        ask(daemon, [login["access_token"] for login in logins], node=1), 40)), 20, "all is as before")
