"""The TLS listener: what it speaks, what it closes, client certificates, and reloads while it serves."""

import signal
import socket
import ssl
import threading

import pytest

from bounds import at_most
from checks import check_problem
from client import RawSocket, statuses
from daemon import SERVICE, reload, unique
from machine import clock
from raw_http import head
from redis_servers import SLOW, wait_until
from tls_callers import Identities, TlsDaemon, context_of

VALIDATE = ("GET", "/v1/validate")


@pytest.fixture(scope="module")
def identities(workspace):
    return Identities(workspace / "tls-identities")


@pytest.fixture(scope="module")
def secure(workspace, cluster, identities):
    """With client certificates; half heads and handshakes do not live long."""
    daemon = TlsDaemon(workspace / "secure", cluster, identities, asks=True, server__header_timeout=2,
                       certified={"gateway": (identities.client, "login validate manage", "default")})
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


@pytest.fixture
def serve(tmp_path, cluster, identities):
    daemons = []

    def begin(**options):
        daemons.append(TlsDaemon(tmp_path / f"tls{len(daemons)}", cluster, identities, **options))
        return daemons[-1].start()

    try:
        yield begin
        for daemon in daemons:
            daemon.stop()
    finally:
        for daemon in daemons:
            daemon.kill()


# --- what it speaks ---

@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_calls_are_served_over_tls_as_without(secure, version):
    caller = secure.caller(version=version)
    login = caller.call("POST", "/v1/login", {"user_id": unique(), "attributes": {"a": "x" * 3500}}, SERVICE)
    assert login.status == 201
    before = secure.node.metric("sessiond_tls_handshakes_total")
    for _ in range(20):
        answer = caller.call(*VALIDATE, bearer=login.json["access_token"])
        assert answer.status == 200 and answer.json["attributes"] == {"a": "x" * 3500}
    assert secure.node.metric("sessiond_tls_handshakes_total") == before, "the connection was not kept"
    assert secure.validate(login.json["access_token"]).status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_are_refused(secure, version):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        secure.raw(version=version)


def test_only_http_1_1_is_offered(secure):
    context = secure.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(socket.create_connection(("127.0.0.1", secure.tls_port)),
                             server_hostname="127.0.0.1") as tls:
        assert tls.selected_alpn_protocol() == "http/1.1"


def test_a_session_is_never_resumed(secure):
    context = secure.context(version=ssl.TLSVersion.TLSv1_2)
    session = None
    for _ in range(2):
        with context.wrap_socket(socket.create_connection(("127.0.0.1", secure.tls_port)),
                                 server_hostname="127.0.0.1", session=session) as tls:
            assert not tls.session_reused
            session = tls.session
    assert not session.has_ticket


def test_bodies_and_answers_of_many_records_arrive_whole(secure):
    """A head that leaves no room for the answer's is answered without libmicrohttpd: inside TLS, too."""
    token = secure.login()["access_token"]
    with secure.raw() as raw:
        raw.send(head("POST", "/v1/login", f"Authorization: Bearer {SERVICE}", "Content-Type: application/json",
                      "Content-Length: 16000") + b'{"user_id": "' + b"a" * 15985 + b'"}')
        assert raw.answer().status == 400
    seen = set()
    for size in range(3000, 8600, 100):
        with secure.raw() as raw:
            raw.send(head(*VALIDATE, f"Authorization: Bearer {token}", "X-Padding: " + "p" * size))
            seen.add(raw.answer().status)
    assert seen == {200, 431}, seen


def test_pipelined_requests_are_answered_in_order(secure):
    token = secure.login()["access_token"]
    with secure.raw() as raw:
        raw.send(head(*VALIDATE, f"Authorization: Bearer {token}") * 5
                 + head("GET", "/v1/nothing") + head(*VALIDATE, f"Authorization: Bearer {token}"))
        assert [raw.answer().status for _ in range(7)] == [200] * 5 + [404, 200]


# --- what it closes ---

