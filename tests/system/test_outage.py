"""Redis away, broken, slow or hostile: 503 within the deadline and never 401; then back again."""

import json
import os
import re
import signal
import socket
import struct

import pytest

from bounds import at_most
from checks import check_dead, check_ended, check_problem
from client import RawSocket, Redis
from daemon import SERVICE, Daemon, password_file, unique
from faults import frozen
from machine import clock
from parallel import at_once
from raw_http import head
from redis_servers import SLOW, FakeRedis, SingleRedis, process_id, comes_true, wait_until
from scripted_redis import ScriptedRedis
from tokens import never_issued


@pytest.fixture(scope="module")
def issued(workspace, standalone):
    """A daemon that works, and a living login of it; others get its key file."""
    daemon = Daemon(workspace / "issuer", standalone, redis__mode="standalone",
                    keys__encryption="aes-128-gcm")
    try:
        daemon.start()
        daemon.user = unique()
        daemon.good = daemon.login(daemon.user)
        yield daemon
        daemon.stop()
    finally:
        daemon.kill()


def check_all_503(daemon, issued, code=None, deadline=0.5):
    """Calls that need Redis get 503 in time, from any caller; revocations are kept and get 202; never-issued tokens
    are refused as ever."""
    access, refresh = issued.good["access_token"], issued.good["refresh_token"]
    session, user = issued.good["session_id"], issued.user
    calls = [
        ("GET", "/v1/validate", None, access),
        ("POST", "/v1/validate", {"token": access}, SERVICE),
        ("POST", "/v1/login", {"user_id": user}, SERVICE),
        ("POST", "/v1/refresh", {"refresh_token": refresh}, None),
        ("GET", "/v1/devices", None, access),
        ("GET", f"/v1/users/{user}", None, SERVICE),
        ("GET", f"/v1/users/{user}/devices", None, SERVICE),
        ("POST", "/v1/logout-all", {}, access),
        ("DELETE", f"/v1/devices/{int(session, 16) + 1:016x}", None, access),
    ]
    endings = [
        ("DELETE", f"/v1/users/{user}/devices/{session}", None, SERVICE, [session]),
        ("POST", f"/v1/users/{user}/logout-all", {}, SERVICE, []),
        ("DELETE", f"/v1/devices/{session}", None, access, [session]),
        ("POST", "/v1/logout", None, access, [session]),
    ]
    for method, path, body, bearer in calls:
        begun = clock()
        answer = daemon.call(method, path, body, bearer)
        seconds = clock() - begun
        assert answer.status == 503, (method, path, answer)
        check_problem(answer, 503, code or answer.code)
        assert answer.code.startswith("store_"), answer
        at_most(seconds, (deadline + 0.3) * SLOW, f"{method} without Redis")
    for method, path, body, bearer, ended in endings:
        begun = clock()
        answer = daemon.call(method, path, body, bearer)
        check_ended(answer, ended, durability="pending")
        assert answer.status == 202, answer
        at_most(clock() - begun, (deadline + 0.3) * SLOW, "the end of a session without Redis")
    check_dead(daemon.validate(access), "kicked", "service")
    check_dead(daemon.validate(never_issued()), "unknown")
    check_problem(daemon.check("sa_x", key="sk_" + "w" * 43), 401, "key_invalid")


class Nowhere:
    """An address where nothing listens."""

    def nodes(self):
        return ["127.0.0.1:9"]


FAKES = {
    "garbage": b"\x00\xff garbage\r\n\r\n",
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "an endless bulk": b"$999999999\r\nabc",
    "a negative array": b"*-7\r\n",
    "nested arrays": b"*1\r\n" * 50,
    "an unknown error": b"-SURPRISE what\r\n",
    "nil": b"$-1\r\n",
    "a number": b":42\r\n",
    "an empty array": b"*0\r\n",
    "more answers than questions": b"+OK\r\n" * 20,
    "silence": None,
    "loading": b"-LOADING Redis is loading the dataset in memory\r\n",
    "no auth": b"-NOAUTH Authentication required.\r\n",
}


