"""Lists of a tenant's users: every active session on a page, none twice at rest, nothing of others."""

import base64
import concurrent.futures
import contextlib
import secrets

import pytest

from checks import ANY_TOKEN, check_problem
from daemon import ACME, ADMIN, KEYS, SERVICE, now, unique
from redis_servers import SingleRedis, wait_until

MEMBERS = {"users", "next_page_token", "total_size", "total_error"}
ENTRY = {"session_id", "device", "ip", "user_agent", "created_at", "last_seen_at", "expires_at"}


def page(daemon, tenant, key=ADMIN, node=0, **query):
    path = f"/v1/tenants/{tenant}/sessions"
    if query:
        path += "?" + "&".join(f"{name}={value}" for name, value in query.items())
    return daemon.call("GET", path, None, key, node=node)


def walk(daemon, tenant, size=100, spread=False):
    """All pages: ({user: its entry}, the pages). A user may not come twice."""
    users, pages, token = {}, [], None
    while token or not pages:
        query = {"page_size": size, **({"page_token": token} if token else {})}
        answer = page(daemon, tenant, node=len(pages) % len(daemon.nodes) if spread else 0, **query)
        assert answer.status == 200, answer
        body = answer.json
        assert set(body) == MEMBERS and len(body["users"]) <= size, body
        for user in body["users"]:
            assert user["user_id"] not in users, "a user came twice"
            users[user["user_id"]] = user
        pages.append(body)
        token = body["next_page_token"]
        assert len(pages) < 1000
    return users, pages


