"""Attributes of a session: what is put stays, patches merge, conditions hold, no other caller sees them."""

import concurrent.futures
import json

import pytest

from checks import check_dead, check_problem
from daemon import ACME, ADMIN, KEYS, SERVICE, unique
from redis_servers import SingleRedis, wait_until

PATH = "/v1/session/attributes"
PATCH_TYPE = "application/merge-patch+json"


def get(daemon, token, node=0, headers=None, query=""):
    return daemon.call("GET", PATH + query, None, token, headers, node)


def put(daemon, token, value, node=0, headers=None, query=""):
    return daemon.call("PUT", PATH + query, value, token, headers, node)


def patch(daemon, token, value, node=0, headers=None):
    body = json.dumps(value).encode() if isinstance(value, (dict, list)) else value
    return daemon.call("PATCH", PATH, body, token, {"Content-Type": PATCH_TYPE, **(headers or {})}, node)


def check_attributes(answer, expected):
    """200 with these attributes; returns the ETag."""
    assert answer.status == 200, answer
    assert answer.json == expected, answer
    assert answer.header("Cache-Control") == "no-store"
    tag = answer.header("ETag")
    assert tag.startswith('"') and tag.endswith('"') and len(tag) > 8, tag
    return tag


def shown(daemon, token, node):
    answer = daemon.validate(token, node)
    assert answer.status == 200, answer
    return answer.json["attributes"]


def check_shown_everywhere(daemon, token, expected):
    for node in range(len(daemon.nodes)):
        wait_until(lambda: shown(daemon, token, node) == expected, 3, f"{expected} on node {node}")


def test_attributes_of_the_login_are_shown_and_may_be_none(shared):
    token = shared.login(attributes={"cart": 7})["access_token"]
    check_attributes(get(shared, token), {"cart": 7})
    check_attributes(get(shared, shared.login()["access_token"]), {})


def test_put_replaces_all_and_every_node_shows_it(shared):
    token = shared.login(attributes={"old": True})["access_token"]
    for node in range(3):
        assert shown(shared, token, node) == {"old": True}
    value = {"theme": "dark", "n": [1, 2.5, None, {"x": "\"},\\u0041 é 日本"}], "none": None, "attributes": {}}
    tag = check_attributes(put(shared, token, value), value)
    assert shown(shared, token, 0) == value
    check_shown_everywhere(shared, token, value)
    for node in range(3):
        assert check_attributes(get(shared, token, node), value) == tag


def test_an_empty_object_takes_them_away(shared):
    token = shared.login(attributes={"a": 1})["access_token"]
    check_attributes(put(shared, token, {}), {})
    check_shown_everywhere(shared, token, {})
    check_attributes(patch(shared, token, {"b": 2}), {"b": 2})


def test_the_rest_of_the_session_stays_as_it_was(shared):
    user = unique()
    login = shared.login(user, roles=["a\"b", "c"], attributes={"x": 1},
                         device={"id": "d1", "type": "phone", "name": "}\",\"attributes\":{\""})
    before = shared.validate(login["access_token"]).json
    put(shared, login["access_token"], {"y": 2})
    after = shared.validate(login["access_token"]).json
    assert after["attributes"] == {"y": 2}
    for name in ("tenant", "user_id", "session_id", "roles", "device", "created_at", "expires_at"):
        assert after[name] == before[name]
    [entry] = shared.devices(user)["devices"]
    assert entry["device"] == login["device"]


# RFC 7396, appendix A, as far as objects go.
MERGES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ({"a": 1}, {}, {"a": 1}),
]


@pytest.mark.parametrize("target, change, expected", MERGES)
def test_patch_merges(shared, target, change, expected):
    token = shared.login(attributes=target)["access_token"]
    check_attributes(patch(shared, token, change), expected)
    check_attributes(get(shared, token, 1), expected)


def test_a_service_changes_them_for_a_user(shared):
    token = shared.login()["access_token"]
    headers = {"X-Session-Token": token}
    check_attributes(put(shared, SERVICE, {"by": "service"}, headers=headers), {"by": "service"})
    check_attributes(patch(shared, SERVICE, {"n": 1}, headers=headers), {"by": "service", "n": 1})
    check_attributes(get(shared, ADMIN, headers=headers, query="?tenant=default"),
                     {"by": "service", "n": 1})
    check_attributes(get(shared, token), {"by": "service", "n": 1})


