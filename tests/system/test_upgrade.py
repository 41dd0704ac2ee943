"""Two versions side by side: one that reads only the first record format, and this one. Forward and back."""

import pathlib

import pytest

import daemon as daemons
from checks import check_problem
from daemon import SERVICE, now, unique
from redis_servers import Redis, SingleRedis, wait_until

EARLIER = pathlib.Path(daemons.BINARY).parent / "tests" / "support" / "sessiond_format_1"
THIS, THAT = 0, 1  # nodes of this version and of the earlier one
PAIR = ("access_token", "refresh_token")


@pytest.fixture
def redis(tmp_path):
    server = SingleRedis(tmp_path / "redis").start()
    yield server
    server.stop()


@pytest.fixture
def two(start, redis, monkeypatch):
    """Both nodes, with the earlier one running alone."""
    daemon = start(2, redis=redis, begin_now=False, redis__mode="standalone", redis__wait_timeout=0,
                   keys__installation="upgrade")
    spawn = daemons.Node.spawn

    def of_its_version(node, *arguments, **options):
        with monkeypatch.context() as patch:
            if node is daemon.nodes[THAT]:
                patch.setattr(daemons, "BINARY", str(EARLIER))
            return spawn(node, *arguments, **options)
    monkeypatch.setattr(daemons.Node, "spawn", of_its_version)
    daemon.nodes[THAT].start()
    return daemon


def restart(daemon):
    """A node compares the marks when it starts."""
    daemon.nodes[THIS].stop()
    daemon.nodes[THIS].start()


def written_format(daemon):
    return daemon.nodes[THIS].metric("sessiond_record_format")


def is_written(daemon, number):
    wait_until(lambda: written_format(daemon) == number, 5, f"format {number} is written")


def age_earlier_nodes(redis):
    """As after a quarter of an hour without a confirmation of theirs."""
    with Redis(redis.port) as node:
        assert node.call("HEXISTS", "sd:k:upgrade", "reads1") == 1
        node.call("HSET", "sd:k:upgrade", "reads1", "1")


def authenticated(daemon, token, **fields):
    answer = daemon.call("POST", "/v1/session/authenticated", fields, SERVICE, {"X-Session-Token": token}, node=THIS)
    assert answer.status == 200, answer
    return answer.json


def strength(daemon, token, node=THIS):
    answer = daemon.validate(token, node)
    assert answer.status == 200, answer
    return {name: answer.json.get(name) for name in ("auth_time", "acr", "amr")}


def first_byte_pairs(redis, user_keys=b"sd:u:*"):
    """The heads of all session records: their first three bytes."""
    with Redis(redis.port) as node:
        heads = []
        for key in node.call("KEYS", user_keys.decode()):
            fields = node.call("HGETALL", key)
            heads += [value[:3] for name, value in zip(fields[::2], fields[1::2]) if len(name) == 8]
        return heads


def is_of_format_2(head):
    return head[0] == 1 and head[1] & 0x80 and head[2] == 2


def test_nodes_of_two_versions_share_every_login_and_what_it_states(two, redis):
    """What a login states goes with its record through the earlier node, which keeps what it does not know."""
    before = two.login(node=THAT)
    two.nodes[THIS].start()
    is_written(two, 1)
    assert two.is_alive(before["access_token"], THIS)
    stated = {"auth_time": now() - 5, "acr": "gold", "amr": ["hwk"]}
    login = two.login(unique(), attributes={"a": 1}, **stated)
    assert two.validate(login["access_token"], THAT).json["attributes"] == {"a": 1}
    assert strength(two, login["access_token"]) == stated
    pair = two.refresh(login["refresh_token"], node=THAT).json
    changed = two.call("PUT", "/v1/session/attributes", {"b": 2}, pair["access_token"], node=THAT)
    assert changed.status == 200
    assert strength(two, pair["access_token"]) == stated
    assert two.validate(pair["access_token"]).json["attributes"] == {"b": 2}
    body = authenticated(two, pair["access_token"], acr="silver")
    for node in (THIS, THAT):
        wait_until(lambda: not two.is_alive(pair["access_token"], node), 5, "the pair before is over")
        assert two.is_alive(body["access_token"], node)
    assert not any(map(is_of_format_2, first_byte_pairs(redis)))


def test_rolling_forward_back_and_forward_again_loses_no_login(two, redis):
    kept = two.login(node=THAT)
    two.nodes[THIS].start()
    is_written(two, 1)
    # Forward: the earlier node is gone, for long enough.
    two.nodes[THAT].stop()
    age_earlier_nodes(redis)
    restart(two)
    is_written(two, 2)
    assert two.is_alive(kept["access_token"])
    stated = {"auth_time": now() - 5, "acr": "gold", "amr": ["hwk"]}
    plain, strong = two.login(), two.login(**stated)
    raised = authenticated(two, two.login()["access_token"], **stated)
    assert [is_of_format_2(head) for head in first_byte_pairs(redis)].count(True) == 1
    # Back: the earlier node reads everything but the record of format 2, which is unknown, not invalid.
    two.nodes[THAT].start()
    for login in (kept, plain, strong):
        assert two.is_alive(login["access_token"], THAT)
    check_problem(two.validate(raised["access_token"], THAT), 503, "seal_key_unknown")
    check_problem(two.refresh(raised["refresh_token"], node=THAT), 503, "seal_key_unknown")
    check_problem(two.call("PUT", "/v1/session/attributes", {}, raised["access_token"], node=THAT), 503,
                  "seal_key_unknown")
    restart(two)
    is_written(two, 1)
    assert strength(two, raised["access_token"]) == stated
    later = authenticated(two, two.login(node=THAT)["access_token"], **stated)
    assert two.is_alive(later["access_token"], THAT)
    # A refresh needs nothing of format 2: the earlier node reads the session again.
    pair = two.refresh(raised["refresh_token"], node=THIS).json
    assert two.is_alive(pair["access_token"], THAT)
    assert not any(map(is_of_format_2, first_byte_pairs(redis)))
    # Forward again, with every login and what it states.
    two.nodes[THAT].stop()
    age_earlier_nodes(redis)
    restart(two)
    is_written(two, 2)
    for login in (kept, plain):
        assert two.is_alive(login["access_token"])
        assert two.refresh(login["refresh_token"]).status == 200
    for login in (strong, pair, later):
        assert strength(two, login["access_token"]) == stated
