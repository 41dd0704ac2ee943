"""The security properties of a session service, each with the tests that show it: some are here, the
others are named in SHOWN. A number is the requirement's in OWASP ASVS 5.0.

Met otherwise than the requirement says, and why:
- Tokens: there are 128 random bits from the kernel's generator (ASVS asks for 128, NIST SP 800-63B for 64),
  and a MAC of 48 that is checked before any look-up.
- Devices, 7.5.2: sessiond never sees credentials, so it cannot ask for them again before a kick. A service
  asks for them and kicks, and `self_service` takes the call away from users' tokens.
- Revocation: a service key gets 403 for a token of another tenant and 200 for one never issued; to ask,
  one must have the token. Callers without a key get the same answer to both.
- Sealed records: a record under a key that this node does not have is 503 and not 401. The node may have
  been forgotten when keys were rotated, and what it cannot know it must not call invalid. The number of the
  key lies open in the record, so this tells nothing. All else looks the same.
- Memory: what libmicrohttpd frees unwiped may be found until the memory is used again: request headers that
  never came to their end, and a Set-Cookie on a connection that ended with it. No other caller can reach either.
  The key that a service called with is kept as long as its connection, which saves hashing it.
- Errors: JSON declares no charset, since it has none to declare (RFC 8259, section 11): it is UTF-8."""

import base64
import collections
import itertools
import json
import math
import os
import pathlib
import re
import secrets
import statistics
import subprocess
import types

import pytest

from bounds import at_most
from checks import ANY_TOKEN, check_dead, check_problem
from client import Redis, RawSocket, key_slot
from cluster_changes import fail_over
from daemon import ADMIN, BINARY, SERVICE, is_instrumented, unique, write_key_file
from probes import Probe, ask_all, log_in_all, request, validation
from redis_servers import ROOT, SingleRedis, wait_until
from redis_view import stored
from route_table import ROUTES
from tokens import flip_bit, never_issued

NODES = range(3)
NEWS = 1  # seconds for the other nodes to hear of a change