def hello(secure):
    """The first record of a client's handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = secure.context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_tls_on_the_plain_port_is_closed_at_once_counted_and_logged_once(secure):
    before = secure.node.metric("sessiond_tls_on_plain_total")
    for _ in range(3):
        with RawSocket(secure.node.port) as raw:
            raw.send(hello(secure))
            data, closed = raw.closed_within(1.5)
            assert closed and data == b"", data
    assert secure.node.metric("sessiond_tls_on_plain_total") == before + 3
    lines = [line for line in secure.node.log_text().splitlines() if "TLS, on server.listen" in line]
    assert len(lines) == 1 and "wrong_protocol address=127.0.0.1" in lines[0], lines


@pytest.mark.parametrize("begin", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"G", b"\x00\xff\x80random", b"\x80\x2e\x01"])
def test_anything_else_on_the_tls_port_is_closed_at_once_and_counted(secure, begin):
    before = secure.node.metric("sessiond_plain_on_tls_total")
    with RawSocket(secure.tls_port) as raw:
        raw.send(begin)
        data, closed = raw.closed_within(1.5)
        assert closed and data == b"", data
    assert secure.node.metric("sessiond_plain_on_tls_total") == before + 1


def cpu_seconds(node):
    fields = open(f"/proc/{node.process.pid}/stat").read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_half_a_handshake_is_cut_at_the_deadline_and_costs_nothing(secure):
    """A silent client, half a hello, and one that stops after the daemon's part."""
    whole = hello(secure)
    before, used, begun = secure.node.metric("sessiond_tls_handshakes_failed_total"), cpu_seconds(secure.node), clock()
    raws = [RawSocket(secure.tls_port) for _ in range(8)]
    for raw, part in zip(raws, [b"", whole[:1], whole[:4], whole[:60], whole[:-1], whole, whole, whole]):
        raw.send(part)
    for raw in raws:
        _, closed = raw.closed_within(8 * SLOW)
        assert closed
        raw.socket.close()
    at_most(clock() - begun, 3.5 * SLOW, "a handshake that does not go on")
    at_most(cpu_seconds(secure.node) - used, 0.5 * SLOW, "processor time of handshakes that wait")
    wait_until(lambda: secure.node.metric("sessiond_tls_handshakes_failed_total") >= before + 7, 5, "they are counted")


def test_a_hello_in_drops_is_cut_at_the_deadline(secure):
    whole, begun = hello(secure), clock()
    with RawSocket(secure.tls_port) as raw:
        for position in range(len(whole)):
            try:
                raw.send(whole[position:position + 1])
            except OSError:
                break
            if raw.read_for(0.1)[1]:
                break
        at_most(clock() - begun, 3.5 * SLOW, "a hello in drops")


def test_garbage_inside_a_record_ends_the_connection(secure):
    for garbage in (b"\x16\x03\x01\x40\x00" + b"\xff" * 100, b"\x16\x03\x01\x00\x05hello", b"\x16" + b"\x00" * 50):
        with RawSocket(secure.tls_port) as raw:
            raw.send(garbage)
            assert raw.closed_within(8 * SLOW)[1]
    with secure.raw() as raw:
        raw.send(head(*VALIDATE))
        assert raw.answer().status == 401
        # under the TLS layer of this connection
        socket.socket(fileno=socket.dup(raw.socket.fileno())).send(b"\x17\x03\x03\x00\x10" + b"\x00" * 16)
        with pytest.raises((ConnectionError, OSError)):
            raw.answer()
    assert secure.caller().call(*VALIDATE).status == 401


@pytest.mark.parametrize("begin", [b"", b"G", b"GET /v1/valid"])
def test_half_a_line_inside_tls_is_cut_long_before_an_idle_connection(secure, begin):
    request = head("POST", "/v1/login", "Content-Length: 3") + b"abc"
    with secure.raw() as raw, secure.raw() as idle:
        idle.send(request)
        assert idle.answer().status == 401
        raw.send(begin)
        _, closed = raw.closed_within(8 * SLOW)
        assert closed
        with secure.raw() as later:
            later.send(request)
            assert later.answer().status == 401
            for byte in b"GET /":
                assert not later.read_for(0.3)[1]
                later.send(bytes([byte]))
            _, closed = later.closed_within(12 * SLOW)
            assert closed
        idle.send(request)
        assert idle.answer().status == 401


