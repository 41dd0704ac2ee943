"""Redis away, broken, slow or hostile: 503 within the deadline and never 401; then back again."""

import json
import os
import signal
import socket
import struct
import time

import pytest

from checks import check_dead, check_ended, check_problem
from client import RawSocket, Redis
from daemon import SERVICE, Daemon, unique
from redis_servers import SLOW, FakeRedis, SingleRedis, process_id, wait_until
from test_http import head
from test_parallel import at_once
from test_validate import never_issued


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
    """What needs Redis answers 503 in time, whoever asks; what ends sessions is kept and answered
    202; never-issued tokens are refused as ever."""
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
        ("DELETE", f"/v1/devices/{session}", None, access),
    ]
    endings = [
        ("DELETE", f"/v1/users/{user}/devices/{session}", None, SERVICE, [session]),
        ("POST", f"/v1/users/{user}/logout-all", {}, SERVICE, []),
        ("POST", "/v1/logout", None, access, [session]),
    ]
    for method, path, body, bearer in calls:
        begun = time.monotonic()
        answer = daemon.call(method, path, body, bearer)
        seconds = time.monotonic() - begun
        assert answer.status == 503, (method, path, answer)
        check_problem(answer, 503, code or answer.code)
        assert answer.code.startswith("store_"), answer
        assert seconds < (deadline + 0.3) * SLOW, (method, path, seconds)
    for method, path, body, bearer, ended in endings:
        begun = time.monotonic()
        answer = daemon.call(method, path, body, bearer)
        check_ended(answer, ended, durability="pending")
        assert answer.status == 202 and time.monotonic() - begun < (deadline + 0.3) * SLOW, answer
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
                begun = time.monotonic()
                for answer in (daemon.validate(access), daemon.check(access),
                               daemon.try_login(unique())):
                    assert answer.status == 503, (what, answer)
                    check_problem(answer, 503, answer.code)
                assert time.monotonic() - begun < 3 * 0.7 * SLOW
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


def password_file(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


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
    daemon = start(redis=own_redis, redis__mode="standalone")
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
            begun = time.monotonic()
            answer = daemon.try_login(unique())
            assert answer.status == 503, answer
            assert time.monotonic() - begun < 0.8 * SLOW
    finally:
        os.kill(own_redis.process.pid, signal.SIGCONT)
    wait_until(lambda: daemon.try_login(unique()).status == 201, 3, "logins work again")


def test_a_row_of_logins_of_one_user_ends_with_its_deadline_when_redis_hangs(start, own_redis):
    """They go one after the other: the late ones must not wait for each other's deadlines as well."""
    daemon, user = start(redis=own_redis, redis__mode="standalone"), unique()
    daemon.login(user)
    os.kill(own_redis.process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answers = at_once(60, lambda n: daemon.try_login(user))
        took = time.monotonic() - began
    finally:
        os.kill(own_redis.process.pid, signal.SIGCONT)
    assert {answer.status for answer in answers} == {503}, answers
    assert took < 1.2 * SLOW, took
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
    try:
        for number, raw in enumerate(many_waiting(daemon, 60)):
            if number % 2:
                raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.socket.close()
        time.sleep(0.2)
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
        time.sleep(0.1)
        begun = time.monotonic()
        daemon.node.signal(signal.SIGTERM)
        assert [raw.answer().status for raw in waiting] == [503] * 20
        assert daemon.node.process.wait(10 * SLOW) == 0
        assert time.monotonic() - begun < 3 * SLOW
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
