"""HTTP itself: problems, routing, headers, framing, sizes."""

import json
import re
import socket
import urllib.parse

import pytest

from checks import check_problem
from client import RawSocket, statuses
from daemon import SERVICE, unique
from raw_http import FRAMING, LOGIN, POST, head

ROUTES = {
    "/v1/login": {"POST"},
    "/v1/validate": {"GET", "POST"},
    "/v1/refresh": {"POST"},
    "/v1/devices": {"GET"},
    "/v1/devices/0123456789abcdef": {"DELETE"},
    "/v1/logout": {"POST"},
    "/v1/logout-all": {"POST"},
    "/v1/users/someone": {"GET"},
    "/v1/users/someone/devices": {"GET"},
    "/v1/users/someone/devices/0123456789abcdef": {"DELETE"},
    "/v1/users/someone/history": {"GET"},
    "/v1/users/someone/logout-all": {"POST"},
}
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def with_head(methods):
    """HEAD is taken where GET is."""
    return methods | ({"HEAD"} if "GET" in methods else set())


@pytest.mark.parametrize("path", ROUTES)
def test_a_method_that_a_path_does_not_take_is_405_with_allow(shared, path):
    for method in METHODS + ["TRACE", "OPTIONS", "BREW"]:
        if method in ROUTES[path]:
            continue
        answer = shared.call(method, path, None, SERVICE)
        check_problem(answer, 405, "method_not_allowed")
        allowed = {word.strip() for word in answer.header("Allow").split(",")}
        assert allowed == with_head(ROUTES[path]), (method, answer)


def test_head_is_get_without_the_body(shared):
    token = shared.login()["access_token"]
    for path, bearer in [("/v1/validate", token), ("/v1/validate", None), ("/v1/devices", token),
                         ("/v1/users/someone", SERVICE), ("/problems/not_found", None)]:
        got = shared.call("GET", path, None, bearer)
        head = shared.call("HEAD", path, None, bearer)
        assert head.status == got.status and head.body == b"", (path, head)
        assert head.header("Content-Type") == got.header("Content-Type"), (path, head)
        assert int(head.header("Content-Length")) > 0, (path, head)
    for path in ("/v1/login", "/v1/logout"):
        head = shared.call("HEAD", path, None, SERVICE)
        assert head.status == 405 and head.header("Allow") == "POST", (path, head)
    for path in ("/livez", "/readyz", "/metrics", "/version"):
        head = shared.node.ops.call("HEAD", path)
        assert head.status == 200 and head.body == b"", (path, head)


def test_head_is_on_record_as_what_it_was(shared):
    name = unique("head")
    assert shared.call("HEAD", "/v1/validate", headers={"X-Request-Id": name}).status == 401
    line = shared.node.audit_of(name)
    assert line["http.request.method"] == "HEAD" and line["event.action"] == "validate", line


@pytest.mark.parametrize("host", ["http://auth.example", "HTTPS://[2001:db8::1]:8443", "http://x"])
def test_a_target_in_absolute_form_means_its_path(shared, host):
    name, login = unique("absolute"), shared.login()
    answer = shared.call("GET", f"{host}/v1/validate?tenant=default", None, login["access_token"],
                         {"X-Request-Id": name})
    assert answer.status == 200, answer
    assert shared.node.audit_of(name)["url.path"] == "/v1/validate"
    answer = shared.call("POST", f"{host}/v1/login", {"user_id": unique()}, SERVICE)
    assert answer.status == 201, answer
    check_problem(shared.call("GET", host), 404, "not_found")
    check_problem(shared.call("PUT", f"{host}/v1/validate"), 405, "method_not_allowed")


@pytest.mark.parametrize("target", ["http://a%/v1/validate", "http://a/v1/%", "http://a%00/x",
                                    "http://a\x80/v1/validate"])
def test_a_target_in_absolute_form_is_held_to_the_same_bytes(shared, target):
    with RawSocket(shared.node.port) as raw:
        raw.send(head("GET", target).decode().encode("latin-1"))
        answer = raw.answer()
    check_problem(answer, 400, "bad_request")


