"""What clients and gateways meet: nodes of sessiond on a Redis of their own, an application, keys, certificates."""
import pathlib
import secrets

from application import Application
from daemon import KEYS, Daemon, new_key, unique, write_key_file
from faults import frozen
from redis_servers import SingleRedis, free_port, process_id
from tls_callers import Identities, pin_of

BUSY = "busy"  # a tenant that is always over its limit
AUDIENCE = "orders"  # of signed identities


class Testbed:
    def __init__(self, directory, count=2, redis=None, **options):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.redis = redis or SingleRedis(self.directory / "redis")
        self.application = Application(free_port())
        self.keys = {**KEYS, "gateway": (new_key(), "introspect validate", "*")}
        self.tls_port = free_port()
        self.identities = Identities(self.directory / "certificates")
        self.keys["shop"] = (new_key(), "validate", "*", f"certificate = {pin_of(self.identities.client[0])}")
        self.options = {
            **({} if redis else {"redis__mode": "standalone", "redis__wait_timeout": 0}), "server__trusted_proxies": "unix 127.0.0.0/8",
            "authz__cache": "1s", "oauth__issuer": "http://localhost", f"audience:{AUDIENCE}__ttl": "10s", **options}
        self.count, self.daemon = count, None
        self.busy = None  # a login of the busy tenant
        self.users = {}  # of the tokens handed out

    def start(self):
        self.redis.start()
        (self.directory / "sessiond").mkdir()
        write_key_file(self.directory / "sessiond" / "keys", [
            f"names {secrets.token_hex(32)}", f"key 1 {secrets.token_hex(32)}", f"sign 2 {secrets.token_hex(32)}"])
        self.daemon = Daemon(self.directory / "sessiond", self.redis, self.count, keys=self.keys, **self.options)
        certificate, key = self.identities.server
        for number, node in enumerate(self.daemon.nodes):
            node.write_config(
                server__unix_socket=node.directory / "http.sock",
                # The issuer is where clients find its metadata.
                oauth__issuer=f"http://localhost:{self.daemon.node.port}",
                server__tls_listen=f"127.0.0.1:{free_port() if number else self.tls_port}", server__tls_certificate_file=certificate,
                server__tls_key_file=key, server__tls_client_ca_file=self.identities.callers.path)
        self.daemon.start()
        for node in self.daemon.nodes:
            self.socket_of(node).chmod(0o666)  # gateways run as another user
        self.busy = self.login(tenant=BUSY)
        limits = {"rate": {"requests_per_second": 1, "burst": 1, "authz": 1}}
        answer = self.daemon.call("PUT", f"/v1/tenants/{BUSY}/policy", limits, self.keys["admin"][0])
        assert answer.status == 200, answer
        return self

    def stop(self):
        try:
            if self.daemon:
                self.daemon.stop()
        finally:
            self.close()

    def close(self):
        if self.daemon:
            self.daemon.kill()
        self.redis.stop()
        self.application.stop()

    @staticmethod
    def socket_of(node):
        return node.directory / "http.sock"

    @property
    def socket(self):
        return self.socket_of(self.daemon.node)

    @property
    def sockets(self):
        """Those that gateways ask: the first node's, or with three nodes all of them. The second of two is there for what
        happens elsewhere."""
        return [self.socket_of(node) for node in self.daemon.nodes[:1 if self.count < 3 else None]]

    def login(self, user=None, node=0, **fields):
        """A login at a node, by the key of all tenants."""
        fields = {"user_id": user or unique(), "roles": ["editor", "reader"], **fields}
        answer = self.daemon.call("POST", "/v1/login", fields, self.keys["admin"][0], node=node)
        assert answer.status == 201, answer
        self.users[answer.json["access_token"]] = answer.json["user_id"]
        return answer.json

    def kick(self, login, node=0):
        answer = self.daemon.kick(login["user_id"], login["session_id"], self.keys["admin"][0], node, f"?tenant={login['tenant']}")
        assert answer.status == 200, answer

    def without_redis(self):
        return frozen(process_id(self.redis.port))
