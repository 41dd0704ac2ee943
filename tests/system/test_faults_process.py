"""Faults of the process itself: full disks, no files, no memory, restarts, reloads, a damaged journal."""

import contextlib
import http.client
import os
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest

from alert_receiver import Receiver, addresses, guess
from bounds import at_most
from broken_disks import break_by_directory, break_by_limit, mend_directory, mend_limit
from checks import check_problem
from client import Client, RawSocket
from daemon import BINARY, LARGE_STATE, SERVICE, is_instrumented, unique, write_key_file
from faults import (AT_ONCE, BUDGET, TIMES, BrokenCalls, Trial, count_of, cpu_seconds, is_well,
                    open_files, proxied_service, readiness, trial_on)
from redis_servers import SLOW, SingleRedis, for_a_while, wait_until


@pytest.fixture(scope="module")
def service(workspace):
    with proxied_service(workspace / "faults-process") as daemon:
        yield daemon


@pytest.fixture
def trial(service):
    with trial_on(service) as trial:
        yield trial


# --- disks ----------------------------------------------------------------------------------------
@pytest.fixture
def broken(tmp_path):
    return BrokenCalls(tmp_path)


def full(node, _):
    break_by_limit(node)
    return lambda: mend_limit(node)


def gone(node, _):
    break_by_directory(node)

    def mend():
        mend_directory(node)
        (node.directory / "kept.log").rename(node.directory / "audit.log.kept")
    return mend


def failing_write(node, broken):
    broken.order(f"write EIO {node.audit}")
    return broken.lift


def failing_sync(node, broken):
    broken.order(f"sync EIO {node.audit}")
    return broken.lift


@pytest.mark.parametrize("harm", [full, gone, failing_write, failing_sync])
def test_the_audit_disk_is_full_or_fails(start, broken, harm):
    daemon = start(begin_now=False, **TIMES)
    node = daemon.node.start(environment=broken.environment)
    trial = Trial(daemon)
    user = unique("disk")
    logins = [trial.login(user) for _ in range(3)]
    trial.know_everywhere()
    trial.kick(trial.login(user))
    number = node.audit.stat().st_ino
    mend = harm(node, broken)
    wait_until(lambda: trial.try_login(unique()).code == "audit_unavailable", 5,
               "changes are refused")
    devices = daemon.devices(user)["total"]
    for _ in range(10):
        for answer in (trial.try_login(user), trial.call(
                "POST", "/v1/refresh", {"refresh_token": logins[0]["refresh_token"]})):
            check_problem(answer, 503, "audit_unavailable")
        trial.nobody_gets_in()
    check_problem(trial.kick(logins[2]), 503, "audit_unavailable")
    assert daemon.devices(user)["total"] in (devices, devices - 1), "refused logins left nothing"
    assert node.metric("sessiond_audit_errors_total") >= 1
    mend()
    wait_until(lambda: trial.try_login(unique()).status == 201, 10, "changes work again")
    if harm is failing_sync:
        # The kernel may have dropped pages of it: it is kept, and not written to any more.
        assert node.audit.stat().st_ino != number
        assert number in [path.stat().st_ino for path in node.directory.glob("audit.log.*")]
    # A call that was refused because it could not be recorded is not on record, or late, and a
    # read may be there twice. Each acknowledged change is there, once.
    trial.sent = [{name: status for name, status in sent.items()
                   if status < 500 and name.startswith("trial-change-")} for sent in trial.sent]
    assert len(trial.sent[0]) >= 6
    trial.aftermath()


def test_the_audit_disk_is_slow(start, broken):
    daemon = start(begin_now=False, **TIMES)
    node = daemon.node.start(environment=broken.environment)
    trial = Trial(daemon)
    seen = trial.login()
    trial.know_everywhere()
    broken.order(f"sync 6000 {node.audit}")
    waiting = threading.Thread(target=trial.login)
    waiting.start()
    wait_until(lambda: broken.count() > 0, 3, "the disk is at work")
    wait_until(lambda: readiness(node)[1]["checks"]["audit"] != "pass", 5, "it is seen to be slow")
    for _ in range(5):
        answer = trial.try_login()
        check_problem(answer, 503, "audit_unavailable")
        at_most(answer.seconds, AT_ONCE, "an answer at once")
        answer = trial.validate(seen)
        assert answer.status == 200, answer
        at_most(answer.seconds, AT_ONCE, "an answer at once")
    assert waiting.is_alive()
    broken.lift()
    waiting.join()
    assert len(trial.living) == 2, "what was under way is answered when the disk has done its work"
    wait_until(lambda: trial.try_login().status == 201, 5, "changes work again")
    trial.aftermath()