def test_a_handshake_counts_against_the_limits_from_its_begin(serve):
    daemon = serve(server__max_connections_per_address=4)
    held = [RawSocket(daemon.tls_port) for _ in range(4)]
    node = daemon.node
    wait_until(lambda: node.metric("sessiond_connections_accepted_total") >= 4, 5, "all were accepted")
    refused = node.metric("sessiond_connections_refused_total")
    with RawSocket(daemon.tls_port) as raw:
        data, closed = raw.closed_within(5)
        assert closed and data == b"", "an answer in the clear"
    assert node.metric("sessiond_connections_refused_total") == refused + 1
    for raw in held:
        raw.socket.close()
    wait_until(lambda: node.metric("sessiond_connections") <= 1, 5, "they are counted out")
    assert daemon.caller().call(*VALIDATE).status == 401


# --- client certificates ---

def test_a_client_certificate_stands_for_its_service_key(secure, identities):
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        caller = secure.caller(identities.client, version)
        user = unique()
        login = caller.call("POST", "/v1/login", {"user_id": user})
        assert login.status == 201, login
        token = login.json["access_token"]
        answer = caller.call(*VALIDATE, headers={"X-Session-Token": token})
        assert answer.status == 200 and answer.json["user_id"] == user
        check_problem(caller.call(*VALIDATE), 401, "credentials_missing")
        check_problem(caller.call("GET", "/v1/tenants/acme/policy"), 403, "scope_missing")
        check_problem(caller.call("GET", f"/v1/users/{user}?tenant=acme"), 403, "tenant_forbidden")
        kicked = caller.call("DELETE", f"/v1/users/{user}/devices/{login.json['session_id']}")
        assert kicked.status == 200
        line = [line for line in secure.node.audit_lines() if user in str(line)][-1]
        assert "gateway" in str(line), line


def test_without_a_certificate_the_keys_of_callers_hold(secure):
    caller = secure.caller()
    assert caller.call("POST", "/v1/login", {"user_id": unique()}, SERVICE).status == 201
    check_problem(caller.call("POST", "/v1/login", {"user_id": unique()}), 401, "credentials_missing")


def test_two_credentials_are_refused(secure, identities):
    token = secure.login()["access_token"]
    caller = secure.caller(identities.client)
    for headers in ({"Authorization": f"Bearer {SERVICE}"}, {"Authorization": f"Bearer {token}"},
                    {"Authorization": "Basic YTpi"}, {"Cookie": f"__Host-session={token}"}):
        for method, path, body in (("POST", "/v1/login", {"user_id": unique()}), (*VALIDATE, None)):
            problem = check_problem(caller.call(method, path, body, headers=headers), 400, "header_invalid")
            assert "two credentials" in problem["detail"]


@pytest.mark.parametrize("name", ["Cookie", "Origin", "Forwarded", "X-Forwarded-For", "x-forwarded-proto",
                                  "X-Forwarded-Anything", "X-Original-URL", "X-ORIGINAL-METHOD"])
def test_a_certificate_does_not_count_in_what_a_proxy_passes_on(secure, identities, name):
    caller = secure.caller(identities.client)
    answer = caller.call("POST", "/v1/login", {"user_id": unique()}, headers={name: "a=b"})
    problem = check_problem(answer, 401, "credentials_missing")
    assert "client certificate does not count" in problem["detail"]


