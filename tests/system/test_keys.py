"""Keys and records: the key file, rotation, sealing, what Redis and the files give away."""

import base64
import os
import secrets
import signal
import stat
import subprocess

import pytest

from checks import check_dead, check_ended, check_problem
from client import Redis, key_slot
from daemon import ACME, ADMIN, BINARY, SERVICE, unique, write_key_file
from redis_servers import SingleRedis, wait_until
from redis_view import stored


def printed_keys(daemon, *arguments):
    """{prefix: (key, slot, type)} as the command prints them."""
    text = subprocess.run([BINARY, "keys", "--config", str(daemon.node.config), *arguments],
                          stdout=subprocess.PIPE, text=True, timeout=30, check=True).stdout
    lines = [line.split(maxsplit=3) for line in text.splitlines()]
    return {key[:5]: (key, slot, kind) for key, slot, kind, _ in lines}


def test_the_names_of_a_users_keys_are_printed_with_slot_and_type(shared, cluster):
    user = unique()
    shared.call("POST", "/v1/logout", None, shared.login(user)["access_token"])
    keys = printed_keys(shared, "--tenant", "default", "--user", user)
    assert list(keys) == ["sd:u:", "sd:e:", "sd:c:"]
    for prefix in ("sd:u:", "sd:e:"):
        key, slot, kind = keys[prefix]
        assert int(slot) == key_slot(key.encode())
        with Redis(cluster.owner(int(slot))[0]) as node:
            assert node.call("TYPE", key) == kind
    other = printed_keys(shared, "--tenant", "acme", "--user", user)
    assert other["sd:u:"][0] != keys["sd:u:"][0]


def test_the_names_of_a_tenants_keys_are_printed(shared):
    user = printed_keys(shared, "--tenant", "acme", "--user", "u")["sd:u:"][0]
    keys = printed_keys(shared, "--tenant", "acme")
    tag = user.removeprefix("sd:u:{").split(".")[0]
    assert keys["sd:p:"][0] == f"sd:p:{{{tag}}}"
    assert int(keys["sd:p:"][1]) == key_slot(keys["sd:p:"][0].encode())
    assert keys["sd:i:"][0] == f"sd:i:{{{tag}.*}}"


@pytest.mark.parametrize("arguments", [["--user", "u"], ["--tenant", "A"],
                                       ["--tenant", "acme", "--user", "x" * 256],
                                       ["--tenant", "acme", "--user", "a\nb"]])
def test_names_that_nobody_can_have_are_refused(shared, arguments):
    result = subprocess.run([BINARY, "keys", "--config", str(shared.node.config), *arguments],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30)
    assert result.returncode == 2 and not result.stdout
    assert "--tenant" in result.stderr or "--user" in result.stderr


