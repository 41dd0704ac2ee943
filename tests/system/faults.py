"""Shared by the fault tests: a trial remembers its calls, and checks what must hold after a fault."""

import collections
import contextlib
import http.client
import itertools
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

from checks import check_problem
from client import Redis, RedisError
from daemon import BINARY, SERVICE, Daemon, unique
from machine import clock
from redis_servers import ROOT, SLOW, ProxiedCluster, process_id, wait_until
from redis_view import slot_of
from tokens import never_issued

# The time of one request when the store does not answer: redis.timeout, and a margin for Python.
BUDGET = 0.5 + 0.25 * SLOW
# The same once a breaker is open; the contract is 5 ms, the rest is Python and a shared machine.
AT_ONCE = 0.06 * SLOW
# A call's wait for the state of its tenant while another server has the user.
PATIENCE = 0.5 / 4
# Within so many seconds every node knows of a kick that was answered with 200, whatever the links do.
HEARD = 1.2 * SLOW
TIMES = dict(redis__timeout="500ms", redis__connect_timeout="300ms")
BROKEN = (OSError, http.client.HTTPException)


# --- processes ------------------------------------------------------------------------------------
def process_state(pid):
    """The letter of /proc/PID/stat, None if the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_gone(pid):
    return process_state(pid) in (None, "Z", "X")


def kill_9(port):
    """Kills the Redis node at a port and waits until the process is gone."""
    pid = process_id(port)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(pid), 5, f"redis-server {pid} is gone")


def is_down(port):
    """Whether no server listens there. The number of a process that is gone may be another's by now."""
    try:
        Redis(port, timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def freeze(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: process_state(pid) == "T", 2, f"{pid} is stopped")


@contextlib.contextmanager
def frozen(pid):
    freeze(pid)
    try:
        yield
        assert process_state(pid) == "T", "the process was frozen all the time"
    finally:
        os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def failover_held(cluster, port):
    """The replicas of a master do not stand for election until the function that is yielded was called, and
    then do, however old their data are: what holds before a failover is not a matter of how quick the test is."""
    def tell(option, value):
        for node in replicas:
            node.call("CONFIG", "SET", option, value)
    replicas = [Redis(replica) for replica in cluster.shards()[port]]
    factor = replicas[0].call("CONFIG", "GET", "cluster-replica-validity-factor")[1]
    tell("cluster-replica-validity-factor", 0)
    tell("cluster-replica-no-failover", "yes")
    try:
        yield lambda: tell("cluster-replica-no-failover", "no")
    finally:
        tell("cluster-replica-no-failover", "no")
        tell("cluster-replica-validity-factor", factor)
        for node in replicas:
            node.close()


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads_of(pid):
    return len(os.listdir(f"/proc/{pid}/task"))


class BrokenCalls:
    """Orders to tests/support/broken_calls.c, loaded into a node, one a line."""

    def __init__(self, directory):
        build = pathlib.Path(BINARY).resolve().parent
        library = build / "tests/support/broken_calls.so"
        clean = {name: value for name, value in os.environ.items() if "MAKE" not in name}
        subprocess.run(["make", "-s", "-C", ROOT, f"BUILD={build}", library], env=clean, check=True)
        self.orders = pathlib.Path(directory) / "faults"
        # The address sanitizer wants to be the first library, for no reason that matters here.
        asan = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "ASAN_OPTIONS": asan,
                            "SESSIOND_TEST_FAULTS": str(self.orders)}

    def order(self, *lines):
        fresh = self.orders.with_suffix(".new")
        fresh.write_text("".join(line + "\n" for line in lines))
        fresh.rename(self.orders)

    def lift(self):
        """Nothing is broken any more; something must have been."""
        self.orders.unlink()
        assert self.count() > 0, "no order was carried out"

    def count(self):
        """Calls that were broken so far."""
        done = pathlib.Path(f"{self.orders}.done")
        return done.stat().st_size if done.exists() else 0


class Footprint:
    """Files and threads of a node; files without its connections, which come and go."""

    def __init__(self, node):
        self.pid = node.process.pid
        self.threads = threads_of(self.pid)
        links = node.metric("sessiond_store_connections") + node.metric("sessiond_connections")
        self.files = open_files(self.pid) - links

    def check_after(self, after):
        assert after.pid == self.pid, "it is the same process"
        # libuv starts four threads for names when it first needs them.
        assert after.threads <= self.threads + 4, (self.threads, after.threads)
        # Tracking connections and those of the control thread may not be among the counted links.
        assert after.files <= self.files + 12, (self.files, after.files)


