"""The Redis user of conf/redis-acl.conf: enough for everything that sessiond does, and no more."""

import pathlib
import re
import subprocess

import pytest

from checks import check_dead, check_ended
from client import Redis, RedisError
from daemon import SERVICE, password_file, unique
from redis_servers import wait_until
from secured_redis import ACL, PASSWORD, GuardedRedis, user_line



def granted():
    return [word[1:] for word in user_line() if word.startswith("+")]


class UserClient(Redis):
    """A connection as that user."""

    def __init__(self, port):
        super().__init__(port)
        self.call("AUTH", "sessiond", PASSWORD)


@pytest.fixture(scope="module")
def guarded(workspace):
    server = GuardedRedis(workspace / "guarded-by-acl")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def with_user(cluster):
    """The cluster of all tests, where the user is known as well for a while."""
    nodes = [Redis(port) for port in cluster.ports]
    for node in nodes:
        node.call("ACL", "SETUSER", "sessiond", "reset", *user_line())
        node.call("ACL", "LOG", "RESET")
    yield cluster
    for node in nodes:
        node.call("ACL", "DELUSER", "sessiond")
        node.close()


def options_of(tmp_path, **options):
    return {"redis__user": "sessiond", "redis__password_file": password_file(tmp_path / "pw", PASSWORD),
            **options}


def play(daemon):
    """Everything that reaches Redis, a late use of a session included."""
    user, other = unique(), unique()
    logins = [daemon.login(user, device={"id": f"d{n}"}) for n in range(4)]
    used = daemon.login(other)
    assert daemon.is_alive(logins[0]["access_token"])
    new = daemon.refresh(logins[0]["refresh_token"]).json
    assert daemon.is_alive(new["access_token"])
    assert daemon.devices(user)["total"] == 4
    assert daemon.call("GET", f"/v1/users/{user}", None, SERVICE).status == 200
    check_ended(daemon.kick(user, logins[1]["session_id"]), [logins[1]["session_id"]], durability=None)
    check_dead(daemon.validate(logins[1]["access_token"]), "kicked")
    assert daemon.call("POST", "/v1/logout", None, logins[2]["access_token"]).status == 200
    touches = daemon.node.metric("sessiond_touches_total")
    wait_until(lambda: daemon.is_alive(used["access_token"])
               and daemon.node.metric("sessiond_touches_total") > touches, 15, "a late use is written")
    answer = daemon.call("POST", f"/v1/users/{user}/logout-all", {}, SERVICE)
    assert answer.status == 200 and answer.json["ended"] == 2, answer
    check_dead(daemon.validate(new["access_token"]), "logged_out")
    assert daemon.devices(user)["total"] == 0


def denials(node):
    return [dict(zip(entry[::2], entry[1::2])) for entry in node.call("ACL", "LOG")]


def test_a_server_for_this_user_alone_serves_everything(start, guarded, tmp_path):
    daemon = start(redis=guarded, **options_of(tmp_path, redis__mode="standalone", policy__idle_timeout=60))
    with guarded.connect() as node:
        node.call("ACL", "LOG", "RESET")
        play(daemon)
        assert denials(node) == []
        counts = node.command_counts()
    for name in ("hget", "hset", "hdel", "hexists", "hgetall", "pexpireat", "wait", "evalsha"):
        assert counts.get(name, 0) > 0, (name, counts)


def test_a_cluster_serves_this_user(start, with_user, tmp_path):
    daemon = start(**options_of(tmp_path, policy__idle_timeout=60))
    play(daemon)
    for port in with_user.ports:
        with Redis(port) as node:
            assert denials(node) == [], port


def test_changes_reach_the_other_nodes_with_this_user(start, with_user, tmp_path):
    daemon = start(count=2, **options_of(tmp_path))
    user = unique()
    logins = [daemon.login(user) for _ in range(3)]
    for login in logins:
        assert daemon.is_alive(login["access_token"], node=1)
    daemon.kick(user, logins[0]["session_id"], node=0)
    wait_until(lambda: not daemon.is_alive(logins[0]["access_token"], node=1), 2, "the kick")
    assert daemon.is_alive(logins[1]["access_token"], node=1)
    for port in with_user.ports:
        with Redis(port) as node:
            assert denials(node) == [], port


