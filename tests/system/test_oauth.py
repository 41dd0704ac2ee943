"""The OAuth endpoints, by the clauses of RFC 7662, 7009, 6749 and 8414."""

import hashlib

import pytest

from checks import ACCESS_TOKEN, REFRESH_TOKEN, check_dead, check_problem
from daemon import ALL_SCOPES, KEYS, Daemon, new_key, now, unique
from faults import frozen
from oauth_forms import FORM, basic, check_not_stored, check_oauth, in_full, post
from redis_servers import process_id, wait_until
from tokens import MALFORMED, flip_bit, never_issued

INTROSPECT, REVOKE, TOKEN = "/oauth2/introspect", "/oauth2/revoke", "/oauth2/token"
METADATA = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"]
ISSUER = "https://login.example"
# A name with each character that percent-encoding may touch.
NAME = "api.gate_way-1"
OAUTH_KEYS = {
    **KEYS,
    NAME: (new_key(), "introspect", "default"),
    "platform": (new_key(), ALL_SCOPES, "*"),
    "foreign": (new_key(), ALL_SCOPES, "acme"),
}
KEY, FOREIGN = OAUTH_KEYS[NAME][0], OAUTH_KEYS["foreign"][0]
ROLES = ["reader", "writer:all", "a b", 'quo"te', "back\\slash", "dürfen"]
JWT = "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


@pytest.fixture(scope="module")
def oauth(workspace, cluster):
    daemon = Daemon(workspace / "oauth", cluster, count=2, keys=OAUTH_KEYS, oauth__issuer=ISSUER)
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def introspect(daemon, token, *more, headers=None, **options):
    return post(daemon, INTROSPECT, [("token", token), *more], headers or basic(NAME, KEY), **options)


def check_inactive(answer):
    """RFC 7662, section 2.2: nothing but that."""
    assert answer.status == 200 and answer.json == {"active": False}, answer
    check_not_stored(answer)


# --- RFC 7662 --------------------------------------------------------------------------------------

MEMBERS = {"active", "sub", "username", "client_id", "scope", "token_type", "exp", "iat", "iss", "sid",
           "jti", "tenant", "roles", "device"}


def test_an_active_token_is_described_as_resource_servers_read_it(oauth):
    user = unique()
    login = oauth.login(user, roles=ROLES, device={"id": "d-1", "type": "phone", "name": "Ann's"})
    answer = introspect(oauth, login["access_token"])
    assert answer.status == 200, answer
    check_not_stored(answer)
    assert answer.header("Content-Type").split(";")[0] == "application/json"
    claims = answer.json
    assert set(claims) == MEMBERS, set(claims) ^ MEMBERS
    assert claims["active"] is True
    assert claims["sub"] == claims["username"] == user
    assert claims["client_id"] == claims["tenant"] == "default"
    assert claims["scope"] == "reader writer:all"
    assert claims["roles"] == ROLES
    assert claims["token_type"] == "Bearer"
    assert claims["iss"] == ISSUER
    assert claims["sid"] == login["session_id"]
    assert claims["device"] == {"id": "d-1", "type": "phone", "name": "Ann's"}
    assert abs(claims["iat"] - now()) <= 60 and claims["exp"] == claims["iat"] + 7200
    assert claims["jti"] == hashlib.blake2b(login["access_token"].encode(),
                                            digest_size=32).hexdigest()[:32]
    assert login["access_token"].encode() not in answer.body


def test_the_answer_passes_the_reader_of_spring_security(oauth):
    """SpringOpaqueTokenIntrospector: status exactly 200, `active` a boolean, times JSON numbers that it casts, `scope`
    one text that it splits at blanks into authorities."""
    token = oauth.login(unique(), roles=["reader", "writer"])["access_token"]
    answer = introspect(oauth, token)
    assert answer.status == 200
    claims = answer.json
    assert claims["active"] is True
    for name in ("exp", "iat"):
        assert type(claims[name]) is int, claims  # pylint: disable=unidiomatic-typecheck
    assert isinstance(claims["scope"], str)
    assert [f"SCOPE_{word}" for word in claims["scope"].split(" ")] == ["SCOPE_reader", "SCOPE_writer"]
    for name in ("sub", "username", "client_id", "iss", "jti", "token_type"):
        assert isinstance(claims[name], str), claims
    assert introspect(oauth, never_issued()).json["active"] is False


