"""Judges a history: a pure function from what clients saw to what must not have happened.

An operation without a whole answer, or with a 5xx, may or may not have taken effect; no rule takes
either for granted. Each rule is a function below, and its docstring says exactly what it demands.

A *bound* is the time from which on a session must be refused. That of an ending (kick, logout,
logout-all, answered 2xx) follows from what its answer said about durability:

- on the node that answered: at once (`Limits.own`), whatever the durability;
- replicated, on the others: `Limits.others` after the answer;
- accepted or pending, on the others: `Limits.others` after a poll of the answering node that began
  after the answer and found no unsettled revocation in its journal; until then there is no bound.
"""

import bisect
import collections
from dataclasses import dataclass, field
from typing import NamedTuple

from history import (CHANGES, ENDINGS, FINAL, FORGED, KICK, LOGIN, LOGOUT, LOGOUT_ALL, POLL,
                     REFRESH, VALIDATE, request_id)

EXPLAINED = 8       # related operations, and faults, shown with a violation
# Reasons of a refusal that time alone, or a lost pair, can bring about.
NOT_FINAL = {"expired", "idle", "unknown", "malformed", None}


@dataclass(frozen=True)
class Limits:
    own: float = 0.05           # from an answer to its effect on the node that gave it
    others: float = 1.2         # to its effect on the others
    refresh_grace: float = 30.0
    slack: float = 1.5          # lifetimes are reported in whole seconds, rounded down
    behind: float = 65.0        # how long Redis may be refused as behind what a node has seen


class Violation(NamedTuple):
    rule: str
    message: str
    operations: tuple       # the operations that contradict each other, oldest first


class Issue:
    """An access token and all answers that carried it."""

    def __init__(self, operation, session, generation):
        self.first = operation
        self.session, self.user, self.generation = session, operation.user, generation
        self.answers = [operation]
        self.known = operation.end
        self.dies = operation.start + operation.detail["expires_in"]

    def add(self, operation):
        self.answers.append(operation)
        self.known = min(self.known, operation.end)
        self.dies = min(self.dies, operation.start + operation.detail["expires_in"])
        if operation.start < self.first.start:
            self.first = operation


@dataclass
class Index:
    """The history by what the rules ask for."""
    operations: list
    limits: Limits
    faults: list
    audit: dict
    issues: dict = field(default_factory=dict)         # access token -> Issue
    logins: dict = field(default_factory=dict)         # session -> its login
    sessions_of: dict = field(default_factory=lambda: collections.defaultdict(list))
    refreshes: dict = field(default_factory=lambda: collections.defaultdict(list))
    endings: dict = field(default_factory=lambda: collections.defaultdict(list))  # by session
    user_endings: dict = field(default_factory=lambda: collections.defaultdict(list))
    clean_polls: dict = field(default_factory=lambda: collections.defaultdict(list))  # by node

    def __post_init__(self):
        self.operations = sorted(self.operations, key=lambda operation: operation.start)
        for operation in self.operations:
            self.add(operation)

    def add(self, operation):
        kind = operation.kind
        if kind == LOGIN and operation.acknowledged:
            self.logins[operation.session] = operation
            self.sessions_of[operation.user].append(operation)
            self.issue(operation, 0)
        elif kind == REFRESH:
            self.refreshes[operation.session].append(operation)
            if operation.acknowledged:
                self.issue(operation, operation.generation + 1)
        elif kind in (KICK, LOGOUT):
            self.endings[operation.session].append(operation)
        elif kind == LOGOUT_ALL:
            self.user_endings[operation.user].append(operation)
        elif kind == POLL and operation.detail.get("unsettled") == 0:
            self.clean_polls[operation.node].append(operation)

    def issue(self, operation, generation):
        token = operation.detail["access"]
        if token in self.issues:
            self.issues[token].add(operation)
        else:
            self.issues[token] = Issue(operation, operation.session, generation)

    def looks(self, *kinds):
        return [operation for operation in self.operations if operation.kind in kinds]

    def first_clean_poll(self, node, after):
        """The first poll of a node that began after a time and found nothing unconfirmed."""
        polls = self.clean_polls[node]
        place = bisect.bisect_left(polls, after, key=lambda poll: poll.start)
        return polls[place] if place < len(polls) else None

    def bounds(self, ending):
        """(bound on the node that answered, bound on the others or None)."""
        own = ending.end + self.limits.own
        if ending.detail.get("durability") == "replicated":
            return own, ending.end + self.limits.others
        poll = self.first_clean_poll(ending.node, ending.end)
        return own, poll.end + self.limits.others if poll else None

    def durabilities(self, operation):
        """The durability of a call by its audit lines."""
        lines = self.audit.get(operation.node, {}).get(request_id(operation), ())
        return {durability for _, durability in lines}


class Death(NamedTuple):
    ending: object
    own: float
    others: float       # None: no bound