# property: the tests that show it, in this file, in tests/system or in tests/unit.
SHOWN = {
    "tokens are random and unique (7.2.3)": ["test_secrets_of_tokens_are_unique_and_without_a_pattern"],
    "tokens lie nowhere in Redis or files (7.2.3)": [
        "test_keys.py::test_nothing_issued_and_nothing_personal_is_found_in_redis_audit_or_log"],
    "a login makes a new token and ends the old one (7.2.4)": [
        "test_a_new_login_gets_a_new_token_and_the_old_one_is_dead_everywhere",
        "test_browser.py::test_a_login_never_continues_the_session_that_it_came_with"],
    "made-up tokens cost nothing, are on record and count as guesses": [
        "test_redis_commands.py::test_tokens_never_issued_or_altered_cause_no_command",
        "test_rate_limits.py::test_forged_tokens_are_slowed_by_address",
        "test_audit.py::test_a_refused_call_has_its_line_with_the_reason"],
    "sessions end when they are idle (7.3.1)": [
        "test_expiry.py::test_an_unused_session_ends_as_idle",
        "test_expiry.py::test_everything_in_redis_expires_by_itself"],
    "sessions have an absolute end (7.3.2)": [
        "test_expiry.py::test_refreshes_do_not_move_the_absolute_end"],
    "a configuration beyond NIST AAL1 is warned of (7.1.1)": [
        "test_defaults_beyond_nist_aal1_are_warned_of",
        "test_check_config_hints_where_idle_ends_a_session_before_its_access_token"],
    "the number of sessions of a user is limited (7.1.2)": [
        "test_races.py::test_a_crowd_of_logins_never_exceeds_its_limits",
        "test_parallel.py::test_a_hundred_parallel_logins_never_leave_more_than_three_alive"],
    "a logout holds everywhere (7.4.1)": [
        "test_a_thousand_validations_on_every_node_after_a_logout_are_all_refused"],
    "a disabled account has no session (7.4.2)": [
        "test_freeze.py::test_a_disabled_account_has_no_session_left_and_the_operator_is_on_record"],
    "administrators end one or all sessions (7.4.5)": [
        "test_who_may_ends_one_or_all_and_who_may_not_is_refused_on_record"],
    "users see their devices and may end them (7.5.2)": [
        "test_devices.py::test_a_user_sees_the_own_devices_and_never_a_token",
        "test_devices.py::test_users_may_do_only_what_self_service_allows"],
    "another network or device needs a verification (7.5.3)": [
        "test_binding.py::test_another_network_needs_a_verification_and_the_old_one_goes_on",
        "test_binding.py::test_another_device_needs_a_verification_of_its_own"],
    "reuse of a refresh token ends its session (RFC 9700)": [
        "test_refresh.py::test_once_the_successor_was_used_the_old_token_is_reuse_at_once",
        "test_alerts.py::test_an_alert_is_an_audit_line_and_a_signed_post"],
    "parallel refreshes make one pair (RFC 9700)": [
        "test_parallel.py::test_fifty_parallel_refreshes_give_one_pair_which_dies_with_reuse"],
    "a refresh whose answer was lost can be repeated": [
        "test_a_refresh_whose_answer_was_lost_is_repeated_with_the_same_pair"],
    "a rotated token stays refused over restarts and failovers": [
        "test_a_rotated_token_is_refused_after_a_restart_and_a_failover"],
    "ends of tenant, user and device hold in any order": [
        "test_whatever_is_ended_by_tenant_user_or_device_in_any_order_stays_dead"],
    "tokens are of one tenant": [
        "test_validate.py::test_a_token_of_a_foreign_tenant_is_403_for_a_bound_key",
        "test_validate.py::test_a_token_is_unknown_under_another_tenant_named_by_an_unbound_key",
        "test_isolation.py::test_route_by_credential",
        "check_token.c::tags_and_key_names_are_known",
        "check_cache.c::every_byte_of_the_key_counts"],
    "unknown and foreign tokens are revoked alike (RFC 7009)": [
        "test_tokens_that_were_never_issued_or_are_foreign_are_revoked_alike"],
    "a revocation without Redis is not lost (RFC 7009)": [
        "test_outage_revocations.py::test_a_kick_by_a_service",
        "test_outage_revocations.py::test_a_logout",
        "test_outage_revocations.py::test_redis_is_back_and_all_nodes_know"],
    "an altered record is never accepted (11.3.2)": [
        "test_keys.py::test_a_record_with_any_byte_changed_is_never_accepted",
        "test_keys.py::test_a_record_copied_to_another_user_does_not_open",
        "check_record.c::each_single_flipped_bit_of_a_sealed_record_is_unreadable",
        "check_record.c::a_record_moved_to_another_place_is_unreadable"],
    "no nonce repeats (11.3.4)": [
        "test_no_nonce_repeats_over_restarts",
        "check_crypto.c::no_nonce_repeats_in_a_hundred_thousand_seals"],
    "keys can be rotated (11.2.2)": [
        "test_keys.py::test_rotation_reads_old_keys_and_writes_with_the_newest",
        "check_record.c::rotation_reads_old_records_until_their_key_is_dropped"],
    "errors of sealing look the same (11.2.5)": ["test_whatever_is_wrong_with_a_record_looks_the_same"],
    "secrets are compared in constant time (11.2.4)": [
        "test_secrets_are_compared_by_crypto_equal_alone",
        "check_constant_time.c::crypto_equal_tells_nothing",
        "check_constant_time.c::reading_a_token_tells_nothing_of_its_mac",
        "check_constant_time.c::the_record_finds_what_leaks"],
    "tokens do not stay in memory": [
        "test_after_a_logout_the_token_is_not_in_memory",
        "test_a_request_leaves_no_token_on_its_connection"],
    "each call leaves one audit line (16.2.1)": ["test_every_endpoint_leaves_one_line_of_success_and_of_failure"],
    "the audit shows no secret (16.2.5)": [
        "test_keys.py::test_nothing_issued_and_nothing_personal_is_found_in_redis_audit_or_log",
        "test_audit.py::test_no_line_shows_a_token_or_a_key"],
    "hostile texts cannot forge audit lines (16.4.1)": ["test_a_hostile_user_agent_leaves_one_bounded_line"],
    "in an outage known tokens go on and no other (16.5.2)": [
        "test_outage_contract.py::test_all_known_tokens_go_on_and_say_that_they_are_stale",
        "test_outage_contract.py::test_tokens_that_a_node_never_saw_are_503_at_once",
        "test_outage_contract.py::test_what_was_kicked_before_is_dead_on_every_node",
        "test_outage_contract.py::test_beyond_outage_grace_it_is_503_and_never_401"],
    "nonsense of Redis is never a verdict (16.5.3)": [
        "test_outage.py::test_a_redis_that_answers_nonsense_means_503",
        "test_keys.py::test_a_key_of_a_wrong_type_is_an_error_and_never_a_verdict",
        "test_faults_answers.py::test_replies_are_of_the_wrong_type",
        "check_store_connection.c::an_answer_nobody_asked_for_ends_the_connection"],
    "errors show nothing of the inside (16.5.1)": ["test_no_error_says_anything_about_the_inside"],
    "only trusted proxies name a client's address (4.1.3)": [
        "test_audit.py::test_the_connection_is_the_source_unless_a_trusted_proxy_says_otherwise",
        "check_http_clients.c::forwarded_for_is_believed_up_to_the_first_hop_that_is_not_trusted"],
    "a path takes its methods alone (4.1.4)": ["test_methods_that_a_path_does_not_take_are_refused_on_every_path"],
    "guesses are slowed down": [
        "test_rate_limits.py::test_logins_of_a_user_are_limited",
        "test_rate_limits.py::test_wrong_keys_are_slowed_by_address",
        "test_verify.py::test_each_wrong_code_costs_a_try_and_the_last_one_ends_it"],
    "tokens come only where they are configured to": [
        "test_where_only_the_header_is_configured_no_url_and_no_cookie_brings_a_token",
        "test_a_token_in_a_url_or_in_another_cookie_is_not_taken"],
    "answers with tokens are not stored": ["test_answers_with_tokens_are_not_to_be_stored"],
}
PROPERTIES = 38


