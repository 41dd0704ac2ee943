"""How OAuth clients call: forms, and the credentials of a client in each place where they may stand."""

import base64
from urllib.parse import quote, quote_plus, urlencode

FORM = "application/x-www-form-urlencoded"


def basic(name, key, encode=quote_plus):
    """Authorization: Basic as RFC 6749, section 2.3.1 wants it."""
    joined = f"{encode(name)}:{encode(key)}"
    return {"Authorization": "Basic " + base64.b64encode(joined.encode()).decode()}


def in_full(text):
    """Each byte percent-encoded, as is allowed."""
    return "".join(f"%{byte:02x}" for byte in text.encode())


def post(daemon, path, members, headers=None, bearer=None, node=0, content_type=FORM):
    """Members are pairs, a dict or the form itself."""
    body = members if isinstance(members, bytes) else urlencode(members, quote_via=quote).encode()
    return daemon.call("POST", path, body, bearer, {"Content-Type": content_type, **(headers or {})},
                       node=node)


def check_oauth(answer, status, error):
    """The answer is exactly this error, as RFC 6749, section 5.2 describes it."""
    assert answer.status == status, answer
    assert answer.header("Content-Type").split(";")[0] == "application/json", answer
    assert set(answer.json) == {"error", "error_description"}, answer
    assert answer.json["error"] == error, answer
    description = answer.json["error_description"]
    assert description and all(" " <= c <= "~" and c not in '"\\' for c in description), answer
    check_not_stored(answer)
    challenge = answer.header("WWW-Authenticate")
    if status == 401:
        assert challenge.startswith(("Basic realm=", "Bearer realm=")), answer
    if status in (429, 503):
        assert int(answer.header("Retry-After")) >= 1, answer
    return answer.json


def check_not_stored(answer):
    assert answer.header("Cache-Control") == "no-store", answer
    assert answer.header("Pragma") == "no-cache", answer
