"""Browsers: the session cookie, the check against forged calls, pages of other origins."""

import http.cookies
import re
import signal

import pytest

from checks import ACCESS_TOKEN, check_dead, check_ended, check_problem
from client import RawSocket
from daemon import ACME, ADMIN, SERVICE, Daemon, unique
from redis_servers import wait_until
from redis_view import quiet

NAME = "__Host-session"
SHOP, APP = "https://shop.example", "https://app.example:8443"
SERVED = "sessions.example"  # the name that browsers know the service by
NO_SESSION = "/v1/devices/0123456789abcdef"


@pytest.fixture(scope="module")
def site(workspace, cluster):
    """A node that knows two origins, and one behind a trusted proxy whose cookies are strict."""
    daemon = Daemon(workspace / "browsers", cluster, count=2, browser__origins=f"{SHOP} {APP}",
                    browser__headers="X-Client-Version")
    daemon.nodes[1].write_config(server__trusted_proxies="127.0.0.1/32", policy__same_site="strict")
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def attributes(set_cookie):
    """(name, value, attributes in lower case) of a Set-Cookie header."""
    pair, *rest = set_cookie.split("; ")
    name, value = pair.split("=", 1)
    parts = [part.partition("=") for part in rest]
    assert len({part[0] for part in parts}) == len(parts), set_cookie
    assert http.cookies.SimpleCookie(set_cookie)[name].value == value
    return name, value, {part[0].lower(): part[2] for part in parts}


def cookie(token, **headers):
    return {"Cookie": f"{NAME}={token}",
            **{name.replace("_", "-"): value for name, value in headers.items()}}


def call(site, method, path, headers=None, body=None, bearer=None, node=0):
    return site.call(method, path, body, bearer, {"Host": SERVED, **(headers or {})}, node)


def cors_headers(answer):
    return {name.lower(): value for name, value in answer.headers
            if name.lower().startswith("access-control-")}


# --- the cookie ---

def test_a_login_sets_the_cookie_if_it_is_asked_to(site):
    plain = site.try_login(unique())
    assert plain.header("Set-Cookie") is None and "set_cookie" not in plain.json
    answer = site.try_login(unique(), cookie=True)
    assert answer.status == 201, answer
    assert answer.json["set_cookie"] == [answer.header("Set-Cookie")]
    name, value, rest = attributes(answer.header("Set-Cookie"))
    assert name == NAME and value == answer.json["access_token"]
    assert ACCESS_TOKEN.fullmatch(value)
    assert rest == {"path": "/", "secure": "", "httponly": "", "samesite": "Lax"}
    assert answer.header("Cache-Control") == "no-store"


def test_only_who_wants_to_be_remembered_gets_a_cookie_that_outlives_the_browser(site):
    answer = site.try_login(unique(), cookie=True, remember=True)
    rest = attributes(answer.header("Set-Cookie"))[2]
    assert rest.pop("max-age") == str(answer.json["expires_in"])
    assert rest == {"path": "/", "secure": "", "httponly": "", "samesite": "Lax"}


def test_the_policy_may_make_cookies_strict(site):
    answer = site.try_login(unique(), cookie=True, node=1)
    assert attributes(answer.header("Set-Cookie"))[2]["samesite"] == "Strict"


def test_a_tenants_own_policy_decides_and_a_verified_login_gets_its_cookie(site):
    tenant, user = unique("bank"), unique()
    policy = {"same_site": "strict", "verify": {"on": ["new_device"], "method": "external"}}
    answer = site.call("PUT", f"/v1/tenants/{tenant}/policy", policy, ADMIN)
    assert answer.status == 200, answer
    refused = site.try_login(user, key=ADMIN, tenant=tenant, device={"id": "new"}, cookie=True,
                             remember=True)
    check_problem(refused, 403, "verification_required")
    assert refused.header("Set-Cookie") is None
    answer = site.call("POST", "/v1/login/verify",
                       {"challenge_id": refused.json["challenge_id"], "verified": True}, ADMIN)
    assert answer.status == 201, answer
    for answer in (answer, site.refresh(answer.json["refresh_token"], cookie=True)):
        name, value, rest = attributes(answer.header("Set-Cookie"))
        assert (name, value) == (NAME, answer.json["access_token"])
        assert rest["samesite"] == "Strict" and rest["max-age"] == str(answer.json["expires_in"])