def test_a_target_in_absolute_form_needs_a_host_all_the_same(shared):
    with RawSocket(shared.node.port) as raw:
        raw.send(head("GET", "http://auth.example/v1/validate", host=None))
        answer = raw.answer()
    check_problem(answer, 400, "bad_request")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/login/", "/v1/loginx", "/v1//login",
                                  "/V1/login", "/v1/.../login", "/v1/..a/login",
                                  "/v1/%6cogin", "/v1/login;a=b",
                                  "/v1/users/", "/v1/users//devices", "/v1/devices/",
                                  "/v1/users/a/b", "/metrics", "/livez", "/readyz", "/version"])
def test_only_exact_paths_are_served(shared, path):
    answer = shared.call("POST", path, {"user_id": unique()}, SERVICE)
    check_problem(answer, 404, "not_found")


@pytest.mark.parametrize("path", ["/v1/login%00", "/v1/login%00/x", "/v1/users/a%00", "/v1/%",
                                  "/v1/login%0d%0aX", "/v1/logi\u00ee".encode().decode("latin-1")])
def test_a_target_with_bytes_that_may_not_stand_there_is_400(shared, path):
    with RawSocket(shared.node.port) as raw:
        raw.send(head("POST", path, "Content-Length: 0").decode().encode("latin-1"))
        answer = raw.answer()
    check_problem(answer, 400, "bad_request")


@pytest.mark.parametrize("path", ["/v1/./login", "/v1/login/../validate", "/v1/users/x/../victim/freeze",
                                  "/..", "/v1/users/..", "/v1/users/./freeze", "http://a/v1/../x"])
def test_a_segment_that_means_another_path_is_400_and_nothing_is_done(shared, path):
    with RawSocket(shared.node.port) as raw:
        raw.send(head("POST", path, f"Authorization: Bearer {SERVICE}", "Content-Length: 0"))
        detail = check_problem(raw.answer(), 400, "bad_request")["detail"]
    assert "?user_id=" in detail, detail
    assert not shared.call("GET", "/v1/users/victim", None, SERVICE).json["frozen"]


def test_a_user_may_be_named_in_the_query(shared):
    for user in (unique("a") + "/../b", "..", "-", unique("m") + "&x=ü%"):
        login = shared.login(user)
        named = "?user_id=" + urllib.parse.quote(user, safe="")
        for minus in ("-", "%2D"):
            users = f"/v1/users/{minus}"
            assert shared.call("GET", users + named, None, SERVICE).json["user_id"] == user
            assert shared.call("GET", f"{users}/devices{named}", None, SERVICE).json["total"] == 1
            assert shared.call("GET", f"{users}/history{named}", None, SERVICE).status == 200
        assert shared.call("POST", f"/v1/users/-/freeze{named}", {}, SERVICE).json["ended"] == 1
        assert shared.call("POST", f"/v1/users/-/unfreeze{named}", {}, SERVICE).status == 200
        assert not shared.is_alive(login["access_token"])
        own = shared.login(user)["session_id"]
        answer = shared.call("DELETE", f"/v1/users/-/devices/{own}{named}&reason=lost", None, SERVICE)
        assert answer.json["ended"] == 1
        shared.login(user)
        assert shared.call("POST", f"/v1/users/-/logout-all{named}", {}, SERVICE).json["ended"] == 1


@pytest.mark.parametrize("path", ["/v1/users/someone?user_id=other", "/v1/users/-", "/v1/users/-?user_id=",
                                  "/v1/users/-?user_id=%00", "/v1/users/-?user_id=%ff",
                                  "/v1/users/-?user_id=" + "x" * 256, "/v1/users/a?user_id=a"])
def test_a_user_is_named_once_and_in_one_place(shared, path):
    answer = shared.call("GET", path, None, SERVICE)
    assert "user_id" in check_problem(answer, 400, answer.code)["detail"] or "%00" in path


def test_every_problem_has_a_page(shared):
    for code in ("token_invalid", "body_invalid", "store_unavailable", "not_found"):
        answer = shared.call("GET", f"/problems/{code}")
        assert answer.status == 200, answer
        assert code in answer.body.decode() or answer.body
    assert shared.call("GET", "/problems/no_such_problem").status == 404