def deaths_by_session(index):
    """Sessions that must have ended, and since when: session -> deaths.

    A kick kills its session. So does a logout, with whatever token of the session, also when its
    answer names none because it found nothing alive. A logout-all kills every session of the user
    whose login was answered before it began, except the one it keeps; logins that overlap it are
    not judged."""
    sessions = collections.defaultdict(list)
    for session, endings in index.endings.items():
        for ending in endings:
            if ending.acknowledged:
                sessions[session].append(Death(ending, *index.bounds(ending)))
    for user, endings in index.user_endings.items():
        for ending in endings:
            if not ending.acknowledged:
                continue
            death = Death(ending, *index.bounds(ending))
            for login in index.sessions_of[user]:
                if login.end < ending.start and login.session != ending.detail.get("keep"):
                    sessions[login.session].append(death)
    return sessions


def breaks_bound(look, death):
    """True if a node accepted a token that it had to refuse by then.

    On other nodes than the one that answered, an answer marked stale for n seconds was true n to
    n + 1 seconds before: Redis did not answer this node, which the outage contract allows. It
    is wrong only if the session had to be refused even then."""
    if look.node == death.ending.node and look.start > death.own:
        return True
    stale_for = look.detail.get("stale_for")
    if look.kind == FINAL and stale_for is None:
        return True
    if death.others is None:
        return False
    verified = look.start if stale_for is None else look.start - stale_for - 1
    return verified > death.others


def check_dead_stays_dead(index):
    """(1) No validation that began after a session's bound was accepted, by any node.

    After the run (`final`), with Redis well and all journals empty, every node refuses what any
    acknowledged operation ever ended, whatever its durability was."""
    sessions = deaths_by_session(index)
    for look in index.looks(VALIDATE, FINAL):
        if not look.acknowledged:
            continue
        for death in sessions.get(look.session, []):
            if breaks_bound(look, death):
                late = look.start - death.ending.end
                yield Violation("dead-stays-dead", f"accepted {late:.3f} s after it was ended "
                                f"({death.ending.detail.get('durability')})",
                                (index.logins.get(look.session), death.ending, look))
                break


def restarted(index, node, start, end):
    return any(fault.target == f"node {node}" and fault.start <= end and fault.end >= start
               for fault in index.faults)


def check_refusal_is_kept(index):
    """(1) A node that once refused a session because somebody ended it never accepts it again,
    not even while Redis is away, unless the process was touched by a fault in between."""
    refused = {}
    for look in index.looks(VALIDATE, FINAL):
        key = (look.session, look.node)
        before = refused.get(key)
        if look.status == 401 and look.detail.get("reason") not in NOT_FINAL and not before:
            refused[key] = look
        elif look.acknowledged and before and before.end < look.start:
            if not restarted(index, look.node, before.start, look.end):
                yield Violation("refusal-is-kept", "accepted by the node that had refused it "
                                f"{look.start - before.end:.3f} s before", (before, look))


def check_nothing_forged(index):
    """(2) No token is accepted that no answer of the service ever carried, and no answer speaks of
    another user or session than those that the token was issued for."""
    for look in index.looks(FORGED, VALIDATE, FINAL):
        if not look.acknowledged:
            continue
        if look.kind == FORGED or look.token not in index.issues:
            yield Violation("nothing-forged", "accepted a token that was never issued", (look,))
        elif "told" in look.detail:
            yield Violation("nothing-forged", "answered with somebody else's session",
                            (index.issues[look.token].first, look))


def check_one_pair(index):
    """(3) All successful answers to one refresh token carry the same pair, wherever and however
    often it was presented."""
    pairs = {}
    for refreshes in index.refreshes.values():
        for refresh in refreshes:
            if not refresh.acknowledged:
                continue
            first = pairs.setdefault(refresh.token, refresh)
            if any(first.detail[name] != refresh.detail[name] for name in ("access", "refresh")):
                yield Violation("one-pair", "one refresh token gave two pairs", (first, refresh))


def check_one_leaf(index):
    """(3) After the run, and later than the refresh grace behind a session's last refresh, access
    tokens of at most one of its pairs are accepted as known to Redis, over all nodes. A stale
    answer may speak of a pair that Redis has lost: check_healed."""
    accepted = collections.defaultdict(dict)
    for look in index.looks(FINAL):
        last = max((refresh.end for refresh in index.refreshes.get(look.session, ())), default=0.0)
        settled = last + index.limits.refresh_grace + index.limits.slack
        stale = look.detail.get("stale_for") is not None
        if look.acknowledged and not stale and look.start > settled:
            accepted[look.session].setdefault(look.generation, look)
    for looks in accepted.values():
        if len(looks) > 1:
            yield Violation("one-leaf", f"{len(looks)} pairs of one session are alive",
                            tuple(looks.values()))


