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

from bounds import at_most
from broken_disks import full_pipe
from checks import check_problem
from client import Client, RawSocket
from daemon import BINARY, SERVICE, unique
from machine import clock
from raw_http import head
from redis_servers import ROOT, SLOW, SingleRedis, wait_until


def test_livez_and_readyz_answer_200(shared):
    for node in shared.nodes:
        assert node.ops.call("GET", "/livez").status == 200
        answer = node.ops.call("GET", "/readyz")
        assert answer.status == 200
        assert answer.json["status"] == "pass"
        assert set(answer.json["checks"].values()) == {"pass"} and answer.json["why"] == {}


def test_version_tells_version_and_node(shared):
    answer = shared.node.ops.call("GET", "/version")
    assert answer.status == 200
    assert re.search(r"\d+\.\d+\.\d+", answer.body.decode())


def test_the_ops_listener_serves_nothing_else(shared):
    answer = shared.node.ops.call("POST", "/v1/login", {"user_id": unique()}, SERVICE)
    assert answer.status == 404, answer
    assert shared.node.ops.call("POST", "/livez").status == 405


LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z (?:error|warning|info|debug) (\w+)")
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


def begin_login(raw, length):
    """The node has the head of a login when it asks for the body."""
    raw.send(head("POST", "/v1/login", f"Content-Length: {length}", "Expect: 100-continue",
                  f"Authorization: Bearer {SERVICE}", "Content-Type: application/json"))
    assert raw.answer().status == 100


def test_sigterm_lets_a_request_under_way_finish(start):
    daemon = start()
    body = json.dumps({"user_id": unique()}).encode()
    with RawSocket(daemon.node.port) as raw:
        begin_login(raw, len(body))
        raw.send(body[:5])
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
        begin_login(raw, 50)
        daemon.node.signal(signal.SIGTERM)
        wait_until(lambda: daemon.node.ops.call("GET", "/readyz").status == 503, 3,
                   "/readyz answers 503")
        assert daemon.node.ops.call("GET", "/livez").status == 200
    assert daemon.node.process.wait(10 * SLOW) == 0


def wait_until_draining(node):
    def says_so():
        answer = node.ops.call("GET", "/readyz")
        return answer.status == 503 and answer.json["why"]["stopping"].startswith("draining")
    wait_until(says_so, 3, "/readyz says that the node drains")


def test_in_the_drain_delay_a_node_serves_on_until_a_second_sigterm(start):
    daemon = start(server__drain_delay="1h")
    node = daemon.node
    token = daemon.login()["access_token"]
    node.signal(signal.SIGTERM)
    wait_until_draining(node)
    for _ in range(5):
        fresh = Client(port=node.port)
        assert fresh.call("GET", "/v1/validate", None, token).status == 200
        fresh.close()
    assert node.ops.call("GET", "/livez").status == 200
    node.signal(signal.SIGHUP)
    wait_until(lambda: "reload_ignored" in node.log_text(), 3, "no reload any more")
    node.signal(signal.SIGTERM)
    assert node.process.wait(10 * SLOW) == 0
    assert "stopped" in node.log_text().splitlines()[-1]


def test_the_drain_delay_ends_by_itself(start):
    node = start(server__drain_delay=1).node
    begun = time.monotonic()
    node.signal(signal.SIGTERM)
    assert node.process.wait(10 * SLOW) == 0
    assert time.monotonic() - begun >= 1


def test_a_stderr_that_nobody_reads_holds_up_nothing(start, tmp_path):
    redis, pipe = SingleRedis(tmp_path / "redis"), full_pipe()
    daemon = start(begin_now=False, redis=redis, log__level="debug", redis__mode="standalone")
    node = daemon.node
    try:
        redis.start()
        node.spawn(stderr=pipe[1])
        node.wait_for("/readyz")
        token = daemon.login()["access_token"]
        assert daemon.is_alive(token)
        node.write_config(server__workers="many")
        for refused in 1, 2:
            node.signal(signal.SIGHUP)
            wait_until(lambda: node.metric("sessiond_config_reload_errors_total") == refused, 5, "refused")
        redis.stop()
        wait_until(lambda: daemon.validate(token).json.get("stale"), 10, "the outage is noticed")
        assert node.ops.call("GET", "/livez").status == 200
        redis.start()
        node.wait_for("/readyz", 30)
        node.signal(signal.SIGTERM)
        assert node.process.wait(10 * SLOW) == 0
    finally:
        redis.stop()
        for end in pipe:
            os.close(end)


def test_a_request_that_never_ends_is_cut_after_drain_timeout(start):
    daemon = start(server__drain_timeout=1)
    with RawSocket(daemon.node.port) as raw:
        begin_login(raw, 50)
        begun = clock()
        daemon.node.signal(signal.SIGTERM)
        assert daemon.node.process.wait(6 * SLOW) == 0
        at_most(clock() - begun, 4 * SLOW, "the end, drained")


