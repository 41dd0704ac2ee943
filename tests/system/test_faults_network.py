"""The network to Redis is slow, torn, silent or gone, and comes back."""

import json
import os
import random
import selectors
import socket
import threading
import time

import pytest

from bounds import at_most
from client import Redis
from daemon import SERVICE, Daemon, unique
from faults import (AT_ONCE, BUDGET, PATIENCE, TIMES, BrokenCalls, Trial, is_well, proxied_service,
                    trial_on, users_on)
from machine import clock
from parallel import at_once
from probes import percentile
from raw_http import head
from redis_servers import SLOW, wait_until
from redis_view import tenant_slot

OURS = ("client", "watch")


@pytest.fixture(scope="module")
def service(workspace):
    with proxied_service(workspace / "faults-network") as daemon:
        yield daemon


@pytest.fixture
def trial(service):
    with trial_on(service) as trial:
        yield trial


def commands_of(daemon):
    return sum(node.metric("sessiond_store_commands_total") for node in daemon.nodes)


@pytest.mark.parametrize("ms", [300, 499, 501])
def test_redis_answers_late(trial, service, ms):
    port = sorted(trial.cluster.shards())[0]
    users = users_on(service, trial.cluster, port, 2)
    seen = [trial.login(users[0]) for _ in range(2)]
    trial.know_everywhere()
    unseen = [trial.login(user) for user in users for _ in range(6)]
    node = service.nodes[1]
    # Both workers have their connections before it becomes slow.
    at_once(16, lambda n: trial.call("GET", f"/v1/users/{users[0]}", None, SERVICE, 1))
    opened = node.metric("sessiond_breaker_opened_total")
    commands, begun = commands_of(service), time.monotonic()
    with trial.cluster.fault("delay", whom=OURS, ms=ms, jitter=1):
        answers = at_once(len(unseen), lambda n: trial.validate(unseen[n], 1))
        # 300 ms leave room for 200 more, if the machine does not need them.
        late = [a for a in answers if a.status == 503 and (ms > 300 or a.passed - a.seconds > 0.1)]
        assert all(answer.status == 200 or answer in late for answer in answers), answers
        assert all(ms / 1000 - 0.1 < answer.passed for answer in answers), answers
        at_most(max(answer.seconds for answer in answers), BUDGET, "an answer")
        for login in seen:
            answer = trial.validate(login, 1)
            assert answer.status == 200, answer
            at_most(answer.seconds, BUDGET, "an answer")
        if ms > 400:
            wait_until(lambda: node.metric("sessiond_breaker_opened_total") > opened, 1,
                       "slow answers open the breaker")
        else:
            assert node.metric("sessiond_breaker_opened_total") == opened
        # Two turns of the store do not fit into the budget.
        answers = at_once(6, lambda n: trial.try_login(users[1], node=1))
        assert {answer.status for answer in answers} == {503}, answers
        at_most(max(answer.seconds for answer in answers), BUDGET, "an answer")
        sent = commands_of(service) - commands
        # Pings and the like go on meanwhile, 20 a second.
        others = 40 * max(1, (time.monotonic() - begun) / 2)
        assert sent <= 3 * (len(unseen) + len(seen) + 6) + others, f"{sent} commands: a retry storm"
    assert trial.cluster.hits("delay") > 0
    trial.aftermath()


def all_reads(trial, logins, user):
    """One look at everything on node 1: whatever is answered is whole and right."""
    for login in logins:
        answer = trial.validate(login, 1)
        assert answer.status in (200, 503), answer
        at_most(answer.seconds, BUDGET, "an answer")
    answer = trial.call("GET", f"/v1/users/{user}/devices", None, SERVICE, 1)
    assert answer.status in (200, 503), answer
    at_most(answer.seconds, BUDGET, "an answer")
    if answer.status == 200:
        listed = {device["session_id"] for device in answer.json["devices"]}
        assert listed == {login["session_id"] for login in logins}, answer
    return answer.status


