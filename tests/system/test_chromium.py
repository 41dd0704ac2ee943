"""Chromium itself: cookie login, pages of known and of foreign origins, forged calls."""

import json

import pytest

from chromium import BROWSER, DRIVER, Chromium, Site
from daemon import Daemon, unique
from redis_servers import wait_until

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="tests/support/deps.sh browser")

NAME = "__Host-session"
JSON = {"Content-Type": "application/json"}


class World:
    """A browser, a service, a shop that it knows, and pages that it does not."""

    def __init__(self, directory, redis):
        self.shop = Site("shop.localhost", {"/login": self.log_in,
                                            "/login-none": lambda: self.log_in("SameSite=None")})
        self.sibling = Site("shop.localhost")  # gets the shop's cookies, but is no page of it
        self.foreign = Site("evil.localhost")
        self.daemon = Daemon(directory, redis, browser__origins=self.shop.origin)
        self.service = f"http://shop.localhost:{self.daemon.node.port}"
        self.browser = Chromium()
        self.login = None

    def log_in(self, same_site="SameSite=Lax"):
        """The shop's own server: asks for the cookie, and hands it on."""
        self.login = self.daemon.login(unique(), cookie=True)
        cookies = [value.replace("SameSite=Lax", same_site) for value in self.login["set_cookie"]]
        return "", cookies

    def enter(self, login="/login"):
        """A browser that has logged in, on a page of the shop."""
        self.browser.visit(self.shop.origin)
        self.browser.forget()
        assert self.browser.fetch(self.shop.origin + login, "POST")["status"] == 200
        return self.browser

    def cookie(self):
        """The session cookie as the browser has it, None if it has none."""
        found = [cookie for cookie in self.browser.cookies() if cookie["name"] == NAME]
        return found[0] if found else None

    def lives(self):
        return self.daemon.is_alive(self.login["access_token"])

    def submit_form_from(self, site, path):
        """A page of the site posts a form to the service; the problem that the browser shows."""
        self.browser.visit(f"{site.origin}/form/{self.service}{path}")
        wait_until(lambda: self.browser.run("return location.href") == self.service + path, 5,
                   "the form's answer is shown")
        return json.loads(self.browser.text())

    def close(self):
        for site in (self.shop, self.sibling, self.foreign):
            site.close()


@pytest.fixture(scope="module")
def world(workspace, cluster):
    world = World(workspace / "chromium", cluster)
    try:
        world.daemon.start()
        world.browser.start()
        yield world
        world.browser.stop()
        world.browser = None
        world.daemon.stop()
    finally:
        if world.browser:
            world.browser.stop()
        world.daemon.kill()
        world.close()


def test_the_cookie_of_a_login_is_kept_and_no_script_sees_it(world):
    browser = world.enter()
    kept = world.cookie()
    assert kept["value"] == world.login["access_token"]
    assert kept["httpOnly"] and kept["secure"] and kept["sameSite"] == "Lax"
    assert kept["path"] == "/" and kept["domain"] == "shop.localhost" and "expiry" not in kept
    assert browser.run("return document.cookie") == ""


def test_a_page_of_a_known_origin_calls_with_the_cookie(world):
    browser = world.enter()
    answer = browser.fetch(world.service + "/v1/validate")
    assert answer["status"] == 200 and answer["type"] == "cors", answer
    assert json.loads(answer["body"])["session_id"] == world.login["session_id"]
    assert answer["headers"]["x-request-id"]
    answer = browser.fetch(world.service + "/v1/validate", credentials="omit")
    assert answer["status"] == 401, "the page reads errors, too"


def test_it_changes_something_after_a_preflight(world):
    browser = world.enter()
    answer = browser.fetch(world.service + "/v1/logout-all", "POST", headers=JSON,
                           body='{"keep_current":true}')
    assert answer["status"] == 200 and world.lives(), answer
    answer = browser.fetch(world.service + "/v1/devices/" + world.login["session_id"], "DELETE")
    assert answer["status"] == 200 and not world.lives(), answer


def test_it_may_use_a_bearer_token_as_well(world):
    browser = world.enter()
    other = world.daemon.login(unique())
    answer = browser.fetch(world.service + "/v1/validate",
                           headers={"Authorization": "Bearer " + other["access_token"]})
    assert json.loads(answer["body"])["session_id"] == other["session_id"], answer


def test_a_refresh_replaces_the_cookie(world):
    browser = world.enter()
    answer = browser.fetch(world.service + "/v1/refresh", "POST", headers=JSON, body=json.dumps(
        {"refresh_token": world.login["refresh_token"], "cookie": True}))
    assert answer["status"] == 200, answer
    assert world.cookie()["value"] == json.loads(answer["body"])["access_token"]
    assert browser.fetch(world.service + "/v1/validate")["status"] == 200


def test_a_logout_takes_the_cookie_away(world):
    browser = world.enter()
    assert browser.fetch(world.service + "/v1/logout", "POST")["status"] == 200
    assert world.cookie() is None and not world.lives()


@pytest.mark.parametrize("place", ["foreign", "sibling"])
def test_a_page_of_another_origin_reads_nothing_and_changes_nothing(world, place):
    """The sibling's calls carry the cookie, for it is of the same site; the foreigner's do not."""
    browser = world.enter()
    browser.visit(getattr(world, place).origin)
    assert browser.fetch(world.service + "/v1/validate") == {"error": "TypeError"}
    for method, path, options in (
            ("POST", "/v1/logout", {}),
            ("POST", "/v1/logout", {"mode": "no-cors"}),
            ("POST", "/v1/logout-all", {"headers": JSON, "body": "{}"}),
            ("DELETE", "/v1/devices/" + world.login["session_id"], {})):
        answer = browser.fetch(world.service + path, method, **options)
        assert answer.get("error") == "TypeError" or (
            answer["type"] == "opaque" and not answer["body"]), answer
    assert world.lives()


def test_a_form_of_another_site_comes_without_the_cookie(world):
    world.enter()
    for path in ("/v1/logout", "/v1/logout-all"):
        problem = world.submit_form_from(world.foreign, path)
        assert problem["status"] == 401 and problem["code"] == "credentials_missing", problem
    assert world.lives()


def test_a_form_that_comes_with_the_cookie_is_refused_for_its_origin(world):
    """From a page of the same site; and from any page in a browser that knows no SameSite."""
    for login, site in (("/login", world.sibling), ("/login-none", world.foreign)):
        world.enter(login)
        for path in ("/v1/logout", "/v1/logout-all"):
            problem = world.submit_form_from(site, path)
            assert problem["status"] == 403 and problem["code"] == "origin_forbidden", problem
        assert world.lives()
