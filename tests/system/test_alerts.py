"""Alerts: audit lines and signed posts, none lost, each under one id."""

import base64
import re
import secrets
import signal
import subprocess
import time

import pytest

from alert_receiver import ALERT_ID, Receiver, addresses, begin, guess, raw, secret  # noqa: F401 (fixtures)
from checks import check_problem
from daemon import ADMIN, SERVICE, unique
from parallel import at_once
from redis_servers import SLOW, wait_until



@pytest.fixture
def receiver():
    receiver = Receiver().up()
    yield receiver
    receiver.down()


def alert_lines(node, count, seconds=5):
    def found():
        return [line for line in node.audit_lines() if line["event.action"] == "alert"]
    wait_until(lambda: len(found()) >= count, seconds, f"{count} audit lines of alerts")
    lines = found()
    assert len(lines) == count, lines
    return lines


def queue(node):
    return node.ops.call("GET", "/readyz").json["alerts"]["queued"]


def wait_for_queue(node, count):
    wait_until(lambda: queue(node) == count, 10, f"{count} alerts on disk")


def test_an_alert_is_an_audit_line_and_a_signed_post(begin, receiver, secret):
    daemon = begin(receiver, policy__refresh_grace=0)
    user = unique()
    login = daemon.login(user)
    assert daemon.refresh(login["refresh_token"]).status == 200
    before = int(time.time())
    answer = daemon.call("POST", "/v1/refresh", {"refresh_token": login["refresh_token"],
                                                 "ip": "203.0.113.9"}, SERVICE)
    assert check_problem(answer, 401, "refresh_invalid")["reason"] == "reuse"

    post = receiver.wait(1)[0]
    assert ALERT_ID.fullmatch(post.id)
    assert post.is_signed_with(secret[1])
    assert not post.is_signed_with(secret[1] + b"x")
    assert before <= int(post.headers["webhook-timestamp"]) <= time.time()
    assert post.headers["Content-Type"] == "application/json"
    assert post.json["type"] == "sessiond.alert.refresh_reuse"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", post.json["timestamp"])
    detail = post.data.pop("detail")
    assert detail and post.data.pop("node")
    assert post.data == {"id": post.id, "kind": "refresh_reuse", "tenant": "default", "count": 1,
                         "user_id": user, "session_id": login["session_id"],
                         "address": "203.0.113.9"}

    line = alert_lines(daemon.node, 1)[0]
    expected = {"event.kind": "alert", "event.category": ["intrusion_detection"],
                "event.type": ["info"], "log.level": "warn", "rule.name": "refresh_reuse",
                "event.id": post.id, "event.reason": detail, "sessiond.count": 1,
                "organization.id": "default", "user.id": user, "source.ip": "203.0.113.9",
                "sessiond.session_id": login["session_id"]}
    assert {name: line.get(name) for name in expected} == expected
    assert "http.request.id" not in line and "event.outcome" not in line


def test_without_a_webhook_an_alert_is_an_audit_line_only(begin):
    daemon = begin(alerts__guesses_per_minute=1)
    guess(daemon, "198.51.100.1", 2)
    alert_lines(daemon.node, 1)
    assert queue(daemon.node) == 0


def test_key_guessing_is_told_once_and_counted(begin, receiver):
    daemon = begin(receiver, alerts__guesses_per_minute=5)
    guess(daemon, "198.51.100.1", 5)
    guess(daemon, "198.51.100.2", 5)
    for _ in range(3):
        daemon.call("GET", "/v1/validate", None, "sa_" + "x" * 60, {"X-Forwarded-For": "198.51.100.1"})
    post = receiver.wait(1)[0]
    assert (post.data["kind"], post.data["address"], post.data["count"]) == \
        ("key_guessing", "198.51.100.1", 6)
    guess(daemon, "198.51.100.2", 1)
    assert receiver.wait(2)[1].data["address"] == "198.51.100.2"
    # Events within the minute are counted; a stop does not wait for the minute's end.
    daemon.node.stop()
    more = receiver.wait(3)[2].data
    assert (more["address"], more["count"]) == ("198.51.100.1", 2)
    assert len(receiver.posts) == 3


