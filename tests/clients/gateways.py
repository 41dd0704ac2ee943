"""The gateways of conf/gateways, started as shipped but for addresses and paths, with the echoing application behind."""
import re
import urllib.parse

from client import HANGS, Client
from processes import Program, directory_of, run, shipped, write
from redis_servers import SLOW, free_port

SOCKET, TCP, TLS = "/run/sessiond/http.sock", "127.0.0.1:8080", "127.0.0.1:8443"
APACHE_MODULES = "mpm_event authn_core authz_core authz_user headers macro proxy proxy_http rewrite setenvif"


class Verdict:
    """What came of a request: the status, and who the application was told it is if it was reached."""

    def __init__(self, answer):
        self.status, self.answer = answer.status, answer
        reached = answer.status == 200 and answer.body
        self.seen = answer.json.get("headers") if reached else None

    def values(self, name):
        """All values that the application would take for this header: frameworks do not tell - from _."""
        plain = name.lower().replace("_", "-")
        return [value for key, value in self.seen or [] if key.lower().replace("_", "-") == plain]

    def value(self, name):
        values = self.values(name)
        assert len(values) <= 1, f"{name} reached the application {len(values)} times: {values}"
        return values[0] if values else ""

    @property
    def user(self):
        return self.value("X-Session-User")

    @property
    def roles(self):
        return sorted(filter(None, self.value("X-Session-Roles").split(",")))

    @property
    def stale(self):
        return self.value("X-Session-Stale") not in ("", "no", "0")

    @property
    def retry_after(self):
        return self.answer.header("Retry-After")

    @property
    def challenge(self):
        return self.answer.header("WWW-Authenticate")

    def __repr__(self):
        return repr(self.answer)


class Gateway:
    """In front of `testbed.application`, asking `testbed.sockets`."""

    name = file = None
    settles = 0  # seconds by which a kick may be late
    away, busy = 503, 429  # what its client gets for an answer of 503 and of 429
    asks = "authz"
    tells_more = True  # than the user

    def __init__(self, testbed):
        self.testbed, self.port = testbed, free_port()
        self.client = Client(port=self.port, timeout=HANGS * SLOW, held=False)
        self.program = self.holder = self.directory = None

    def start(self):
        self.holder = directory_of(self.name)
        self.directory = self.holder.__enter__()
        try:
            self.prepare()
            self.program = Program(self.command(), self.directory, self.environment()).start(self.port)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self):
        self.client.close()
        if self.program:
            self.program.stop()
            self.program = None
        if self.holder:
            self.holder.__exit__(None, None, None)
            self.holder = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *unused):
        self.stop()

    def check(self):
        """Lets the gateway judge its configuration; (exit status, output)."""
        with directory_of(self.name) as self.directory:
            self.prepare()
            return run(self.checking(), self.directory, self.environment())

    def environment(self):
        return {}

    def replaced(self, *without):
        """What the top of the file says to replace."""
        values = {"127.0.0.1:3000": f"127.0.0.1:{self.testbed.application.port}", "127.0.0.1:8000": f"127.0.0.1:{self.port}"}
        return {old: new for old, new in values.items() if old not in without}

    @staticmethod
    def spellings(user):
        """What the application may be told of a user: /authz encodes bytes that may not stand in a header."""
        return {urllib.parse.quote(user, safe="@")}

    def ask(self, token=None, path="/orders/7", method="GET", headers=None, body=None):
        return Verdict(self.client.call(method, path, body, token, headers))


class Nginx(Gateway):
    name, file, module = "nginx", "nginx.conf", ""

    def replaced(self):
        servers = "\n".join(f"    server unix:{socket};" for socket in self.testbed.sockets)
        return {**super().replaced(), f"    server unix:{SOCKET};": servers}

    def prepare(self):
        write(self.directory / "site.conf", shipped(self.file, self.replaced()))
        places = "".join(f"{name}_temp_path {self.directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        write(self.directory / "nginx.conf", f"{self.module} daemon off; pid {self.directory}/pid; error_log stderr; "
              f"worker_processes 2; events {{}} http {{ access_log off; {places} include {self.directory}/site.conf; }}")

    def command(self):
        return ["nginx", "-e", "stderr", "-c", self.directory / "nginx.conf"]

    def checking(self):
        return [*self.command(), "-t"]


