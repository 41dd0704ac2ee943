"""`make run`, `make stop`, the tour of the README, `make install`: what a newcomer meets first."""

import ast
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import pytest

import daemon as daemons
from client import Client
from daemon import write_key_file
from redis_servers import ROOT, SLOW, free_cluster_ports, is_free, claim, wait_until

SCRIPT = ROOT / "tests" / "support" / "run.sh"
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"


def free_ports(count):
    """The first of so many free ports in a row."""
    for first in range(11000, 13000 - count, 2):
        if all(is_free(port) for port in range(first, first + count)) and claim(first):
            return first
    raise AssertionError("no free ports")


class Local:
    """A build directory of the test's own and what runs in it."""

    def __init__(self, directory, nodes=1):
        self.directory, self.nodes = directory, nodes
        self.port, self.redis_port = free_ports(2 * nodes), free_cluster_ports()
        self.out = directory / "terminal"
        self.process = None

    @property
    def run(self):
        return self.directory / "run"

    def environment(self, **changes):
        own = {"BUILD": str(self.directory), "SESSIOND_BINARY": daemons.BINARY, "NODES": str(self.nodes),
               "PORT": str(self.port), "REDIS_PORT": str(self.redis_port)}
        return {**os.environ, **own, **changes}

    def call(self, *words, seconds=60, **changes):
        return subprocess.run(list(map(str, words)), cwd=ROOT, env=self.environment(**changes), text=True,
                              timeout=seconds * SLOW, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def up(self):
        with open(self.out, "wb") as out:
            self.process = subprocess.Popen([SCRIPT, "up"], cwd=ROOT, env=self.environment(), stdout=out,
                                            stderr=out, stdin=subprocess.DEVNULL)
        wait_until(lambda: "In another shell" in self.text() or self.process.poll() is not None, 90, "all is up")
        assert self.process.poll() is None, self.text()
        return self

    def text(self):
        return self.out.read_text(errors="replace")

    def down(self):
        return self.call(SCRIPT, "down").stdout

    def node_pid(self, number):
        return int((self.run / f"node-{number}.pid").read_text())


@pytest.fixture
def local(tmp_path):
    made = []

    def begin(nodes=1):
        made.append(Local(tmp_path / f"build{len(made)}", nodes))
        made[-1].directory.mkdir()
        return made[-1]

    yield begin
    for one in made:
        one.down()
        if one.process:
            one.process.wait(60 * SLOW)


# --- Ports ------------------------------------------------------------------------------------------

def busy_ports(one):
    """A port in use -> the option that moves it."""
    return {one.port: "PORT=", one.port + 3: "PORT=", one.redis_port + 5: "REDIS_PORT=",
            one.redis_port + 10000: "REDIS_PORT="}


@pytest.mark.parametrize("which", range(4))
def test_a_port_in_use_is_named_before_anything_is_built(local, which):
    one = local(nodes=2)
    port, option = list(busy_ports(one).items())[which]
    with socket.create_server(("127.0.0.1", port)):
        done = one.call("make", "run", f"BUILD={one.directory}", "NODES=2")
    assert done.returncode != 0
    assert re.search(rf"port {port}\b.* is in use; choose .*\b{option}", done.stdout), done.stdout
    assert not list(one.directory.rglob("*.o")) and not (one.directory / "sessiond").exists()


def test_a_port_is_refused_that_leaves_no_room(local):
    one = local()
    done = one.call(SCRIPT, "check", PORT="65535")
    assert done.returncode == 1 and "PORT=65535" in done.stdout, done.stdout
    done = one.call(SCRIPT, "check", REDIS_PORT="60000")
    assert done.returncode == 1 and "REDIS_PORT=60000" in done.stdout, done.stdout


# --- What runs --------------------------------------------------------------------------------------

def test_three_nodes_have_a_line_each_and_outlive_one_of_them(local):
    three = local(nodes=3).up()
    lines = three.text().splitlines()
    for number in (1, 2, 3):
        port = three.port + 2 * (number - 1)
        ready = [line for line in lines if f"node-{number}" in line]
        assert len(ready) == 1, ready
        assert re.fullmatch(rf"{STAMP} node-{number} is ready: http://127\.0\.0\.1:{port}, operations "
                            rf"http://127\.0\.0\.1:{port + 1}, log \S+/node-{number}\.log", ready[0]), ready
    assert not re.search(r"<\d>", three.text())
    log = (three.run / "node-2.log").read_text().splitlines()
    assert log and all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z (debug|info|warning|error) ", line) for line in log), log

    done = three.call(SCRIPT, "up")
    assert done.returncode == 1 and "it runs already; make stop ends it" in done.stdout

    os.kill(three.node_pid(2), signal.SIGKILL)
    wait_until(lambda: "node-2 has ended" in three.text(), 10, "the end is told")
    assert re.search(rf"^{STAMP} node-2 has ended \(killed by SIGKILL\), see \S+/node-2\.log; 2 of 3 go on$",
                     three.text(), re.M), three.text()
    os.kill(three.node_pid(3), signal.SIGTERM)
    wait_until(lambda: "1 of 3 go on" in three.text(), 30, "the end is told")
    assert "node-3 has ended (exit status 0)" in three.text()
    assert three.process.poll() is None
    assert Client(port=three.port + 1).call("GET", "/readyz").status == 200

    os.kill(three.node_pid(1), signal.SIGKILL)
    assert three.process.wait(30 * SLOW) == 1
    assert "no node is left" in three.text()
    told = three.down()
    assert "node-" not in told and f"Redis Cluster on 127.0.0.1:{three.redis_port}.." in told, told


def test_stop_says_what_it_stopped(local):
    two = local(nodes=2)
    assert two.down().startswith("nothing was running in ")
    two.up()
    told = two.down()
    last = two.redis_port + 5
    assert re.fullmatch(rf"{STAMP} node-1 has stopped\n{STAMP} node-2 has stopped\n{STAMP} Redis Cluster on "
                        rf"127\.0\.0\.1:{two.redis_port}\.\.{last} has stopped; its data stays in \S+\n", told), told
    assert two.process.wait(30 * SLOW) == 0
    assert two.down().startswith("nothing was running in ")


def commands(document, holding):
    """The one block of commands of a document that holds this text."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / document).read_text(), re.M | re.S)
    found, = [block for block in blocks if holding in block]
    return found


def leaked(tokens, since):
    """Files of this machine's usual places that were written meanwhile and hold a token."""
    found = []
    for root in pathlib.Path("/tmp"), ROOT:
        for where, directories, files in os.walk(root):
            directories[:] = [d for d in directories if d not in (".git", "build")]
            for path in (pathlib.Path(where) / name for name in files):
                try:
                    status = path.lstat()
                    if path.is_file() and status.st_mtime >= since and status.st_size < 1 << 20:
                        content = path.read_bytes()
                        found += [path for token in tokens if token.encode() in content][:1]
                except OSError:
                    continue
    return found


def test_the_tour_of_the_readme_shows_what_it_promises_and_leaves_no_token_behind(local):
    one = local().up()
    since = time.time() - 1
    done = one.call("sh", "-c", commands("README.md", "/v1/login").replace("build/run/env", str(one.run / "env")), seconds=120)
    lines = done.stdout.splitlines()
    assert '"access_token":"sa_' in lines[0], done.stdout
    assert '"source":"redis"' in lines[1] and '"active":true' in lines[2], lines[1:3]
    assert lines[4] == "the same pair", lines[3:5]
    assert '"current":true' in lines[5] and '"devices"' in lines[6], lines[5:7]
    assert '"stale":true' in done.stdout, done.stdout
    stale, = [line for line in lines if '"stale":true' in line]
    assert '"active":true' in stale
    assert '"status":"warn"' in lines[lines.index(stale) + 1]
    told = [line for line in lines if '"token_invalid"' in line]
    assert len(told) == 1 and '"reason":"password_changed"' in told[0] and '"bob@example.com"' in told[0], told
    audit = lines[lines.index(told[0]) + 1:]
    assert len(audit) == 3 and '"event.action":"logout-all"' in audit[1], audit
    assert '"event.action":"validate"' in audit[2] and '"event.reason":"password_changed"' in audit[2], audit
    tokens = set(re.findall(r"s[ar]_[\w-]{40,}", done.stdout))
    assert len(tokens) == 4
    assert leaked(tokens, since) == []


def test_the_signed_identity_of_the_documentation_verifies(local):
    """With the key file of an older version, which has no signing key."""
    one = local()
    (one.run / "secrets").mkdir(parents=True)
    write_key_file(one.run / "keys", [f"names {os.urandom(32).hex()}", f"key 2 {os.urandom(32).hex()}"])
    one.up()
    block = commands("docs/api.md", "X-Session-Jwt").replace("build/run/env", str(one.run / "env"))
    done = one.call("sh", "-c", block)
    claims = ast.literal_eval(done.stdout.strip())
    assert (claims["sub"], claims["roles"]) == ("default/alice", ["buyer"]), done.stdout
    assert claims["iss"] == f"http://127.0.0.1:{one.port}"
    assert (one.run / "keys").read_text().splitlines()[-1].startswith("sign 3 ")


# --- Installed --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Below a directory, as `make install PREFIX=/usr` leaves it; the daemon is not built again."""
    root = tmp_path_factory.mktemp("root")
    build = pathlib.Path(daemons.BINARY).parent
    done = subprocess.run(["make", "install", f"BUILD={build}", "-o", str(build / "sessiond"), f"DESTDIR={root}",
                           "PREFIX=/usr"], cwd=ROOT, text=True, timeout=120, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return root


def test_no_installed_text_names_another_prefix(installed):
    texts = [path for path in installed.rglob("*") if path.is_file() and b"\0" not in path.read_bytes()]
    assert len(texts) > 15
    for path in texts:
        assert "/usr/local" not in path.read_text(), path


def test_what_the_installed_unit_names_is_there(installed):
    unit = (installed / "usr/lib/systemd/system/sessiond.service").read_text()
    documents = re.findall(r"^Documentation=file://(\S+)$", unit, re.M)
    assert documents
    programs = re.findall(r"^Exec\w+=(/\S+sessiond)\b", unit, re.M)
    assert len(programs) == len(re.findall(r"^Exec\w+=", unit, re.M)) > 1
    for path in [*documents, *programs, "/etc/sessiond/sessiond.conf"]:
        assert (installed / path.lstrip("/")).is_file(), path
    assert os.access(installed / programs[0].lstrip("/"), os.X_OK)


def test_what_installed_texts_name_below_the_prefix_is_there(installed):
    for path in installed.rglob("*"):
        if path.is_file() and b"\0" not in path.read_bytes():
            for named in re.findall(r"/usr/share/[\w./-]+[\w]", path.read_text()):
                assert (installed / named.lstrip("/")).exists(), (path, named)


def test_links_between_installed_documents_lead_somewhere(installed):
    documents = list((installed / "usr/share/doc/sessiond").rglob("*.md"))
    assert len(documents) > 10
    for document in documents:
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[\w-]*)?\)", document.read_text()):
            assert (document.parent / link).exists(), (document.name, link)


def test_an_existing_configuration_is_kept(installed):
    build = pathlib.Path(daemons.BINARY).parent
    config = installed / "etc/sessiond/sessiond.conf"
    config.write_text("# mine\n")
    subprocess.run(["make", "-s", "install", f"BUILD={build}", "-o", str(build / "sessiond"),
                    f"DESTDIR={installed}", "PREFIX=/usr"], cwd=ROOT, check=True, timeout=120)
    assert config.read_text() == "# mine\n"