@pytest.mark.parametrize("mode", ["standalone", "cluster"])
@pytest.mark.parametrize("what", FAKES)
def test_a_redis_that_answers_nonsense_means_503(start, issued, what, mode):
    fake = FakeRedis(FAKES[what])
    try:
        daemon = start(redis=fake, ready="/livez", key_file=issued.node.key_file, redis__mode=mode,
                       redis__timeout="300ms", redis__connect_timeout="200ms")
        if what in ("nil", "an empty array", "a number") and mode == "standalone":
            answer = daemon.validate(issued.good["access_token"])
            assert answer.status in (401, 503), answer
            assert daemon.try_login(unique()).status == 503
        else:
            access = issued.good["access_token"]
            for _ in range(2):
                begun = clock()
                for answer in (daemon.validate(access), daemon.check(access),
                               daemon.try_login(unique())):
                    assert answer.status == 503, (what, answer)
                    check_problem(answer, 503, answer.code)
                at_most(clock() - begun, 3 * 0.7 * SLOW, "three answers of a strange Redis")
        daemon.stop()
    finally:
        fake.stop()


@pytest.mark.parametrize("mode", ["standalone", "cluster"])
def test_a_redis_that_is_not_there_means_503_everywhere(start, issued, mode):
    daemon = start(redis=Nowhere(), ready="/livez", key_file=issued.node.key_file,
                   redis__mode=mode)
    check_all_503(daemon, issued)


def test_silence_means_503_within_the_deadline(start, issued):
    fake = FakeRedis(None)
    try:
        daemon = start(redis=fake, ready="/livez", key_file=issued.node.key_file,
                       redis__mode="standalone", redis__timeout="400ms",
                       redis__connect_timeout="300ms", redis__wait_timeout="50ms")
        check_all_503(daemon, issued, deadline=0.4)
        daemon.stop()
    finally:
        fake.stop()


@pytest.fixture(scope="module")
def guarded(workspace):
    server = SingleRedis(workspace / "guarded", password="correct horse")
    try:
        yield server.start()
    finally:
        server.stop()


def test_the_right_password_opens_the_door(start, guarded, tmp_path):
    daemon = start(redis=guarded, redis__mode="standalone",
                   redis__password_file=password_file(tmp_path / "pw", "correct horse\n"))
    assert daemon.is_alive(daemon.login()["access_token"])


@pytest.mark.parametrize("password", ["wrong", None])
def test_a_wrong_or_missing_password_means_503_store_denied(start, guarded, issued, tmp_path,
                                                            password):
    options = {"redis__mode": "standalone"}
    if password:
        options["redis__password_file"] = password_file(tmp_path / "pw", password)
    daemon = start(redis=guarded, ready="/livez", key_file=issued.node.key_file, **options)
    check_all_503(daemon, issued, "store_denied")
    said = daemon.node.log_text().replace("WRONGPASS", "").replace(str(tmp_path), "")
    assert "wrong" not in said


def test_a_missing_password_file_is_refused_at_start(start, guarded, tmp_path):
    daemon = start(redis=guarded, begin_now=False, redis__mode="standalone",
                   redis__password_file=tmp_path / "none")
    daemon.node.spawn()
    assert daemon.node.process.wait(10) != 0
    daemon.node.process = None
    assert str(tmp_path / "none") in daemon.node.log_text()


def test_a_new_password_is_taken_over_by_reload(start, guarded, tmp_path):
    path = password_file(tmp_path / "pw", "wrong")
    daemon = start(redis=guarded, ready="/livez", redis__mode="standalone",
                   redis__password_file=path)
    assert daemon.try_login(unique()).status == 503
    password_file(path, "correct horse")
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: daemon.try_login(unique()).status == 201, 5, "logins work")


def test_new_redis_addresses_are_taken_over_by_reload(start, cluster):
    daemon = start(redis=Nowhere(), ready="/livez")
    assert daemon.try_login(unique()).status == 503
    daemon.node.write_config(redis__nodes=" ".join(cluster.nodes()))
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: daemon.try_login(unique()).status == 201, 5, "logins work")


