"""The audit file: one line a call, its members, what happens when it cannot be written."""

import json
import os
import re
import signal
import socket
import time

import pytest

from broken_disks import break_by_directory, break_by_limit, mend_directory, mend_limit
from checks import check_problem
from daemon import ACME, ADMIN, SERVICE, unique
from raw_http import FRAMING
from redis_servers import ROOT, SLOW, wait_until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def call_line(shared, method, path, body=None, bearer=None, headers=None):
    """Makes a call with a request id of its own: (answer, its audit line)."""
    name = unique("audit")
    answer = shared.call(method, path, body, bearer, {"X-Request-Id": name, **(headers or {})})
    return answer, shared.node.audit_of(name)


def test_a_login_line_tells_who_what_when_from_where(shared):
    user = unique()
    body = {"user_id": user, "ip": "198.51.100.7", "user_agent": "Browser/1",
            "device": {"id": "d-9", "type": "phone", "name": "n"}}
    answer, line = call_line(shared, "POST", "/v1/login", body, SERVICE,
                             {"traceparent": TRACE, "X-Operator": "alice@example.com"})
    assert answer.status == 201
    assert line["event.action"] == "login"
    assert line["event.category"] == ["authentication", "session"]
    assert line["event.type"] == ["start"]
    assert line["event.outcome"] == "success"
    assert line["@timestamp"].endswith("Z")
    assert line["http.request.method"] == "POST"
    assert line["http.response.status_code"] == 201
    assert line["user.id"] == user
    assert line["source.ip"] == "198.51.100.7"
    assert line["user_agent.original"] == "Browser/1"
    assert line["trace.id"] == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert isinstance(line["event.sequence"], int)
    text = json.dumps(line)
    for fact in (answer.json["session_id"], "d-9", "default", "service", "alice@example.com",
                 "127.0.0.1", "/v1/login"):
        assert fact in text, fact


def test_a_refused_call_has_its_line_with_the_reason(shared):
    user = unique()
    for method, path, body, bearer, status, code in (
            ("POST", "/v1/login", {"user_id": user, "oops": 1}, SERVICE, 400, "body_invalid"),
            ("POST", "/v1/login", {"user_id": user}, None, 401, "credentials_missing"),
            ("POST", "/v1/login", {"user_id": user}, "sk_wrong", 401, "key_invalid"),
            ("GET", "/v1/users/x?tenant=default", None, ACME, 403, "tenant_forbidden"),
            ("GET", "/nothing/here", None, SERVICE, 404, "not_found"),
            ("PUT", "/v1/login", None, SERVICE, 405, "method_not_allowed"),
            ("GET", "/v1/validate", None, "sa_" + "A" * 60, 401, None)):
        answer, line = call_line(shared, method, path, body, bearer)
        assert answer.status == status, answer
        assert line["event.outcome"] == "failure", line
        assert line["http.response.status_code"] == status
        if code:
            assert code in json.dumps(line), line


def test_a_call_that_is_not_even_well_formed_has_its_line(shared):
    before = len(shared.node.audit_lines())
    with socket.create_connection(("127.0.0.1", shared.node.port)) as raw:
        raw.sendall(FRAMING["TE with CL"])
        raw.recv(4096)

    def new_lines():
        return shared.node.audit_lines()[before:]
    lines = wait_until(new_lines, 3, "a line of the refused request")
    assert [line["http.response.status_code"] for line in lines] == [400]


def test_kick_lines_name_the_ended_sessions_and_the_operator(shared):
    user = unique()
    login = shared.login(user)
    name = unique("audit")
    answer = shared.kick(user, login["session_id"],
                         headers={"X-Request-Id": name, "X-Operator": "carol@example.com"})
    line = shared.node.audit_of(name)
    assert line["event.action"] == "kick"
    text = json.dumps(line)
    for fact in (login["session_id"], "carol@example.com", user, answer.json["durability"]):
        assert fact in text, fact


