"""POST /v1/explain: what a token is, why it is dead and who ended it, for any text, with or without
Redis; it changes nothing, and shows no secret."""

import pytest

from bounds import at_most
from checks import ANY_TOKEN, check_problem
from daemon import ACME, ADMIN, KEYS, SERVICE, new_key, now, unique
from machine import clock
from redis_servers import SingleRedis, wait_until
from tokens import never_issued


def explain(daemon, token, key=SERVICE, node=0, query=""):
    return daemon.call("POST", f"/v1/explain{query}", {"token": token}, key, node=node)


def explained(daemon, token, **options):
    answer = explain(daemon, token, **options)
    assert answer.status == 200, answer
    text = answer.body.decode()
    assert not ANY_TOKEN.search(text) and (len(token) < 63 or token[26:] not in text), text
    return answer.json


@pytest.mark.parametrize("text", ["", "x", "sa_", "sa_x", "sr_" + "a" * 59, "sa_" + "a" * 61,
                                  "sa_" + "ü" * 30, pytest.param(new_key(), id="a service key"), "ey.J.x", "x" * 9000,
                                  "{}",
                                  "\t", "a\r\nb", "\x01\x7f\x85", "sa_\x1b[31m", "\ufeff"])
def test_a_malformed_token_is_said_to_be_one(shared, text):
    assert explained(shared, text) == {"kind": "unknown", "active": False, "reason": "malformed"}


def test_a_token_that_was_never_issued_is_unknown(shared):
    expected = {"kind": "access", "active": False, "reason": "unknown"}
    assert explained(shared, never_issued()) == expected
    altered = shared.login()["refresh_token"]
    altered = altered[:30] + ("A" if altered[30] != "A" else "B") + altered[31:]
    assert explained(shared, altered) == {**expected, "kind": "refresh"}


def test_a_living_token_is_told_with_its_session_and_times(shared):
    user = unique()
    login = shared.login(user, device={"id": "d-1", "type": "phone"}, roles=["buyer"])
    body = explained(shared, login["access_token"], node=1)
    assert body["kind"] == "access" and body["active"] is True and "reason" not in body
    assert body["source"] == "redis" and body["stale"] is False and body["pair"] == "present"
    assert body["session_id"] == login["session_id"] and body["key_id"] >= 1
    session = body["session"]
    assert session["user_id"] == user and session["tenant"] == "default"
    assert session["roles"] == ["buyer"] and session["device"] == {"id": "d-1", "type": "phone"}
    assert session["session_id"] == login["session_id"] and session["attributes"] == {}
    assert session["access_expires_at"] - session["issued_at"] == login["expires_in"]
    assert session["session_expires_at"] - session["issued_at"] == login["refresh_expires_in"]
    assert abs(session["issued_at"] - now()) <= 60
    assert now() < session["idle_expires_at"] <= session["session_expires_at"]
    assert body["created_at"] == session["created_at"] == session["issued_at"]
    assert body["memory"] == {"says": "nothing"} and body["journal"] == {"says": "nothing"}
    assert body["redis"] == {"says": "alive"}
    assert body["user"] == {"frozen": False, "frozen_reason": None, "not_before": 0}
    assert shared.is_alive(login["access_token"], 1)
    memory = explained(shared, login["access_token"], node=1)["memory"]
    assert memory == {"says": "alive", "fresh": True, "age": 0}


def test_tags_are_those_of_the_keys(shared):
    one, two = shared.login("tags-a"), shared.login("tags-b")
    first, second = (explained(shared, login["access_token"]) for login in (one, two))
    assert first["tenant_tag"] == second["tenant_tag"] and len(first["tenant_tag"]) == 8
    assert first["user_tag"] != second["user_tag"] and len(first["user_tag"]) == 11


def test_a_dead_token_is_told_with_reason_actor_and_time(shared):
    login = shared.login()
    assert shared.is_alive(login["access_token"], 2)
    before = now()
    answer = shared.kick(login["user_id"], login["session_id"], query="?reason=stolen",
                         headers={"X-Operator": "alice"})
    assert answer.status == 200, answer
    for token, kind in ((login["access_token"], "access"), (login["refresh_token"], "refresh")):
        for number in range(3):
            body = explained(shared, token, node=number)
            assert body["kind"] == kind and body["active"] is False
            assert body["reason"] == "stolen" and body["actor"] == "alice"
            assert before - 1 <= body["ended_at"] <= now() + 1
            assert body["redis"]["says"] == "dead" and body["redis"]["actor"] == "alice"
    journal = explained(shared, login["access_token"])["journal"]
    assert journal["says"] == "dead" and journal["actor"] == "alice", journal
    wait_until(lambda: not explained(shared, login["access_token"])["journal"]["pending"], 5,
               "a replica has it")
    wait_until(lambda: explained(shared, login["access_token"], node=2)["memory"]["says"] == "dead",
               2, "memory has read it anew")