def test_no_scope_is_claimed_where_no_role_is_a_scope_token(oauth):
    """An empty text would read as one empty authority."""
    for roles in ([], ["a b", "ä"]):
        claims = introspect(oauth, oauth.login(unique(), roles=roles)["access_token"]).json
        assert claims["active"] and "scope" not in claims and claims["roles"] == roles, claims


def test_each_token_of_a_session_has_an_id_of_its_own(oauth):
    login = oauth.login()
    before = introspect(oauth, login["access_token"]).json
    assert introspect(oauth, login["access_token"], node=1).json["jti"] == before["jti"]
    pair = oauth.refresh(login["refresh_token"]).json
    after = introspect(oauth, pair["access_token"]).json
    assert after["sid"] == before["sid"] and after["jti"] != before["jti"]
    assert after["iat"] >= before["iat"]


def test_what_is_not_active_is_false_and_no_more(oauth):
    login, dead = oauth.login(), oauth.login()
    assert oauth.call("POST", "/v1/logout", None, dead["access_token"]).status == 200
    for token in (dead["access_token"], never_issued(), flip_bit(login["access_token"], 300),
                  login["refresh_token"], never_issued("sr_"), never_issued("sc_"), KEY, FOREIGN, JWT,
                  JWT * 20, "\x00\xff", " ", login["access_token"] + " ", *MALFORMED):
        check_inactive(introspect(oauth, token))
    assert oauth.is_alive(login["access_token"])


def test_another_tenants_token_is_not_active_for_a_bound_key(oauth):
    token = oauth.login()["access_token"]
    check_inactive(introspect(oauth, token, headers=basic("foreign", FOREIGN)))
    answer = introspect(oauth, token, headers=basic("platform", OAUTH_KEYS["platform"][0]))
    assert answer.json["active"] is True, answer


def test_the_bindings_of_a_session_hold_for_what_the_resource_server_says(oauth, start):
    daemon = start(keys=OAUTH_KEYS, policy__bind_ip="strict", policy__bind_device="strict")
    token = daemon.login(ip="192.0.2.7", device={"fingerprint": "finger"})["access_token"]
    good = [("ip", "192.0.2.8"), ("device_fingerprint", "finger")]
    assert introspect(daemon, token, *good).json["active"] is True
    check_inactive(introspect(daemon, token, good[0], ("device_fingerprint", "other")))
    check_inactive(introspect(daemon, token, ("ip", "198.51.100.1"), good[1]))


def test_touch_false_is_no_use_of_the_session(start):
    daemon = start(keys=OAUTH_KEYS, policy__idle_timeout="100s")
    touched = daemon.login()
    seen = introspect(daemon, touched["access_token"], ("touch", "false"))
    assert seen.json["active"] is True, seen
    check_oauth(introspect(daemon, touched["access_token"], ("touch", "no")), 400, "invalid_request")


# --- clients ---------------------------------------------------------------------------------------

def test_a_client_authenticates_by_basic_by_form_or_by_bearer(oauth):
    token = oauth.login()["access_token"]
    form = [("client_id", NAME), ("client_secret", KEY)]
    for headers in (basic(NAME, KEY), basic(NAME, KEY, in_full), basic(NAME, KEY, str),
                    {"Authorization": f"Bearer {KEY}"}, {"Authorization": f"bearer {KEY}"}):
        assert introspect(oauth, token, headers=headers).json["active"] is True, headers
    answer = post(oauth, INTROSPECT, [("token", token), *form])
    assert answer.json["active"] is True, answer
    encoded = f"client_secret={in_full(KEY)}&client_id={in_full(NAME)}&token={in_full(token)}"
    assert post(oauth, INTROSPECT, encoded.encode()).json["active"] is True
    # Authorization for a proxy on the way is not ours.
    answer = post(oauth, INTROSPECT, [("token", token), *form], {"Authorization": "Digest a=b"})
    assert answer.json["active"] is True, answer


