"""Gateways: may a request go on, and who makes it?"""

import secrets
import urllib.parse

import pytest

from checks import check_problem
from client import Client, RawSocket
from daemon import ACME, ADMIN, KEYS, SERVICE, Daemon, unique

FORWARD, REQUEST, EXT = "/authz/forward-auth", "/authz/auth-request", "/authz/ext-authz"
COOKIE = "__Host-session"
SHOP = "https://shop.example"  # a page's own host
KNOWN = "https://partner.example"  # in browser.origins
IDENTITY = ("Authenticated", "User", "Tenant", "Roles", "Id", "Device", "Device-Type", "Expires",
            "Stale", "Extended", "Truncated", "Jwt")
TRUSTED, STRANGE = 0, 1  # the node that trusts this host as a proxy, and the one that does not


@pytest.fixture(scope="module")
def gate(workspace, cluster):
    """A node that trusts its peers as proxies, and one that trusts nobody."""
    daemon = Daemon(workspace / "authz", cluster, count=2, browser__origins=KNOWN,
                    server__head_memory="48K", redis__timeout="10s", authz__timeout="9s")
    daemon.nodes[TRUSTED].write_config(server__trusted_proxies="127.0.0.1/32 unix",
                                       server__unix_socket=workspace / "authz.sock")
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


@pytest.fixture
def alice(gate):
    """A session with roles and a device."""
    return gate.login(unique("alice"), roles=["reader", "editor"],
                      device={"id": "phone-1", "type": "mobile"})


def identity(answer):
    """The X-Session headers of an answer, each of them exactly once."""
    found = [(name, value) for name, value in answer.headers if name.lower().startswith("x-session-")]
    assert sorted(name for name, _ in found) == sorted(f"X-Session-{name}" for name in IDENTITY), answer
    return {name.removeprefix("X-Session-"): value for name, value in found}


def check_allowed(answer, login=None):
    """200, no body, every header; and the session if it is one."""
    assert answer.status == 200, answer
    assert answer.body == b"" and answer.header("Content-Length") == "0", answer
    assert answer.header("Set-Cookie") is None, answer
    shown = identity(answer)
    assert sum(len(name) + len(value) + 4 for name, value in answer.headers) + 60 < 3072, answer
    if login is None:
        assert shown.pop("Authenticated") == "no", answer
        assert set(shown.values()) == {""}, answer
        assert answer.header("Cache-Control") == "no-store", answer
        return {}
    assert shown["Authenticated"] == "yes", answer
    assert shown["User"] == urllib.parse.quote(login["user_id"], safe="!\"#$&'()*+/:;<=>?@[\\]^`{|}~-_."), answer
    assert shown["Tenant"] == login["tenant"] and shown["Id"] == login["session_id"], answer
    return shown


def check_denied(answer, status, code):
    problem = check_problem(answer, status, code)
    assert answer.header("Cache-Control") == "no-store", answer
    assert answer.header("Set-Cookie") is None, answer
    assert not [name for name, _ in answer.headers if name.startswith("X-Session-")], answer
    return problem


def bearer(login):
    return {"Authorization": f"Bearer {login['access_token']}"}


def cookie(login):
    return {"Cookie": f"theme=dark; {COOKIE}={login['access_token']}"}


def described(route, method="GET", origin=SHOP, path="/cart", node=TRUSTED):
    """The target and headers with which a gateway describes a request."""
    scheme, host = origin.split("://")
    if route == FORWARD:
        return FORWARD + "/-", {"X-Forwarded-Method": method, "X-Forwarded-Proto": scheme,
                                "X-Forwarded-Host": host, "X-Forwarded-Uri": path}
    if route == REQUEST:
        return REQUEST + "/-", {"X-Original-Method": method, "X-Original-URL": origin + path}
    return EXT + "/-" + path, {"Host": host}


