"""Secret files as the documents say to make them, under a user of the service's own.

systemd does not run here. `Host` stands for it: LoadCredential= lines are read from the drop-ins that
a recipe leaves (or from the unit), and the files handed over as systemd shows them: root's, with an
access list for the user, in a directory that is closed to others (systemd.exec(5), "Credentials").
All lines of the unit together are tested by test_systemd_unit.py.
"""

import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import tempfile

import pytest

import daemon as daemons
from alert_receiver import Receiver, guess
from daemon import Daemon, write_key_file
from redis_servers import ROOT, SLOW, free_port, wait_until
from secured_redis import ACL, GuardedRedis, TlsRedis, certificates  # noqa: F401 (a fixture)
from unit import hand_over_credentials
from unit_file import CREDENTIAL, UNIT

ALERTS = ROOT / "docs" / "alerts.md"
PATHS = "/etc/"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of root and start "
                                "the service as another user")


def comment_blocks(path):
    """The indented blocks in the comments of a configuration: what one is to type or to write."""
    blocks, lines = [], []
    for line in [*path.read_text().splitlines(), ""]:
        if line.startswith("#       "):
            lines.append(line[len("#       "):])
        elif lines:
            blocks.append("\n".join(lines) + "\n")
            lines = []
    return blocks


def fenced_blocks(path):
    """The same of a document: what stands between fences."""
    return re.findall(r"^```(?:sh|ini)\n(.*?)^```$", path.read_text(), re.M | re.S)


def block_with(blocks, *words):
    """The one block that has all words."""
    found = [block for block in blocks if all(word in block for word in words)]
    assert len(found) == 1, f"{len(found)} blocks with {words}"
    return found[0]


def options_in(block):
    """{"section.name": value} of lines of a configuration."""
    options, section = {}, None
    for line in block.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line:
            name, value = line.split("=", 1)
            options[f"{section}.{name.strip()}"] = value.strip()
    return options