def test_one_living_seed_is_enough(start, cluster):
    dead = "127.0.0.1:9 127.0.0.1:10 no-such-host.invalid:1"
    daemon = start(redis__nodes=f"{dead} {cluster.nodes()[4]}")
    assert daemon.is_alive(daemon.login()["access_token"])


def test_standalone_mode_does_the_whole_job(issued):
    user = unique()
    one = issued.login(user, device={"id": "a"})
    two = issued.login(user, device={"id": "b"})
    assert issued.validate(one["access_token"]).json["user_id"] == user
    new = issued.refresh(one["refresh_token"]).json
    assert issued.is_alive(new["access_token"])
    answer = issued.kick(user, two["session_id"])
    check_ended(answer, [two["session_id"]], durability="accepted")
    check_dead(issued.validate(two["access_token"]), "kicked", "service")
    assert issued.devices(user)["total"] == 1


def test_without_wait_the_durability_is_accepted(start):
    daemon = start(redis__wait_timeout=0)
    login = daemon.login()
    check_ended(daemon.kick(login["user_id"], login["session_id"]), [login["session_id"]],
                durability="accepted")


@pytest.fixture
def own_redis(tmp_path):
    server = SingleRedis(tmp_path / "redis")
    try:
        yield server.start()
    finally:
        server.stop()


def test_redis_that_goes_and_comes_back_empty_or_not_is_found_again(start, own_redis):
    daemon = start(redis=own_redis, redis__mode="standalone", redis__wait_timeout=0)
    login = daemon.login()
    own_redis.stop()
    answer = daemon.validate(login["access_token"])
    assert answer.status in (200, 503), answer
    check_problem(daemon.try_login(unique()), 503, "store_unavailable")
    ready = daemon.node.ops.call("GET", "/readyz")
    assert ready.status == 200 and ready.json["status"] == "warn", ready
    assert daemon.node.ops.call("GET", "/livez").status == 200
    own_redis.start()
    wait_until(lambda: daemon.try_login(unique()).status == 201, 3, "logins work again")
    wait_until(lambda: daemon.node.ops.call("GET", "/readyz").json["status"] == "pass", 3,
               "ready again")


def test_a_frozen_redis_means_503_within_the_deadline_and_then_works_again(start, own_redis):
    daemon = start(redis=own_redis, redis__mode="standalone")
    daemon.login()
    os.kill(own_redis.process.pid, signal.SIGSTOP)
    try:
        for _ in range(3):
            begun = clock()
            answer = daemon.try_login(unique())
            assert answer.status == 503, answer
            at_most(clock() - begun, 0.8 * SLOW, "an answer with Redis frozen")
    finally:
        os.kill(own_redis.process.pid, signal.SIGCONT)
    wait_until(lambda: daemon.try_login(unique()).status == 201, 3, "logins work again")


def test_a_row_of_logins_of_one_user_ends_with_its_deadline_when_redis_hangs(start, own_redis):
    """They go one after the other: the late ones must not wait for each other's deadlines as well."""
    daemon, user = start(redis=own_redis, redis__mode="standalone"), unique()
    daemon.login(user)
    os.kill(own_redis.process.pid, signal.SIGSTOP)
    try:
        began = clock()
        answers = at_once(60, lambda n: daemon.try_login(user))
        took = clock() - began
    finally:
        os.kill(own_redis.process.pid, signal.SIGCONT)
    assert {answer.status for answer in answers} == {503}, answers
    at_most(took, 1.2 * SLOW, "sixty logins of one user")
    wait_until(lambda: daemon.try_login(user).status == 201, 5, "logins work again")


def test_no_answer_reaches_the_wrong_caller_after_a_timeout(start, own_redis):
    """A late answer of a connection that timed out must never be taken for another's."""
    daemon = start(redis=own_redis, redis__mode="standalone", redis__wait_timeout=0,
                   redis__timeout=f"{int(150 * SLOW)}ms",
                   redis__connect_timeout=f"{int(100 * SLOW)}ms")
    logins = [daemon.login() for _ in range(10)]
    for login in logins:
        os.kill(own_redis.process.pid, signal.SIGSTOP)
        daemon.validate(login["access_token"])
        os.kill(own_redis.process.pid, signal.SIGCONT)
        for other in logins:
            answer = daemon.validate(other["access_token"])
            assert answer.status in (200, 503), answer
            if answer.status == 200:
                assert answer.json["user_id"] == other["user_id"]


