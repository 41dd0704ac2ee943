"""Strangers cannot fill the record: a flood of calls without a genuine credential holds up no login
and no kick, on a disk of 64 MB, on a slow one; and no call is left without its line or its place in
a number."""

import json
import time

import pytest

from broken_disks import fill, small_disk  # noqa: F401 (fixtures)
from checks import check_problem
from daemon import SERVICE, unique
from faults import BrokenCalls
from flood import Flood, forged
from probes import FULL
from redis_servers import SLOW, wait_until

CALLS = 200_000 if FULL else int(40_000 / SLOW)


@pytest.fixture
def flood():
    """Begins floods; they end with the test."""
    floods = []

    def begin(daemon, calls=CALLS):
        floods.append(Flood(daemon.node.port, calls))
        return floods[-1]
    yield begin
    for one in floods:
        one.kill()


@pytest.fixture
def disk_daemon(start, small_disk):
    """Starts a daemon whose audit file is on the small disk."""
    def begin(**options):
        daemon = start(begin_now=False)
        daemon.node.audit = small_disk / "audit.log"
        daemon.node.write_config(audit__file=daemon.node.audit, **options)
        return daemon.start()
    return begin


def lines_of(node):
    """(event.action, line) of every line, rotated files included."""
    for path in sorted(node.audit.parent.glob("audit.log*")):
        for line in path.read_text().splitlines():
            yield json.loads(line)


def bytes_of_changes(node):
    changes = ('"event.action":"login"', '"event.action":"kick"')
    return sum(len(line) + 1 for path in node.audit.parent.glob("audit.log*")
               for line in path.read_text().splitlines()
               if '"event.outcome":"success"' in line and any(change in line for change in changes))