def ask(gate, route, headers, method="GET", settings="-", node=TRUSTED, call_method=None, **more):
    target, told = described(route, method, **more)
    target = target.replace("/-", "/" + settings, 1)
    call_method = call_method or (method if route == EXT else "GET")
    return gate.call(call_method, target, None, None, {**told, **headers}, node)


ROUTES = pytest.mark.parametrize("route", [FORWARD, REQUEST, EXT])


# --- allowing --------------------------------------------------------------------------------------

@ROUTES
def test_a_session_is_let_through_with_all_that_is_known_of_it(gate, alice, route):
    for credential in (bearer(alice), cookie(alice)):
        shown = check_allowed(ask(gate, route, credential), alice)
        assert shown["Roles"] == "reader,editor" and shown["Device"] == "phone-1", shown
        assert shown["Device-Type"] == "mobile", shown
        assert int(shown["Expires"]) > 1_700_000_000, shown
        assert [shown[name] for name in ("Stale", "Extended", "Truncated", "Jwt")] == [""] * 4, shown


def test_no_settings_may_be_left_out(gate, alice):
    for target in (FORWARD, REQUEST):
        check_allowed(gate.call("GET", target, None, None, bearer(alice)), alice)
    for target in (EXT, EXT + "/", FORWARD + "/", "/authz", FORWARD + "/-/x", EXT + "//x"):
        assert gate.call("GET", target, None, None, bearer(alice)).status == 404, target


@ROUTES
def test_any_method_is_a_question(gate, alice, route):
    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH", "get", "*"]
    for method in methods:
        answer = ask(gate, route, bearer(alice), method, call_method=method)
        assert answer.status == 200, (method, answer)
    preflight = {"Origin": KNOWN, "Access-Control-Request-Method": "GET"}
    assert ask(gate, route, preflight, "OPTIONS", call_method="OPTIONS").status == 401
    answer = ask(gate, route, {**preflight, **bearer(alice)}, "OPTIONS", call_method="OPTIONS")
    assert answer.status == 200 and answer.header("Access-Control-Allow-Origin") is None, answer


def test_bytes_that_may_not_stand_in_a_header_are_encoded(gate):
    user = "Zoë, 100 %\u2603" + "é,%" * 28
    login = gate.login(user[:120], roles=["a,b", "x y", "ß", "50%", 'q"uote', "back\\slash"])
    shown = identity(gate.call("GET", FORWARD, None, None, bearer(login)))
    assert urllib.parse.unquote(shown["User"]) == user[:120], shown
    assert "," not in shown["User"] and " " not in shown["User"], shown
    roles = [urllib.parse.unquote(role) for role in shown["Roles"].split(",")]
    assert roles == ["a,b", "x y", "ß", "50%", 'q"uote', "back\\slash"], shown


def test_the_headers_stay_below_3_kb(gate):
    """A user id of 255 bytes, each of them encoded, and roles that do not fit."""
    login = gate.login("é" * 127 + "x", roles=[f"role{number:02}-" + "ß" * 58 for number in range(32)],
                       device={"id": "ö" * 64, "type": "ü" * 64})
    answer = gate.call("GET", FORWARD, None, None, {**bearer(login), "X-Request-Id": "r" * 64})
    shown = check_allowed(answer, login)
    assert shown["Truncated"] == "roles", shown
    assert urllib.parse.unquote(shown["Device"]) == "ö" * 64, shown
    kept = shown["Roles"].split(",") if shown["Roles"] else []
    assert len(kept) < 32 and all(role.startswith("role") for role in kept), shown
    fits = gate.login("short", roles=[f"role{number:02}" for number in range(32)])
    shown = identity(gate.call("GET", FORWARD, None, None, bearer(fits)))
    assert shown["Truncated"] == "" and len(shown["Roles"].split(",")) == 32, shown


# --- denying ---------------------------------------------------------------------------------------