def test_replies_arrive_in_slices_or_are_cut(trial, service):
    user = unique("slices")
    logins = [trial.login(user, device={"id": f"device {n}", "name": "x" * 40}) for n in range(8)]
    victim = trial.login()
    for size in (1, 7):
        with trial.cluster.fault("slice", whom=OURS, size=size):
            assert all_reads(trial, logins, user) == 200
            assert trial.try_login(node=1).status == 201
    assert trial.kick(victim).status == 200
    assert trial.cluster.hits("slice") > 500
    statuses = []
    for size in (1, 5, 30, 300, 1500):
        # A connection that ends at once after it was opened counts against the server, too.
        wait_until(lambda: is_well(service.nodes[1]), 5, "the breakers are closed")
        with trial.cluster.fault("limit", whom="client", size=size):
            statuses.append(all_reads(trial, logins, user))
            answer = trial.try_login(node=1)
            assert answer.status in (201, 503), answer
            at_most(answer.seconds, BUDGET, "an answer")
    assert trial.cluster.hits("limit") >= 5 and 503 in statuses, statuses
    trial.nobody_gets_in()
    trial.aftermath()


def connections_to(pid, port):
    """Sockets of a process that are connected to a port of this machine."""
    wanted = set()
    with open("/proc/net/tcp") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            if int(fields[2].rpartition(":")[2], 16) == port and fields[3] == "01":
                wanted.add(f"socket:[{fields[9]}]")
    found = 0
    for number in os.listdir(f"/proc/{pid}/fd"):
        try:
            found += os.readlink(f"/proc/{pid}/fd/{number}") in wanted
        except FileNotFoundError:
            pass
    return found


def test_a_connection_is_half_open(trial, service):
    shards = sorted(trial.cluster.shards())
    users = users_on(service, trial.cluster, shards[0], 2)
    seen = [trial.login(user) for user in users]
    healthy = [trial.login(users_on(service, trial.cluster, port, 1)[0]) for port in shards[1:]]
    trial.know_everywhere()
    unseen = [trial.login(users[0]) for _ in range(3)]
    proxy = trial.cluster.proxies[shards[0]]
    node = service.nodes[1]
    before = connections_to(node.process.pid, proxy.port)
    # The first caller for the state of the tenant waits a little, if it lies there.
    first_waits = int(trial.cluster.owner(tenant_slot(service))[0] == shards[0])
    times = []
    with proxy.fault("half_open", whom=OURS):
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            for login in unseen:
                answer = trial.validate(login, 1)
                assert answer.status == 503, answer
                at_most(answer.seconds, BUDGET, "an answer")
            for login in healthy + seen:
                answer = trial.validate(login, 1)
                assert answer.status == 200, answer
                at_most(answer.seconds, BUDGET, "an answer")
                if login in healthy:
                    times.append(answer.seconds)
        times.sort()
        at_most(times[-1 - first_waits], AT_ONCE, "an answer of the other masters")
        at_most(times[-1], first_waits * PATIENCE + AT_ONCE, "the first answer")
        assert proxy.hits["half_open"] > 0
        now = connections_to(node.process.pid, proxy.port)
        assert now <= max(before, 6) + 2, f"{before} connections before, {now} now"
        # At this moment calls to the other servers may be in flight, too: they end within a deadline.
        wait_until(lambda: node.metric("sessiond_store_pending") <= 3, 0.5, "no calls pile up")
    begun = clock()
    wait_until(lambda: all(trial.validate(login, 1).status == 200 for login in unseen), 4,
               "the server serves again")
    print(f"serves again after {clock() - begun:.2f} s")
    trial.aftermath()


def ignores_sigpipe(pid):
    with open(f"/proc/{pid}/status") as file:
        masks = dict(line.split(":\t") for line in file if ":\t" in line)
    return bool(int(masks["SigIgn"], 16) & 1 << 12)