def test_other_tenants_scopes_and_dead_tokens_get_nothing(shared):
    login = shared.login(attributes={"secret": 1})
    token = login["access_token"]
    headers = {"X-Session-Token": token}
    for call in (get, lambda *a, **k: put(a[0], a[1], {"x": 1}, **k),
                 lambda *a, **k: patch(a[0], a[1], {"x": 1}, **k)):
        check_problem(call(shared, ACME, headers=headers), 403, "tenant_forbidden")
        check_problem(call(shared, KEYS["only-validate"][0], headers=headers), 403, "scope_missing")
        check_problem(call(shared, SERVICE), 401, "credentials_missing")
        check_problem(call(shared, None), 401, "credentials_missing")
    check_attributes(get(shared, token), {"secret": 1})
    shared.call("POST", "/v1/logout", None, token)
    check_dead(get(shared, token, 1), "logged_out", "self")
    check_dead(put(shared, token, {"x": 1}), "logged_out")
    check_dead(patch(shared, token, {"x": 1}), "logged_out")


def test_who_has_the_attributes_is_told_304(shared):
    token = shared.login()["access_token"]
    tag = check_attributes(put(shared, token, {"n": 1}), {"n": 1})
    for known in (tag, f'"x", W/{tag}', "*"):
        for method in ("GET", "HEAD"):
            answer = shared.call(method, PATH, None, token, {"If-None-Match": known})
            assert (answer.status, answer.body, answer.header("ETag")) == (304, b"", tag), answer
    put(shared, token, {"n": 2})
    check_attributes(get(shared, token, headers={"If-None-Match": tag}), {"n": 2})
    answer = get(shared, token, headers={"If-None-Match": tag[1:]})
    assert "If-None-Match" in check_problem(answer, 400, "header_invalid")["detail"], answer
    check_problem(get(shared, "sa_" + "x" * 43, headers={"If-None-Match": "*"}), 401, "token_invalid")


def test_if_match_lets_through_only_what_was_seen(shared):
    token = shared.login(attributes={"n": 1})["access_token"]
    first = check_attributes(get(shared, token), {"n": 1})
    second = check_attributes(put(shared, token, {"n": 2}, 1, {"If-Match": f'"x", {first}'}), {"n": 2})
    assert second != first
    check_problem(put(shared, token, {"n": 3}, 2, {"If-Match": first}), 412, "precondition_failed")
    check_problem(patch(shared, token, {"n": 3}, 0, {"If-Match": first}), 412, "precondition_failed")
    weak = put(shared, token, {"n": 3}, 0, {"If-Match": "W/" + second})
    assert "weak" in check_problem(weak, 412, "precondition_failed")["detail"]
    check_problem(put(shared, token, {"n": 3}, 0, {"If-Match": second[1:-1]}), 400, "header_invalid")
    check_attributes(get(shared, token), {"n": 2})
    check_attributes(put(shared, token, {"n": 4}, 0, {"If-Match": "*"}), {"n": 4})
    check_attributes(put(shared, token, {"n": 1}), {"n": 1})
    other = shared.login(attributes={"n": 1})["access_token"]
    assert get(shared, other).header("ETag") != first, "the tag of another session's equal attributes"


def test_of_parallel_changes_with_one_tag_one_wins(shared):
    token = shared.login(attributes={})["access_token"]
    tag = get(shared, token).header("ETag")
    with concurrent.futures.ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(lambda n: put(shared, token, {"n": n}, n % 3, {"If-Match": tag}), range(9)))
    assert sorted(answer.status for answer in answers) == [200] + 8 * [412], answers
    [winner] = [n for n, answer in enumerate(answers) if answer.status == 200]
    check_attributes(get(shared, token), {"n": winner})


def test_parallel_patches_on_three_nodes_are_all_kept(shared):
    token = shared.login(attributes={"kept": 1})["access_token"]
    with concurrent.futures.ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda n: patch(shared, token, {f"p{n}": n}, n % 3), range(30)))
    assert [answer.status for answer in answers] == 30 * [200], answers
    expected = {"kept": 1, **{f"p{n}": n for n in range(30)}}
    check_attributes(get(shared, token), expected)
    check_shown_everywhere(shared, token, expected)


def test_patches_race_refreshes_and_none_is_lost(shared):
    login = shared.login()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        refreshed = pool.submit(shared.refresh, login["refresh_token"], 1)
        answers = list(pool.map(lambda n: patch(shared, login["access_token"], {f"p{n}": n}, n % 3), range(7)))
    assert [answer.status for answer in answers] == 7 * [200], answers
    token = refreshed.result().json["access_token"]
    check_attributes(get(shared, token), {f"p{n}": n for n in range(7)})


def test_they_stay_over_a_refresh(shared):
    login = shared.login(attributes={"a": 1})
    put(shared, login["access_token"], {"b": 2})
    token = shared.refresh(login["refresh_token"], 1).json["access_token"]
    check_attributes(get(shared, token, 2), {"b": 2})