def many_waiting(daemon, count):
    """Connections whose login waits for a frozen Redis."""
    waiting = []
    for _ in range(count):
        body = json.dumps({"user_id": unique()}).encode()
        raw = RawSocket(daemon.node.port)
        raw.send(head("POST", "/v1/login", f"Authorization: Bearer {SERVICE}",
                      "Content-Type: application/json", f"Content-Length: {len(body)}") + body)
        waiting.append(raw)
    return waiting


def test_clients_that_go_away_while_redis_is_frozen_harm_nobody(start, own_redis):
    daemon = start(redis=own_redis, redis__mode="standalone")
    daemon.login()
    os.kill(own_redis.process.pid, signal.SIGSTOP)
    accepted = daemon.node.metric("sessiond_connections_accepted_total")
    try:
        for number, raw in enumerate(many_waiting(daemon, 60)):
            if number % 2:
                raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.socket.close()
        wait_until(lambda: daemon.node.metric("sessiond_connections_accepted_total") >= accepted + 60, 5,
                   "all have been there")
    finally:
        os.kill(own_redis.process.pid, signal.SIGCONT)
    wait_until(lambda: daemon.try_login(unique()).status == 201, 5, "logins work")
    wait_until(lambda: daemon.node.metric("sessiond_store_pending") == 0, 3, "nothing is pending")
    wait_until(lambda: daemon.node.metric("sessiond_connections") <= 2, 3, "nobody is connected")


def test_sigterm_while_redis_is_frozen_answers_503_and_ends_well(start, own_redis):
    daemon = start(redis=own_redis, redis__mode="standalone")
    daemon.login()
    os.kill(own_redis.process.pid, signal.SIGSTOP)
    try:
        waiting = many_waiting(daemon, 20)
        # Logins that were sent so slowly that the first ones have their 503 by now are good for the rest.
        comes_true(lambda: daemon.node.metric("sessiond_store_pending") >= 20, 1)
        begun = clock()
        daemon.node.signal(signal.SIGTERM)
        assert [raw.answer().status for raw in waiting] == [503] * 20
        assert daemon.node.process.wait(10 * SLOW) == 0
        at_most(clock() - begun, 3 * SLOW, "the end with Redis frozen")
    finally:
        os.kill(own_redis.process.pid, signal.SIGCONT)
    for raw in waiting:
        raw.socket.close()


def test_a_redis_that_is_out_of_memory_refuses_logins_and_serves_validations(start, own_redis):
    daemon = start(redis=own_redis, redis__mode="standalone")
    token = daemon.login()["access_token"]
    with Redis(own_redis.port) as node:
        node.call("CONFIG", "SET", "maxmemory", "1mb")
        node.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        check_problem(daemon.try_login(unique()), 503, "store_refused")
        assert daemon.is_alive(token)
        node.call("CONFIG", "SET", "maxmemory", "0")
    assert daemon.try_login(unique()).status == 201


def check_known_as_ended(daemon, login, reason):
    """Nothing that its tokens open is open, and none of the answers is 503."""
    problem = check_problem(daemon.refresh(login["refresh_token"]), 401, "refresh_invalid")
    assert problem["reason"] == reason
    for method, path in (("GET", "/v1/validate"), ("GET", "/v1/devices"),
                         ("GET", "/v1/session/attributes"), ("POST", "/v1/logout-all")):
        check_dead(daemon.call(method, path, None, login["access_token"]), reason)