def has_test(name):
    file, _, test = name.rpartition("::")
    if file.endswith(".c"):
        return any(f"START_TEST({test})" in path.read_text() for path in (ROOT / "tests/unit").rglob(file))
    return test in names_in(ROOT / "tests/system" / file if file else pathlib.Path(__file__))


def names_in(path):
    return re.findall(r"^def (test_\w+)\(", path.read_text(), re.M)


def test_every_property_has_a_test_that_exists():
    shown = [name for names in SHOWN.values() for name in names]
    missing = [name for name in shown if not has_test(name)]
    assert not missing, missing
    assert len(SHOWN) == PROPERTIES, "a property is dropped or added on purpose only"
    here = set(names_in(pathlib.Path(__file__))) - {"test_every_property_has_a_test_that_exists"}
    assert here <= set(shown), here - set(shown)


# --- tokens ---

def raw_token(token):
    return base64.urlsafe_b64decode(token[3:])


def secret_of(token):
    return raw_token(token)[23:39]


def test_secrets_of_tokens_are_unique_and_without_a_pattern(shared):
    logins = log_in_all(shared.node, [unique() for _ in range(500)])
    logins += log_in_all(shared.node, [unique()] * 100)
    found = [secret_of(login[kind]) for login in logins
             for kind in ("access_token", "refresh_token")]
    assert len(set(found)) == len(found) == 1200
    numbers = [int.from_bytes(secret, "big") for secret in found]
    for bit in range(128):
        ones = sum(number >> bit & 1 for number in numbers)
        assert abs(ones - 600) < 6 * math.sqrt(300), f"bit {bit} is one in {ones} of 1200"
    # Neither time nor user shows: neighbours in time and the two of a pair differ in half the bits.
    distances = [bin(a ^ b).count("1") for a, b in zip(numbers, numbers[1:])]
    assert abs(statistics.mean(distances) - 64) < 2 and min(distances) > 24, min(distances)


def test_a_new_login_gets_a_new_token_and_the_old_one_is_dead_everywhere(shared):
    user, device = unique(), {"id": "d"}
    old = shared.login(user, device=device)
    assert all(shared.is_alive(old["access_token"], node) for node in NODES)
    answer = shared.try_login(user, node=1, device=device,
                              headers={"X-Session-Token": old["access_token"]})
    assert answer.status == 201, answer
    new = answer.json
    assert secret_of(new["access_token"]) != secret_of(old["access_token"])
    assert new["session_id"] != old["session_id"]
    for node in NODES:
        wait_until(lambda: not shared.is_alive(old["access_token"], node), NEWS, "the old is dead")
        check_dead(shared.refused(old["access_token"], node), "replaced")
        assert shared.is_alive(new["access_token"], node)
    check_problem(shared.refresh(old["refresh_token"], 2), 401, "refresh_invalid")


def checked_config(path, text):
    path.write_text(text)
    return subprocess.run([BINARY, "check-config", str(path)], capture_output=True, text=True,
                          timeout=30)


def test_defaults_beyond_nist_aal1_are_warned_of(start, tmp_path):
    for value, warned in [("30d", False), ("31d", True)]:
        result = checked_config(tmp_path / "x.conf", f"[policy]\nabsolute_timeout = {value}\n")
        assert result.returncode == 0, result
        assert ("sessions_beyond_nist_aal1" in result.stderr) == warned, result.stderr
    daemon = start(policy__absolute_timeout="31d")
    told = [line for line in daemon.node.log_text().splitlines()
            if "sessions_beyond_nist_aal1" in line]
    assert len(told) == 1 and " warning " in told[0], told
    assert "option=policy.absolute_timeout" in told[0], told


def test_check_config_hints_where_idle_ends_a_session_before_its_access_token(tmp_path):
    for value, hinted in [("2h", False), ("3h", True)]:
        result = checked_config(tmp_path / "x.conf",
                                f"[policy]\naccess_ttl = {value}\nidle_timeout = 2h\n")
        assert result.returncode == 0, result
        assert ("access_ttl_beyond_idle_timeout" in result.stderr) == hinted, result.stderr


# --- ends ---

def test_a_thousand_validations_on_every_node_after_a_logout_are_all_refused(shared):
    login = shared.login()
    token = login["access_token"]
    assert all(shared.is_alive(token, node) for node in NODES)
    assert shared.call("POST", "/v1/logout", None, token).status == 200
    for number, node in enumerate(shared.nodes):
        wait_until(lambda: not shared.is_alive(token, number), NEWS, "the news")
        replies = ask_all(node, [validation(token)] * 1000)
        assert {reply.status for reply in replies} == {401}
        assert {reply.json["reason"] for reply in replies} == {"logged_out"}


