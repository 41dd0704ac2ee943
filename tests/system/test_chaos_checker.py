"""The history checker itself: histories that it must flag and histories that it must not."""

import collections
import itertools
import sys

import pytest

from redis_servers import ROOT

sys.path.insert(0, str(ROOT / "tests" / "chaos"))
from checker import Limits, check, explain  # noqa: E402
from history import Fault, Operation, request_id  # noqa: E402

LIMITS = Limits(own=0.05, others=1.2, refresh_grace=10, slack=1.5)
# The pair that a login or a refresh brings, by its name.
PAIR = {name: {"access": "sa_" + name, "refresh": "sr_" + name, "expires_in": 100}
        for name in ("a0", "a1", "a2", "b0", "x1")}


class History:
    """Operations written down one a line; an audit file that has a line for every one of them."""

    def __init__(self):
        self.operations, self.faults = [], []
        self.audit = collections.defaultdict(dict)
        self.numbers = itertools.count(1)

    def add(self, kind, start, end=None, node=0, status=200, user="u", session="s",
            generation=None, token=None, durability=None, **detail):
        operation = Operation(next(self.numbers), kind, node, start,
                              start + 0.01 if end is None else end, user, session, generation,
                              token, status, detail)
        if kind in ("kick", "logout", "logout-all") and durability:
            operation.detail["durability"] = durability
        self.operations.append(operation)
        lines = self.audit[node]
        lines[request_id(operation)] = [(status, durability)]
        return operation

    def login(self, start, pair="a0", durability="replicated", status=201, **more):
        detail = PAIR[pair] if status == 201 else {}
        return self.add("login", start, status=status, durability=durability, **detail, **more)

    def refresh(self, start, generation, pair=None, durability="replicated", status=200,
                session="s", **more):
        detail = PAIR[pair] if pair else {}
        return self.add("refresh", start, status=status, generation=generation, session=session,
                        token=f"sr_{'b' if session == 't' else 'a'}{generation}",
                        durability=durability, **detail, **more)

    def look(self, start, pair="a0", status=200, kind="validate", **more):
        return self.add(kind, start, token="sa_" + pair, generation=int(pair[1]), status=status,
                        **more)

    def final(self, start, pair="a0", status=200, **more):
        return self.look(start, pair, status, kind="final", **more)

    def kick(self, start, durability="replicated", **more):
        return self.add("kick", start, durability=durability, **more)

    def logout(self, start, pair="a0", durability="replicated", ended=("s",), **more):
        return self.add("logout", start, token="sa_" + pair, generation=int(pair[1]),
                        durability=durability, ended=ended, **more)

    def logout_all(self, start, durability="replicated", keep=None, **more):
        return self.add("logout-all", start, session=None, durability=durability, keep=keep, **more)

    def poll(self, start, unsettled, node=0):
        return self.add("poll", start, node=node, user=None, session=None, unsettled=unsettled)

    def fault(self, start, end, kind="kill master", target="shard 1"):
        self.faults.append(Fault(kind, target, start, end))


RIGHT, WRONG = {}, {}


def right(write):
    RIGHT[write.__name__] = write


def wrong(rule, count=1):
    def remember(write):
        WRONG[write.__name__] = (rule, count, write)
    return remember


# --- (1) dead stays dead ---

@right
def an_ordinary_life(h):
    h.login(1)
    h.look(2), h.look(2.1, node=1)
    h.refresh(3, 0, "a1"), h.refresh(3.001, 0, "a1", node=1)
    h.look(4, "a1"), h.look(4, "a0")
    h.kick(5)
    h.look(5.5, "a1", status=401, reason="kicked")
    h.look(7, "a1", node=1, status=401, reason="kicked")
    h.final(30, "a1", status=401, reason="kicked"), h.final(30, "a0", status=401)


@wrong("dead-stays-dead")
def accepted_on_the_node_that_kicked(h):
    h.login(1), h.kick(2), h.look(2.1)


@right
def accepted_while_the_kick_is_under_way(h):
    h.login(1), h.kick(2, end=3), h.look(2.5, end=3.5), h.look(3.04)


@right
def accepted_elsewhere_within_the_bound(h):
    h.login(1), h.kick(2, end=2.5), h.look(3.6, node=1)


@wrong("dead-stays-dead")
def accepted_elsewhere_beyond_the_bound(h):
    h.login(1), h.kick(2, end=2.5), h.look(3.8, node=1)


@right
def a_kick_without_an_answer_proves_nothing(h):
    h.login(1), h.kick(2, status=0), h.kick(2, status=503), h.kick(3, status=404), h.look(9)


@wrong("dead-stays-dead", count=2)
def a_pending_kick_holds_at_once_where_it_was_answered(h):
    h.login(1), h.kick(2, "pending", status=202), h.look(2.2), h.look(2.3)


@right
def a_pending_kick_binds_others_only_when_the_journal_is_empty(h):
    h.login(1), h.kick(2, "pending", status=202)
    h.poll(1.9, 0), h.poll(2.5, 1), h.poll(3, 0, node=1), h.look(30, node=1)


