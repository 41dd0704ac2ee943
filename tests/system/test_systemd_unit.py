"""The daemon under its unit's own restrictions, as far as a machine without a service manager can."""

import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import pytest

import daemon as daemons
from alert_receiver import Receiver, guess
from client import Client
from daemon import LARGE_STATE, is_instrumented, unique, write_key_file
import location_file
from probes import FULL
from redis_servers import ROOT, SingleRedis, wait_until
from secured_redis import TlsRedis, certificates  # noqa: F401 (a fixture)
from unit import Machine, Service
from unit_file import APPLIED, NOT_APPLIED, UNIT, Unit

PROBE = pathlib.Path(__file__).with_name("unit_probe.py").read_text()
OPERATIONS = ROOT / "docs" / "operations.md"


def why_not_here():
    if os.geteuid() != 0:
        return "only root can make namespaces, mounts and users as the unit says"
    if is_instrumented():
        return "sanitizers map and reserve memory as the unit forbids it"
    if subprocess.run(["unshare", "--mount", "--ipc", "--uts", "true"], stderr=subprocess.DEVNULL).returncode:
        return "this machine lets not even root make namespaces"
    return None


reason = why_not_here()
restricted = pytest.mark.skipif(reason is not None, reason=reason or "")


# --- the lines ------------------------------------------------------------------------------------
def test_every_line_of_the_unit_is_applied_kept_or_named_as_left_out():
    assert Unit().unknown() == []
    names = {name for name, _ in Unit().lines}
    print("not applied:", *(f"{name}: {why}" for name, why in NOT_APPLIED.items() if name in names), sep="\n  ")


@pytest.mark.parametrize("line", ["NoSuchThing=yes", "ProtectSystem=full", "SystemCallFilter=~mount"])
def test_a_line_that_the_tests_cannot_apply_is_noticed(tmp_path, line):
    (tmp_path / "unit").write_text(UNIT.read_text() + line + "\n")
    assert Unit(tmp_path / "unit").unknown() == [line]


def test_the_document_names_what_was_left_out():
    text = OPERATIONS.read_text()
    for name in {name for name, _ in Unit().lines} & set(NOT_APPLIED):
        if " of units" not in NOT_APPLIED[name] and NOT_APPLIED[name] != "a text":
            assert f"`{name}" in text, name


# --- each restriction bites -----------------------------------------------------------------------
def expect(expression, under_the_unit, control="alone"):
    return expression, under_the_unit, control


