"""A resource server with Authlib: ResourceProtector and the validator of RFC 7662, on the plain http.server."""
import http.server
import json
import threading

from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import HttpRequest, MissingAuthorizationError
from authlib.oauth2.rfc6749.resource_protector import ResourceProtector
from authlib.oauth2.rfc7662 import IntrospectTokenValidator


class Unavailable(Exception):
    def __init__(self, status, retry_after):
        super().__init__(f"sessiond answered {status}")
        self.status, self.retry_after = 429 if status == 429 else 503, retry_after or "1"


class Validator(IntrospectTokenValidator):
    def __init__(self, settings):
        super().__init__()
        self.url = settings["SESSIOND_URL"] + "/oauth2/introspect"
        self.session = OAuth2Session(settings["KEY_NAME"], settings["KEY"], token_endpoint_auth_method="client_secret_basic")

    def introspect_token(self, token_string):
        answer = self.session.introspect_token(self.url, token=token_string, token_type_hint="access_token")
        if answer.status_code != 200:
            raise Unavailable(answer.status_code, answer.headers.get("Retry-After"))
        return answer.json()


def headers_of(found):
    return {"headers": [["X-Session-User", found["sub"]], ["X-Session-Tenant", found["tenant"]],
                        ["X-Session-Roles", ",".join(found["roles"])], ["X-Session-Stale", str(found.get("stale_for", ""))]]}


class Guard(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port, settings):
        protector = ResourceProtector()
        protector.register_token_validator(Validator(settings))

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                try:
                    request = HttpRequest(self.command, self.path, None, self.headers)
                    self.answer(200, {}, headers_of(protector.validate_request([], request)))
                except (OAuth2Error, MissingAuthorizationError) as error:
                    status, body, headers = error()
                    self.answer(status, dict(headers), body)
                except Unavailable as error:
                    self.answer(error.status, {"Retry-After": error.retry_after}, {"status": error.status})

            do_POST = do_GET

            def answer(self, status, headers, body):
                text = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": len(text)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *unused):
                pass

        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()