def log_in(daemon, tenant, count, each=1):
    def one(n):
        user = unique()
        return user, [daemon.login(user, key=ADMIN, tenant=tenant, node=n % len(daemon.nodes),
                                   device={"id": f"d{i}"}) for i in range(each)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        return dict(pool.map(one, range(count)))


def index_keys(cluster, daemon, tenant):
    """[(node, key)]: the buckets of the tenant, by the tag in one of its tokens."""
    token = daemon.login(key=ADMIN, tenant=tenant)["access_token"]
    tag = base64.urlsafe_b64encode(base64.urlsafe_b64decode(token[3:])[1:7])
    found = []
    for node in cluster.masters():
        found += [(node, key) for key in node.keys() if key.startswith(b"sd:i:{" + tag + b".")]
    return found


@contextlib.contextmanager
def buckets(cluster, daemon, tenant):
    found = index_keys(cluster, daemon, tenant)
    try:
        yield found
    finally:
        for node in {node for node, _ in found}:
            node.close()


def is_indexed(daemon, tenant, users):
    """The index is written after the logins, which do not wait for it."""
    wait_until(lambda: set(walk(daemon, tenant)[0]) >= set(users), 5, f"{len(users)} users in the index")


@pytest.fixture
def tenant():
    return "t-" + secrets.token_hex(5)


def test_a_tenant_without_sessions_has_one_empty_page(shared, tenant):
    assert page(shared, tenant).json == {"users": [], "next_page_token": None, "total_size": 0, "total_error": 0}


def test_a_page_shows_users_and_their_sessions_and_no_token(shared, tenant):
    user = unique("Müller ")
    logins = [shared.login(user, key=ADMIN, tenant=tenant, device={"id": f"d{n}", "type": "phone"},
                           ip=f"192.0.2.{n}", user_agent="A/1") for n in range(3)]
    other = unique()
    last = shared.login(other, key=ADMIN, tenant=tenant, node=1)
    is_indexed(shared, tenant, [user, other])
    answer = page(shared, tenant, node=2)
    assert answer.header("Cache-Control") == "no-store"
    assert not ANY_TOKEN.search(answer.body.decode())
    body = answer.json
    assert set(body) == MEMBERS
    assert body["next_page_token"] is None and body["total_size"] == 2 and body["total_error"] == 0
    # The nodes' clocks, which are apart a little, say which login is the newest.
    newest = {other: last["session_id"], user: logins[-1]["session_id"]}
    assert [entry["user_id"] for entry in body["users"]] == sorted(newest, key=newest.get, reverse=True)
    first, second = sorted(body["users"], key=lambda entry: entry["user_id"] != other)
    assert [session["session_id"] for session in first["sessions"]] == [last["session_id"]]
    assert [session["session_id"] for session in second["sessions"]] == [
        login["session_id"] for login in reversed(logins)]
    for n, session in enumerate(reversed(second["sessions"])):
        assert ENTRY <= set(session) <= ENTRY | {"location"}, session
        assert session["device"] == {"id": f"d{n}", "type": "phone"}
        assert session["ip"] == f"192.0.2.{n}" and session["user_agent"] == "A/1"
        assert session["expires_at"] > now()


def test_pages_hold_everybody_once(shared, tenant):
    users = log_in(shared, tenant, 60, each=2)
    is_indexed(shared, tenant, users)
    for size in (7, 20, 60, 61):
        found, pages = walk(shared, tenant, size, spread=True)
        assert set(found) == set(users)
        assert all(len(body["users"]) == size for body in pages[:-1])
        assert len(pages) == -(-60 // size)
        assert {(body["total_size"], body["total_error"]) for body in pages} == {(60, 0)}
    for user, logins in users.items():
        assert [entry["session_id"] for entry in found[user]["sessions"]] == [
            login["session_id"] for login in reversed(logins)]
    for body in pages:
        newest = [user["sessions"][0]["session_id"] for user in body["users"]]
        assert newest == sorted(newest, reverse=True)


def test_a_large_tenant_is_spread_over_buckets(shared, cluster, tenant):
    users = log_in(shared, tenant, 240)
    is_indexed(shared, tenant, users)
    with buckets(cluster, shared, tenant) as found:
        assert len(found) == 16 or any(key.endswith(b".0}") for _, key in found) and len(found) == 17
        counts = {key: node.call("ZCARD", key) for node, key in found}
        ttls = [node.call("PTTL", key) for node, key in found]
    in_root = sum(count for key, count in counts.items() if key.endswith(b".0}"))
    assert in_root <= 10, "the root was moved to the buckets"
    assert max(counts.values()) < 60
    assert all(0 < ttl <= (2592000 + 600) * 1000 for ttl in ttls), ttls
    everybody, pages = walk(shared, tenant, 50, spread=True)
    assert set(users) <= set(everybody) and len(everybody) == 241
    assert pages[0]["total_size"] == 241, pages[0]
    smaller, _ = walk(shared, tenant, 13)
    assert set(smaller) == set(everybody)


def test_ended_sessions_leave_the_list_at_once(shared, tenant):
    users = log_in(shared, tenant, 12)
    is_indexed(shared, tenant, users)
    gone = list(users)[:6]
    for n, user in enumerate(gone):
        login = users[user][0]
        if n % 2:
            assert shared.call("POST", "/v1/logout", None, login["access_token"], node=n % 3).status == 200
        else:
            shared.call("POST", f"/v1/users/{user}/logout-all?tenant={tenant}", {}, ADMIN, node=n % 3)
    found, pages = walk(shared, tenant)
    assert set(found) == set(users) - set(gone)
    wait_until(lambda: page(shared, tenant).json["total_size"] == 6, 3, "the total without the ended")


def test_a_user_who_keeps_a_session_stays(shared, tenant):
    user = unique()
    one, two = (shared.login(user, key=ADMIN, tenant=tenant) for _ in range(2))
    assert shared.kick(user, one["session_id"], ADMIN, query=f"?tenant={tenant}").status == 200
    wait_until(lambda: user in walk(shared, tenant)[0], 3, "the user is back in the index")
    [session] = walk(shared, tenant)[0][user]["sessions"]
    assert session["session_id"] == two["session_id"]


def test_what_the_index_lost_comes_back_by_itself(shared, cluster, tenant):
    users = log_in(shared, tenant, 6)
    is_indexed(shared, tenant, users)
    with buckets(cluster, shared, tenant) as found:
        for node, key in found:
            assert node.call("DEL", key) == 1
    assert walk(shared, tenant)[0] == {}
    refreshed, again, looked_at, *_ = users
    assert shared.refresh(users[refreshed][0]["refresh_token"], 1).status == 200
    shared.login(again, key=ADMIN, tenant=tenant)
    assert shared.call("GET", f"/v1/users/{looked_at}/devices?tenant={tenant}", None, ADMIN).status == 200
    is_indexed(shared, tenant, [refreshed, again, looked_at])
    found, pages = walk(shared, tenant)
    assert set(found) == {refreshed, again, looked_at} and pages[0]["total_size"] == 3


def test_what_the_index_has_too_much_is_found_and_taken_out(shared, cluster, tenant):
    """The write of a logout was lost; a user was never there."""
    users = log_in(shared, tenant, 3)
    is_indexed(shared, tenant, users)
    gone, stays, _ = users
    with buckets(cluster, shared, tenant) as found:
        [(node, key)] = found
        before = node.call("ZRANGE", key, 0, -1, "WITHSCORES")
        shared.call("POST", "/v1/logout", None, users[gone][0]["access_token"])
        wait_until(lambda: node.call("ZCARD", key) == 3, 3, "the logged out left the index")
        scores = dict(zip(before[::2], before[1::2]))
        for member, score in scores.items():
            node.call("ZADD", key, score, member)
        node.call("ZADD", key, str((now() + 500) << 20), b"nobody!!")
        assert node.call("ZCARD", key) == 5
        assert gone not in walk(shared, tenant)[0]
        wait_until(lambda: node.call("ZCARD", key) == 3, 3, "what was too much is taken out")
        assert set(users) - {gone} <= set(walk(shared, tenant)[0])


def test_after_the_logout_of_the_tenant_nobody_is_listed(shared, tenant):
    users = log_in(shared, tenant, 25)
    is_indexed(shared, tenant, users)
    assert shared.call("POST", f"/v1/tenants/{tenant}/logout-all", {}, ADMIN).status in (200, 202)
    for node in range(3):
        wait_until(lambda: page(shared, tenant, node=node).json["users"] == [], 3, "an empty list")
    newcomer = wait_until(lambda: log_in(shared, tenant, 1), 3, "a login")
    is_indexed(shared, tenant, newcomer)
    assert set(walk(shared, tenant)[0]) == set(newcomer)


def test_a_longer_idle_timeout_shows_who_was_idle(shared, cluster, tenant):
    """The index needs no change for it: sessions that a policy brings back are on the list."""
    def policy(seconds):
        answer = shared.call("PUT", f"/v1/tenants/{tenant}/policy", {"idle_timeout": seconds}, ADMIN)
        assert answer.status == 200, answer
    policy(20)
    users = log_in(shared, tenant, 3)
    is_indexed(shared, tenant, users)
    with buckets(cluster, shared, tenant) as found:
        [(node, key)] = found
        # As if no user had been seen for a quarter of an hour; what the states say is later.
        members = node.call("ZRANGE", key, 0, -1)
        for member in members:
            node.call("ZADD", key, str((now() - 900) << 20), member)
        assert page(shared, tenant).json["total_size"] == 0
        policy(3600)
        wait_until(lambda: set(users) <= set(walk(shared, tenant)[0]), 3, "all are there again")


def test_remembered_users_stay_in_the_list_without_being_used(start, tenant):
    daemon = start(policy__idle_timeout="10s", policy__access_ttl="10s", policy__refresh_ttl="600s",
                   policy__refresh_grace="5s")
    user = unique()
    daemon.login(user, key=ADMIN, tenant=tenant, remember=True)
    is_indexed(daemon, tenant, [user])
    body = page(daemon, tenant).json
    assert body["total_size"] == 1 and body["total_error"] == 0
    [session] = body["users"][0]["sessions"]
    assert session["expires_at"] > now() + 500


def test_pages_go_on_while_users_come_and_go(shared, tenant):
    stay = log_in(shared, tenant, 40)
    is_indexed(shared, tenant, stay)
    seen, token, n = set(), None, 0
    while token or n == 0:
        body = page(shared, tenant, page_size=5, **({"page_token": token} if token else {})).json
        seen |= {user["user_id"] for user in body["users"]}
        token, n = body["next_page_token"], n + 1
        newcomer = shared.login(key=ADMIN, tenant=tenant)
        shared.refresh(stay[list(stay)[-n % 40]][0]["refresh_token"], n % 3)
        shared.call("POST", "/v1/logout", None, newcomer["access_token"])
        assert n < 100
    assert set(stay) <= seen, "who is there all the time is seen"


# Page tokens.

def test_forged_page_tokens_are_refused(shared, tenant):
    users = log_in(shared, tenant, 3)
    is_indexed(shared, tenant, users)
    token = page(shared, tenant, page_size=1).json["next_page_token"]
    assert page(shared, tenant, page_size=2, page_token=token, node=1).status == 200
    forged = [token[:n] + ("B" if token[n] == "A" else "A") + token[n + 1:] for n in range(len(token))]
    forged += [token[:-1], token + "A", "x", "A" * len(token), token + "="]
    for text in forged:
        if text != token:
            problem = check_problem(page(shared, tenant, page_token=text), 400, "query_invalid")
            assert "page_token" in problem["detail"], problem


def test_a_page_token_is_of_one_tenant(shared, tenant):
    users = log_in(shared, tenant, 3)
    is_indexed(shared, tenant, users)
    token = page(shared, tenant, page_size=1).json["next_page_token"]
    check_problem(page(shared, "t-" + secrets.token_hex(5), page_token=token), 400, "query_invalid")


@pytest.mark.parametrize("size", ["0", "101", "-1", "x", "1.5", "99999999999999999999"])
def test_bad_page_sizes_are_refused(shared, tenant, size):
    problem = check_problem(page(shared, tenant, page_size=size), 400, "query_invalid")
    assert "page_size" in problem["detail"] and "100" in problem["detail"], problem


def test_unknown_parameters_are_refused(shared, tenant):
    check_problem(page(shared, tenant, size=5), 400, "query_invalid")


# Isolation.

def test_nobody_lists_another_tenant(shared, tenant):
    mine = log_in(shared, "acme", 1)
    theirs = log_in(shared, tenant, 1)
    is_indexed(shared, tenant, theirs)
    is_indexed(shared, "acme", mine)
    assert not set(theirs) & set(walk(shared, "acme")[0])
    assert not set(mine) & set(walk(shared, tenant)[0])
    assert page(shared, "acme", ACME).status == 200
    for other in (tenant, "default"):
        check_problem(page(shared, other, ACME), 403, "tenant_forbidden")
    check_problem(page(shared, "Not A Name".replace(" ", "%20")), 400, "bad_request")


def test_the_call_needs_a_key_with_the_scope(shared, tenant):
    for name in ("only-login", "only-validate", "only-policy"):
        check_problem(page(shared, "default", KEYS[name][0]), 403, "scope_missing")
    assert page(shared, "default", KEYS["only-manage"][0]).status == 200
    assert page(shared, "default", SERVICE).status == 200
    check_problem(page(shared, "default", None), 401, "credentials_missing")
    check_problem(page(shared, "default", shared.login()["access_token"]), 403, "forbidden")


def test_the_names_of_users_are_not_in_the_index(shared, cluster, tenant):
    user = unique("Privat")
    shared.login(user, key=ADMIN, tenant=tenant)
    is_indexed(shared, tenant, [user])
    dump = b"".join(cluster.dump())
    assert b"sd:i:{" in dump
    assert user.encode() not in dump and tenant.encode() not in dump


# Cost.

def test_a_page_costs_by_its_size(shared, cluster, tenant):
    users = log_in(shared, tenant, 130)
    is_indexed(shared, tenant, users)
    page(shared, tenant)
    cluster.reset_statistics()
    assert len(page(shared, tenant, page_size=10).json["users"]) == 10
    counts = cluster.command_counts()
    assert counts.get("hgetall", 0) == 10, counts
    assert counts["zcount"] <= 34 and counts["zrange"] <= 17, counts
    assert not {"scan", "keys", "zscan", "hscan"} & set(counts), counts


def test_a_login_costs_one_command_more(shared, cluster, tenant):
    log_in(shared, tenant, 20)  # every server knows the scripts
    wait_until(lambda: len(walk(shared, tenant)[0]) == 20, 3, "all of them in the index")
    cluster.reset_statistics()
    log_in(shared, tenant, 20)
    wait_until(lambda: cluster.command_counts().get("zadd", 0) == 20, 3, "the index has heard of all")
    counts = cluster.command_counts()
    assert counts["evalsha"] == 40, counts
    assert counts["hgetall"] == 20, counts


def test_the_list_is_on_record(shared, tenant):
    request_id = unique("list")
    answer = shared.call("GET", f"/v1/tenants/{tenant}/sessions", None, ADMIN, {"X-Request-Id": request_id})
    assert answer.status == 200
    line = shared.node.audit_of(request_id)
    assert line["event.action"] == "list-tenant"
    assert line["organization.id"] == tenant


def test_without_redis_there_is_no_list(start, tenant, tmp_path):
    redis = SingleRedis(tmp_path / "redis")
    redis.start()
    daemon = start(redis=redis, redis__mode="standalone", redis__wait_timeout="0ms")
    user = unique()
    daemon.login(user, key=ADMIN, tenant=tenant)
    is_indexed(daemon, tenant, [user])
    redis.stop()
    answer = page(daemon, tenant)
    assert answer.status == 503 and answer.code in ("store_unavailable", "store_timeout"), answer