def test_who_may_ends_one_or_all_and_who_may_not_is_refused_on_record(shared):
    user = unique()
    first, second, third = (shared.login(user) for _ in range(3))
    kick = f"/v1/users/{user}/devices/{first['session_id']}"
    for method, path in [("DELETE", kick), ("POST", f"/v1/users/{user}/logout-all")]:
        name = unique("refused")
        answer = shared.call(method, path, None, third["access_token"], {"X-Request-Id": name})
        check_problem(answer, 403, "forbidden")
        line = shared.node.audit_of(name)
        assert line["http.response.status_code"] == 403 and line["event.outcome"] == "failure", line
    assert shared.is_alive(first["access_token"])
    assert shared.call("DELETE", kick, None, SERVICE).json["sessions"] == [first["session_id"]]
    answer = shared.call("POST", f"/v1/users/{user}/logout-all", {}, SERVICE)
    assert set(answer.json["sessions"]) == {second["session_id"], third["session_id"]}
    tenant = unique("tenant")
    other = shared.login(key=ADMIN, tenant=tenant)
    path = f"/v1/tenants/{tenant}/logout-all"
    check_problem(shared.call("POST", path, {}, SERVICE), 403, "scope_missing")
    assert shared.is_alive(other["access_token"])
    assert shared.call("POST", path, {}, ADMIN).status == 200
    for login in (first, second, third, other):
        assert not shared.is_alive(login["access_token"])


# --- refresh ---

def test_a_refresh_whose_answer_was_lost_is_repeated_with_the_same_pair(shared):
    user = unique()
    login = shared.login(user)
    with RawSocket(shared.nodes[1].port) as raw:
        raw.send(request("POST", "/v1/refresh", None, {"refresh_token": login["refresh_token"]}))
        lost = raw.answer()  # as far as the client is concerned
    pair = shared.refresh(login["refresh_token"], 2).json
    assert (pair["access_token"], pair["refresh_token"]) == (
        lost.json["access_token"], lost.json["refresh_token"])
    assert shared.devices(user)["total"] == 1
    with RawSocket(shared.nodes[1].port) as raw:  # and this one leaves before it is answered
        raw.send(request("POST", "/v1/refresh", None, {"refresh_token": pair["refresh_token"]}))
    after = shared.refresh(pair["refresh_token"], 0)
    assert after.status == 200, after
    assert [d["session_id"] for d in shared.devices(user)["devices"]] == [login["session_id"]]
    assert shared.is_alive(after.json["access_token"])


def test_a_rotated_token_is_refused_after_a_restart_and_a_failover(start, cluster):
    daemon = start(policy__refresh_grace=0)
    users = [unique() for _ in range(2)]
    logins = [daemon.login(user) for user in users]
    pairs = [daemon.refresh(login["refresh_token"]).json for login in logins]
    with Redis(cluster.ports[0]) as node:
        ranges = node.call("CLUSTER", "SLOTS")
    at, key = stored(cluster, daemon, users[1])
    at.close()
    slot = key_slot(key.encode())
    replica = next(replicas[0][1] for first, last, _, *replicas in ranges if first <= slot <= last)
    daemon.stop()
    daemon.start()
    for stage, login, pair in zip(("restart", "failover"), logins, pairs):
        if stage == "failover":
            fail_over(replica)
            wait_until(lambda: daemon.validate(pair["access_token"]).status == 200, 5, "served")
        problem = check_problem(daemon.refresh(login["refresh_token"]), 401, "refresh_invalid")
        assert problem["reason"] == "reuse", (stage, problem)
        check_dead(daemon.validate(pair["access_token"]), "refresh_reuse")
        check_problem(daemon.refresh(pair["refresh_token"]), 401, "refresh_invalid")
    wait_until(cluster.is_whole, 20, "the cluster is whole")


def test_whatever_is_ended_by_tenant_user_or_device_in_any_order_stays_dead(shared):
    def call(method, path, tenant):
        query = f"?tenant={tenant}" if "/users/" in path else ""
        answer = shared.call(method, path + query, {} if method == "POST" else None, ADMIN)
        assert answer.status == 200, answer

    def end(level, tenant, user, session):
        if level == "tenant":
            call("POST", f"/v1/tenants/{tenant}/logout-all", tenant)
        elif level == "user":
            call("POST", f"/v1/users/{user}/logout-all", tenant)
        else:
            call("DELETE", f"/v1/users/{user}/devices/{session}", tenant)

    for order in itertools.permutations(["tenant", "user", "device"]):
        tenant, user, dead = unique("tenant"), unique(), []
        for level in order:
            login = shared.login(user, key=ADMIN, tenant=tenant)
            dead.append(login["access_token"])
            assert all(shared.is_alive(login["access_token"], node) for node in NODES)
            end(level, tenant, user, login["session_id"])
            for node in NODES:
                wait_until(lambda: not shared.is_alive(dead[-1], node), NEWS, "the news")
            last = shared.login(user, key=ADMIN, tenant=tenant)
            for node in NODES:
                assert not any(shared.is_alive(token, node) for token in dead), (order, level)
                assert shared.is_alive(last["access_token"], node), (order, level)
            dead.append(last["access_token"])
            shared.call("POST", "/v1/logout", None, last["access_token"])