class Work:
    """Work that must go on: users log in and are kicked; each answer is timed."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.logins = self.kicks = self.forged = 0
        self.times = []

    def timed(self, call, *arguments, **named):
        began = time.monotonic()
        answer = call(*arguments, **named)
        self.times.append(time.monotonic() - began)
        return answer

    def step(self):
        user = unique()
        answer = self.timed(self.daemon.try_login, user)
        assert answer.status == 201, answer
        self.logins += 1
        kick = self.timed(self.daemon.kick, user, answer.json["session_id"])
        assert kick.status == 200 and kick.json["ended"] == 1, kick
        self.kicks += 1

    def while_on(self, flood):
        while flood.is_on():
            self.step()
        return flood.wait()

    def tell(self, flood, node):
        lines = list(lines_of(node))
        counted = sum(line.get("sessiond.calls", 0) for line in lines)
        size = sum(path.stat().st_size for path in node.audit.parent.glob("audit.log*"))
        print(f"\n{flood['calls']} calls of strangers in {flood['seconds']:.1f} s: {self.logins} logins, "
              f"{self.kicks} kicks, slowest answer {max(self.times) * 1000:.0f} ms; "
              f"{counted} calls counted, {len(lines)} lines, {size >> 10} KiB")
        return lines, counted


def check_exact(lines, counted, work, flood):
    """Every call has its line or is in a number; nothing else is there but what sessiond says of
    itself."""
    of_calls = [line for line in lines if "http.response.status_code" in line]
    assert len(of_calls) + counted == flood["calls"] + work.logins + work.kicks
    assert sum(line["event.action"] == "login" and line["event.outcome"] == "success"
               for line in of_calls) == work.logins
    assert sum(line["event.action"] == "kick" for line in of_calls) == work.kicks
    numbers = [line["event.sequence"] for line in lines]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


def alerts_of(lines):
    return [line["rule.name"] for line in lines if line["event.kind"] == "alert"]


def test_a_flood_of_strangers_neither_fills_a_disk_of_64_mb_nor_holds_up_logins(
        disk_daemon, small_disk, flood):
    daemon = disk_daemon()
    if not FULL:
        fill(small_disk, 34 << 20)
    work = Work(daemon)
    work.step()
    result = work.while_on(flood(daemon))
    syncs = daemon.node.metric("sessiond_audit_syncs_total")
    wait_until(lambda: "audit_strangers" in alerts_of(lines_of(daemon.node)), 15,
               "strangers over their budget are an alert")
    told = daemon.node.metric("sessiond_audit_strangers_total")
    daemon.stop()
    lines, counted = work.tell(result, daemon.node)
    check_exact(lines, counted, work, result)
    assert told == counted > 0
    assert syncs <= work.logins + work.kicks, "garbage makes the disk sync"
    assert "audit_strangers_counted" in daemon.node.log_text()


def test_the_reserve_of_a_disk_is_kept_for_changes(disk_daemon, small_disk, flood):
    """Without budgets strangers fill the disk to the reserve, and no further."""
    daemon = disk_daemon(audit__strangers_per_minute=0, audit__strangers_per_address=0,
                         audit__reserve="8M")
    fill(small_disk, 34 << 20 if FULL else int((8 << 20) + CALLS * 200))
    work = Work(daemon)
    work.step()
    result = work.while_on(flood(daemon))
    # Changes may use the reserve, and the longer the flood takes the more there are.
    free = daemon.node.metric("sessiond_audit_free_bytes") + bytes_of_changes(daemon.node)
    assert free >= 7 << 20
    assert 0 < daemon.node.metric("sessiond_audit_strangers_total") < result["calls"]
    assert "audit_space" in alerts_of(lines_of(daemon.node))
    log = daemon.node.log_text()
    assert "audit_space_low" in log and 'effect="calls of strangers are only counted"' in log
    login = daemon.login()
    work.logins += 1
    reads = []

    def read_is(status):
        reads.append(daemon.validate(login["access_token"]))
        return reads[-1].status == status
    fill(small_disk, 3 << 20)
    wait_until(lambda: read_is(503), 15, "reads have no place")
    check_problem(reads[-1], 503, "audit_unavailable")
    work.step()
    fill(small_disk, 12 << 20)
    wait_until(lambda: read_is(200), 15, "reads have a place again")
    daemon.stop()
    lines, counted = work.tell(result, daemon.node)
    lost = sum(line.get("sessiond.lines_lost", 0) for line in lines)
    answered = [answer.status for answer in reads]
    of_reads = [line for line in lines if line["event.action"] == "validate"
                and line.get("user.id") == login["user_id"]]
    assert (len(of_reads), lost) == (answered.count(200), answered.count(503))
    check_exact(lines, counted - len(of_reads), work, result)


def test_on_a_slow_disk_changes_do_not_wait_behind_strangers(start, tmp_path, flood):
    """A login waits for its own write and one that is in flight."""
    broken = BrokenCalls(tmp_path)
    daemon = start(begin_now=False, audit__strangers_per_minute=0, audit__strangers_per_address=0)
    daemon.node.start(environment=broken.environment)
    work = Work(daemon)
    broken.order(f"write 250 {daemon.node.audit}")
    running = flood(daemon, CALLS)
    wait_until(lambda: daemon.node.metric("sessiond_audit_strangers_total") > 0, 10,
               "strangers have filled their queue")
    work.step()
    result = running.wait()
    broken.lift()
    daemon.stop()
    lines, counted = work.tell(result, daemon.node)
    check_exact(lines, counted, work, result)
    for action in ("login", "kick"):
        at, change = next((at, line) for at, line in enumerate(lines)
                          if line["event.action"] == action and line["event.outcome"] == "success")
        overtaken = sum(line["@timestamp"] < change["@timestamp"] for line in lines[at:])
        assert overtaken > 1000, (action, overtaken)


def test_what_is_forged_makes_no_sync(start):
    daemon = start()
    daemon.login()
    before = daemon.node.metric("sessiond_audit_syncs_total")
    for _ in range(20):
        assert daemon.refresh(forged("sr_")).status == 401
        assert daemon.call("POST", "/v1/logout", None, forged("sa_")).status == 200
        assert daemon.call("POST", "/v1/logout", None, SERVICE,
                           {"X-Session-Token": forged("sa_")}).status == 200
        assert daemon.try_login(unique(), key="sk_guess").status == 401
    assert daemon.node.metric("sessiond_audit_syncs_total") == before


def test_a_genuine_credential_has_a_line_whatever_the_call_is(start):
    """A budget of one line: who shows a known key or an issued token, dead or alive, is no stranger."""
    daemon = start(audit__strangers_per_minute=1, audit__strangers_per_address=1)
    login = daemon.login()
    token = login["access_token"]
    cookie = {"Cookie": f"__Host-session={token}"}

    def calls():
        for bearer, headers in ((SERVICE, {}), (token, {}), (None, cookie)):
            yield daemon.call("GET", "/nowhere", None, bearer, headers)
            yield daemon.call("PUT", "/v1/login", None, bearer, headers)
            yield daemon.call("GET", "/v1/validate?oops=1", None, bearer, headers)
            yield daemon.call("POST", "/v1/logout", b"{", bearer,
                              {"Content-Type": "text/plain", **headers})
    made = [answer.status for _ in range(2) for answer in calls()]
    daemon.call("POST", "/v1/logout", None, token)
    made += [answer.status for _ in range(2) for answer in calls()]
    assert min(made) >= 400
    for _ in range(20):
        daemon.call("GET", "/nowhere")
    daemon.stop()
    lines = list(lines_of(daemon.node))
    of_calls = [line for line in lines if "http.response.status_code" in line]
    counted = sum(line.get("sessiond.calls", 0) for line in lines)
    assert counted == 20 - 5, "what was left over of five minutes may come at once"
    assert len(of_calls) == 2 + len(made) + 5
