"""Logins and sessions that are asked for a verification, and the addresses that they come from."""

from checks import check_problem
from daemon import SERVICE, Daemon

HOME, NEIGHBOUR, OFFICE, CAFE = "198.51.100.7", "198.51.100.200", "203.0.113.9", "192.0.2.1"
HOME6, NEIGHBOUR6, OFFICE6 = "2001:db8:1::7", "2001:db8:1:ffff::8", "2001:db8:2::9"


def bound_daemon(workspace, cluster, name, count, **options):
    """Nodes that believe X-Forwarded-For of the tests."""
    daemon = Daemon(workspace / name, cluster, count, server__trusted_proxies="127.0.0.0/8", **options)
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def seen_from(daemon, token, ip, fingerprint=None, node=0):
    """GET /v1/validate by a user at this address."""
    headers = {"X-Forwarded-For": ip}
    if fingerprint:
        headers["X-Device-Fingerprint"] = fingerprint
    return daemon.validate(token, node=node, headers=headers)


def verify(daemon, challenge_id, code, node=0):
    return daemon.call("POST", "/v1/login/verify", {"challenge_id": challenge_id, "code": code},
                       SERVICE, node=node)


def step_up(daemon, token, node=0, **fields):
    """The answer to a service, with a code for it to deliver."""
    told = daemon.check(token, node=node, **fields).json
    assert told["active"] is False and told["reason"] == "verification_required", told
    assert told["method"] == "otp" and len(told["otp"]) == 6
    return told


def challenge(daemon, user, node=0, **fields):
    """A login that is asked for more; the problem's members."""
    answer = daemon.try_login(user, node=node, **fields)
    return check_problem(answer, 403, "verification_required")


def answer_with(daemon, body, key=SERVICE, node=0):
    return daemon.call("POST", "/v1/login/verify", body, key, node=node)


def solve(daemon, problem, node=0):
    answer = answer_with(daemon, {"challenge_id": problem["challenge_id"], "code": problem["otp"]},
                         node=node)
    assert answer.status == 201, answer
    return answer.json


def wrong(code):
    return f"{(int(code) + 1) % 1000000:06d}"
