"""Callers over TLS, and a daemon that listens for them."""

import hashlib
import http.client
import socket
import ssl
import subprocess

from client import HANGS, Client, RawSocket
from daemon import KEYS, Daemon, new_key
from redis_servers import free_port
from secured_redis import Authority

SERVICE_SCOPES = "login validate manage"


def pin_of(certificate):
    """SHA-256 of the public key, as docs/security.md computes it."""
    command = (f"openssl x509 -in {certificate} -noout -pubkey | openssl pkey -pubin -outform DER"
               " | openssl dgst -sha256 -r | cut -d' ' -f1")
    return subprocess.run(command, shell=True, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def context_of(authority, identity=None, version=None, lowest=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority.path)
    if version:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    if identity:
        context.load_cert_chain(*identity)
    return context


class TlsCaller(Client):
    """A Client whose connections speak TLS."""

    def __init__(self, port, context, **options):
        super().__init__(port=port, **options)
        self.context = context

    def connection(self):
        if getattr(self.local, "connection", None) is None:
            self.local.connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=self.timeout,
                                                                context=self.context)
        return self.local.connection

    def peer(self):
        """SHA-256 of the certificate that the daemon showed on this connection."""
        return hashlib.sha256(self.local.connection.sock.getpeercert(True)).hexdigest()


class RawTls(RawSocket):
    """Bytes inside TLS, as they are."""

    def __init__(self, port, context, plain=None):
        self.socket = context.wrap_socket(plain or socket.create_connection(("127.0.0.1", port), timeout=HANGS),
                                          server_hostname="127.0.0.1")


class Identities:
    """The certificates of a test: those of the daemon, and of its callers."""

    def __init__(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.authority, self.stranger = Authority(directory, "authority"), Authority(directory, "stranger")
        self.callers = Authority(directory, "callers")
        self.server = self.authority.sign("server", "IP:127.0.0.1", uses="serverAuth")
        self.next = self.authority.sign("next", "IP:127.0.0.1", uses="serverAuth")
        self.client = self.callers.sign("client", "DNS:gateway", uses="clientAuth")

    def caller(self, name, authority=None, **options):
        return (authority or self.callers).sign(name, f"DNS:{name}", **options)


class TlsDaemon(Daemon):
    """Serves TLS with files that a test may replace."""

    def __init__(self, directory, redis, identities, asks=False, certified=(), **options):
        self.identities, self.tls_port = identities, free_port()
        directory.mkdir(parents=True, exist_ok=True)
        self.certificate, self.key = directory / "tls.crt", directory / "tls.key"
        self.client_ca = directory / "clients.crt"
        self.show(identities.server)
        self.ask(identities.callers)
        keys = dict(KEYS)
        for name, (identity, scopes, tenant) in dict(certified).items():
            keys[name] = (new_key(), scopes, tenant, f"certificate = {pin_of(identity[0])}")
        if asks:
            options["server__tls_client_ca_file"] = self.client_ca
        super().__init__(directory, redis, keys=keys, server__tls_listen=f"127.0.0.1:{self.tls_port}",
                         server__tls_certificate_file=self.certificate, server__tls_key_file=self.key, **options)

    def show(self, identity):
        """The certificate and key of the next start or reload."""
        certificate, key = identity
        self.certificate.write_bytes(certificate.read_bytes())
        self.key.write_bytes(key.read_bytes())
        self.key.chmod(0o600)

    def ask(self, authority):
        self.client_ca.write_bytes(authority.path.read_bytes())

    def context(self, identity=None, version=None):
        return context_of(self.identities.authority, identity, version)

    def caller(self, identity=None, version=None):
        return TlsCaller(self.tls_port, self.context(identity, version))

    def raw(self, identity=None, version=None):
        return RawTls(self.tls_port, self.context(identity, version))