CALLERS = {
    "expired": ({"days": -1}, "expired"),
    "for servers only": ({"uses": "serverAuth"}, "not for clients"),
    "of no service key": ({"uses": "clientAuth"}, "of no service key"),
    "of another CA": ({"uses": "clientAuth"}, "not of server.tls_client_ca_file"),
}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("what", CALLERS)
def test_a_wrong_certificate_fails_the_handshake(serve, identities, what, version):
    options, why = CALLERS[what]
    authority = identities.stranger if what == "of another CA" else identities.callers
    wrong = identities.caller(f"wrong-{list(CALLERS).index(what)}-{version}", authority, **options)
    certified = {} if what == "of no service key" else {"wrong": (wrong, "login", "*")}
    daemon = serve(asks=True, certified=certified)
    before = daemon.node.metric("sessiond_tls_client_certificates_refused_total")
    with pytest.raises((ssl.SSLError, ConnectionError)) as raised:
        with daemon.raw(wrong, version) as raw:
            raw.socket.recv(1)  # in TLS 1.3 the client's part is done before the daemon's judgement
    assert "alert" in str(raised.value), raised.value
    assert daemon.node.metric("sessiond_tls_client_certificates_refused_total") == before + 1
    assert f'client_certificate_refused address=127.0.0.1 reason="{why}"' in daemon.node.log_text()
    assert daemon.caller(version=version).call(*VALIDATE).status == 401, "others are served"


def test_a_certificate_that_lost_its_key_is_refused_at_the_next_request(serve, identities):
    daemon = serve(asks=True, certified={"gateway": (identities.client, "login", "*")})
    caller = daemon.caller(identities.client)
    assert caller.call("POST", "/v1/login", {"user_id": unique()}).status == 201
    key, scopes, tenant, _ = daemon.node.keys["gateway"]
    daemon.node.keys["gateway"] = (key, scopes, tenant)
    daemon.node.write_config()
    reload(daemon.node)
    wait_until(lambda: caller.call("POST", "/v1/login", {"user_id": unique()}).status == 401, 5, "it is refused")
    check_problem(caller.call("POST", "/v1/login", {"user_id": unique()}), 401, "key_invalid")


# --- reloads ---

def test_a_new_certificate_is_shown_to_new_connections_and_kept_ones_go_on(serve, identities):
    daemon = serve()
    token = daemon.login()["access_token"]
    kept = daemon.caller()
    assert kept.call(*VALIDATE, bearer=token).status == 200
    old = kept.peer()
    daemon.show(identities.next)
    reload(daemon.node)
    fresh = daemon.caller()
    assert fresh.call(*VALIDATE, bearer=token).status == 200
    assert fresh.peer() != old
    assert kept.call(*VALIDATE, bearer=token).status == 200 and kept.peer() == old


def mismatch(daemon, identities):
    daemon.key.write_bytes(identities.next[1].read_bytes())
    return "server.tls_key_file"


def garbage(daemon, identities):
    daemon.certificate.write_text("no certificate\n")
    return "server.tls_certificate_file"


def no_file(daemon, identities):
    daemon.certificate.unlink()
    return "server.tls_certificate_file"


def open_key(daemon, identities):
    daemon.key.chmod(0o644)
    return "server.tls_key_file"


def expired(daemon, identities):
    daemon.show(identities.authority.sign("late", "IP:127.0.0.1", days=-1))
    return "server.tls_certificate_file"


def bad_authority(daemon, identities):
    daemon.client_ca.write_text("")
    return "server.tls_client_ca_file"


@pytest.mark.parametrize("spoil", [mismatch, garbage, no_file, open_key, expired, bad_authority])
def test_a_bad_file_refuses_the_reload_and_the_old_certificate_stays(serve, identities, spoil):
    daemon = serve(asks=True)
    caller = daemon.caller()
    assert caller.call(*VALIDATE).status == 401
    old = caller.peer()
    option = spoil(daemon, identities)
    reload(daemon.node, "sessiond_config_reload_errors_total")
    refusal = [line for line in daemon.node.log_text().splitlines() if "config_refused" in line][-1]
    assert option in refusal, refusal
    fresh = daemon.caller()
    assert fresh.call(*VALIDATE).status == 401 and fresh.peer() == old
    assert caller.call(*VALIDATE).status == 401