def test_idle_connections_do_not_delay_the_end(start):
    daemon = start()
    idle = [RawSocket(daemon.node.port) for _ in range(20)]
    daemon.validate("sa_x")
    begun = clock()
    daemon.stop()
    at_most(clock() - begun, 3 * SLOW, "the end with idle connections")
    for raw in idle:
        raw.socket.close()


def test_clients_that_left_in_the_middle_do_not_delay_the_end(start):
    daemon = start()
    whole = head("POST", "/v1/login", f"Authorization: Bearer {SERVICE}",
                 "Content-Type: application/json", "Content-Length: 50")
    for cut in range(1, len(whole) + 10, 9):
        with RawSocket(daemon.node.port) as raw:
            raw.send((whole + b'{"user_id":')[:cut])
    begun = clock()
    daemon.stop()
    at_most(clock() - begun, 3 * SLOW, "the end after clients that left")


def test_half_closed_connections_do_not_delay_the_end(start):
    daemon = start()
    clients = [RawSocket(daemon.node.port) for _ in range(10)]
    for raw in clients:
        raw.send(head("GET", "/v1/users/someone", f"Authorization: Bearer {SERVICE}"))
        raw.socket.shutdown(socket.SHUT_WR)
    for raw in clients:
        assert raw.answer().status == 200
    begun = clock()
    daemon.stop()
    at_most(clock() - begun, 3 * SLOW, "the end with half-closed connections")
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
                stop.wait(0.01)
    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(seen) > 100, 5, "the load is there")
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
    """The socket of systemd: the messages of sd_notify(3)."""

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
    begun = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify.seen = ""
    node.signal(signal.SIGHUP)
    notify.wait_for("MONOTONIC_USEC=")
    assert "RELOADING=1" in notify.seen
    told = int(re.search(r"MONOTONIC_USEC=(\d+)", notify.seen)[1])
    # Type=notify-reload waits for a time not before that of its signal, in microseconds.
    assert begun <= told <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    node.signal(signal.SIGTERM)
    notify.wait_for("STOPPING=1")
    assert node.process.wait(10 * SLOW) == 0


def test_in_the_drain_delay_systemd_knows_that_we_stop_and_hears_the_watchdog(start, workspace):
    notify = NotifySocket(workspace / "notify-delay.sock")
    node = start(begin_now=False, server__drain_delay="1h", server__drain_timeout=7).node
    environment = dict(os.environ, NOTIFY_SOCKET=notify.path, WATCHDOG_USEC="400000")
    environment.pop("WATCHDOG_PID", None)
    node.spawn(environment)
    notify.wait_for("READY=1")
    node.signal(signal.SIGTERM)
    notify.wait_for("STOPPING=1")
    # An hour, drain_timeout, and 10 s for the rest.
    assert "EXTEND_TIMEOUT_USEC=3617000000" in notify.seen
    for _ in range(3):
        notify.seen = ""
        notify.wait_for("WATCHDOG=1")
    node.signal(signal.SIGTERM)
    assert node.process.wait(10 * SLOW) == 0


def spawn_with(node, descriptor, name="http", count=1):
    """Starts the node as systemd does that hands over descriptors."""
    environment = dict(os.environ, LISTEN_FDS=str(count), LISTEN_FDNAMES=":".join([name] * count))
    # Only a shell between fork and exec knows the pid that LISTEN_PID must name.
    command = f'exec 3<&{descriptor}; LISTEN_PID=$$ exec "$0" --config "$1"'
    with open(node.log, "ab") as log:
        node.process = subprocess.Popen(["/bin/bash", "-c", command, BINARY, str(node.config)],
                                        pass_fds=[descriptor], env=environment, stdout=log,
                                        stderr=log, stdin=subprocess.DEVNULL)


def test_a_socket_from_systemd_is_used(start):
    daemon = start(begin_now=False)
    node = daemon.node
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    port = listener.getsockname()[1]
    spawn_with(node, listener.fileno())
    listener.close()
    node.wait_for("/readyz")
    answer = Client(port=port).call("POST", "/v1/login", {"user_id": unique()}, SERVICE)
    assert answer.status == 201, answer


def bound(kind):
    """A socket with an address, without a listener."""
    made = socket.socket(socket.AF_INET, kind)
    made.bind(("127.0.0.1", 0))
    return [made]


def listening_packets():
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.bind("")  # a name that the kernel chooses
    made.listen()
    return [made]


def regular_file():
    return [open(__file__, "rb")]


