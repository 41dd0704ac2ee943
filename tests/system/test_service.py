"""The process: ops listener, metrics, signals, drain, Unix socket, systemd."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from checks import check_problem
from client import Client, RawSocket
from daemon import BINARY, SERVICE, unique
from redis_servers import ROOT, SLOW, wait_until
from test_http import head


def test_livez_and_readyz_answer_200(shared):
    for node in shared.nodes:
        assert node.ops.call("GET", "/livez").status == 200
        answer = node.ops.call("GET", "/readyz")
        assert answer.status == 200
        assert answer.json["status"] == "pass"


def test_version_tells_version_and_node(shared):
    answer = shared.node.ops.call("GET", "/version")
    assert answer.status == 200
    assert re.search(r"\d+\.\d+\.\d+", answer.body.decode())


def test_the_ops_listener_serves_nothing_else(shared):
    answer = shared.node.ops.call("POST", "/v1/login", {"user_id": unique()}, SERVICE)
    assert answer.status == 404, answer
    assert shared.node.ops.call("POST", "/livez").status == 405


SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*\})?'
                    r" (-?[0-9.e+-]+|\+Inf|NaN)")


def samples(text):
    found = {}
    for line in text.splitlines():
        if line.startswith("#") or not line:
            continue
        match = SAMPLE.fullmatch(line)
        assert match, f"not a sample: {line!r}"
        series = (match[1], match[2] or "")
        assert series not in found, f"twice: {line!r}"
        found[series] = float(match[3])
    return found


def test_metrics_are_well_formed(shared):
    shared.login()
    shared.validate("sa_x")
    answer = shared.node.ops.call("GET", "/metrics")
    assert answer.status == 200
    assert answer.header("Content-Type").startswith("text/plain")
    assert "version=0.0.4" in answer.header("Content-Type")
    text = answer.body.decode()
    assert text.endswith("\n")
    types = dict(re.findall(r"^# TYPE (\S+) (counter|gauge|histogram)$", text, re.M))
    helps = dict(re.findall(r"^# HELP (\S+) (.+)$", text, re.M))
    assert set(types) == set(helps)
    for (name, labels), value in samples(text).items():
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        kind = types.get(name) or types.get(family)
        assert kind, f"{name} has no TYPE"
        if kind == "counter":
            assert value >= 0 and name.endswith("_total"), name
    for family, kind in types.items():
        if kind == "histogram":
            check_histogram(samples(text), family)


def check_histogram(found, family):
    series = {}
    for (name, labels), value in found.items():
        if name == family + "_bucket":
            bound = re.search(r'le="([^"]+)"', labels)[1]
            rest = re.sub(r',?le="[^"]+"', "", labels)
            series.setdefault(rest, []).append((float(bound.replace("+Inf", "inf")), value))
    for rest, buckets in series.items():
        values = [value for _, value in sorted(buckets)]
        assert values == sorted(values), f"{family}{rest} is not cumulative"
        assert max(buckets)[0] == float("inf"), f"{family}{rest} has no +Inf"
        key = rest if rest != "{}" else ""
        assert found[(family + "_count", key)] == values[-1]


def test_metrics_name_every_row_of_the_table(shared):
    names = re.findall(r'"(sessiond_\w+)"', (ROOT / "include/tbl/metrics.h").read_text())
    text = shared.node.ops.call("GET", "/metrics").body.decode()
    assert len(names) > 20
    for name in names:
        assert re.search(rf"^# TYPE {name} ", text, re.M), name


def test_requests_are_counted_by_route_and_status(shared):
    labels = dict(method="POST", status="201")
    before = shared.node.metric("sessiond_http_requests_total", **labels)
    logins = shared.node.metric("sessiond_logins_total")
    for _ in range(5):
        shared.login()
    assert shared.node.metric("sessiond_http_requests_total", **labels) == before + 5
    assert shared.node.metric("sessiond_logins_total") == logins + 5


def test_metrics_show_no_user_and_no_tenant_token(shared):
    user = unique("metricuser")
    login = shared.login(user)
    shared.validate(login["access_token"])
    text = shared.node.ops.call("GET", "/metrics").body.decode()
    assert user not in text and login["session_id"] not in text


def test_a_unix_socket_serves_the_same_calls(start, workspace):
    path = str(workspace / "u.sock")
    daemon = start(server__unix_socket=path)
    client = Client(unix=path)
    answer = client.call("POST", "/v1/login", {"user_id": unique()}, SERVICE)
    assert answer.status == 201, answer
    assert client.call("GET", "/v1/validate", None, answer.json["access_token"]).status == 200
    assert daemon.is_alive(answer.json["access_token"])
    name = unique("audit")
    client.call("GET", "/v1/validate", headers={"X-Request-Id": name})
    assert daemon.node.audit_of(name)
    client.close()
    daemon.stop()
    daemon.start()
    assert client.call("GET", "/v1/validate").status == 401, "a left-over socket is no obstacle"
    client.close()


def test_a_unix_socket_alone_is_enough(start, workspace):
    path = str(workspace / "alone.sock")
    daemon = start(tcp=False, server__unix_socket=path)
    assert Client(unix=path).call("POST", "/v1/login", {"user_id": unique()},
                                  SERVICE).status == 201
    assert daemon.node.process.poll() is None


def test_sigterm_lets_a_request_under_way_finish(start):
    daemon = start()
    body = json.dumps({"user_id": unique()}).encode()
    with RawSocket(daemon.node.port) as raw:
        raw.send(head("POST", "/v1/login", f"Content-Length: {len(body)}",
                      f"Authorization: Bearer {SERVICE}", "Content-Type: application/json"))
        raw.send(body[:5])
        time.sleep(0.2)
        daemon.node.signal(signal.SIGTERM)
        wait_until(lambda: refuses(daemon.node.port), 3, "new connections are refused")
        raw.send(body[5:])
        answer = raw.answer()
        assert answer.status == 201, answer
        _, closed = raw.closed_within(5)
        assert closed
    assert daemon.node.process.wait(10 * SLOW) == 0
    assert len(daemon.node.audit_lines()) >= 1


def refuses(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return False
    except OSError:
        return True


def test_readyz_says_503_while_the_service_drains(start):
    daemon = start()
    with RawSocket(daemon.node.port) as raw:
        raw.send(b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                 b"Authorization: Bearer " + SERVICE.encode() + b"\r\nContent-Length: 50\r\n\r\n{")
        time.sleep(0.2)
        daemon.node.signal(signal.SIGTERM)
        wait_until(lambda: daemon.node.ops.call("GET", "/readyz").status == 503, 3,
                   "/readyz answers 503")
        assert daemon.node.ops.call("GET", "/livez").status == 200
    assert daemon.node.process.wait(10 * SLOW) == 0


def test_a_request_that_never_ends_is_cut_after_drain_timeout(start):
    daemon = start(server__drain_timeout=1)
    with RawSocket(daemon.node.port) as raw:
        raw.send(head("POST", "/v1/login", "Content-Length: 50", f"Authorization: Bearer {SERVICE}",
                      "Content-Type: application/json"))
        begun = time.monotonic()
        time.sleep(0.2)
        daemon.node.signal(signal.SIGTERM)
        assert daemon.node.process.wait(6 * SLOW) == 0
        assert time.monotonic() - begun < 4 * SLOW


def test_idle_connections_do_not_delay_the_end(start):
    daemon = start()
    idle = [RawSocket(daemon.node.port) for _ in range(20)]
    daemon.validate("sa_x")
    begun = time.monotonic()
    daemon.stop()
    assert time.monotonic() - begun < 3 * SLOW
    for raw in idle:
        raw.socket.close()


def test_clients_that_left_in_the_middle_do_not_delay_the_end(start):
    daemon = start()
    whole = head("POST", "/v1/login", f"Authorization: Bearer {SERVICE}",
                 "Content-Type: application/json", "Content-Length: 50")
    for cut in range(1, len(whole) + 10, 9):
        with RawSocket(daemon.node.port) as raw:
            raw.send((whole + b'{"user_id":')[:cut])
    begun = time.monotonic()
    daemon.stop()
    assert time.monotonic() - begun < 3 * SLOW


def test_half_closed_connections_do_not_delay_the_end(start):
    daemon = start()
    clients = [RawSocket(daemon.node.port) for _ in range(10)]
    for raw in clients:
        raw.send(head("GET", "/v1/users/someone", f"Authorization: Bearer {SERVICE}"))
        raw.socket.shutdown(socket.SHUT_WR)
    for raw in clients:
        assert raw.answer().status == 200
    begun = time.monotonic()
    daemon.stop()
    assert time.monotonic() - begun < 3 * SLOW
    for raw in clients:
        raw.socket.close()


def test_stopping_under_load_answers_or_refuses_but_never_lies(start):
    daemon = start()
    token = daemon.login()["access_token"]
    seen, stop = [], threading.Event()

    def load():
        while not stop.is_set():
            try:
                seen.append(daemon.validate(token).status)
            except (OSError, http.client.HTTPException):
                seen.append(0)
                time.sleep(0.01)
    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    daemon.node.signal(signal.SIGTERM)
    assert daemon.node.process.wait(10 * SLOW) == 0
    stop.set()
    for thread in threads:
        thread.join()
    assert seen.count(200) > 10
    assert set(seen) <= {200, 503, 0}, set(seen)


def test_sigint_stops_as_sigterm_does(start):
    daemon = start()
    daemon.node.signal(signal.SIGINT)
    assert daemon.node.process.wait(10 * SLOW) == 0


class NotifySocket:
    """What systemd listens on: the messages of sd_notify(3)."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(10 * SLOW)
        self.seen = ""

    def wait_for(self, word):
        while word not in self.seen:
            self.seen += self.socket.recv(4096).decode() + "\n"