def test_a_request_id_is_made_when_there_is_none(shared):
    ids = {shared.call("GET", "/v1/validate").header("X-Request-Id") for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch(r"[\x21-\x7e]{8,128}", value) for value in ids)


def test_a_request_id_is_echoed_on_success_and_on_failure(shared):
    name = unique("req")
    token = shared.login()["access_token"]
    answer = shared.validate(token, headers={"X-Request-Id": name})
    assert answer.header("X-Request-Id") == name
    answer = shared.call("GET", "/v1/validate", headers={"X-Request-Id": name})
    assert check_problem(answer, 401, "credentials_missing")["request_id"] == name


@pytest.mark.parametrize("value", ["x" * 2000, "a b", 'a"b', "ü".encode().decode("latin-1")],
                         ids=["long", "blank", "quote", "not ASCII"])
def test_an_odd_request_id_is_not_echoed_raw(shared, value):
    answer = shared.call("GET", "/v1/validate", headers={"X-Request-Id": value})
    assert answer.status in (400, 401), answer
    assert answer.header("X-Request-Id") != value
    check_problem(answer, answer.status, answer.code)


@pytest.mark.parametrize("kind", ["text/plain", "application/xml",
                                  "application/x-www-form-urlencoded", "application/jsonx"])
def test_another_media_type_is_415(shared, kind):
    answer = shared.call("POST", "/v1/login", b'{"user_id":"a"}', SERVICE, {"Content-Type": kind})
    check_problem(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/json; charset=latin1", "application/json;charset=x"])
def test_json_in_another_charset_is_415(shared, kind):
    answer = shared.call("POST", "/v1/login", b'{"user_id":"a"}', SERVICE, {"Content-Type": kind})
    detail = check_problem(answer, 415, "unsupported_media_type")["detail"]
    assert detail == f'Content-Type must be application/json in UTF-8, not "{kind}"'


def test_a_body_that_is_no_object_is_told_so(shared):
    for body in (b"null", b"[]", b"7", b'"a"'):
        answer = shared.call("POST", "/v1/login", body, SERVICE)
        detail = check_problem(answer, 400, "body_invalid")["detail"]
        assert detail == "The body must be a JSON object", (body, answer)


@pytest.mark.parametrize("coding, status", [("gzip", 415), ("identity", 201)])
def test_a_compressed_body_is_415_and_says_so(shared, coding, status):
    answer = shared.try_login(unique(), headers={"Content-Encoding": coding})
    assert answer.status == status, answer
    if status == 415:
        check_problem(answer, 415, "unsupported_media_type")
        assert answer.json["detail"] == 'Content-Encoding must be absent or identity, not "gzip"'


@pytest.mark.parametrize("shown", ["f" * 256, "f" * 257, "f" * 3000, "", "f\tf", "g\xe4r\xe4t"])
def test_a_fingerprint_is_the_same_in_the_header_and_in_a_body(start, shown):
    daemon = start(policy__bind_device="strict")
    login = daemon.login(device={"id": "d", "fingerprint": shown})
    answer = daemon.validate(login["access_token"], headers={"X-Device-Fingerprint": shown})
    assert answer.status == 200, answer
    assert daemon.check(login["access_token"], device_fingerprint=shown).json["active"] is True


ODD_TEXTS = {"latin-1": ("J\xfcrgen", "J\u00fcrgen"), "empty": ("", None), "blank": (" \t ", None),
             "too long": ("x" * 300, "x"), "utf-8": ("J\u00fcrgen".encode().decode("latin-1"), "J\u00fcrgen")}


@pytest.mark.parametrize("what", ODD_TEXTS)
def test_a_kick_with_an_odd_operator_is_done_and_recorded(shared, what):
    sent, kept = ODD_TEXTS[what]
    user, name = unique(), unique("odd")
    odd = {"X-Operator": sent, "X-Device-Fingerprint": sent, "X-Request-Id": name}
    login = shared.login(user)
    assert shared.kick(user, login["session_id"], headers=odd).json["ended"] == 1
    operator = shared.node.audit_of(name).get("sessiond.operator")
    assert (operator or None) == (kept * 128 if kept == "x" else kept), operator
    del odd["X-Request-Id"]
    for path in ("freeze", "unfreeze", "logout-all"):
        answer = shared.call("POST", f"/v1/users/{user}/{path}", {}, SERVICE, odd)
        assert answer.status == 200, answer
    token = shared.login()["access_token"]
    assert shared.validate(token, headers=odd).status == 200
    assert shared.call("POST", "/v1/logout", None, token, odd).json["ended"] == 1


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8",
                                  "Application/JSON", "application/json;charset=UTF-8",
                                  'application/json; charset="utf-8"', "application/json; charset=utf8"])