def test_a_storm_of_resets(trial, service):
    seen = [trial.login() for _ in range(4)]
    trial.know_everywhere()
    unseen = [trial.login() for _ in range(4)]
    assert all(ignores_sigpipe(node.process.pid) for node in service.nodes)
    with trial.cluster.fault("reset", whom=OURS):
        calls, begun = 0, time.monotonic()
        while time.monotonic() < begun + 1.5:
            answers = at_once(4, lambda n: (trial.validate(seen[n], 1), trial.validate(unseen[n], 1),
                                            trial.try_login(node=1)))
            for cached, read, written in answers:
                calls += 3
                assert cached.status == 200, cached
                assert read.status == 503 and written.status == 503, (read, written)
                at_most(max(a.seconds for a in (cached, read, written)), BUDGET, "an answer")
        # Links connect again by themselves, too, in pauses: 67 a second.
        by_themselves = 67 * (time.monotonic() - begun)
        assert 0 < trial.cluster.hits("reset") <= 3 * calls + by_themselves, (trial.cluster.hits("reset"), calls)
        print(f"{trial.cluster.hits('reset')} resets, {calls} calls")
    wait_until(lambda: trial.validate(unseen[0], 1).status == 200, 5, "reads work again")
    storm(trial)
    trial.aftermath()


def storm(trial):
    """Connections are reset at any moment while changes are in flight."""
    stop = threading.Event()

    def resets():
        while not stop.wait(random.uniform(0.02, 0.08)):
            for proxy in trial.cluster.proxies.values():
                proxy.cut_now(whom="client", reset=True)
    thread = threading.Thread(target=resets)
    thread.start()
    try:
        def live(number):
            for _ in range(8):
                answer = trial.try_login(unique("storm"), node=number % 2)
                assert answer.status in (201, 503), answer
                at_most(answer.seconds, BUDGET, "an answer")
                if answer.status == 201:
                    login = next(entry for entry in trial.living
                                 if entry["session_id"] == answer.json["session_id"])
                    assert trial.validate(login, number % 2).status in (200, 503)
                    assert trial.kick(login, node=number % 2).status in (200, 202, 503, 404)
        at_once(6, live)
    finally:
        stop.set()
        thread.join()


# --- seeds ----------------------------------------------------------------------------------------
DEAD_NAMES = ["no-such-host.invalid", "nowhere.example.invalid", "gone.example.invalid",
              "lost.example.invalid"]
DEAD_SEEDS = " ".join([*(f"{name}:7001" for name in DEAD_NAMES), "127.0.0.1:9"])


@pytest.mark.parametrize("resolver", ["refuses", "hangs"])
def test_seeds_are_gone(service, tmp_path, resolver):
    cluster, broken, hangs = service.cluster, BrokenCalls(tmp_path), resolver == "hangs"
    options = dict(TIMES, redis__map_refresh="1s",
                   redis__nodes=f"{DEAD_SEEDS} {cluster.nodes()[3]} {cluster.nodes()[5]}")
    daemon = Daemon(tmp_path, cluster, **options)
    node = daemon.node
    if hangs:
        broken.order(*(f"resolve 3000 {name}" for name in DEAD_NAMES))
    try:
        node.start("/livez", environment=broken.environment)
        wait_until(lambda: daemon.try_login(unique()).status == 201, 45 if hangs else 10,
                   "a living seed is found")
        trial = Trial(daemon, cluster)
        logins = [trial.login() for _ in range(5)]
        maps = node.metric("sessiond_store_map_refreshes_total")
        times = []
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            for login in logins:
                answer = trial.validate(login)
                assert answer.status == 200, answer
                answer = trial.call("GET", f"/v1/users/{login['user_id']}", None, SERVICE)
                assert answer.status == 200, answer
                times.append(answer.seconds)
        at_most(max(times), BUDGET, "an answer")
        at_most(percentile(times, 0.95), AT_ONCE, "p95 of the answers")
        # Known servers go on being asked, names or not.
        assert node.metric("sessiond_store_map_refreshes_total") > maps
        if hangs:
            wait_until(lambda: broken.count() > 0, 10, "somebody asks for a name")
        trial.aftermath()
        daemon.stop()
    finally:
        daemon.kill()