@pytest.mark.parametrize("call", ["write", "sync"])
def test_the_journals_disk_fails(trial, service, broken, call):
    node = service.node
    node.stop()
    node.start(environment=broken.environment)
    logins = [trial.login(node=1) for _ in range(6)]
    trial.know_everywhere()
    with away(trial.cluster):
        pending_kicks(trial, logins[:2])
        broken.order(f"{call} EIO {journal_of(node)}")
        for login in logins[2:4]:
            check_problem(trial.kick(login), 503, "journal_unavailable")
            trial.nobody_gets_in([0])
        assert trial.validate(logins[5]).status == 200, "known sessions go on"
        assert readiness(node)[1]["checks"]["journal"] != "pass"
        assert node.metric("sessiond_journal_errors_total") >= 1
        broken.lift()
        wait_until(lambda: readiness(node)[1]["checks"]["journal"] == "pass", 5, "it is mended")
        pending_kicks(trial, logins[4:5])
        crash(trial)
        node.start("/livez")
        for login in logins[:2] + logins[4:5]:
            assert trial.validate(login, 0).status == 401, "at once, without Redis"
    trial.aftermath(restarted=True)


@pytest.mark.parametrize("call", ["write", "sync"])
def test_the_disk_of_alerts_and_snapshots_fails(start, broken, tmp_path, call):
    receiver = Receiver().up()
    secret = tmp_path / "webhook-secret"
    secret.write_text("x" * 32)
    secret.chmod(0o600)
    try:
        daemon = start(begin_now=False, **TIMES, cache__snapshot_interval=1,
                       alerts__webhook_url=receiver.url, alerts__webhook_secret_file=secret,
                       alerts__guesses_per_minute=1, server__trusted_proxies="127.0.0.0/8")
        node = daemon.node.start(environment=broken.environment)
        trial = Trial(daemon)
        seen, before = trial.login(), addresses(3)
        for address in before:
            guess(daemon, address, 2)
        receiver.wait(3)
        wait_until(node.options["cache.snapshot"].exists, 3, "a snapshot")
        broken.order(f"{call} EIO {node.directory / 'alerts'}", f"{call} EIO {node.directory / 'cache'}")
        for address in addresses(20, 1):
            guess(daemon, address, 2)
            assert trial.validate(seen).status == 200
            login = trial.login()
            trial.kick(login)
        wait_until(lambda: node.metric("sessiond_alerts_errors_total") >= 2
                   and node.metric("sessiond_snapshot_errors_total") >= 2, 5, "both have failed")
        at_most(trial.slowest, BUDGET, "the slowest answer")
        assert not node.options["cache.snapshot"].with_suffix(".new").exists()
        snapshot = node.options["cache.snapshot"].stat().st_mtime
        assert len(receiver.posts) == 3, "nothing is sent before it is on disk"
        broken.lift()
        told = [post.data["address"] for post in receiver.wait(23, 20)]
        assert told == before + addresses(20, 1), "all of them, in order"
        assert len({post.id for post in receiver.posts}) == len(receiver.posts) == 23
        wait_until(lambda: node.options["cache.snapshot"].stat().st_mtime > snapshot, 5, "saved again")
        wait_until(lambda: "snapshot_recovered" in node.log_text(), 5, "it is told")
        for word in ("alerts_failed", "alerts_recovered", "snapshot_failed", "snapshot_recovered"):
            assert count_of(word, node.log_text()) == 1, word
        trial.aftermath()
    finally:
        receiver.down()


# --- open files -----------------------------------------------------------------------------------
def few_files(count):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    return limit


def test_no_file_is_left(start, workspace):
    files = 256
    daemon = start(begin_now=False, **TIMES)
    node = daemon.node
    node.start(preexec_fn=few_files(files))
    trial = Trial(daemon)
    seen = trial.login()
    assert trial.validate(seen).status == 200
    trial.kick(trial.login())
    logged = node.log_text()
    # One at a time, so that most of them are really there.
    crowd = [RawSocket(node.port) for _ in range(files + 60)]
    try:
        wait_until(lambda: is_exhausted(node, files) or refused(node), 3, "files run out")
        used, begun = cpu_seconds(node.process.pid), time.monotonic()
        for _ in for_a_while(1.5, pause=0.05, least=5):
            answer = trial.validate(seen)
            assert answer.status == 200, answer
            answer = trial.try_login()
            assert answer.status == 201, answer
            trial.kick(trial.living[-1])
            trial.dead = trial.dead[-2:]
        busy = cpu_seconds(node.process.pid) - used
        at_most(busy / (time.monotonic() - begun), 0.47 * SLOW, "share of a processor without a file left")
        lines = count_of("\n", node.log_text()[len(logged):])
        assert lines <= 10, node.log_text()[len(logged):][:2000]
        trial.nobody_gets_in()
    finally:
        for raw in crowd:
            raw.socket.close()
    wait_until(lambda: Client(port=node.port).call(
        "GET", "/v1/validate", None, seen["access_token"]).status == 200, 5, "newcomers are served")
    trial.aftermath()


