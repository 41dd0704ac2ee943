"""Nobody is who they say they are: each spelling of an identity that a client can send, through each gateway."""
import itertools

import pytest

from client import RawSocket
from gateways import REAL

FORGED = "mallory"


def spellings(name):
    """The header in other letters and with underscores; some frameworks take all of these for the same."""
    words = name.split("-")
    joined = {"".join(itertools.chain.from_iterable(zip(words, joints))) + words[-1]
              for joints in itertools.product("-_", repeat=len(words) - 1)}
    return sorted(joined | {one.lower() for one in joined} | {one.upper() for one in joined})


HEADERS = {"X-Session-User": FORGED, "X-Session-Tenant": "evil", "X-Session-Roles": "root,admin", "X-Session-Authenticated": "yes",
           "X-Session-Id": "f" * 16, "X-Session-Stale": "0", "X-Session-Device": FORGED, "X-Session-Device-Type": "trusted",
           "X-Session-Expires": "9999999999", "X-Session-Jwt": "e30.e30.e30", "X-Session-Extended": "no", "X-Session-Truncated": "roles"}
ATTEMPTS = [(spelling, value) for name, value in HEADERS.items() for spelling in spellings(name)]
# What a client may say about its request in the words of a gateway.
ORIGINS = {"X-Original-Method": "GET", "X-Original-URL": "https://evil.example/", "X-Original-URI": "/public", "X-Forwarded-Method": "GET",
           "X-Forwarded-Uri": "/public", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-For": "6.6.6.6",
           "X-Real-IP": "6.6.6.6", "Forwarded": "for=6.6.6.6;host=evil.example", "X-Rewrite-URL": "/admin", "X-Gateway-Key": "sk_x"}


@pytest.fixture(scope="module", params=REAL, ids=lambda client: client.name)
def client(request, testbed):
    with request.param(testbed) as started:
        yield started


def told(client, token, headers, path="/orders/7", method="GET"):
    """What the application was told, or None if the request did not reach it."""
    head = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{client.port}", *(f"{name}: {value}" for name, value in headers)]
    head += [f"Authorization: Bearer {token}"] if token else []
    with RawSocket(client.port) as connection:
        connection.asked = None  # the gateway's answers are none of the description's
        connection.send("\r\n".join([*head, "Content-Length: 0", "", ""]).encode("latin-1"))
        answer = connection.answer()
    return answer, answer.json["headers"] if answer.status == 200 else None


def check_own(seen, login):
    """Of all that a framework might take for identity there is the true one alone."""
    for key, value in seen:
        plain = key.lower().replace("_", "-")
        if plain.startswith("x-session-"):
            assert value not in HEADERS.values() or (plain, value) == ("x-session-authenticated", "yes"), (key, value)
        if plain == "x-session-user":
            assert value == login["user_id"], (key, value)
    names = [key.lower().replace("_", "-") for key, _ in seen]
    assert len([name for name in names if name == "x-session-user"]) == 1, seen


@pytest.mark.cell("identity")
@pytest.mark.parametrize("header", HEADERS)
def test_an_identity_of_the_clients_own_never_arrives(client, testbed, header):
    login = testbed.login()
    for spelling, value in [attempt for attempt in ATTEMPTS if attempt[0].replace("_", "-").lower() == header.lower()]:
        for headers in ([(spelling, value)], [(spelling, value), (spelling, "")], [(spelling, ""), (spelling, value)]):
            answer, seen = told(client, login["access_token"], headers)
            assert answer.status in (200, 400), answer
            if seen is not None:
                check_own(seen, login)


@pytest.mark.cell("identity")
def test_all_at_once_do_not_arrive_either(client, testbed):
    login = testbed.login()
    for chosen in (ATTEMPTS[::3], ATTEMPTS[1::3], ATTEMPTS[2::3]):
        answer, seen = told(client, login["access_token"], chosen)
        assert answer.status in (200, 400), answer
        if seen is not None:
            check_own(seen, login)