def test_a_refused_login_sets_no_cookie(site):
    for answer in (site.try_login(unique(), cookie=True, tenant="acme"),
                   site.try_login(unique(), cookie=True, oops=1),
                   site.try_login(unique(), cookie="yes")):
        assert answer.status in (400, 403), answer
        assert answer.header("Set-Cookie") is None


def test_a_session_cookie_is_a_credential_like_the_token(site):
    login = site.login(cookie=True)
    answer = call(site, "GET", "/v1/validate", cookie(login["access_token"]))
    assert answer.status == 200 and answer.json["session_id"] == login["session_id"], answer
    answer = call(site, "GET", "/v1/devices",
                  {"Cookie": f"a=b; {NAME}={login['access_token']}; theme=dark"})
    assert answer.json["devices"][0]["current"] is True, answer
    assert answer.header("Set-Cookie") is None


def test_no_page_embeds_what_a_cookie_opens(site):
    token = site.login(cookie=True)["access_token"]
    for headers, status in ((cookie(token), 200), (cookie("sa_none"), 401)):
        answer = call(site, "GET", "/v1/validate", headers)
        assert answer.status == status
        assert answer.header("Cross-Origin-Resource-Policy") == "same-origin"
        assert answer.header("X-Content-Type-Options") == "nosniff"


def test_pieces_of_a_cookie_header_are_read_as_one(site):
    login = site.login(cookie=True)
    with RawSocket(site.node.port) as raw:
        raw.send(f"GET /v1/validate HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\n"
                 f"Cookie: {NAME}={login['access_token']}\r\n\r\n".encode())
        assert raw.answer().status == 200


@pytest.mark.parametrize("value, status, code", [
    ("", 401, "credentials_missing"),
    (NAME, 401, "credentials_missing"),
    (f"{NAME}=", 401, "credentials_missing"),
    ("__host-session={token}", 401, "credentials_missing"),
    ("={name}={token}", 401, "credentials_missing"),
    ("session={token}", 401, "credentials_missing"),
    ("{name}={token}; {name}={token}", 400, "header_invalid"),
    ("{name}={token}; {name}=", 400, "header_invalid"),
    ("{name}=sa_none; x=y; {name}={token}", 400, "header_invalid"),
])
def test_a_cookie_header_must_have_the_one_cookie(site, value, status, code):
    token = site.login(cookie=True)["access_token"]
    value = value.replace("{name}", NAME).replace("{token}", token)
    answer = call(site, "GET", "/v1/validate", {"Cookie": value})
    check_problem(answer, status, code)
    assert token not in answer.body.decode()


def test_a_cookie_holds_nothing_but_an_access_token(site):
    login = site.login(cookie=True)
    for value in (SERVICE, login["refresh_token"], login["access_token"] + "x", "x", "\"",
                  f"\"{login['access_token']}"):
        check_dead(call(site, "GET", "/v1/validate", cookie(value)), "malformed")
    headers = cookie(SERVICE) | {"X-Session-Token": login["access_token"]}
    check_dead(call(site, "GET", "/v1/validate", headers), "malformed")


def test_a_cookie_in_quotes_is_the_same_cookie(site):
    token = site.login(cookie=True)["access_token"]
    answer = call(site, "GET", "/v1/validate", cookie(f"\"{token}\""))
    assert answer.status == 200, answer


@pytest.mark.parametrize("other", ["Basic YTpi", "Negotiate", "Negotiate YII=", "Digest username=\"a\"",
                                   "bASIC YTpi"])
def test_authorization_of_another_scheme_is_no_credential_of_ours(site, other):
    login = site.login(cookie=True)
    answer = call(site, "GET", "/v1/validate", cookie(login["access_token"], Authorization=other))
    assert answer.status == 200, answer
    check_problem(site.call("GET", "/v1/validate", headers={"Authorization": other}), 401,
                  "credentials_missing")
    answer = site.call("POST", "/v1/refresh", {"refresh_token": login["refresh_token"]},
                       headers={"Authorization": other})
    assert answer.status == 200, answer
    check_problem(site.call("POST", "/v1/login", {"user_id": "a"}, headers={"Authorization": other}),
                  401, "credentials_missing")


