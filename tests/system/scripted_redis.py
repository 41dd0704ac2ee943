"""A server between sessiond and a real Redis that reads commands and may answer them itself."""

import socket
import threading

from client import encode_command


class ScriptedRedis:
    """`script(words)` gives the bytes to answer with, or None: then the real server answers.

    `words` are the bytes of a command, its name in upper case. `reply(words)` of a connection asks
    the real server and returns its answer as bytes. Once a client subscribes its connection is
    passed through both ways, since answers come unasked then."""

    def __init__(self, target, script, port=0):
        self.target, self.script = target, script
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.open = []
        self.seen = []
        threading.Thread(target=self.accept, daemon=True).start()

    def nodes(self):
        return [f"127.0.0.1:{self.port}"]

    def stop(self):
        self.listener.close()
        for connection in self.open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.open.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, client):
        try:
            with client, socket.create_connection(("127.0.0.1", self.target)) as server:
                self.open.append(server)
                self.answer_all(client, Upstream(server))
        except (OSError, EOFError, ValueError):
            pass

    def answer_all(self, client, upstream):
        commands = client.makefile("rb")
        while True:
            words = read_command(commands)
            self.seen.append(words)
            if words[0] == b"SUBSCRIBE":
                upstream.socket.sendall(encode_command(words))
                pass_through(client, commands, upstream)
                return
            reply = self.script(words, upstream.reply)
            if reply is None:
                reply = upstream.reply(words)
            client.sendall(reply)


class Upstream:
    def __init__(self, connection):
        self.socket = connection
        self.file = connection.makefile("rb")

    def reply(self, words):
        self.socket.sendall(encode_command(words))
        return read_reply(self.file)


def pass_through(client, commands, upstream):
    def back():
        try:
            while True:
                client.sendall(read_reply(upstream.file))
        except (OSError, EOFError, ValueError):
            pass
    threading.Thread(target=back, daemon=True).start()
    while True:
        upstream.socket.sendall(encode_command(read_command(commands)))


def read_line(file):
    line = file.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    return line


def read_command(file):
    count = int(read_line(file)[1:])
    words = []
    for _ in range(count):
        size = int(read_line(file)[1:])
        words.append(file.read(size + 2)[:-2])
    return [words[0].upper()] + words[1:]


def read_reply(file):
    """One whole reply as it came."""
    line = read_line(file)
    if line[:1] == b"$" and line != b"$-1\r\n":
        return line + file.read(int(line[1:]) + 2)
    if line[:1] == b"*" and line != b"*-1\r\n":
        return line + b"".join(read_reply(file) for _ in range(int(line[1:])))
    return line


def bulk(text):
    data = text if isinstance(text, bytes) else text.encode()
    return b"$%d\r\n%s\r\n" % (len(data), data)


def array(*parts):
    """An array of integers, byte strings, and replies given as bytearray."""
    out = [b"*%d\r\n" % len(parts)]
    for part in parts:
        if isinstance(part, int):
            out.append(b":%d\r\n" % part)
        elif isinstance(part, bytearray):
            out.append(bytes(part))
        else:
            out.append(bulk(part if isinstance(part, bytes) else str(part)))
    return b"".join(out)


def slot_map(*ranges):
    """The answer of CLUSTER SLOTS for (first, last, port) of masters without replicas."""
    parts = [bytearray(array(first, last, bytearray(array("127.0.0.1", port, "%040d" % port))))
             for first, last, port in ranges]
    return array(*parts)
