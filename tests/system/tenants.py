"""A tenant of the test's own."""

from daemon import KEYS, unique

MERGE = {"Content-Type": "application/merge-patch+json"}


class Tenant:
    """A tenant of the test's own, driven with a platform key."""

    def __init__(self, daemon, name=None, key=KEYS["admin"][0]):
        self.daemon = daemon
        self.name = name or unique("tenant")
        self.key = key
        self.path = f"/v1/tenants/{self.name}/policy"

    def call(self, method, body=None, node=0, key=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if method == "PATCH":
            headers = {**MERGE, **headers}
        return self.daemon.call(method, self.path, body, key or self.key, headers, node)

    def get(self, node=0):
        answer = self.call("GET", node=node)
        assert answer.status == 200, answer
        return answer.json

    def put(self, node=0, **members):
        answer = self.call("PUT", members, node)
        assert answer.status == 200, answer
        return answer

    def patch(self, node=0, **members):
        answer = self.call("PATCH", members, node)
        assert answer.status == 200, answer
        return answer

    def login(self, user=None, node=0, **fields):
        answer = self.daemon.try_login(user or unique(), self.key, node, tenant=self.name, **fields)
        assert answer.status == 201, answer
        return answer.json

    def end_all(self, body=None, node=0, key=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.daemon.call("POST", f"/v1/tenants/{self.name}/logout-all", body,
                                key or self.key, headers, node)