def test_sessions_that_were_ended_here_are_refused_while_redis_takes_no_writes(start, own_redis):
    daemon = start(redis=own_redis, redis__mode="standalone", redis__wait_timeout=0)
    before, meanwhile, frozen_one = daemon.login(), daemon.login(), daemon.login()
    assert daemon.kick(before["user_id"], before["session_id"]).status == 200
    with Redis(own_redis.port) as node:
        node.call("CONFIG", "SET", "maxmemory", "1mb")
        node.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        answer = daemon.call("POST", "/v1/logout", None, meanwhile["access_token"])
        check_ended(answer, [meanwhile["session_id"]], "pending")
        answer = daemon.call("POST", f"/v1/users/{frozen_one['user_id']}/freeze", {}, SERVICE)
        assert answer.status == 202, answer
        check_known_as_ended(daemon, before, "kicked")
        check_known_as_ended(daemon, meanwhile, "logged_out")
        check_known_as_ended(daemon, frozen_one, "frozen")
        check_problem(daemon.kick(before["user_id"], before["session_id"]), 404,
                      "session_not_found")
        node.call("CONFIG", "SET", "maxmemory", "0")


def test_sessions_that_were_ended_here_are_refused_while_redis_is_silent(start, own_redis):
    daemon = start(redis=own_redis, redis__mode="standalone", redis__wait_timeout=0)
    before, meanwhile, other = daemon.login(), daemon.login(), daemon.login()
    assert daemon.kick(before["user_id"], before["session_id"]).status == 200
    with frozen(own_redis.process.pid):
        answer = daemon.call("POST", "/v1/logout", None, meanwhile["access_token"])
        check_ended(answer, [meanwhile["session_id"]], "pending")
        check_known_as_ended(daemon, before, "kicked")
        check_known_as_ended(daemon, meanwhile, "logged_out")
        assert daemon.refresh(other["refresh_token"]).status == 503, "unknown is never invalid"


def test_scripts_that_redis_forgot_are_sent_again(start, own_redis):
    daemon = start(redis=own_redis, redis__mode="standalone")
    for _ in range(3):
        login = daemon.login()
        with Redis(own_redis.port) as node:
            node.call("SCRIPT", "FLUSH")
        assert daemon.kick(login["user_id"], login["session_id"]).status == 200


def test_connections_cut_by_redis_are_made_again(start, own_redis):
    daemon = start(redis=own_redis, redis__mode="standalone")
    token = daemon.login()["access_token"]
    for _ in range(5):
        with Redis(own_redis.port) as node:
            node.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert daemon.is_alive(token)
        wait_until(lambda: daemon.try_login(unique()).status == 201, 2, "logins work")


@pytest.mark.parametrize("mode", ["standalone", "cluster", "sentinel"])
def test_a_node_that_never_reached_redis_is_not_ready_and_says_why(start, mode):
    redis = Nowhere()
    node = start(redis=redis, ready="/livez", redis__mode=mode).node

    def says_why():
        answer = node.ops.call("GET", "/readyz")
        assert answer.status == 503, answer
        assert answer.json["status"] == answer.json["checks"]["slot_map"] == "fail", answer
        why = answer.json["why"]["slot_map"]
        return all(word in why for word in (*redis.nodes(), "not reached", "refused"))
    wait_until(says_why, 5, "the reason names the server and what it did")


def test_a_node_is_ready_from_its_first_whole_slot_map_on_and_stays_so_in_an_outage(start, tmp_path):
    redis = SingleRedis(tmp_path / "late")
    daemon = start(redis=redis, ready="/livez", redis__mode="standalone",
                   redis__wait_timeout=0)

    def readiness():
        answer = daemon.node.ops.call("GET", "/readyz")
        return answer.status, answer.json["status"]
    assert readiness() == (503, "fail")
    try:
        redis.start()
        wait_until(lambda: readiness() == (200, "pass"), 5, "ready")
        assert daemon.node.ops.call("GET", "/readyz").json["why"] == {}
        redis.stop()
        wait_until(lambda: readiness() == (200, "warn"), 5, "a warning")
        why = daemon.node.ops.call("GET", "/readyz").json["why"]["store"]
        assert redis.nodes()[0] in why, why
        daemon.stop()
    finally:
        redis.stop()


def test_starting_without_redis_is_possible_and_heals(start, tmp_path):
    server = SingleRedis(tmp_path / "late")
    daemon = start(redis=server, ready="/livez", redis__mode="standalone")
    assert daemon.try_login(unique()).status == 503
    try:
        server.start()
        wait_until(lambda: daemon.try_login(unique()).status == 201, 5, "logins work")
        daemon.stop()
    finally:
        server.stop()


