"""Redis answers with errors, with replies of others, or with nonsense."""

import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from bounds import at_most
from client import Redis, RedisError
from daemon import SERVICE, password_file, unique
from faults import AT_ONCE, BUDGET, TIMES, Trial, readiness
from parallel import at_once
from proxy import ProxyLoop
from redis_servers import SingleRedis, free_port, wait_until
from redis_view import slot_of, tenant_slot
from scripted_redis import ScriptedRedis, array, bulk, slot_map

ALONE = dict(TIMES, redis__mode="standalone", redis__wait_timeout=0)
READS = {b"HMGET", b"HGETALL"}
SCRIPTS = {b"EVALSHA", b"EVAL"}


@pytest.fixture
def single(tmp_path):
    server = SingleRedis(tmp_path / "redis")
    try:
        yield server.start()
    finally:
        if server.process:
            os.kill(server.process.pid, signal.SIGCONT)
        server.stop()


@pytest.fixture
def scripted():
    """Makes servers that answer by a script; they stop after the test."""
    servers = []

    def make(target, script):
        servers.append(ScriptedRedis(target, script))
        return servers[-1]
    yield make
    for server in servers:
        server.stop()


def errors_of(port, name):
    """How often a Redis server answered an error."""
    with Redis(port) as node:
        line = node.info("errorstats").get(f"errorstat_{name}", "count=0")
    return int(line.split("count=")[1])


def check_503(answer, code=None):
    assert answer.status == 503, answer
    at_most(answer.seconds, BUDGET, "an answer")
    assert code in (None, answer.code), answer


def is_ipv6_there():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


@pytest.mark.parametrize("host", ["", "localhost", "::1"])
def test_moved_in_every_spelling(start, single, scripted, host):
    if host == "::1" and not is_ipv6_there():
        pytest.skip("no IPv6 here")
    loop = ProxyLoop()
    proxy = loop.proxy(free_port(), single.port, "::1" if host == "::1" else "127.0.0.1")

    name = "localhost" if host == "localhost" else ""
    address = host if host == "::1" else "127.0.0.1"

    def script(words, _):
        if words[:2] == [b"CLUSTER", b"SLOTS"]:
            return slot_map((0, 16383, fake.port))
        if words[:2] == [b"CLUSTER", b"NODES"]:
            return bulk(f"{'a' * 40} {address}:{proxy.port}@1,{name} master - 0 0 1 connected\n")
        if words[0] in READS | SCRIPTS:
            return f"-MOVED 1 {host}:{proxy.port}\r\n".encode()
        return None
    fake = scripted(single.port, script)
    try:
        daemon = start(redis=fake, **{**TIMES, "redis__wait_timeout": 0})
        trial = Trial(daemon)
        login = trial.login()
        trial.kick(trial.login())
        assert trial.validate(login).status == 200
        assert daemon.node.metric("sessiond_store_redirects_total") >= 4
        assert proxy.accepted > 0
        trial.aftermath()
        daemon.stop()
    finally:
        loop.stop()


def test_slots_without_a_server(start, single, scripted):
    known = {"map": b"*0\r\n"}

    def script(words, _):
        return known["map"] if words[:2] == [b"CLUSTER", b"SLOTS"] else None
    fake = scripted(single.port, script)
    daemon = start(redis=fake, ready="/livez", redis__map_refresh="1s",
                   **{**TIMES, "redis__wait_timeout": 0})
    trial = Trial(daemon)
    # The half that knows the tenant: without its policy none of its users can log in.
    half = range(0, 8192) if tenant_slot(daemon) < 8192 else range(8192, 16384)
    covered = next(user for user in iter(unique, None) if slot_of(daemon, user) in half)
    orphan = next(user for user in iter(unique, None) if slot_of(daemon, user) not in half)
    for user in (covered, orphan):
        check_503(trial.try_login(user), "store_unavailable")
    assert readiness(daemon.node)[1]["status"] == "fail", "it never had a map"
    known["map"] = slot_map((half.start, half.stop - 1, fake.port))
    wait_until(lambda: trial.try_login(covered).status == 201, 5, "half of the slots are known")
    for _ in range(5):
        check_503(trial.try_login(orphan), "store_unavailable")
        answer = trial.try_login(covered)
        assert answer.status == 201, answer
        at_most(answer.seconds, AT_ONCE * 2, "an answer at once")
    known["map"] = slot_map((0, 8191, fake.port), (8192, 16383, fake.port))
    wait_until(lambda: trial.try_login(orphan).status == 201, 5, "all slots are known")
    asked = sum(words[:2] == [b"CLUSTER", b"SLOTS"] for words in fake.seen)
    assert 3 <= asked < 100, f"{asked} maps fetched"
    trial.aftermath()