def is_exhausted(node, files):
    return open_files(node.process.pid) >= files - 12


def refused(node):
    return node.metric("sessiond_connections_refused_total") > 0


# --- memory ---------------------------------------------------------------------------------------
def data_bytes(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmData:"))


@pytest.mark.skipif(is_instrumented(), reason="sanitizers have their own memory")
def test_no_memory_is_left(start):
    daemon = start(**TIMES)
    node = daemon.node
    trial = Trial(daemon)
    living = [trial.login() for _ in range(5)]
    for _ in range(3):
        trial.kick(trial.login())
    trial.know_everywhere()
    room = data_bytes(node.process.pid) + 256 * 1024
    resource.prlimit(node.process.pid, resource.RLIMIT_DATA, (room, room))
    crowd, answers = [], set()
    while node.process.poll() is None and len(crowd) < 2000:
        with contextlib.suppress(OSError):
            raw = RawSocket(node.port, timeout=1)
            crowd.append(raw)
            raw.send(b"POST /v1/validate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                     b"Authorization: Bearer " + SERVICE.encode() +
                     b"\r\nContent-Length: 16000\r\n\r\n" + b" " * 15000)
        if len(crowd) % 20 == 0:
            for login in trial.dead + living[:1]:
                answer = trial.validate(login)
                answers.add(answer.status if answer else None)
    trial.check_no_lie()
    for raw in crowd:
        raw.socket.close()
    print(f"{len(crowd)} connections, answers {answers}, exit {node.process.poll()}")
    code = node.process.wait(5 * SLOW)
    assert code == -signal.SIGABRT, code
    assert "memory" in node.log_text()[-2000:], node.log_text()[-2000:]
    node.hang_up()
    trial.forgive_reads(0)
    node.start()
    trial.aftermath(restarted=True)


# --- restarts -------------------------------------------------------------------------------------
class Inherited:
    """A node whose listening socket belongs to us, as it belongs to systemd."""

    def __init__(self, node):
        self.node = node
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]

    def start(self):
        environment = dict(os.environ, LISTEN_FDS="1", LISTEN_FDNAMES="http")
        inherited = self.listener.fileno()
        command = f'exec 3<&{inherited}; LISTEN_PID=$$ exec "$0" --config "$1"'
        with open(self.node.log, "ab") as log:
            self.node.process = subprocess.Popen(
                ["/bin/bash", "-c", command, BINARY, str(self.node.config)],
                pass_fds=[inherited], env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log)
        self.node.wait_for("/livez")

    def restart(self):
        self.node.signal(signal.SIGTERM)
        assert self.node.process.wait(20 * SLOW) == 0, self.node.log_text()[-2000:]
        self.node.hang_up()
        self.start()


