"""Signed identities: X-Session-Jwt, its keys, and how they rotate."""

import collections
import itertools
import os
import secrets
import signal
import threading
import time

import jwt
import pytest

from checks import check_problem
from client import HANGS, Client, RawSocket
from daemon import ACME, ADMIN, KEYS, SERVICE, Daemon, now, unique, write_key_file
from redis_servers import SLOW, wait_until

ISSUER = "https://login.example"
JWKS = "/.well-known/jwks.json"


def key_lines(*signing):
    """Lines of a key file, with signing keys of these numbers."""
    return [f"names {secrets.token_hex(32)}", f"key 1 {secrets.token_hex(32)}",
            *(f"sign {number} {secrets.token_hex(32)}" for number in signing)]


def reload(node):
    """Reloads, and waits until the node has accepted it."""
    before = node.metric("sessiond_config_reloads_total")
    node.signal(signal.SIGHUP)
    wait_until(lambda: node.metric("sessiond_config_reloads_total") > before, 5, "the reload")


@pytest.fixture
def signer(start):
    """Starts a daemon with an issuer and signing keys of these numbers."""
    def begin(*numbers, **options):
        daemon = start(begin_now=False, oauth__issuer=ISSUER, **options)
        write_key_file(daemon.node.key_file, key_lines(*numbers))
        return daemon.start()
    return begin


# --- keys ------------------------------------------------------------------------------------------

def test_all_public_keys_are_published(signer):
    daemon = signer(2, 7, oauth__jwks_max_age="7m")
    answer = daemon.call("GET", JWKS)
    assert answer.status == 200
    assert answer.header("Content-Type") == "application/json"
    assert answer.header("Cache-Control") == "public, max-age=420"
    keys = answer.json["keys"]
    assert len({key["kid"] for key in keys}) == len(keys) == 2
    for key in keys:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}, key
        assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")
    secret = daemon.node.key_file.read_text().splitlines()[-1].split()[-1]
    assert secret not in answer.body.decode()


def test_without_an_issuer_there_are_no_keys(start):
    daemon = start()
    check_problem(daemon.call("GET", JWKS), 404, "not_found")
    daemon.node.write_config(oauth__issuer=ISSUER)
    reload(daemon.node)
    wait_until(lambda: daemon.call("GET", JWKS).status == 200, 5, "the new configuration")
    assert daemon.call("GET", JWKS).json == {"keys": []}
    check_problem(daemon.call("GET", JWKS + "?x=1"), 400, "query_invalid")
    check_problem(daemon.call("POST", JWKS, {}), 405, "method_not_allowed")


def test_an_appended_key_is_published_with_the_reload(signer):
    daemon = signer(2)
    before = daemon.call("GET", JWKS).json["keys"]
    lines = daemon.node.key_file.read_text().splitlines()
    write_key_file(daemon.node.key_file, lines + [f"sign 3 {secrets.token_hex(32)}"])
    reload(daemon.node)
    wait_until(lambda: len(daemon.call("GET", JWKS).json["keys"]) == 2, 5, "the new key")
    assert daemon.call("GET", JWKS).json["keys"][0] == before[0]
    line = wait_until(lambda: [line for line in daemon.node.audit_lines()
                               if line["event.action"] == "change-keys"], 5, "the audit line")[0]
    assert line["sessiond.changes"] == ["sign 3: none -> held"]


def test_an_audience_needs_a_signing_key(start):
    daemon = start(oauth__issuer=ISSUER)
    daemon.node.write_config(**{"audience:billing.ttl": "30s"})
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: daemon.node.metric("sessiond_config_reload_errors_total") == 1, 5, "a refusal")
    assert "no 'sign' line, which [audience:billing] needs" in daemon.node.log_text()


# --- identities ------------------------------------------------------------------------------------

