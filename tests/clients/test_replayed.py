"""What cannot be installed here, replayed: requests byte by byte as these programs make them, and what they would make of
the answer. They are composed from the programs' sources and documents, not captured from a wire."""
import base64

import pytest

from client import RawSocket
from redis_servers import ROOT, wait_until

RECORDED = ROOT / "tests" / "clients" / "recorded"
IDENTITY = ("authenticated", "user", "tenant", "roles", "id", "device", "device-type", "expires", "stale", "extended", "truncated", "jwt")


def only_200(status):
    """Envoy and all that is made of it: 204 would deny."""
    return status == 200


def any_2xx(status):
    return 200 <= status < 300


def below_300(status):
    return status < 300


GATEWAYS = {"envoy-get": only_200, "envoy-post": only_200, "istio-delete": only_200, "traefik-get": any_2xx, "traefik-post": any_2xx,
            "apisix-forward-auth": below_300, "ingress-nginx": any_2xx}
INTROSPECTIONS = ("spring-introspect", "aspnet-introspect", "apisix-openid-connect", "kong-introspect")


def replay(testbed, name, token):
    """Sends a recording with its places filled in; the answer."""
    key = testbed.keys["gateway"][0]
    head, _, body = (RECORDED / f"{name}.http").read_bytes().partition(b"\r\n\r\n")
    body = body.replace(b"@TOKEN@", (token or "").encode()).replace(b"@KEY@", key.encode())
    lines = [line for line in head.split(b"\r\n") if token or b"@AUTHORIZATION@" not in line]
    head = b"\r\n".join(lines).replace(b"@AUTHORIZATION@", b"Bearer " + (token or "").encode()).replace(b"@KEY@", key.encode())
    head = head.replace(b"@BASIC@", base64.b64encode(f"gateway:{key}".encode())).replace(b"@LENGTH@", str(len(body)).encode())
    with RawSocket(testbed.daemon.node.port) as connection:
        connection.send(head + b"\r\n\r\n" + body)
        return connection.answer()


def gateways(function):
    return pytest.mark.parametrize("client", GATEWAYS)(function)


def note(case):
    return pytest.mark.cell(case, "replay of a composed request, not the software itself")


@note("allowed")
@gateways
def test_a_user_is_let_in_with_every_header_of_identity(testbed, client):
    login = testbed.login("alice")
    answer = replay(testbed, client, login["access_token"])
    assert answer.status == 200 and GATEWAYS[client](answer.status) and answer.body == b"", answer
    assert answer.header("X-Session-User") == "alice" and answer.header("X-Session-Authenticated") == "yes"
    assert [name for name in IDENTITY if answer.header("X-Session-" + name) is None] == []
    assert answer.header("Set-Cookie") is None
    assert sum(len(name) + len(value) + 4 for name, value in answer.headers) < 3072


@note("denied")
@gateways
@pytest.mark.parametrize("token", [None, "sa_x", "garbage"])
def test_the_query_of_the_users_own_request_opens_nothing(testbed, client, token):
    answer = replay(testbed, client, token)
    assert answer.status == 401 and not GATEWAYS[client](answer.status), answer
    assert answer.header("WWW-Authenticate").startswith("Bearer"), answer


@note("kicked")
@gateways
def test_a_kick_refuses_the_next_request(testbed, client):
    login = testbed.login()
    assert replay(testbed, client, login["access_token"]).status == 200
    testbed.kick(login)
    assert replay(testbed, client, login["access_token"]).status == 401


@note("overload")
@gateways
def test_a_busy_tenant_gets_429(testbed, client):
    token = testbed.busy["access_token"]
    answer = wait_until(lambda: refused(replay(testbed, client, token)), 20, "the limit is reached")
    assert answer.status == 429 and int(answer.header("Retry-After")) >= 1, answer


def refused(answer):
    return answer if answer.status != 200 else None


@note("away")
@gateways
def test_without_redis_the_unknown_get_503(testbed, client):
    unknown = testbed.login(node=1)
    with testbed.without_redis():
        answer = replay(testbed, client, unknown["access_token"])
        assert answer.status == 503 and int(answer.header("Retry-After")) >= 1, answer
    wait_until(lambda: replay(testbed, client, unknown["access_token"]).status == 200, 20, "all is well again")


# --- introspection: what these readers take -------------------------------------------------------
@note("allowed")
@pytest.mark.parametrize("client", INTROSPECTIONS)
def test_the_answer_has_the_types_that_readers_need(testbed, client):
    answer = replay(testbed, client, testbed.login("alice")["access_token"])
    assert answer.status == 200, answer
    assert answer.header("Content-Type").startswith("application/json") and answer.header("Cache-Control") == "no-store"
    found = answer.json
    assert found["active"] is True and found["sub"] == found["username"] == "alice"
    assert all(type(found[name]) is int for name in ("exp", "iat"))
    assert isinstance(found["scope"], str) and sorted(found["scope"].split(" ")) == ["editor", "reader"]
    assert all(isinstance(found[name], str) for name in ("iss", "client_id", "token_type", "sid", "jti"))


@note("denied")
@pytest.mark.parametrize("client", INTROSPECTIONS)
@pytest.mark.parametrize("token", ["sa_x", "garbage"])
def test_a_bad_token_is_inactive_and_no_more_is_told(testbed, client, token):
    answer = replay(testbed, client, token)
    assert answer.status == 200 and answer.json == {"active": False}, answer


@note("kicked")
@pytest.mark.parametrize("client", INTROSPECTIONS)
def test_a_kicked_session_is_inactive(testbed, client):
    login = testbed.login()
    assert replay(testbed, client, login["access_token"]).json["active"]
    testbed.kick(login)
    assert replay(testbed, client, login["access_token"]).json == {"active": False}


@note("away")
@pytest.mark.parametrize("client", INTROSPECTIONS)
def test_an_outage_is_never_an_inactive_token(testbed, client):
    unknown = testbed.login(node=1)
    with testbed.without_redis():
        answer = replay(testbed, client, unknown["access_token"])
        assert answer.status == 503 and int(answer.header("Retry-After")) >= 1, answer
    wait_until(lambda: replay(testbed, client, unknown["access_token"]).json.get("active"), 20, "all is well again")