# --- trials ---------------------------------------------------------------------------------------
class Trial:
    """Calls to a daemon under a fault. Every answer is held against what is known to be true: an ended session is
    never accepted, an active one never refused as ended, no answer is another's."""

    numbers = itertools.count()

    def __init__(self, daemon, cluster=None):
        self.daemon, self.cluster = daemon, cluster
        self.lock = threading.Lock()
        self.sent = [{} for _ in daemon.nodes]
        self.living, self.dead, self.unknown = [], [], []
        self.dying = set()
        # session id -> {node: since when it must refuse the session}
        self.acknowledged = {}
        self.wrong = []
        self.slowest = 0.0
        self.statuses = collections.Counter()
        self.before = [Footprint(node) for node in daemon.nodes]

    def call(self, method, path, body=None, bearer=None, node=0):
        """An answer, or None if the connection broke."""
        with self.lock:
            kind = "read" if method == "GET" or path == "/v1/validate" else "change"
            name = f"trial-{kind}-{os.getpid()}-{next(self.numbers)}"
            self.sent[node][name] = None
        begun, fair = time.monotonic(), clock()
        try:
            answer = self.daemon.call(method, path, body, bearer, {"X-Request-Id": name}, node)
        except BROKEN:
            self.statuses["broken"] += 1
            return None
        passed, seconds = time.monotonic() - begun, clock() - fair
        with self.lock:
            self.sent[node][name] = answer.status
            self.statuses[answer.status] += 1
            self.slowest = max(self.slowest, seconds)
        # `seconds` are for bounds above, `passed` for bounds below.
        answer.seconds, answer.passed = seconds, passed
        if answer.status == 503:
            check_problem(answer, 503, answer.code)
        return answer

    def try_login(self, user=None, node=0, **fields):
        answer = self.call("POST", "/v1/login", {"user_id": user or unique("trial"), **fields},
                           SERVICE, node)
        if answer and answer.status == 201:
            self.living.append(answer.json)
        return answer

    def login(self, user=None, node=0, **fields):
        answer = self.try_login(user, node, **fields)
        assert answer.status == 201, answer
        return self.living[-1]

    def validate(self, login, node=0):
        """No answer may contradict what is known."""
        dead = self.is_dead(login, node)
        answer = self.call("GET", "/v1/validate", None, login["access_token"], node)
        if answer is None:
            return None
        if dead and answer.status == 200:
            self.wrong.append(("a dead session was accepted", node, login["session_id"], answer))
        if answer.status == 200 and answer.json["session_id"] != login["session_id"]:
            self.wrong.append(("another's session", node, login["session_id"], answer))
        if answer.status == 401 and login["session_id"] not in self.dying:
            self.wrong.append(("a active session was refused", node, login["session_id"], answer))
        if answer.status not in (200, 401, 503):
            self.wrong.append(("a strange answer", node, login["session_id"], answer))
        return answer

    def is_dead(self, login, node):
        """True if this node must refuse the session from now on."""
        since = self.acknowledged.get(login["session_id"], {})
        return node in since and clock() >= since[node]

    def all_must_know(self, login, seconds=HEARD):
        """From then on every node must refuse the session; those that must already still must."""
        since = self.acknowledged.setdefault(login["session_id"], {})
        for node in range(len(self.daemon.nodes)):
            since[node] = min(since.get(node, float("inf")), clock() + seconds)

    def kick(self, login, node=0):
        """An answer of 200 or 202 is a promise."""
        self.dying.add(login["session_id"])
        answer = self.call("DELETE", f"/v1/users/{login['user_id']}/devices/{login['session_id']}",
                           None, SERVICE, node)
        if login in self.living:
            self.living.remove(login)
        if answer is not None and answer.status in (200, 202):
            assert login["session_id"] in answer.json["sessions"], answer
            assert (answer.status == 202) == (answer.json["durability"] == "pending"), answer
            self.acknowledged[login["session_id"]] = {node: clock()}
            if answer.status == 200:
                self.all_must_know(login)
            self.dead.append(login)
        else:
            self.unknown.append(login)
        return answer

    def know_everywhere(self, logins=None):
        """Every node validates the sessions, so that it has them in its cache."""
        for login in self.living if logins is None else logins:
            for node in range(len(self.daemon.nodes)):
                answer = self.validate(login, node)
                assert answer.status == 200, answer

    def check_no_lie(self):
        assert not self.wrong, (len(self.wrong), self.wrong[:3])

    def nobody_gets_in(self, nodes=None):
        """Dead sessions and tokens that were never issued, on every node."""
        for node in nodes or range(len(self.daemon.nodes)):
            for login in self.dead:
                self.validate(login, node)
            answer = self.call("GET", "/v1/validate", None, never_issued(), node)
            assert answer is None or answer.status in (401, 503), answer
        self.check_no_lie()

    # --- afterwards ---

    def aftermath(self, seconds=12, restarted=False):
        """Holds after every fault, without a restart of sessiond."""
        if self.cluster is not None:
            self.cluster.make_whole()
        for node in self.daemon.nodes:
            assert node.process.poll() is None, node.log_text()[-3000:]
            wait_until(lambda: is_well(node), seconds, "the node says that all is well")
        for number in range(len(self.daemon.nodes)):
            self.check_sessions(number, seconds)
        self.check_no_lie()
        for node, before in zip(self.daemon.nodes, self.before):
            wait_until(lambda: node.metric("sessiond_store_pending") == 0, 3, "nothing is pending")
            if self.cluster is not None:
                wait_until(lambda: node.metric("sessiond_journal_unsettled") == 0, seconds,
                           "every revocation has reached a replica")
            if not restarted:
                before.check_after(Footprint(node))
        self.check_audit()

    def check_sessions(self, number, seconds):
        """Dead is dead and living is alive, fresh, and changes work."""
        def serves(login):
            answer = self.validate(login, number)
            self.check_no_lie()
            return answer.status == 200 and not answer.json["stale"]
        for login in self.living:
            wait_until(lambda: serves(login), seconds, f"{login['session_id']} lives")
        for login in self.dead:
            wait_until(lambda: self.refuses(login, number), seconds, f"{login['session_id']} is dead")
            self.acknowledged[login["session_id"]][number] = 0
            answer = self.call("POST", "/v1/validate", {"token": login["access_token"]}, SERVICE,
                               number)
            assert answer.status == 200 and answer.json["active"] is False, answer
            answer = self.call("POST", "/v1/refresh", {"refresh_token": login["refresh_token"]},
                               None, number)
            assert answer.status == 401, answer
        answer = self.call("GET", "/v1/validate", None, never_issued(), number)
        assert answer.status == 401, answer
        # A breaker may still let few pass: a refused login has done nothing, and is asked again.
        user = unique()
        wait_until(lambda: self.try_login(user, number).status == 201, seconds, "logins work")
        fresh = self.login(user, number)
        assert self.validate(fresh, number).status == 200
        answer = self.kick(fresh, number)
        assert answer.status == 200, answer

    def refuses(self, login, number):
        answer = self.validate(login, number)
        self.check_no_lie()
        return answer.status == 401

    def forgive_reads(self, node):
        """The node was killed: lines of changes are on disk before their answers, others may not."""
        self.sent[node] = {name: status for name, status in self.sent[node].items()
                           if not name.startswith("trial-read-")}

    def check_audit(self):
        """One line for each call, with the status that was answered."""
        def problems():
            found = [collections.defaultdict(list) for _ in self.sent]
            for node, lines in zip(self.daemon.nodes, found):
                for line in node.audit_lines():
                    lines[line.get("http.request.id")].append(line.get("http.response.status_code"))
            return [(name, status, lines[name]) for sent, lines in zip(self.sent, found)
                    for name, status in sent.items()
                    if (len(lines[name]) > 1 if status is None else lines[name] != [status])]
        wait_until(lambda: not problems(), 3, lambda: f"a line for each call: {problems()[:5]}")