# --- a herd of clients ----------------------------------------------------------------------------
class Herd:
    """Many clients of one node, each on its own connection with its own token, that ask until they
    are answered with 200. One thread; every request is on the trial's record."""

    def __init__(self, trial, node, logins, pause=0.5):
        self.trial, self.node, self.pause = trial, node, pause
        self.selector = selectors.DefaultSelector()
        self.waiting, self.done, self.turns, self.answered = [], {}, 0, 0
        for login in logins:
            client = socket.create_connection(("127.0.0.1", trial.daemon.nodes[node].port))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.waiting.append((random.uniform(0, pause), client, login))
        self.clients = [entry[1] for entry in self.waiting]
        begun = time.monotonic()
        self.waiting = sorted(((begun + when, client, login) for when, client, login in self.waiting),
                              key=lambda entry: entry[0])

    def ask(self, client, login):
        name = f"herd-{os.getpid()}-{next(Trial.numbers)}"
        self.trial.sent[self.node][name] = None
        client.sendall(head("GET", "/v1/validate", f"Authorization: Bearer {login['access_token']}",
                            f"X-Request-Id: {name}"))
        self.selector.register(client, selectors.EVENT_READ, (login, name, self.now))
        self.turns += 1

    def hear(self, key):
        client, (login, name, begun) = key.fileobj, key.data
        self.selector.unregister(client)
        data = client.recv(65536)
        assert data, "the connection was closed"
        self.answered += 1
        status = int(data.split(b" ", 2)[1])
        self.trial.sent[self.node][name] = status
        assert status in (200, 503), data
        at_most(clock() - begun, 2 * BUDGET, "all 500 clients")
        if status == 200:
            body = json.loads(data.partition(b"\r\n\r\n")[2])
            assert body["session_id"] == login["session_id"], data
            self.done[login["session_id"]] = self.now = clock()
        else:
            assert b"Retry-After" in data, data
            when = time.monotonic() + self.pause * random.uniform(0.8, 1.2)
            self.waiting.append((when, client, login))

    def run_until(self, is_done, seconds):
        """Runs until that is so, or the time is over."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end and not is_done():
            due = [entry for entry in self.waiting if entry[0] <= now]
            self.waiting = [entry for entry in self.waiting if entry[0] > now]
            self.now = clock()
            for _, client, login in due:
                self.ask(client, login)
            for key, _ in self.selector.select(0.01):
                self.hear(key)

    def close(self):
        for client in self.clients:
            client.close()
        self.selector.close()


def reads_of(cluster):
    return cluster.command_counts().get("hmget", 0)


def test_a_herd_waits_for_the_recovery(trial, service):
    users = [unique("herd") for _ in range(100)]
    logins = sum(at_once(4, lambda n: [trial.login(user) for user in users[n::4]
                                       for _ in range(5)]), [])
    assert len(logins) == 500
    accepted = {port: proxy.accepted for port, proxy in trial.cluster.proxies.items()}
    herd = Herd(trial, 1, logins)
    try:
        with trial.cluster.fault("refuse"):
            for proxy in trial.cluster.proxies.values():
                proxy.cut_now()
            herd.run_until(lambda: herd.turns > 1000, 60)
            assert herd.turns > 1000 and not herd.done
        assert trial.cluster.hits("refuse") == 6
        trial.cluster.reset_statistics()
        begun = clock()
        herd.run_until(lambda: len(herd.done) == 500, 60)
        took = max(herd.done.values()) - begun
        assert len(herd.done) == 500, len(herd.done)
    finally:
        herd.close()
    reads = reads_of(trial.cluster)
    connects = sum(proxy.accepted - accepted[port]
                   for port, proxy in trial.cluster.proxies.items())
    print(f"{herd.turns} requests of 500 clients; all served {took:.2f} s after the recovery "
          f"with {reads} reads and {connects} new connections")
    at_most(took, 4 * SLOW, "all are served again")
    assert reads < 2 * 500 + 100, reads
    assert connects < 150, connects
    check_single_flight(trial)
    trial.living = random.sample(trial.living, 20)
    trial.aftermath()


def check_single_flight(trial):
    """Many ask for one session that no node has seen: few reads."""
    login = trial.login()
    trial.cluster.reset_statistics()
    herd = Herd(trial, 1, [login] * 200, pause=0.0)
    try:
        herd.run_until(lambda: herd.answered == 200, 60)
    finally:
        herd.close()
    reads = reads_of(trial.cluster)
    print(f"{herd.turns} validations of one session, {reads} reads")
    assert herd.turns == 200 and reads <= 10, (herd.turns, reads)
    with Redis(trial.cluster.ports[0]) as node:
        assert node.call("PING") == "PONG"
