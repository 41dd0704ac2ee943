"""Throttled callers get 429: tenants, logins of a user, wrong keys and forged tokens."""

import re
import signal
import time

import pytest

from checks import check_problem
from client import Client
from daemon import ACME, ADMIN, SERVICE, new_key, unique
from parallel import at_once
from redis_servers import wait_until
from tokens import flip_bit, never_issued

LAST_BIT = 45 * 8 - 1  # of the MAC
FIELD = re.compile(r'"([a-z-]+)";([a-z])=(\d+);([a-z])=(\d+)')


def fields(answer, name):
    """{limit: {parameter: number}} of RateLimit or RateLimit-Policy."""
    items = (answer.header(name) or "").split(", ")
    found = {}
    for item in filter(None, items):
        match = FIELD.fullmatch(item)
        assert match, item
        found[match[1]] = {match[2]: int(match[3]), match[4]: int(match[5])}
    return found


def check_limited(answer, limit, most_s):
    """A 429 that names the limit and says when to come again."""
    check_problem(answer, 429, "rate_limited")
    assert 1 <= int(answer.header("Retry-After")) <= most_s, answer
    assert fields(answer, "RateLimit")[limit]["r"] == 0, answer
    assert limit in fields(answer, "RateLimit-Policy"), answer
    return answer


def count_taken(call, times):
    """How many of so many calls at once were not answered with 429, and in how many seconds."""
    begun = time.monotonic()
    statuses = [call().status for _ in range(times)]
    return sum(status != 429 for status in statuses), time.monotonic() - begun


def assert_rate(call, burst, per_second, times=None):
    taken, seconds = count_taken(call, times or burst + 20)
    assert burst <= taken <= burst + per_second * seconds + 1, (taken, seconds)


# --- tenants ---

RATE = {"policy__requests_per_second": 1, "policy__burst": 15}


def ask(daemon, key=SERVICE, **more):
    return lambda: daemon.call("GET", "/v1/users/nobody", None, key, **more)


def test_a_tenant_has_its_burst_and_then_its_rate(start):
    daemon = start(**RATE)
    assert_rate(ask(daemon), 15, 1)
    begun = time.monotonic()
    answers = (ask(daemon)() for _ in range(100))
    limited = check_limited(next(a for a in answers if a.status == 429), "tenant", 1)
    assert fields(limited, "RateLimit-Policy") == {"tenant": {"q": 15, "w": 15}}
    # Refusals cost nothing.
    answer = wait_until(lambda: (answer := ask(daemon)()).status == 200 and answer,
                        int(limited.header("Retry-After")) + 0.5, "Retry-After was true")
    seconds = int(time.monotonic() - begun)
    assert 14 - seconds <= fields(answer, "RateLimit")["tenant"]["t"] <= 15
    assert daemon.node.metric("sessiond_limited_calls_total") >= 20
    line = daemon.node.audit_of(limited.json["request_id"])
    assert (line["event.reason"], line["http.response.status_code"]) == ("rate_limited", 429)


def test_tenants_do_not_share_a_rate(start):
    daemon = start(**RATE)
    count_taken(ask(daemon), 40)
    for key, query in (ACME, ""), (ADMIN, "?tenant=other"):
        answer = daemon.call("GET", "/v1/users/nobody" + query, None, key)
        assert fields(answer, "RateLimit") == {"tenant": {"r": 14, "t": 1}}, answer


def test_every_call_of_a_service_counts_against_its_tenant(start):
    """r falls by one with each way to call for the tenant; the rate is slow enough not to disturb."""
    daemon = start(policy__requests_per_second=1, policy__burst=1000)
    login = daemon.login()
    token, before = login["access_token"], 999
    calls = [
        lambda: daemon.check(token),
        lambda: daemon.check(token, ADMIN),
        lambda: daemon.call("POST", "/v1/validate?tenant=default", {"token": token}, ADMIN),
        lambda: daemon.call("GET", "/v1/devices", None, SERVICE, {"X-Session-Token": token}),
        lambda: daemon.call("GET", "/v1/devices", None, ADMIN, {"X-Session-Token": token}),
        lambda: daemon.call("GET", "/v1/users/x?tenant=acme", None, SERVICE),
        lambda: daemon.call("POST", "/v1/login", {"wrong": 1}, SERVICE),
        lambda: daemon.call("POST", "/v1/refresh", {"refresh_token": "sr_x"}, SERVICE),
    ]
    begun = time.monotonic()
    for number, call in enumerate(calls):
        answer = call()
        left = fields(answer, "RateLimit")["tenant"]["r"]
        expected = before - 1 - number
        assert expected <= left <= expected + time.monotonic() - begun + 1, (number, answer)
    # Had none or two been counted anywhere, this would not be so.
    assert left <= 999 - len(calls) + (time.monotonic() - begun) + 1