def test_a_secret_in_the_wrong_place_reaches_neither_audit_nor_log(start):
    """Pasted where a name, an id or an address belongs, or sent there by a program in error."""
    daemon = start(server__trusted_proxies="127.0.0.1")
    login = daemon.login()
    secrets = [login["access_token"], login["refresh_token"], SERVICE, "sc_" + login["access_token"][3:]]
    for secret in secrets:
        user, path = unique(), f"/v1/users/{secret}"
        headers = {"X-Request-Id": secret, "X-Operator": f"for {secret}", "User-Agent": secret,
                   "X-Forwarded-For": secret, "X-Device-Fingerprint": secret, "traceparent": secret}
        fields = {"user_agent": f"Agent/1 ({secret})", "ip": secret,
                  "device": {"name": secret, "fingerprint": secret}}
        answer = daemon.call("POST", "/v1/login", {"user_id": user, **fields}, SERVICE, headers)
        assert answer.status == 201, answer
        assert answer.header("X-Request-Id") != secret
        assert answer.json["device"]["name"] == f"{secret[:3]}[redacted]"
        for body in ({"user_id": secret}, {"user_id": user, "device": {"id": secret}},
                     {"user_id": user, "device": {"type": secret}}):
            problem = daemon.call("POST", "/v1/login", body, SERVICE, headers)
            assert problem.status == 400 and "must be an id, not a credential" in problem.json["detail"]
        for method, target in (("GET", path), ("GET", path + "/devices"), ("POST", path + "/freeze"),
                               ("DELETE", f"{path}/devices/{secret}")):
            assert daemon.call(method, target, None, SERVICE, headers).status == 400
        assert daemon.kick(user, secret, headers=headers).status == 404
        assert daemon.kick(user, answer.json["session_id"], query=f"?reason={secret}").status == 400
        assert daemon.call(secret, "/v1/login").status == 405
        assert daemon.kick(user, answer.json["session_id"], headers=headers).status == 200
    assert any("[redacted]" in line.get("sessiond.operator", "") for line in daemon.node.audit_lines())
    daemon.stop()
    for record in (daemon.node.audit.read_text(), daemon.node.log_text()):
        for secret in secrets:
            assert secret[3:43] not in record, record


def test_validations_have_their_line(shared):
    login = shared.login()
    answer, line = call_line(shared, "GET", "/v1/validate", None, login["access_token"])
    assert answer.status == 200
    assert line["event.action"] == "validate"
    assert line["user.id"] == login["user_id"]
    assert line["source.ip"] == "127.0.0.1"
    answer, line = call_line(shared, "POST", "/v1/validate", {"token": "sa_x"}, SERVICE)
    assert "malformed" in json.dumps(line)


def test_lines_are_numbered_without_a_gap(start):
    daemon = start()
    for _ in range(30):
        daemon.login()
        daemon.validate("sa_x")
    daemon.stop()
    numbers = [line["event.sequence"] for line in daemon.node.audit_lines()]
    assert len(numbers) >= 60
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_hostile_text_never_reaches_the_file_raw(shared):
    agent = 'x"\\ü\u2028' + "y" * 3000
    answer, line = call_line(shared, "POST", "/v1/login",
                             {"user_id": unique(), "user_agent": agent[:200]}, SERVICE)
    assert answer.status == 201, answer
    assert line["user_agent.original"] == agent[:200]
    name = unique("audit")
    with socket.create_connection(("127.0.0.1", shared.node.port)) as raw:
        raw.sendall(b"GET /v1/validate HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + name.encode()
                    + b"\r\nUser-Agent: \xff\xfe\xc3\r\n\r\n")
        raw.recv(4096)
    line = shared.node.audit_of(name)
    for byte in shared.node.audit.read_bytes():
        assert byte >= 0x20 or byte == 0x0A
    shared.node.audit.read_bytes().decode("utf-8")


def test_no_line_shows_a_token_or_a_key(shared):
    login = shared.login()
    for _ in range(2):
        shared.validate(login["access_token"])
        shared.refresh(login["refresh_token"])
    shared.call("GET", f"/v1/validate?token={login['access_token']}")
    shared.call("GET", f"/v1/{login['access_token']}")
    last = shared.call("GET", "/v1/validate", headers={"X-Operator": login["access_token"],
                                                       "User-Agent": "plain"})
    assert shared.node.audit_of(last.header("X-Request-Id")), "the others are in front of it"
    for node in shared.nodes:
        assert login["access_token"][3:] not in node.audit.read_text()
        assert login["access_token"][3:] not in node.log_text()


