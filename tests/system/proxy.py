"""A TCP proxy whose faults are switched on and off while it runs, and counted when they hit.

One thread serves all proxies. A connection is of a kind, by what its client says: "replication"
once it sent REPLCONF or PSYNC, "watch" once it sent CLIENT TRACKING, "client" else; a fault may be
for one kind only."""

import collections
import contextlib
import errno
import heapq
import itertools
import random
import selectors
import socket
import struct
import threading
import time

CHUNK = 65536
HELD_BACK = 1 << 20     # bytes; more than this waiting for a slow reader stops the reading
KINDS = (("replication", (b"REPLCONF", b"PSYNC")), ("watch", (b"TRACKING",)))
ACCEPT_FIRST = ("cut", "reset")

# fault -> its arguments and their defaults
FAULTS = {
    "delay": {"ms": 0, "jitter": 0},            # replies are late by ms, give or take jitter
    "cut": {},                                  # a connection is closed when its client speaks
    "reset": {},                                # the same, with RST
    "half_open": {},                            # nothing is read any more, nothing is closed
    "slice": {"size": 1},                       # replies go out in pieces
    "limit": {"size": 0},                       # so many bytes of replies, then closed
    "garbage": {"data": b"", "insert": True},   # in front of a reply, or over its first bytes
    "blackhole": {},                            # everything is read and thrown away
    "refuse": {},                               # nobody listens
}


class Fault:
    def __init__(self, name, whom, arguments):
        assert name in FAULTS and not set(arguments) - set(FAULTS[name]), (name, arguments)
        self.name, self.whom = name, (whom,) if isinstance(whom, str) else tuple(whom)
        for argument, value in {**FAULTS[name], **arguments}.items():
            setattr(self, argument, value)


class Channel:
    """One direction of a connection."""

    def __init__(self, connection, source, sink, is_reply):
        self.connection, self.source, self.sink = connection, source, sink
        self.is_reply = is_reply
        self.waiting = collections.deque()      # (when it is due, bytes)
        self.held = 0
        self.passed = 0                         # bytes since the fault `limit` began
        self.last_due = 0.0
        self.reading = False
        self.ended = False


class Connection:
    def __init__(self, proxy, client, server):
        self.proxy, self.client, self.server = proxy, client, server
        self.kind = "client"
        self.said = b""
        self.lost = False                       # bytes are missing: it must not go on
        self.open = True
        self.channels = (Channel(self, client, server, False), Channel(self, server, client, True))

    def hear(self, data):
        """Learns the kind from what the client sends first."""
        if self.kind == "client" and len(self.said) < 4096:
            self.said += data
            words = self.said.upper()
            for kind, marks in KINDS:
                if any(mark in words for mark in marks):
                    self.kind = kind


