"""Requests as bytes, also those that no HTTP client sends."""

from daemon import SERVICE


def head(method, target, *lines, host="Host: localhost", version="HTTP/1.1"):
    lines = [f"{method} {target} {version}"] + ([host] if host else []) + list(lines)
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


LOGIN = b'{"user_id": "smuggler"}'
POST = ("POST", "/v1/login", f"Authorization: Bearer {SERVICE}", "Content-Type: application/json")
FRAMING = {
    "TE with CL": head(*POST, "Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "CL with TE": head(*POST, "Transfer-Encoding: chunked", "Content-Length: 4") + b"0\r\n\r\n",
    "two different CL": head(*POST, f"Content-Length: {len(LOGIN)}", "Content-Length: 5") + LOGIN,
    "two equal CL": head(*POST, *[f"Content-Length: {len(LOGIN)}"] * 2) + LOGIN,
    "TE identity": head(*POST, "Transfer-Encoding: identity") + LOGIN,
    "TE gzip, chunked": head(*POST, "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "TE xchunked": head(*POST, "Transfer-Encoding: xchunked") + b"0\r\n\r\n",
    "two TE": head(*POST, *["Transfer-Encoding: chunked"] * 2) + b"0\r\n\r\n",
    "header name with a space": head(*POST, f"Content-Length : {len(LOGIN)}") + LOGIN,
    "two Host": head("GET", "/v1/validate", "Host: other"),
    "two Authorization": head("GET", "/v1/validate", "Authorization: Bearer sa_a",
                              "Authorization: Bearer sa_b"),
    "two Content-Type": head(*POST, "Content-Type: text/plain",
                             f"Content-Length: {len(LOGIN)}") + LOGIN,
    "two X-Session-Token": head("GET", "/v1/validate", "X-Session-Token: sa_a",
                                "X-Session-Token: sa_b"),
    "two X-Operator": head("GET", "/v1/users/a", f"Authorization: Bearer {SERVICE}",
                           "X-Operator: a", "X-Operator: b"),
    "bare CR in a value": head("GET", "/v1/validate", "X-A: a\rb"),
    "control byte in a value": head("GET", "/v1/validate", "X-A: a\x01b"),
    "ESC in a value": head("GET", "/v1/validate", "X-A: a\x1bb"),
    "DEL in a value": head("GET", "/v1/validate", "X-A: a\x7fb"),
    "name that is no token": head("GET", "/v1/validate", "X(A): b"),
    "folded TE": head(*POST, "Transfer-Encoding:\r\n chunked"),
    "folded CL": head(*POST, f"Content-Length:\r\n {len(LOGIN)}") + LOGIN,
    "name made by folding": head(*POST, "Transfer-En: chunked\r\n coding") + b"0\r\n\r\n",
    "folded value": head("GET", "/v1/validate", "X-A: a\r\n\tb"),
    "NUL in TE": head(*POST, "Transfer-Encoding: chunked\0x") + b"0\r\n\r\n",
    "NUL in CL": head(*POST, f"Content-Length: {len(LOGIN)}\0" "9") + LOGIN,
    "NUL in a value": head("GET", "/v1/validate", "X-A: a\0b"),
    "line without a name": head(*POST, ": x", "Content-Length: 0"),
    "lines that end in LF": head("GET", "/v1/validate", "X-A: b").replace(b"\r\n", b"\n"),
}