def test_systemd_is_told_ready_watchdog_reload_and_stopping(start, workspace):
    notify = NotifySocket(workspace / "notify.sock")
    daemon = start(begin_now=False)
    node = daemon.node
    environment = dict(os.environ, NOTIFY_SOCKET=notify.path, WATCHDOG_USEC="400000")
    environment.pop("WATCHDOG_PID", None)
    node.spawn(environment)
    notify.wait_for("READY=1")
    node.wait_for("/readyz")
    notify.wait_for("WATCHDOG=1")
    node.signal(signal.SIGHUP)
    notify.wait_for("RELOADING=1")
    node.signal(signal.SIGTERM)
    notify.wait_for("STOPPING=1")
    assert node.process.wait(10 * SLOW) == 0


def test_a_socket_from_systemd_is_used(start):
    daemon = start(begin_now=False)
    node = daemon.node
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    port = listener.getsockname()[1]
    inherited = listener.fileno()
    environment = dict(os.environ, LISTEN_FDS="1", LISTEN_FDNAMES="http")
    # Only a shell between fork and exec knows the pid that LISTEN_PID must name.
    command = f'exec 3<&{inherited}; LISTEN_PID=$$ exec "$0" --config "$1"'
    with open(node.log, "ab") as log:
        node.process = subprocess.Popen(["/bin/bash", "-c", command, BINARY, str(node.config)],
                                        pass_fds=[inherited], env=environment, stdout=log,
                                        stderr=log, stdin=subprocess.DEVNULL)
    listener.close()
    node.wait_for("/readyz")
    answer = Client(port=port).call("POST", "/v1/login", {"user_id": unique()}, SERVICE)
    assert answer.status == 201, answer


