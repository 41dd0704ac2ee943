"""TLS to Redis: it works, and whatever is wrong with it means 503 in time and a line that says why."""

import signal
import socket
import subprocess

import pytest

from bounds import at_most
from checks import check_dead, check_ended, check_problem
from daemon import unique
from machine import clock
from redis_servers import SLOW, free_cluster_ports, free_port, wait_until
from secured_redis import TlsRedis, certificates, openssl  # noqa: F401 (fixtures)


@pytest.fixture
def serve(tmp_path, certificates):
    """Starts redis-servers of the test's own."""
    servers = []

    def begin(certificate, authority=None, **options):
        server = TlsRedis(tmp_path / f"redis{len(servers)}", authority or certificates.authority,
                          certificate, **options)
        servers.append(server)
        return server.start()

    yield begin
    for server in servers:
        server.stop()


def options_of(certificates, **options):
    return {"redis__mode": "standalone", "redis__tls": "yes",
            "redis__tls_ca_file": certificates.authority.path, **options}


def check_flow(daemon):
    """Reads, writes, scripts and answers of many records."""
    user = unique()
    logins = [daemon.login(user, device={"id": f"d{n}"}, attributes={"x": "y" * 600}) for n in range(8)]
    new = daemon.refresh(logins[0]["refresh_token"]).json
    assert daemon.is_alive(new["access_token"])
    check_ended(daemon.kick(user, logins[1]["session_id"]), [logins[1]["session_id"]], durability=None)
    check_dead(daemon.validate(logins[1]["access_token"]), "kicked", "service")
    assert daemon.devices(user)["total"] == 7


@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_a_server_with_tls_is_used(start, serve, certificates, protocol):
    server = serve(certificates.server, options=["--tls-protocols", protocol])
    daemon = start(redis=server, **options_of(certificates))
    check_flow(daemon)


def test_a_client_certificate_is_shown_when_it_is_demanded(start, serve, certificates):
    server = serve(certificates.server, demand_client=True, client=certificates.node)
    certificate, key = certificates.node
    daemon = start(redis=server, **options_of(certificates, redis__tls_cert_file=certificate,
                                              redis__tls_key_file=key))
    check_flow(daemon)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_name_that_was_configured_counts(start, serve, certificates, host):
    """The certificate bears neither the name nor the address that is connected to."""
    server = serve(certificates.elsewhere)
    daemon = start(redis=server, redis__nodes=f"{host}:{server.port}",
                   **options_of(certificates, redis__tls_server_name="redis.example.net"))
    check_flow(daemon)


def test_a_host_name_is_checked_as_a_name(start, serve, certificates):
    server = serve(certificates.server)
    daemon = start(redis=server, redis__nodes=f"localhost:{server.port}", **options_of(certificates))
    check_flow(daemon)


def told(daemon):
    return [line for line in daemon.node.log_text().splitlines() if "store_connect_failed" in line]


def check_refused(daemon, why, code):
    """503 in time and one line that says why, however often it is tried."""
    for _ in range(3):
        began = clock()
        answer = daemon.try_login(unique())
        took = clock() - began
        check_problem(answer, 503, code)
        at_most(took, 0.8 * SLOW, "an answer without Redis")
    wait_until(lambda: told(daemon), 3, "a line that says why")
    tries = daemon.node.metric("sessiond_store_connects_total")
    wait_until(lambda: daemon.node.metric("sessiond_store_connects_total") > tries + 2, 10,
               "it is tried again and again")
    assert len(told(daemon)) == 1, told(daemon)
    assert why in told(daemon)[0], told(daemon)