def test_a_key_file_is_made_at_first_start_and_nobody_else_may_read_it(start, tmp_path):
    path = tmp_path / "made" / "keys"
    path.parent.mkdir()
    daemon = start(key_file=path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    token = daemon.login()["access_token"]
    daemon.stop()
    daemon.start()
    assert path.read_text() == text
    assert daemon.is_alive(token)


def refused_at_start(daemon, word):
    daemon.node.spawn()
    assert daemon.node.process.wait(10) != 0
    daemon.node.process = None
    assert word in daemon.node.log_text(), daemon.node.log_text()


@pytest.mark.parametrize("mode", [0o660, 0o604, 0o644])
def test_a_key_file_that_others_may_read_is_refused(start, mode):
    daemon = start(begin_now=False)
    daemon.node.key_file.chmod(mode)
    refused_at_start(daemon, str(daemon.node.key_file))


@pytest.mark.parametrize("lines", [
    ["garbage"], [f"names {'0' * 64}"], [f"key 1 {'0' * 64}"],
    [f"names {'0' * 64}", f"key 64 {'0' * 64}"], [f"names {'0' * 64}", f"key 0 {'0' * 64}"],
    [f"names {'0' * 64}", "key 1 abcd"], ["names abcd", f"key 1 {'0' * 64}"],
    [f"names {'0' * 64}", f"key 1 {'0' * 64}", f"key 1 {'1' * 64}"]], ids=range(8))
def test_a_bad_key_file_is_refused_and_no_key_is_logged(start, lines):
    daemon = start(begin_now=False)
    write_key_file(daemon.node.key_file, lines)
    refused_at_start(daemon, str(daemon.node.key_file))
    assert "0" * 64 not in daemon.node.log_text()


def test_a_systemd_credential_wins_over_the_key_file(start, tmp_path):
    daemon = start()
    token = daemon.login()["access_token"]
    daemon.stop()
    write_key_file(tmp_path / "sessiond-keys", daemon.node.key_file.read_text().split("\n")[:-1])
    write_key_file(daemon.node.key_file)
    daemon.node.spawn(dict(os.environ, CREDENTIALS_DIRECTORY=str(tmp_path)))
    daemon.node.wait_for("/readyz")
    assert daemon.is_alive(token)


def test_rotation_reads_old_keys_and_writes_with_the_newest(start, cluster):
    daemon = start()
    old = daemon.login()
    lines = daemon.node.key_file.read_text().split("\n")[:-1]
    daemon.stop()
    write_key_file(daemon.node.key_file, lines + [f"key 2 {secrets.token_hex(32)}"])
    daemon.start()
    assert daemon.is_alive(old["access_token"])
    new = daemon.login()
    assert new["access_token"][3:5] != old["access_token"][3:5], "key id is in the first byte"
    refreshed = daemon.refresh(old["refresh_token"])
    assert refreshed.status == 200, refreshed
    assert refreshed.json["access_token"][3:5] == new["access_token"][3:5]
    daemon.stop()
    newest = daemon.node.key_file.read_text().split("\n")[2]
    write_key_file(daemon.node.key_file, [lines[0], newest])
    daemon.start()
    assert daemon.is_alive(new["access_token"])
    assert daemon.is_alive(refreshed.json["access_token"])
    answer = daemon.validate(old["access_token"])
    assert answer.status == 401 and answer.json["reason"] == "unknown", answer


def test_a_rotated_key_file_is_taken_over_by_reload(start):
    daemon = start()
    old = daemon.login()
    lines = daemon.node.key_file.read_text().split("\n")[:-1]
    write_key_file(daemon.node.key_file, lines + [f"key 2 {secrets.token_hex(32)}"])
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: daemon.login()["access_token"][3:5] != old["access_token"][3:5], 5,
               "new tokens carry the new key id")
    assert daemon.is_alive(old["access_token"])
    write_key_file(daemon.node.key_file, ["garbage"])
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: daemon.node.metric("sessiond_config_reload_errors_total") >= 1, 5,
               "the bad key file is refused")
    assert daemon.is_alive(old["access_token"])
    assert daemon.is_alive(daemon.login()["access_token"])


def test_a_node_that_lacks_the_newest_key_says_503_and_ends_nothing(start):
    """Its keys come late: records of the others are unknown to it, which is not invalid."""
    ahead = start()
    old = ahead.node.key_file.read_text().split("\n")[:-1]
    behind = start(key_file=ahead.node.key_file)
    user, login = unique(), ahead.login()
    token, refresh = login["access_token"], login["refresh_token"]
    ahead.login(user)
    write_key_file(ahead.node.key_file, old + [f"key 2 {secrets.token_hex(32)}"])
    ahead.node.signal(signal.SIGHUP)
    wait_until(lambda: ahead.login()["access_token"][3:5] != token[3:5], 5, "the new key mints")
    # Refreshed and cut off under the new key; the token of before has the old one, and its grace.
    assert ahead.refresh(refresh).status == 200
    ended = ahead.call("POST", f"/v1/users/{user}/logout-all", None, SERVICE)
    assert ended.status == 200, ended
    check_problem(behind.validate(token), 503, "seal_key_unknown")
    check_problem(behind.try_login(user), 503, "seal_key_unknown")
    assert ahead.is_alive(token)


def get_ahead(ahead, old):
    """The node mints and seals with a key that others do not have."""
    before = ahead.login()["access_token"][3:5]
    write_key_file(ahead.node.key_file, old + [f"key 2 {secrets.token_hex(32)}"])
    ahead.node.signal(signal.SIGHUP)
    wait_until(lambda: ahead.login()["access_token"][3:5] != before, 5, "the new key mints")