def check_on_record(index):
    """(4) Every change that was answered 2xx has exactly one line in the audit files of the node
    that answered, under its request id and with its status."""
    for change in index.looks(*CHANGES):
        if not change.acknowledged:
            continue
        statuses = [status for status, _ in index.audit.get(change.node, {}).get(
            request_id(change), ())]
        if statuses != [change.status]:
            found = f"lines with {statuses}" if statuses else "no line"
            yield Violation("on-record", f"{found} in the audit files of node {change.node}",
                            (change,))


def may_be_over(index, issue, until):
    """True if anything was begun before `until` that may have made the token invalid.

    Such is every ending of the session or its user, whatever became of it, every refresh with the
    token's own pair or a later one, and every refresh with an older pair that may have come too
    late to be a repetition, since that ends the session."""
    for ending in index.endings.get(issue.session, ()):
        if ending.start < until:
            return True
    for ending in index.user_endings.get(issue.user, ()):
        if ending.start < until and ending.detail.get("keep") != issue.session:
            return True
    for refresh in index.refreshes.get(issue.session, ()):
        if refresh.start >= until:
            continue
        in_time = refresh.end < issue.first.start + index.limits.refresh_grace - index.limits.slack
        if refresh.generation != issue.generation - 1 or not in_time:
            return True
    return False


def may_be_lost(index, issue, until):
    """True if Redis may have lost the token's pair: no answer that carried it was on a replica, and
    there was a fault since."""
    if any("replicated" in index.durabilities(answer) for answer in issue.answers):
        return False
    return any(fault.start < until and fault.end > issue.first.start for fault in index.faults)


def check_valid_is_not_refused(index):
    """(5) No token that was accepted before is refused with 401 without a cause.

    Causes are: something that may have ended it (may_be_over), its lifetime, and that Redis lost
    the pair (may_be_lost), which replication allows for what was not on a replica. 503 is always
    allowed: unknown is not invalid."""
    accepted = {}
    for look in index.looks(VALIDATE, FINAL):
        if look.acknowledged:
            accepted.setdefault(look.token, look)
            continue
        issue, before = index.issues.get(look.token), accepted.get(look.token)
        if look.status != 401 or not issue or not before or before.end > look.start:
            continue
        if look.end > issue.dies - index.limits.slack or may_be_over(index, issue, look.end):
            continue
        if not may_be_lost(index, issue, look.end):
            yield Violation("valid-is-not-refused", "a living token was refused: "
                            f"{look.detail.get('reason')}", (issue.first, before, look))


def check_healed(index):
    """After the run every node answers for itself: no 5xx, nothing without an answer, nothing
    stale. But for a minute (`Limits.behind`) after the last fault a node may distrust a Redis that
    has lost changes of a user: then it answers store_behind, or stale."""
    last = max((fault.end for fault in index.faults), default=float("-inf"))
    for look in index.looks(FINAL):
        stale = look.detail.get("stale_for") is not None
        well = look.status in (200, 401) and not stale
        behind = stale or look.detail.get("code") == "store_behind"
        if not well and not (behind and look.start < last + index.limits.behind):
            yield Violation("healed", "not well after the run", (look,))


RULES = (check_dead_stays_dead, check_refusal_is_kept, check_nothing_forged, check_one_pair,
         check_one_leaf, check_on_record, check_valid_is_not_refused, check_healed)


def check(operations, limits=Limits(), faults=(), audit=None):
    """All violations of a history.

    `audit` has for each node what its files say about changes: request id -> [(status,
    durability or None)]. None: there are no audit files to judge by."""
    index = Index(list(operations), limits, list(faults), audit or {})
    rules = [rule for rule in RULES if audit is not None or rule is not check_on_record]
    return [violation for rule in rules for violation in rule(index)]


def explain(violation, operations, faults, origin=0.0):
    """The lines that show a violation: what contradicts itself, and what else was done to the
    session and its user meanwhile, with the faults; of many only the latest."""
    parts = [operation for operation in violation.operations if operation]
    sessions = {operation.session for operation in parts if operation.session}
    users = {operation.user for operation in parts if operation.user}
    start, end = min(o.start for o in parts), max(o.end for o in parts)
    others = [o for o in operations if o not in parts and o.start <= end and
              (o.kind in (REFRESH, *ENDINGS) and o.session in sessions or
               o.kind == LOGOUT_ALL and o.user in users)]
    others.sort(key=lambda operation: operation.start)
    meanwhile = [fault for fault in faults if fault.start <= end and fault.end >= start]
    lines = [(o.start, "=> " + o.describe(origin)) for o in parts]
    lines += [(o.start, "   " + o.describe(origin)) for o in others[-EXPLAINED:]]
    lines += [(f.start, "   " + f.describe(origin)) for f in meanwhile[-EXPLAINED:]]
    return [f"{violation.rule}: {violation.message}"] + [text for _, text in sorted(lines)]