def test_authorization_wins_over_the_cookie(site):
    live, dead = site.login(cookie=True), site.login(cookie=True)
    assert site.call("POST", "/v1/logout", None, dead["access_token"]).status == 200
    answer = call(site, "GET", "/v1/validate", cookie(live["access_token"]),
                  bearer=dead["access_token"])
    check_dead(answer, "logged_out")
    answer = call(site, "GET", "/v1/validate", cookie(dead["access_token"]),
                  bearer=live["access_token"])
    assert answer.status == 200 and answer.json["session_id"] == live["session_id"]
    answer = call(site, "GET", "/v1/validate",
                  cookie(live["access_token"], Authorization="Bearer"))
    check_problem(answer, 401, "credentials_missing")


def test_services_calls_take_no_cookie(site):
    login = site.login(cookie=True)
    for method, path in (("POST", "/v1/login"), ("POST", "/v1/validate"),
                         ("GET", "/v1/users/someone"), ("POST", "/v1/users/someone/logout-all")):
        answer = call(site, method, path, cookie(login["access_token"], Origin=SHOP),
                      {} if method == "POST" else None)
        check_problem(answer, 401, "credentials_missing")


def test_a_logout_deletes_the_cookie_that_it_came_with(site):
    user = unique()
    first, second, third = (site.login(user, cookie=True) for _ in range(3))
    deleted = {"path": "/", "secure": "", "httponly": "", "samesite": "Strict", "max-age": "0"}
    headers = cookie(first["access_token"], Origin=SHOP)
    for sessions in ([first["session_id"]], []):  # the second time for a dead session
        answer = call(site, "POST", "/v1/logout", headers)
        check_ended(answer, sessions)
        assert attributes(answer.header("Set-Cookie")) == (NAME, "", deleted)
    answer = call(site, "POST", "/v1/logout-all", cookie(second["access_token"], Origin=SHOP),
                  {"keep_current": True})
    check_ended(answer, [third["session_id"]])
    assert answer.header("Set-Cookie") is None
    answer = call(site, "POST", "/v1/logout-all", cookie(second["access_token"], Origin=SHOP))
    check_ended(answer, [second["session_id"]])
    assert attributes(answer.header("Set-Cookie")) == (NAME, "", deleted)


def test_a_kick_of_ones_own_session_deletes_the_cookie_that_it_came_with(site):
    user = unique()
    own, other = (site.login(user, cookie=True) for _ in range(2))
    headers = cookie(own["access_token"], Origin=SHOP)
    answer = call(site, "DELETE", f"/v1/devices/{other['session_id']}", headers)
    check_ended(answer, [other["session_id"]])
    assert answer.header("Set-Cookie") is None
    answer = call(site, "DELETE", f"/v1/devices/{own['session_id']}", headers)
    check_ended(answer, [own["session_id"]])
    name, value, rest = attributes(answer.header("Set-Cookie"))
    assert (name, value, rest["max-age"]) == (NAME, "", "0")
    again = call(site, "DELETE", f"/v1/devices/{own['session_id']}", headers)
    check_problem(again, 401, "token_invalid")
    for body in ({"keep_current": False}, {"keep_current": None}):
        third = site.login(user, cookie=True)
        answer = call(site, "POST", "/v1/logout-all", cookie(third["access_token"], Origin=SHOP), body)
        check_ended(answer, [third["session_id"]])
        assert attributes(answer.header("Set-Cookie"))[1:] == ("", rest)


def test_a_logout_without_a_cookie_deletes_none(site):
    login = site.login()
    answer = site.call("POST", "/v1/logout", None, login["access_token"])
    check_ended(answer, [login["session_id"]])
    assert answer.header("Set-Cookie") is None