FORWARD = "/authz/forward-auth"
AUDIENCES = {
    "audience:any.ttl": "60s",
    "audience:acme.tenant": "acme",
    "audience:staff.role": "admin editor",
    "audience:fresh.max_age": "1h",
    "audience:gold.acr": "gold",
}


@pytest.fixture(scope="module")
def gate(workspace, cluster):
    """Two nodes with audiences; the second trusts this host as a proxy."""
    daemon = Daemon(workspace / "identities", cluster, count=2, oauth__issuer=ISSUER, **AUDIENCES)
    write_key_file(daemon.node.key_file, key_lines(2))
    daemon.nodes[1].key_file.write_bytes(daemon.node.key_file.read_bytes())
    daemon.nodes[0].write_config(server__unix_socket=workspace / "identities.sock")
    daemon.nodes[1].write_config(server__trusted_proxies="127.0.0.1/32")
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def ask(daemon, login, settings, key=None, node=0, client=None):
    headers = {"X-Gateway-Key": key} if key else {}
    path = f"{FORWARD}/{settings}"
    if client:
        return client.call("GET", path, None, login["access_token"], headers)
    return daemon.call("GET", path, None, login["access_token"], headers, node)


def public_keys(daemon, node=0):
    """{kid: key} of the published document."""
    return {key["kid"]: jwt.PyJWK(key) for key in daemon.call("GET", JWKS, node=node).json["keys"]}


def verified(keys, text, audience, leeway=0):
    """Header and claims, verified as receivers must."""
    header = jwt.get_unverified_header(text)
    assert set(header) == {"alg", "typ", "kid"} and header["typ"] == "at+jwt", header
    claims = jwt.decode(text, keys[header["kid"]].key, algorithms=["ES256"], audience=audience, issuer=ISSUER,
                        leeway=leeway, options={"require": ["exp", "iat", "sub", "jti"]})
    return header, claims


def test_an_identity_is_verified_by_a_stranger(gate):
    user = unique("ann")
    login = gate.login(user, roles=["admin", "sales team"])
    answer = ask(gate, login, "jwt=any", SERVICE)
    assert answer.status == 200, answer
    _, claims = verified(public_keys(gate, node=1), answer.header("X-Session-Jwt"), "any")
    issued = claims.pop("iat")
    assert issued < now(), "accepted by receivers whose clocks are behind"
    assert claims.pop("exp") - issued == 60 and len(claims.pop("jti")) == 22
    assert claims == {
        "iss": ISSUER, "aud": "any", "sub": f"default/{user}", "client_id": "default", "tenant": "default",
        "sid": login["session_id"], "scope": "admin", "roles": ["admin", "sales team"]}
    again = ask(gate, login, "jwt=any", SERVICE)
    assert again.header("X-Session-Jwt") == answer.header("X-Session-Jwt"), "signed once"
    assert "X-Gateway-Key" in answer.header("Vary")


def test_an_audience_of_one_tenant_gets_the_plain_user_id(gate):
    user = unique("Zoë/%")
    login = gate.login(user, key=ACME)
    answer = ask(gate, login, "jwt=acme", ACME)
    assert verified(public_keys(gate), answer.header("X-Session-Jwt"), "acme")[1]["sub"] == user


def test_only_known_gateways_get_identities(gate):
    login = gate.login()
    for key in (None, "sk_" + "x" * 43, "nonsense"):
        check_problem(ask(gate, login, "jwt=any", key), 403, "forbidden")
    check_problem(ask(gate, login, "jwt=any", KEYS["only-login"][0]), 403, "scope_missing")
    check_problem(ask(gate, login, "jwt=any", ACME), 403, "tenant_forbidden")
    assert ask(gate, login, "jwt=any", KEYS["only-validate"][0]).header("X-Session-Jwt")
    assert ask(gate, login, "jwt=any", ADMIN).header("X-Session-Jwt")
    assert ask(gate, login, "jwt=any", node=1).header("X-Session-Jwt"), "a trusted proxy"
    local = Client(unix=str(gate.node.options["server.unix_socket"]))
    assert ask(gate, login, "jwt=any", client=local).header("X-Session-Jwt"), "the Unix socket"
    local.close()
    assert ask(gate, login, "-", SERVICE).header("X-Session-Jwt") == "", "not asked for"