def dead_tokens(gate):
    """Texts of Authorization that are no user's: what it is -> value."""
    login, other = gate.login(), gate.login()
    gate.call("POST", "/v1/logout", None, other["access_token"])
    forged = login["access_token"][:-1] + ("A" if login["access_token"][-1] != "A" else "B")
    return {"ended": other["access_token"], "forged": forged, "refresh token": login["refresh_token"],
            "foreign JWT": "eyJhbGciOiJub25lIn0.e30.x", "service key": SERVICE, "key of all tenants": ADMIN,
            "no key": "sk_unknown", "short": "sa_x"}


@ROUTES
@pytest.mark.parametrize("settings", ["-", "optional=yes"])
def test_a_credential_that_is_no_active_session_is_401(gate, route, settings):
    for what, token in dead_tokens(gate).items():
        for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": f"{COOKIE}={token}"}):
            problem = check_denied(ask(gate, route, headers, settings=settings), 401, "token_invalid")
            assert problem["reason"], (what, problem)
    for headers in ({"Authorization": "Bearer"}, {"Authorization": "Bearer "}, {"Authorization": gate.login()["access_token"]}):
        answer = ask(gate, route, headers, settings=settings)
        assert check_denied(answer, 401, "token_invalid")["reason"] == "malformed", headers


@ROUTES
def test_no_credential_is_401_unless_it_is_optional(gate, route):
    for headers in ({}, {"Authorization": "Basic dTpw"}, {"Cookie": "theme=dark"}, {"Cookie": f"{COOKIE}="}):
        answer = ask(gate, route, headers)
        check_denied(answer, 401, "credentials_missing")
        assert "error=" not in answer.header("WWW-Authenticate"), answer
        check_allowed(ask(gate, route, headers, settings="optional=yes"))


def test_a_credential_that_came_twice_is_401(gate, alice):
    token = alice["access_token"]
    for lines in (["Authorization: Bearer " + token] * 2,
                  ["Authorization: Bearer " + token, "authorization: Basic dTpw"],
                  ["Authorization: Basic dTpw", "Authorization: Bearer " + token],
                  [f"Cookie: {COOKIE}={token}; {COOKIE}={token}"],
                  [f"Cookie: {COOKIE}={token}", f"Cookie: {COOKIE}={token}"]):
        for settings in ("-", "optional=yes"):
            answer = raw(gate, "GET", f"{REQUEST}/{settings}", *lines)
            assert check_denied(answer, 401, "token_invalid")["reason"] == "malformed", lines


def raw(gate, method, target, *lines, node=TRUSTED, version="HTTP/1.1", host="Host: gate"):
    lines = [f"{method} {target} {version}"] + ([host] if host else []) + list(lines)
    with RawSocket(gate.nodes[node].port) as connection:
        connection.send("\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n")
        return connection.answer()


def test_conditions_of_tenant_and_role(gate, alice):
    acme = gate.try_login(unique(), key=ACME, roles=["editor"]).json
    for login, tenant in ((alice, "default"), (acme, "acme")):
        check_allowed(ask(gate, FORWARD, bearer(login), settings=f"tenant={tenant}"), login)
    for login, tenant in ((alice, "acme"), (acme, "default"), (acme, "acm")):
        check_denied(ask(gate, FORWARD, bearer(login), settings=f"tenant={tenant}"), 403, "tenant_forbidden")
    for settings in ("role=editor", "role=admin;role=reader", "tenant=default;role=editor", "role=%65ditor"):
        check_allowed(ask(gate, FORWARD, bearer(alice), settings=settings), alice)
    for settings in ("role=admin", "role=Editor", "role=edit", "role=editor%20", "role=admin;role=owner"):
        check_denied(ask(gate, FORWARD, bearer(alice), settings=settings), 403, "role_missing")
    check_denied(ask(gate, FORWARD, {}, settings="role=editor"), 401, "credentials_missing")
    check_allowed(ask(gate, FORWARD, {}, settings="role=editor;optional=yes"))