def test_a_refresh_sets_the_new_cookie_if_it_is_asked_to(site):
    login = site.login(cookie=True)
    plain = site.refresh(login["refresh_token"])
    assert plain.header("Set-Cookie") is None and "set_cookie" not in plain.json
    answer = site.refresh(plain.json["refresh_token"], cookie=True)
    assert answer.status == 200, answer
    assert answer.json["set_cookie"] == [answer.header("Set-Cookie")]
    name, value, rest = attributes(answer.header("Set-Cookie"))
    assert (name, value) == (NAME, answer.json["access_token"])
    assert rest == {"path": "/", "secure": "", "httponly": "", "samesite": "Lax"}
    assert call(site, "GET", "/v1/validate", cookie(value)).status == 200


def test_a_refresh_of_a_remembered_session_keeps_the_cookie_over_the_browsers_end(site):
    login = site.login(cookie=True, remember=True)
    answer = site.refresh(login["refresh_token"], cookie=True)
    rest = attributes(answer.header("Set-Cookie"))[2]
    assert rest["max-age"] == str(answer.json["expires_in"])


def test_no_foreign_page_hands_a_browser_a_cookie_by_a_refresh(site):
    login = site.login(cookie=True)
    body = {"refresh_token": login["refresh_token"], "cookie": True}
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"},
                    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
        answer = call(site, "POST", "/v1/refresh", headers, body)
        check_problem(answer, 403, "origin_forbidden")
        assert answer.header("Set-Cookie") is None
    answer = call(site, "POST", "/v1/refresh", {"Origin": SHOP}, body)  # it was not used up
    assert answer.status == 200 and answer.header("Set-Cookie"), answer


def test_a_login_never_continues_the_session_that_it_came_with(site):
    """An attacker who planted a token, in a cookie or otherwise, gains nothing by the login."""
    planted, user = site.login(cookie=True), unique()
    for headers in ({"Cookie": f"{NAME}={planted['access_token']}"},
                    {"X-Session-Token": planted["access_token"]}):
        answer = site.try_login(user, cookie=True, headers=headers)
        assert answer.status == 201, answer
        fresh = answer.json
        assert fresh["access_token"] != planted["access_token"]
        assert fresh["refresh_token"] != planted["refresh_token"]
        assert fresh["session_id"] != planted["session_id"]
        assert site.validate(planted["access_token"]).json["user_id"] != user
        assert attributes(answer.header("Set-Cookie"))[1] == fresh["access_token"]


def test_no_log_shows_what_a_cookie_holds(site):
    login = site.login(cookie=True)
    token = login["access_token"]
    answers = [call(site, "GET", "/v1/validate", cookie(token)),
               call(site, "GET", "/v1/validate", {"Cookie": f"{NAME}={token}; {NAME}={token}"}),
               call(site, "POST", "/v1/logout", cookie(token)),
               call(site, "POST", "/v1/logout", cookie(token, Origin=SHOP))]
    assert [answer.status for answer in answers] == [200, 400, 403, 200]
    for answer in answers:
        site.node.audit_of(answer.header("X-Request-Id"))
    for file in (site.node.audit, site.node.log):
        assert token[:20] not in file.read_text()


# --- without the cookie ---

def test_where_the_cookie_is_off_none_is_given(start):
    """Not asked for, nor by a login that asked before and waits for its verification."""
    daemon, tenant, user = start(), unique("tenant"), unique()
    assert daemon.call("PUT", f"/v1/tenants/{tenant}/policy",
                       {"verify": {"on": ["new_device"], "method": "external"}}, ADMIN).status == 200
    asked = daemon.try_login(user, ADMIN, tenant=tenant, device={"id": "new"}, cookie=True)
    check_problem(asked, 403, "verification_required")
    login = daemon.login(cookie=True)
    cookied = cookie(login["access_token"])
    assert daemon.call("GET", "/v1/validate", headers=cookied).status == 200
    daemon.node.write_config(browser__cookie="no")
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: daemon.call("GET", "/v1/validate", headers=cookied).status == 401, 5,
               "the reload")
    for answer in (daemon.try_login(unique(), cookie=True),
                   daemon.refresh(login["refresh_token"], cookie=True)):
        problem = check_problem(answer, 400, "body_invalid")
        assert '"cookie"' in problem["detail"] and "browser.cookie" in problem["detail"], problem
        assert answer.header("Set-Cookie") is None, answer
    verified = daemon.call("POST", f"/v1/login/verify?tenant={tenant}",
                           {"challenge_id": asked.json["challenge_id"], "verified": True}, ADMIN)
    for answer in (verified, daemon.try_login(unique(), cookie=False),
                   daemon.refresh(login["refresh_token"], cookie=False)):
        assert answer.status in (200, 201) and "set_cookie" not in answer.json, answer
        assert answer.header("Set-Cookie") is None, answer
    token = answer.json["access_token"]
    assert daemon.validate(token, headers=cookied).status == 200, "beside the header it harms nobody"
    assert daemon.call("POST", "/v1/logout", None, token, cookied).header("Set-Cookie") is None