def test_the_file_is_not_for_everybody(shared):
    assert shared.node.audit.stat().st_mode & 0o777 == 0o640


def test_sigusr1_opens_the_file_anew(start):
    daemon = start()
    daemon.login()
    moved = daemon.node.directory / "moved.log"
    daemon.node.audit.rename(moved)
    daemon.node.signal(signal.SIGUSR1)
    wait_until(daemon.node.audit.exists, 3, "a new audit file")
    name = unique("audit")
    daemon.try_login(unique(), headers={"X-Request-Id": name})
    assert name in daemon.node.audit.read_text()
    assert name not in moved.read_text()


def test_a_full_file_is_rotated_and_no_line_is_lost(start):
    daemon = start(audit__max_bytes=65536)
    names = []
    for _ in range(250):
        names.append(unique("audit"))
        daemon.try_login(unique(), headers={"X-Request-Id": names[-1]})
    files = list(daemon.node.directory.glob("audit.log*"))
    assert len(files) >= 2, files
    assert all(path.stat().st_size <= 65536 + 4096 for path in files)
    found = [line.get("http.request.id") for line in daemon.node.audit_lines()]
    assert sorted(set(names)) == sorted(name for name in found if name in set(names))


def test_a_torn_last_line_is_repaired_loudly(start):
    daemon = start(begin_now=False)
    whole = '{"event.action":"login","event.sequence":1}\n'
    daemon.node.audit.write_text(whole + '{"event.act')
    daemon.start()
    name = unique("audit")
    daemon.try_login(unique(), headers={"X-Request-Id": name})
    assert daemon.node.audit_of(name)
    actions = [line["event.action"] for line in daemon.node.audit_lines()]
    assert actions[:2] == ["login", "recovered"]
    assert sorted(actions[2:]) == ["login", "start"], "the start is told once it serves"
    assert "audit_torn_line" in daemon.node.log_text()


@pytest.mark.parametrize("harm,mend", [(break_by_directory, mend_directory),
                                       (break_by_limit, mend_limit)], ids=["missing", "full"])
def test_without_audit_nothing_is_changed_and_service_returns_by_itself(start, harm, mend):
    daemon = start()
    user = unique()
    login = daemon.login(user)
    harm(daemon.node)

    def refused():
        return daemon.try_login(user).status == 503
    wait_until(refused, 5, "logins are refused")
    check_problem(daemon.try_login(user), 503, "audit_unavailable")
    check_problem(daemon.refresh(login["refresh_token"]), 503, "audit_unavailable")
    check_problem(daemon.kick(user, login["session_id"]), 503, "audit_unavailable")
    check_problem(daemon.call("POST", f"/v1/users/{user}/logout-all", {}, SERVICE), 503,
                  "audit_unavailable")
    assert daemon.is_alive(login["access_token"])
    mend(daemon.node)
    wait_until(lambda: daemon.try_login(unique()).status == 201, 10, "logins work again")
    assert daemon.call("POST", "/v1/logout", None, login["access_token"]).status == 200
    assert daemon.node.metric("sessiond_audit_errors_total") >= 1


def validate_named(daemon, token, names, count):
    """Validates with request ids; the statuses. Ids of answered calls are added to names."""
    codes = []
    for _ in range(count):
        name = unique("queued")
        codes.append(daemon.validate(token, headers={"X-Request-Id": name}).status)
        if codes[-1] == 200:
            names.append(name)
    return codes


def test_validations_wait_for_the_file_and_are_refused_when_the_queue_is_full(start):
    daemon = start(audit__queue_bytes=65536, audit__wait="20ms")
    token = daemon.login()["access_token"]
    break_by_limit(daemon.node)
    names = []
    codes = validate_named(daemon, token, names, 300)
    assert codes[0] == 200 and codes[-1] == 503, codes
    answer = daemon.validate(token)
    check_problem(answer, 503, "audit_unavailable")
    mend_limit(daemon.node)
    wait_until(lambda: daemon.validate(token).status == 200, 10, "validations work again")
    daemon.stop()
    found = [line.get("http.request.id") for line in daemon.node.audit_lines()]
    missing = [name for name in names if found.count(name) != 1]
    assert not missing, f"{len(missing)} of {len(names)} answered calls have not one line"