def test_the_process_id_helper_finds_the_server(own_redis):
    assert process_id(own_redis.port) == own_redis.process.pid


# --- a Redis that is not the one that was meant ---------------------------------------------------
@pytest.fixture
def odd_redis(tmp_path):
    """Starts servers with options of their own."""
    servers = []

    def begin(*options, password=None):
        server = SingleRedis(tmp_path / f"odd{len(servers)}", password=password)
        servers.append(server)
        return server.start(*options)
    try:
        yield begin
    finally:
        for server in servers:
            server.stop()


def why_of(daemon):
    """(checks, reasons) of /readyz."""
    body = daemon.node.ops.call("GET", "/readyz").json
    return body["checks"], body["why"]


def wait_for_why(daemon, check, *words, state="warn"):
    def says_so():
        checks, why = why_of(daemon)
        return checks[check] == state and all(word in why[check] for word in words)
    wait_until(says_so, 10, f"{check} is {state}: {words}")


def told_once(daemon, event, *words):
    def lines():
        return [line for line in daemon.node.log_text().splitlines()
                if event in line and all(word in line for word in words)]
    wait_until(lines, 5, f"{event} {words} in the log")
    assert len(lines()) == 1, lines()


def check_code(daemon, code):
    wait_until(lambda: daemon.try_login(unique()).code == code, 5, code)
    check_problem(daemon.try_login(unique()), 503, code)


def test_a_plain_redis_in_cluster_mode_is_named(start, odd_redis):
    daemon = start(redis=odd_redis(), ready="/livez")
    wait_for_why(daemon, "slot_map", "cluster support disabled", state="fail")
    check_code(daemon, "store_unfit")
    told_once(daemon, "store_error", "cluster support disabled")


def test_a_cluster_node_in_standalone_mode_is_named(start, cluster):
    class One:
        def nodes(self):
            return cluster.nodes()[:1]
    daemon = start(redis=One(), ready="/livez", redis__mode="standalone")
    wait_for_why(daemon, "servers", "is a cluster node, but redis.mode is not cluster")
    told_once(daemon, "store_unfit", "is a cluster node")

    # A third of the users lie on this node.
    def codes():
        return {daemon.try_login(unique()).code for _ in range(10)}
    wait_until(lambda: "store_unfit" in codes(), 5, "the code of calls for other nodes")


def test_an_evicting_policy_and_no_replica_are_warned_of_and_forgotten_when_mended(
        start, odd_redis):
    server = odd_redis("--maxmemory-policy", "allkeys-lru")
    daemon = start(redis=server, redis__mode="standalone")
    wait_for_why(daemon, "servers", "maxmemory-policy is allkeys-lru", "has no replica",
                 "redis.wait_timeout = 0")
    assert daemon.node.ops.call("GET", "/readyz").status == 200
    told_once(daemon, "store_unfit", "allkeys-lru")
    assert daemon.try_login(unique()).status == 201
    with Redis(server.port) as node:
        node.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    daemon.node.write_config(redis__wait_timeout=0)
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: why_of(daemon)[0]["servers"] == "pass", 10, "all is well")


def test_a_redis_older_than_7_is_named(start, odd_redis):
    server = odd_redis()

    def script(words, reply):
        if words[0] == b"INFO":
            text = reply(words)
            found = re.search(rb"redis_version:[0-9.]+", text).group()
            old = b"redis_version:6.2.14"
            return text.replace(found, old.ljust(len(found))[:len(found)])
        if words[0] in (b"EVAL", b"EVALSHA") and words[3].startswith(b"sd:u:"):
            return b"-ERR Unsupported option GT\r\n"
        return None
    old = ScriptedRedis(server.port, script)
    try:
        daemon = start(redis=old, redis__mode="standalone", redis__wait_timeout=0)
        wait_for_why(daemon, "servers", "Redis 6.2.", "is older than 7.0")
        check_code(daemon, "store_unfit")
        told_once(daemon, "store_unfit", "is older than 7.0")
        told_once(daemon, "store_error", "Unsupported option GT")
        daemon.stop()
    finally:
        old.stop()