def test_a_word_of_a_caller_raises_no_alert(begin, receiver):
    """Dead tokens tell it; it is what an alarm's own refusals are called."""
    daemon = begin(receiver, alerts__guesses_per_minute=1)
    login = daemon.login()
    daemon.kick(login["user_id"], login["session_id"], query="?reason=key_invalid")
    for _ in range(5):
        answer = daemon.validate(login["access_token"], headers={"X-Forwarded-For": "198.51.100.1"})
        assert answer.status == 401 and answer.json["reason"] == "key_invalid", answer
        answer = daemon.refresh(login["refresh_token"])
        assert answer.status == 401 and answer.json["reason"] == "key_invalid", answer
    guess(daemon, "198.51.100.2", 2)
    assert receiver.wait(1)[0].data["address"] == "198.51.100.2"


def test_many_forced_logouts_by_one_operator(begin, receiver):
    daemon = begin(receiver, alerts__forced_logouts_per_minute=3)

    def end(user, operator, times=1):
        for _ in range(times):
            daemon.login(user)
            answer = daemon.call("POST", f"/v1/users/{user}/logout-all", None, SERVICE,
                                 {"X-Operator": operator})
            assert answer.status == 200 and answer.json["ended"] == 1, answer

    for _ in range(2):
        end(unique(), "eve")
    end(unique(), "eve", times=3)
    for _ in range(3):
        end(unique(), "bob")
    for _ in range(4):  # users themselves, and those who have nothing to end
        token = daemon.login()["access_token"]
        assert daemon.call("POST", "/v1/logout-all", None, token).status == 200
        token = daemon.login()["access_token"]
        assert daemon.call("POST", "/v1/logout-all", None, SERVICE, {
            "X-Session-Token": token, "X-Operator": "eve"}).json["ended"] == 1
        assert daemon.call("POST", f"/v1/users/{unique()}/logout-all", None, SERVICE,
                           {"X-Operator": "eve"}).status == 200
    last = unique()
    login = daemon.login(last)
    assert not receiver.posts
    assert daemon.kick(last, login["session_id"], headers={"X-Operator": "eve"}).status == 200
    data = receiver.wait(1)[0].data
    assert (data["kind"], data["actor"], data["count"], data["tenant"]) == \
        ("forced_logouts", "eve", 4, "default")
    assert "user_id" not in data
    alert_lines(daemon.node, 1)
    assert len(receiver.posts) == 1


def test_a_login_from_a_new_place(begin, receiver):
    daemon = begin(receiver)
    user = unique()
    for ip in ("203.0.113.9", "203.0.113.10", "198.51.100.9", "203.0.113.11"):
        daemon.login(user, ip=ip)
    data = receiver.wait(1)[0].data
    assert (data["kind"], data["user_id"], data["address"]) == ("new_location", user, "198.51.100.9")
    alert_lines(daemon.node, 1)


def test_the_end_of_a_whole_tenants_sessions_is_told_at_once(begin, receiver):
    daemon = begin(receiver)
    tenant = unique("tenant")
    for _ in range(2):
        daemon.login(key=ADMIN, tenant=tenant)
    answer = daemon.call("POST", f"/v1/tenants/{tenant}/logout-all", None, ADMIN,
                         {"X-Operator": "eve"})
    assert answer.status in (200, 202), answer
    data = receiver.wait(1)[0].data
    assert (data["kind"], data["actor"], data["tenant"]) == ("forced_logouts", "eve", tenant)


class Nowhere:
    """An address where nothing listens."""

    def nodes(self):
        return ["127.0.0.1:9"]


def test_logout_all_in_an_outage_is_a_forced_logout_too(begin, receiver):
    daemon = begin(receiver, redis=Nowhere(), ready="/livez", redis__mode="standalone",
                   alerts__forced_logouts_per_minute=2)
    for _ in range(3):
        answer = daemon.call("POST", f"/v1/users/{unique()}/logout-all", None, SERVICE,
                             {"X-Operator": "eve"})
        assert (answer.status, answer.json["ended"]) == (202, 0), answer
    data = receiver.wait(1)[0].data
    assert (data["kind"], data["actor"], data["count"]) == ("forced_logouts", "eve", 3)


