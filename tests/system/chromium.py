"""A real browser, driven by the W3C WebDriver protocol, and sites for it to visit."""

import html
import http.server
import re
import shutil
import signal
import subprocess
import tempfile
import threading

from client import Client
from redis_servers import SLOW

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

# Nothing but pages of the tests is loaded: no sandbox is needed (root has none), and the browser
# has nothing to say to anybody outside this machine.
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--no-proxy-server", "--disable-extensions", "--disable-sync",
             "--disable-background-networking", "--disable-component-update",
             "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, "
             "EXCLUDE 127.0.0.1"]

# Calls from the page under test; `report` gets what the page was let see of the answer.
FETCH = """
const [url, options, report] = arguments;
fetch(url, options).then(
    async (answer) => report({type: answer.type, status: answer.status, body: await answer.text(),
                              headers: Object.fromEntries(answer.headers)}),
    (error) => report({error: error.name}));
"""


class Chromium:
    """One window of one browser with a profile of its own."""

    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="sessiond-chromium-")
        self.driver = self.session = None

    def start(self):
        self.driver = subprocess.Popen([DRIVER, "--port=0"], start_new_session=True, text=True,
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL)
        for line in self.driver.stdout:
            found = re.search(r"started successfully on port (\d+)", line)
            if found:
                break
        else:
            raise AssertionError(f"chromedriver ended with {self.driver.wait()}")
        self.client = Client(port=int(found[1]), timeout=60 * SLOW, held=False)
        options = {"binary": BROWSER, "args": [*ARGUMENTS, f"--user-data-dir={self.profile}"]}
        made = self.call("POST", "/session",
                         {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})
        self.session = "/session/" + made["sessionId"]
        return self

    def stop(self):
        try:
            if self.session:
                self.call("DELETE", self.session)
        finally:
            if self.driver:
                self.driver.send_signal(signal.SIGTERM)
                self.driver.wait()
                self.driver.stdout.close()
            shutil.rmtree(self.profile, ignore_errors=True)

    def call(self, method, path, body=None):
        answer = self.client.call(method, path, body)
        assert answer.status == 200, answer
        return answer.json["value"]

    def visit(self, url):
        self.call("POST", self.session + "/url", {"url": url})

    def run(self, script, *arguments):
        """The value of a script's `return`, in the page."""
        return self.call("POST", self.session + "/execute/sync",
                         {"script": script, "args": list(arguments)})

    def fetch(self, url, method="GET", credentials="include", **options):
        """The result of fetch() for the page: status, body and headers that it may see, or an error."""
        return self.call("POST", self.session + "/execute/async",
                         {"script": FETCH, "args": [url, {"method": method, **options,
                                                          "credentials": credentials}]})

    def text(self):
        return self.run("return document.body.innerText")

    def cookies(self):
        """The cookies that would go with a visit of this page, those for no script too."""
        return self.call("GET", self.session + "/cookie")

    def forget(self):
        """Deletes the cookies of this page's host."""
        self.call("DELETE", self.session + "/cookie")


class Site:
    """A site on a port of its own: its pages are empty, forms that submit themselves, or `posts`.

    The name is one below localhost, which browsers trust as they trust https; two such names are
    two sites, two ports of one name are two origins of one site."""

    def __init__(self, host, posts=None):
        site = self
        self.posts = posts or {}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.reply(site.page(self.path), [])

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.reply(*site.posts[self.path]())

            def reply(self, body, set_cookies):
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                for value in set_cookies:
                    self.send_header("Set-Cookie", value)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *unused):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.origin = f"http://{host}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @staticmethod
    def page(path):
        """"/form/URL": a page that posts a form there as soon as it is read."""
        if not path.startswith("/form/"):
            return "<!doctype html><p>A page."
        action = html.escape(path.removeprefix("/form/"))
        return (f"<!doctype html><form method=post action='{action}'></form>"
                "<script>document.forms[0].submit()</script>")

    def close(self):
        self.server.shutdown()
        self.server.server_close()