def test_each_token_of_a_pair_is_told_from_the_others(shared):
    first = shared.login()
    second = shared.refresh(first["refresh_token"]).json
    third = shared.refresh(second["refresh_token"]).json

    def told(login, kind):
        body = explained(shared, login[kind])
        return body["pair"], body["active"], body.get("reason")
    assert told(third, "access_token") == told(third, "refresh_token") == ("present", True, None)
    assert told(second, "access_token") == told(second, "refresh_token") == ("previous", True, None)
    assert told(first, "access_token") == ("older", False, "expired")
    assert told(first, "refresh_token") == ("older", False, "reuse")
    # To be asked about is no use: the session goes on.
    assert shared.is_alive(third["access_token"])


def test_a_frozen_user_is_said_to_be_one(shared):
    login = shared.login()
    until = now() + 3600
    answer = shared.call("POST", f"/v1/users/{login['user_id']}/freeze",
                         {"reason": "fraud", "until": until}, SERVICE)
    assert answer.status == 200, answer
    body = explained(shared, login["access_token"], node=1)
    assert body["active"] is False and body["reason"] == "frozen" and body["actor"] == "service"
    user = body["user"]
    assert user["frozen"] is True and user["frozen_reason"] == "fraud" and user["until"] == until


def test_a_session_that_was_forgotten_is_unknown(shared):
    login, before = shared.login(), now()
    shared.call("POST", f"/v1/users/{login['user_id']}/logout-all", {}, SERVICE)
    body = explained(shared, login["access_token"], node=1)
    assert body["reason"] == "logged_out" and body["user"]["not_before"] >= before - 1


def test_a_key_explains_tokens_of_its_own_tenant_only(shared):
    mine, foreign = shared.login(), shared.login(key=ACME)
    for token in (foreign["access_token"], foreign["refresh_token"]):
        check_problem(explain(shared, token), 403, "tenant_forbidden")
        assert explained(shared, token, key=ACME)["active"] is True
        assert explained(shared, token, key=ADMIN)["active"] is True
        assert explained(shared, token, key=ADMIN, query="?tenant=acme")["active"] is True
        body = explained(shared, token, key=ADMIN, query="?tenant=default")
        assert body == {"kind": body["kind"], "active": False, "reason": "unknown"}
    check_problem(explain(shared, mine["access_token"], query="?tenant=acme"), 403,
                  "tenant_forbidden")


@pytest.mark.parametrize("key,status", [(None, 401), ("sk_" + "w" * 43, 401),
                                        (KEYS["only-validate"][0], 403), (KEYS["only-login"][0], 403)],
                         ids=["none", "unknown", "only-validate", "only-login"])
def test_only_services_that_manage_may_ask(shared, key, status):
    login = shared.login()
    assert explain(shared, login["access_token"], key=key).status == status
    assert explain(shared, login["access_token"], key=login["access_token"]).status in (401, 403)


def ask(daemon, key=SERVICE, node=0, **body):
    answer = daemon.call("POST", "/v1/explain", body, key, node=node)
    assert answer.status == 200, answer
    assert not ANY_TOKEN.search(answer.body.decode())
    return answer.json


def test_a_session_is_explained_by_its_name_without_a_token(shared):
    login = shared.login(device={"id": "d"})
    name = {"user_id": login["user_id"], "session_id": login["session_id"]}
    alive = ask(shared, **name, node=1)
    assert (alive["kind"], alive["active"], alive["tenant"]) == ("session", True, "default")
    assert (alive["user_id"], alive["session_id"]) == (login["user_id"], login["session_id"])
    assert alive["session"]["device"] == {"id": "d"}
    assert alive["redis"] == {"says": "alive"} and "key_id" not in alive and "pair" not in alive
    by_token = explained(shared, login["access_token"])
    for member in ("tenant_tag", "user_tag", "created_at", "user"):
        assert alive[member] == by_token[member]
    shared.kick(login["user_id"], login["session_id"], headers={"X-Operator": "alice"})
    dead = ask(shared, **name)
    assert (dead["active"], dead["reason"], dead["actor"]) == (False, "kicked", "alice")
    assert dead["redis"]["says"] == "dead"
    nobody = ask(shared, user_id=unique(), session_id="0" * 16)
    assert (nobody["active"], nobody["redis"]["says"]) == (False, "nothing")