def test_another_operator_for_each_user_does_not_hide_a_key(begin, receiver):
    daemon = begin(receiver, alerts__forced_logouts_per_minute=1)
    for number in range(4):
        user = unique()
        daemon.login(user)
        assert daemon.call("POST", f"/v1/users/{user}/logout-all", None, SERVICE,
                           {"X-Operator": f"mask-{number}"}).status == 200
    data = receiver.wait(1)[0].data
    assert (data["kind"], data["count"]) == ("forced_logouts", 4)
    assert not data["actor"].startswith("mask-")


def test_a_tenant_over_its_rate_and_what_it_is_refused(begin, receiver):
    daemon = begin(receiver, policy__requests_per_second=1)
    statuses = []
    # At once: one after the other they may be no faster than the rate.
    while statuses.count(429) < 2:
        statuses += at_once(5, lambda _: daemon.call("GET", f"/v1/users/{unique()}", None, SERVICE).status)
    assert 200 in statuses and len(statuses) <= 100
    data = receiver.wait(1)[0].data
    assert (data["kind"], data["tenant"], data["count"]) == ("tenant_rate", "default", 1)
    daemon.node.stop()
    assert receiver.wait(2)[1].data["count"] == statuses.count(429) - 1


def test_wrong_keys_count_though_they_get_429(begin, receiver):
    daemon = begin(receiver, alerts__guesses_per_minute=8, limits__wrong_keys_per_minute=2)
    guess(daemon, "2001:db8:1:2::1", 5)
    guess(daemon, "2001:db8:1:2:3::", 4)
    data = receiver.wait(1)[0].data
    assert (data["kind"], data["address"], data["count"]) == ("key_guessing", "2001:db8:1:2::/64", 9)


def test_a_service_that_passes_forged_tokens_on_does_not_guess(begin, receiver):
    daemon = begin(receiver, alerts__guesses_per_minute=2)
    forged = "sa_" + "x" * 60
    for _ in range(4):
        daemon.check(forged)
    for _ in range(3):
        daemon.check(forged, ip="203.0.113.9")
    assert receiver.wait(1)[0].data["address"] == "203.0.113.9"
    alert_lines(daemon.node, 1)


def test_none_is_lost_while_the_receiver_is_down(begin, receiver, secret):
    """The receiver is away, sessiond is killed, starts, stops, starts: then all come, once, in order."""
    receiver.down()
    daemon = begin(receiver, alerts__guesses_per_minute=1)
    node = daemon.node
    told = []
    for network, end in enumerate((node.kill, node.stop, None)):
        told += addresses(10, network)
        for address in addresses(10, network):
            guess(daemon, address, 2)
        wait_for_queue(node, len(told))
        alert_lines(node, len(told))
        if end:
            end()
            node.start()
            wait_for_queue(node, len(told))
    wait_until(lambda: node.metric("sessiond_alerts_failed_total") >= 3, 20, "it was tried again and again")
    assert node.ops.call("GET", "/readyz").json["checks"]["alerts"] == "warn"
    receiver.up()
    posts = receiver.wait(len(told), 45)
    wait_for_queue(node, 0)
    assert [post.data["address"] for post in posts] == told
    assert len({post.id for post in posts}) == len(receiver.posts) == len(told)
    assert all(post.is_signed_with(secret[1]) for post in receiver.posts)
    assert [line["event.id"] for line in alert_lines(node, len(told))] == [post.id for post in posts]
    assert node.ops.call("GET", "/readyz").json["checks"]["alerts"] == "pass"
    assert node.metric("sessiond_alerts_delivered_total") == len(told)


def test_what_is_not_2xx_is_sent_again_under_the_same_id(begin, receiver, secret):
    receiver.answers = [500, 302, 200]
    daemon = begin(receiver, alerts__guesses_per_minute=1)
    guess(daemon, "198.51.100.1", 2)
    posts = receiver.wait(3)
    wait_for_queue(daemon.node, 0)
    assert len({post.id for post in posts}) == 1 and len({post.body for post in posts}) == 1
    assert all(post.is_signed_with(secret[1]) for post in posts)
    assert daemon.node.metric("sessiond_alerts_failed_total") == 2
    assert len(receiver.posts) == 3 and not receiver.redirected