def test_json_is_taken_with_and_without_charset(shared, kind):
    body = json.dumps({"user_id": unique()}).encode()
    answer = shared.call("POST", "/v1/login", body, SERVICE, {"Content-Type": kind})
    assert answer.status == 201, answer


def test_a_body_over_the_limit_is_413(shared):
    body = json.dumps({"user_id": unique(), "attributes": {"a": "x" * 17000}}).encode()
    check_problem(shared.call("POST", "/v1/login", body, SERVICE), 413, "too_large")


def test_a_chunked_body_over_the_limit_is_413(shared):
    with RawSocket(shared.node.port) as raw:
        raw.send(head("POST", "/v1/login", "Transfer-Encoding: chunked",
                      f"Authorization: Bearer {SERVICE}", "Content-Type: application/json"))
        for _ in range(10):
            raw.send(b"1000\r\n" + b" " * 4096 + b"\r\n")
        raw.send(b"0\r\n\r\n" + SMUGGLED)
        data, closed = raw.closed_within(10)
    assert statuses(data) == [413], data
    assert closed


def test_a_chunked_body_is_read(shared):
    body = json.dumps({"user_id": unique()}).encode()
    with RawSocket(shared.node.port) as raw:
        raw.send(head("POST", "/v1/login", "Transfer-Encoding: chunked",
                      f"Authorization: Bearer {SERVICE}", "Content-Type: application/json"))
        for byte in body:
            raw.send(b"1\r\n%c\r\n" % byte)
        raw.send(b"0\r\n\r\n")
        assert raw.answer().status == 201


@pytest.mark.parametrize("end", ["0\r\n\r\n", "0;a=b;c\r\n\r\n", "000\r\n\r\n",
                                 "0\r\nX-Trailer: a\r\nAuthorization: b\r\n\r\n"])
def test_chunks_without_content_are_no_body(shared, end):
    session = shared.login()
    own = f"Authorization: Bearer {session['access_token']}"
    calls = [("GET", "/v1/validate", 200), ("HEAD", "/v1/validate", 200), ("GET", "/v1/devices", 200),
             ("DELETE", f"/v1/devices/{session['session_id']}", 200), ("GET", "/v1/validate", 401),
             ("OPTIONS", "*", 204), ("GET", "/nothing", 404)]
    calls = [(shared.node.port, *call) for call in calls]
    calls += [(shared.node.ops_port, method, path, 200) for method in ("GET", "HEAD")
              for path in ("/livez", "/readyz", "/metrics", "/version")]
    for port, method, path, status in calls:
        with RawSocket(port) as raw:
            raw.send(head(method, path, own, "Transfer-Encoding: chunked") + end.encode() + SMUGGLED)
            data, closed = raw.closed_within(10)
        assert statuses(data) == [status], (method, path, data[:500])
        assert closed and b"\r\nconnection: close\r\n" in data.lower(), (method, path, data[:500])


def test_a_chunk_with_content_where_none_belongs_is_400(shared):
    session = shared.login()
    own = f"Authorization: Bearer {session['access_token']}"
    for method, path in [("GET", "/v1/validate"), ("DELETE", f"/v1/devices/{session['session_id']}")]:
        with RawSocket(shared.node.port) as raw:
            raw.send(head(method, path, own, "Transfer-Encoding: chunked") + b"1\r\n \r\n0\r\n\r\n")
            answer = raw.answer()
        assert "takes no body" in check_problem(answer, 400, "body_invalid")["detail"]
    assert shared.is_alive(session["access_token"])