def test_two_gateway_keys_are_none(gate):
    login = gate.login()
    with RawSocket(gate.node.port) as raw:
        raw.send(f"GET {FORWARD}/jwt=any HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n"
                 f"Authorization: Bearer {login['access_token']}\r\n"
                 f"X-Gateway-Key: {SERVICE}\r\nX-Gateway-Key: {SERVICE}\r\n\r\n".encode())
        assert raw.closed_within(5)[0].startswith(b"HTTP/1.1 403 ")


def test_an_unknown_audience_is_400(gate):
    problem = check_problem(ask(gate, gate.login(), "jwt=other", SERVICE), 400, "setting_invalid")
    assert '"jwt"' in problem["detail"] and '"other"' in problem["detail"]


def test_the_conditions_of_the_audience_hold_whatever_the_settings_say(gate):
    plain, editor = gate.login(unique(), roles=["reader"]), gate.login(unique(), roles=["editor"])
    for settings in ("jwt=acme", "jwt=acme;tenant=default"):
        check_problem(ask(gate, plain, settings, SERVICE), 403, "tenant_forbidden")
    for settings in ("jwt=staff", "jwt=staff;role=reader"):
        check_problem(ask(gate, plain, settings, SERVICE), 403, "role_missing")
    check_problem(ask(gate, editor, "jwt=staff;role=reader", SERVICE), 403, "role_missing")
    assert ask(gate, editor, "jwt=staff;role=editor", SERVICE).header("X-Session-Jwt")
    for settings in ("jwt=fresh", "jwt=gold", "jwt=gold;acr=silver", "jwt=fresh;max_age=7200"):
        answer = ask(gate, plain, settings, SERVICE)
        check_problem(answer, 401, "insufficient_authentication")
    assert 'max_age="3600"' in ask(gate, plain, "jwt=fresh", SERVICE).header("WWW-Authenticate")
    assert 'acr_values="gold"' in ask(gate, plain, "jwt=gold", SERVICE).header("WWW-Authenticate")


def test_a_stronger_authentication_is_stated_at_once(gate):
    login = gate.login(unique(), auth_time=now() - 7200, acr="silver", amr=["pwd"])
    keys = public_keys(gate)
    _, claims = verified(keys, ask(gate, login, "jwt=any", SERVICE).header("X-Session-Jwt"), "any")
    assert (claims["acr"], claims["amr"]) == ("silver", ["pwd"]) and claims["auth_time"] <= now() - 7200
    for audience in ("fresh", "gold"):
        check_problem(ask(gate, login, f"jwt={audience}", SERVICE), 401, "insufficient_authentication")
    answer = gate.call("POST", "/v1/session/authenticated", {"acr": "gold", "amr": ["hwk"]}, SERVICE,
                       {"X-Session-Token": login["access_token"]})
    assert answer.status == 200, answer
    for audience in ("any", "fresh", "gold"):
        text = ask(gate, answer.json, f"jwt={audience}", SERVICE).header("X-Session-Jwt")
        claims = verified(keys, text, audience)[1]
        assert claims["acr"] == "gold" and claims["auth_time"] >= now() - 60, claims


def test_nobody_gets_no_identity(gate):
    answer = gate.call("GET", f"{FORWARD}/jwt=any;optional=yes", None, None, {"X-Gateway-Key": SERVICE})
    assert answer.status == 200 and answer.header("X-Session-Jwt") == ""


def test_an_ended_session_gets_none_though_memory_has_one(gate):
    user = unique()
    login = gate.login(user)
    assert ask(gate, login, "jwt=any", SERVICE).header("X-Session-Jwt")
    assert gate.kick(user, login["session_id"]).status == 200
    check_problem(ask(gate, login, "jwt=any", SERVICE), 401, "token_invalid")