def test_what_the_receiver_refuses_for_good_holds_up_no_other_and_is_not_lost(begin, receiver):
    refused, others = addresses(2), addresses(4, 1)
    receiver.refused.update(refused)
    daemon = begin(receiver, alerts__guesses_per_minute=1, alerts__refused_after="1s")
    node = daemon.node

    def metric(name):
        return node.metric(f"sessiond_alerts_{name}")
    for address in [others[0], refused[0], *others[1:3]]:
        guess(daemon, address, 2)
    wait_until(lambda: len(receiver.taken) == 3, 30, "those behind it are taken")
    assert [post.data["address"] for post in receiver.taken] == others[:3]
    tried = [post.data["address"] for post in receiver.posts]
    assert tried[:6] == [others[0]] + 5 * [refused[0]], "not at once"
    assert metric("refused_total") == metric("set_aside") == 1
    guess(daemon, refused[1], 2)
    guess(daemon, others[3], 2)
    wait_until(lambda: len(receiver.taken) == 4, 30, "the next one goes on too")
    tries = len(receiver.posts)
    wait_until(lambda: len(receiver.posts) >= tries + 2, 6, "what was refused is tried again")
    assert metric("set_aside") == 2
    assert node.log_text().count("alert_set_aside") == 2, "told once each"
    for end in (node.stop, node.kill):
        end()
        node.start()
        # Killed between putting one after the others and taking it out of its place, it has it twice.
        wait_until(lambda: 2 <= metric("set_aside") <= 3, 3, "nothing is lost over a restart")
    receiver.refused.clear()
    wait_until(lambda: metric("set_aside") == 0, 10, "all are taken")
    taken = {post.id: post.data["address"] for post in receiver.taken}
    assert sorted(taken.values()) == sorted(refused + others)
    assert taken.keys() == {post.id for post in receiver.posts}
    assert queue(node) == 0


def test_what_may_pass_is_no_refusal(begin, receiver):
    receiver.answers = [408, 425, 429, 500, 302]
    daemon = begin(receiver, alerts__guesses_per_minute=1, alerts__refused_after="1s")
    told = addresses(2)
    for address in told:
        guess(daemon, address, 2)
    wait_until(lambda: len(receiver.taken) == 2, 30, "both are taken")
    assert [post.data["address"] for post in receiver.taken] == told, "in order"
    assert daemon.node.metric("sessiond_alerts_refused_total") == 0


def test_a_receiver_that_does_not_answer_holds_up_nothing_but_itself(begin, receiver):
    receiver.may_answer.clear()
    daemon = begin(receiver, alerts__guesses_per_minute=1)
    guess(daemon, "198.51.100.1", 2)
    receiver.wait(1)
    for address in addresses(5):
        guess(daemon, address, 2)
    wait_for_queue(daemon.node, 6)  # on disk already
    daemon.node.kill()
    receiver.may_answer.set()
    daemon.node.start()
    wait_for_queue(daemon.node, 0)
    assert {post.data["address"] for post in receiver.posts} == {"198.51.100.1", *addresses(5)}


def test_a_full_queue_counts_and_tells_what_it_dropped(begin, receiver):
    receiver.down()
    daemon = begin(receiver, alerts__guesses_per_minute=1, alerts__max_bytes="64K",
                   alerts__one_by_one_per_minute=0)
    node = daemon.node
    count = 0
    while node.metric("sessiond_alerts_dropped_total") < 3:
        assert count < 1000
        guess(daemon, f"198.51.{count // 250}.{count % 250 + 1}", 2)
        count += 1
    wait_until(lambda: queue(node) + node.metric("sessiond_alerts_dropped_total") == count, 5, "all")
    queued, dropped = queue(node), int(node.metric("sessiond_alerts_dropped_total"))
    assert (node.directory / "alerts").stat().st_size <= 65536
    receiver.up()
    receiver.wait(count - dropped, 45)
    wait_for_queue(node, 0)
    assert queued == len(receiver.posts) == count - dropped
    guess(daemon, "198.51.99.1", 2)
    last = receiver.wait(count - dropped + 1)[-1].data
    assert (last["address"], last["lost_before"]) == ("198.51.99.1", dropped)
    assert not any("lost_before" in post.data for post in receiver.posts[:-1])