def check_same_class(times):
    """Far apart would be a difference of a disk or of Redis, not one of the machine's mood."""
    at_most(max(times.values()) - 4 * min(times.values()), 0.002, "the slowest of a kind beyond four of the quickest")


def test_tokens_that_were_never_issued_or_are_foreign_are_revoked_alike(start, shared):
    foreign = start().login()["access_token"]  # of other keys
    tampered = flip_bit(shared.login()["access_token"], 200)
    tokens = {"unknown": never_issued(), "foreign": foreign, "tampered": tampered}
    told, times = {}, {}
    with Probe(shared.node) as probe:
        for kind, token in tokens.items():
            replies = [probe.timed(request("POST", "/v1/logout", token)) for _ in range(60)]
            told[kind] = {(reply.status, reply.body) for reply, _ in replies}
            times[kind] = statistics.median(seconds for _, seconds in replies)
    assert told["unknown"] == told["foreign"] == told["tampered"], told
    assert [status for status, _ in told["unknown"]] == [200], told
    check_same_class(times)


# --- sealing ---

def sealed_values(cluster, logins, daemon):
    """[(key id, nonce)] of every sealed record of these users: format, key id, nonce, text, tag."""
    found = []
    for login in logins:
        node, key = stored(cluster, daemon, login["user_id"])
        with node:
            fields = node.call("HGETALL", key)
        for name, value in zip(fields[::2], fields[1::2]):
            if name != b"!" and not name.endswith(b".t") and len(value) > 30:
                found.append((value[1], value[2:14]))
    return found


def test_no_nonce_repeats_over_restarts(start, cluster):
    """No process forks: threads share the kernel's generator."""
    daemon, seen = start(), []
    for restart in range(3):
        if restart:
            daemon.stop()
            daemon.start()
        user = unique()
        logins = log_in_all(daemon.node, [user] * 10)
        seen += sealed_values(cluster, logins[:1], daemon)
        for login in logins:  # the same record sealed again
            assert daemon.refresh(login["refresh_token"]).status == 200
        seen += sealed_values(cluster, logins[:1], daemon)
    assert len(seen) >= 60 and len(set(seen)) == len(seen), len(seen)


def test_whatever_is_wrong_with_a_record_looks_the_same(start, cluster, tmp_path):
    keys = tmp_path / "keys"
    write_key_file(keys, [f"names {secrets.token_hex(32)}",
                          *(f"key {number} {secrets.token_hex(32)}" for number in (1, 2))])
    daemon = start(cache__bytes=0, key_file=keys)
    user = unique()
    login = daemon.login(user)
    node, key = stored(cluster, daemon, user)
    name = bytes.fromhex(login["session_id"])
    with node:
        sealed = node.call("HGET", key, name)
        assert sealed[1] == 2, "the newest key seals"
        wrong = {"tag": sealed[:-1] + bytes([sealed[-1] ^ 1]),
                 "key id": sealed[:1] + b"\x01" + sealed[2:],
                 "short": sealed[:20], "empty": b"", "format": b"\xff" + sealed[1:]}
        told, times = {}, {}
        for kind, value in wrong.items():
            node.call("HSET", key, name, value)
            problem = check_problem(daemon.validate(login["access_token"]), 401, "token_invalid")
            told[kind] = {name: value for name, value in problem.items() if name != "request_id"}
            with Probe(daemon.node) as probe:
                spent = [probe.timed(validation(login["access_token"]))[1] for _ in range(40)]
            times[kind] = statistics.median(spent)
        node.call("HSET", key, name, sealed[:1] + b"\x09" + sealed[2:])
        answer = daemon.validate(login["access_token"])
        check_problem(answer, 503, "seal_key_unknown")
        node.call("HSET", key, name, sealed)
    assert len({json.dumps(problem, sort_keys=True) for problem in told.values()}) == 1, told
    check_same_class(times)
    assert daemon.is_alive(login["access_token"])