class Visitors:
    """Threads that call without a pause; what went wrong is kept."""

    def __init__(self, port, count):
        self.port, self.stopping = port, threading.Event()
        self.done, self.again, self.wrong = 0, 0, []
        self.sent, self.lock = {}, threading.Lock()
        self.threads = [threading.Thread(target=self.live, args=(n % 2 == 0,)) for n in range(count)]
        for thread in self.threads:
            thread.start()

    def live(self, keep):
        """One connection for everything, or one for each call."""
        client = Client(port=self.port, timeout=20 * SLOW)
        try:
            while not self.stopping.is_set():
                login = self.ask(client, keep, "POST", "/v1/login", {"user_id": unique()}, SERVICE)
                if login:
                    for _ in range(3):
                        self.ask(client, keep, "GET", "/v1/validate", None, login["access_token"])
        except Exception as error:  # whatever it was, it is not to be lost with the thread
            self.wrong.append(repr(error))
        finally:
            client.close()

    def ask(self, client, keep, method, path, body, bearer):
        name = f"visit-{next(Trial.numbers)}"
        used = getattr(client.local, "connection", None) is not None
        headers = {"X-Request-Id": name, "Connection": None if keep else "close"}
        try:
            answer = client.call(method, path, body, bearer, headers)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            # A kept connection that ends before the first byte of an answer: clients ask again.
            if not used:
                self.wrong.append((name, repr(error)))
            self.again += 1
            return None
        if not keep or answer.header("Connection") == "close":
            client.close()
        with self.lock:
            self.sent[name] = answer.status
            self.done += 1
        if answer.status not in (200, 201):
            self.wrong.append((name, answer))
        return answer.json

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def test_restarts_under_load(start):
    daemon = start(begin_now=False, **TIMES)
    inherited = Inherited(daemon.node)
    inherited.start()
    daemon.node.client = Client(port=inherited.port, timeout=30 * SLOW)
    wait_until(lambda: is_well(daemon.node), 10, "ready")
    trial = Trial(daemon)
    trial.login()
    trial.kick(trial.login())
    visitors = Visitors(inherited.port, 4)
    try:
        pids = {daemon.node.process.pid}
        for _ in range(10):
            done = visitors.done
            wait_until(lambda: visitors.done > done + 20 or visitors.wrong, 20, "visitors are served")
            inherited.restart()
            pids.add(daemon.node.process.pid)
        wait_until(lambda: is_well(daemon.node), 10, "ready")
    finally:
        visitors.stop()
    print(f"10 restarts, {visitors.done} answers, {visitors.again} asked again on a connection "
          "that had ended")
    assert not visitors.wrong, (len(visitors.wrong), visitors.wrong[:5])
    assert len(pids) == 11 and visitors.done > 200
    trial.sent[0].update(visitors.sent)
    trial.aftermath(restarted=True)
    inherited.listener.close()


# --- reloads --------------------------------------------------------------------------------------
BAD = ["[policy]\nmax_devices = many\n", "[server]\nno_such_option = 1\n", "[redis]\ntimeout = -1\n",
       "garbage\n", "[key:broken]\nhash = 12\nscopes = all\n"]