def test_an_identity_that_does_not_fit_is_left_out(gate):
    """Services refuse calls without one, so nobody gets in by losing a role."""
    roles = [f"{number}-{'r' * 60}" for number in range(32)]
    login = gate.login(unique(), roles=roles)
    answer = ask(gate, login, "jwt=any", SERVICE)
    assert answer.status == 200 and answer.header("X-Session-Jwt") == ""
    assert "jwt" in answer.header("X-Session-Truncated").split(",")


def test_a_changed_role_is_in_the_next_identity_at_once(gate):
    user = unique()
    first = gate.login(user, roles=["a"], device={"id": "same"})
    assert ask(gate, first, "jwt=any", SERVICE).header("X-Session-Jwt")
    second = gate.login(user, roles=["b"], device={"id": "same"})
    keys = public_keys(gate)
    assert verified(keys, ask(gate, second, "jwt=any", SERVICE).header("X-Session-Jwt"), "any")[1]["roles"] == ["b"]


def test_a_gateway_keeps_an_answer_for_half_the_identity_at_most(start, workspace):
    daemon = start(begin_now=False, oauth__issuer=ISSUER, authz__cache="5m", **{"audience:any.ttl": "20s"})
    write_key_file(daemon.node.key_file, key_lines(2))
    daemon.start()
    login = daemon.login()
    answer = ask(daemon, login, "jwt=any", SERVICE)
    assert 5 <= int(answer.header("Cache-Control").rpartition("=")[2]) <= 10, answer
    assert answer.header("Cache-Control").startswith("private, max-age=")


def test_a_gateway_keeps_an_answer_no_longer_than_the_authentication_is_recent(start):
    daemon = start(oauth__issuer=ISSUER, authz__cache="5m")
    login = daemon.login(unique(), auth_time=now() - 500)
    kept = int(ask(daemon, login, "max_age=600").header("Cache-Control").rpartition("=")[2])
    assert 0 < kept <= 100, kept
    assert ask(daemon, login, "-").header("Cache-Control") == "private, max-age=300"


# --- rotation --------------------------------------------------------------------------------------

def append_key(daemon, number, keep=None):
    """Appends a signing key on all nodes, with only the newest `keep` of the others, and reloads them at once."""
    lines = daemon.node.key_file.read_text().splitlines()
    signing = [line for line in lines if line.startswith("sign ")]
    if keep:
        lines = [line for line in lines if line not in signing] + signing[-keep:]
    lines.append(f"sign {number} {secrets.token_hex(32)}")
    before = [node.metric("sessiond_config_reloads_total") for node in daemon.nodes]
    for node in daemon.nodes:
        write_key_file(node.key_file, lines)
    for node in daemon.nodes:
        node.signal(signal.SIGHUP)
    for node, count in zip(daemon.nodes, before):
        wait_until(lambda n=node, c=count: n.metric("sessiond_config_reloads_total") > c, 5, "the reload")


def newest_kid(daemon):
    return daemon.call("GET", JWKS).json["keys"][-1]["kid"]


def signing_kid(daemon, login, node=0):
    text = ask(daemon, login, "jwt=any", SERVICE, node).header("X-Session-Jwt")
    return jwt.get_unverified_header(text)["kid"]


class CachingVerifier:
    """Keeps the keys for as long as their max-age allows, counted from the request, and never asks sooner."""

    def __init__(self, daemon, node):
        self.daemon, self.node = daemon, node
        self.keys, self.until = {}, 0.0
        self.fetched = self.verified = 0
        self.failures = []

    def fresh_keys(self):
        if time.monotonic() >= self.until:
            asked = time.monotonic()
            answer = self.daemon.call("GET", JWKS, node=self.node)
            assert answer.status == 200, answer
            self.until = asked + int(answer.header("Cache-Control").rpartition("=")[2])
            self.keys = {key["kid"]: jwt.PyJWK(key) for key in answer.json["keys"]}
            self.fetched += 1
        return self.keys

    def check(self, text, end):
        """One that has expired before it is looked at says nothing: the machine is busy."""
        keys = self.fresh_keys()
        if time.time() >= end:
            return
        try:
            verified(keys, text, "any", leeway=HANGS)
            self.verified += 1
        except (KeyError, jwt.PyJWTError) as error:
            self.failures.append(repr(error))