def test_forged_tokens_do_not_use_up_a_tenants_rate(start):
    daemon = start(policy__requests_per_second=1, policy__burst=50)
    token = flip_bit(daemon.login()["access_token"], LAST_BIT)
    for _ in range(60):
        answer = daemon.validate(token)
        assert answer.status == 401 and not fields(answer, "RateLimit"), answer
    assert fields(ask(daemon)(), "RateLimit")["tenant"]["r"] >= 47


def test_a_user_has_a_part_of_what_all_users_share_and_none_of_the_keys_rate(start):
    daemon = start(policy__requests_per_second=200, policy__burst=50)
    login, dead = daemon.login(), daemon.login()
    assert daemon.call("POST", "/v1/logout", None, dead["access_token"]).status == 200
    for token in login["access_token"], dead["access_token"]:
        assert_rate(lambda token=token: daemon.validate(token), 20, 20, times=100)
    # More of them at once than one client could ask for on a slow machine.
    everybody = (at_once(40, lambda _: daemon.validate(dead["access_token"])) for _ in range(20))
    limited = next(a for answers in everybody for a in answers if a.status == 429)
    check_limited(limited, "user", 1)
    assert fields(limited, "RateLimit-Policy") == {"user": {"q": 20, "w": 1}}, limited
    assert ask(daemon)().status == 200
    another = daemon.refresh(daemon.login()["refresh_token"])
    assert another.status == 200 and set(fields(another, "RateLimit")) == {"user", "users"}, another


def test_users_together_use_up_their_rate_but_not_the_keys(start):
    daemon = start(policy__requests_per_second=1, policy__burst=15)
    tokens = [daemon.login()["access_token"] for _ in range(4)]
    answers = [daemon.validate(token) for _ in range(8) for token in tokens]
    assert sum(answer.status == 200 for answer in answers) >= 15, answers
    # As many at once: one after the other they may be no faster than the rate.
    everybody = (at_once(32, lambda n: daemon.validate(tokens[n % 4])) for _ in range(20))
    limited = (answer for answers in everybody for answer in answers if answer.status == 429)
    check_limited(next(answer for answer in limited if "users" in fields(answer, "RateLimit")), "users", 1)
    assert ask(daemon)().status == 200


def test_a_foreign_token_is_not_charged_and_tells_nothing_of_its_tenant(start):
    daemon = start()
    set_policy(daemon, "default", rate={"requests_per_second": 1, "burst": 30})
    login = daemon.login()
    before = fields(ask(daemon)(), "RateLimit")["tenant"]["r"]
    begun = time.monotonic()
    for _ in range(10):
        for answer in (daemon.check(login["access_token"], ACME),
                       daemon.call("POST", "/v1/refresh", {"refresh_token": login["refresh_token"]},
                                   ACME)):
            assert answer.status != 429 and answer.header("RateLimit") is None, answer
    after = fields(ask(daemon)(), "RateLimit")["tenant"]["r"]
    assert before - 1 <= after <= before + time.monotonic() - begun, (before, after)