# --- credentials and permissions ------------------------------------------------------------------
def kick_out(node):
    """Ends every connection but our own, so that sessiond has to log in again."""
    node.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    node.call("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")


@pytest.mark.parametrize("error", ["NOAUTH", "WRONGPASS"])
def test_the_password_is_not_right_any_more(start, single, tmp_path, error):
    path = password_file(tmp_path / "password", "first")
    if error == "WRONGPASS":
        with Redis(single.port) as node:
            node.call("CONFIG", "SET", "requirepass", "first")
        single.password = "first"
    daemon = start(redis=single, **ALONE,
                   redis__password_file=path if error == "WRONGPASS" else "")
    trial = Trial(daemon)
    seen = trial.login()
    trial.know_everywhere()
    trial.kick(trial.login())
    logged = len(daemon.node.log_text())
    with Redis(single.port, single.password) as node:
        node.call("CONFIG", "SET", "requirepass", "second")
        kick_out(node)
        wait_until(lambda: trial.try_login().status == 503, 2, "the store refuses")
        check_503(trial.try_login(), "store_denied")
        assert trial.validate(seen).status in (200, 503)
        assert readiness(daemon.node)[1]["status"] == "warn"

        def refused():
            return int(node.info("errorstats")[f"errorstat_{error}"].split("count=")[1])
        before, begun = refused(), time.monotonic()
        attempts = wait_until(lambda: (count := refused() - before) >= 30 and count, 30, "it is tried again")
        seconds = time.monotonic() - begun
        assert attempts < 20 + 40 * seconds, f"{attempts} attempts in {seconds} s"
    assert len(daemon.node.log_text()) > logged, "an alarm in the log"
    trial.check_audit()
    assert any("store_denied" in map(str, line.values()) for line in daemon.node.audit_lines())
    if error == "NOAUTH":
        daemon.node.write_config(redis__password_file=path)
    connection = daemon.node.client.connection()
    password_file(path, "second")
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: trial.try_login().status == 201, 5, "the new password is taken")
    assert daemon.node.client.connection() is connection, "no connection of clients was dropped"
    trial.aftermath()


def test_a_command_is_not_permitted(start, single):
    daemon = start(redis=single, **ALONE)
    trial = Trial(daemon)
    login = trial.login()
    opened = daemon.node.metric("sessiond_breaker_opened_total")
    sent = daemon.node.metric("sessiond_store_commands_total")
    with Redis(single.port) as node:
        node.call("ACL", "SETUSER", "default", "-evalsha", "-eval")
        for _ in range(10):
            check_503(trial.try_login(), "store_denied")
            assert trial.validate(login).status in (200, 503)
        assert node.info("errorstats")["errorstat_NOPERM"] is not None
        node.call("ACL", "SETUSER", "default", "+@all")
    assert daemon.node.metric("sessiond_store_commands_total") - sent <= 10 * 3 + 20
    assert daemon.node.metric("sessiond_breaker_opened_total") == opened
    wait_until(lambda: trial.try_login().status == 201, 3, "the command is permitted again")
    trial.aftermath()


# --- no writes ------------------------------------------------------------------------------------
def out_of_memory(server, node):
    node.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    node.call("CONFIG", "SET", "maxmemory", "1mb")


def cannot_save(server, node):
    """Its directory is gone, so that the next snapshot fails."""
    (server.directory / "redis.log").unlink(missing_ok=True)
    server.directory.rmdir()
    node.call("CONFIG", "SET", "save", "3600 1")
    node.call("BGSAVE")
    wait_until(lambda: node.info("persistence")["rdb_last_bgsave_status"] == "err", 5,
               "the snapshot fails")