def test_more_than_4_kib_are_refused(shared):
    token = shared.login()["access_token"]
    full = {"a": "x" * (4096 - len('{"a":""}'))}
    check_attributes(put(shared, token, json.dumps(full, indent=1).encode()), full)
    problem = check_problem(put(shared, token, {"a": full["a"] + "x"}), 413, "too_large")
    assert "4096" in problem["detail"] and "4097" in problem["detail"], problem
    check_problem(patch(shared, token, {"b": 1}), 413, "too_large")
    check_problem(put(shared, token, {"a": "x" * 20000}), 413, "too_large")
    check_attributes(get(shared, token), full)
    check_attributes(patch(shared, token, {"a": None, "b": 1}), {"b": 1})


def nested(levels):
    return (b'{"a":' * levels) + b"1" + b"}" * levels


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"null", b'"x"', b"{", b'{"a":1,"a":2}', b'{"a":1} x',
                                  b'{"a":"\xff"}', nested(33), b"{'a':1}"])
def test_what_is_no_object_is_refused(shared, body):
    token = shared.login(attributes={"a": 0})["access_token"]
    answer = put(shared, token, body, headers={"Content-Type": "application/json"})
    check_problem(answer, 400, "body_invalid")
    check_problem(patch(shared, token, body), 400, "body_invalid")
    check_attributes(get(shared, token), {"a": 0})


def test_the_deepest_object_can_be_patched(shared):
    token = shared.login()["access_token"]
    value = json.loads(nested(32))
    check_attributes(put(shared, token, nested(32)), value)
    check_attributes(patch(shared, token, {"b": 1}), {**value, "b": 1})


def test_other_media_types_are_refused(shared):
    token = shared.login()["access_token"]
    for content_type in ("application/json", "application/json-patch+json", "text/plain",
                         "application/merge-patch+jsonx"):
        answer = patch(shared, token, {"a": 1}, headers={"Content-Type": content_type})
        check_problem(answer, 415, "unsupported_media_type")
        assert answer.header("Accept-Patch") == PATCH_TYPE
    answer = put(shared, token, {"a": 1}, headers={"Content-Type": PATCH_TYPE})
    check_problem(answer, 415, "unsupported_media_type")
    assert answer.header("Accept-Patch") is None
    check_attributes(patch(shared, token, {"a": 1}, headers={"Content-Type": PATCH_TYPE + "; charset=utf-8"}), {"a": 1})


def test_other_methods_are_named(shared):
    answer = shared.call("DELETE", PATH, None, shared.login()["access_token"])
    check_problem(answer, 405, "method_not_allowed")
    assert sorted(answer.header("Allow").split(", ")) == ["GET", "HEAD", "PATCH", "PUT"]


def test_changes_are_on_record_and_what_they_hold_is_not(shared):
    login = shared.login()
    put(shared, login["access_token"], {"word": "hush-4711"}, headers={"X-Request-Id": (one := unique("put"))})
    get(shared, login["access_token"], headers={"X-Request-Id": (two := unique("get"))})
    line = shared.node.audit_of(one)
    assert line["event.action"] == "set-attributes" and line["event.outcome"] == "success"
    assert shared.node.audit_of(two)["event.action"] == "show-attributes"
    assert "hush-4711" not in shared.node.audit.read_text() + shared.node.log_text()


def test_they_are_sealed_at_rest(shared, cluster):
    word = "clear-text-0815-of-the-customer"
    token = shared.login(attributes={"login": word})["access_token"]
    put(shared, token, {"put": word})
    patch(shared, token, {"patched": word})
    check_attributes(get(shared, token), {"put": word, "patched": word})
    dump = b"".join(cluster.dump())
    assert b"sd:u:" in dump, "the dump is of sessions"
    assert word.encode() not in dump and b"patched" not in dump


def test_without_redis_they_are_neither_read_nor_changed(start, tmp_path):
    redis = SingleRedis(tmp_path / "redis")
    redis.start()
    daemon = start(redis=redis, redis__mode="standalone", redis__wait_timeout="0ms")
    token = daemon.login(attributes={"a": 1})["access_token"]
    assert shown(daemon, token, 0) == {"a": 1}
    redis.stop()
    for answer in (get(daemon, token), put(daemon, token, {"b": 1}), patch(daemon, token, {"b": 1})):
        check_problem(answer, 503, answer.code)
        assert answer.code in ("store_unavailable", "store_timeout"), answer
    wait_until(lambda: daemon.validate(token).json.get("stale"), 5, "a stale answer")
    assert shown(daemon, token, 0) == {"a": 1}
