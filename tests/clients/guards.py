"""Libraries of others as resource servers: small programs of ours around them, which answer as the application behind a
gateway does."""
import base64
import json
import os
import pathlib
import shutil
import socket
import subprocess

import pytest

from client import Answer
from daemon import BINARY
from gateways import Gateway, Nginx, Verdict
from processes import Program, write
from redis_servers import ROOT, free_port
from testbed import AUDIENCE

HERE = ROOT / "tests" / "clients"
BUILT = pathlib.Path(BINARY).resolve().parent / "clients"


NODE = (20, 19)  # what the packages need


def node_program(name):
    """The program beside the installed packages, where node looks for them."""
    version = subprocess.run(["node", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    if tuple(map(int, version.removeprefix("v").split(".")[:2])) < NODE:
        pytest.skip(f"node {version} is too old for the packages, which need {NODE[0]}.{NODE[1]}")
    for file in (HERE / "node").glob("*.mjs"):
        shutil.copy(file, BUILT)
    return ["node", BUILT / f"{name}.mjs"]


def go_program():
    """The built program; Debian's Go and its packages, no modules."""
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "", "GOCACHE": str(BUILT / "go-cache")}
    subprocess.run(["go", "build", "-o", BUILT / "guard", HERE / "go" / "guard.go"], check=True, env=environment)
    return [BUILT / "guard"]


def settings(testbed, **more):
    """What the programs read from their environment."""
    node = testbed.daemon.node
    return {"SESSIOND_URL": f"http://127.0.0.1:{node.port}", "ISSUER": f"http://localhost:{node.port}",
            "SESSIOND_SOCKET": str(testbed.socket), "KEY_NAME": "gateway", "KEY": testbed.keys["gateway"][0],
            "APPLICATION": f"http://127.0.0.1:{testbed.application.port}", **{name: str(value) for name, value in more.items()}}


class Library(Gateway):
    """A program with the name of its library."""

    def prepare(self):
        self.program_words = node_program(self.file or self.name)

    def command(self):
        return self.program_words

    def environment(self):
        return settings(self.testbed, PORT=self.port)

    @staticmethod
    def spellings(user):
        return {user}


class ExpressPassport(Library):
    name = "express-passport"


class TokenIntrospection(Library):
    name = "token-introspection"


class OpenidClient(Library):
    name = "openid-client"


class Oauth4webapi(Library):
    name, file = "oauth4webapi+fastify", "oauth4webapi"


class Undici(Library):
    name, file = "undici+mTLS", "undici"

    def environment(self):
        certificate, key = self.testbed.identities.client
        return settings(self.testbed, PORT=self.port, TLS_URL=f"https://127.0.0.1:{self.testbed.tls_port}",
                        CA=self.testbed.identities.authority.path.read_text(), CERTIFICATE=certificate.read_text(),
                        CERTIFICATE_KEY=key.read_text())


class Jose(Nginx):
    """nginx, which exchanges the token for a signed identity, in front of a service that verifies it with jose."""

    name, file = "nginx+jose", "nginx.conf"
    asks = "jwt"
    spellings = staticmethod(Library.spellings)
    service = service_port = None

    def replaced(self):
        self.service_port = self.service_port or free_port()
        return {**super().replaced(), "127.0.0.1:3000": f"127.0.0.1:{self.service_port}",
                "/authz/auth-request;": f"/authz/auth-request/jwt={AUDIENCE};"}

    def start(self):
        super().start()
        try:
            environment = settings(self.testbed, PORT=self.service_port, AUDIENCE=AUDIENCE)
            self.service = Program(node_program("jose"), self.directory, environment).start(self.service_port)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self):
        if self.service:
            self.service.stop()
        super().stop()


class Go(Library):
    name = "go-http"

    def prepare(self):
        self.program_words = go_program()


class Authlib(Library):
    """Authlib's resource protector with RFC 7662, inside the test's own process."""

    name = "authlib"

    def start(self):
        from authlib_guard import Guard
        self.server = Guard(self.port, settings(self.testbed))
        return self

    def stop(self):
        self.server.stop()
        self.client.close()


class Dovecot(Library):
    """A mail server's authentication by OAUTHBEARER; it has no other words than OK, FAIL and a temporary failure."""

    name = "dovecot"
    away = busy = 503
    tells_more = False

    def prepare(self):
        self.socket = None
        node = self.testbed.daemon.node
        write(self.directory / "oauth2.conf", f"introspection_url = http://gateway:{self.testbed.keys['gateway'][0]}@127.0.0.1:{node.port}/oauth2/introspect\n"
              "introspection_mode = post\nforce_introspection = yes\nusername_attribute = username\n"
              "active_attribute = active\nactive_value = true\ntimeout_msecs = 2000\n")
        nobody = "default_internal_user = nobody\ndefault_login_user = nobody\ndefault_internal_group = nogroup\n"
        # Without the penalty, by which each failure from an address makes the next one slower.
        services = "service stats {\n chroot =\n}\nservice anvil {\n chroot =\n unix_listener anvil-auth-penalty {\n mode = 0\n }\n}\n"
        write(self.directory / "dovecot.conf", f"base_dir = {self.directory}/run\nstate_dir = {self.directory}/state\nlog_path = /dev/stderr\n"
              f"protocols =\nssl = no\nauth_mechanisms = oauthbearer\nauth_username_chars =\nauth_failure_delay = 0\n{nobody}{services}"
              f"passdb {{\n driver = oauth2\n mechanisms = oauthbearer\n args = {self.directory}/oauth2.conf\n}}\n"
              "userdb {\n driver = static\n args = uid=65534 gid=65534 home=/tmp\n}\n"
              f"service auth {{\n chroot =\n inet_listener {{\n address = 127.0.0.1\n port = {self.port}\n }}\n}}\n")

    def command(self):
        return ["/usr/sbin/dovecot", "-F", "-c", self.directory / "dovecot.conf"]

    def ask(self, token=None, **unused):
        """Speaks the protocol of Dovecot's authentication clients."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection, connection.makefile("rwb", buffering=0) as file:
            file.write(b"VERSION\t1\t2\nCPID\t%d\n" % os.getpid())
            while not file.readline().startswith(b"DONE"):
                pass
            text = base64.b64encode(f"n,a={self.testbed.users.get(token, 'nobody')},\x01auth=Bearer {token or ''}\x01\x01".encode())
            file.write(b"AUTH\t1\tOAUTHBEARER\tservice=imap\tsecured\tresp=" + text + b"\n")
            line = file.readline().decode().rstrip("\n").split("\t")
            if line[0] == "CONT":
                file.write(b"CONT\t1\t" + base64.b64encode(b"\x01") + b"\n")
                line = file.readline().decode().rstrip("\n").split("\t")
        if line[0] == "OK":
            user = next(word[5:] for word in line if word.startswith("user="))
            return Verdict(Answer(200, [], json.dumps({"headers": [["X-Session-User", user]]}).encode()))
        temporary = "code=temp_fail" in line
        return Verdict(Answer(503 if temporary else 401, [("Retry-After", "1"), ("WWW-Authenticate", "Bearer")], b""))


LIBRARIES = [ExpressPassport, TokenIntrospection, OpenidClient, Oauth4webapi, Undici, Jose, Go, Authlib, Dovecot]