def test_what_ends_sessions_is_never_refused_for_the_rate(start):
    daemon = start(policy__requests_per_second=1, policy__burst=12)
    user = unique()
    one, two, three, four = (daemon.login(user) for _ in range(4))
    count_taken(ask(daemon), 30)
    count_taken(lambda: daemon.validate(one["access_token"]), 30)
    wait_until(lambda: ask(daemon)().status == 429, 5, "429 for the service")
    wait_until(lambda: daemon.validate(four["access_token"]).status == 429, 5, "429 for the user")
    path = f"/v1/users/{user}"
    for method, url, key, headers in (
            ("DELETE", f"{path}/devices/{one['session_id']}", SERVICE, {}),
            ("DELETE", f"/v1/devices/{two['session_id']}", four["access_token"], {}),
            ("POST", "/v1/logout", SERVICE, {"X-Session-Token": three["access_token"]}),
            ("POST", "/v1/logout-all", four["access_token"], {}),
            ("POST", "/v1/logout", four["access_token"], {}),
            ("POST", f"{path}/logout-all?tenant=default", ADMIN, {}),
            ("POST", f"{path}/freeze", SERVICE, {})):
        answer = daemon.call(method, url, None, key, headers)
        assert answer.status in (200, 401), (method, url, answer)
        assert answer.header("RateLimit") is None, answer


def test_calls_that_end_sessions_have_a_wide_rate_of_their_own(start):
    """By the session whose token comes: the user's others, and services, are not concerned."""
    daemon = start(policy__requests_per_second=1, policy__burst=12)
    user = unique()
    thief, other, last = (daemon.login(user) for _ in range(3))
    elsewhere = f"/v1/devices/{'0' * 16}"

    def kick():
        return daemon.call("DELETE", elsewhere, None, thief["access_token"])
    statuses = [kick().status for _ in range(100)]
    assert 429 not in statuses, statuses
    everybody = (at_once(40, lambda _: kick()) for _ in range(20))
    limited = next(answer for answers in everybody for answer in answers if answer.status == 429)
    check_limited(limited, "ends", 10)
    assert fields(limited, "RateLimit-Policy") == {"ends": {"q": 100, "w": 10}}, limited
    assert daemon.call("POST", "/v1/logout", None, other["access_token"]).status == 200
    assert daemon.call("DELETE", f"/v1/users/{user}/devices/{last['session_id']}", None,
                       SERVICE).status == 200


def test_without_limits_nothing_is_told(shared):
    login = shared.login()
    answers = [shared.validate(login["access_token"]), shared.check(login["access_token"]),
               shared.validate(never_issued())]
    assert all(answer.header("RateLimit") is None for answer in answers)
    assert all(answer.header("RateLimit-Policy") is None for answer in answers)


def test_a_reload_changes_the_rate(start):
    daemon = start(**RATE)
    count_taken(ask(daemon), 40)
    daemon.node.write_config(policy__requests_per_second=1000, policy__burst=0)
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: "reload" in daemon.node.log_text(), 5, "reload")
    wait_until(lambda: ask(daemon)().status == 200, 5, "the new rate")
    answer = ask(daemon)()
    assert fields(answer, "RateLimit-Policy") == {"tenant": {"q": 1000, "w": 1}}, answer


def set_policy(daemon, tenant, node=0, **members):
    answer = daemon.call("PUT", f"/v1/tenants/{tenant}/policy", members, ADMIN, node=node)
    assert answer.status == 200, answer
    return answer


def ask_about(daemon, tenant, node=0):
    return daemon.call("GET", f"/v1/users/nobody?tenant={tenant}", None, ADMIN, node=node)


def test_a_tenants_own_rate_holds_on_every_node_for_it_alone(shared):
    tenant = unique("tenant")
    set_policy(shared, tenant, rate={"requests_per_second": 2, "burst": 40})
    for node in range(3):
        wait_until(lambda node=node: fields(ask_about(shared, tenant, node), "RateLimit-Policy")
                   == {"tenant": {"q": 40, "w": 20}}, 5, f"the rate on node {node}")
    assert_rate(lambda: ask_about(shared, tenant, 1), 39, 2, times=80)
    # The others have taken next to nothing; another tenant has no limit at all.
    assert fields(ask_about(shared, tenant, 2), "RateLimit")["tenant"]["r"] >= 20
    assert ask_about(shared, unique("tenant"), 1).header("RateLimit") is None