@pytest.fixture
def late(start):
    """(a node with a new key, one without it, a user's sessions, whose records the first has sealed again: the tokens
    of before have the old key, and their grace)."""
    ahead = start()
    old = ahead.node.key_file.read_text().split("\n")[:-1]
    behind = start(key_file=ahead.node.key_file)
    user = unique()
    logins = [ahead.login(user) for _ in range(4)]
    get_ahead(ahead, old)
    for login in logins:
        login |= {"next": ahead.refresh(login["refresh_token"]).json["access_token"]}
    return ahead, behind, user, logins


def test_changes_on_a_node_that_lacks_the_key_take_nothing_for_missing(late):
    ahead, behind, _, logins = late
    token = logins[0]["access_token"]
    check_problem(behind.refresh(logins[0]["refresh_token"]), 503, "seal_key_unknown")
    check_problem(behind.call("GET", "/v1/devices", None, token), 503, "seal_key_unknown")
    patch = behind.call("PATCH", "/v1/session/attributes", b'{"a":1}', token,
                        {"Content-Type": "application/merge-patch+json"})
    check_problem(patch, 503, "seal_key_unknown")
    assert all(ahead.is_alive(login["next"]) for login in logins)


def test_a_node_that_lacks_the_key_ends_sessions_all_the_same(late):
    ahead, behind, user, logins = late
    kicked, left, kept, last = logins
    check_ended(behind.kick(user, kicked["session_id"]), [kicked["session_id"]])
    check_dead(ahead.validate(kicked["next"]), "kicked", "service")
    answer = behind.call("POST", "/v1/logout", None, left["access_token"])
    check_ended(answer, [left["session_id"]])
    check_dead(ahead.validate(left["next"]), "logged_out")
    assert ahead.is_alive(kept["next"]) and ahead.is_alive(last["next"])
    assert behind.call("POST", f"/v1/users/{user}/logout-all", None, SERVICE).status == 200
    for login in (kept, last):
        assert not ahead.is_alive(login["next"])


def test_a_kick_of_an_outage_is_replayed_by_a_node_that_lacks_the_key(start, tmp_path):
    redis = SingleRedis(tmp_path / "redis").start()
    options = dict(redis=redis, redis__mode="standalone", redis__wait_timeout=0)
    try:
        ahead = start(**options)
        old = ahead.node.key_file.read_text().split("\n")[:-1]
        behind = start(key_file=ahead.node.key_file, **options)
        user = unique()
        login, other = ahead.login(user), ahead.login(user)
        get_ahead(ahead, old)
        tokens = [ahead.refresh(one["refresh_token"]).json["access_token"] for one in (login, other)]
        with Redis(redis.port) as node:
            node.call("SAVE")
        redis.stop()
        wait_until(lambda: behind.kick(user, login["session_id"]).status == 202, 5, "a kick")
        redis.start()
        wait_until(lambda: ahead.validate(tokens[0]).status == 401, 10, "the kick is replayed")
        check_dead(ahead.validate(tokens[0]), "kicked", "service")
        wait_until(lambda: ahead.validate(tokens[1]).status == 200, 5, "the other one lives")
    finally:
        redis.stop()


@pytest.fixture
def own_redis(tmp_path):
    server = SingleRedis(tmp_path / "redis")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def on_one_redis(start, own_redis):
    """Starts nodes of one installation, each with a key file of its own."""
    def begin(lines, ready="/readyz", **options):
        daemon = start(begin_now=False, redis=own_redis, redis__mode="standalone",
                       redis__wait_timeout=0, keys__installation="", **options)
        write_key_file(daemon.node.key_file, lines)
        return daemon.start(ready)
    return begin


def a_secret():
    return secrets.token_hex(32)


def fresh_lines(*ids):
    return [f"names {a_secret()}"] + [f"key {number} {a_secret()}" for number in ids or (1,)]


def keys_check(daemon):
    """(status, state of the check, its reason) by /readyz."""
    answer = daemon.node.ops.call("GET", "/readyz")
    return answer.status, answer.json["checks"]["keys"], answer.json["why"].get("keys", "")


def wait_for_check(daemon, state, *words, seconds=15):
    def says_so():
        _, found, why = keys_check(daemon)
        return found == state and all(word in why for word in words)
    wait_until(says_so, seconds, f"keys: {state} {words}")


def marks_of(redis):
    with Redis(redis.port) as node:
        fields = node.call("HGETALL", "sd:k")
    return dict(zip(fields[::2], (value.split() for value in fields[1::2])))


