"""Tenants are isolated: every route with every kind of credential, against a table of expected answers.

The tenants are acme, whose user alice is the victim, and globex. Each cell has users of its own, so
that it can be destructive. A refusal must have changed nothing of the victim's; an answer to globex must hold nothing
of acme's.
"""

import re

import pytest

from daemon import ALL_SCOPES, Daemon, new_key, unique
from redis_servers import ROOT
from route_table import DOORS, ROUTES

SCOPES = {"login", "validate", "manage", "policy"}
KEYS = {
    "platform": (new_key(), ALL_SCOPES, "*"),
    "acme": (new_key(), ALL_SCOPES, "acme"),
    "globex": (new_key(), ALL_SCOPES, "globex"),
    **{f"acme-no-{scope}": (new_key(), " ".join(sorted(SCOPES - {scope})), "acme")
       for scope in sorted(SCOPES)},
}
SECRET = "of-acme-alone"


@pytest.fixture(scope="module")
def daemon(workspace, cluster):
    daemon = Daemon(workspace / "isolation", cluster, keys=KEYS,
                    limits__wrong_keys_per_minute=0, limits__forged_tokens_per_minute=0)
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def key(name):
    return KEYS[name][0]


class Scene:
    """The users and sessions of one cell."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.user = unique("alice")
        self.first, self.second = (self.log_in("acme", self.user) for _ in range(2))
        self.other = self.log_in("acme", unique("bob"))
        self.foreign = self.log_in("globex", self.user)  # the same name is another user
        self.challenge = "never-made"

    def log_in(self, tenant, user):
        answer = self.daemon.try_login(user, key(tenant), device={"id": unique("device")},
                                       attributes={"note": f"{SECRET}-{tenant}"})
        assert answer.status == 201, answer
        return answer.json

    def dead(self):
        login = self.log_in("acme", self.user)
        assert self.call("POST", "/v1/logout", None, login["access_token"]).status == 200
        return login

    def frozen(self):
        login = self.log_in("acme", unique("carol"))
        answer = self.call("POST", f"/v1/users/{login['user_id']}/freeze", {}, key("acme"))
        assert answer.status == 200, answer
        return login

    def call(self, method, path, body, bearer, headers=None):
        return self.daemon.call(method, path, body, bearer, headers)

    def state(self):
        """All that the victim has, as the platform sees it."""
        devices = self.call("GET", f"/v1/users/{self.user}/devices?tenant=acme", None,
                            key("platform"))
        user = self.call("GET", f"/v1/users/{self.user}?tenant=acme", None, key("platform"))
        policy = self.call("GET", "/v1/tenants/acme/policy", None, key("platform"))
        attributes = self.call("GET", "/v1/session/attributes", None, self.first["access_token"])
        alive = [self.daemon.is_alive(login["access_token"])
                 for login in (self.first, self.second)]
        sessions = sorted(device["session_id"] for device in devices.json["devices"])
        return sessions, user.json, policy.json, attributes.json, alive


# The answers where a foreign key speaks of its own user of the same name, or of an id of its own that is none.
# Elsewhere a foreign key is refused with 403.
OWN_NAMESPACE = {
    ("POST", "/v1/validate/batch"): 200,  # with one refusal a foreign token
    ("POST", "/v1/login"): 201,
    ("POST", "/v1/login/verify"): 410,
    ("GET", "/v1/users/{user_id}"): 200,
    ("GET", "/v1/users/{user_id}/devices"): 200,
    ("GET", "/v1/users/{user_id}/history"): 200,
    ("DELETE", "/v1/users/{user_id}/devices/{session_id}"): 404,
    ("POST", "/v1/users/{user_id}/freeze"): 200,
    ("POST", "/v1/users/{user_id}/unfreeze"): 200,
    ("POST", "/v1/users/{user_id}/logout-all"): 200,
}


def test_every_route_is_in_the_table():
    source = (ROOT / "include/tbl/routes.h").read_text()
    rows = set(re.findall(r'^ROUTE\(MAIN, "([A-Z]+)", "([^"]+)"', source, re.MULTILINE))
    doors = set(re.findall(r'^DOOR\(\w+, \w+, MAIN, "([A-Z]+|\*)", "([^"]+)"', source, re.MULTILINE))
    assert rows == set(ROUTES) and doors == set(DOORS), (rows ^ set(ROUTES), doors ^ set(DOORS))


# --- the columns -----------------------------------------------------------------------------------

def named(path, tenant):
    """The tenant is named by the path or by the query; documents have none."""
    return "" if "{tenant}" in path or path.startswith(("/problems/", "/openapi")) else f"?tenant={tenant}"


def send(scene, route, bearer, query="", tenant="acme", headers=None, body=None):
    method, template = route
    body = body or ROUTES[route][2]
    path = template.format(session_id=scene.second["session_id"], user_id=scene.user,
                           tenant=tenant, code="token_invalid")
    if path == "*":
        path, query = "/v1/validate", ""
        headers = {"Origin": "https://nobody.example", "Access-Control-Request-Method": "GET"}
    if route[0] == "PATCH":
        headers = {**(headers or {}), "Content-Type": "application/merge-patch+json"}
    return scene.call(method, path + query, body(scene) if body else None, bearer, headers)


def as_service(scene, route, name, query="", tenant="acme", token=None):
    """By a service key; where a token is wanted, for that user's."""
    headers = {}
    if ROUTES[route][0] == "token":
        headers["X-Session-Token"] = (token or scene.first)["access_token"]
    return send(scene, route, key(name), query, tenant, headers)