class Lives(threading.Thread):
    """Sessions of one user, one life after the other: login, validations on all nodes, kick, and
    validations again. How long 503s last is measured; lies are on the trial's record."""

    def __init__(self, trial, user):
        super().__init__()
        self.trial, self.user, self.slot = trial, user, slot_of(trial.daemon, user)
        self.stopping = threading.Event()
        self.lives, self.calls, self.errors, self.longest = 0, 0, 0, 0.0
        self.failing_since = None
        self.problems = []

    def note(self, answer, expected):
        self.calls += 1
        if answer is None or answer.status not in expected + (503,):
            self.problems.append((expected, answer))
        elif answer.status == 503:
            self.errors += 1
            self.failing_since = self.failing_since or clock()
        elif self.failing_since:
            self.longest = max(self.longest, clock() - self.failing_since)
            self.failing_since = None
        return answer

    def live_once(self):
        trial, nodes = self.trial, len(self.trial.daemon.nodes)
        node = self.lives % nodes
        answer = self.note(trial.try_login(self.user, node), (201,))
        if answer is None or answer.status != 201:
            return
        login = answer.json
        for number in range(2 * nodes):
            self.note(trial.validate(login, number % nodes), (200,))
        self.note(trial.kick(login, node), (200, 202))
        for number in range(2 * nodes):
            self.note(trial.validate(login, number % nodes), (200, 401))
        self.lives += 1

    def run(self):
        try:
            while not self.stopping.is_set():
                self.live_once()
        except Exception as error:  # whatever it was, it is not to be lost with the thread
            self.problems.append(repr(error))