@ROUTES
def test_settings_that_are_wrong_let_nobody_in(gate, alice, route):
    wrong = {"roles=a": "roles", "Role=a": "Role", "tenant=a;tenant=a": "tenant", "touch=yes": "touch",
             "optional=no": "optional", "optional=yes;optional=yes": "optional", "tenant=ACME": "tenant",
             "role=": "role", "role": "role", "-;role=a": "-", "role=a;": "", ";": "", "--": "--",
             "role=a%252Cb": "role", "tenant=a%2563me": "tenant", "role%3Da": "role%3Da", "%72ole=a": "%72ole",
             "role=a=b": "role", "role=%": "role", "role=%zz": "role", "role=%00": "role", "role=%ff": "role",
             "max_age=": "max_age", "max_age=-1": "max_age", "max_age=1h": "max_age", "at_least=yes": "at_least",
             "jwt=unknown": "jwt", "acr=": "acr", "..": "..", "optional=yes%": "optional"}
    for settings, name in wrong.items():
        for credential in (bearer(alice), {}):
            answer = ask(gate, route, credential, settings=settings)
            problem = check_denied(answer, 400, "setting_invalid")
            assert f'"{name}"' in problem["detail"], (settings, problem)


@ROUTES
def test_the_query_is_the_users_and_sets_nothing(gate, alice, route):
    target, told = described(route)
    for query in ("optional=yes&role=admin&tenant=x", "tenant=x", "%00", "a=%", "x=%ff&&", "jwt=x#y"):
        check_denied(gate.call("GET", f"{target}?{query}", None, None, told), 401, "credentials_missing")
        check_allowed(gate.call("GET", f"{target}?{query}", None, None, {**told, **bearer(alice)}), alice)


# --- forged calls by cookie ------------------------------------------------------------------------

@ROUTES
def test_a_cookie_counts_by_the_original_method_and_page(gate, alice, route):
    for method in ("GET", "HEAD", "OPTIONS"):
        for origin in ({}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            check_allowed(ask(gate, route, {**cookie(alice), **origin}, method, call_method=method), alice)
    for method in ("POST", "PUT", "DELETE", "PROPFIND", "get", "CONNECT"):
        if route == EXT and method == "CONNECT":
            continue
        for page in ({"Origin": SHOP}, {"Origin": KNOWN}, {"Sec-Fetch-Site": "same-origin"},
                     {"Origin": "null", "Sec-Fetch-Site": "same-origin"}):
            check_allowed(ask(gate, route, {**cookie(alice), **page}, method), alice)
        for page in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "same-site"},
                     {"Origin": SHOP.replace("https", "http")}, {"Origin": SHOP + ":8443"},
                     {"Origin": "https://gate"}):
            check_denied(ask(gate, route, {**cookie(alice), **page}, method), 403, "origin_forbidden")
        check_allowed(ask(gate, route, {**bearer(alice), "Origin": "https://evil.example"}, method), alice)


@ROUTES
def test_a_websocket_handshake_needs_a_known_page(gate, alice, route):
    for sign in ({"Upgrade": "websocket"}, {"Upgrade": "h2c, WebSocket"}, {"Sec-WebSocket-Version": "13"},
                 {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}, {"Sec-Fetch-Mode": "websocket"}):
        for page in ({}, {"Origin": "https://evil.example"}):
            check_denied(ask(gate, route, {**cookie(alice), **sign, **page}), 403, "origin_forbidden")
        check_allowed(ask(gate, route, {**cookie(alice), **sign, "Origin": SHOP}), alice)
        check_allowed(ask(gate, route, {**bearer(alice), **sign}), alice)
    check_allowed(ask(gate, route, {**cookie(alice), "Upgrade": "h2c"}), alice)


def test_an_http_page_is_the_own_one_where_the_gateway_says_so(gate, alice):
    for route in (FORWARD, REQUEST):
        for origin in ("http://shop.example", "http://shop.example:8080"):
            headers = {**cookie(alice), "Origin": origin}
            check_allowed(ask(gate, route, headers, "POST", origin=origin), alice)
            check_denied(ask(gate, route, headers, "POST", origin=SHOP), 403, "origin_forbidden")


