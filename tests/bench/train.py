#!/usr/bin/python3
"""Runs an instrumented sessiond under load, for the profile by which it is compiled again (`make profiled`).

The load is what a busy service gets: many validations from memory, some that ask Redis, a few logins. Code that does
not run here is compiled as without a profile.
"""
import contextlib
import sys

import load
import service
from bench import make_tokens

# Name, options, and each load with its seconds.
SERVICES = (
    ("cached", {}, (("validate", 6), ("login", 2))),
    ("uncached", {"cache.bytes": 0}, (("validate", 2),)),
)


@contextlib.contextmanager
def running(arguments, directory, nodes, name, options):
    daemon = service.Service(arguments.build / "sessiond", directory / name, nodes, arguments.port, 1, options)
    with daemon.running():
        yield daemon


def play(daemon, kind, seconds):
    url = f"http://127.0.0.1:{daemon.port}/v1/{kind}"
    words = ("random", daemon.directory / "tokens") if kind == "validate" else ("logins", daemon.key, "train")
    requests, rate, _, _ = load.wrk(url, seconds, *words)
    print(f"  {daemon.directory.name}: {requests} of {kind}, {rate:.0f}/s", flush=True)


def main():
    parser = service.argument_parser(__doc__, 18360, "first of two ports", 7361)
    arguments = parser.parse_args()
    service.check_ports_free(range(arguments.port, arguments.port + 2))
    with service.scratch_directory(arguments.build) as directory, \
            service.redis_cluster(directory, arguments.redis_port) as nodes:
        for name, options, loads in SERVICES:
            with running(arguments, directory, nodes, name, options) as daemon:
                make_tokens(daemon, daemon.directory / "tokens")
                for kind, seconds in loads:
                    play(daemon, kind, seconds)


if __name__ == "__main__":
    sys.exit(main())