def test_a_wrong_client_is_401_by_the_scheme_that_it_tried(oauth):
    token = oauth.login()["access_token"]
    for headers, scheme in ((basic(NAME, new_key()), "Basic"), (basic("platform", KEY), "Basic"),
                            (basic("", KEY), "Basic"), (basic(NAME, ""), "Basic"),
                            ({"Authorization": "Basic ?"}, "Basic"),
                            ({"Authorization": "Basic YQ=="}, "Basic"),
                            ({"Authorization": f"Bearer {new_key()}"}, "Bearer"),
                            ({"Authorization": f"Bearer {token}"}, "Bearer")):
        answer = introspect(oauth, token, headers=headers)
        check_oauth(answer, 401, "invalid_client")
        assert answer.header("WWW-Authenticate").startswith(scheme), answer
    for members in ([("client_id", NAME), ("client_secret", new_key())],
                    [("client_id", "platform"), ("client_secret", KEY)], [("client_id", NAME)], []):
        answer = post(oauth, INTROSPECT, [("token", token), *members])
        check_oauth(answer, 401, "invalid_client")
        assert answer.header("WWW-Authenticate").startswith("Basic"), answer


def test_wrong_keys_are_counted_and_slowed_wherever_they_stand(start):
    daemon = start(keys=OAUTH_KEYS, limits__wrong_keys_per_minute=3)
    token = daemon.login()["access_token"]
    check_oauth(introspect(daemon, token, headers=basic(NAME, new_key())), 401, "invalid_client")
    answer = post(daemon, INTROSPECT, [("token", token), ("client_id", NAME), ("client_secret", new_key())])
    check_oauth(answer, 401, "invalid_client")
    answer = introspect(daemon, token, headers={"Authorization": f"Bearer {new_key()}"})
    check_oauth(answer, 401, "invalid_client")
    check_oauth(introspect(daemon, token, headers=basic(NAME, new_key())), 429, "temporarily_unavailable")
    assert introspect(daemon, token).json["active"] is True


def test_a_key_without_the_scope_is_403(oauth):
    token = oauth.login()["access_token"]
    key = OAUTH_KEYS["only-validate"][0]
    check_oauth(introspect(oauth, token, headers=basic("only-validate", key)), 403, "unauthorized_client")
    check_oauth(introspect(oauth, token, headers={"Authorization": f"Bearer {key}"}), 403,
                "unauthorized_client")


def test_credentials_in_two_places_are_400(oauth):
    token = oauth.login()["access_token"]
    form = [("client_id", NAME), ("client_secret", KEY)]
    check_oauth(introspect(oauth, token, *form), 400, "invalid_request")
    check_oauth(introspect(oauth, token, *form, headers={"Authorization": f"Bearer {KEY}"}), 400,
                "invalid_request")
    check_oauth(post(oauth, INTROSPECT, [("token", token), form[1]]), 400, "invalid_request")
    # A name alone is no credential.
    assert introspect(oauth, token, form[0]).json["active"] is True


# --- forms -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "nonsense", "", "\u00e9", "a b&c"])
def test_a_hint_is_ignored_whatever_it_is(oauth, hint):
    token = oauth.login()["access_token"]
    assert introspect(oauth, token, ("token_type_hint", hint)).json["active"] is True


def test_unknown_members_are_ignored_and_repeated_ones_refused(oauth):
    token = oauth.login()["access_token"]
    assert introspect(oauth, token, ("resource", "x"), ("foo", "")).json["active"] is True
    for more in (("token", token), ("token", ""), ("touch", "true")):
        check_oauth(introspect(oauth, token, ("touch", "true"), more), 400, "invalid_request")