class Proxy:
    """Listens on a port and passes everything on to another one."""

    def __init__(self, loop, port, target, host="127.0.0.1"):
        self.loop, self.port, self.target, self.host = loop, port, target, host
        self.listener = None
        self.connections = set()
        self.faults = {}
        self.hits = collections.Counter()
        self.accepted = 0
        loop.run(self.listen)

    # --- for tests: any thread ---

    def inject(self, name, whom="all", **arguments):
        """From now on the fault hits connections of the kind (or kinds) `whom`, old and new ones."""
        fault = Fault(name, whom, arguments)

        def begin():
            self.faults[name] = fault
            for connection in self.connections:
                for channel in connection.channels:
                    channel.passed = 0
            if name == "refuse":
                self.hits["refuse"] += 1
                self.deafen()
        self.loop.run(begin)

    def heal(self):
        """Ends all faults; connections that lost bytes are closed, since they are of no use."""
        self.loop.run(self.end_faults)

    @contextlib.contextmanager
    def fault(self, name, whom="all", **arguments):
        self.inject(name, whom, **arguments)
        try:
            yield self
        finally:
            self.heal()

    def cut_now(self, whom="all", reset=False):
        """Closes the connections there are; returns how many."""
        def close():
            found = [c for c in self.connections if whom in ("all", c.kind)]
            for connection in found:
                self.close(connection, reset)
            self.hits["reset" if reset else "cut"] += len(found)
            return len(found)
        return self.loop.run(close)

    def count(self, kind):
        """Connections of a kind that are open."""
        return self.loop.run(lambda: sum(c.kind == kind for c in self.connections))

    # --- on the loop's thread ---

    def listen(self):
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(1024)
        listener.setblocking(False)
        self.listener = listener
        self.loop.selector.register(listener, selectors.EVENT_READ, self.accept)

    def deafen(self):
        if self.listener:
            self.loop.selector.unregister(self.listener)
            self.listener.close()
            self.listener = None

    def end_faults(self):
        self.faults.clear()
        for connection in list(self.connections):
            if connection.lost:
                self.close(connection)
                continue
            for channel in connection.channels:
                self.resume(channel)
        if not self.listener:
            self.listen()

    def fault_for(self, name, connection):
        fault = self.faults.get(name)
        return fault if fault and {"all", connection.kind} & set(fault.whom) else None

    def accept(self):
        try:
            client, _ = self.listener.accept()
        except OSError:
            return
        self.accepted += 1
        server = socket.socket(socket.AF_INET)
        server.setblocking(False)
        client.setblocking(False)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self, client, server)
        # On loopback a connection is made or refused at once, unless the backlog is full.
        code = server.connect_ex(("127.0.0.1", self.target))
        if code not in (0, errno.EINPROGRESS):
            client.close()
            server.close()
            return
        self.connections.add(connection)
        for channel in connection.channels:
            self.resume(channel)

    def resume(self, channel):
        if channel.connection.open and not channel.reading and not channel.ended:
            channel.reading = True
            self.loop.selector.register(channel.source, selectors.EVENT_READ,
                                        lambda: self.readable(channel))

    def pause(self, channel):
        if channel.reading:
            channel.reading = False
            self.loop.selector.unregister(channel.source)

    def close(self, connection, reset=False):
        if not connection.open:
            return
        connection.open = False
        self.connections.discard(connection)
        for channel in connection.channels:
            self.pause(channel)
        if reset:
            for end in (connection.client, connection.server):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.client.close()
        connection.server.close()

    def readable(self, channel):
        connection = channel.connection
        if self.fault_for("half_open", connection):
            self.hits["half_open"] += 1
            self.pause(channel)
            return
        try:
            data = channel.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.close(connection)
            return
        if not data:
            # Bytes that are still on their way arrive, then the other end hears of it.
            channel.ended = True
            self.pause(channel)
            self.send_what_is_due(channel)
            return
        if not channel.is_reply:
            connection.hear(data)
        self.pass_on(channel, data)

    def pass_on(self, channel, data):
        connection = channel.connection
        if self.fault_for("blackhole", connection):
            self.hits["blackhole"] += 1
            connection.lost = True
            return
        if not channel.is_reply:
            for name in ACCEPT_FIRST:
                if self.fault_for(name, connection):
                    self.hits[name] += 1
                    self.close(connection, reset=name == "reset")
                    return
        else:
            data = self.spoil(channel, data)
        delay = channel.is_reply and self.fault_for("delay", connection)
        due = time.monotonic()
        if delay:
            self.hits["delay"] += 1
            due += (delay.ms + random.uniform(-delay.jitter, delay.jitter)) / 1000
        channel.last_due = max(due, channel.last_due)
        channel.waiting.append((channel.last_due, data))
        channel.held += len(data)
        if channel.held > HELD_BACK:
            self.pause(channel)
        self.send_what_is_due(channel)

    def spoil(self, channel, data):
        garbage = self.fault_for("garbage", channel.connection)
        if garbage:
            self.hits["garbage"] += 1
            rest = data if garbage.insert else data[len(garbage.data):]
            data = garbage.data + rest
        return data

    def send_what_is_due(self, channel):
        connection = channel.connection
        while connection.open and channel.waiting:
            due, data = channel.waiting[0]
            now = time.monotonic()
            if due > now:
                self.loop.later(due, lambda: self.send_what_is_due(channel))
                return
            size, close_after = self.allowed(channel, len(data))
            try:
                sent = channel.sink.send(data[:size]) if size else 0
            except BlockingIOError:
                self.loop.later(now + 0.001, lambda: self.send_what_is_due(channel))
                return
            except OSError:
                self.close(connection)
                return
            channel.passed += sent
            channel.held -= sent
            if close_after and sent == size:
                self.hits["limit"] += 1
                self.close(connection)
                return
            if sent == len(data):
                channel.waiting.popleft()
            else:
                # The next piece takes its turn after the other connections.
                channel.waiting[0] = (due, data[sent:])
                self.loop.later(now, lambda: self.send_what_is_due(channel))
                return
        if channel.ended and connection.open:
            self.close(connection)
        elif channel.held <= HELD_BACK and not self.fault_for("half_open", connection):
            self.resume(channel)

    def allowed(self, channel, size):
        """How many bytes may go now, and whether the connection ends after them."""
        if not channel.is_reply:
            return size, False
        limit = self.fault_for("limit", channel.connection)
        if limit and channel.passed + size >= limit.size:
            return max(0, limit.size - channel.passed), True
        piece = self.fault_for("slice", channel.connection)
        if piece and size > piece.size:
            self.hits["slice"] += 1
            return piece.size, False
        return size, False


class ProxyLoop:
    """The thread of all proxies."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.inbox = collections.deque()
        self.timers = []
        self.order = itertools.count()
        self.proxies = []
        self.stopping = False
        self.wake_up, self.woken = socket.socketpair()
        self.woken.setblocking(False)
        self.selector.register(self.woken, selectors.EVENT_READ, self.empty_pipe)
        self.thread = threading.Thread(target=self.serve, name="proxies", daemon=True)
        self.thread.start()

    def proxy(self, port, target, host="127.0.0.1"):
        self.proxies.append(Proxy(self, port, target, host))
        return self.proxies[-1]

    def run(self, function):
        """Runs a function on the thread and returns its result."""
        done, result = threading.Event(), []

        def work():
            try:
                result.append((function(), None))
            except Exception as error:  # it belongs to the caller
                result.append((None, error))
            done.set()
        self.inbox.append(work)
        self.wake_up.send(b".")
        assert done.wait(10), "the thread of the proxies does not answer"
        value, error = result[0]
        if error:
            raise error
        return value

    def later(self, when, function):
        heapq.heappush(self.timers, (when, next(self.order), function))

    def stop(self):
        def close_all():
            self.stopping = True
            for proxy in self.proxies:
                proxy.deafen()
                for connection in list(proxy.connections):
                    proxy.close(connection)
        self.run(close_all)
        self.thread.join(10)
        self.selector.close()
        self.wake_up.close()
        self.woken.close()

    def empty_pipe(self):
        self.woken.recv(4096)

    def serve(self):
        while not self.stopping:
            timeout = max(0.0, self.timers[0][0] - time.monotonic()) if self.timers else None
            for key, _ in self.selector.select(timeout):
                # An earlier one of this round may have closed it.
                if self.selector.get_map().get(key.fd) is key:
                    key.data()
            while self.inbox:
                self.inbox.popleft()()
            now = time.monotonic()
            due = []
            while self.timers and self.timers[0][0] <= now:
                due.append(heapq.heappop(self.timers)[2])
            for function in due:
                function()