@pytest.mark.parametrize("route", [FORWARD, REQUEST])
def test_an_unknown_method_is_unsafe(gate, alice, route):
    """Not said, said by somebody who is not trusted, said twice, or in headers of another route."""
    method_header = {FORWARD: "X-Forwarded-Method", REQUEST: "X-Original-Method"}[route]
    target, told = described(route)
    known = {**cookie(alice), "Origin": KNOWN}
    silent = {name: value for name, value in told.items() if name != method_header}
    for headers, node in ((silent, TRUSTED), (told, STRANGE), ({**silent, method_header: ""}, TRUSTED),
                          ({**silent, method_header: "GET, GET"}, TRUSTED),
                          ({**silent, method_header.replace("-", "_"): "GET"}, TRUSTED),
                          ({**silent, "X-HTTP-Method-Override": "GET"}, TRUSTED),
                          ({**described(FORWARD if route == REQUEST else REQUEST)[1]}, TRUSTED)):
        check_denied(gate.call("GET", target, None, None, {**headers, **cookie(alice)}, node), 403,
                     "origin_forbidden")
        check_allowed(gate.call("GET", target, None, None, {**headers, **known}, node), alice)
    lines = [f"{name}: {value}" for name, value in {**told, **cookie(alice)}.items()]
    answer = raw(gate, "GET", target, *lines, f"{method_header}: GET")
    check_denied(answer, 403, "origin_forbidden")


@pytest.mark.parametrize("route", [FORWARD, REQUEST])
def test_the_own_host_is_only_the_described_one(gate, alice, route):
    target, told = described(route, "POST")
    host_header = {FORWARD: "X-Forwarded-Host", REQUEST: "X-Original-URL"}[route]
    page = {**cookie(alice), "Origin": SHOP}
    check_allowed(gate.call("GET", target, None, None, {**told, **page}), alice)
    foreign = described(FORWARD if route == REQUEST else REQUEST, "POST")[1]
    silent = {name: value for name, value in told.items() if name != host_header}
    odd = {FORWARD: ["shop.example, evil.example", "evil.example", "x@shop.example", ""],
           REQUEST: ["https://evil.example/", "//shop.example/", "/shop.example", "https://x@shop.example/",
                     "ftp://shop.example/", "https:shop.example", ""]}[route]
    for headers in (silent, {**silent, **foreign, "Host": "shop.example"},
                    *({**silent, host_header: text} for text in odd)):
        check_denied(gate.call("GET", target, None, None, {**headers, **page}), 403, "origin_forbidden")
    lines = [f"{name}: {value}" for name, value in {**told, **page}.items()]
    check_denied(raw(gate, "GET", target, *lines, f"{host_header}: {told[host_header]}"), 403, "origin_forbidden")
    check_denied(gate.call("GET", target, None, None, {**told, **page}, STRANGE), 403, "origin_forbidden")


def test_a_repeated_origin_is_foreign(gate, alice):
    target, told = described(REQUEST, "POST")
    lines = [f"{name}: {value}" for name, value in {**told, **cookie(alice)}.items()]
    for extra in ([f"Origin: {SHOP}", "Origin: https://evil.example"], [f"Origin: {KNOWN}", f"Origin: {KNOWN}"]):
        check_denied(raw(gate, "GET", target, *lines, *extra), 403, "origin_forbidden")
    assert raw(gate, "GET", target, *lines, f"Origin: {SHOP}").status == 200


# --- requests as gateways and attackers send them --------------------------------------------------