# --- forged calls ---

OWN = "https://" + SERVED
PAGES = [
    # headers, may it
    ({}, False),
    ({"Origin": SHOP}, True),
    ({"Origin": APP}, True),
    ({"Origin": SHOP, "Sec-Fetch-Site": "cross-site"}, True),
    ({"Origin": OWN}, True),
    ({"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, True),
    ({"Origin": OWN, "Host": SERVED + ":443"}, True),
    ({"Origin": OWN, "Host": SERVED.upper()}, True),
    ({"Origin": OWN + ":8443", "Host": SERVED + ":8443"}, True),
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Sec-Fetch-Site": "same-site"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "none"}, False),
    ({"Sec-Fetch-Site": "same-origin, cross-site"}, False),
    ({"Origin": "https://evil.example"}, False),
    ({"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"}, False),
    ({"Origin": "null"}, False),
    ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, True),
    ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, False),
    ({"Origin": ""}, False),
    ({"Origin": "", "Host": ""}, False),
    ({"Origin": "*"}, False),
    ({"Origin": "http://shop.example"}, False),
    ({"Origin": SHOP + "/"}, False),
    ({"Origin": SHOP + ":443"}, False),
    ({"Origin": SHOP + ".evil.example"}, False),
    ({"Origin": "https://evil-shop.example"}, False),
    ({"Origin": "https://x.shop.example"}, False),
    ({"Origin": f"{SHOP} {APP}"}, False),
    ({"Origin": "https://app.example"}, False),
    ({"Origin": OWN + ":8443"}, False),
    ({"Origin": "http://" + SERVED}, False),
    ({"Origin": "http://" + SERVED, "X-Forwarded-Proto": "http"}, False),  # an untrusted one
    ({"Referer": SHOP + "/"}, False),
]


@pytest.mark.parametrize("headers, may", PAGES)
def test_with_a_cookie_only_pages_of_known_origins_change_anything(site, headers, may):
    login = site.login(cookie=True)
    answers = [call(site, "DELETE", NO_SESSION, cookie(login["access_token"]) | headers),
               call(site, "POST", "/v1/logout", cookie(login["access_token"]) | headers)]
    if may:
        check_problem(answers[0], 404, "session_not_found")
        check_ended(answers[1], [login["session_id"]])
    else:
        for answer in answers:
            check_problem(answer, 403, "origin_forbidden")
            assert answer.header("Set-Cookie") is None and not cors_headers(answer)
        assert site.is_alive(login["access_token"])


@pytest.mark.parametrize("target_host, host, status", [
    (SERVED, "evil.example", 404), ("evil.example", SERVED, 403), (SERVED + ".evil.example", SERVED, 403)])
def test_in_absolute_form_the_target_says_which_origin_is_its_own(site, target_host, host, status):
    token = site.login(cookie=True)["access_token"]
    answer = call(site, "DELETE", f"http://{target_host}{NO_SESSION}",
                  cookie(token) | {"Origin": OWN, "Host": host})
    assert answer.status == status, answer