def test_lost_lines_are_counted_exactly_when_the_policy_is_count(start):
    daemon = start(audit__queue_bytes=65536, audit__wait="0ms", audit__overflow="count")
    logins = []

    def login():
        logins.append(daemon.try_login(unique()))
        return logins[-1].status == 201
    assert login()
    token = logins[0].json["access_token"]
    break_by_limit(daemon.node)
    codes = validate_named(daemon, token, [], 300)
    assert set(codes) == {200}, codes
    assert not login(), "a login needs its line on disk"
    mend_limit(daemon.node)
    wait_until(login, 10, "logins work again")
    daemon.stop()
    lines = daemon.node.audit_lines()
    written = [line for line in lines if "http.request.id" in line]
    lost = sum(line["sessiond.lines_lost"] for line in lines
               if line["event.action"] == "lines-lost")
    assert lost > 0
    assert len(written) + lost == len(codes) + len(logins), (len(written), lost, len(logins))


def test_a_file_of_another_day_is_rotated_and_only_old_files_are_deleted(start):
    daemon = start(begin_now=False)
    folder, file = daemon.node.directory, daemon.node.audit
    file.write_text('{"event.action":"login","event.sequence":41}\n')
    yesterday = time.time() - 86400
    os.utime(file, (yesterday, yesterday))
    month_ago = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 170 * 86400))
    year_ago = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 181 * 86400))
    kept, old = folder / f"audit.log.{month_ago}-9", folder / f"audit.log.{year_ago}-5"
    stranger = folder / "audit.log.notes"
    for path in (kept, old, stranger):
        path.write_text("")
    daemon.start()
    daemon.login()
    wait_until(lambda: not old.exists(), 5, "the old file is deleted")
    assert kept.exists() and stranger.exists()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert any(line["event.action"] == "delete-audit-file"
               and line["file.path"].endswith(old.name) for line in lines)
    rotated = [path for path in folder.glob("audit.log.*-41")]
    assert len(rotated) == 1 and '"event.sequence":41' in rotated[0].read_text()
    assert min(line["event.sequence"] for line in lines) == 42


def test_a_file_that_cannot_be_opened_is_refused_at_start(start):
    daemon = start(begin_now=False)
    daemon.node.write_config(audit__file="/nonexistent/audit.log")
    daemon.node.spawn()
    assert daemon.node.process.wait(10) != 0
    daemon.node.process = None
    assert "/nonexistent/audit.log" in daemon.node.log_text()


class PipeReader:
    """Reads standard output of a node as a container's runtime does: line by line, while let."""

    def __init__(self, node):
        self.lines, self.node = [], node
        reading, writing = os.pipe()
        self.pipe = os.fdopen(reading, "rb")
        node.spawn(stdout=writing)
        os.close(writing)
        node.wait_for("/readyz")

    def read_until(self, name, value):
        """Lines up to the first whose member has this value."""
        while not self.lines or self.lines[-1].get(name) != value:
            line = self.pipe.readline()
            assert line.endswith(b"\n"), f"the pipe ended before {name} was {value}"
            if line.startswith(b"{") and line.endswith(b"}\n"):
                self.lines.append(json.loads(line))
        return self.lines