def expect(route, service=None, token=None, refresh=None):
    """The answers of each kind of route; public ones are open to all."""
    return {"service": service, "token": token, "refresh": refresh,
            "public": ROUTES[route][3]}[ROUTES[route][0]]


def column_nobody(scene, route):
    return send(scene, route, None), expect(route, 401, 401, 200)


def column_unknown_key(scene, route):
    return send(scene, route, new_key()), expect(route, 401, 401, 401)


def column_malformed_key(scene, route):
    return send(scene, route, "sk_short"), expect(route, 401, 401, 401)


def column_own_key(scene, route):
    return as_service(scene, route, "acme"), ROUTES[route][3]


def column_own_key_names_its_tenant(scene, route):
    return as_service(scene, route, "acme", named(route[1], "acme")), ROUTES[route][3]


def column_own_key_names_another_tenant(scene, route):
    answer = as_service(scene, route, "acme", named(route[1], "globex"), "globex")
    return answer, expect(route, 403, 403, 403)


def column_own_key_lifts_its_limits(scene, route):
    """Members of the platform, in a policy that the tenant may change otherwise."""
    if "/policy" not in route[1] or not ROUTES[route][2]:
        return None
    for limit in ({"force_logout": False}, {"rate": {"requests_per_second": 1000000}},
                  {"cache_quota": 1099511627776}):
        answer = send(scene, route, key("acme"), body=lambda s: {**limit, "max_devices": 9})
        if answer.status != 403:
            break
    return answer, 403


def column_key_without_the_scope(scene, route):
    scope = ROUTES[route][1]
    if not scope:
        return None
    return as_service(scene, route, f"acme-no-{scope}"), 403


def column_foreign_key(scene, route):
    """On what is acme's: a tenant by path, a token, or a user by name, who is another one then."""
    return as_service(scene, route, "globex"), OWN_NAMESPACE.get(route, expect(route, 403, 403, 403))


def column_foreign_key_names_the_tenant(scene, route):
    return as_service(scene, route, "globex", named(route[1], "acme")), expect(route, 403, 403, 403)


def column_platform_key(scene, route):
    return as_service(scene, route, "platform", named(route[1], "acme")), ROUTES[route][3]