def test_only_a_trusted_proxy_says_that_the_browser_came_without_tls(site):
    plain, secure = {"Origin": "http://" + SERVED}, {"Origin": OWN}
    token = site.login(cookie=True)["access_token"]
    for headers, proto, status in ((plain, "http", 404), (secure, "http", 403),
                                   (secure, "https", 404), (plain, "https", 403),
                                   (secure, "https, http", 404), (plain, "https, http", 403),
                                   (plain, "HTTP", 404), (plain, "http, https", 404),
                                   (plain, ", HTTP,", 404), (plain, None, 403),
                                   (secure, None, 404)):
        headers = cookie(token, X_Forwarded_Proto=proto) | headers
        answer = call(site, "DELETE", NO_SESSION, headers, node=1)
        assert answer.status == status, (proto, headers["Origin"], answer)


def test_a_bearer_token_needs_no_origin(site):
    """No browser sends it of its own accord."""
    login = site.login()
    answer = call(site, "DELETE", NO_SESSION, {"Origin": "https://evil.example"},
                  bearer=login["access_token"])
    check_problem(answer, 404, "session_not_found")


def test_a_forged_call_is_put_on_record(site):
    token = site.login(cookie=True)["access_token"]
    answer = call(site, "POST", "/v1/logout", cookie(token, Origin="https://evil.example"))
    line = site.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.action"] == "logout" and line["event.outcome"] == "failure"
    assert line["event.reason"] == "origin_forbidden"


# --- pages of other origins ---

PATHS = {
    "/v1/login": {"POST"},
    "/v1/validate": {"GET", "HEAD", "POST"},
    "/v1/refresh": {"POST"},
    "/v1/devices": {"GET", "HEAD"},
    NO_SESSION: {"DELETE"},
    "/v1/logout": {"POST"},
    "/v1/users/someone/devices?tenant=default&whatever": {"GET", "HEAD"},
    "/problems/not_found": {"GET", "HEAD"},
}


def preflight(site, path, origin, method="POST", **headers):
    return call(site, "OPTIONS", path, {
        "Origin": origin, "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
        **{name.replace("_", "-"): value for name, value in headers.items()}})


def words(value):
    return {word.strip().lower() for word in value.split(",")}


@pytest.mark.parametrize("path", PATHS)
def test_a_preflight_of_a_known_origin_is_answered_on_every_path(site, path):
    for origin in (SHOP, APP):
        answer = preflight(site, path, origin, method="PUT")
        assert answer.status == 204 and answer.body == b"", answer
        found = cors_headers(answer)
        assert found["access-control-allow-origin"] == origin
        assert words(found["access-control-allow-methods"]) == {m.lower() for m in PATHS[path]}
        assert words(found["access-control-allow-headers"]) >= {
            "authorization", "content-type", "if-match", "if-none-match",
            "x-device-fingerprint", "x-request-id", "traceparent", "baggage", "sentry-trace",
            "x-requested-with", "x-client-version"}
        assert "x-session-token" not in words(found["access-control-allow-headers"])
        assert found["access-control-allow-credentials"] == "true"
        assert found["access-control-max-age"] == "600"
        assert words(answer.header("Vary")) == {
            "origin", "access-control-request-method", "access-control-request-headers"}
        assert answer.header("Set-Cookie") is None and answer.header("Content-Type") is None


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "*", "http://shop.example",
                                    SHOP + ".evil.example", OWN, ""])
def test_a_preflight_of_another_origin_is_refused(site, origin):
    answer = preflight(site, "/v1/validate", origin)
    check_problem(answer, 403, "origin_forbidden")
    assert not cors_headers(answer)
    assert "origin" in words(answer.header("Vary"))


def test_options_that_is_no_preflight_is_no_method_of_a_path(site):
    for headers in ({}, {"Origin": SHOP}, {"Access-Control-Request-Method": "GET"}):
        answer = call(site, "OPTIONS", "/v1/validate", headers)
        check_problem(answer, 405, "method_not_allowed")
        assert words(answer.header("Allow")) == {"get", "head", "post"}
    check_problem(preflight(site, "/nothing/here", SHOP), 404, "not_found")


def test_a_preflight_needs_no_credentials_and_no_redis(site, cluster):
    before = quiet(cluster, site)
    for _ in range(100):
        assert preflight(site, "/v1/validate", SHOP).status == 204
    asked = quiet(cluster, site)
    assert sum(asked.values()) - sum(before.values()) < 50, (before, asked)
    answer = preflight(site, "/v1/validate", SHOP, Authorization="Bearer sk_wrong",
                       Cookie=f"{NAME}=x; {NAME}=x")
    assert answer.status == 204