REFUSALS = {
    "wrong authority": ("server", {"redis__tls_ca_file": "stranger"},
                        "certificate of the server: self-signed certificate in certificate chain"),
    "the system's authorities": ("server", {"redis__tls_ca_file": ""}, "certificate of the server: "),
    "wrong name": ("elsewhere", {}, "certificate of the server: IP address mismatch"),
    "wrong configured name": ("server", {"redis__tls_server_name": "redis.example.net"},
                              "certificate of the server: hostname mismatch"),
    "expired": ("expired", {}, "certificate of the server: certificate has expired"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_server_that_is_not_to_be_believed_gets_nothing(start, serve, certificates, what):
    certificate, options, why = REFUSALS[what]
    options = dict(options)
    if options.get("redis__tls_ca_file") == "stranger":
        options["redis__tls_ca_file"] = certificates.stranger.path
    server = serve(getattr(certificates, certificate))
    daemon = start(redis=server, ready="/livez", **options_of(certificates, **options))
    check_refused(daemon, why, "store_unavailable")
    with server.connect() as node:
        assert set(node.command_counts()) <= {"ping", "info"}


@pytest.mark.parametrize("shown", [None, "foreign"])
@pytest.mark.parametrize("protocol", ["TLSv1.2", "TLSv1.3"])
def test_a_client_certificate_that_is_missing_or_foreign_means_store_denied(start, serve, certificates,
                                                                            shown, protocol):
    server = serve(certificates.server, demand_client=True, client=certificates.node,
                   options=["--tls-protocols", protocol])
    options = {}
    if shown:
        certificate, key = certificates.foreign
        options = {"redis__tls_cert_file": certificate, "redis__tls_key_file": key}
    daemon = start(redis=server, ready="/livez", **options_of(certificates, **options))
    check_refused(daemon, "refuses the certificate of this node", "store_denied")


def test_a_plain_server_behind_tls_is_told(start, standalone, certificates):
    daemon = start(redis=standalone, ready="/livez", **options_of(certificates))
    check_refused(daemon, "speak", "store_unavailable")


def test_a_server_with_tls_behind_plain_tcp_is_told(start, serve, certificates):
    server = serve(certificates.server)
    daemon = start(redis=server, ready="/livez", redis__mode="standalone")
    check_refused(daemon, "it may speak TLS alone", "store_unavailable")


def test_a_new_authority_is_taken_over_by_reload(start, serve, certificates, tmp_path):
    server = serve(certificates.server)
    bundle = tmp_path / "bundle.crt"
    bundle.write_text(certificates.stranger.path.read_text())
    daemon = start(redis=server, ready="/livez", **options_of(certificates, redis__tls_ca_file=bundle))
    assert daemon.try_login(unique()).status == 503
    bundle.write_text(certificates.stranger.path.read_text() + certificates.authority.path.read_text())
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: daemon.try_login(unique()).status == 201, 5, "logins work")


def test_connections_that_are_up_outlive_a_reload_with_another_authority(start, serve, certificates,
                                                                         tmp_path):
    """New certificates are for new connections; those that are up were believed once."""
    server = serve(certificates.server)
    bundle = tmp_path / "bundle.crt"
    bundle.write_text(certificates.authority.path.read_text())
    daemon = start(redis=server, **options_of(certificates, redis__tls_ca_file=bundle))
    login = daemon.login()
    bundle.write_text(certificates.stranger.path.read_text())
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: "config_reloaded" in daemon.node.log_text(), 5, "the reload")
    assert daemon.is_alive(login["access_token"])
    server.stop()
    server.start()
    wait_until(lambda: told(daemon), 5, "new connections are refused")
    check_problem(daemon.try_login(unique()), 503, "store_unavailable")


def truncated(path, tmp_path):
    copy = tmp_path / "truncated.pem"
    copy.write_text(path.read_text()[:100])
    copy.chmod(0o600)
    return copy


def readable_key(certificates, tmp_path):
    copy = tmp_path / "readable.key"
    copy.write_text(certificates.node[1].read_text())
    copy.chmod(0o644)
    return copy


def encrypted_key(certificates, tmp_path):
    copy = tmp_path / "encrypted.key"
    openssl("ec", "-in", certificates.node[1], "-aes128", "-passout", "pass:secret", "-out", copy)
    copy.chmod(0o600)
    return copy