@ROUTES
def test_a_clients_own_headers_decide_nothing(gate, alice, route):
    spoofed = {f"X-Session-{name}": "root" for name in IDENTITY}
    spoofed |= {"X_Session_User": "root", "X-Session-Token": alice["access_token"], "X-Gateway-Key": ADMIN,
                "X-Session-At-Least": "x", "X-Operator": "root"}
    check_denied(ask(gate, route, spoofed), 401, "credentials_missing")
    check_allowed(ask(gate, route, spoofed, settings="optional=yes"))
    shown = check_allowed(ask(gate, route, {**spoofed, **bearer(alice)}), alice)
    assert "root" not in shown.values(), shown


def test_http_1_0_and_what_nginx_sends(gate, alice):
    token = alice["access_token"]
    for lines in (["Connection: close"], ["Connection: keep-alive"], []):
        for host in ("Host: sessiond", None):
            answer = raw(gate, "GET", REQUEST, f"Authorization: Bearer {token}", *lines, version="HTTP/1.0", host=host)
            check_allowed(answer, alice)
    check_allowed(raw(gate, "POST", REQUEST, f"Authorization: Bearer {token}", "Content-Length: 0"), alice)


def test_a_body_is_refused_at_once(gate, alice):
    """Its gateway announces it and sends none: the answer does not wait for it."""
    for line in ("Content-Length: 5", "Transfer-Encoding: chunked"):
        answer = raw(gate, "POST", REQUEST, f"Authorization: Bearer {alice['access_token']}", line)
        assert check_denied(answer, 400, "body_invalid") and answer.header("Connection") == "close", answer


def test_paths_of_any_shape_are_the_gateways_own(gate, alice):
    line = f"Authorization: Bearer {alice['access_token']}"
    for path in ("", "/", "//", "//x", "/a//b", "/%00", "/a%00b", "/%", "/%zz", "/..", "/../../v1/login", "/.", "/a/./b",
                 "/%2e%2e/x", "/\xc3\xa9", "/\udcff", "/{}", "/a;b=c", "/a\\b", "/a|b", "/<x>", "/a?b=%00", "/?", "/a??",
                 "/" + "p" * 7000):
        answer = raw(gate, "GET", EXT + "/-" + path, line)
        assert answer.status == 200, (path, answer)
        assert raw(gate, "GET", EXT + "/-" + path).status == 401, path
    for prefix in (EXT + "/role=admin", EXT + "/tenant=acme"):
        for path in ("/../-/x", "/;optional=yes", "/..;/-"):
            assert raw(gate, "GET", prefix + path, line).status == 403, (prefix, path)


def test_a_url_of_8_kb_fits(gate, alice):
    headers = {**bearer(alice), "X-Original-Method": "POST",
               "X-Original-URL": SHOP + "/" + "u" * 8192, "Referer": SHOP + "/" + "r" * 8192,
               "X-A": "a" * 8192}
    check_allowed(gate.call("GET", REQUEST, None, None, headers), alice)
    page = {**headers, **cookie(alice), "Authorization": None, "Origin": SHOP}
    check_allowed(gate.call("GET", REQUEST, None, None, page), alice)


def test_the_audit_line_has_the_original_request_without_its_query(gate, alice):
    secret = gate.login()["access_token"]
    for route, node in ((FORWARD, TRUSTED), (REQUEST, TRUSTED), (EXT, TRUSTED), (FORWARD, STRANGE)):
        name = unique("authz")
        path = f"/cart/{secret};jsessionid=abc?token={secret}"
        ask(gate, route, {**bearer(alice), "X-Request-Id": name}, "PUT", path=path, node=node)
        line = gate.nodes[node].audit_of(name)
        assert line["event.action"] == "authorize" and line["event.outcome"] == "success", line
        assert line["user.id"] == alice["user_id"], line
        assert line["url.path"].startswith(route), line
        told = [line.get(member) for member in ("sessiond.original_method", "url.domain", "sessiond.original_path")]
        assert told == (["PUT", "shop.example", "/cart/sa_[redacted]"] if node == TRUSTED else [None] * 3), line
        assert secret not in str(line) and "jsessionid" not in str(line), line
