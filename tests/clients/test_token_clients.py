"""OAuth clients through a token's whole life: discovery, refresh, introspection, revocation, signed identities."""
import json

import jwt
import pytest
from requests_oauthlib import OAuth2Session

from guards import go_program, node_program, settings
from processes import directory_of, run
from testbed import AUDIENCE


@pytest.mark.cell("other")
@pytest.mark.parametrize("client", ["openid-client", "oauth4webapi"])
def test_discovery_refresh_introspection_and_revocation(client, testbed):
    login = testbed.login()
    with directory_of("lives") as directory:
        status, output = run(node_program("lives"), directory, settings(testbed, LIBRARY=client, REFRESH_TOKEN=login["refresh_token"]))
    assert status == 0, output
    found = json.loads(output.splitlines()[-1])
    assert found["before"] is True and found["after"] == {"active": False}, found
    assert found["type"].lower() == "bearer" and found["expires"] > 0 and found["invalid"] == "invalid_grant", found


def refreshed_by_go(testbed, refresh_token):
    with directory_of("go") as directory:
        status, output = run(go_program(), directory, settings(testbed, REFRESH_TOKEN=refresh_token))
    assert status == 0, output
    return json.loads(output)


@pytest.mark.cell("golang.org/x/oauth2", "other")
def test_a_token_source_of_go_refreshes_an_expired_token(testbed):
    login = testbed.login()
    pair = refreshed_by_go(testbed, login["refresh_token"])
    assert testbed.daemon.is_alive(pair["access_token"]), pair
    assert pair["refresh_token"] != login["refresh_token"] and pair["token_type"].lower() == "bearer"


@pytest.mark.cell("golang.org/x/oauth2", "other")
def test_go_reads_the_error_of_a_dead_refresh_token(testbed):
    assert "invalid_grant" in refreshed_by_go(testbed, "sr_x")["error"]


@pytest.mark.cell("requests-oauthlib", "other")
def test_requests_oauthlib_refreshes_by_itself(testbed, monkeypatch):
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    login, url, saved = testbed.login(), settings(testbed)["SESSIOND_URL"], []
    expired = {"access_token": login["access_token"], "refresh_token": login["refresh_token"], "token_type": "Bearer", "expires_in": -30}
    session = OAuth2Session("app", token=expired, auto_refresh_url=f"{url}/oauth2/token", token_updater=saved.append,
                            auto_refresh_kwargs={"client_id": "app"})
    answer = session.get(f"{url}/v1/validate")
    assert answer.status_code == 200 and answer.json()["user_id"] == login["user_id"], answer.text
    assert saved[0]["access_token"] != login["access_token"] and saved[0]["refresh_token"] != login["refresh_token"]


@pytest.mark.cell("requests-oauthlib", "other")
def test_requests_oauthlib_is_told_that_the_grant_is_over(testbed, monkeypatch):
    from oauthlib.oauth2 import InvalidGrantError
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    login = testbed.login()
    testbed.kick(login)
    with pytest.raises(InvalidGrantError):
        OAuth2Session("app").refresh_token(settings(testbed)["SESSIOND_URL"] + "/oauth2/token", refresh_token=login["refresh_token"])


@pytest.fixture
def signed(testbed):
    """A signed identity, and what PyJWT needs to verify it."""
    login = testbed.login("alice")
    answer = testbed.daemon.call("GET", f"/authz/forward-auth/jwt={AUDIENCE}", None, login["access_token"],
                                 {"X-Gateway-Key": testbed.keys["gateway"][0], "X-Forwarded-Method": "GET"})
    assert answer.status == 200, answer
    return answer.header("X-Session-Jwt"), jwt.PyJWKClient(settings(testbed)["ISSUER"] + "/.well-known/jwks.json")


@pytest.mark.cell("PyJWT", "other")
def test_pyjwt_verifies_a_signed_identity(signed, testbed):
    token, keys = signed
    key, issuer = keys.get_signing_key_from_jwt(token).key, settings(testbed)["ISSUER"]
    claims = jwt.decode(token, key, algorithms=["ES256"], audience=AUDIENCE, issuer=issuer,
                        options={"require": ["exp", "iat", "jti", "sub", "sid", "tenant"]})
    assert claims["sub"] == "default/alice" and claims["roles"] == ["editor", "reader"]
    assert claims["exp"] - claims["iat"] <= 10
    assert jwt.get_unverified_header(token)["typ"] == "at+jwt"


@pytest.mark.cell("PyJWT", "other")
def test_pyjwt_refuses_it_for_others_and_altered(signed, testbed):
    token, keys = signed
    key, issuer = keys.get_signing_key_from_jwt(token).key, settings(testbed)["ISSUER"]
    head, body, signature = token.split(".")
    for wrong, error, audience in ((token, jwt.InvalidAudienceError, "billing"),
                                   (f"{head}.{body[:-2]}AA.{signature}", jwt.InvalidSignatureError, AUDIENCE),
                                   (f"{head}.{body}.{'A' * len(signature)}", jwt.InvalidSignatureError, AUDIENCE)):
        with pytest.raises(error):
            jwt.decode(wrong, key, algorithms=["ES256"], audience=audience, issuer=issuer)