def pipe_ends():
    return [open(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"))]


@pytest.mark.parametrize("made,complaint", [
    (lambda: bound(socket.SOCK_STREAM), "does not listen"),
    (lambda: bound(socket.SOCK_DGRAM), "is a datagram socket"),
    (socket.socketpair, "is a connection"),
    (listening_packets, "is not a stream socket"),
    (pipe_ends, "is a pipe"),
    (regular_file, "is not a socket"),
])
def test_what_systemd_hands_over_and_is_no_listener_is_refused(start, made, complaint):
    node = start(begin_now=False).node
    handed = made()
    spawn_with(node, handed[0].fileno(), "ops")
    for one in handed:
        one.close()
    assert node.process.wait(10 * SLOW) == 1
    node.process = None
    assert f"descriptor 3 of systemd, named ops, {complaint}" in node.log_text()


@pytest.mark.parametrize("name,count,complaint", [
    ("web", 1, "descriptor 3 of systemd, named web, must be named http, https, unix or ops"),
    ("http", 200, "cannot listen on the sockets of systemd: Bad file descriptor"),
])
def test_sockets_of_systemd_that_are_not_understood_are_not_passed_over(start, name, count, complaint):
    node = start(begin_now=False).node
    with socket.create_server(("127.0.0.1", 0)) as listener:
        spawn_with(node, listener.fileno(), name, count)
    assert node.process.wait(10 * SLOW) == 1
    node.process = None
    assert complaint in node.log_text()


def test_a_socket_that_another_made_under_our_name_is_left_to_it(start, workspace):
    path = str(workspace / "taken.sock")
    daemon = start(server__unix_socket=path)
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        daemon.stop()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)


def test_a_taken_port_is_refused_at_start(start):
    daemon = start()
    second = start(begin_now=False)
    second.node.write_config(server__listen=f"127.0.0.1:{daemon.node.port}")
    second.node.spawn()
    assert second.node.process.wait(10) != 0
    second.node.process = None
    assert str(daemon.node.port) in second.node.log_text()


def ended_with(node):
    """Starts a node that cannot start; its exit status."""
    node.spawn()
    code = node.process.wait(10 * SLOW)
    node.process = None
    return code


@pytest.mark.parametrize("option", ["audit__file", "journal__file", "alerts__file", "cache__snapshot"])
def test_a_second_node_on_a_file_of_the_first_is_refused_and_leaves_it_alone(start, option):
    first = start()
    second = start(begin_now=False, key_file=first.node.key_file).node
    first.stop()
    first.start()  # now there is a snapshot
    first.login()
    node = first.node
    path = node.options[option.replace("__", ".")]
    second.write_config(**{option: path})
    before = path.read_bytes()
    assert ended_with(second) == 1
    told = f"file {path} is in use by process {node.process.pid}"
    assert told in second.log_text()
    assert path.read_bytes() == before
    assert not second.audit.exists(), "nothing of its own was made either"
    first.login()
    first.kill()
    assert second.start().client.call("GET", "/v1/validate").status == 401


def test_a_second_start_of_the_same_configuration_changes_nothing(start):
    node = start().node
    wait_until(lambda: b"service started" in node.audit.read_bytes(), 5, "its start is on record")
    before = {path.name: path.read_bytes() for path in node.directory.iterdir() if path != node.log}
    piece = b'{"torn'  # as a write in flight looks to others
    with node.audit.open("ab") as audit:
        audit.write(piece)
    second = subprocess.run([BINARY, "--config", node.config], capture_output=True, text=True,
                            timeout=10 * SLOW)
    assert second.returncode == 1
    assert f"is in use by process {node.process.pid}" in second.stderr
    before[node.audit.name] += piece
    after = {path.name: path.read_bytes() for path in node.directory.iterdir() if path != node.log}
    assert after == before


def test_two_options_that_name_one_file_are_refused(start):
    node = start(begin_now=False).node
    node.write_config(alerts__file=node.directory / "journal")
    assert ended_with(node) == 1
    assert "/journal is the journal file as well" in node.log_text()


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
        assert LOG_LINE.match(line), line
    for secret in (login["access_token"], login["refresh_token"], SERVICE, user, "logdevice"):
        assert secret not in text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/version"])
def test_ops_answers_are_not_in_the_audit_file(shared, path):
    name = unique("ops")
    shared.node.ops.call("GET", path, headers={"X-Request-Id": name})
    later = unique("later")
    shared.call("GET", "/v1/validate", headers={"X-Request-Id": later})
    shared.node.audit_of(later)
    assert name not in shared.node.audit.read_text()


def test_problems_of_the_ops_listener_are_problems_too(shared):
    check_problem(shared.node.ops.call("GET", "/none"), 404, "not_found")


def test_every_metric_and_log_event_is_documented(start):
    """All that a running node shows is in the pages that are made from the code."""
    daemon = start()
    daemon.login()
    shown = re.findall(r"^# TYPE (\w+) (\w+)$", daemon.node.ops.call("GET", "/metrics").body.decode(),
                       re.M)
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: "config_reloaded" in daemon.node.log_text(), 5, "the reload")
    daemon.stop()
    metrics, logs = ((ROOT / "docs" / name).read_text() for name in ("metrics.md", "logs.md"))
    assert len(shown) > 80
    assert [name for name, kind in shown if f"| `{name}` | {kind} |" not in metrics] == []
    logged = {LOG_LINE.match(line)[1] for line in daemon.node.log_text().splitlines()}
    assert {"started", "stopped"} <= logged
    assert [name for name in logged if f"| `{name}` |" not in logs] == []