def no_replicas(server, node):
    node.call("CONFIG", "SET", "min-replicas-to-write", "1")


REFUSALS = {"OOM": (out_of_memory, ("maxmemory", "0")), "MISCONF": (cannot_save, ("save", "")),
            "NOREPLICAS": (no_replicas, ("min-replicas-to-write", "0"))}


@pytest.mark.parametrize("error", REFUSALS)
def test_redis_takes_no_writes(start, single, error):
    harm, mend = REFUSALS[error]
    daemon = start(redis=single, cache__bytes=0, **ALONE)
    trial = Trial(daemon)
    user = unique()
    logins = [trial.login(user) for _ in range(3)]
    trial.kick(trial.login(user))
    opened = daemon.node.metric("sessiond_breaker_opened_total")
    with Redis(single.port) as node:
        harm(single, node)
        for _ in range(12):
            check_503(trial.try_login(), "store_refused")
            answer = trial.validate(logins[0])
            assert answer.status == 200, answer
            at_most(answer.seconds, AT_ONCE, "an answer at once")
            answer = trial.call("GET", f"/v1/users/{user}/devices", None, SERVICE)
            assert answer.status == 200 and len(answer.json["devices"]) == 3, answer
        answer = trial.kick(logins[2])
        assert answer.status in (202, 503), answer
        at_most(answer.seconds, BUDGET, "an answer")
        trial.nobody_gets_in()
        assert int(node.info("errorstats")[f"errorstat_{error}"].split("=")[1]) >= 12
        node.call("CONFIG", "SET", *mend)
    assert daemon.node.metric("sessiond_breaker_opened_total") == opened, "reads go on"
    assert trial.try_login().status == 201
    trial.aftermath()


def test_the_master_has_become_a_replica(start, single, scripted, tmp_path):
    other = SingleRedis(tmp_path / "other").start()
    known = {"map": b"", "new": None}

    def script(words, _):
        if words[:2] != [b"CLUSTER", b"SLOTS"]:
            return None
        if known["new"] and errors_of(single.port, "READONLY") > 0:
            known["map"] = known["new"]
        return known["map"]
    fake = scripted(single.port, script)
    known["map"] = slot_map((0, 16383, single.port))
    try:
        daemon = start(redis=fake, cache__bytes=0, **{**TIMES, "redis__wait_timeout": 0})
        trial = Trial(daemon)
        logins = [trial.login() for _ in range(4)]
        trial.kick(trial.login())
        with Redis(single.port) as old, Redis(other.port) as new:
            old.call("CONFIG", "SET", "repl-diskless-sync-delay", "0")
            new.call("REPLICAOF", "127.0.0.1", single.port)
            wait_until(lambda: new.info("replication")["master_link_status"] == "up", 10, "a copy")
            assert old.call("WAIT", 1, 2000) == 1
            new.call("REPLICAOF", "NO", "ONE")
            known["new"] = slot_map((0, 16383, other.port))
            old.call("REPLICAOF", "127.0.0.1", other.port)
        answers = at_once(6, lambda n: trial.try_login(unique()))
        assert {answer.status for answer in answers} == {201}, answers
        at_most(max(answer.seconds for answer in answers), BUDGET, "an answer")
        assert trial.kick(logins[0]).status == 200
        assert errors_of(single.port, "READONLY") >= 1, "the fault was there"
        trial.aftermath()
        daemon.stop()
    finally:
        other.stop()


# --- loading, busy, without a master --------------------------------------------------------------
def error_word(port):
    """The first word of what the server answers to a harmless read."""
    try:
        with Redis(port, timeout=2) as node:
            node.call("GET", "x")
            return "OK"
    except RedisError as error:
        return str(error).split()[0]
    except OSError:
        return "away"


def unwell(start, single):
    """A daemon, a trial, a session that its cache has and one that it has not."""
    daemon = start(count=2, redis=single, **ALONE)
    trial = Trial(daemon)
    seen = trial.login()
    trial.know_everywhere()
    unseen = trial.login()
    trial.kick(trial.login())
    return daemon, trial, seen, unseen