def test_a_tenant_that_makes_users_leaves_the_others_their_places(begin, receiver):
    receiver.down()
    daemon = begin(receiver, alerts__max_bytes="64K", alerts__one_by_one_per_minute=3,
                   policy__refresh_grace=0)
    node, crowd = daemon.node, unique("tenant")
    for number in range(250):  # more than 64 KiB, one by one
        user = f"made-{number}"
        for ip in ("203.0.113.9", "198.51.100.9"):
            daemon.login(user, key=ADMIN, tenant=crowd, ip=ip)
    login = daemon.login()
    for status in (200, 401):
        assert daemon.refresh(login["refresh_token"]).status == status
    wait_for_queue(node, 5)
    assert node.metric("sessiond_alerts_crowded_total") == 247
    receiver.up()
    told = [post.data for post in receiver.wait(5, 45)]
    assert [data.get("user_id") for data in told[:3]] == ["made-0", "made-1", "made-2"]
    assert (told[3]["kind"], told[3]["tenant"], told[3]["count"]) == ("new_location", crowd, 1)
    assert "user_id" not in told[3] and "than are told one by one" in told[3]["detail"]
    assert (told[4]["kind"], told[4]["tenant"]) == ("refresh_reuse", "default")
    node.stop()
    rest = receiver.wait(6)[5].data
    assert (rest["tenant"], rest["count"]) == (crowd, 246)


@pytest.fixture
def over_tls(tmp_path):
    """A receiver with a certificate of its own making, which is in the file `authority`."""
    pem, authority = tmp_path / "receiver.pem", tmp_path / "authority.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", pem, "-out", authority],
                   check=True, capture_output=True)
    pem.write_text(pem.read_text() + authority.read_text())
    receiver = Receiver(certificate=pem).up()
    receiver.authority = authority
    yield receiver
    receiver.down()


def test_a_certificate_that_nobody_vouches_for_is_refused_until_its_authority_is_named(begin, over_tls):
    daemon = begin(over_tls, alerts__guesses_per_minute=1)
    node = daemon.node
    guess(daemon, "198.51.100.1", 2)
    wait_until(lambda: node.metric("sessiond_alerts_failed_total") >= 1, 10, "a failure")
    assert not over_tls.posts and queue(node) == 1
    assert re.search(r'alerts_not_delivered reason=".*certificate', node.log_text()), node.log_text()
    node.write_config(alerts__tls_ca_file=over_tls.authority)
    node.signal(signal.SIGHUP)
    assert over_tls.wait(1)[0].data["address"] == "198.51.100.1"
    over_tls.authority.write_text("rubbish")  # read once, at the reload
    guess(daemon, "198.51.100.2", 2)
    assert over_tls.wait(2)[1].data["address"] == "198.51.100.2"


def test_with_an_authority_of_its_own_those_of_the_system_do_not_count(begin, over_tls, tmp_path):
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "2", "-subj", "/CN=other", "-keyout", "/dev/null", "-out", other],
                   check=True, capture_output=True)
    daemon = begin(over_tls, alerts__guesses_per_minute=1, alerts__tls_ca_file=other)
    guess(daemon, "198.51.100.1", 2)
    wait_until(lambda: daemon.node.metric("sessiond_alerts_failed_total") >= 1, 10, "a failure")
    assert not over_tls.posts


@pytest.mark.parametrize("content, words", [(None, "No such file"), ("", "has no certificate"),
                                            ("x" * (1 << 20) + "y", "larger than 1 MiB")],
                         ids=["none", "empty", "large"])
def test_an_authority_that_cannot_be_is_refused_at_start(begin, receiver, tmp_path, content, words):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    node = begin(receiver, begin_now=False, alerts__tls_ca_file=path).node
    node.spawn()
    assert node.process.wait(10 * SLOW) == 1
    node.process = None
    assert re.search(rf"alerts.tls_ca_file.*{words}", node.log_text()), node.log_text()


HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@pytest.mark.parametrize("answer, closes", [
    (HEAD + b"Content-Length: 10\r\n\r\n", False), (HEAD + b"Content-Length: 10\r\n\r\nabc", True),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", True), (HEAD + b"\r\nno end", False),
    (HEAD + b"\r\n" + b"x" * (4 << 20), False), (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"\r\n", False),
    (HEAD + b"Content-Length: 2\r\nContent-Encoding: gzip\r\n\r\n??", False)],
    ids=["silent", "cut", "cut-chunk", "endless", "huge", "continue", "no-gzip"])
def test_an_answer_counts_by_its_status_whatever_its_body_does(begin, raw, answer, closes):
    receiver = raw(answer, closes)
    daemon = begin(receiver, alerts__guesses_per_minute=1)
    for address in addresses(3):
        guess(daemon, address, 2)
    wait_until(lambda: daemon.node.metric("sessiond_alerts_delivered_total") >= 3, 15, "all three")
    assert len({post for _, post in receiver.posts}) == len(receiver.posts) == 3, "each is sent once"
    assert daemon.node.metric("sessiond_alerts_failed_total") == 0


def test_an_answer_without_a_whole_head_is_none(begin, raw):
    receiver = raw(b"HTTP/1.1 200 OK\r\nContent-Le", True)
    daemon = begin(receiver, alerts__guesses_per_minute=1)
    guess(daemon, "198.51.100.1", 2)
    wait_until(lambda: len(receiver.posts) >= 2, 10, "a second try")
    assert daemon.node.metric("sessiond_alerts_delivered_total") == 0


@pytest.mark.timed
def test_retry_after_is_heeded(begin, raw):
    receiver = raw(b"HTTP/1.1 503 No\r\nRetry-After: 3\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    daemon = begin(receiver, alerts__guesses_per_minute=1)
    guess(daemon, "198.51.100.1", 2)
    wait_until(lambda: len(receiver.posts) >= 2, 20, "a second try")
    assert receiver.posts[1][0] - receiver.posts[0][0] >= 2.9


def test_a_reload_takes_another_receiver_and_secret_or_nothing(begin, receiver, secret, tmp_path):
    other = Receiver().up()
    try:
        daemon = begin(receiver, alerts__guesses_per_minute=1)
        node = daemon.node
        key = secrets.token_bytes(32)
        path = tmp_path / "other-secret"
        path.write_text("whsec_" + base64.b64encode(key).decode())
        path.chmod(0o644)
        node.write_config(alerts__webhook_url=other.url, alerts__webhook_secret_file=path)
        node.signal(signal.SIGHUP)
        wait_until(lambda: "config_refused" in node.log_text(), 5, "a refusal")
        assert "alerts.webhook_secret_file" in node.log_text()
        guess(daemon, "198.51.100.1", 2)
        assert receiver.wait(1)[0].is_signed_with(secret[1])
        path.chmod(0o600)
        node.signal(signal.SIGHUP)
        wait_until(lambda: "config_reloaded" in node.log_text(), 5, "the reload")
        guess(daemon, "198.51.100.2", 2)
        assert other.wait(1)[0].is_signed_with(key)
        assert len(receiver.posts) == 1
    finally:
        other.down()


@pytest.mark.parametrize("options, words", [
    ({"alerts.webhook_url": "ftp://127.0.0.1/"}, "webhook_url must be"),
    ({"alerts.webhook_url": "https:///path"}, "webhook_url must be"),
    ({"alerts.webhook_url": "http://127.0.0.1/", "alerts.webhook_secret_file": ""},
     "webhook_url needs a webhook_secret_file"),
    ({"alerts.file": ""}, "[alerts] file must be"),
])
def test_a_webhook_that_cannot_be_is_refused_at_start(begin, options, words):
    node = begin(begin_now=False).node
    node.options.update(options)
    node.write_config()
    node.spawn()
    assert node.process.wait(10) == 2, node.log_text()
    node.process = None
    assert words in node.log_text(), node.log_text()