BAD_FILES = {
    "a missing authority": lambda c, p: {"redis__tls_ca_file": p / "none.crt"},
    "a torn authority": lambda c, p: {"redis__tls_ca_file": truncated(c.authority.path, p)},
    "a missing certificate": lambda c, p: {"redis__tls_cert_file": p / "none.crt"},
    "a torn certificate": lambda c, p: {"redis__tls_cert_file": truncated(c.node[0], p)},
    "a missing key": lambda c, p: {"redis__tls_key_file": p / "none.key"},
    "another's key": lambda c, p: {"redis__tls_key_file": c.foreign[1]},
    "a key that others may read": lambda c, p: {"redis__tls_key_file": readable_key(c, p)},
    "a key under a passphrase": lambda c, p: {"redis__tls_key_file": encrypted_key(c, p)},
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_file_that_cannot_be_used_refuses_reload_and_start(start, serve, certificates, tmp_path, what):
    server = serve(certificates.server)
    certificate, key = certificates.node
    daemon = start(redis=server, **options_of(certificates, redis__tls_cert_file=certificate,
                                              redis__tls_key_file=key))
    changes = BAD_FILES[what](certificates, tmp_path)
    (name, path), = changes.items()
    daemon.node.write_config(**changes)
    daemon.node.signal(signal.SIGHUP)

    def refused():
        return [line for line in daemon.node.log_text().splitlines() if "config_refused" in line]
    wait_until(refused, 5, "the refusal")
    assert name.replace("__", ".") in refused()[0] and str(path) in refused()[0], refused()
    check_flow(daemon)
    other = start(redis=server, begin_now=False, **options_of(certificates, **{
        "redis__tls_cert_file": certificate, "redis__tls_key_file": key, **changes}))
    other.node.spawn()
    assert other.node.process.wait(10 * SLOW) != 0
    other.node.process = None
    assert str(path) in other.node.log_text()
    assert "PRIVATE" not in other.node.log_text()


class TlsCluster:
    """Three masters whose clients and bus speak TLS."""

    def __init__(self, directory, certificates):
        first = free_cluster_ports()
        options = ["--cluster-enabled", "yes", "--tls-cluster", "yes", "--tls-replication", "yes"]
        self.certificates = certificates
        self.servers = [TlsRedis(directory / f"node{n}", certificates.authority, certificates.server,
                                 port=first + n, options=options) for n in range(3)]

    def start(self):
        for server in self.servers:
            server.start()
        result = subprocess.run(["redis-cli", "--tls", "--cacert", self.certificates.authority.path,
                                 "--cluster", "create", *self.nodes(), "--cluster-yes"],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        assert result.returncode == 0, result.stdout
        wait_until(lambda: all(self.is_ok(server) for server in self.servers), 20, "a whole cluster")
        return self

    @staticmethod
    def is_ok(server):
        with server.connect() as node:
            return b"cluster_state:ok" in node.call("CLUSTER", "INFO")

    def stop(self):
        for server in self.servers:
            server.stop()

    def nodes(self):
        return [f"127.0.0.1:{server.port}" for server in self.servers]


def test_a_cluster_with_tls_is_used_and_found_again(start, certificates, tmp_path):
    cluster = TlsCluster(tmp_path / "cluster", certificates)
    try:
        cluster.start()
        daemon = start(redis=cluster, redis__wait_timeout=0, redis__tls="yes",
                       redis__tls_ca_file=certificates.authority.path)
        check_flow(daemon)
        for _ in range(40):
            daemon.login()
        for server in cluster.servers:
            with server.connect() as node:
                assert sum(node.command_counts().get(name, 0) for name in ("eval", "evalsha")) > 0
        daemon.stop()
    finally:
        cluster.stop()


def test_a_server_that_hangs_in_the_handshake_costs_the_deadline_alone(start, certificates):
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        class Silent:
            def nodes(self):
                return [f"127.0.0.1:{listener.getsockname()[1]}"]

        daemon = start(redis=Silent(), ready="/livez", **options_of(certificates))
        check_refused(daemon, "does not answer the handshake of TLS", "store_unavailable")
        daemon.stop()