@wrong("dead-stays-dead")
def a_pending_kick_binds_others_when_the_journal_is_empty(h):
    h.login(1), h.kick(2, "pending", status=202)
    h.poll(2.5, 1), h.poll(5, 0), h.look(6.1, node=1), h.look(6.3, node=1)


@wrong("dead-stays-dead")
def an_accepted_kick_is_bound_like_a_pending_one(h):
    h.login(1), h.kick(2, "accepted"), h.poll(5, 0), h.look(6.1, node=1), h.look(6.3, node=2)


@right
def a_journal_that_says_nothing_is_not_empty(h):
    h.login(1), h.kick(2, "accepted"), h.poll(5, None), h.look(8, node=1)


@wrong("dead-stays-dead")
def whatever_was_ended_is_dead_after_the_run(h):
    h.login(1), h.kick(2, "accepted"), h.final(30, node=1)


@right
def a_stale_answer_that_was_true_before_the_kick(h):
    h.login(1), h.kick(2), h.look(9, node=1, stale_for=6)


@wrong("dead-stays-dead")
def a_stale_answer_that_was_wrong_already_when_it_was_read(h):
    h.login(1), h.kick(2), h.look(9, node=1, stale_for=4)


@wrong("dead-stays-dead")
def a_stale_answer_of_the_node_that_kicked(h):
    h.login(1), h.kick(2, "pending", status=202), h.look(9, stale_for=8)


@wrong("dead-stays-dead")
def logout_all_ends_every_session_of_the_user(h):
    h.login(1), h.login(1.1, "b0", session="t"), h.logout_all(2, keep="s")
    h.look(4), h.look(4, "b0", session="t", node=1)


@right
def logout_all_leaves_other_users_and_later_and_overlapping_logins(h):
    h.login(1, "a0", user="v"), h.logout_all(2, end=3)
    h.login(2.5, "a1", session="t"), h.login(4, "a2", session="r")
    h.look(6, user="v"), h.look(6, "a1", session="t"), h.look(6, "a2", session="r")


@wrong("dead-stays-dead")
def a_logout_that_found_nothing_alive_still_speaks_for_the_session(h):
    h.login(1), h.refresh(2, 0, "a1"), h.logout(15, "a0", ended=()), h.look(17, "a1")


@wrong("dead-stays-dead")
def a_logout_ends_all_pairs_of_its_session(h):
    h.login(1), h.refresh(2, 0, "a1"), h.logout(3, "a0"), h.look(4, "a1")


@wrong("refusal-is-kept")
def a_node_takes_its_refusal_back(h):
    h.login(1), h.kick(2, status=503)
    h.look(3, status=401, reason="kicked", node=1), h.look(4, stale_for=3, node=1)


@right
def a_refusal_is_forgotten_by_a_restart_and_unknown_elsewhere(h):
    h.login(1), h.kick(2, status=503), h.fault(3.5, 4, "kill -9", "node 1")
    h.look(3, status=401, reason="kicked", node=1)
    h.look(5, stale_for=3, node=1), h.look(5, node=2)


# --- (2) nothing forged ---

@right
def forged_tokens_are_refused(h):
    h.add("forged", 1, token="sa_f", status=401), h.add("forged", 1, token="sa_g", status=503)


@wrong("nothing-forged")
def a_forged_token_is_accepted(h):
    h.add("forged", 1, token="sa_f", status=200)


@wrong("nothing-forged")
def a_token_is_accepted_that_no_answer_carried(h):
    h.login(1), h.look(2, "x1")


@wrong("nothing-forged")
def an_answer_speaks_of_somebody_else(h):
    h.login(1), h.look(2, told=("v", "s"))


# --- (3) one living leaf ---

@wrong("one-pair")
def two_pairs_from_one_refresh_token(h):
    h.login(1), h.refresh(2, 0, "a1"), h.refresh(2, 0, "x1", node=1)


@wrong("one-leaf")
def two_living_pairs_after_the_run(h):
    h.login(1), h.refresh(2, 0, "a1")
    h.final(20, "a0"), h.final(20, "a1", node=1), h.final(21, "a1")


@right
def two_pairs_within_the_grace(h):
    h.login(1), h.refresh(2, 0, "a1"), h.final(10, "a0"), h.final(10, "a1")


# --- (4) on record ---

@wrong("on-record")
def a_change_without_a_line(h):
    h.audit[0].pop(request_id(h.login(1)))


@wrong("on-record")
def a_change_with_two_lines(h):
    h.audit[0][request_id(h.login(1))] *= 2


@wrong("on-record")
def a_change_on_record_as_a_failure(h):
    h.login(1), h.kick(2)
    h.audit[0][request_id(h.operations[-1])] = [(503, None)]


@wrong("on-record")
def a_change_on_record_at_another_node(h):
    h.login(1)
    h.audit = {1: h.audit[0]}