@pytest.mark.parametrize("mode", ["standalone", "cluster"])
@pytest.mark.parametrize("case", ["wrong", "missing", "surplus", "unknown user"])
def test_what_redis_says_of_credentials_is_told_once_and_in_readyz(start, odd_redis, tmp_path, mode,
                                                                  case):
    cluster_options = ("--cluster-enabled", "yes") if mode == "cluster" else ()
    server = odd_redis(*cluster_options, password=None if case == "surplus" else "right-secret")
    words = {"wrong": "WRONGPASS", "missing": "NOAUTH", "unknown user": "WRONGPASS",
             "surplus": "without any password configured"}[case]
    options = {"redis__mode": mode}
    if case != "missing":
        secret = "right-secret" if case == "unknown user" else "wrong-secret"
        options["redis__password_file"] = password_file(tmp_path / "pw", secret)
    if case == "unknown user":
        options["redis__user"] = "nobody"
    daemon = start(redis=server, ready="/livez", **options)
    wait_for_why(daemon, "slot_map", server.nodes()[0], words, state="fail")
    check_code(daemon, "store_denied")
    told_once(daemon, "store_connect_failed", words)
    assert "-secret" not in daemon.node.log_text()


def test_a_server_that_does_not_know_auth_and_quotes_the_password_is_not_repeated(
        start, odd_redis, tmp_path):
    def script(words, reply):
        if words[0] == b"AUTH":
            return (b"-ERR unknown command 'AUTH', with args beginning with: 'the-secret' \r\n")
        return None
    odd = ScriptedRedis(odd_redis().port, script)
    try:
        daemon = start(redis=odd, ready="/livez", redis__mode="standalone", log__level="debug",
                       redis__password_file=password_file(tmp_path / "pw", "the-secret"))
        wait_for_why(daemon, "slot_map", "refuses AUTH", state="fail")
        check_code(daemon, "store_denied")
        assert "the-secret" not in daemon.node.log_text()
        daemon.stop()
    finally:
        odd.stop()


def test_a_redis_that_is_full_says_so(start, odd_redis):
    server = odd_redis("--maxclients", "1")
    with Redis(server.port) as holder:
        assert holder.call("PING") == "PONG"
        daemon = start(redis=server, ready="/livez", redis__mode="standalone")
        wait_for_why(daemon, "slot_map", "max", "clients", state="fail")
        check_code(daemon, "store_unavailable")
        told_once(daemon, "store_connect_failed", "clients")
        holder.call("CONFIG", "SET", "maxclients", "100")
    wait_until(lambda: daemon.try_login(unique()).status == 201, 10, "logins work")


def test_words_of_redis_are_cleaned_and_bounded(start, odd_redis):
    def script(words, reply):
        if words[0] in (b"EVAL", b"EVALSHA") and words[3].startswith(b"sd:u:"):
            return b'-OOM \x1b[31m"quoted" ' + b"x" * 5000 + b"\r\n"
        return None
    odd = ScriptedRedis(odd_redis().port, script)
    try:
        daemon = start(redis=odd, redis__mode="standalone", redis__wait_timeout=0)
        check_problem(daemon.try_login(unique()), 503, "store_refused")
        checks, why = why_of(daemon)
        assert checks["store"] == "warn" and "OOM ?[31m?quoted? xxx" in why["store"], why
        assert len(why["store"]) < 300
        told_once(daemon, "store_error", "OOM ?[31m?quoted? xxx")
        daemon.stop()
    finally:
        odd.stop()


def test_info_that_is_not_permitted_is_only_a_warning(start, odd_redis):
    server = odd_redis()
    with Redis(server.port) as admin:
        admin.call("ACL", "SETUSER", "default", "-info")
        daemon = start(redis=server, redis__mode="standalone", redis__wait_timeout=0)
        wait_for_why(daemon, "servers", "INFO", "NOPERM")
        assert daemon.node.ops.call("GET", "/readyz").status == 200
        assert daemon.try_login(unique()).status == 201
        admin.call("ACL", "SETUSER", "default", "+info")
    wait_until(lambda: why_of(daemon)[0]["servers"] == "pass", 15, "well again")
