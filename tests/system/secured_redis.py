"""Redis servers that speak TLS, or that know the user of conf/redis-acl.conf alone."""

import hashlib
import pathlib
import re
import socket
import ssl
import subprocess
import tempfile

import pytest

from client import Redis, RedisError
from redis_servers import ROOT, SingleRedis, wait_until


def openssl(*words):
    result = subprocess.run(["openssl", *map(str, words)], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, timeout=30)
    assert result.returncode == 0, result.stdout


class Authority:
    """A CA in a directory, and the certificates it signs."""

    def __init__(self, directory, name):
        self.directory = directory
        self.path, self.key = directory / f"{name}.crt", directory / f"{name}.key"
        openssl("req", "-x509", *self.new_key(self.key), "-subj", f"/CN={name}", "-days", 2, "-out", self.path)

    @staticmethod
    def new_key(path):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", path]

    def sign(self, name, alternatives, days=2, uses=None):
        """(certificate, key) with these subject alternative names, and extended key usages."""
        path, key = self.directory / f"{name}.crt", self.directory / f"{name}.key"
        request, names = self.directory / f"{name}.csr", self.directory / f"{name}.ext"
        names.write_text(f"subjectAltName={alternatives}\n" + (f"extendedKeyUsage={uses}\n" if uses else ""))
        openssl("req", "-new", *self.new_key(key), "-subj", f"/CN={name}", "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.path, "-CAkey", self.key, "-days", days,
                "-CAcreateserial", "-extfile", names, "-out", path)
        key.chmod(0o600)
        return path, key


class TlsClient(Redis):
    """The test's own connection."""

    def __init__(self, port, certificate, key, authority):
        self.port = port
        context = ssl.create_default_context(cafile=authority)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(certificate, key)
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket = context.wrap_socket(plain)
        self.file = self.socket.makefile("rb")


class TlsRedis(SingleRedis):
    """A redis-server that speaks TLS alone."""

    def __init__(self, directory, authority, certificate, demand_client=False, port=None,
                 client=None, options=()):
        super().__init__(directory)
        self.port = port or self.port
        self.authority = authority.path
        self.certificate = certificate
        self.client = client or certificate
        self.words = ["--tls-auth-clients", "yes" if demand_client else "no", *options]

    def start(self):
        certificate, key = self.certificate
        log = self.directory / "redis.log"
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--tls-port", str(self.port), "--bind", "127.0.0.1",
             "--tls-cert-file", certificate, "--tls-key-file", key,
             "--tls-ca-cert-file", self.authority, "--save", "", "--appendonly", "no",
             "--dir", str(self.directory), "--logfile", str(log), *self.words])
        wait_until(self.answers, 10, "redis-server answers")
        return self

    def connect(self):
        return TlsClient(self.port, *self.client, self.authority)

    def answers(self):
        try:
            with self.connect() as node:
                return node.call("PING") == "PONG"
        except (OSError, ConnectionError):
            return False


@pytest.fixture(scope="module")
def certificates(workspace):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="certificates-", dir=workspace))
    authority = Authority(directory, "authority")

    class Made:
        pass

    made = Made()
    made.directory, made.authority = directory, authority
    made.stranger = Authority(directory, "stranger")
    made.server = authority.sign("server", "IP:127.0.0.1,DNS:localhost")
    made.elsewhere = authority.sign("elsewhere", "DNS:redis.example.net")
    made.expired = authority.sign("expired", "IP:127.0.0.1,DNS:localhost", days=-1)
    made.node = authority.sign("node", "DNS:sessiond")
    made.foreign = made.stranger.sign("foreign", "DNS:sessiond")
    return made


ACL = ROOT / "conf" / "redis-acl.conf"
PASSWORD = "correct horse battery staple"
DIGEST = hashlib.sha256(PASSWORD.encode()).hexdigest()


def user_line(digest=DIGEST):
    """The words after `user sessiond`, with a password as the file says to give one."""
    line, = [line for line in ACL.read_text().splitlines() if line.startswith("user ")]
    words = line.split()
    assert words[:3] == ["user", "sessiond", "on"]
    return ["on", "#" + digest, *words[3:]]


class GuardedRedis(SingleRedis):
    """A server that includes the file; the default user is off, another one is the test's own."""

    def __init__(self, directory, digest=DIGEST):
        super().__init__(directory)
        self.digest = digest

    def start(self):
        text = re.sub(r"^user sessiond .*$", "user sessiond " + " ".join(user_line(self.digest)),
                      ACL.read_text(), flags=re.M)
        included = self.directory / "redis-acl.conf"
        included.write_text(text)
        config = self.directory / "redis.conf"
        config.write_text(f"include {included}\nuser default off\nuser test on >test +@all ~* &*\n"
                          f"port {self.port}\nbind 127.0.0.1\nsave \"\"\n"
                          f"dir {self.directory}\nlogfile redis.log\n")
        self.process = subprocess.Popen(["redis-server", str(config)])
        wait_until(self.answers, 10, "redis-server answers")
        return self

    def connect(self):
        node = Redis(self.port)
        node.call("AUTH", "test", "test")
        return node

    def answers(self):
        try:
            with self.connect() as node:
                return node.call("PING") == "PONG"
        except (OSError, ConnectionError, RedisError):
            return False