def check_all_foreign(daemon, login):
    """Every call about tokens or state, whatever its credentials."""
    node, user, session = daemon.node, login["user_id"], login["session_id"]
    tokens = [login["access_token"], "sa_" + "A" * 60, "sa_x"]
    calls = [("POST", "/v1/login", {"user_id": unique()}, SERVICE),
             ("POST", "/v1/refresh", {"refresh_token": login["refresh_token"]}, None),
             ("DELETE", f"/v1/users/{user}/devices/{session}", None, SERVICE),
             ("POST", f"/v1/users/{user}/freeze", {}, SERVICE),
             ("GET", f"/v1/users/{user}/devices", None, SERVICE),
             ("GET", "/v1/tenants/acme/policy", None, ADMIN)]
    for token in tokens:
        calls += [("GET", "/v1/validate", None, token), ("POST", "/v1/logout", None, token),
                  ("POST", "/v1/validate", {"token": token}, SERVICE)]
    for _ in range(3):
        for call in calls:
            check_problem(node.client.call(*call), 503, "keys_foreign")
    assert node.metric("sessiond_tokens_rejected_total") == 0
    assert node.metric("sessiond_alerts_raised_total") == 0


def test_a_node_with_another_key_file_answers_503_is_not_ready_and_says_which_keys(
        on_one_redis, own_redis):
    right = fresh_lines()
    first = on_one_redis(right)
    login = first.login()
    foreign = on_one_redis(fresh_lines(), ready="/livez", limits__forged_tokens_per_minute=2,
                           alerts__guesses_per_minute=2)
    wait_for_check(foreign, "fail", "the names secret, key 1")
    assert keys_check(foreign)[0] == 503 and foreign.node.metric("sessiond_keys_foreign") == 1
    check_all_foreign(foreign, login)
    # A wrong service key is no matter of the key file.
    check_problem(foreign.try_login(unique(), key="sk_" + "x" * 43), 401, "key_invalid")
    assert foreign.node.log_text().count("keys_foreign") == 1, "told once"
    for line in right + foreign.node.key_file.read_text().split("\n"):
        for word in line.split():
            assert len(word) < 64 or word not in foreign.node.log_text()
    # The first marks hold.
    assert first.is_alive(login["access_token"]) and keys_check(first)[:2] == (200, "pass")


def test_nodes_compare_their_signing_keys(on_one_redis, own_redis):
    """A document without the keys of the other nodes would make clients refuse what those sign."""
    lines = fresh_lines()
    first = on_one_redis(lines + [f"sign 2 {a_secret()}"], oauth__issuer="https://login.example")
    assert len(first.call("GET", "/.well-known/jwks.json").json["keys"]) == 1
    wait_for_check(on_one_redis(lines), "warn", "key 2")
    foreign = on_one_redis(lines + [f"sign 2 {a_secret()}"], ready="/livez", oauth__issuer="https://login.example")
    wait_for_check(foreign, "fail", "key 2")
    check_problem(foreign.call("GET", "/.well-known/jwks.json"), 503, "keys_foreign")


def test_the_right_key_file_heals_a_node_by_reload_and_its_journal_survives_a_restart(
        on_one_redis, own_redis):
    right = fresh_lines()
    first = on_one_redis(right)
    login, other = first.login(), first.login()
    healed = on_one_redis(fresh_lines(), ready="/livez")
    wait_for_check(healed, "fail", "names")
    write_key_file(healed.node.key_file, right)
    healed.node.signal(signal.SIGHUP)
    wait_for_check(healed, "pass")
    assert healed.node.metric("sessiond_keys_foreign") == 0
    assert healed.is_alive(login["access_token"]) and first.is_alive(healed.login()["access_token"])
    # A revocation of now is read after a restart with the same keys.
    own_redis.stop()
    wait_until(lambda: healed.kick(other["user_id"], other["session_id"]).status == 202, 5, "pending")
    healed.node.kill()
    healed.node.start("/livez")
    check_dead(healed.validate(other["access_token"]), "kicked", "service")
    own_redis.start()


