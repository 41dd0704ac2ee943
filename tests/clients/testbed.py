"""What clients and gateways meet: nodes of sessiond on a Redis of their own, an application, keys, certificates."""
import hashlib
import pathlib
import secrets
import subprocess

from application import Application
from daemon import KEYS, Daemon, new_key, unique, write_key_file
from faults import frozen
from redis_servers import SingleRedis, free_port, process_id

BUSY = "busy"  # a tenant that is always over its limit
AUDIENCE = "orders"  # of signed identities


class Certificates:
    """A CA, a certificate of the server and one of a client, made by openssl."""

    def __init__(self, directory):
        directory.mkdir()
        self.directory, self.ca, self.server, self.server_key, self.client, self.client_key = directory, *(
            directory / name for name in ("ca.crt", "server.crt", "server.key", "client.crt", "client.key"))
        self.make(self.ca, directory / "ca.key", "/CN=test CA", "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign")
        self.make(self.server, self.server_key, "/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth")
        self.make(self.client, self.client_key, "/CN=shop", "extendedKeyUsage=clientAuth")
        for file in directory.glob("*.crt"):
            file.chmod(0o644)

    def make(self, certificate, key, subject, extensions):
        request = self.directory / "request"
        run("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject, "-keyout", key, "-out", request)
        (self.directory / "extensions").write_text(extensions)
        signer = ["-CA", self.ca, "-CAkey", self.directory / "ca.key", "-CAcreateserial"] if certificate != self.ca else ["-signkey", key]
        run("x509", "-req", "-in", request, "-days", "2", "-extfile", self.directory / "extensions", "-out", certificate, *signer)
        key.chmod(0o600)

    def pin(self, certificate):
        """SHA-256 of the public key, as `certificate =` of a key's section has it."""
        public = subprocess.run(["openssl", "x509", "-in", certificate, "-noout", "-pubkey"], check=True, stdout=subprocess.PIPE).stdout
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=public, check=True, stdout=subprocess.PIPE).stdout
        return hashlib.sha256(der).hexdigest()


def run(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Testbed:
    def __init__(self, directory, count=2, redis=None, **options):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.redis = redis or SingleRedis(self.directory / "redis")
        self.application = Application(free_port())
        self.keys = {**KEYS, "gateway": (new_key(), "introspect validate", "*")}
        self.tls_port = free_port()
        self.certificates = Certificates(self.directory / "certificates")
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
        for node in self.daemon.nodes:
            node.write_config(server__unix_socket=node.directory / "http.sock")
        # The issuer is where clients find its metadata.
        for node in self.daemon.nodes:
            node.write_config(oauth__issuer=f"http://localhost:{self.daemon.node.port}")
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
