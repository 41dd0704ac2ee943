"""Signed identities: X-Session-Jwt, its keys, and how they rotate."""

import secrets
import signal

import pytest

from checks import check_problem
from daemon import write_key_file
from redis_servers import wait_until

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