def test_a_key_of_the_same_number_with_other_digits_is_foreign_too(on_one_redis):
    right = fresh_lines(1, 2)
    first = on_one_redis(right)
    wrong = [right[0], f"key 1 {a_secret()}", right[2]]
    foreign = on_one_redis(wrong, ready="/livez")
    wait_for_check(foreign, "fail", ": key 1")
    check_problem(foreign.validate(first.login()["access_token"]), 503, "keys_foreign")
    # A running node does not take such a file over in the first place.
    write_key_file(first.node.key_file, wrong)
    first.node.signal(signal.SIGHUP)
    wait_until(lambda: first.node.metric("sessiond_config_reload_errors_total") == 1, 5, "refused")
    assert "key 1 in the key file has other digits" in first.node.log_text()
    assert keys_check(first)[:2] == (200, "pass")


def test_a_node_that_lacks_a_newer_key_says_so_and_serves(on_one_redis, own_redis):
    old = fresh_lines()
    behind = on_one_redis(old)
    ahead = on_one_redis([old[0], f"key 2 {a_secret()}", old[1]])
    assert keys_check(ahead)[1] == "pass"
    behind.stop()
    behind.start()
    wait_for_check(behind, "warn", "missing here: key 2")
    assert keys_check(behind)[0] == 200 and behind.node.metric("sessiond_keys_missing") == 1
    assert behind.is_alive(ahead.login()["access_token"]), "the old key still mints"
    write_key_file(behind.node.key_file, ahead.node.key_file.read_text().split("\n")[:-1])
    behind.node.signal(signal.SIGHUP)
    wait_for_check(behind, "pass")
    assert behind.node.metric("sessiond_keys_missing") == 0
    assert behind.node.log_text().count("keys_missing") == 1


def test_a_key_that_was_dropped_is_not_missed(on_one_redis, own_redis):
    lines = fresh_lines(1, 2)
    daemon = on_one_redis(lines)
    daemon.stop()
    write_key_file(daemon.node.key_file, [lines[0], lines[2]])
    daemon.start()
    assert set(marks_of(own_redis)) == {b"names", b"1", b"2", b"store"}
    assert keys_check(daemon)[:2] == (200, "pass")


def test_marks_tell_nothing_of_keys_and_are_written_again(on_one_redis, own_redis):
    lines = fresh_lines()
    daemon = on_one_redis(lines)
    before = marks_of(own_redis)
    assert set(before) == {b"names", b"1", b"store"}
    for name, words in before.items():
        assert [len(word) for word in words] == [40] if name == b"store" else len(words[0]) == 16
        assert words[0].decode() not in lines[0] + lines[1]
    with Redis(own_redis.port) as node:
        node.call("FLUSHALL")
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: set(marks_of(own_redis)) == set(before), 5, "the marks are there again")
    after = marks_of(own_redis)
    assert [words[0] for words in after.values()] == [words[0] for words in before.values()]


def test_a_foreign_node_leaves_it_to_the_right_ones_to_write_lost_marks(on_one_redis, own_redis):
    first = on_one_redis(fresh_lines())
    foreign = on_one_redis(fresh_lines(), ready="/livez")
    wait_for_check(foreign, "fail")
    right = marks_of(own_redis)[b"names"][0]
    seen = foreign.node.metric("sessiond_store_commands_total")
    with Redis(own_redis.port) as node:
        node.call("FLUSHALL")
        node.call("CONFIG", "RESETSTAT")
        # Foreign nodes look every five seconds; only they ask for the hash meanwhile.
        wait_until(lambda: node.command_counts().get("hgetall", 0) >= 1, 15, "it has looked")
    assert foreign.node.metric("sessiond_store_commands_total") > seen
    assert marks_of(own_redis).get(b"names", [right])[0] == right
    assert keys_check(foreign)[1] == "fail", "still"
    first.node.signal(signal.SIGHUP)
    wait_until(lambda: marks_of(own_redis).get(b"names", [None])[0] == right, 5, "the right ones")


def test_a_whole_new_key_file_is_accepted_once_the_marks_are_deleted(on_one_redis, own_redis):
    daemon = on_one_redis(fresh_lines())
    daemon.stop()
    # The journal is of the old keys, too.
    (daemon.node.directory / "journal").unlink()
    write_key_file(daemon.node.key_file, fresh_lines())
    with Redis(own_redis.port) as node:
        node.call("DEL", "sd:k")
    daemon.start()
    assert daemon.is_alive(daemon.login()["access_token"])