def test_a_taken_port_is_refused_at_start(start):
    daemon = start()
    second = start(begin_now=False)
    second.node.write_config(server__listen=f"127.0.0.1:{daemon.node.port}")
    second.node.spawn()
    assert second.node.process.wait(10) != 0
    second.node.process = None
    assert str(daemon.node.port) in second.node.log_text()


def test_the_log_is_structured_and_shows_no_token(start):
    daemon = start(log__level="debug")
    user = unique("loguser")
    login = daemon.login(user, device={"id": "logdevice"})
    daemon.validate(login["access_token"])
    daemon.refresh(login["refresh_token"])
    daemon.kick(user, login["session_id"])
    daemon.stop()
    text = daemon.node.log_text()
    assert text
    for line in text.splitlines():
        assert re.match(r"<[0-7]>\S", line), line
    for secret in (login["access_token"], login["refresh_token"], SERVICE, user, "logdevice"):
        assert secret not in text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/version"])
def test_ops_answers_are_not_in_the_audit_file(shared, path):
    name = unique("ops")
    shared.node.ops.call("GET", path, headers={"X-Request-Id": name})
    time.sleep(0.2)
    assert name not in shared.node.audit.read_text()


def test_problems_of_the_ops_listener_are_problems_too(shared):
    check_problem(shared.node.ops.call("GET", "/none"), 404, "not_found")