OUTSIDE = "something else than outside"
# The value of an expression of unit_probe.py under a line. The control is the unit without this line, if
# that alone makes the difference, or a bare one without any, where several lines forbid the same; None
# where the line says what holds anyway.
BITES = {
    "DynamicUser": expect("os.path.realpath('/var/lib/sessiond')", "/var/lib/private/sessiond"),
    "User": expect("os.getuid() > 61183 and os.getuid() == os.getgid() and not os.getgroups()", True),
    "StateDirectory": expect("write('/var/lib/sessiond/probe')", "0o600"),
    "StateDirectoryMode": expect("mode('/var/lib/sessiond')", "0o700"),
    "LogsDirectory": expect("write('/var/log/sessiond/probe')", "0o600"),
    "LogsDirectoryMode": expect("mode('/var/log/sessiond')", "0o750"),
    "RuntimeDirectory": expect("write('/run/sessiond/probe')", "0o600"),
    "RuntimeDirectoryMode": expect("mode('/run/sessiond')", "0o755", None),
    "ConfigurationDirectory": expect("write('/etc/sessiond/probe')", "EROFS", None),
    "UMask": expect("write('/tmp/probe')", "0o600"),
    "LimitNOFILE": expect("resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 1024", True),
    "LimitCORE": expect("resource.getrlimit(resource.RLIMIT_CORE)", [0, 0]),
    "CapabilityBoundingSet": expect("int(status('CapBnd'), 16)", 0),
    "AmbientCapabilities": expect("int(status('CapAmb'), 16)", 0, None),
    "NoNewPrivileges": expect("status('NoNewPrivs')", "1", "bare"),
    "ProtectSystem": expect("write('/dev/../usr/local/bin/probe')", "EROFS"),
    "ProtectHome": expect("os.listdir('/home')", "EACCES"),
    "PrivateTmp": expect("os.listdir('/tmp')", []),
    "PrivateDevices": expect("sorted(os.listdir('/dev'))",
                             sorted("fd full null random shm stderr stdin stdout tty urandom zero".split())),
    "PrivateUsers": expect("len(read('/proc/self/uid_map'))", 6),
    "PrivateIPC": expect("namespace('ipc')", OUTSIDE),
    "PrivateMounts": expect("namespace('mnt')", OUTSIDE, None),
    "ProtectProc": expect("os.path.exists('/proc/1/stat')", False),
    "ProcSubset": expect("os.path.exists('/proc/meminfo')", False),
    "ProtectClock": expect("call('clock_settime', 0, 0)", "EPERM", "bare"),
    "ProtectHostname": expect("namespace('uts')", OUTSIDE),
    "ProtectKernelLogs": expect("call('syslog', 10, 0, 0)", "EPERM", "bare"),
    "ProtectKernelModules": expect("call('init_module', 0, 0, 0)", "EPERM", "bare"),
    "ProtectKernelTunables": expect("is_read_only('/sys')", True),
    "ProtectControlGroups": expect("is_read_only('/sys/fs/cgroup')", True, "bare"),
    "RestrictNamespaces": expect("call('unshare', 0x10000000)", "EPERM"),
    "RestrictRealtime": expect("os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))", "EPERM", "bare"),
    "RestrictSUIDSGID": expect("write('/tmp/probe', 0o4700)", "EPERM"),
    "RestrictAddressFamilies": expect("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()", "EAFNOSUPPORT"),
    "LockPersonality": expect("call('personality', 8)", "EPERM"),
    "MemoryDenyWriteExecute": expect("mmap.mmap(-1, 4096, prot=7).close()", "EPERM"),
    "KeyringMode": expect("keyring()", "_ses"),
    "SystemCallArchitectures": expect("int(status('Seccomp_filters'))", 13),
    "SystemCallFilter": expect("os.nice(1)", "EPERM"),
    "SystemCallErrorNumber": expect("call('swapon', 0, 0)", "EPERM", None),
}


@pytest.fixture
def new_machine():
    """Machines lie where the service's user can get at them: pytest's own directories are closed."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sessiond-unit-"))
    made = []

    def begin(text=None):
        made.append(Machine(directory / str(len(made)), text))
        return made[-1]

    yield begin
    shutil.rmtree(directory)


def probe(machine, *expressions):
    """{expression: what it comes to} under the restrictions of the machine's unit."""
    machine.make_directories()
    done = machine.run(["/usr/bin/python3", "-c", PROBE, *expressions])
    assert done.returncode == 0, done.stdout
    return json.loads(done.stdout)


@functools.cache
def outside():
    expressions = [expression for expression, wanted, _ in BITES.values() if wanted == OUTSIDE]
    return json.loads(subprocess.run(["/usr/bin/python3", "-c", PROBE, *expressions], check=True,
                                     stdout=subprocess.PIPE).stdout)


def is_as_wanted(expression, wanted, found):
    return found != outside()[expression] if wanted == OUTSIDE else found == wanted


def test_there_is_a_probe_for_every_line_that_is_applied():
    assert set(BITES) == set(APPLIED)


@restricted
def test_every_restriction_bites(new_machine):
    machine = new_machine()
    found = probe(machine, *(expression for expression, _, _ in BITES.values()))
    wrong = {name: found[expression] for name, (expression, wanted, _) in BITES.items()
             if not is_as_wanted(expression, wanted, found[expression])}
    assert not wrong, wrong


@restricted
def test_without_its_line_no_restriction_does(new_machine):
    """So that the test before this one can fail."""
    bare = Unit().without(*set(APPLIED) - {"StateDirectory", "LogsDirectory", "RuntimeDirectory"})
    found = probe(new_machine(bare), *(expression for expression, _, control in BITES.values() if control == "bare"))
    machine = new_machine()
    for name, (expression, _, control) in BITES.items():
        if control == "alone":
            text = Unit().without(name)
            if name == "DynamicUser":  # has its directories elsewhere
                found.update(probe(new_machine(text), expression))
            else:
                machine.install(text)
                found.update(probe(machine, expression))
    still = [name for name, (expression, wanted, control) in BITES.items()
             if control and is_as_wanted(expression, wanted, found[expression])]
    assert not still, still