class Host:
    """A fresh machine whose /etc lies in a directory, and the service's user on it."""

    def __init__(self, directory, redis):
        self.directory, self.redis = directory, redis
        self.user = pwd.getpwnam("nobody")
        self.etc = directory / "etc"
        self.credentials = directory / "credentials"
        self.daemons = []
        for path in (self.etc, directory / "bin", self.credentials):
            path.mkdir()
        # Only the order to read the drop-ins again goes to systemd.
        (directory / "bin/systemctl").write_text(f'#!/bin/sh\necho "$@" >>{directory}/systemctl.log\n')
        (directory / "bin/systemctl").chmod(0o755)

    def run(self, script):
        """The output of a recipe, typed by root."""
        script = script.replace(PATHS, f"{self.etc}/")
        environment = dict(os.environ, PATH=f"{self.directory}/bin:{os.environ['PATH']}")
        done = subprocess.run(["bash", "-euc", f"umask 022\n{script}"], env=environment, text=True,
                              timeout=30, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, f"{script}: {done.stdout}"
        return done.stdout

    def orders(self):
        log = self.directory / "systemctl.log"
        return log.read_text().splitlines() if log.exists() else []

    def hand_over(self, text):
        """Does what systemd does with the lines of a unit."""
        hand_over_credentials(text, self.etc, self.credentials, self.user.pw_uid)

    def drop_ins(self):
        found = sorted(self.etc.glob("systemd/system/sessiond.service.d/*.conf"))
        return "\n".join(path.read_text() for path in found).replace(f"{self.etc}/", PATHS)

    def service(self, **options):
        """A daemon that is yet to be started; what it keeps belongs to its user."""
        found = Daemon(self.directory / f"state{len(self.daemons)}", self.redis, **options)
        self.daemons.append(found)
        for path in [found.node.directory.parent, *found.node.directory.parent.rglob("*")]:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        return found

    def spawn(self, daemon):
        environment = dict(os.environ, CREDENTIALS_DIRECTORY=str(self.credentials))
        daemon.node.spawn(environment, user=self.user.pw_uid, group=self.user.pw_gid, extra_groups=[])
        return daemon

    def start(self, daemon):
        self.spawn(daemon)
        daemon.node.wait_for("/readyz")
        return daemon


@pytest.fixture
def host(monkeypatch, cluster):
    """Everything lies where the service's user can get at it: pytest's own directories are closed."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="sessiond-host-"))
    directory.chmod(0o755)
    shutil.copy(daemons.BINARY, directory / "sessiond")
    monkeypatch.setattr(daemons, "BINARY", str(directory / "sessiond"))
    host = Host(directory, cluster)
    try:
        yield host
        for daemon in host.daemons:
            daemon.stop()
    finally:
        for daemon in host.daemons:
            daemon.kill()
        shutil.rmtree(directory)


def sessions_work(daemon):
    login = daemon.login()
    assert daemon.is_alive(login["access_token"])


def test_the_recipe_for_the_password_of_redis_works_under_the_unit_s_user(host, workspace):
    blocks = comment_blocks(ACL)
    host.run(block_with(blocks, "/dev/urandom"))
    secret, = host.etc.glob("sessiond/*")
    assert (secret.stat().st_uid, secret.stat().st_mode & 0o777) == (0, 0o600)
    assert host.orders() == ["daemon-reload"]
    digest = host.run(block_with(blocks, "sha256sum")).split()[0]
    server = GuardedRedis(workspace / f"guarded-{digest[:8]}", digest)
    try:
        host.redis = server.start()
        host.hand_over(host.drop_ins())
        daemon = host.service(**options_in(block_with(blocks, "[redis]")), redis__mode="standalone")
        sessions_work(host.start(daemon))
        daemon.stop()
    finally:
        server.stop()


def test_the_recipe_for_another_password_of_redis_leaves_no_gap(host, workspace):
    """Both hashes, the new file, a restart, the old hash taken away."""
    blocks = comment_blocks(ACL)
    make, print_hash = block_with(blocks, "/dev/urandom"), block_with(blocks, "sha256sum")
    host.run(make)
    old = host.run(print_hash).split()[0]
    server = GuardedRedis(workspace / f"guarded-{old[:8]}", old)
    try:
        host.redis = server.start()
        host.hand_over(host.drop_ins())
        daemon = host.start(host.service(**options_in(block_with(blocks, "[redis]")), redis__mode="standalone"))
        host.run(make)
        new = host.run(print_hash).split()[0]
        assert new != old
        with server.connect() as node:
            node.call("ACL", "SETUSER", "sessiond", f"#{new}")
            sessions_work(daemon)
            daemon.stop()
            host.hand_over(host.drop_ins())
            host.start(daemon)
            node.call("ACL", "SETUSER", "sessiond", f"!{old}")
            sessions_work(daemon)
            daemon.stop()
            sessions_work(host.start(daemon))
        daemon.stop()
    finally:
        server.stop()


def test_the_recipe_for_the_secret_of_alerts_works_under_the_unit_s_user(host, tmp_path):
    """The receiver checks the signature by the recipe of the same document."""
    blocks = fenced_blocks(ALERTS)
    host.run(block_with(blocks, "/dev/urandom"))
    secret, = host.etc.glob("sessiond/*")
    assert (secret.stat().st_uid, secret.stat().st_mode & 0o777) == (0, 0o600)
    assert host.orders() == ["daemon-reload"]
    host.hand_over(host.drop_ins())
    receiver = Receiver().up()
    try:
        options = options_in(block_with(blocks, "[alerts]"))
        assert options.pop("alerts.webhook_url").startswith("https://")
        daemon = host.service(**options, alerts__webhook_url=receiver.url, alerts__guesses_per_minute=1,
                              server__trusted_proxies="127.0.0.0/8")
        guess(host.start(daemon), "198.51.100.1", 2)
        post = receiver.wait(1)[0]
    finally:
        receiver.down()
    shutil.copy(secret, tmp_path / "webhook-secret")
    (tmp_path / "body.json").write_bytes(post.body)
    words = f"cd {tmp_path}\nid={post.id} timestamp={post.headers['webhook-timestamp']}\n"
    signature = host.run(words + block_with(blocks, "openssl dgst")).strip()
    assert post.headers["webhook-signature"] == f"v1,{signature}"


def secret_options():
    """Options that name a secret file, as their rows say it."""
    rows = (ROOT / "include/tbl/options.h").read_text()
    found = re.findall(r'^OPTION_TEXT\((\w+), (\w+), .*"(?:\w+ mode: )?[Ss]ecret file', rows, re.M)
    return {f"{section}.{name}" for section, name in found}


def test_the_unit_has_a_line_for_every_secret_file():
    text = UNIT.read_text()
    assert len(secret_options()) >= 5
    for option in secret_options():
        assert re.search(rf"^# .*\b{re.escape(option)}\b.*:\n(?:#Load.*\n)*#LoadCredential=", text, re.M), option
    for name, path in CREDENTIAL.findall(text):
        assert path.startswith(PATHS), (name, path)


def test_the_unit_s_lines_hand_over_every_secret_at_once(host, certificates):  # noqa: F811
    """Files of root with mode 0600, a Redis with TLS and passwords, and a webhook."""
    aclfile = host.directory / "users.acl"
    aclfile.write_text("user default on nopass ~* &* +@all\nuser sessiond on >passphrase ~* &* +@all\n")
    server = TlsRedis(host.directory / "redis", certificates.authority, certificates.server,
                      demand_client=True, client=certificates.node, options=["--aclfile", str(aclfile)])
    receiver = Receiver().up()
    key_lines = write_key_file(host.directory / "spare")
    contents = {"sessiond-keys": "\n".join(key_lines) + "\n", "redis-password": "passphrase\n",
                "sentinel-password": "x\n", "webhook-secret": 24 * "x",
                "redis-ca.pem": certificates.authority.path.read_text(),
                "redis-cert.pem": certificates.node[0].read_text(),
                "redis-key.pem": certificates.node[1].read_text(),
                "tls.crt": certificates.node[0].read_text(), "tls.key": certificates.node[1].read_text(),
                "webhook-ca.pem": certificates.authority.path.read_text()}
    lines = dict(CREDENTIAL.findall(UNIT.read_text()))
    assert set(contents) == set(lines)
    (host.etc / "sessiond").mkdir()
    for name, path in lines.items():
        file = host.etc / pathlib.Path(path).relative_to(PATHS)
        file.write_text(contents[name])
        file.chmod(0o600)
    host.hand_over(UNIT.read_text())
    try:
        host.redis = server.start()
        daemon = host.service(
            redis__mode="standalone", redis__tls="yes", redis__user="sessiond",
            redis__password_file="redis-password", redis__sentinel_password_file="sentinel-password",
            redis__tls_ca_file="redis-ca.pem", redis__tls_cert_file="redis-cert.pem",
            redis__tls_key_file="redis-key.pem", alerts__webhook_url=receiver.url,
            server__tls_listen=f"127.0.0.1:{free_port()}", server__tls_certificate_file="tls.crt",
            server__tls_key_file="tls.key",
            alerts__webhook_secret_file="webhook-secret", alerts__tls_ca_file="webhook-ca.pem",
            alerts__guesses_per_minute=1, server__trusted_proxies="127.0.0.0/8")
        sessions_work(host.start(daemon))
        guess(daemon, "198.51.100.1", 2)
        assert receiver.wait(1)[0].is_signed_with(24 * b"x")
        daemon.stop()
    finally:
        server.stop()
        receiver.down()


@pytest.mark.parametrize("mode", [0o640, 0o440])
def test_a_file_of_root_that_the_service_s_group_may_read_is_good(host, mode):
    daemon = host.service()
    os.chown(daemon.node.key_file, 0, host.user.pw_gid)
    daemon.node.key_file.chmod(mode)
    sessions_work(host.start(daemon))


REFUSALS = {
    "mode 0644": (0o644, "mode 0644"), "mode 0660": (0o660, "mode 0660"),
    "root's alone": (0o600, "LoadCredential="), "no such credential": (None, "No such file"),
}
OPTIONS = {
    "keys.file": {}, "redis.password_file": {}, "redis.sentinel_password_file": {},
    "redis.tls_key_file": {"redis__tls": "yes"}, "server.tls_key_file": {},
    "alerts.webhook_secret_file": {"alerts__webhook_url": "http://127.0.0.1:1/"},
}


@pytest.mark.parametrize("what", REFUSALS)
@pytest.mark.parametrize("option", OPTIONS)
def test_a_secret_file_that_breaks_the_rule_ends_the_start_and_is_named(host, certificates, option, what):  # noqa: F811
    mode, why = REFUSALS[what]
    options = {**OPTIONS[option]}
    if option == "server.tls_key_file":
        copy = host.directory / "tls.crt"
        shutil.copyfile(certificates.node[0], copy)
        options |= {"server__tls_listen": f"127.0.0.1:{free_port()}", "server__tls_certificate_file": copy}
    elif "tls" in option:
        for name, path in ("ca", certificates.authority.path), ("cert", certificates.node[0]):
            copy = host.directory / f"{name}.pem"
            shutil.copyfile(path, copy)
            options[f"redis__tls_{name}_file"] = copy
    secret = host.directory / "secret"
    secret.write_text("x" * 24)
    os.chown(secret, 0, host.user.pw_gid)
    secret.chmod(mode or 0o600)
    daemon = host.service(**options, **{option: secret if mode else "secret"})
    if option == "keys.file":
        daemon.node.write_config(keys__file=secret if mode else "secret")
    host.spawn(daemon)
    assert daemon.node.process.wait(10 * SLOW) == 1
    daemon.node.process = None
    log = daemon.node.log_text()
    line, = [line for line in log.splitlines() if "start_failed" in line and option in line]
    assert why in line and str(secret if mode else host.credentials / "secret") in line, line
    assert "xxxx" not in log


def test_set_of_secret_options_is_what_this_file_tests():
    assert secret_options() == set(OPTIONS)


def test_a_reload_reads_a_changed_file_and_refuses_one_that_others_may_read(host, tmp_path):
    """A path may change under the service; a credential is handed over at start only."""
    daemon = host.service()
    secret = host.directory / "secret"
    secret.write_text("x" * 24)
    os.chown(secret, 0, host.user.pw_gid)
    secret.chmod(0o640)
    receiver = Receiver().up()
    try:
        daemon.node.write_config(alerts__webhook_url=receiver.url, alerts__webhook_secret_file=secret,
                                 alerts__guesses_per_minute=1, server__trusted_proxies="127.0.0.0/8")
        host.start(daemon)
        secret.chmod(0o644)
        daemon.node.signal(signal.SIGHUP)
        wait_until(lambda: "mode 0644" in daemon.node.log_text(), 5, "the refusal")
        secret.chmod(0o640)
        secret.write_text("y" * 24)
        daemon.node.signal(signal.SIGHUP)
        wait_until(lambda: "config_reloaded" in daemon.node.log_text(), 5, "the reload")
        guess(daemon, "198.51.100.1", 2)
        assert receiver.wait(1)[0].is_signed_with(24 * b"y")
    finally:
        receiver.down()