def test_fifty_megabytes_are_refused_early(shared):
    with RawSocket(shared.node.port) as raw:
        raw.send(head("POST", "/v1/login", "Content-Length: 52428800",
                      f"Authorization: Bearer {SERVICE}", "Content-Type: application/json"))
        sent = 0
        try:
            while sent < 52428800:
                raw.send(b"x" * 65536)
                sent += 65536
        except OSError:
            pass
        data, closed = raw.closed_within(10)
    assert closed
    assert sent < 52428800, "the whole body was taken"
    assert statuses(data) in ([413], []), data


def test_a_body_announced_too_large_gets_413_before_it_is_sent(shared):
    with RawSocket(shared.node.port) as raw:
        raw.send(head("POST", "/v1/login", "Content-Length: 52428800",
                      f"Authorization: Bearer {SERVICE}", "Content-Type: application/json"))
        assert raw.answer().status == 413


def test_expect_100_continue_is_answered(shared):
    body = json.dumps({"user_id": unique()}).encode()
    with RawSocket(shared.node.port) as raw:
        raw.send(head("POST", "/v1/login", f"Content-Length: {len(body)}", "Expect: 100-continue",
                      f"Authorization: Bearer {SERVICE}", "Content-Type: application/json"))
        assert raw.answer().status == 100
        raw.send(body)
        assert raw.answer().status == 201


def test_a_body_where_none_belongs_is_refused(shared):
    token = shared.login()["access_token"]
    answer = shared.call("GET", "/v1/validate", b'{"a":1}', token)
    assert answer.status in (400, 413), answer
    check_problem(answer, answer.status, answer.code)


def test_a_long_target_is_414(shared):
    with RawSocket(shared.node.port) as raw:
        raw.send(head("GET", "/v1/" + "x" * 40000))
        data, closed = raw.closed_within(10)
    assert statuses(data) == [414], data[:200]
    assert closed


def test_a_long_header_is_431(shared):
    with RawSocket(shared.node.port) as raw:
        raw.send(head("GET", "/v1/validate", "X-Long: " + "x" * 40000))
        data, closed = raw.closed_within(10)
    assert statuses(data) == [431], data[:200]
    assert closed


def test_three_thousand_headers_are_431(shared):
    with RawSocket(shared.node.port) as raw:
        try:
            raw.send(head("GET", "/v1/validate", *[f"X-{n}: y" for n in range(3000)]))
        except OSError:
            pass
        data, closed = raw.closed_within(10)
    assert statuses(data) in ([431], [400]), data[:200]
    assert closed


SMUGGLED = b"GET /v1/validate HTTP/1.1\r\nHost: localhost\r\n\r\n"



@pytest.mark.parametrize("what", FRAMING)
def test_bad_framing_gets_one_400_and_the_connection_is_closed(shared, what):
    with RawSocket(shared.node.port) as raw:
        raw.send(FRAMING[what] + SMUGGLED)
        data, closed = raw.closed_within(10)
    assert statuses(data) == [400], data
    assert closed, "the connection stays open"
    assert b"content-length" in data.lower() and data.lower().count(b"connection: close") == 1


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\n", b"\n\r\n"])
def test_a_head_that_does_not_end_in_cr_lf_is_refused_before_anything_follows(shared, end):
    """To who knows CR LF alone, what follows belongs to this head; it may come in another packet."""
    with RawSocket(shared.node.port) as raw:
        raw.send(head("GET", "/v1/validate", "X-A: b")[:-4] + end)
        data, closed = raw.closed_within(10)
    assert statuses(data) == [400], data
    assert closed, "the connection stays open"