# --- a day under the unit -------------------------------------------------------------------------
@pytest.fixture
def serve(new_machine, cluster):
    """Makes services, each on a machine of its own; they must stop cleanly."""
    services = []

    def begin(redis=None, text=None, **options):
        services.append(Service(new_machine(text), redis or cluster, **options))
        return services[-1]

    try:
        yield begin
        for service in services:
            service.stop()
    finally:
        for service in services:
            service.kill()


def complaints(node):
    """Warnings and errors in the log, of those that the unit could be the reason of."""
    return [line for line in node.log_text().splitlines() if line[:3] in ("<3>", "<4>")
            and "descriptor_limit_low" not in line]  # of the machine's own limit


@restricted
def test_a_day_of_the_service(serve):
    service = serve(server__unix_socket="/run/sessiond/http.sock")
    node, machine = service.node, service.machine
    node.start()
    assert complaints(node) == []
    sessions_are_served_and_on_record(service)
    files_belong_to_the_service_alone(machine)
    over_socket = Client(unix=str(machine.path("/run/sessiond/http.sock")))
    assert over_socket.call("POST", "/v1/login", {"user_id": unique()}, daemons.SERVICE).status == 201
    over_socket.close()
    the_audit_file_is_rotated(node)
    reloads_are_taken_or_refused(node)
    a_restart_keeps_what_was_known(service)


def sessions_are_served_and_on_record(service):
    login = service.login()
    assert service.is_alive(login["access_token"])
    pair = service.refresh(login["refresh_token"]).json
    kick = service.kick(login["user_id"], login["session_id"])
    assert kick.status == 200, kick
    assert not service.is_alive(pair["access_token"])
    line = service.node.audit_of(kick.header("X-Request-Id"))
    assert line["event.action"] == "kick" and line["event.outcome"] == "success"


def files_belong_to_the_service_alone(machine):
    for path, mode in {"/var/lib/sessiond": 0o700, "/var/lib/sessiond/keys": 0o600, "/var/log/sessiond": 0o750,
                       "/var/lib/sessiond/journal": 0o600, "/var/log/sessiond/audit.log": 0o640,
                       "/run/sessiond": 0o755}.items():
        found = machine.path(path).stat()
        assert (found.st_uid, oct(found.st_mode & 0o777)) == (machine.uid, oct(mode)), path


def the_audit_file_is_rotated(node):
    before = node.audit.stat().st_ino
    node.audit.rename(node.audit.with_name("audit.log.1"))
    node.signal(signal.SIGUSR1)
    wait_until(lambda: node.audit.exists() and node.audit.stat().st_ino != before, 5, "another audit file")
    node.wait_for_log("audit_reopened")


def reloads_are_taken_or_refused(node):
    node.write_config(policy__max_devices=3)
    assert node.reload() is None, node.log_text()
    node.wait_for_log("config_reloaded")
    assert "RELOADING=1" in node.notifications.seen
    node.write_config(policy__max_devices="many")
    assert "max_devices" in node.reload()
    node.write_config(policy__max_devices=3, geoip__database="/etc/sessiond/absent")
    assert "refuses the reload" in node.reload()
    by_root = subprocess.run([daemons.BINARY, "reload", str(node.process.pid)], text=True, capture_output=True,
                             timeout=60)
    assert by_root.returncode == 1 and "refuses the reload" in by_root.stderr, by_root
    del node.options["geoip.database"]
    node.write_config()


def a_restart_keeps_what_was_known(service):
    """The user that the service gets may be another one."""
    node, login = service.node, service.login()
    assert service.is_alive(login["access_token"])
    node.stop()
    assert not service.machine.path("/run/sessiond").exists()
    assert service.machine.path("/var/lib/sessiond/cache").exists()
    before = service.machine.uid
    while node.process is None:
        node.start()
        if service.machine.uid == before:
            node.stop()
    assert service.is_alive(login["access_token"])
    node.wait_for_log("snapshot_loaded")