class Gateway(threading.Thread):
    """Asks one node without pause. A service that caches the other node's keys verifies each identity when it
    comes, and once more shortly before it ends."""

    def __init__(self, daemon, node, logins):
        super().__init__()
        self.daemon, self.node, self.logins = daemon, node, logins
        self.verifier = CachingVerifier(daemon, 1 - node)
        self.pending = collections.deque()
        self.ended = threading.Event()
        self.error = None
        self.kids = set()

    def turn(self, login):
        answer = ask(self.daemon, login, "jwt=any", SERVICE, self.node)
        assert answer.status == 200, answer
        text = answer.header("X-Session-Jwt")
        self.kids.add(jwt.get_unverified_header(text)["kid"])
        end = jwt.decode(text, options={"verify_signature": False})["exp"]
        self.verifier.check(text, end)
        if not self.pending or self.pending[-1][1] != text:
            self.pending.append((end, text))
        while self.pending and self.pending[0][0] - time.time() < 0.3:
            end, text = self.pending.popleft()
            self.verifier.check(text, end)

    def run(self):
        try:
            for login in itertools.cycle(self.logins):
                if self.ended.is_set():
                    return
                self.turn(login)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error


def test_rotations_under_load_fail_no_verification(start):
    """A new key is published before it signs, so no service meets a key that its copy lacks."""
    rotations = int(os.environ.get("SESSIOND_ROTATIONS", "3"))
    daemon = start(begin_now=False, count=2, oauth__issuer=ISSUER, oauth__jwks_max_age=f"{int(SLOW)}s",
                   **{"audience:any.ttl": "4s"})
    lines = write_key_file(daemon.node.key_file, key_lines(2))
    write_key_file(daemon.nodes[1].key_file, lines)
    daemon.start()
    logins = [daemon.login(unique()) for _ in range(8)]
    gateways = [Gateway(daemon, node, logins) for node in (0, 1)]
    for gateway in gateways:
        gateway.start()
    try:
        for number in range(3, 3 + rotations):
            append_key(daemon, number, keep=3)
            newest = newest_kid(daemon)
            for node in (0, 1):
                wait_until(lambda n=node: signing_kid(daemon, logins[0], n) == newest, 10, "the new key signs")
    finally:
        for gateway in gateways:
            gateway.ended.set()
        for gateway in gateways:
            gateway.join()
    counts = [(len(g.kids), g.verifier.verified, g.verifier.fetched) for g in gateways]
    print(f"rotations {rotations}, (keys, verifications, fetches) {counts}, failures "
          f"{sum(len(g.verifier.failures) for g in gateways)}")
    for gateway in gateways:
        assert gateway.error is None, gateway.error
        assert gateway.verifier.failures == [], gateway.verifier.failures[:3]
        assert len(gateway.kids) == rotations + 1


def test_a_restart_during_a_rotation_signs_with_the_key_before(start):
    daemon = start(begin_now=False, oauth__issuer=ISSUER, oauth__jwks_max_age="1d", **{"audience:any.ttl": "30s"})
    write_key_file(daemon.node.key_file, key_lines(2))
    daemon.start()
    login = daemon.login()
    old = signing_kid(daemon, login)
    append_key(daemon, 3)
    assert signing_kid(daemon, login) == old != newest_kid(daemon)
    daemon.stop()
    daemon.start()
    assert signing_kid(daemon, login) == old != newest_kid(daemon)