def test_operators_are_not_the_tenant_whose_rate_they_change(shared):
    tenant = unique("tenant")
    set_policy(shared, tenant, rate={"requests_per_second": 1, "burst": 1})
    wait_until(lambda: ask_about(shared, tenant).status == 429, 5, "429")
    for _ in range(5):
        assert shared.call("GET", f"/v1/tenants/{tenant}/policy", None, ADMIN).status == 200
    set_policy(shared, tenant, rate={"requests_per_second": 1000})
    wait_until(lambda: ask_about(shared, tenant).status == 200, 5, "the new rate")


def test_logins_of_a_tenants_policy(shared):
    tenant, user = unique("tenant"), unique()
    set_policy(shared, tenant, rate={"logins_per_user_per_minute": 2})
    login = {"user_id": user, "tenant": tenant}
    taken = 0
    while shared.call("POST", "/v1/login", login, ADMIN).status == 201:
        taken += 1
        assert taken <= 4
    # The first one may have come before this node knew the tenant.
    assert 2 <= taken <= 3


def test_a_tenants_cache_quota_bounds_its_entries_and_no_others(start):
    daemon = start()
    small, large = unique("tenant"), unique("tenant")
    set_policy(daemon, small, cache_quota=3000)
    tokens = {tenant: [daemon.login(key=ADMIN, tenant=tenant)["access_token"] for _ in range(30)]
              for tenant in (small, large)}
    for tenant in small, large:
        for token in tokens[tenant]:
            assert daemon.validate(token).status == 200

    def in_memory(tenant):
        return sum(daemon.validate(token).json["source"] == "cache" for token in reversed(tokens[tenant]))
    wait_until(lambda: in_memory(large) == 30, 10, "memory has all of the other tenant")
    wait_until(lambda: in_memory(small) >= 1, 10, "and some of the small one")
    assert in_memory(small) <= 8


# --- logins ---

def test_logins_of_a_user_are_limited(start):
    daemon = start(policy__logins_per_user_per_minute=3, policy__requests_per_second=1,
                   policy__burst=100)
    user = unique()
    login = {"user_id": user}
    answers = [daemon.call("POST", "/v1/login", login, SERVICE) for _ in range(3)]
    assert [answer.status for answer in answers] == [201] * 3
    assert [fields(answer, "RateLimit")["logins"]["r"] for answer in answers] == [2, 1, 0]
    limited = check_limited(daemon.call("POST", "/v1/login", login, SERVICE), "logins", 20)
    assert fields(limited, "RateLimit-Policy")["logins"] == {"q": 3, "w": 60}
    assert len(daemon.devices(user)["devices"]) == 3
    assert daemon.call("POST", "/v1/login", {"user_id": unique()}, SERVICE).status == 201
    assert daemon.call("POST", "/v1/login", login, ACME).status == 201
    assert daemon.node.metric("sessiond_limited_logins_total") == 1


# --- addresses ---

def client_from(daemon, address):
    return Client(port=daemon.node.port, source=address)


def try_wrong_key(client, headers=None):
    return client.call("GET", "/v1/users/nobody", None, new_key(), headers)


def test_wrong_keys_are_slowed_by_address(start, tmp_path):
    daemon = start(limits__wrong_keys_per_minute=5, server__unix_socket=tmp_path / "socket")
    here, there = client_from(daemon, "127.0.0.1"), client_from(daemon, "127.0.0.2")
    assert [try_wrong_key(here).status for _ in range(5)] == [401] * 5
    check_limited(try_wrong_key(here), "wrong-keys", 12)
    assert here.call("GET", "/v1/users/nobody", None, SERVICE).status == 200
    check_limited(here.call("GET", "/v1/devices", None, new_key()), "wrong-keys", 12)
    check_problem(try_wrong_key(there), 401, "key_invalid")
    local = Client(unix=str(tmp_path / "socket"))
    assert [try_wrong_key(local).status for _ in range(9)] == [401] * 9
    assert daemon.node.metric("sessiond_limited_keys_total") == 2
    assert daemon.node.metric("sessiond_keys_rejected_total") == 17