# libmicrohttpd refuses these itself, most with a text of its own.
BROKEN = {
    "no Host": head("GET", "/v1/validate", host=None),
    "CL with a sign": head(*POST, "Content-Length: +3"),
    "negative CL": head(*POST, "Content-Length: -1"),
    "list of CL": head(*POST, "Content-Length: 3, 3"),
    "huge CL": head(*POST, "Content-Length: 99999999999999999999999"),
    "hexadecimal chunk prefix": head(*POST, "Transfer-Encoding: chunked") + b"0x3\r\nabc\r\n",
    "negative chunk": head(*POST, "Transfer-Encoding: chunked") + b"-1\r\n",
    "chunk that overflows": head(*POST, "Transfer-Encoding: chunked") + b"f" * 20 + b"\r\n",
    "HTTP/9.9": head("GET", "/v1/validate", version="HTTP/9.9"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50 + b"\r\n\r\n",
}


@pytest.mark.parametrize("what", [name for name in BROKEN if "CL" in name])
def test_a_content_length_that_cannot_be_read_gets_exactly_one_answer(shared, what):
    """Also with others of the kind whose heads are on their way."""
    with RawSocket(shared.node.port) as other, RawSocket(shared.node.port) as raw:
        other.send(head("GET", "/v1/nothing", "Content-Length: x")[:-2])
        for byte in BROKEN[what]:
            raw.send(bytes([byte]))
        data, closed = raw.closed_within(10)
        other.send(b"\r\n")
        assert other.answer().status == 400
    assert closed and data.count(b"HTTP/1.1") == 1, data
    first, _, body = data.partition(b"\r\n\r\n")
    assert b"application/problem+json" in first and b"Content-Length is " in body, data


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_http_is_refused_and_nothing_behind_it_is_served(shared, what):
    with RawSocket(shared.node.port) as raw:
        raw.send(BROKEN[what] + SMUGGLED)
        data, closed = raw.closed_within(12)
    codes = statuses(data)
    assert closed
    assert all(code >= 400 for code in codes), data
    assert 401 not in codes, "the smuggled request was served"


def test_none_of_the_smuggled_logins_made_a_session(shared):
    for bytes_sent in FRAMING.values():
        with RawSocket(shared.node.port) as raw:
            raw.send(bytes_sent)
            raw.closed_within(2)
    assert shared.devices("smuggler")["total"] == 0


def test_pipelined_requests_are_answered_in_order(shared):
    tokens = [shared.login()["access_token"] for _ in range(3)]
    with RawSocket(shared.node.port) as raw:
        raw.send(b"".join(head("GET", "/v1/validate", f"Authorization: Bearer {token}",
                               f"X-Request-Id: pipelined-{n}")
                          for n, token in enumerate(tokens * 3)))
        for n in range(9):
            answer = raw.answer()
            assert answer.status == 200
            assert answer.header("X-Request-Id") == f"pipelined-{n}"


def test_a_pipelined_logout_is_seen_by_the_request_behind_it(shared):
    token = shared.login()["access_token"]
    authorization = f"Authorization: Bearer {token}"
    with RawSocket(shared.node.port) as raw:
        raw.send(head("GET", "/v1/validate", authorization)
                 + head("POST", "/v1/logout", authorization, "Content-Length: 0")
                 + head("GET", "/v1/validate", authorization))
        assert [raw.answer().status for _ in range(3)] == [200, 200, 401]


def test_http_1_0_is_answered_and_closed(shared):
    token = shared.login()["access_token"]
    with RawSocket(shared.node.port) as raw:
        raw.send(head("GET", "/v1/validate", f"Authorization: Bearer {token}",
                      version="HTTP/1.0"))
        data, closed = raw.closed_within(10)
    assert closed and b" 200 OK\r\n" in data


def test_a_client_that_has_nothing_more_to_say_gets_its_answer(shared):
    body = json.dumps({"user_id": unique()}).encode()
    with RawSocket(shared.node.port) as raw:
        raw.send(head(*POST, f"Content-Length: {len(body)}") + body)
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.answer().status == 201


def test_a_client_that_goes_away_in_the_middle_harms_nobody(shared):
    for cut in (10, 60, 120):
        for _ in range(10):
            with RawSocket(shared.node.port) as raw:
                raw.send((head(*POST, f"Content-Length: {len(LOGIN)}") + LOGIN)[:cut])
    for _ in range(20):
        with RawSocket(shared.node.port) as raw:
            raw.send(head(*POST, f"Content-Length: 30") + json.dumps(
                {"user_id": "gone"}).encode().ljust(30))
    assert shared.is_alive(shared.login()["access_token"])


def test_every_problem_of_a_run_says_nothing_about_the_inside(shared):
    answers = [shared.call("POST", "/v1/login", b"{", SERVICE), shared.call("GET", "/nothing"),
               shared.call("GET", "/v1/validate"), shared.call("PUT", "/v1/login", b"", SERVICE)]
    for answer in answers:
        text = answer.body.decode()
        for word in ("jansson", "hiredis", ".c:", "src/", "redis"):
            assert word not in text
        assert "Server" not in dict(answer.headers) or "MHD" not in answer.header("Server")


@pytest.mark.parametrize("query", ["tenant=%ff", "tenant=Upper", "tenant=%zz", "tenant=a&tenant=b",
                                   "tennant=acme", "tenant", "x=1", "tenant=default&access_token=sa_x"])
def test_a_bad_query_is_refused(shared, query):
    answer = shared.call("GET", f"/v1/users/someone?{query}", None, SERVICE)
    assert answer.status in (400, 403), answer
    check_problem(answer, answer.status, answer.code)


FORMS = [
    ("/v1/login", {"user_id": "a", "ip": 5}, '"ip" must be an IPv4 or IPv6 address'),
    ("/v1/validate", {"token": "a", "ip": []}, '"ip" must be an IPv4 or IPv6 address'),
    ("/v1/refresh", {"refresh_token": "a", "ip": {}}, '"ip" must be an IPv4 or IPv6 address'),
    ("/v1/login", {"user_id": "a", "tenant": 7},
     '"tenant" must be a text that matches [a-z0-9][a-z0-9._-]{0,62}'),
    ("/v1/users/a/logout-all", {"keep_session": "zz"},
     '"keep_session" must be a session id, 16 hexadecimal digits'),
    ("/v1/users/a/logout-all", {"reason": 7}, '"reason" must be 1 to 32 characters of a-z and _'),
    ("/v1/users/a/freeze", {"reason": ""}, '"reason" must be 1 to 32 characters of a-z and _'),
]


@pytest.mark.parametrize("path, body, words", FORMS)
def test_a_member_with_a_form_of_its_own_is_told_that_form(shared, path, body, words):
    answer = shared.call("POST", path, body, SERVICE)
    assert check_problem(answer, 400, "body_invalid")["detail"] == words


QUERIES = [
    ("DELETE", "/v1/users/a/devices/0123456789abcdef", "why=x",
     'Query parameter "why" is not known here; known are: user_id, tenant, reason'),
    ("GET", "/v1/users/a", "tenant=a&tenant=a", 'Query parameter "tenant" came twice'),
    ("GET", "/v1/users/a", "tenant", 'Query parameter "tenant" has no value'),
    ("GET", "/problems/body_invalid", "x=1",
     'Query parameter "x" is not known here; this call takes none'),
]


@pytest.mark.parametrize("method, path, query, words", QUERIES)
def test_a_query_that_is_refused_is_told_what_is_wrong_with_it(shared, method, path, query, words):
    answer = shared.call(method, f"{path}?{query}", None, SERVICE)
    assert check_problem(answer, 400, "query_invalid")["detail"] == words


def test_a_call_without_members_says_so(shared):
    token = shared.login()["access_token"]
    answer = shared.call("POST", "/v1/logout", {"all": True}, token)
    detail = check_problem(answer, 400, "body_invalid")["detail"]
    assert detail == '"all" is not known here; this call takes no members'


def test_a_header_that_came_twice_is_named(shared):
    with RawSocket(shared.node.port) as raw:
        raw.send(b"GET /v1/validate HTTP/1.1\r\nHost: a\r\nX-Operator: a\r\nX-Operator: b\r\n\r\n")
        answer = raw.answer()
        assert answer.status == 400, answer
        assert answer.json["detail"] == "X-Operator came twice", answer


def test_a_body_that_is_too_large_is_told_the_limit(shared):
    problem = check_problem(shared.try_login("x" * 17000), 413, "too_large")
    assert problem["detail"] == "The body may have at most 16384 bytes", problem