@pytest.mark.cell("identity")
def test_without_a_token_none_of_it_opens(client):
    for attempt in ATTEMPTS:
        answer, seen = told(client, None, [attempt])
        assert seen is None and answer.status in (400, 401), (attempt, answer)


@pytest.mark.cell("identity")
def test_what_has_no_value_arrives_as_nothing(client, testbed):
    """A session without roles and device: the client cannot lend it any."""
    login = testbed.login(roles=[])
    for name in ("X-Session-Roles", "X-Session-Device", "X-Session-Jwt"):
        _, seen = told(client, login["access_token"], [(spelling, HEADERS[name]) for spelling in spellings(name)[:1]])
        assert all(value == "" for key, value in seen or [] if key.lower() == name.lower()), seen


@pytest.mark.cell("identity")
@pytest.mark.parametrize("header", ORIGINS)
def test_where_a_request_comes_from_is_the_gateways_to_say(client, testbed, header):
    login = testbed.login()
    answer, seen = told(client, login["access_token"], [(header, ORIGINS[header])])
    assert answer.status in (200, 400), answer
    for key, value in seen or []:
        if key.lower() == header.lower() and header != "X-Forwarded-Proto":
            assert ORIGINS[header] not in value, (key, value)


@pytest.mark.cell("identity")
def test_a_forged_method_does_not_make_a_forged_call_safe(client, testbed):
    """A page elsewhere makes the browser POST with its cookie: it says GET in vain."""
    login = testbed.login()
    cookie = ("Cookie", f"__Host-session={login['access_token']}")
    evil = [cookie, ("Origin", "https://evil.example")]
    answer, seen = told(client, None, evil, method="GET")
    if client.asks == "introspect":  # Apache's modules read no cookie
        assert answer.status == 401 and seen is None, answer
        return
    assert answer.status == 200 and seen, answer
    for more in ([], [("X-Original-Method", "GET")], [("X-Forwarded-Method", "GET")], [("X-HTTP-Method-Override", "GET")],
                 [("X_Original_Method", "GET")], [("X-Original-URL", "https://evil.example/")], [("X-Forwarded-Host", "evil.example")]):
        answer, seen = told(client, None, [*evil, *more], method="POST")
        assert seen is None and answer.status in (400, 403), (more, answer)


@pytest.mark.cell("kicked")
def test_an_answer_to_an_unsafe_call_by_cookie_is_never_kept(client, testbed):
    """Such an answer holds for one page and one call, so the kick counts at once, also behind a cache."""
    if client.asks == "introspect":
        return  # Apache's modules read no cookie
    login = testbed.login()
    page = [("Cookie", f"__Host-session={login['access_token']}"), ("Origin", f"http://127.0.0.1:{client.port}")]
    for _ in range(2):
        answer, seen = told(client, None, page, method="POST")
        assert answer.status == 200, answer
        check_own(seen, login)
    testbed.kick(login)
    answer, seen = told(client, None, page, method="POST")
    assert answer.status == 401 and seen is None, answer


@pytest.mark.cell("identity")
def test_settings_in_the_users_own_query_mean_nothing(client, testbed):
    path = "/orders/7?optional=yes&role=admin&tenant=x&touch=no&jwt=any"
    answer, seen = told(client, None, [], path)
    assert answer.status == 401 and seen is None, answer
    login = testbed.login()
    answer, seen = told(client, login["access_token"], [], path)
    assert answer.status == 200, answer
    check_own(seen, login)


@pytest.mark.cell("identity")
def test_a_service_key_is_no_user(client, testbed):
    answer, seen = told(client, testbed.keys["admin"][0], [])
    assert answer.status == 401 and seen is None, answer


@pytest.mark.cell("identity")
def test_two_credentials_are_refused(client, testbed):
    """Nobody could say whose request it is."""
    first, second = testbed.login(), testbed.login()
    answer, seen = told(client, first["access_token"], [("Authorization", f"Bearer {second['access_token']}")])
    assert seen is None and answer.status in (400, 401), answer