def test_behind_a_trusted_proxy_the_clients_address_counts(start):
    daemon = start(limits__wrong_keys_per_minute=2, server__trusted_proxies="127.0.0.1/32")
    client = client_from(daemon, "127.0.0.1")

    def statuses(*addresses):
        return [try_wrong_key(client, {"X-Forwarded-For": address}).status for address in addresses]

    assert statuses("198.51.100.1", "198.51.100.1", "198.51.100.1") == [401, 401, 429]
    assert statuses("198.51.100.2", "6.6.6.6, 198.51.100.1") == [401, 429]
    # One network of 64 bits is one client.
    assert statuses("2001:db8::1", "2001:db8::2", "2001:db8::3:4") == [401, 401, 429]
    assert statuses("2001:db8:0:1::1") == [401]


@pytest.mark.parametrize("forge", ["made up", "altered", "malformed"])
def test_forged_tokens_are_slowed_by_address(start, forge):
    daemon = start(limits__forged_tokens_per_minute=4)
    login = daemon.login()
    forged = {"made up": lambda: never_issued(),
              "altered": lambda: flip_bit(login["access_token"], LAST_BIT),
              "malformed": lambda: "rubbish"}[forge]
    assert [daemon.validate(forged()).status for _ in range(4)] == [401] * 4
    check_limited(daemon.validate(forged()), "forged-tokens", 15)
    check_limited(daemon.refresh(never_issued("sr_")), "forged-tokens", 15)
    # Others at the forger's address are served.
    assert daemon.validate(login["access_token"]).status == 200
    assert daemon.refresh(login["refresh_token"]).status == 200
    there = client_from(daemon, "127.0.0.2")
    assert there.call("GET", "/v1/validate", None, forged()).status == 401
    assert daemon.node.metric("sessiond_limited_tokens_total") == 2


def test_forged_tokens_count_at_logout_too(start):
    daemon = start(limits__forged_tokens_per_minute=2)
    login = daemon.login()

    def logout(token):
        return daemon.call("POST", "/v1/logout", None, token)

    assert [logout(never_issued()).status, logout("sa_rubbish").status] == [200, 200]
    check_limited(logout(never_issued()), "forged-tokens", 30)
    check_limited(daemon.validate(never_issued()), "forged-tokens", 30)
    # Genuine tokens end their sessions, and may do so twice.
    assert [logout(login["access_token"]).json["ended"] for _ in range(2)] == [1, 0]


def test_tokens_that_were_issued_are_not_forged(start):
    """Dead, unknown to Redis, of another tenant: all genuine."""
    daemon = start(limits__forged_tokens_per_minute=1)
    login = daemon.login()
    assert daemon.call("POST", "/v1/logout", None, login["access_token"]).status == 200
    for _ in range(4):
        assert daemon.validate(login["access_token"]).status == 401
        assert daemon.check(login["access_token"], ADMIN, ip="192.0.2.7").json["active"] is False
        assert daemon.refresh(login["refresh_token"]).status == 401
        foreign = daemon.call("POST", "/v1/validate?tenant=acme", {"token": login["access_token"]},
                              ADMIN)
        assert foreign.status == 200, foreign


def test_a_services_forged_tokens_count_against_the_address_it_names(start):
    daemon = start(limits__forged_tokens_per_minute=2)
    login = daemon.login()
    for _ in range(6):
        assert daemon.check(never_issued()).json["active"] is False
        assert daemon.call("GET", "/v1/devices", None, SERVICE,
                           {"X-Session-Token": never_issued()}).status == 401
    for _ in range(2):
        assert daemon.check(never_issued(), ip="192.0.2.9").json["active"] is False
    check_limited(daemon.check(never_issued(), ip="192.0.2.9"), "forged-tokens", 30)
    assert daemon.check(login["access_token"], ip="192.0.2.9").json["active"] is True
    assert daemon.check(never_issued(), ip="192.0.2.10").status == 200
    refresh = {"refresh_token": never_issued("sr_"), "ip": "192.0.2.9"}
    check_limited(daemon.call("POST", "/v1/refresh", refresh, SERVICE), "forged-tokens", 30)
    # A user's word about an address is not believed: this counts against the loopback.
    assert [daemon.call("POST", "/v1/refresh", refresh).status for _ in range(3)] == [401, 401, 429]
