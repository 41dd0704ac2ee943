"""Exactly one audit line a call over 10,000 mixed calls, and none lost by kill -9."""

import collections
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

from daemon import ACME, SERVICE, unique
from redis_servers import wait_until
from tokens import never_issued

CALLS, THREADS = 10000, 8
NOTICES = {"recovered", "lines-lost", "strangers-counted", "delete-audit-file", "alert", "start", "stop", "reload",
           "change-keys"}


class Caller:
    """One thread's mix of calls; remembers the id and the status of each."""

    def __init__(self, daemon, number):
        self.daemon = daemon
        self.random = random.Random(number)
        self.number = number
        self.sent = {}
        self.user = unique(f"mixed-{number}")
        self.login = None

    def call(self, method, path, body=None, bearer=None, headers=None):
        name = f"mixed-{self.number}-{len(self.sent)}"
        answer = self.daemon.call(method, path, body, bearer,
                                  {"X-Request-Id": name, **(headers or {})})
        assert answer.status < 500, answer
        self.sent[name] = answer.status
        return answer

    def begin(self):
        answer = self.call("POST", "/v1/login", {"user_id": self.user}, SERVICE)
        self.login = answer.json

    def refresh(self):
        answer = self.call("POST", "/v1/refresh", {"refresh_token": self.login["refresh_token"]})
        self.login.update({k: answer.json[k] for k in ("access_token", "refresh_token")})

    def kick(self):
        self.call("DELETE", f"/v1/users/{self.user}/devices/{self.login['session_id']}", None,
                  SERVICE)
        self.call("GET", "/v1/validate", None, self.login["access_token"])
        self.begin()

    def logout(self):
        self.call("POST", "/v1/logout", None, self.login["access_token"])
        self.begin()

    def refused(self):
        method, path, body, bearer = self.random.choice([
            ("POST", "/v1/login", b"{", SERVICE), ("POST", "/v1/login", b"{}", None),
            ("GET", "/v1/none", None, SERVICE), ("PATCH", "/v1/login", None, SERVICE),
            ("GET", "/v1/validate", None, never_issued()), ("GET", "/v1/validate", None, None),
            ("POST", "/v1/validate", {"token": self.login["access_token"]}, ACME),
            ("POST", "/v1/login", {"user_id": "x" * 129}, SERVICE),
            ("GET", "/v1/users/a%00b", None, SERVICE),
            ("POST", "/v1/refresh", {"refresh_token": never_issued("sr_")}, None)])
        self.call(method, path, body, bearer)

    def step(self):
        kind = self.random.random()
        token = self.login["access_token"]
        if kind < 0.40:
            self.call("GET", "/v1/validate", None, token)
        elif kind < 0.60:
            self.call("POST", "/v1/validate", {"token": token}, SERVICE)
        elif kind < 0.65:
            self.call("GET", "/v1/devices", None, token)
        elif kind < 0.70:
            self.call("GET", f"/v1/users/{self.user}", None, SERVICE)
        elif kind < 0.75:
            self.refresh()
        elif kind < 0.78:
            self.kick()
        elif kind < 0.81:
            self.logout()
        else:
            self.refused()

    def run(self, calls):
        self.begin()
        while len(self.sent) < calls:
            self.step()
        return self.sent


def test_ten_thousand_mixed_calls_leave_exactly_one_line_each(start):
    daemon = start(redis__timeout="10s")  # how long Redis takes is not the question here
    callers = [Caller(daemon, number) for number in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        for result in [pool.submit(caller.run, CALLS // THREADS) for caller in callers]:
            result.result()
    daemon.stop()
    sent = {name: status for caller in callers for name, status in caller.sent.items()}
    assert len(sent) >= CALLS
    lines = [line for line in daemon.node.audit_lines() if line["event.action"] not in NOTICES]
    counts = collections.Counter(line["http.request.id"] for line in lines)
    missing = [name for name in sent if counts[name] == 0]
    twice = [name for name, count in counts.items() if count > 1]
    assert not missing and not twice, (len(missing), missing[:5], twice[:5])
    assert len(lines) == len(sent)
    wrong = [line for line in lines
             if line["http.response.status_code"] != sent[line["http.request.id"]]]
    assert not wrong, wrong[:3]
    assert len({status for status in sent.values()}) >= 7, "the mix is a mix"


def login_until(daemon, stop, answered):
    """Logs users in until the daemon is gone; keeps what was answered with 201."""
    while not stop.is_set():
        name = unique("kill")
        try:
            answer = daemon.try_login(unique(), headers={"X-Request-Id": name})
        except Exception:  # the connection broke: no answer, no promise
            return
        if answer.status == 201:
            answered.append((name, answer.json["access_token"]))


def test_after_kill_9_every_answered_login_has_its_line_and_its_session(start):
    daemon = start()
    total = 0
    for _ in range(20):
        answered, stop, enough = [], threading.Event(), random.randrange(10, 60)
        threads = [threading.Thread(target=login_until, args=(daemon, stop, answered))
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answered) >= enough, 10, "logins are answered")
        daemon.kill()
        stop.set()
        for thread in threads:
            thread.join()
        daemon.start()
        text = daemon.node.audit.read_text()
        for name, token in answered:
            assert text.count(f'"{name}"') == 1, name
        for name, token in answered[-3:]:
            assert daemon.is_alive(token), name
        total += len(answered)
    assert total >= 100, total
    for line in daemon.node.audit_lines():
        assert line["event.sequence"] >= 0
    assert os.path.getsize(daemon.node.audit) > 0