def test_preflights_are_put_on_record(site):
    for origin, outcome in ((SHOP, "success"), ("https://evil.example", "failure")):
        line = site.node.audit_of(preflight(site, "/v1/logout", origin).header("X-Request-Id"))
        assert line["event.action"] == "preflight" and line["event.outcome"] == outcome


def calls_of_every_outcome(site, login, headers):
    """(status, answer) of calls that succeed and of calls that fail, early and late."""
    token = login["access_token"]
    yield 200, call(site, "GET", "/v1/validate", headers, bearer=token)
    yield 200, call(site, "GET", "/v1/validate", headers | cookie(token))
    yield 200, call(site, "GET", "/problems/not_found", headers)
    yield 401, call(site, "GET", "/v1/validate", headers)
    yield 401, call(site, "GET", "/v1/validate", headers, bearer="sa_none")
    yield 403, call(site, "GET", "/v1/users/x?tenant=default", headers, bearer=ACME)
    yield 404, call(site, "GET", "/nothing/here", headers)
    yield 405, call(site, "DELETE", "/v1/validate", headers)
    yield 400, call(site, "GET", "/v1/validate?oops=1", headers, bearer=token)
    yield 400, call(site, "GET", "/v1/validate", headers | {"Cookie": f"{NAME}=x; {NAME}=x"})
    yield 415, call(site, "POST", "/v1/refresh", headers | {"Content-Type": "text/plain"}, b"{}")


def test_pages_of_known_origins_may_read_every_answer(site):
    login = site.login(cookie=True)
    for origin in (SHOP, APP):
        for status, answer in calls_of_every_outcome(site, login, {"Origin": origin}):
            assert answer.status == status, answer
            found = cors_headers(answer)
            assert found.pop("access-control-allow-origin") == origin, answer
            assert found.pop("access-control-allow-credentials") == "true"
            assert words(found.pop("access-control-expose-headers")) >= {
                "etag", "retry-after", "x-request-id", "x-session-stale"}
            assert not found
            assert words(answer.header("Vary")) == {"origin"}


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"},
                                     {"Sec-Fetch-Site": "cross-site"}])
def test_other_pages_may_read_none_and_no_cache_mixes_them_up(site, headers):
    login = site.login(cookie=True)
    for status, answer in calls_of_every_outcome(site, login, headers):
        assert answer.status == status, answer
        assert not cors_headers(answer)
        assert words(answer.header("Vary")) == {"origin"}


def test_without_origins_no_answer_speaks_of_them(shared):
    login = shared.login()
    answer = shared.validate(login["access_token"], headers={"Origin": SHOP})
    assert answer.status == 200 and not cors_headers(answer) and answer.header("Vary") is None
    answer = preflight(shared, "/v1/validate", SHOP)
    check_problem(answer, 403, "origin_forbidden")
    assert not cors_headers(answer)


def test_the_operations_listener_knows_no_origins(site):
    answer = site.node.ops.call("GET", "/version", headers={"Origin": SHOP})
    assert answer.status == 200 and not cors_headers(answer)
    answer = site.node.ops.call("OPTIONS", "/version", headers={
        "Origin": SHOP, "Access-Control-Request-Method": "GET"})
    assert answer.status == 405 and not cors_headers(answer)


def test_an_answer_to_a_preflight_has_no_body_and_the_connection_goes_on(site):
    ask = (f"OPTIONS /v1/validate HTTP/1.1\r\nHost: x\r\nOrigin: {SHOP}\r\n"
           "Access-Control-Request-Method: GET\r\n\r\n").encode()
    with RawSocket(site.node.port) as raw:
        for _ in range(3):
            raw.send(ask)
            answer = raw.answer()
            assert answer.status == 204 and answer.header("Content-Length") is None, answer
        raw.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = raw.answer()
        assert answer.status == 204 and not cors_headers(answer), answer
        assert re.fullmatch(r"[\x21-\x7e]+", answer.header("X-Request-Id"))
