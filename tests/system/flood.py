"""Calls of strangers as fast as they are taken: pipelined, counted by their answers.

A process of its own, so that whoever measures meanwhile measures the daemon:
flood.py PORT CALLS CONNECTIONS. Prints how many were answered, and in what time."""

import base64
import json
import secrets
import socket
import subprocess
import sys
import threading
import time

BATCH = 50  # requests in flight on a connection
END = b"HTTP/1.1 "


def forged(prefix):
    return prefix + base64.urlsafe_b64encode(bytes([1]) + secrets.token_bytes(44)).decode()


def request(method, path, *headers, body=""):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def strangers():
    """Kinds of calls without a genuine credential: no path, no method, no key, none that is
    known, tokens that were never issued, a page that asks, a page about a problem."""
    refresh = json.dumps({"refresh_token": forged("sr_")})
    json_type = "Content-Type: application/json"
    return [
        request("GET", "/wp-login.php"), request("PUT", "/v1/login"), request("GET", "/v1/validate"),
        request("POST", "/v1/login", json_type, body='{"user_id":"a"}'),
        request("POST", "/v1/login", "Authorization: Bearer sk_guess", json_type, body="{}"),
        request("GET", "/v1/validate", "Authorization: Bearer " + forged("sa_")),
        request("POST", "/v1/logout", "Authorization: Bearer " + forged("sa_")),
        request("POST", "/v1/refresh", json_type, body=refresh),
        request("OPTIONS", "/v1/validate", "Origin: https://a.example",
                "Access-Control-Request-Method: GET"),
        request("GET", "/problems/not_found"),
        request("GET", "/v1/validate?oops=1"),
    ]


def answers(connection, count):
    """Reads so many answers."""
    seen, rest = 0, b""
    while seen < count:
        part = connection.recv(1 << 18)
        if not part:
            raise ConnectionError(f"closed after {seen} of {count}")
        data = rest + part
        seen += data.count(END)
        rest = data[len(data) - len(END) + 1:]
    return seen


def send(port, calls, counts, number):
    kinds = strangers()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(60)
        while counts[number] < calls:
            size = min(BATCH, calls - counts[number])
            connection.sendall(b"".join(kinds[(number + at) % len(kinds)] for at in range(size)))
            counts[number] += answers(connection, size)


def main(port, calls, connections):
    counts = [0] * connections
    began = time.monotonic()
    threads = [threading.Thread(target=send, args=(port, calls // connections, counts, number))
               for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"calls": sum(counts), "seconds": time.monotonic() - began}))


class Flood:
    """The process; wait() tells its numbers."""

    def __init__(self, port, calls, connections=4):
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(port), str(calls), str(connections)],
            stdout=subprocess.PIPE, text=True)

    def is_on(self):
        return self.process.poll() is None

    def wait(self, seconds=300):
        output, _ = self.process.communicate(timeout=seconds)
        return json.loads(output)

    def kill(self):
        if self.is_on():
            self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:4]))