def test_a_user_is_explained_with_sessions_that_live_and_that_ended(shared):
    user = unique()
    first, second = shared.login(user), shared.login(user)
    shared.kick(user, first["session_id"], query="?reason=stolen")
    told = ask(shared, user_id=user)
    assert (told["kind"], told["tenant"], told["user_id"]) == ("user", "default", user)
    assert [entry["session_id"] for entry in told["devices"]] == [second["session_id"]]
    assert [(entry["session_id"], entry["reason"]) for entry in told["sessions"]] == \
        [(first["session_id"], "stolen")]
    assert told["user"]["frozen"] is False
    shared.call("POST", f"/v1/users/{user}/freeze", {"reason": "fraud"}, SERVICE)
    told = ask(shared, user_id=user)
    assert told["user"]["frozen_reason"] == "fraud" and told["devices"] == []
    assert {entry["reason"] for entry in told["sessions"]} == {"stolen", "frozen"}


def test_a_name_is_of_a_tenant(shared):
    login = shared.login(key=ACME)
    name = {"user_id": login["user_id"], "session_id": login["session_id"]}
    assert ask(shared, ACME, **name)["active"] is True
    assert ask(shared, **name)["active"] is False
    assert ask(shared, ADMIN, tenant="acme", **name)["active"] is True
    assert ask(shared, ADMIN, tenant="acme", user_id=login["user_id"])["tenant"] == "acme"
    for body in (name, {"user_id": login["user_id"]}):
        problem = check_problem(shared.call("POST", "/v1/explain", body, ADMIN), 400, "query_invalid")
        assert '"tenant" is missing' in problem["detail"]
        answer = shared.call("POST", "/v1/explain", {**body, "tenant": "acme"}, SERVICE)
        check_problem(answer, 403, "tenant_forbidden")


@pytest.mark.parametrize("body", [{}, {"token": 7}, {"token": None}, {"tokens": "x"}, [],
                                  {"session_id": "0" * 16}, {"token": "x", "user_id": "a"},
                                  {"user_id": "a", "session_id": "x" * 16}, {"user_id": ""}])
def test_a_body_without_a_token_is_refused(shared, body):
    answer = shared.call("POST", "/v1/explain", body, SERVICE)
    check_problem(answer, 400, "body_invalid")


def test_every_explanation_is_on_record(shared):
    login = shared.login()
    answer = explain(shared, login["access_token"])
    line = shared.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.action"] == "explain-token" and line["event.outcome"] == "success", line
    assert line["user.id"] == login["user_id"], line
    assert not ANY_TOKEN.search(str(line))


def test_without_redis_memory_and_journal_are_asked(start, tmp_path):
    redis = SingleRedis(tmp_path / "redis").start()
    try:
        daemon = start(redis=redis, redis__mode="standalone", redis__wait_timeout="0")
        known, kicked, lost = (daemon.login() for _ in range(3))
        for login in (known, kicked):
            assert daemon.is_alive(login["access_token"])
        redis.stop()
        wait_until(lambda: daemon.validate(known["access_token"]).json.get("stale"), 5, "stale")
        body = explained(daemon, known["access_token"])
        assert body["active"] is True and body["source"] == "cache" and body["stale"] is True
        assert body["session"]["user_id"] == known["user_id"] and "user" not in body
        assert body["memory"]["says"] == "alive" and body["memory"]["fresh"] is False
        assert body["redis"]["says"] == "unavailable", body
        assert body["redis"]["code"].startswith("store_"), body
        assert "pair" not in explained(daemon, known["refresh_token"])

        assert daemon.kick(kicked["user_id"], kicked["session_id"]).status == 202
        for token in (kicked["access_token"], kicked["refresh_token"]):
            body = explained(daemon, token)
            assert body["active"] is False and body["reason"] == "kicked", body
            assert body["actor"] == "service" and body["memory"]["says"] == "alive"
            assert body["journal"]["says"] == "dead" and body["journal"]["pending"] is True
            assert body["session"]["session_id"] == kicked["session_id"], "memory has its record"

        body = explained(daemon, lost["access_token"])
        assert body["active"] is None and "reason" not in body and "session" not in body, body
        assert explained(daemon, "sa_x")["reason"] == "malformed"
        begun = clock()
        explained(daemon, known["access_token"])
        at_most(clock() - begun, 1, "an explanation without Redis")
    finally:
        redis.stop()
