"""Checks of answers that several tests share."""

import re

from redis_servers import wait_until

SESSION_ID = re.compile(r"[0-9a-f]{16}")
ACCESS_TOKEN = re.compile(r"sa_[A-Za-z0-9_-]{60}")
REFRESH_TOKEN = re.compile(r"sr_[A-Za-z0-9_-]{60}")
# Not within a random text of the same letters, such as the id of a challenge.
ANY_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])s[ark]_[A-Za-z0-9_-]{20,}")
LOGIN_MEMBERS = {"tenant", "user_id", "session_id", "access_token", "token_type", "expires_in",
                 "refresh_token", "refresh_expires_in", "idle_expires_in", "device", "new_device", "new_location",
                 "replaced"}


def check_problem(answer, status, code):
    """The answer is exactly this error, in the form that api.md promises."""
    assert answer.status == status, answer
    assert answer.header("Content-Type").split(";")[0] == "application/problem+json", answer
    problem = answer.json
    assert problem["code"] == code, problem
    assert problem["type"] == f"/problems/{code}"
    assert problem["status"] == status
    assert problem["title"] and isinstance(problem["title"], str)
    assert problem["request_id"] == answer.header("X-Request-Id")
    if status == 401:
        assert answer.header("WWW-Authenticate").startswith("Bearer"), answer
    if status in (429, 503):
        assert int(answer.header("Retry-After")) >= 1, answer
    assert not ANY_TOKEN.search(answer.body.decode()), "a problem shows a token"
    return problem


def check_dead(answer, reason, actor=None):
    """GET /v1/validate says that the token is dead and why."""
    problem = check_problem(answer, 401, "token_invalid")
    assert problem["reason"] == reason, problem
    if actor is not None:
        assert problem["actor"] == actor, problem
        assert isinstance(problem["ended_at"], int)
    return problem


def first_refusal(call, seconds, what):
    """The first answer of the call that is not 200, within so many seconds: a validity that is limited in time is
    over."""
    return wait_until(lambda: (answer := call()).status != 200 and answer, seconds, what)


def check_ended(answer, sessions, durability="replicated"):
    """The *ended* answer names exactly these sessions; 202 means that Redis does not have it yet."""
    assert answer.status in (200, 202), answer
    body = answer.json
    assert (answer.status == 202) == (body["durability"] == "pending"), answer
    assert set(body) == {"tenant", "ended", "sessions", "durability"}, body
    assert sorted(body["sessions"]) == sorted(sessions), body
    assert body["ended"] == len(sessions)
    if durability and sessions:
        assert body["durability"] == durability, body
    return body