def test_standard_output_takes_the_lines_and_a_reader_who_sleeps_stops_changes_alone(start):
    daemon = start(begin_now=False, audit__file="/dev/stdout")
    node = daemon.node
    reader = PipeReader(node)
    with reader.pipe:
        assert "audit_not_a_file file=/dev/stdout" in node.log_text()
        user = unique("container")
        token = daemon.login(user)["access_token"]
        lines = reader.read_until("user.id", user)
        assert [line["event.sequence"] for line in lines] == list(range(1, len(lines) + 1))
        assert {line["event.action"] for line in lines} <= {"start", "login"} and lines[-1].get("user.id") == user
        # The reader has stopped: validations fill the pipe, and go on.
        names, refused = [], None
        while refused is None or refused.status != 503:
            names += [unique("v") for _ in range(100)]
            for name in names[-100:]:
                assert daemon.validate(token, headers={"X-Request-Id": name}).status == 200
            refused = daemon.try_login(unique())
        assert refused.json["code"] == "audit_unavailable"
        assert daemon.is_alive(token)
        assert node.ops.call("GET", "/readyz").json["status"] == "warn"
        lines = reader.read_until("http.request.id", names[-1])
        seen = {line.get("http.request.id") for line in lines}
        assert seen >= set(names)
        assert [line["event.sequence"] for line in lines] == list(range(1, len(lines) + 1))
        wait_until(lambda: daemon.try_login(unique()).status == 201, 10, "logins again")
        node.signal(signal.SIGTERM)
        reader.read_until("event.action", "stop")
        assert node.process.wait(10 * SLOW) == 0


def test_standard_output_that_is_a_socket_is_refused_with_the_reason(start):
    node = start(begin_now=False, audit__file="/dev/stdout").node
    ours, its = socket.socketpair()
    with ours, its:
        node.spawn(stdout=its)
        assert node.process.wait(10 * SLOW) == 1
    node.process = None
    assert "/dev/stdout cannot be written: it is a socket" in node.log_text()


def test_the_connection_is_the_source_unless_a_trusted_proxy_says_otherwise(start, shared):
    forwarded = {"X-Forwarded-For": "203.0.113.9, 198.51.100.4"}
    answer, line = call_line(shared, "GET", "/v1/validate", None, None, forwarded)
    assert line["source.ip"] == "127.0.0.1"
    daemon = start(server__trusted_proxies="127.0.0.0/8 198.51.100.0/24")
    answer, line = call_line(daemon, "GET", "/v1/validate", None, None, forwarded)
    assert line["source.ip"] == "203.0.113.9"
    forwarded = {"X-Forwarded-For": "203.0.113.9, 192.0.2.1, 198.51.100.4"}
    answer, line = call_line(daemon, "GET", "/v1/validate", None, None, forwarded)
    assert line["source.ip"] == "192.0.2.1"
    answer, line = call_line(daemon, "GET", "/v1/validate", None, None,
                             {"X-Forwarded-For": "203.0.113.9, [2001:db8::1]:443"})
    assert line["source.ip"] == "2001:db8::1"
    assert "forwarded_for_unreadable" not in daemon.node.log_text()
    for _ in range(3):
        answer, line = call_line(daemon, "GET", "/v1/validate", None, None,
                                 {"X-Forwarded-For": "203.0.113.9, gar\"bage"})
        assert line["source.ip"] == "127.0.0.1"
    told = [line for line in daemon.node.log_text().splitlines()
            if "forwarded_for_unreadable" in line]
    assert len(told) == 1 and 'proxy=127.0.0.1 element="gar?bage"' in told[0], told


def own_lines(node):
    """The lines about sessiond itself, in order."""
    return [line for line in node.audit_lines()
            if line["event.action"] in ("start", "stop", "reload", "change-keys")]


def test_start_reload_change_of_keys_and_stop_are_on_record(start):
    daemon = start()
    node = daemon.node

    def line_behind(lines):
        return wait_until(lambda: own_lines(node)[lines:], 5, "a line about it")
    version = daemon.node.ops.call("GET", "/version").json["version"]
    first, = line_behind(0)
    assert (first["event.action"], first["event.outcome"]) == ("start", "success")
    assert first["service.version"] == version
    node.write_config(audit__wait="70ms", alerts__webhook_url="https://hooks.example/secret-token",
                      alerts__webhook_secret_file=write_secret(node.directory))
    node.signal(signal.SIGHUP)
    line, = line_behind(1)
    assert (line["event.action"], line["event.outcome"]) == ("reload", "success")
    assert line["file.path"] == str(node.config)
    assert "audit.wait: 100ms -> 70ms" in line["sessiond.changes"]
    assert "alerts.webhook_url: changed" in line["sessiond.changes"]
    assert "secret-token" not in node.audit.read_text()
    node.write_config(audit__wait="nonsense")
    node.signal(signal.SIGHUP)
    line, = line_behind(2)
    assert (line["event.action"], line["event.outcome"]) == ("reload", "failure")
    assert "wait" in line["event.reason"] and "sessiond.changes" not in line
    node.write_config(audit__wait="70ms")
    node.key_file.write_text(node.key_file.read_text() + "key 2 " + os.urandom(32).hex() + "\n")
    node.signal(signal.SIGHUP)
    same, keys = wait_until(lambda: len(own_lines(node)) == 5 and own_lines(node)[3:], 5, "two lines")
    assert same["event.action"] == "reload" and "sessiond.changes" not in same
    assert keys["event.action"] == "change-keys" and keys["sessiond.newest_key"] == 2
    assert keys["sessiond.changes"] == ["key 2: none -> held"]
    daemon.stop()
    last = node.audit_lines()[-1]
    assert (last["event.action"], last["event.outcome"]) == ("stop", "success")


