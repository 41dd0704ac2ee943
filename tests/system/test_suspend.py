"""A host that sleeps: what is known ages meanwhile, and calls in flight do not."""

import pytest

from checks import check_problem
from clocks import WrongClock
from redis_servers import SingleRedis, wait_until


@pytest.fixture
def outage(start, tmp_path):
    """A node whose host can be sent to sleep, a token that it knows, and Redis gone."""
    clock, redis = WrongClock(tmp_path), SingleRedis(tmp_path / "redis").start()
    try:
        daemon = start(begin_now=False, redis=redis, redis__mode="standalone", outage__grace=60)
        daemon.node.start(environment=clock.environment)
        token = daemon.login()["access_token"]
        assert daemon.is_alive(token)
        redis.stop()
        wait_until(lambda: daemon.validate(token).json.get("stale"), 10, "the outage is noticed")
        yield daemon, token, clock
    finally:
        redis.stop()


def test_in_an_outage_a_token_is_as_old_as_its_host_has_slept(outage):
    daemon, token, clock = outage
    before = daemon.validate(token).json["stale_for"]
    clock.elapse(40)
    assert daemon.validate(token).json["stale_for"] >= before + 40


def test_the_grace_of_an_outage_ends_while_the_host_sleeps(outage):
    daemon, token, clock = outage
    clock.elapse(61)
    check_problem(daemon.validate(token), 503, "store_unavailable")