def test_a_hundred_reloads_under_load(start):
    daemon = start(policy__max_devices=7, **TIMES)
    node = daemon.node
    trial = Trial(daemon)
    trial.login()
    trial.kick(trial.login())
    good_text = node.config.read_text()
    other_text = good_text.replace("max_devices = 7", "max_devices = 9")
    assert other_text != good_text
    counted = ("sessiond_config_reloads_total", "sessiond_config_reload_errors_total")
    before = [node.metric(name) for name in counted]
    pid = node.process.pid
    visitors = Visitors(node.port, 4)
    try:
        for number in range(100):
            done = sum(node.metric(name) for name in counted)
            if number % 2:
                node.config.write_text(good_text + BAD[number // 2 % len(BAD)])
            else:
                node.config.write_text(good_text if number % 4 else other_text)
            if number == 50:
                lines = node.key_file.read_text().splitlines()
                write_key_file(node.key_file, lines + [f"key 2 {os.urandom(32).hex()}"])
            node.signal(signal.SIGHUP)
            wait_until(lambda: sum(node.metric(name) for name in counted) > done, 5,
                       "the configuration was read")
    finally:
        visitors.stop()
        node.config.write_text(good_text)
    after = [node.metric(name) for name in counted]
    assert [b - a for a, b in zip(before, after)] == [50, 50], (before, after)
    assert not visitors.wrong and not visitors.again, (visitors.wrong[:5], visitors.again)
    assert visitors.done > 200 and node.process.pid == pid
    assert len(node.log_text().splitlines()) >= 50, "bad ones are in the log"
    # 98 was good and said 7, 99 was bad: 7 is in force.
    user = unique("reload")
    for _ in range(9):
        trial.login(user)
    assert daemon.devices(user)["limit"] == 7
    trial.living = trial.living[-3:]
    print(f"100 reloads, {visitors.done} answers")
    trial.sent[0].update(visitors.sent)
    trial.aftermath()


# --- the journal ----------------------------------------------------------------------------------
@contextlib.contextmanager
def away(cluster):
    """Redis cannot be reached by anybody."""
    for proxy in cluster.proxies.values():
        proxy.inject("refuse", "all")
        proxy.inject("cut", "all")
        proxy.cut_now()
    try:
        yield
    finally:
        assert cluster.hits("refuse") > 0
        cluster.heal()


def pending_kicks(trial, logins):
    for login in logins:
        answer = trial.kick(login)
        assert answer.status == 202 and answer.json["durability"] == "pending", answer


def journal_of(node):
    return node.directory / "journal"


def crash(trial):
    node = trial.daemon.node
    pid = node.process.pid
    node.kill()
    assert not os.path.exists(f"/proc/{pid}")
    trial.forgive_reads(0)


def damaged_files(node):
    return sorted(path.name for path in node.directory.glob("journal.damaged*"))


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x40
    path.write_bytes(data)


def cut(path, size):
    os.truncate(path, path.stat().st_size + size if size < 0 else size)


def spoil(kind, path, sizes):
    """Damages the journal; `sizes` were its sizes before and after each record. Returns how many
    records stand before the damage."""
    if kind == "torn tail":
        cut(path, -5)
        return len(sizes) - 2
    if kind == "flipped bit":
        flip(path, sizes[2] + (sizes[3] - sizes[2]) // 2)
        return 2
    if kind == "cut in the middle":
        cut(path, sizes[2])
        return 2
    cut(path, 0)
    return 0


KINDS = ["torn tail", "flipped bit", "cut in the middle", "empty"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_journal_is_damaged(trial, service, kind):
    node = service.node
    path = journal_of(node)
    # No confirmed record stands before the records of this test.
    node.stop()
    path.unlink()
    for old in node.directory.glob("journal.damaged*"):
        old.unlink()
    node.start()
    logins = [trial.login(node=1) for _ in range(6)]
    trial.know_everywhere()
    with away(trial.cluster):
        sizes = [path.stat().st_size]
        for login in logins:
            pending_kicks(trial, [login])
            sizes.append(path.stat().st_size)
        assert sizes == sorted(set(sizes)), sizes
        crash(trial)
        kept = spoil(kind, path, sizes)
        errors = len(node.log_text())
        node.start("/livez")
        said = node.log_text()[errors:]
        assert kind in ("cut in the middle", "empty") or "journal" in said, said
        if kind == "flipped bit":
            assert damaged_files(node), "the damaged part is kept"
            assert node.metric("sessiond_journal_errors_total") >= 1
            assert " error " in said, said
        # Records before the damage hold at once, Redis or not.
        for login in logins[:kept]:
            assert trial.validate(login, 0).status == 401
        assert node.metric("sessiond_journal_unsettled") >= kept
    # Records that a damaged disk has lost are lost.
    for login in logins[kept:]:
        trial.dead.remove(login)
        trial.acknowledged.pop(login["session_id"])
    trial.aftermath(restarted=True)


def test_a_journal_with_a_damaged_head_is_not_touched(trial, service):
    node = service.node
    path = journal_of(node)
    node.stop()
    good = path.read_bytes()
    try:
        flip(path, 3)
        damaged = path.read_bytes()
        node.spawn()
        assert node.process.wait(10 * SLOW) != 0
        node.process = None
        failures = [line for line in node.log_text().splitlines() if "start_failed" in line]
        assert str(path) in failures[-1], "the log says which file and why"
        assert path.read_bytes() == damaged
    finally:
        path.write_bytes(good)
    node.start()
    trial.aftermath(restarted=True)


def test_a_crash_loop_loses_no_kick(trial, service):
    node = service.node
    logins = [trial.login(node=1) for _ in range(40)]
    trial.know_everywhere()
    answered = threading.Semaphore(0)

    def kick(login):
        trial.kick(login)
        answered.release()
    with away(trial.cluster):
        for turn in range(5):
            share = logins[turn::5]
            threads = [threading.Thread(target=kick, args=(login,)) for login in share]
            for thread in threads:
                thread.start()
            for _ in range(turn):
                assert answered.acquire(timeout=30), "a kick has no answer"
            crash(trial)
            for thread in threads:
                thread.join()
            while answered.acquire(blocking=False):
                pass
            node.start("/livez")
            for login in trial.dead:
                assert trial.validate(login, 0).status == 401, "at once, without Redis"
        acknowledged = len(trial.dead)
    print(f"{acknowledged} of 40 kicks were acknowledged over 5 crashes")
    assert acknowledged >= 5
    for login in trial.unknown:
        assert trial.call("GET", "/v1/validate", None, login["access_token"], 0) is not None
    trial.aftermath(restarted=True)


def test_a_stop_in_the_middle_of_a_replay(start, tmp_path, broken):
    """Wake-ups of threads are slow, so that replies come after the stop began."""
    redis = SingleRedis(tmp_path / "redis")
    try:
        node = start(redis=redis.start(), begin_now=False, redis__mode="standalone", redis__wait_timeout=0).node
        subprocess.run([LARGE_STATE, node.key_file, node.directory, "10", "200000"], check=True)
        node.start("/livez", environment=broken.environment)
        wait_until(lambda: node.metric("sessiond_journal_unsettled") < 200000, 10, "the replay")
        broken.order("write 20 anon_inode:")
        node.stop()
        assert broken.count() > 0
    finally:
        redis.stop()