@restricted
def test_a_second_service_on_the_same_files_is_refused(serve):
    service = serve()
    service.node.start()
    words = service.machine.unit.one("ExecStart").split()
    done = service.machine.run(words)
    assert done.returncode == 1, done.stdout
    assert f"{service.node.process.pid}" in done.stdout, done.stdout


@restricted
def test_credentials_tls_places_and_a_webhook_under_the_unit(serve, certificates, workspace):  # noqa: F811
    names = ("sessiond-keys", "redis-ca.pem", "redis-cert.pem", "redis-key.pem", "webhook-secret", "webhook-ca.pem")
    text = "".join(line.removeprefix("#") + "\n" if line.startswith(tuple(f"#LoadCredential={name}:" for name in names))
                   else line + "\n" for line in UNIT.read_text().splitlines())
    redis = TlsRedis(workspace / "unit-tls", certificates.authority, certificates.server, demand_client=True,
                     client=certificates.node)
    bundle = workspace / "unit-receiver.pem"
    bundle.write_text(certificates.server[0].read_text() + certificates.server[1].read_text())
    receiver = Receiver(bundle)
    try:
        service = serve(
            redis.start(), text, redis__mode="standalone", redis__tls="yes", redis__tls_ca_file="redis-ca.pem",
            redis__tls_cert_file="redis-cert.pem", redis__tls_key_file="redis-key.pem",
            alerts__webhook_url=f"https://localhost:{receiver.up().port}/",
            alerts__webhook_secret_file="webhook-secret",
            alerts__tls_ca_file="webhook-ca.pem", alerts__guesses_per_minute=1, server__trusted_proxies="127.0.0.0/8",
            geoip__database="/etc/sessiond/places.mmdb")
        etc = service.machine.path("/etc/sessiond")
        write_key_file(etc / "keys")
        authority = certificates.authority.path.read_text()
        for name, content in {"redis-ca.pem": authority, "webhook-ca.pem": authority, "webhook-secret": 24 * "x",
                              "redis-cert.pem": certificates.node[0].read_text(),
                              "redis-key.pem": certificates.node[1].read_text()}.items():
            (etc / name).write_text(content)
            (etc / name).chmod(0o600)
        location_file.write(etc / "places.mmdb", {"81.2.69.0/24": location_file.place("GB", "United Kingdom")})
        service.node.start()
        login = service.login(ip="81.2.69.142")
        assert service.is_alive(login["access_token"])
        assert service.devices(login["user_id"])["devices"][0]["location"] == "United Kingdom"
        assert not service.machine.path("/var/lib/sessiond/keys").exists(), "the credential wins"
        guess(service, "198.51.100.1", 2)
        assert receiver.wait(1)[0].is_signed_with(24 * b"x")
        service.stop()
    finally:
        receiver.down()
        redis.stop()


# --- large files ----------------------------------------------------------------------------------
@restricted
def test_start_and_stop_with_large_files_keep_the_unit_s_times(serve, tmp_path):
    """A journal that Redis has nothing of yet, so the stop comes while it is replayed."""
    size = 200000 if FULL else 40000
    redis = SingleRedis(tmp_path / "redis")
    try:
        service = serve(redis.start(), redis__mode="standalone", redis__wait_timeout=0)
        node, state = service.node, service.machine.path("/var/lib/sessiond")
        shutil.copy(LARGE_STATE, service.machine.directory / "usr/local/bin")
        took_empty = node.start()
        node.stop()
        service.machine.make_directories()
        made = service.machine.run(["/usr/local/bin/large_state", "/var/lib/sessiond/keys", "/var/lib/sessiond",
                                    str(size), str(size)])
        assert made.returncode == 0, made.stdout
        before = (state / "cache").stat()
        took_start = node.start()
        assert node.metric("sessiond_cache_entries") >= size
        took_stop = node.stop()
        saved = (state / "cache").stat()
        print(f"{size} each, {before.st_size >> 20} MiB of snapshot: start {took_empty:.2f} s without, "
              f"{took_start:.2f} s, stop {took_stop:.2f} s")
        assert saved.st_ino != before.st_ino and saved.st_size >= before.st_size, "all of it was saved"
    finally:
        redis.stop()
