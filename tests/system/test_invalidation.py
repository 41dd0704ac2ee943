"""How long it takes until the other nodes refuse a token that was kicked on one."""

import contextlib
import time

import pytest

from bounds import JUDGED, at_most
from daemon import unique
from faults import HEARD, breakers, proxied_service
from probes import (FULL, Probe, in_ms, kick_of, log_in_all, percentile, validate_all, watch_die)
from redis_servers import SLOW, for_a_while, wait_until

KICKS = 1000 if FULL else 300 if JUDGED else 60
DEAF_KICKS = 20 if FULL else 4


@pytest.fixture
def near(start):
    return start(3)


@pytest.fixture(scope="module")
def service(workspace):
    """Behind proxies, which live in this very process and take their time."""
    with proxied_service(workspace / "news", count=3) as daemon:
        yield daemon


def prepared(service, count):
    """Sessions of as many users that every node answers for from memory."""
    logins = log_in_all(service.node, [unique("news") for _ in range(count)])

    def all_known(node):
        return all(reply.json["source"] == "cache" for reply in validate_all(node, logins))
    for node in service.nodes:
        wait_until(lambda: all_known(node), 5, "all are in memory")
    return logins


def all_is_well(service):
    for node in service.nodes:
        wait_until(lambda: node.metric("sessiond_watches") == 3, 5, "masters are watched again")
        wait_until(lambda: set(breakers(node).values()) == {"closed"}, 5, "breakers are closed")


@contextlib.contextmanager
def probes_of(service):
    probes = [Probe(node) for node in service.nodes]
    try:
        yield probes
    finally:
        for probe in probes:
            probe.close()


class Times:
    """Seconds until each of the other nodes refused, from the kick's sending and its answer."""

    def __init__(self):
        self.from_sending, self.from_answer, self.pending = [], [], 0

    def kick(self, probes, login, seconds, pause=0):
        sent, answered, answer, refused, after = watch_die(
            probes[0], kick_of(login), probes[1:], login["access_token"], seconds, pause)
        if answer.status == 202:
            # The machine stood still for longer than a request may take.
            self.pending += 1
            return answer.json
        assert answer.status == 200, answer
        assert None not in refused, f"a node still accepts it after {seconds} s"
        assert all(status == 401 for row in after for status in row), "once dead, always dead"
        self.from_sending += [moment - sent for moment in refused]
        self.from_answer += [max(0.0, moment - answered) for moment in refused]
        return answer.json


def test_a_kick_is_heard_within_milliseconds(near):
    times, durabilities = Times(), set()
    logins = prepared(near, KICKS)
    with probes_of(near) as probes:
        for login in logins:
            durabilities.add(times.kick(probes, login, 2 * SLOW)["durability"])
    print(f"{KICKS} kicks ({', '.join(sorted(durabilities))}), first refusal on 2 other nodes:"
          f" from the answer {in_ms(times.from_answer)};"
          f" from the sending {in_ms(times.from_sending)}")
    at_most(times.pending / KICKS, 0.02, "share of kicks that were not answered in time")
    # 5 ms on a machine of one's own.
    at_most(percentile(times.from_answer, 0.5), 0.005 * SLOW, "median of the news")
    at_most(percentile(times.from_answer, 0.99), 0.025 * SLOW, "p99 of the news")


def test_the_kick_is_heard_and_not_merely_looked_up(near):
    """The control: entries are fresh, so that without the news they would have been believed."""
    login = prepared(near, 1)[0]
    news = [node.metric("sessiond_cache_invalidations_total") for node in near.nodes]
    misses = [node.metric("sessiond_cache_misses_total") for node in near.nodes]
    for node in near.nodes[1:]:
        assert {reply.status for reply in validate_all(node, [login] * 50)} == {200}
    assert near.kick(login["user_id"], login["session_id"]).status == 200
    for number, node in enumerate(near.nodes[1:], 1):
        wait_until(lambda: node.metric("sessiond_cache_invalidations_total") > news[number], 2,
                   "the news has come")
        wait_until(lambda: near.validate(login["access_token"], number).status == 401, 2, "dead")
        assert node.metric("sessiond_cache_misses_total") - misses[number] <= 2


def test_with_the_links_of_the_news_blackholed_it_is_known_within_the_bound(service):
    """Nothing is closed and nothing comes through; data connections work."""
    times, believed = Times(), []
    cluster = service.cluster
    for _ in range(DEAF_KICKS):
        login = prepared(service, 1)[0]
        hits = cluster.hits("blackhole")
        with probes_of(service) as probes, cluster.fault("blackhole", whom="watch"):
            begun = time.monotonic()
            times.kick(probes, login, 4 * SLOW, pause=0.002)
            believed.append(time.monotonic() - begun)
        assert cluster.hits("blackhole") > hits
        all_is_well(service)
    print(f"{DEAF_KICKS} kicks that cannot be heard: from the answer"
          f" {in_ms(times.from_answer)}; from the sending {in_ms(times.from_sending)}")
    at_most(times.pending / DEAF_KICKS, 0, "share of kicks that cannot be heard and were not answered in time")
    at_most(max(times.from_answer), HEARD, "a kick that cannot be heard")
    # They were believed until memory was not: it is the bound that ended it.
    assert max(believed) > 0.3, believed


def test_a_node_that_has_been_deaf_for_long_asks_and_does_not_believe_itself(service):
    """The tracking connection is gone, data connections work: Redis can be asked, whatever the missing one tells the
    breaker."""
    times, cluster = Times(), service.cluster
    logins = prepared(service, 40)
    rejected = [node.metric("sessiond_store_rejected_total") for node in service.nodes]
    with cluster.fault("blackhole", whom="watch"):
        wait_until(lambda: all(node.metric("sessiond_watches") == 0 for node in service.nodes), 5,
                   "nothing is watched")
        with probes_of(service) as probes:
            # Apart, so that they meet the attempts to hear again in different states.
            for number in for_a_while(0, pause=0.1, least=len(logins)):
                times.kick(probes, logins[number], 4 * SLOW, pause=0.002)
    rejected = [node.metric("sessiond_store_rejected_total") - before
                for node, before in zip(service.nodes, rejected)]
    print(f"{len(logins)} kicks for nodes that are deaf already: from the answer"
          f" {in_ms(times.from_answer)}; {times.pending} pending; calls rejected {rejected}")
    at_most(times.pending / len(logins), 0.05, "share of kicks for deaf nodes that were not answered in time")
    at_most(max(times.from_answer), 0.3 * SLOW, "a kick for nodes that are deaf already")
    all_is_well(service)