def write_secret(directory):
    path = directory / "webhook-secret"
    path.write_text("whsec_" + "QUJD" * 12 + "\n")
    path.chmod(0o600)
    return path


def test_a_start_that_fails_is_on_record(start):
    daemon = start(begin_now=False, alerts__file="/nonexistent/alerts")
    daemon.node.spawn()
    assert daemon.node.process.wait(20) != 0
    daemon.node.process = None
    line, = own_lines(daemon.node)
    assert (line["event.action"], line["event.outcome"]) == ("start", "failure")
    assert line["event.reason"] == "alerts"


def test_a_change_of_a_policy_tells_what_changed(shared):
    tenant = unique("policy")
    path = f"/v1/tenants/{tenant}/policy"
    answer, line = call_line(shared, "PUT", path, {"access_ttl": 600, "bind": {"ip": "log"}}, ADMIN)
    assert answer.status == 200, answer
    assert sorted(line["sessiond.changes"]) == ["access_ttl: none -> 600", 'bind.ip: none -> "log"']
    merge = {"Content-Type": "application/merge-patch+json"}
    answer, line = call_line(shared, "PATCH", path, {"access_ttl": 700, "bind": None,
                                                     "roles": {"admin": {"idle_timeout": 60}}},
                             ADMIN, merge)
    assert answer.status == 200, answer
    assert sorted(line["sessiond.changes"]) == [
        "access_ttl: 600 -> 700", 'bind.ip: "log" -> none', "roles.admin.idle_timeout: none -> 60"]
    answer, line = call_line(shared, "PATCH", path, {"access_ttl": 700}, ADMIN, merge)
    assert answer.status == 200 and "sessiond.changes" not in line
    answer, line = call_line(shared, "PATCH", path, {"access_ttl": -1}, ADMIN, merge)
    assert answer.status == 400 and "sessiond.changes" not in line
    roles = {f"role-{number}": {"idle_timeout": 60} for number in range(40)}
    answer, line = call_line(shared, "PUT", path, {"roles": roles}, ADMIN)
    assert answer.status == 200 and len(line["sessiond.changes"]) == 33
    assert line["sessiond.changes"][-1].endswith(" more")
    answer, line = call_line(shared, "DELETE", path, None, ADMIN)
    assert len(line["sessiond.changes"]) == 33


def test_every_event_and_member_is_documented():
    """docs/audit.md has each action, in the row that says when it is on disk, and each member."""
    document = (ROOT / "docs/audit.md").read_text()
    rows = {action: line.split("|")[3].strip() for line in document.splitlines()
            if line.count("|") == 4 for action in re.findall("`([a-z-]+)`", line.split("|")[1])}
    events = re.findall(r'^AUDIT_(?:EVENT|ALERT)\(\w+, "([a-z-]+)".*?(true|false)?\)$',
                        (ROOT / "include/tbl/audit_events.h").read_text(), re.M)
    assert len(events) > 20
    ours = {"recovered"}  # by the thread that writes the file, on disk before anything else
    for action, durable in events:
        assert rows.get(action) == ("yes" if durable == "true" or action in ours else "no"), action
    members = re.findall(r'"(sessiond\.\w+)"', (ROOT / "src/services/audit/audit_format.c").read_text())
    assert [name for name in members if f"`{name}`" not in document] == []