def column_platform_key_forgets_the_tenant(scene, route):
    """It would mean a namesake in another tenant: nobody is meant. Tokens speak for themselves."""
    if "{tenant}" in route[1]:
        return None
    wanted = 400 if route[1].startswith("/v1/users") else ROUTES[route][3]
    return as_service(scene, route, "platform"), wanted


def column_platform_key_for_another_tenant(scene, route):
    """It says that the token is of globex, which it is not: unknown there."""
    kind = ROUTES[route][0]
    if kind == "public" or route[1].startswith(("/v1/tenants", "/v1/users")) or \
            route[1] == "/v1/login":
        return None
    answer = as_service(scene, route, "platform", "?tenant=globex")
    wanted = {"token": 401, "refresh": 401, "public": ROUTES[route][3]}.get(kind, ROUTES[route][3])
    if route == ("POST", "/v1/logout"):
        wanted = 200  # nothing to end
    return answer, wanted


def column_own_user(scene, route):
    return send(scene, route, scene.first["access_token"]), ROUTES[route][4]


def column_another_user(scene, route):
    """Bob's token, on what is alice's."""
    wanted = ROUTES[route][4]
    if route == ("DELETE", "/v1/devices/{session_id}"):
        wanted = 404
    return send(scene, route, scene.other["access_token"]), wanted


def column_user_of_another_tenant(scene, route):
    wanted = ROUTES[route][4]
    if route == ("DELETE", "/v1/devices/{session_id}"):
        wanted = 404
    return send(scene, route, scene.foreign["access_token"]), wanted


def column_refresh_token_as_access_token(scene, route):
    wanted = expect(route, 401, 401, 401)
    if route == ("POST", "/v1/logout"):
        wanted = 200  # nothing to end
    return send(scene, route, scene.first["refresh_token"]), wanted


def column_dead_token(scene, route):
    wanted = 403 if ROUTES[route][4] == 403 else expect(route, 403, 401, 403)
    if route == ("POST", "/v1/logout"):
        wanted = 200
    return send(scene, route, scene.dead()["access_token"]), wanted


def column_frozen_user(scene, route):
    wanted = 403 if ROUTES[route][4] == 403 else expect(route, 403, 401, 403)
    if route == ("POST", "/v1/logout"):
        wanted = 200
    return send(scene, route, scene.frozen()["access_token"]), wanted


COLUMNS = [function for name, function in sorted(globals().items()) if name.startswith("column_")]
# Credentials that may touch the victim's state where the answer is a success.
MAY_CHANGE = {column_own_key, column_own_key_names_its_tenant, column_platform_key,
              column_platform_key_forgets_the_tenant, column_own_user}


def may_change(route, column, answer):
    """The victim's own refresh token is good whoever brings it, also without credentials; it ends its
    session, too."""
    if route == ("POST", "/v1/logout") and column is column_refresh_token_as_access_token:
        return True
    return answer.status < 300 and (column in MAY_CHANGE or ROUTES[route][0] == "refresh")


@pytest.mark.parametrize("route", sorted(ROUTES), ids=lambda route: " ".join(route))
def test_route_by_credential(daemon, route):
    wrong, cells = [], 0
    for column in COLUMNS:
        scene = Scene(daemon)
        before = scene.state()
        found = column(scene, route)
        if not found:
            continue
        answer, wanted = found
        cells += 1
        if answer.status != wanted:
            wrong.append((column.__name__, wanted, answer))
        if not may_change(route, column, answer):
            after = scene.state()
            if after != before:
                wrong.append((column.__name__, "changed something", before, after))
        if "foreign" in column.__name__ and f"{SECRET}-acme" in answer.body.decode():
            wrong.append((column.__name__, "told something of acme's", answer))
    print(f"{' '.join(route)}: {cells} cells")
    assert not wrong, "\n".join(map(str, wrong))
