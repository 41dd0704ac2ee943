"""A small HTTP client that keeps many connections busy: one request in flight on each."""
import re
import selectors
import socket

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Line:
    """One connection and the answer it is waiting for."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def answer(self):
        """Reads what is there; returns (status, body) once the answer is whole."""
        data = self.socket.recv(65536)
        if not data:
            raise RuntimeError("the server closed a connection")
        self.received += data
        head, separator, body = self.received.partition(b"\r\n\r\n")
        if not separator:
            return None
        length = LENGTH.search(head)
        if len(body) < (int(length.group(1)) if length else 0):
            return None
        self.received = b""
        return int(head[9:12]), body


def exchange(port, requests, connections, wanted_status):
    """Sends all requests (bytes) and returns the bodies of the answers in the order of the requests."""
    selector = selectors.DefaultSelector()
    pending = enumerate(requests)
    bodies, expected = {}, {}

    def send_next(line):
        number, request = next(pending, (None, None))
        if request is None:
            selector.unregister(line.socket)
            line.socket.close()
            return
        expected[line] = number
        line.socket.sendall(request)

    for _ in range(connections):
        line = Line(port)
        selector.register(line.socket, selectors.EVENT_READ, line)
        send_next(line)
    while selector.get_map():
        for key, _ in selector.select(30) or raise_stalled():
            answer = key.data.answer()
            if answer is None:
                continue
            if answer[0] != wanted_status:
                raise RuntimeError(f"answer {answer[0]}: {answer[1].decode(errors='replace')}")
            bodies[expected[key.data]] = answer[1]
            send_next(key.data)
    return [bodies[number] for number in range(len(bodies))]


def raise_stalled():
    raise RuntimeError("no answer for 30 s")