def test_without_redis_at_boot_the_keys_are_unknown_and_compared_later(on_one_redis, own_redis):
    right = fresh_lines()
    on_one_redis(right).stop()
    own_redis.stop()
    foreign = on_one_redis(fresh_lines(), ready="/livez")
    answer = foreign.try_login(unique())
    assert answer.status == 503 and answer.code.startswith("store_"), answer
    own_redis.start("--save", "")  # empty: this node's keys are the first
    wait_until(lambda: foreign.try_login(unique()).status == 201, 10, "logins work")
    wait_until(lambda: b"names" in marks_of(own_redis), 5, "the marks are written")


def test_installations_with_names_share_a_redis(on_one_redis, start, own_redis):
    first = on_one_redis(fresh_lines())
    second = start(redis=own_redis, redis__mode="standalone", redis__wait_timeout=0,
                   keys__installation="staging")
    assert first.is_alive(first.login()["access_token"])
    assert second.is_alive(second.login()["access_token"])
    answer = second.validate(first.login()["access_token"])
    assert answer.status == 401 and answer.json["reason"] == "unknown"
    with Redis(own_redis.port) as node:
        assert node.call("EXISTS", "sd:k", "sd:k:staging") == 2


def test_tokens_of_another_installation_are_unknown(start, shared):
    daemon = start()
    token = daemon.login()["access_token"]
    answer = shared.validate(token)
    assert answer.status == 401 and answer.json["reason"] == "unknown"


def test_a_record_copied_to_another_user_does_not_open(start, cluster):
    daemon = start()
    victim, thief = unique(), unique()
    login, own = daemon.login(victim), daemon.login(thief)
    node, key = stored(cluster, daemon, victim)
    other, other_key = stored(cluster, daemon, thief)
    with node, other:
        fields = node.call("HGETALL", key)
        record = dict(zip(fields[::2], fields[1::2]))
        own_fields = other.call("HKEYS", other_key)
        for name, value in record.items():
            if name != b"!" and not name.endswith(b".t"):
                for field in own_fields:
                    if field != b"!" and not field.endswith(b".t"):
                        other.call("HSET", other_key, field, value)
    answer = daemon.validate(own["access_token"])
    assert answer.status == 401, answer
    assert victim not in answer.body.decode()
    assert daemon.is_alive(login["access_token"])
    listed = daemon.call("GET", f"/v1/users/{thief}/devices", None, SERVICE)
    assert victim not in listed.body.decode()
    assert daemon.node.metric("sessiond_records_unreadable_total") >= 1


def test_a_record_with_any_byte_changed_is_never_accepted(start, cluster):
    daemon = start()
    user = unique()
    login = daemon.login(user)
    node, key = stored(cluster, daemon, user)
    with node:
        fields = node.call("HGETALL", key)
        record = dict(zip(fields[::2], fields[1::2]))
        name = next(n for n in record if n != b"!" and not n.endswith(b".t"))
        sealed = record[name]
        for position in range(0, len(sealed), 5):
            changed = bytearray(sealed)
            changed[position] ^= 0x10
            node.call("HSET", key, name, bytes(changed))
            answer = daemon.validate(login["access_token"])
            assert answer.status == 401, (position, answer)
        for cut in (b"", sealed[:1], sealed[:-1], sealed + b"x"):
            node.call("HSET", key, name, cut)
            assert daemon.validate(login["access_token"]).status == 401, cut
        node.call("HSET", key, name, sealed)
    assert daemon.is_alive(login["access_token"])


def test_a_user_record_with_a_byte_changed_opens_no_list_of_devices(start, cluster):
    daemon = start()
    user = unique()
    token = daemon.login(user)["access_token"]
    daemon.call("POST", "/v1/logout-all", {"keep_current": True}, token)
    assert daemon.call("GET", "/v1/devices", None, token).status == 200
    node, key = stored(cluster, daemon, user)
    with node:
        sealed = bytearray(node.call("HGET", key, "="))
        sealed[-1] ^= 1
        node.call("HSET", key, "=", bytes(sealed))
    check_problem(daemon.call("GET", "/v1/devices", None, token), 401, "token_invalid")
    assert daemon.devices(user)["total"] == 0
    assert not daemon.is_alive(token)