def with_lives(trial, users, action):
    """Runs the action while users live sessions, before and after which each has lived at least one
    without an error; returns the lives, which went without a lie."""
    lives = [Lives(trial, user) for user in users]
    for life in lives:
        life.start()

    def wait_for_each():
        before = [life.lives for life in lives]
        wait_until(lambda: all(life.problems or life.lives > count + 1 and not life.failing_since
                               for life, count in zip(lives, before)), 10, "all live on")
    try:
        wait_for_each()
        action(lives)
        wait_for_each()
    finally:
        for life in lives:
            life.stopping.set()
        for life in lives:
            life.join()
    assert not any(life.problems for life in lives), [life.problems[:3] for life in lives]
    trial.check_no_lie()
    # All of them are watched once more in the aftermath: the last ones will do.
    trial.nobody_gets_in()
    trial.dead = trial.dead[-20:]
    return lives


def is_well(node):
    """Ready, and knows every server of Redis as alive (as far as /readyz tells)."""
    try:
        answer = node.ops.call("GET", "/readyz")
    except OSError:
        return False
    return answer.status == 200 and answer.json["status"] == "pass"


def readiness(node):
    answer = node.ops.call("GET", "/readyz")
    return answer.status, answer.json


def breakers(node):
    """{port: state} of what /readyz tells of the servers of Redis."""
    def find(value):
        if isinstance(value, dict):
            if "breaker" in value and "node" in value:
                yield int(value["node"].rpartition(":")[2]), value["breaker"]
            for part in value.values():
                yield from find(part)
        elif isinstance(value, list):
            for part in value:
                yield from find(part)
    return dict(find(readiness(node)[1]))


# --- a cluster behind proxies ---------------------------------------------------------------------
@contextlib.contextmanager
def proxied_service(directory, count=2, **options):
    """A cluster behind proxies with nodes of sessiond on it."""
    cluster = ProxiedCluster(directory / "cluster")
    daemon = None
    try:
        cluster.start()
        wait_until(cluster.is_whole, 20, "the cluster is whole")
        daemon = Daemon(directory / "daemon", cluster, count, **{**TIMES, **options})
        daemon.cluster = cluster
        yield daemon.start()
        daemon.stop()
    finally:
        if daemon:
            daemon.kill()
        cluster.stop()


@contextlib.contextmanager
def trial_on(daemon):
    """A trial on a service of proxied_service(); the cluster is mended whatever happens."""
    cluster = daemon.cluster
    for node in daemon.nodes:
        if node.process is None or node.process.poll() is not None:
            node.kill()
            node.start("/livez")
        wait_until(lambda: is_well(node), 10, "the node is well before the trial")
    try:
        yield Trial(daemon, cluster)
    finally:
        for port in cluster.ports:
            with contextlib.suppress(OSError, RedisError, ValueError):
                os.kill(pid_in(cluster, port), signal.SIGCONT)
        cluster.make_whole()


def pid_in(cluster, port):
    """The process of a node without asking it: it may be frozen."""
    number = cluster.ports.index(port) + 1
    return int((cluster.directory / f"node-{number}" / "redis.pid").read_text())


def users_on(daemon, cluster, port, count):
    """Names of users whose slots a master serves."""
    users = []
    while len(users) < count:
        user = unique("on")
        if cluster.owner(slot_of(daemon, user))[0] == port:
            users.append(user)
    return users


def count_of(pattern, text):
    return len(re.findall(pattern, text))