class CachingNginx(Nginx):
    name, file = "nginx-cache", "nginx-cache.conf"
    module = "load_module /usr/lib/nginx/modules/ngx_http_js_module.so;"
    settles = 2

    def replaced(self):
        write(self.directory / "sessiond.js", shipped("sessiond.js", {}))
        return {**super().replaced(), "/etc/nginx/sessiond.js": self.directory / "sessiond.js",
                "/var/cache/nginx/sessiond": self.directory / "cache"}


class Haproxy(Gateway):
    name = "haproxy"

    def prepare(self):
        write(self.directory / "sessiond.lua", shipped("sessiond.lua", {}))
        write(self.directory / "haproxy.cfg", shipped("haproxy.cfg", {
            **self.replaced(), SOCKET: self.testbed.socket, "/etc/haproxy/sessiond.lua": self.directory / "sessiond.lua"}))

    def command(self):
        return ["/usr/sbin/haproxy", "-db", "-f", self.directory / "haproxy.cfg"]

    def checking(self):
        return ["/usr/sbin/haproxy", "-c", "-f", self.directory / "haproxy.cfg"]


class Caddy(Gateway):
    name = "caddy"

    def prepare(self):
        # Its own port for administration would be the same for all.
        write(self.directory / "Caddyfile", "{\n\tadmin off\n}\n" + shipped("Caddyfile", {
            **self.replaced(), f"forward_auth unix/{SOCKET}": "forward_auth " + " ".join(f"unix/{socket}" for socket in self.testbed.sockets)}))

    def environment(self):
        return {"XDG_DATA_HOME": str(self.directory), "XDG_CONFIG_HOME": str(self.directory)}

    def command(self):
        return ["caddy", "run", "--adapter", "caddyfile", "--config", self.directory / "Caddyfile"]

    def checking(self):
        return ["caddy", "validate", "--adapter", "caddyfile", "--config", self.directory / "Caddyfile"]


class Apache(Gateway):
    """With the modules that the file's top enables."""

    asks = "introspect"
    # Measured: to both modules an answer of 503 or 429 is the same as one that says that the token is dead.
    away = busy = 401

    @staticmethod
    def spellings(user):
        return {user, user.encode().decode("latin-1")}

    def replaced(self):
        return {**super().replaced(), "sk_REPLACE_ME": self.testbed.keys["gateway"][0]}

    def prepare(self):
        write(self.directory / "site.conf", shipped(self.file, self.replaced()))
        modules = "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"
                          for name in f"{APACHE_MODULES} {self.module}".split())
        write(self.directory / "apache2.conf", f"ServerRoot {self.directory}\nPidFile {self.directory}/pid\n"
              f"DefaultRuntimeDir {self.directory}\nMutex file:{self.directory} default\nErrorLog {self.directory}/error.log\n"
              f"ServerName localhost\n{modules}Include {self.directory}/site.conf\n")

    def command(self):
        return ["/usr/sbin/apache2", "-DFOREGROUND", "-f", self.directory / "apache2.conf"]

    def checking(self):
        return ["/usr/sbin/apache2", "-t", "-f", self.directory / "apache2.conf"]


class ApacheOauth2(Apache):
    name, file, module = "apache-oauth2", "apache-oauth2.conf", "oauth2"
    settles = 2

    def replaced(self):
        return {**super().replaced(), TCP: f"127.0.0.1:{self.testbed.daemon.node.port}"}


class ApacheOpenidc(Apache):
    name, file, module = "apache-openidc", "apache-openidc.conf", "auth_openidc"

    def replaced(self):
        return {**super().replaced(), TLS: f"127.0.0.1:{self.testbed.tls_port}",
                "/etc/ssl/certs/ca-certificates.crt": self.testbed.identities.authority.path}


REAL = [Nginx, CachingNginx, Haproxy, Caddy, ApacheOauth2, ApacheOpenidc]
IDENTITY = re.compile(r"X-Session-[A-Z][A-Za-z-]*")