# A command with arguments that it takes, where none would not do.
SAMPLES = {
    "asking": [], "auth": ["x"], "client|id": ["ID"], "client|tracking": ["TRACKING", "off"],
    "cluster|myid": ["MYID"], "cluster|nodes": ["NODES"], "cluster|slots": ["SLOTS"],
    "eval": ["return 1", "1", "sd:e:{x}"], "evalsha": ["0" * 40, "1", "sd:e:{x}"],
    "get": ["sd:x"], "hdel": ["sd:x", "a"], "hexists": ["sd:x", "a"], "hget": ["sd:x", "a"],
    "hgetall": ["sd:x"], "hmget": ["sd:x", "a"], "hset": ["sd:x", "a", "b"], "info": ["server"], "persist": ["sd:x"],
    "pexpireat": ["sd:x", "1"], "ping": [], "readonly": [], "role": [], "set": ["sd:x", "a"],
    "time": [],
    "subscribe": ["__redis__:invalidate"], "time": [], "wait": ["0", "1"],
    "zadd": ["sd:x", "1", "a"], "zcard": ["sd:x"], "zcount": ["sd:x", "0", "1"], "zrange": ["sd:x", "0", "1"],
    "zrem": ["sd:x", "a"],
    "zremrangebyscore": ["sd:x", "0", "1"], "zscore": ["sd:x", "a"],
}


def dry_run(node, *words):
    """True if the user may send these words."""
    return node.call("ACL", "DRYRUN", "sessiond", *words) == "OK"


def test_each_granted_command_may_be_sent_for_keys_of_sessiond(guarded):
    assert sorted(granted()) == sorted(SAMPLES)
    with guarded.connect() as node:
        for name, arguments in SAMPLES.items():
            assert dry_run(node, name.split("|")[0], *arguments), name


FORBIDDEN = """ACL WHOAMI|BGSAVE|CLIENT KILL x|CLIENT LIST|CLUSTER FAILOVER|CLUSTER INFO|COMMAND|CONFIG GET *|
    CONFIG SET dir /|DBSIZE|DEBUG SLEEP 0|DEL sd:x|DUMP sd:x|FLUSHALL|FLUSHDB|FUNCTION LIST|KEYS *|MIGRATE h 1 k 0 1|
    MONITOR|PSYNC ? -1|PUBLISH __redis__:invalidate x|RANDOMKEY|RENAME sd:x sd:y|REPLICAOF h 1|SAVE|SCAN 0|
    SCRIPT FLUSH|SHUTDOWN|SUBSCRIBE other|SWAPDB 0 1|PSUBSCRIBE *|UNLINK sd:x|
    GET other|HGETALL other|HSET other a b|SET other x|EVAL x 1 other""".split("|")


@pytest.mark.parametrize("words", [words.strip() for words in FORBIDDEN])
def test_the_user_may_not(guarded, words):
    with guarded.connect() as node:
        assert not dry_run(node, *words.split()), words


def test_scripts_get_no_further_than_commands(guarded):
    with UserClient(guarded.port) as node:
        for body in ("redis.call('FLUSHALL')", "redis.call('KEYS', '*')", "redis.call('GET', 'other')",
                     "redis.call('CONFIG', 'GET', '*')"):
            with pytest.raises(RedisError, match="NOPERM|ACL failure|can't run this command|ERR"):
                node.call("EVAL", body, 1, "sd:e:{x}")
    with guarded.connect() as node:
        assert len(denials(node)) >= 3
        node.call("ACL", "LOG", "RESET")


def test_without_a_password_nobody_is_this_user(guarded):
    """As the file stands it opens no door."""
    with guarded.connect() as node:
        node.call("ACL", "SETUSER", "bare", *[word for word in user_line() if not word.startswith("#")])
        for attempt in ("", PASSWORD, "bare"):
            with pytest.raises(RedisError, match="WRONGPASS"):
                with Redis(guarded.port) as other:
                    other.call("AUTH", "bare", attempt)
        node.call("ACL", "DELUSER", "bare")


def test_a_refused_command_is_told_as_denied(start, guarded, tmp_path):
    """The symptom for an operator who grants less than the file."""
    daemon = start(redis=guarded, **options_of(tmp_path, redis__mode="standalone"))
    with guarded.connect() as node:
        node.call("ACL", "SETUSER", "sessiond", "-evalsha", "-eval")
        try:
            answer = daemon.try_login(unique())
            assert answer.status == 503 and answer.code == "store_denied", answer
        finally:
            node.call("ACL", "SETUSER", "sessiond", "+evalsha", "+eval")
            node.call("ACL", "LOG", "RESET")
    wait_until(lambda: daemon.try_login(unique()).status == 201, 5, "logins work again")


def test_the_file_says_the_hash_that_redis_takes(tmp_path):
    """The pipeline in the file's comment gives the text after "#"."""
    command = re.search(r"^#\s+(head -n 1 \S+ \| .*sha256sum)$", ACL.read_text(), re.M)[1]
    path = pathlib.Path(tmp_path / "password")
    path.write_text(PASSWORD + "\n")
    path_in_text = "/etc/sessiond/redis-password"
    assert path_in_text in command
    output = subprocess.run(command.replace(path_in_text, str(path)), shell=True, text=True,
                            stdout=subprocess.PIPE, check=True).stdout
    assert "#" + output.split()[0] == user_line()[1]