def test_secrets_are_compared_by_crypto_equal_alone():
    crypto = (ROOT / "src/base/crypto.c").read_text()
    body = crypto.split("\nbool crypto_equal(", 1)[1].split("\n}\n", 1)[0]
    assert "sodium_memcmp" in body
    found = []
    for path in sorted((ROOT / "src").rglob("*.c")):
        for match in re.finditer(r"\b(memcmp|strn?cmp|text_equal)\(([^;{]*)", path.read_text()):
            if re.search(r"secret_hash|access_hash|refresh_hash|->mac\b|\bmac\b|_mac\b|presented"
                         r"|->digest|\.digest|(?<!device_)fingerprint|code_hash", match[2]):
                found.append((path.name, match[0][:90]))
    assert not found, found
    assert len(re.findall(r"\bcrypto_equal\(", "".join(
        path.read_text() for path in (ROOT / "src").rglob("*.c")))) >= 8


# --- what is left behind ---

def memory_of(pid):
    """Every readable, writable byte of a process, piece by piece; root only."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, rights, *_, = line.split(maxsplit=5)
            if not rights.startswith("rw") or "[v" in line:
                continue
            first, last = (int(end, 16) for end in span.split("-"))
            memory.seek(first)
            try:
                yield memory.read(last - first)
            except OSError:
                continue


COOKIE = "__Host-session"
# way: the request that brings a credential, of those of a login.
WAYS = {
    "authorization": lambda login: validation(login["access_token"]),
    "session token": lambda login: request(
        "GET", "/v1/validate", SERVICE, None, [f"X-Session-Token: {login['access_token']}"]),
    "cookie": lambda login: request(
        "GET", "/v1/validate", None, None, [f"Cookie: a=b; {COOKIE}={login['access_token']}; c=d"]),
    "body": lambda login: request("POST", "/v1/validate", SERVICE, {"token": login["access_token"]}),
    "refresh": lambda login: request(
        "POST", "/v1/refresh", None, {"refresh_token": login["refresh_token"]}),
    "set cookie": lambda login: request("POST", "/v1/login", SERVICE,
                                        {"user_id": login["user_id"], "cookie": True}),
}


def ending(request_text):
    """The same request, on a connection that ends with it."""
    return request_text.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


def pieces_with(pid, texts):
    return collections.Counter(name for piece in memory_of(pid) for name, text in texts.items()
                               if text in piece)


@pytest.mark.skipif(os.geteuid() != 0, reason="the memory of a process that cannot be dumped")
@pytest.mark.skipif(is_instrumented(), reason="sanitizers have memory without end")
def test_after_a_logout_the_token_is_not_in_memory(start):
    daemon = start()
    login = daemon.login(unique())
    token = login["access_token"]
    texts = {"token": token[3:].encode(), "secret": secret_of(token),
             "refresh": login["refresh_token"][3:].encode()}
    assert daemon.is_alive(token)
    pid = daemon.node.process.pid
    with RawSocket(daemon.node.port) as raw:
        raw.send(request("GET", "/v1/validate", token)[:-4])
        wait_until(lambda: pieces_with(pid, texts)["token"], 3, "what is there is found")
    assert daemon.call("POST", "/v1/logout", None, token).status == 200
    daemon.node.client.close()
    others = log_in_all(daemon.node, [unique() for _ in range(40)])
    ask_all(daemon.node, [validation(other["access_token"]) for other in others])
    wait_until(lambda: not pieces_with(pid, texts), 3, "nothing of them is left")
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"^Max core file size\s+0\s+0", limits, re.M), limits


@pytest.mark.skipif(os.geteuid() != 0, reason="the memory of a process that cannot be dumped")
@pytest.mark.skipif(is_instrumented(), reason="sanitizers have memory without end")
@pytest.mark.parametrize("end", [False, True], ids=["kept", "ended"])
def test_a_request_leaves_no_token_on_its_connection(start, end):
    """Right after the answer, before anything else could lie there."""
    daemon = start()
    pid = daemon.node.process.pid
    with Probe(daemon.node) as kept:
        for way, text in WAYS.items():
            login = log_in_all(daemon.node, [unique()])[0]
            with Probe(daemon.node) as other:
                probe = other if end else kept
                reply = probe.ask(ending(text(login)) if end else text(login))
                assert reply.status in (200, 201), (way, reply)
                answer = {**login, **reply.json}
                texts = {f"{way}, {name}": token[3:].encode() for tokens in (login, answer)
                         for name, token in tokens.items() if name.endswith("_token")}
                if end and reply.header("Set-Cookie"):
                    del texts[f"{way}, access_token"]  # see above
                wait_until(lambda: not pieces_with(pid, texts), 1, f"nothing is left of {way}")


# --- the audit ---

MEMBERS = {"@timestamp", "event.action", "event.outcome", "event.sequence", "source.ip",
           "http.request.id", "http.response.status_code"}


def call_of_route(daemon, method, path, credential, name):
    """Calls a route of the table of all routes for a user of its own."""
    kind, _, body, _, _ = ROUTES[method, path]
    login = daemon.login()
    scene = types.SimpleNamespace(user=login["user_id"], first=login, challenge="never-made")
    bearer = {"service": ADMIN, "token": login["access_token"]}.get(kind) if credential else None
    fill = {"user_id": login["user_id"], "session_id": login["session_id"],
            "tenant": unique("tenant"), "code": "not_found"}
    target = re.sub(r"\{(\w+)\}", lambda match: fill[match[1]], path.replace("*", "/v1/login"))
    headers = {"X-Request-Id": name}
    if method == "PATCH":
        headers["Content-Type"] = "application/merge-patch+json"
    return daemon.call(method, target, body(scene) if body else None, bearer, headers)


def test_every_endpoint_leaves_one_line_of_success_and_of_failure(start):
    daemon, sent = start(), {}
    for (method, path), (kind, *_) in ROUTES.items():
        for credential in (True, False):
            name = unique("line")
            answer = call_of_route(daemon, method, path, credential, name)
            sent[name] = (method, path, answer.status)
            if kind in ("service", "token"):
                assert (answer.status == 401) == (not credential), (method, path, answer)
    daemon.stop()
    lines = daemon.node.audit_lines()
    for name, (method, path, status) in sent.items():
        mine = [line for line in lines if line.get("http.request.id") == name]
        assert len(mine) == 1, (method, path, mine)
        assert MEMBERS <= set(mine[0]), (method, path, MEMBERS - set(mine[0]))
        assert mine[0]["http.response.status_code"] == status
        assert mine[0]["@timestamp"].endswith("Z")
        assert (mine[0]["event.outcome"] == "success") == (status < 400), (method, path, mine[0])


def test_a_hostile_user_agent_leaves_one_bounded_line(shared):
    hostile = {"CR": b"a\rb", "ESC": b"a\x1b[31mb", "NUL": b"a\0b", "DEL": b"a\x7fb",
               "LF": b"a\n b", "not UTF-8": b"\xff\xfe\xc3(", "quotes": b'"},{"x":"\\',
               "6 KiB": b"x" * 6000, "32 KiB": b"x" * 32768}
    for kind, agent in hostile.items():
        name = unique("hostile").encode()
        with RawSocket(shared.node.port) as raw:
            raw.send(b"GET /v1/validate HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + name
                     + b"\r\nUser-Agent: " + agent + b"\r\n\r\n")
            status = raw.answer().status
        assert status in (400, 401, 431), (kind, status)
        if status == 401:
            line = shared.node.audit_of(name.decode())
            assert len(line.get("user_agent.original", "").encode()) <= 1024, kind
    raw = shared.node.audit.read_bytes()
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", raw)
    for line in raw.decode("utf-8").splitlines()[-40:]:
        assert isinstance(json.loads(line), dict) and len(line) < 8192


# --- HTTP ---

def provoked(shared, start, tmp_path):
    """(status, code, answer) of every error that a caller can bring about in a moment."""
    token = shared.login()["access_token"]
    policy = f"/v1/tenants/{unique('tenant')}/policy"
    limited, frozen = unique("tenant"), unique()
    shared.call("PUT", f"/v1/tenants/{limited}/policy",
                {"max_devices": 1, "overflow": "reject"}, ADMIN)
    shared.login("x", key=ADMIN, tenant=limited)
    shared.call("POST", f"/v1/users/{frozen}/freeze", {}, SERVICE)
    call = shared.call
    yield 400, call("POST", "/v1/login", b"{", SERVICE)
    yield 400, call("GET", "/v1/users/a%00", None, SERVICE)
    yield 400, call("GET", "/v1/users/a?x=1", None, SERVICE)
    yield 401, call("GET", "/v1/validate")
    yield 401, call("GET", "/v1/validate", None, never_issued())
    yield 401, call("GET", "/v1/users/a", None, "sk_" + "x" * 43)
    yield 401, shared.refresh(never_issued("sr_"))
    yield 403, call("GET", "/v1/users/a", None, token)
    yield 403, call("GET", "/v1/users/a?tenant=acme", None, SERVICE)
    yield 404, call("GET", "/v1/nothing")
    yield 404, call("DELETE", "/v1/devices/0123456789abcdef", None, token)
    yield 405, call("BREW", "/v1/login")
    yield 409, shared.try_login("x", ADMIN, tenant=limited)
    over = {"challenge_id": "never", "code": "123456"}
    yield 410, call("POST", "/v1/login/verify", over, SERVICE)
    yield 412, call("PUT", policy, {}, ADMIN, {"If-Match": '"other"'})
    yield 413, call("POST", "/v1/login", b"x" * 20000, SERVICE)
    yield 414, call("GET", "/v1/" + "x" * 20000)
    yield 415, call("POST", "/v1/login", b"x", SERVICE, {"Content-Type": "text/plain"})
    yield 423, shared.try_login(frozen)
    slow = start(policy__requests_per_second=1, policy__burst=1)
    answers = [slow.call("GET", "/v1/users/a", None, SERVICE) for _ in range(5)]
    yield 429, answers[-1]
    yield 431, call("GET", "/v1/validate", headers={"X-Long": "x" * 40000})
    redis = SingleRedis(tmp_path / "redis")
    lonely = start(redis=redis.start(), redis__mode="standalone", redis__wait_timeout=0)
    redis.stop()
    yield 503, lonely.try_login(unique())


def test_no_error_says_anything_about_the_inside(shared, start, tmp_path):
    for status, answer in provoked(shared, start, tmp_path):
        text = answer.body.decode()
        assert answer.status == status, answer
        if text.startswith("{"):
            check_problem(answer, status, answer.json["code"])
        else:
            assert status in (414, 431), answer  # answered before there is a request
        assert not re.search(r"jansson|hiredis|libuv|openssl|sodium|microhttpd|\.[ch]:\d|src/"
                             r"|EVALSHA|HGET|127\.0\.0\.1|0x[0-9a-f]{6}|/tmp/", text, re.I), answer
        assert not ANY_TOKEN.search(text) and answer.header("Server") is None, answer


def test_methods_that_a_path_does_not_take_are_refused_on_every_path(shared):
    source = (ROOT / "include/tbl/routes.h").read_text()
    paths = collections.defaultdict(set)
    for method, path in re.findall(r'ROUTE\(MAIN, "([A-Z]+)", "(/[^"]*)"', source):
        path = path.replace("{session_id}", "0123456789abcdef")
        paths[re.sub(r"\{\w+\}", "a", path)].add(method)
    assert len(paths) >= 18, paths
    for path, taken in paths.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - taken:
            answer = shared.call(method, path, None, SERVICE)
            check_problem(answer, 405, "method_not_allowed")
            allowed = set(answer.header("Allow").split(", "))
            assert allowed == taken | ({"HEAD"} if "GET" in taken else set()), (method, answer)
    for target in ("example.com:443", "/v1/login"):
        with RawSocket(shared.node.port) as raw:
            raw.send(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert raw.answer().status in (400, 404, 405), target


def test_where_only_the_header_is_configured_no_url_and_no_cookie_brings_a_token(start):
    daemon = start(browser__cookie="no")
    login = daemon.login()
    token, session = login["access_token"], login["session_id"]
    own_page = {"Origin": f"https://127.0.0.1:{daemon.node.port}"}
    for method, path, body in [("GET", "/v1/validate", None), ("GET", "/v1/devices", None),
                               ("DELETE", f"/v1/devices/{session}", None),
                               ("POST", "/v1/logout", None), ("POST", "/v1/logout-all", {}),
                               ("GET", "/v1/session/attributes", None)]:
        for cookie in (f"__Host-session={token}", f"a=1; __Host-session={token}",
                       f"__Host-session={token}; __Host-session={token}"):
            answer = daemon.call(method, path, body, headers={"Cookie": cookie, **own_page})
            problem = check_problem(answer, 401, "credentials_missing")
            assert "cookie" not in problem["detail"], problem
        for query in (f"access_token={token}", f"token={token}", token):
            answer = daemon.call(method, f"{path}?{query}", body)
            assert answer.status in (400, 401) and answer.header("Set-Cookie") is None, answer
        assert daemon.validate(token).status == 200, "the header is configured"


def test_a_token_in_a_url_or_in_another_cookie_is_not_taken(shared):
    token = shared.login()["access_token"]
    for query in (f"access_token={token}", f"token={token}", token):
        answer = shared.call("GET", f"/v1/validate?{query}")
        assert answer.status in (400, 401), answer
    for cookie in (f"session={token}", f"access_token={token}", f"sessiond={token}",
                   f"__Secure-session={token}"):
        answer = shared.call("GET", "/v1/validate", headers={"Cookie": cookie})
        check_problem(answer, 401, "credentials_missing")
    answer = shared.call("GET", "/v1/validate", None, shared.login()["refresh_token"])
    check_problem(answer, 401, "token_invalid")
    assert shared.call("POST", "/v1/validate", {"access_token": token}, SERVICE).status == 400


def test_answers_with_tokens_are_not_to_be_stored(shared):
    tenant = unique("tenant")
    assert shared.call("PUT", f"/v1/tenants/{tenant}/policy",
                       {"verify": {"on": ["new_device"], "method": "otp"}}, ADMIN).status == 200
    login = shared.try_login(unique())
    asked = shared.try_login(unique(), ADMIN, tenant=tenant, device={"id": "new"})
    check_problem(asked, 403, "verification_required")
    verified = shared.call("POST", f"/v1/login/verify?tenant={tenant}",
                           {"challenge_id": asked.json["challenge_id"],
                            "code": asked.json["otp"]}, ADMIN)
    assert verified.status == 201, verified
    for answer in (login, asked, verified, shared.refresh(login.json["refresh_token"]),
                   shared.validate(login.json["access_token"]),
                   shared.check(login.json["access_token"]),
                   shared.call("GET", "/v1/devices", None, login.json["access_token"])):
        assert answer.header("Cache-Control") == "no-store", answer