@right
def what_was_not_acknowledged_needs_no_line(h):
    for status in (0, 503, 404):
        h.audit[0].pop(request_id(h.kick(1, status=status)))
    h.audit[0].pop(request_id(h.look(1, status=401)))


# --- (5) valid is not refused ---

@wrong("valid-is-not-refused")
def a_living_token_is_refused(h):
    h.login(1), h.look(2), h.look(3, status=401, reason="unknown")


@right
def a_living_token_is_unknown_for_a_while(h):
    h.login(1), h.look(2), h.look(3, status=503), h.look(4, status=0), h.look(5)


@right
def a_token_that_was_never_accepted_is_not_judged(h):
    h.login(1), h.look(3, status=401), h.look(4, end=6), h.look(5, status=401)


@right
def what_may_have_ended_may_be_refused(h):
    h.login(1), h.look(2), h.kick(3, end=5, status=0), h.look(4, status=401)
    h.login(1, "b0", session="t"), h.look(2, "b0", session="t")
    h.logout_all(6, status=503, keep="s"), h.look(7, "b0", session="t", status=401)


@wrong("valid-is-not-refused")
def the_session_that_a_logout_all_keeps_is_not_refused(h):
    h.login(1), h.look(2), h.logout_all(3, keep="s"), h.look(4, status=401)


@wrong("valid-is-not-refused")
def an_ending_that_began_later_is_no_cause(h):
    h.login(1), h.look(2), h.look(3, status=401), h.kick(3.5), h.logout_all(3.6)


@right
def a_token_at_the_end_of_its_life_may_be_refused(h):
    h.login(1), h.look(2), h.look(99.8, status=401), h.look(200, status=401)


@right
def a_refreshed_token_may_be_refused(h):
    h.login(1), h.look(2), h.refresh(3, 0, status=0), h.look(4, status=401)


@wrong("valid-is-not-refused")
def a_successor_is_not_refused_for_a_repetition_within_the_grace(h):
    h.login(1), h.refresh(2, 0, "a1"), h.look(3, "a1"), h.refresh(4, 0, "a1")
    h.look(5, "a1", status=401)


@right
def a_late_repetition_is_reuse_and_may_end_the_session(h):
    h.login(1), h.refresh(2, 0, "a1"), h.look(3, "a1"), h.refresh(11, 0, status=401)
    h.look(13, "a1", status=401)


@right
def a_pair_that_was_on_no_replica_may_be_lost_by_a_fault(h):
    h.login(1, durability="accepted"), h.look(2), h.fault(3, 9), h.look(8, status=401)


@wrong("valid-is-not-refused")
def a_pair_that_was_on_a_replica_may_not_be_lost(h):
    h.login(1), h.look(2), h.fault(3, 9), h.look(8, status=401)


@wrong("valid-is-not-refused")
def without_a_fault_nothing_may_be_lost(h):
    h.fault(0, 0.5), h.login(1, durability="accepted"), h.look(2), h.look(8, status=401)


# --- after the run ---

@wrong("healed", count=3)
def a_node_that_is_not_well_after_the_run(h):
    h.login(1), h.final(30, status=503), h.final(30, status=0, node=1)
    h.final(30, stale_for=1, node=2)


@right
def a_node_may_distrust_redis_for_a_minute_after_the_last_fault(h):
    h.login(1), h.refresh(2, 0, "a1", durability="accepted"), h.fault(3, 9)
    h.final(30, "a0"), h.final(30, "a1", node=1, stale_for=21)
    h.final(30, "a0", status=503, code="store_behind", node=2)


@wrong("healed", count=2)
def a_node_may_not_distrust_redis_for_ever(h):
    h.login(1), h.refresh(2, 0, "a1", durability="accepted"), h.fault(3, 9)
    h.final(80, "a0", status=503, code="store_behind"), h.final(80, "a1", node=1, stale_for=71)


@wrong("healed")
def a_node_that_cannot_reach_redis_is_not_well(h):
    h.login(1), h.fault(3, 9), h.final(12, "a0", status=503, code="store_unavailable")


def run(history):
    return check(history.operations, LIMITS, history.faults, history.audit)


@pytest.mark.parametrize("name", RIGHT)
def test_the_checker_accepts(name):
    history = History()
    RIGHT[name](history)
    assert run(history) == []


@pytest.mark.parametrize("name", WRONG)
def test_the_checker_flags(name):
    rule, count, write = WRONG[name]
    history = History()
    write(history)
    found = run(history)
    assert [violation.rule for violation in found] == [rule] * count, found
    lines = explain(found[0], history.operations, history.faults)
    assert rule in lines[0] and any(line.startswith("=> ") for line in lines[1:]), lines


def test_the_order_in_which_operations_were_noted_does_not_matter():
    history = History()
    history.login(1), history.look(2), history.look(3, status=401), history.kick(4)
    history.look(7, node=1)
    expected = run(history)
    history.operations.reverse()
    assert len(expected) == 2 and run(history) == expected


def test_without_audit_files_nothing_is_missed_in_them():
    history = History()
    history.login(1)
    assert check(history.operations, LIMITS) == []
