#!/usr/bin/python3
"""Measures pages of a tenant's session list: of one large tenant, and of many small ones.

On a fresh Redis Cluster users log in, a part of them in one tenant, the rest in tenants of a few users each. Then
one client asks for pages, one after the other: a walk through the large tenant from its first page on, and the first
page of random small ones. The figures are those of the client, over loopback, on a machine that Redis,
sessiond and the client share. The walk must find every user of the large tenant.
"""
import http.client
import json
import random
import sys
import time

import pump
import service


def login(key, tenant, user):
    body = json.dumps({"user_id": f"user-{user:07d}", "tenant": tenant, "device": {"type": "phone", "id": f"d{user}"},
                       "ip": f"203.0.113.{user % 256}", "user_agent": "Safari 17.5 on iOS"}).encode()
    return (f"POST /v1/login HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body


class Pages:
    """Asks for pages and remembers how long each took."""

    def __init__(self, daemon):
        self.connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
        self.headers = {"Authorization": "Bearer " + daemon.key}
        self.seconds = []

    def ask(self, tenant, size, token=None):
        path = f"/v1/tenants/{tenant}/sessions?page_size={size}" + (f"&page_token={token}" if token else "")
        start = time.perf_counter()
        self.connection.request("GET", path, headers=self.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        self.seconds.append(time.perf_counter() - start)
        if answer.status != 200:
            raise RuntimeError(f"answer {answer.status}: {body.decode()}")
        return json.loads(body)

    def report(self, what):
        """Prints how long they took and forgets it; returns the 99th percentile in ms."""
        times = sorted(1000 * second for second in self.seconds)
        at = lambda share: times[min(len(times) - 1, int(share * len(times)))]
        print(f"{what}: {len(times)} pages, p50 {at(0.5):.2f} ms, p99 {at(0.99):.2f} ms, most {times[-1]:.2f} ms", flush=True)
        self.seconds = []
        return at(0.99)


def ask_small(pages, tenants, count):
    """The first page of random ones out of these tenants, each of 10 users."""
    for _ in range(count):
        users = pages.ask(random.choice(tenants), 20)["users"]
        if len(users) != 10:
            raise RuntimeError(f"{len(users)} users of 10")


def walk(pages, tenant, size, most=sys.maxsize):
    """All pages but no more than `most`, again from the first until there were enough; returns the users that were
    met, and the last page."""
    users, token, walks = set(), None, 0
    while (walks == 0 or len(pages.seconds) < 300) and len(pages.seconds) < most:
        body = pages.ask(tenant, size, token)
        users |= {user["user_id"] for user in body["users"]}
        token = body["next_page_token"]
        walks += token is None
    return users, body


def main():
    parser = service.argument_parser(__doc__, 18340, "first of two ports", 7341)
    parser.add_argument("--users", type=int, default=50000, help="of the large tenant")
    parser.add_argument("--tenants", type=int, default=2000, help="small ones, of 10 users each")
    parser.add_argument("--connections", type=int, default=32)
    arguments = parser.parse_args()
    service.check_ports_free(range(arguments.port, arguments.port + 2))
    with service.scratch_directory(arguments.build) as directory, \
            service.redis_cluster(directory, arguments.redis_port) as nodes:
        daemon = service.Service(arguments.build / "sessiond", directory, nodes, arguments.port, workers=1)
        with daemon.running():
            start = time.monotonic()
            requests = [login(daemon.key, "large", user) for user in range(arguments.users)]
            requests += [login(daemon.key, f"small-{n}", user) for n in range(arguments.tenants) for user in range(10)]
            random.Random(1).shuffle(requests)
            pump.exchange(daemon.port, iter(requests), arguments.connections, 201)
            print(f"{len(requests)} logins in {time.monotonic() - start:.0f} s; the index was written "
                  f"{daemon.metric('sessiond_index_writes_total'):.0f} times", flush=True)
            time.sleep(1)
            pages = Pages(daemon)
            for size in (20, 100):
                users, last = walk(pages, "large", size)
                pages.report(f"large tenant, {size} users a page")
                if len(users) != arguments.users:
                    raise RuntimeError(f"the walk found {len(users)} of {arguments.users} users")
                print(f"  total_size {last['total_size']}, total_error {last['total_error']}")
            ask_small(pages, [f"small-{number}" for number in range(arguments.tenants)], 500)
            pages.report("small tenants, 10 users")


if __name__ == "__main__":
    sys.exit(main())