def check_unwell(trial, single, error, seen, unseen, seconds=1.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        check_503(trial.try_login(node=1))
        check_503(trial.validate(unseen, 1))
        answer = trial.validate(seen, 1)
        assert answer.status == 200, answer
        at_most(answer.seconds, BUDGET, "an answer")
    assert error_word(single.port) == error, "the fault lasted"
    trial.nobody_gets_in()


def test_loading(start, single):
    _, trial, seen, unseen = unwell(start, single)
    with Redis(single.port) as node:
        node.call("EVAL", "for i = 1, 60000 do redis.call('set', 'k' .. i, i) end", 0)
        node.call("SAVE")
    single.stop()
    single.process = subprocess.Popen(
        ["redis-server", "--port", str(single.port), "--bind", "127.0.0.1", "--save", "",
         "--dir", str(single.directory), "--logfile", "redis.log", "--key-load-delay", "2000",
         "--loading-process-events-interval-bytes", "1024"])
    wait_until(lambda: error_word(single.port) == "LOADING", 5, "Redis is loading")
    check_unwell(trial, single, "LOADING", seen, unseen)
    with Redis(single.port) as node:  # two minutes would be left
        node.call("CONFIG", "SET", "key-load-delay", 0)
    wait_until(lambda: error_word(single.port) == "OK", 10, "Redis has loaded")
    trial.aftermath()


def test_busy(start, single):
    daemon, trial, seen, unseen = unwell(start, single)

    def loop_for_ever():
        with pytest.raises(RedisError), Redis(single.port, timeout=30) as node:
            node.call("EVAL", "while true do end", 0)
    with Redis(single.port) as node:
        node.call("CONFIG", "SET", "busy-reply-threshold", "50")
    thread = threading.Thread(target=loop_for_ever)
    thread.start()
    try:
        wait_until(lambda: error_word(single.port) == "BUSY", 5, "a script goes on and on")
        check_unwell(trial, single, "BUSY", seen, unseen)
    finally:
        with Redis(single.port) as node:
            node.call("SCRIPT", "KILL")
        thread.join(10)
    with Redis(single.port) as node:
        assert node.command_counts()["script|kill"] == 1, "only we ended the script"
    assert daemon.node.metric("sessiond_store_commands_total") > 0
    trial.aftermath()


def test_masterdown(start, single):
    _, trial, seen, unseen = unwell(start, single)
    with Redis(single.port) as node:
        node.call("CONFIG", "SET", "replica-serve-stale-data", "no")
        node.call("REPLICAOF", "127.0.0.1", free_port())
        wait_until(lambda: error_word(single.port) == "MASTERDOWN", 5, "its master is down")
        check_unwell(trial, single, "MASTERDOWN", seen, unseen)
        node.call("REPLICAOF", "NO", "ONE")
    trial.aftermath()


def test_scripts_are_forgotten_under_load(start, single):
    trial = Trial(start(redis=single, **ALONE))
    stop = threading.Event()

    def forget():
        with Redis(single.port) as node:
            while not stop.wait(0.005):
                node.call("SCRIPT", "FLUSH")
    thread = threading.Thread(target=forget)
    thread.start()

    def live(number):
        user = unique(f"flush-{number}")
        for _ in range(25):
            answer = trial.try_login(user)
            assert answer.status == 201, answer
            login = next(entry for entry in trial.living
                         if entry["session_id"] == answer.json["session_id"])
            answer = trial.kick(login)
            assert answer.status == 200, answer
    try:
        at_once(4, live)
    finally:
        stop.set()
        thread.join()
    assert errors_of(single.port, "NOSCRIPT") >= 5, "scripts were forgotten"
    trial.dead = trial.dead[-10:]
    trial.aftermath()


# --- replies of others, of other types, too many --------------------------------------------------
@pytest.mark.parametrize("encryption", ["aes-128-gcm", "none"])
def test_replies_of_two_users_are_swapped(start, single, scripted, encryption):
    last, swapped = {}, threading.Event()
    count = {"swaps": 0}

    def script(words, ask):
        if words[0] not in READS or len(words) < 2:
            return None
        others = [reply for (name, key), reply in last.items()
                  if name == words[0] and key != words[1]]
        if swapped.is_set() and others:
            count["swaps"] += 1
            return others[0]
        last[words[0], words[1]] = reply = ask(words)
        return reply
    fake = scripted(single.port, script)
    daemon = start(redis=fake, cache__bytes=0, keys__encryption=encryption, **ALONE)
    trial = Trial(daemon)
    pair = [trial.login() for _ in range(2)]
    for login in pair:
        assert trial.validate(login).status == 200
        assert trial.call("GET", f"/v1/users/{login['user_id']}/devices", None, SERVICE).status == 200
    swapped.set()
    for _ in range(10):
        for login, other in (pair, pair[::-1]):
            answer = trial.call("GET", "/v1/validate", None, login["access_token"])
            assert answer.status != 200, answer
            answer = trial.call("GET", f"/v1/users/{login['user_id']}/devices", None, SERVICE)
            assert other["session_id"].encode() not in answer.body or encryption == "none", answer
            answer = trial.call("POST", "/v1/refresh", {"refresh_token": login["refresh_token"]})
            assert answer.status != 200, answer
    swapped.clear()
    assert count["swaps"] >= 40
    trial.aftermath()


WRONG_REPLIES = {
    "a number": b":1\r\n", "a status": b"+OK\r\n", "nil": b"$-1\r\n", "a nil array": b"*-1\r\n",
    "a string": b"$3\r\nabc\r\n", "an empty array": b"*0\r\n", "numbers": array(1, 2, 3, 4),
    "nested": array(bytearray(array("a", "b")), bytearray(array("c"))),
    "too short": array("x"), "too long": array(*["x"] * 41), "no reply at all": b"\r\n",
    "garbage": b"\x00\xfe\xff!!\r\n", "an endless string": b"$999999999\r\nabc",
}


@pytest.mark.parametrize("what", WRONG_REPLIES)
def test_replies_are_of_the_wrong_type(start, single, scripted, what):
    wrong = threading.Event()
    count = {"replies": 0}

    def script(words, _):
        if wrong.is_set() and words[0] in READS | SCRIPTS:
            count["replies"] += 1
            return WRONG_REPLIES[what]
        return None
    daemon = start(redis=scripted(single.port, script), cache__bytes=0,
                   **{**ALONE, "redis__timeout": "300ms"})
    trial = Trial(daemon)
    login = trial.login()
    trial.kick(trial.login())
    wrong.set()
    for _ in range(3):
        answer = trial.validate(login)
        assert answer.status == 503, answer
        at_most(answer.seconds, BUDGET, "an answer")
        if what != "an empty array":    # which is how a user without sessions looks
            check_503(trial.call("POST", "/v1/refresh", {"refresh_token": login["refresh_token"]}))
        check_503(trial.try_login())
        trial.nobody_gets_in()
    wrong.clear()
    assert count["replies"] >= 3
    trial.aftermath()


def look(trial, login):
    return trial.call("GET", "/v1/validate", None, login["access_token"])


def test_a_reply_too_many_shifts_all_that_follow(start, single, scripted):
    """The classic: a reply comes twice, so the next question gets the answer of the last."""
    twice = threading.Event()
    count = {"twice": 0}

    def script(words, ask):
        if words[0] in READS and twice.is_set():
            count["twice"] += 1
            return ask(words) * 2
        return None
    daemon = start(redis=scripted(single.port, script), cache__bytes=0, **ALONE)
    trial = Trial(daemon)
    logins = [trial.login() for _ in range(8)]
    trial.kick(trial.login())
    connects = daemon.node.metric("sessiond_store_connects_total")
    twice.set()
    for login in logins:
        look(trial, login)
    dropped = daemon.node.metric("sessiond_store_connects_total") - connects
    assert dropped >= len(logins) - 2, "a connection with a reply too many is dropped"
    for _ in range(5):
        # Each on its own, and all at once: then they are pipelined. A record of another user does not open.
        answers = at_once(8, lambda n: (logins[n], look(trial, logins[n])))
        for login, answer in answers + [(login, look(trial, login)) for login in logins]:
            assert answer.status != 200 or answer.json["session_id"] == login["session_id"], answer
        trial.nobody_gets_in()
    twice.clear()
    assert count["twice"] > 20
    trial.aftermath()