def test_a_restored_record_of_a_dead_session_is_not_revived_by_keep_session(start, cluster):
    daemon = start()
    user = unique()
    login = daemon.login(user)
    session = bytes.fromhex(login["session_id"])
    node, key = stored(cluster, daemon, user)
    with node:
        record = node.call("HGET", key, session)
        assert daemon.call("POST", f"/v1/users/{user}/logout-all", {}, SERVICE).status == 200
        node.call("HSET", key, session, record)
        assert not daemon.is_alive(login["access_token"])
        answer = daemon.call("POST", f"/v1/users/{user}/logout-all",
                             {"keep_session": login["session_id"]}, SERVICE)
        assert answer.status == 200, answer
    assert not daemon.is_alive(login["access_token"])


def test_a_key_of_a_wrong_type_is_an_error_and_never_a_verdict(start, cluster):
    daemon = start()
    user = unique()
    login = daemon.login(user)
    node, key = stored(cluster, daemon, user)
    with node:
        node.call("DEL", key)
        node.call("SET", key, "a string")
        answer = daemon.validate(login["access_token"])
        assert answer.status == 503, answer
        check_problem(answer, 503, answer.code)
        assert daemon.try_login(user).status == 503
        node.call("DEL", key)
    assert daemon.login(user)


def test_without_encryption_the_record_is_plain_and_everything_works(start, cluster):
    daemon = start(keys__encryption="none")
    user = unique("plainuser")
    login = daemon.login(user, device={"id": "d", "name": "plaindevice"})
    assert daemon.is_alive(login["access_token"])
    node, key = stored(cluster, daemon, user)
    with node:
        content = b" ".join(node.call("HGETALL", key))
    assert b'"plaindevice"' in content and user.encode() in content
    assert login["access_token"][3:].encode() not in content
    refreshed = daemon.refresh(login["refresh_token"])
    assert refreshed.status == 200
    assert daemon.kick(user, login["session_id"]).status == 200
    assert daemon.validate(refreshed.json["access_token"]).json["reason"] == "kicked"


def test_redis_holds_only_the_keys_of_the_design(shared, cluster):
    shared.login()
    shared.login(key=ACME)
    kinds = {key[:5].rstrip(b":") for node in cluster.masters() for key in node.keys()}
    assert kinds <= {b"sd:u", b"sd:e", b"sd:c", b"sd:i", b"sd:p", b"sd:k"}, kinds


def test_nothing_issued_and_nothing_personal_is_found_in_redis_audit_or_log(start, cluster):
    """The audit file holds user ids, devices and addresses by design, but no token."""
    daemon = start()
    tokens, people = [], []
    for n in range(20):
        user = unique("Privat-Müller")
        device = {"id": unique("dev"), "type": unique("kind"), "name": unique("Gerät"),
                  "fingerprint": unique("fp")}
        login = daemon.login(user, device=device, ip=f"203.0.113.{n}",
                             user_agent=unique("agent"), roles=[unique("role")],
                             attributes={unique("attribute"): unique("value")})
        refreshed = daemon.refresh(login["refresh_token"]).json
        for pair in (login, refreshed):
            tokens += [pair["access_token"], pair["refresh_token"]]
        people += [user, *device.values(), f"203.0.113.{n}"]
        daemon.validate(refreshed["access_token"])
        if n % 4 == 0:
            daemon.kick("%".join([""] + [f"{b:02X}" for b in user.encode()]), login["session_id"],
                        headers={"X-Operator": f"operator-{n}@example.com"})
            people.append(f"operator-{n}@example.com")
    dump = b"\n".join(cluster.dump())
    assert b"sd:u:" in dump
    for token in tokens:
        assert token[3:].encode() not in dump
        raw = base64.urlsafe_b64decode(token[3:])
        assert raw[23:39] not in dump, "the secret of a token lies in Redis"
    for text in people:
        assert text.encode() not in dump, text
    daemon.stop()
    audit, log = daemon.node.audit.read_text(), daemon.node.log_text()
    for token in tokens + [SERVICE]:
        assert token[3:] not in audit and token[3:] not in log
    for text in people:
        assert text not in log


def test_the_daemon_leaves_no_core_and_is_not_readable_by_others(start):
    daemon = start()
    limits = open(f"/proc/{daemon.node.process.pid}/limits").read()
    core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert core.split()[4] == "0", core
    wait_until(lambda: daemon.validate("sa_x").status == 401, 3, "still serving")