def test_connections_under_another_client_ca_end_and_others_begin(serve, identities):
    daemon = serve(asks=True, certified={"gateway": (identities.client, "login", "*")}, server__drain_timeout=3)
    idle, busy = daemon.caller(identities.client), daemon.raw(identities.client)
    assert idle.call("POST", "/v1/login", {"user_id": unique()}).status == 201
    request = head("POST", "/v1/login", "Content-Type: application/json", "Content-Length: 18")
    busy.send(request)
    body = b'{"user_id": "bob"}'
    busy.send(body[:5])
    wait_until(lambda: daemon.node.metric("sessiond_connections") >= 3, 5, "both are there")
    daemon.ask(identities.stranger)
    reload(daemon.node)
    connection = idle.local.connection
    wait_until(lambda: not connection.sock.recv(1), 10, "the idle connection ends")
    busy.send(body[5:])
    answer = busy.answer()
    assert answer.status == 201 and answer.header("Connection") == "close"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        daemon.caller(identities.client).call("POST", "/v1/login", {"user_id": unique()})


def test_a_connection_that_does_not_end_by_itself_is_cut_after_the_drain(serve, identities):
    daemon = serve(asks=True, server__drain_timeout=2, server__body_timeout=60)
    with daemon.raw() as raw:
        raw.send(head("POST", "/v1/login", f"Authorization: Bearer {SERVICE}", "Content-Length: 100") + b"{")
        wait_until(lambda: daemon.node.metric("sessiond_tls_handshakes_total") >= 1, 5, "it is there")
        daemon.ask(identities.stranger)
        reload(daemon.node)
        begun = clock()
        assert raw.closed_within(20 * SLOW)[1]
        at_most(clock() - begun, 4 * SLOW, "a connection under another CA")


def test_no_request_fails_while_certificates_change(serve, identities):
    """A hundred reloads under load, over kept connections and over new ones."""
    daemon = serve()
    token = daemon.login()["access_token"]
    done, failed, served = threading.Event(), [], [0] * 4

    def load(number):
        caller = daemon.caller()
        while not done.is_set():
            try:
                answer = caller.call(*VALIDATE, bearer=token)
                if answer.status != 200:
                    failed.append(answer)
            except OSError as error:
                failed.append(error)
            served[number] += 1
            if number % 2:
                caller.close()

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for count in range(100):
        daemon.show((identities.next, identities.server)[count % 2])
        before = served[1] + served[3]
        reload(daemon.node)
        wait_until(lambda: served[1] + served[3] > before or failed, 10, "new connections were made since")
    done.set()
    for thread in threads:
        thread.join()
    assert failed == [], failed[:3]
    assert daemon.node.metric("sessiond_config_reloads_total") == 100
    print(f"100 reloads, {sum(served)} requests, {len(failed)} failed")


# --- what operators see ---

def test_the_end_of_the_certificate_is_told_in_time(serve, identities):
    daemon = serve()
    left = wait_until(lambda: daemon.node.metric("sessiond_tls_certificate_expires_seconds"), 5, "it is measured")
    assert 0 < left <= 2 * 24 * 3600
    ready = daemon.node.ops.call("GET", "/readyz")
    assert ready.status == 200 and ready.json["checks"]["tls"] == "warn"
    assert "expires in" in ready.json["why"]["tls"]
    wait_until(lambda: "tls_certificate_expires option=server.tls_certificate_file" in daemon.node.log_text(), 5,
               "the log warns")


def test_a_drain_ends_tls_connections_too(serve):
    daemon = serve()
    raws = [daemon.raw() for _ in range(3)] + [RawSocket(daemon.tls_port)]
    raws[0].send(head(*VALIDATE))
    assert raws[0].answer().status == 401
    raws[3].send(b"\x16\x03\x01")
    daemon.node.signal(signal.SIGTERM)
    for raw in raws:
        assert raw.closed_within(20 * SLOW)[1]
    assert daemon.node.process.wait(20 * SLOW) == 0
    daemon.node.process = None