def test_a_form_without_a_token_is_400(oauth):
    for body in (b"", b"token=", b"token", b"tokens=a", b"token_type_hint=access_token", b"&&"):
        answer = post(oauth, INTROSPECT, body, basic(NAME, KEY))
        check_oauth(answer, 400, "invalid_request")
        assert "token" in answer.json["error_description"]


def test_another_content_type_or_charset_is_refused_and_utf_8_is_not(oauth):
    token = oauth.login()["access_token"]
    for good in (FORM, FORM + "; charset=utf-8", FORM + ";charset=UTF-8", FORM.upper(),
                 FORM + '; charset="utf-8"'):
        assert introspect(oauth, token, content_type=good).json["active"] is True, good
    for bad in (FORM + "; charset=iso-8859-1", "application/json", "text/plain",
                "multipart/form-data; boundary=b", FORM + "x"):
        check_oauth(introspect(oauth, token, content_type=bad), 415, "invalid_request")
    answer = oauth.call("POST", INTROSPECT, {"token": token}, KEY)
    check_oauth(answer, 415, "invalid_request")
    answer = introspect(oauth, token, headers={**basic(NAME, KEY), "Content-Encoding": "gzip"})
    check_oauth(answer, 415, "invalid_request")


def test_a_token_in_the_query_is_400(oauth):
    token = oauth.login()["access_token"]
    answer = post(oauth, f"{INTROSPECT}?token={token}", [], basic(NAME, KEY))
    check_oauth(answer, 400, "invalid_request")
    assert token.encode() not in answer.body
    check_oauth(post(oauth, f"{INTROSPECT}?a=b", [("token", token)], basic(NAME, KEY)), 400,
                "invalid_request")


def test_what_the_dispatcher_refuses_has_the_shape_that_oauth_clients_read(oauth):
    token = oauth.login()["access_token"]
    check_oauth(introspect(oauth, token, ("odd", "x" * 20000)), 413, "invalid_request")
    answer = oauth.call("GET", INTROSPECT)
    check_oauth(answer, 405, "invalid_request")
    assert answer.header("Allow") == "POST"
    answer = post(oauth, INTROSPECT, [("token", token)], {**basic(NAME, KEY), "X-Operator": "a\x7f"})
    check_oauth(answer, 400, "invalid_request")


# --- audit, limits, outages ------------------------------------------------------------------------

def test_each_call_has_one_audit_line_with_the_facts_of_the_session(oauth):
    user = unique()
    login = oauth.login(user)
    answer = introspect(oauth, login["access_token"], ("ip", "192.0.2.99"))
    line = oauth.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.action"] == "introspect" and line["event.outcome"] == "success", line
    assert line["user.id"] == user and line["source.ip"] == "192.0.2.99"
    assert login["access_token"] not in str(line) and KEY not in str(line)
    answer = introspect(oauth, never_issued())
    line = oauth.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.reason"] == "unknown", line
    answer = introspect(oauth, login["access_token"], headers=basic("foreign", FOREIGN))
    line = oauth.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.reason"] == "tenant_forbidden", line


