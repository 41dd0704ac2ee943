"""The history of a run: every call of every client, and every fault, with its times.

Times are time.monotonic() in seconds, which all processes of a machine share: `start` was taken
before the first byte was sent, `end` after the last one was received. So if one operation's end is
less than another one's start, the service saw them in this order."""

import itertools
import time
from typing import NamedTuple, Optional

LOGIN, REFRESH, KICK, LOGOUT, LOGOUT_ALL = "login", "refresh", "kick", "logout", "logout-all"
VALIDATE, FINAL, FORGED, POLL = "validate", "final", "forged", "poll"
ENDINGS = (KICK, LOGOUT, LOGOUT_ALL)
CHANGES = (LOGIN, REFRESH, *ENDINGS)


class Operation(NamedTuple):
    """One call. `status` is 0 if no whole answer came; then it is not known whether it took effect.

    kind        subject                                     detail of a success
    login       user                                        access, refresh, expires_in
    refresh     session, token (presented), generation      the same
    kick        session                                     durability, ended
    logout      session, token                              the same
    logout-all  user                                        the same, and always keep
    validate    session, token, generation                  stale_for (None: not stale)
    final       the same: after the run, when all is well
    forged      token, which nobody issued
    poll        -                                           unsettled (None: not told)

    `session` of a login is the one it made. `generation` numbers the pairs of a session: 0 from
    its login, g + 1 from the refresh token of pair g. POST /v1/validate is noted with the status
    that GET would have had (200 or 401). A refusal has its `reason`, an error its `code`, an answer
    that speaks of another session than the token's what it `told`."""
    number: int
    kind: str
    node: int
    start: float
    end: float
    user: Optional[str]
    session: Optional[str]
    generation: Optional[int]
    token: Optional[str]
    status: int
    detail: dict

    @property
    def acknowledged(self):
        return 200 <= self.status < 300

    def describe(self, origin=0.0):
        """One line for people: times count from `origin`, tokens are cut."""
        subject = [f"user {self.user}" if self.user else "",
                   f"session {self.session}" if self.session else "",
                   f"pair {self.generation}" if self.generation is not None else "",
                   f"token …{self.token[-6:]}" if self.token else ""]
        detail = [f"{name}={value}" for name, value in self.detail.items()
                  if name not in ("access", "refresh") and value not in (None, ())]
        words = [self.kind, f"on node {self.node}", *filter(None, subject), "→",
                 str(self.status or "no answer"), *detail, f"[{request_id(self)}]"]
        return f"{self.start - origin:9.3f}–{self.end - origin:.3f} " + " ".join(words)


class Fault(NamedTuple):
    """A fault of the nemesis, from its injection to the end of its healing."""
    kind: str
    target: str
    start: float
    end: float

    def describe(self, origin=0.0):
        return f"{self.start - origin:9.3f}–{self.end - origin:.3f} fault {self.kind} {self.target}"


def request_id(operation):
    """The X-Request-Id under which a call went out; those of changes differ from the others."""
    return f"{'change' if operation.kind in CHANGES else 'look'}-{operation.number}"


class Recorder:
    """Collects operations from many threads: a number and an append each, no lock of our own."""

    def __init__(self):
        self.operations = []
        self.numbers = itertools.count(1)

    def begin(self, kind, node):
        return Pending(self, next(self.numbers), kind, node)


class Pending:
    """An operation that has begun."""

    def __init__(self, recorder, number, kind, node):
        self.recorder, self.number, self.kind, self.node = recorder, number, kind, node
        self.start = time.monotonic()

    @property
    def request_id(self):
        return request_id(self)

    def done(self, status, user=None, session=None, generation=None, token=None, **detail):
        operation = Operation(self.number, self.kind, self.node, self.start, time.monotonic(),
                              user, session, generation, token, status, detail)
        self.recorder.operations.append(operation)
        return operation
