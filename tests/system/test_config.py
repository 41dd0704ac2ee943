"""The configuration: what is refused at start, what a reload does, what the commands print."""

import re
import signal
import subprocess

import pytest

from checks import check_problem
from client import RawSocket, statuses
from daemon import BINARY, KEYS, SERVICE, key_digest, new_key, reload, render, unique
from redis_servers import ROOT, wait_until


def sessiond(*arguments, **options):
    return subprocess.run([BINARY, *map(str, arguments)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60, **options)


def line_of(text, part):
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


BAD = {
    "unknown option": ("[server]\nlisen = 127.0.0.1:1\n", "lisen"),
    "unknown section": ("[sever]\nlisten = 127.0.0.1:1\n", "sever"),
    "not a number": ("[server]\nworkers = many\n", "workers"),
    "number out of range": ("[policy]\nmax_devices = 1001\n", "max_devices"),
    "number below its range": ("[policy]\nmax_devices = 0\n", "max_devices"),
    "unknown unit": ("[policy]\nidle_timeout = 5y\n", "idle_timeout"),
    "unknown word": ("[policy]\noverflow = evict_some\n", "overflow"),
    "unknown self_service": ("[policy]\nself_service = devices fly\n", "self_service"),
    "bad address": ("[server]\nlisten = nowhere\n", "listen"),
    "bad port": ("[server]\nlisten = 127.0.0.1:99999\n", "listen"),
    "bad network": ("[server]\ntrusted_proxies = 10.0.0.0/33\n", "trusted_proxies"),
    "bad redis node": ("[redis]\nnodes = 127.0.0.1\n", "nodes"),
    "option given twice": ("[policy]\nmax_devices = 3\nmax_devices = 4\n", "max_devices = 4"),
    "no equals sign": ("[policy]\nmax_devices\n", "max_devices"),
    "idle longer than absolute": ("[policy]\nidle_timeout = 2h\nrefresh_ttl = 1h\n"
                                  "access_ttl = 1h\nabsolute_timeout = 1h\n", "absolute_timeout"),
    "access longer than refresh": ("[policy]\naccess_ttl = 2h\nrefresh_ttl = 1h\n", "refresh_ttl"),
    "wait longer than the deadline": ("[redis]\nwait_timeout = 600ms\n", "wait_timeout"),
    "key without a hash": ("[key:a]\nscopes = login\ntenant = *\n", "[key:a]"),
    "key with a short hash": ("[key:a]\nhash = abcd\nscopes = login\ntenant = *\n", "hash"),
    "key with an unknown scope": (f"[key:a]\nhash = {'0' * 64}\nscopes = logon\ntenant = *\n",
                                  "scopes"),
    "key of a bad tenant": (f"[key:a]\nhash = {'0' * 64}\nscopes = login\ntenant = A B\n",
                            "tenant"),
    "no listener at all": ("[server]\nlisten =\n", "listen"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_configuration_is_refused_with_file_and_line(tmp_path, what):
    text, culprit = BAD[what]
    path = tmp_path / "bad.conf"
    path.write_text("# a comment\n" + text)
    line = line_of(path.read_text(), culprit)
    result = sessiond("check-config", path)
    assert result.returncode != 0, result
    assert f"{path}:{line}" in result.stderr, result.stderr
    result = sessiond("--config", path)
    assert result.returncode != 0, result
    assert f"{path}:{line}" in result.stderr, result.stderr


def test_all_faults_of_a_file_are_named_at_once(tmp_path):
    path = tmp_path / "bad.conf"
    path.write_text("[server]\nlisen = x\nworkers = many\n[policy]\nrenew = never\n")
    result = sessiond("check-config", path)
    assert result.returncode != 0
    for line in (2, 3, 5):
        assert f"{path}:{line}" in result.stderr, result.stderr


def test_a_missing_file_is_named(tmp_path):
    result = sessiond("--config", tmp_path / "none.conf")
    assert result.returncode != 0
    assert "none.conf" in result.stderr


def test_check_config_says_yes_to_a_good_file(start):
    daemon = start(begin_now=False)
    result = sessiond("check-config", daemon.node.config)
    assert result.returncode == 0, result.stderr


def test_the_shipped_configuration_is_good_and_shows_every_default():
    result = sessiond("check-config", ROOT / "conf" / "sessiond.conf")
    assert result.returncode == 0, result.stderr
    shipped = (ROOT / "conf" / "sessiond.conf").read_text()
    options = re.findall(r"^OPTION_[A-Z]+\((\w+), (\w+),",
                         (ROOT / "include" / "tbl" / "options.h").read_text(), re.M)
    assert len(options) > 40
    for section, name in options:
        assert re.search(rf"^#? ?{name} =", shipped, re.M), f"{section}.{name}"
        assert f"[{section}]" in shipped


def test_dump_config_reads_back_as_itself(start, tmp_path):
    daemon = start(begin_now=False, policy__max_devices=7)
    first = sessiond("--dump-config", "--config", daemon.node.config)
    assert first.returncode == 0, first.stderr
    assert re.search(r"^max_devices = 7$", first.stdout, re.M)
    copy = tmp_path / "copy.conf"
    copy.write_text(first.stdout)
    second = sessiond("--dump-config", "--config", copy)
    assert second.stdout == first.stdout


def test_unknown_arguments_are_refused():
    for arguments in (["--nonsense"], ["nonsense"], ["--config"]):
        result = sessiond(*arguments)
        assert result.returncode != 0, arguments
        assert result.stderr


def test_version_and_help_are_printed():
    version = sessiond("--version")
    assert version.returncode == 0 and re.search(r"\d+\.\d+", version.stdout)
    usage = sessiond("--help")
    assert usage.returncode == 0
    for word in ("check-config", "keygen", "--config"):
        assert word in usage.stdout


@pytest.mark.parametrize("words", ["keygen --help", "keys -h", "check-config --help",
                                   "keygen --name a --help"])
def test_help_is_there_behind_every_command(words):
    result = sessiond(*words.split())
    assert result.returncode == 0 and result.stdout.startswith("usage: "), result


def test_help_says_what_each_scope_opens_and_what_is_kept_from_keys_of_a_tenant():
    usage = " ".join(sessiond("--help").stdout.split())
    for words in ("validate: validate tokens", "policy: set a tenant's policy, log the tenant out",
                  'belong to the platform: only keys of --tenant "*" change them'):
        assert words in usage, words


def test_keygen_makes_a_key_that_works(start):
    result = sessiond("keygen", "--name", "gateway", "--scopes", "validate", "--tenant", "acme")
    assert result.returncode == 0, result.stderr
    key = re.search(r"sk_[A-Za-z0-9_-]+", result.stdout + result.stderr)[0]
    stanza = re.search(r"\[key:gateway\]\n(?:\w+ = .*\n)+", result.stdout)[0]
    assert key not in stanza
    assert f"hash = {key_digest(key)}" in stanza
    assert "scopes = validate" in stanza and "tenant = acme" in stanza
    daemon = start(begin_now=False)
    daemon.node.config.write_text(daemon.node.config.read_text() + stanza)
    daemon.start()
    answer = daemon.check("sa_x", key=key)
    assert answer.status == 200, answer
    again = sessiond("keygen", "--name", "gateway", "--scopes", "validate", "--tenant", "acme")
    assert key not in again.stdout


@pytest.mark.parametrize("arguments", [["--name", "A b", "--scopes", "login", "--tenant", "a"],
                                       ["--name", "a", "--scopes", "fly", "--tenant", "a"],
                                       ["--name", "a", "--scopes", "login", "--tenant", "A"],
                                       ["--scopes", "login"]])
def test_keygen_refuses_what_the_configuration_would(arguments):
    assert sessiond("keygen", *arguments).returncode != 0


@pytest.mark.parametrize("arguments, words", [
    (("keygen", "--name", "A b", "--scopes", "login", "--tenant", "a"),
     "--name must be [a-z0-9][a-z0-9._-]{0,62}, not 'A b'"),
    (("keygen", "--name", "a", "--scopes", "login fly", "--tenant", "a"),
     "--scopes must be one or more of: login validate manage policy introspect ops, "
     "not 'login fly'"),
    (("keygen", "--name", "a", "--scopes", "login", "--tenant", "A"),
     "--tenant must be '*' or [a-z0-9][a-z0-9._-]{0,62}, not 'A'"),
    (("keys", "--tenant", "A"), "--tenant must be [a-z0-9][a-z0-9._-]{0,62}, not 'A'"),
    (("keys", "--tenant", "a", "--user", "a\tb"),
     "--user must be 1 to 255 bytes of UTF-8 without control characters, not 'a?b'"),
])
def test_a_value_that_the_command_line_refuses_is_told(arguments, words):
    result = sessiond(*arguments)
    assert result.returncode == 2 and result.stderr == f"sessiond: {words}\n", result


# Reload.



FAILED = "sessiond_config_reload_errors_total"


def test_sighup_takes_over_new_limits(start):
    daemon = start(policy__max_devices=5)
    user = unique()
    for _ in range(3):
        daemon.login(user)
    daemon.node.write_config(policy__max_devices=2, policy__overflow="reject")
    reload(daemon.node)
    check_problem(daemon.try_login(user), 409, "device_limit")
    assert daemon.devices(user)["limit"] == 2


def test_sighup_takes_over_the_body_limit_the_log_level_and_connection_limits(start):
    daemon = start()
    body = {"user_id": unique(), "attributes": {"a": "x" * 2000}}
    assert daemon.call("POST", "/v1/login", body, SERVICE).status == 201
    assert " debug " not in daemon.node.log_text()
    daemon.node.write_config(server__body_limit=1024, log__level="debug",
                             server__max_connections_per_address=3)
    reload(daemon.node)
    # Each worker takes it over in its next turn.
    wait_until(lambda: daemon.call("POST", "/v1/login", body, SERVICE).status == 413, 3, "in force")
    check_problem(daemon.call("POST", "/v1/login", body, SERVICE), 413, "too_large")
    sockets = [RawSocket(daemon.node.port) for _ in range(5)]
    data, closed = sockets[4].closed_within(5)
    assert statuses(data) == [503] and closed, data
    for raw in sockets:
        raw.socket.close()
    # Connections to Redis are made as users need them; each is logged. Some of our connections may still count.
    def logs_in():
        try:
            return daemon.try_login(unique()).status == 201
        except OSError:  # refused and closed while it was sent
            return False
    wait_until(lambda: logs_in() and " debug " in daemon.node.log_text(), 5, "debug lines are logged")


def test_sighup_takes_over_new_keys_and_drops_old_ones(start):
    daemon = start()
    added = new_key()
    check_problem(daemon.try_login(unique(), key=added), 401, "key_invalid")
    daemon.node.keys = {name: row for name, row in KEYS.items() if name != "service"}
    daemon.node.keys["added"] = (added, "login", "default")
    daemon.node.write_config()
    reload(daemon.node)
    assert daemon.try_login(unique(), key=added).status == 201
    check_problem(daemon.try_login(unique()), 401, "key_invalid")


def test_a_bad_file_at_reload_changes_nothing_and_says_why(start):
    daemon = start(policy__max_devices=5)
    text = daemon.node.config.read_text()
    daemon.node.config.write_text(text.replace("max_devices = 5", "max_devices = five"))
    line = line_of(daemon.node.config.read_text(), "max_devices")
    reload(daemon.node, FAILED)
    assert f"{daemon.node.config}:{line}" in daemon.node.log_text()
    user = unique()
    daemon.login(user)
    assert daemon.devices(user)["limit"] == 5
    daemon.node.config.unlink()
    reload(daemon.node, FAILED)
    assert daemon.login(user)


@pytest.mark.parametrize("option,value", [("server.listen", "127.0.0.1:1"),
                                          ("audit.file", "/tmp/other.log"),
                                          ("keys.encryption", "none"), ("server.workers", "3")])
def test_an_option_that_needs_a_restart_refuses_the_reload(start, option, value):
    daemon = start(policy__max_devices=5)
    daemon.node.write_config(**{option: value, "policy.max_devices": 2})
    reload(daemon.node, FAILED)
    assert option.split(".")[1] in daemon.node.log_text()
    user = unique()
    daemon.login(user)
    assert daemon.devices(user)["limit"] == 5


def ask_for_reload(pid):
    """As systemd does for `systemctl reload`."""
    return subprocess.run([BINARY, "reload", str(pid)], text=True, capture_output=True, timeout=60)


def test_who_asks_for_a_reload_hears_whether_it_was_taken(start):
    node = start().node
    for _ in range(3):
        done = ask_for_reload(node.process.pid)
        assert (done.returncode, done.stderr) == (0, "")
    reloads = node.metric("sessiond_config_reloads_total")
    assert reloads == 3
    node.write_config(server__workers=3)
    done = ask_for_reload(node.process.pid)
    assert done.returncode == 1 and "refuses the reload: config_refused in its log" in done.stderr, done
    assert "workers changes with a restart only" in node.log_text()
    assert node.ops.call("GET", "/livez").status == 200


@pytest.mark.parametrize("pid,status,why", [("0", 2, "a number above 1"), ("12x", 2, "a number above 1"),
                                            ("", 2, "a number above 1"), ("4194999", 1, "No such process")])
def test_a_reload_of_what_is_no_process_is_refused(pid, status, why):
    done = ask_for_reload(pid)
    assert done.returncode == status and why in done.stderr, done


def test_calls_go_on_during_reloads(start):
    daemon = start()
    token = daemon.login()["access_token"]
    for round_number in range(20):
        daemon.node.write_config(policy__max_devices=3 + round_number % 5)
        daemon.node.signal(signal.SIGHUP)
        for _ in range(10):
            assert daemon.is_alive(token)


def test_a_shorter_idle_time_holds_for_living_sessions(start):
    daemon = start()
    login = daemon.login()
    before = daemon.validate(login["access_token"]).json["idle_expires_at"]
    daemon.node.write_config(policy__idle_timeout=60)
    reload(daemon.node)
    after = daemon.validate(login["access_token"]).json["idle_expires_at"]
    assert after < before - 1000


def test_render_writes_what_the_daemon_reads(start):
    """The helper of the tests itself: a key that is not in the file is not known."""
    assert key_digest(SERVICE) in render({}, KEYS)
    daemon = start()
    check_problem(daemon.try_login(unique(), key="sk_" + "x" * 43), 401, "key_invalid")