def test_the_tenants_rate_holds_for_a_client_in_the_form_too(start):
    daemon = start(keys=OAUTH_KEYS, policy__requests_per_second=1, policy__burst=2)
    token = daemon.login()["access_token"]  # the first of the two
    form = [("token", token), ("client_id", NAME), ("client_secret", KEY)]
    answers = [post(daemon, INTROSPECT, form) for _ in range(3)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused, answers
    for answer in refused:
        check_oauth(answer, 429, "temporarily_unavailable")


def test_in_an_outage_known_tokens_are_stale_and_unknown_ones_503(start, standalone):
    daemon = start(redis=standalone, redis__mode="standalone", keys=OAUTH_KEYS, count=2)
    known, other = daemon.login(), daemon.login()
    assert introspect(daemon, known["access_token"]).json["active"] is True
    with frozen(process_id(standalone.port)):
        answer = wait_until(lambda: (found := introspect(daemon, known["access_token"])).json.get("stale")
                            and found, 5, "the answer is stale")
        assert answer.status == 200 and answer.json["active"] is True, answer
        assert answer.json["stale"] is True and answer.json["stale_for"] >= 0, answer
        assert set(answer.json) == MEMBERS - {"scope", "iss"} | {"stale", "stale_for"}, answer
        check_oauth(introspect(daemon, other["access_token"], node=1), 503, "temporarily_unavailable")
        check_inactive(introspect(daemon, never_issued(), node=1))


# --- RFC 7009 --------------------------------------------------------------------------------------

def revoke(daemon, token, *more, headers=None, **options):
    return post(daemon, REVOKE, [("token", token), *more], headers, **options)


def check_revoked(answer):
    assert answer.status == 200 and answer.json == {}, answer
    check_not_stored(answer)


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
def test_either_token_ends_the_session_on_every_node(oauth, kind):
    user = unique()
    login, other = oauth.login(user), oauth.login(user)
    assert oauth.is_alive(login["access_token"], node=1)
    answer = revoke(oauth, login[kind], ("token_type_hint", "nonsense"))
    check_revoked(answer)
    check_dead(oauth.validate(login["access_token"]), "logged_out", "self")
    check_dead(oauth.refused(login["access_token"], node=1), "logged_out", "self")
    assert oauth.refresh(login["refresh_token"]).status == 401
    assert oauth.is_alive(other["access_token"])
    line = oauth.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.action"] == "revoke-token" and line["sessiond.ended"] == [login["session_id"]], line
    assert line["user.id"] == user and line["sessiond.durability"] in ("replicated", "accepted"), line


def test_an_invalid_token_is_no_error(oauth):
    """RFC 7009, section 2.2: the client's aim is reached."""
    dead = oauth.login()
    check_revoked(revoke(oauth, dead["access_token"]))
    for token in (dead["access_token"], dead["refresh_token"], never_issued(), never_issued("sr_"), "x",
                  "\x00", *MALFORMED[:4]):
        check_revoked(revoke(oauth, token))


def test_a_token_of_another_type_is_not_called_revoked(oauth):
    for token in (JWT, KEY, never_issued("sc_")):
        check_oauth(revoke(oauth, token), 400, "unsupported_token_type")


def test_possession_is_enough_and_a_key_is_checked_if_it_is_sent(oauth):
    for headers, members in ((None, []), (None, [("client_id", "any")]), (basic(NAME, KEY), []),
                             ({"Authorization": f"Bearer {KEY}"}, []),
                             (None, [("client_id", NAME), ("client_secret", KEY)])):
        login = oauth.login()
        check_revoked(revoke(oauth, login["access_token"], *members, headers=headers))
        assert not oauth.is_alive(login["access_token"])
    login = oauth.login()
    for headers, members in ((basic(NAME, new_key()), []), ({"Authorization": f"Bearer {new_key()}"}, []),
                             (None, [("client_id", NAME), ("client_secret", new_key())]),
                             (None, [("client_id", "other"), ("client_secret", KEY)]),
                             ({"Authorization": f"Bearer {login['access_token']}"}, [])):
        check_oauth(revoke(oauth, login["access_token"], *members, headers=headers), 401, "invalid_client")
    check_oauth(revoke(oauth, login["access_token"], headers=basic("foreign", FOREIGN)), 403,
                "unauthorized_client")
    check_oauth(revoke(oauth, login["access_token"], ("client_id", NAME), ("client_secret", KEY),
                       headers=basic(NAME, KEY)), 400, "invalid_request")
    assert oauth.is_alive(login["access_token"])


def test_a_revocation_that_is_malformed_is_told_so(oauth):
    login = oauth.login()
    token = login["access_token"]
    check_oauth(post(oauth, REVOKE, []), 400, "invalid_request")
    check_oauth(revoke(oauth, token, ("token", token)), 400, "invalid_request")
    check_oauth(post(oauth, f"{REVOKE}?token={token}", [("token", token)]), 400, "invalid_request")
    check_oauth(oauth.call("POST", REVOKE, {"token": token}), 415, "invalid_request")
    check_oauth(oauth.call("GET", REVOKE), 405, "invalid_request")
    assert oauth.is_alive(token)


def test_a_revocation_in_an_outage_holds_here_at_once_and_everywhere_afterwards(start, standalone):
    daemon = start(redis=standalone, redis__mode="standalone", keys=OAUTH_KEYS, count=2)
    login = daemon.login()
    for node in range(2):
        assert introspect(daemon, login["access_token"], node=node).json["active"] is True
    with frozen(process_id(standalone.port)):
        answer = revoke(daemon, login["refresh_token"])
        check_revoked(answer)
        check_inactive(introspect(daemon, login["access_token"]))
        line = daemon.node.audit_of(answer.header("X-Request-Id"))
        assert line["sessiond.durability"] == "pending", line
    wait_until(lambda: introspect(daemon, login["access_token"], node=1).json == {"active": False}, 20,
               "the other node has the revocation")


# --- RFC 6749, section 6 ---------------------------------------------------------------------------

def refresh(daemon, token, *more, headers=None, **options):
    members = [("grant_type", "refresh_token"), ("refresh_token", token), *more]
    return post(daemon, TOKEN, members, headers, **options)


def check_pair(answer):
    assert answer.status == 200, answer
    check_not_stored(answer)
    pair = answer.json
    assert set(pair) <= {"access_token", "token_type", "expires_in", "refresh_token",
                         "refresh_expires_in", "scope"}, pair
    assert ACCESS_TOKEN.fullmatch(pair["access_token"]) and REFRESH_TOKEN.fullmatch(pair["refresh_token"])
    assert pair["token_type"] == "Bearer"
    assert pair["expires_in"] == 7200 and pair["refresh_expires_in"] > 600000, pair
    return pair


def test_a_refresh_gives_the_next_pair_and_the_same_again_within_the_grace_window(oauth):
    login = oauth.login(unique(), roles=ROLES)
    first = check_pair(refresh(oauth, login["refresh_token"]))
    assert first["scope"] == "reader writer:all"
    assert first["access_token"] != login["access_token"]
    for again in (refresh(oauth, login["refresh_token"], node=1), oauth.refresh(login["refresh_token"])):
        assert again.json["access_token"] == first["access_token"], again
        assert again.json["refresh_token"] == first["refresh_token"], again
    assert oauth.is_alive(first["access_token"])
    second = check_pair(refresh(oauth, first["refresh_token"]))
    answer = refresh(oauth, login["refresh_token"])
    check_oauth(answer, 400, "invalid_grant")
    line = oauth.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.action"] == "refresh" and line["event.reason"] == "reuse", line
    assert not oauth.is_alive(second["access_token"]), "reuse ends the session"


def test_every_bad_refresh_token_is_invalid_grant_in_one_shape(oauth):
    dead = oauth.login()
    check_revoked(revoke(oauth, dead["access_token"]))
    frozen_user = oauth.login()
    answer = oauth.call("POST", f"/v1/users/{frozen_user['user_id']}/freeze", {}, KEYS["service"][0])
    assert answer.status == 200, answer
    alive = oauth.login()
    answers = [refresh(oauth, token) for token in (
        dead["refresh_token"], frozen_user["refresh_token"], never_issued("sr_"), alive["access_token"],
        flip_bit(alive["refresh_token"], 250), "x", "\x00", KEY, JWT)]
    answers.append(refresh(oauth, alive["refresh_token"], headers=basic("foreign", FOREIGN)))
    for answer in answers:
        check_oauth(answer, 400, "invalid_grant")
        assert answer.body == answers[0].body
    assert oauth.is_alive(alive["access_token"])


def test_the_grant_is_named_and_is_the_one_that_works(oauth):
    login = oauth.login()
    token = ("refresh_token", login["refresh_token"])
    for grant in ("password", "client_credentials", "authorization_code", "REFRESH_TOKEN", "x" * 900):
        check_oauth(post(oauth, TOKEN, [("grant_type", grant), token]), 400, "unsupported_grant_type")
    for members in ([token], [("grant_type", "refresh_token")], [("grant_type", ""), token], [],
                    [("grant_type", "refresh_token"), token, token]):
        check_oauth(post(oauth, TOKEN, members), 400, "invalid_request")
    check_oauth(oauth.call("POST", TOKEN, {"refresh_token": token[1]}), 415, "invalid_request")
    check_oauth(post(oauth, f"{TOKEN}?refresh_token={token[1]}", []), 400, "invalid_request")
    check_pair(refresh(oauth, token[1]))


def test_a_refresh_needs_no_client_and_checks_the_one_that_it_gets(oauth):
    key = KEYS["service"][0]
    for headers, members in ((None, []), (None, [("client_id", "spa")]), (basic("service", key), []),
                             (None, [("client_id", "service"), ("client_secret", key)])):
        check_pair(refresh(oauth, oauth.login()["refresh_token"], *members, headers=headers))
    token = oauth.login()["refresh_token"]
    check_oauth(refresh(oauth, token, headers=basic("service", new_key())), 401, "invalid_client")
    check_oauth(refresh(oauth, token, headers=basic(NAME, KEY)), 403, "unauthorized_client")
    check_pair(refresh(oauth, token))


def test_a_refresh_in_an_outage_is_503(start, standalone):
    daemon = start(redis=standalone, redis__mode="standalone", keys=OAUTH_KEYS)
    login = daemon.login()
    with frozen(process_id(standalone.port)):
        check_oauth(refresh(daemon, login["refresh_token"]), 503, "temporarily_unavailable")


# --- RFC 8414 --------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", METADATA)
def test_the_metadata_name_what_works_and_it_does(oauth, path):
    answer = oauth.call("GET", path)
    assert answer.status == 200, answer
    assert answer.header("Content-Type").split(";")[0] == "application/json"
    document = answer.json
    assert document["issuer"] == ISSUER and document["response_types_supported"] == []
    assert document["grant_types_supported"] == ["refresh_token"]
    assert document["jwks_uri"] == f"{ISSUER}/.well-known/jwks.json"
    assert "keys" in oauth.call("GET", document["jwks_uri"].removeprefix(ISSUER)).json
    endpoints = {name: value for name, value in document.items() if name.endswith("_endpoint")}
    assert set(endpoints) == {"token_endpoint", "introspection_endpoint", "revocation_endpoint"}
    login = oauth.login()
    for name, url in endpoints.items():
        assert url.startswith(ISSUER + "/"), url
        where = url.removeprefix(ISSUER)
        for method in document[f"{name}_auth_methods_supported"]:
            key = OAUTH_KEYS["platform"][0]
            headers = basic("platform", key) if method == "client_secret_basic" else None
            members = [("client_id", "platform"), ("client_secret", key)] \
                if method == "client_secret_post" else []
            token = oauth.login()
            members += [("token", token["access_token"]), ("grant_type", "refresh_token"),
                        ("refresh_token", token["refresh_token"])]
            assert post(oauth, where, members, headers).status == 200, (where, method)
    assert post(oauth, INTROSPECT, [("token", login["access_token"])]).status == 401, "none is not listed"
    assert "none" not in document["introspection_endpoint_auth_methods_supported"]
    assert oauth.call("HEAD", path).status == 200


def test_without_an_issuer_there_is_no_metadata(shared):
    for path in METADATA:
        check_problem(shared.call("GET", path), 404, "not_found")


def test_an_issuer_may_have_a_path_and_localhost_no_tls(start):
    daemon = start(oauth__issuer="http://localhost:8080/sessions")
    document = daemon.call("GET", METADATA[0]).json
    assert document["issuer"] == "http://localhost:8080/sessions"
    assert document["token_endpoint"] == "http://localhost:8080/sessions/oauth2/token"
