"""Additional verification at login: new devices and locations, codes, tries, one use."""

import concurrent.futures
import re

import pytest

from checks import check_problem
from daemon import ACME, ADMIN, SERVICE, unique
from redis_servers import wait_until
from verification import HOME, OFFICE, answer_with, challenge, solve, wrong


@pytest.fixture(scope="module")
def otp(workspace, cluster):
    """Two nodes that want a code for new devices and new places."""
    from daemon import Daemon
    daemon = Daemon(workspace / "otp", cluster, count=2, policy__verify_on="new_device new_location",
                    policy__verify_method="otp")
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


@pytest.fixture(scope="module")
def external(workspace, cluster):
    from daemon import Daemon
    daemon = Daemon(workspace / "external", cluster, policy__verify_on="new_device")
    try:
        yield daemon.start()
        daemon.stop()
    finally:
        daemon.kill()


def test_a_new_device_gets_a_session_by_its_code(otp):
    user = unique()
    fields = {"device": {"id": "d1", "type": "phone", "name": "P"}, "ip": HOME, "roles": ["buyer"],
              "user_agent": "Shop/1", "attributes": {"real": 1.5, "text": "\u00e9"}}
    problem = challenge(otp, user, **fields)
    assert problem["method"] == "otp" and problem["attempts"] == 5
    assert 0 < problem["expires_in"] <= 300
    assert re.fullmatch(r"\d{6}", problem["otp"])
    assert re.fullmatch(r"sc_[\w-]{60}", problem["challenge_id"])
    assert otp.devices(user)["total"] == 0

    body = solve(otp, problem, node=1)
    assert body["user_id"] == user and body["new_device"] is True and body["new_location"] is True
    session = otp.validate(body["access_token"]).json
    assert session["roles"] == ["buyer"]
    assert session["attributes"] == fields["attributes"]
    assert session["device"] == fields["device"]
    entry = otp.devices(user)["devices"][0]
    assert entry["ip"] == HOME and entry["user_agent"] == "Shop/1"


def test_a_verified_context_is_remembered_after_its_session_has_gone(otp):
    user = unique()
    device = {"id": "d1"}
    body = solve(otp, challenge(otp, user, device=device, ip=HOME))
    assert otp.call("POST", "/v1/logout", None, body["access_token"]).status == 200
    again = otp.login(user, device=device, ip="198.51.100.200", node=1)
    assert again["new_device"] is False and again["new_location"] is False
    challenge(otp, user, device={"id": "d2"}, ip=HOME)
    challenge(otp, user, device=device, ip=OFFICE)
    solve(otp, challenge(otp, user, device=device, ip=OFFICE))
    otp.login(user, device=device, ip=HOME)


def test_a_device_without_id_is_known_by_its_fingerprint(otp):
    user = unique()
    device = {"fingerprint": "f-1"}
    solve(otp, challenge(otp, user, device=device, ip=HOME))
    assert otp.login(user, device=device, ip=HOME)["new_device"] is False
    challenge(otp, user, device={"fingerprint": "f-2"}, ip=HOME)
    challenge(otp, user, ip=HOME)


def test_each_wrong_code_costs_a_try_and_the_last_one_ends_it(otp):
    user = unique()
    problem = challenge(otp, user, device={"id": "d"})
    bad = {"challenge_id": problem["challenge_id"], "code": wrong(problem["otp"])}
    for left in (4, 3, 2, 1, 0):
        failed = check_problem(answer_with(otp, bad, node=left % 2), 403, "verification_failed")
        assert failed["attempts_left"] == left
    good = {"challenge_id": problem["challenge_id"], "code": problem["otp"]}
    check_problem(answer_with(otp, good), 410, "challenge_over")
    assert otp.devices(user)["total"] == 0


def test_a_code_may_be_wrong_before_it_is_right(otp):
    problem = challenge(otp, unique(), device={"id": "d"})
    bad = {"challenge_id": problem["challenge_id"], "code": wrong(problem["otp"])}
    check_problem(answer_with(otp, bad), 403, "verification_failed")
    solve(otp, problem)


def test_parallel_guesses_are_never_more_than_five(otp):
    user = unique()
    problem = challenge(otp, user, device={"id": "d"})
    guesses = [{"challenge_id": problem["challenge_id"], "code": f"{n:06d}"} for n in range(50)]
    guesses = [guess for guess in guesses if guess["code"] != problem["otp"]]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda pair: answer_with(otp, pair[1], node=pair[0] % 2),
                                enumerate(guesses)))
    failed = [answer.json["attempts_left"] for answer in answers if answer.status == 403]
    assert sorted(failed) == [0, 1, 2, 3, 4]
    assert all(answer.status in (403, 410) for answer in answers)


def test_guesses_are_counted_over_all_challenges_of_a_user(otp):
    user, device = unique(), {"id": "known"}
    known = solve(otp, challenge(otp, user, device=device))
    for _ in range(4):
        problem = challenge(otp, user, device={"id": "d"})
        bad = {"challenge_id": problem["challenge_id"], "code": wrong(problem["otp"])}
        for _ in range(4):
            check_problem(answer_with(otp, bad), 403, "verification_failed")
    pending = challenge(otp, user, device={"id": "d"})
    bad = {"challenge_id": pending["challenge_id"], "code": wrong(pending["otp"])}
    for _ in range(4):
        check_problem(answer_with(otp, bad), 403, "verification_failed")
    good = {"challenge_id": pending["challenge_id"], "code": pending["otp"]}
    answer = answer_with(otp, good)
    check_problem(answer, 429, "too_many_guesses")
    assert 3500 < int(answer.header("Retry-After")) <= 3600, "the rest of the hour"
    check_problem(otp.try_login(user, device={"id": "d"}, node=1), 429, "too_many_guesses")
    assert otp.is_alive(known["access_token"], node=1)
    otp.login(user, device=device)


def test_a_challenge_is_used_once_however_many_have_the_code(otp):
    user = unique()
    problem = challenge(otp, user, device={"id": "d"})
    good = {"challenge_id": problem["challenge_id"], "code": problem["otp"]}
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda n: answer_with(otp, good, node=n % 2), range(5)))
    assert sorted(answer.status for answer in answers) == [201, 410, 410, 410, 410]
    assert otp.devices(user)["total"] == 1


def test_a_challenge_expires(otp, cluster):
    user = unique()
    problem = challenge(otp, user, device={"id": "d"})
    left = cluster.each_master(lambda node: [node.call("PTTL", key) for key in node.keys()
                                             if key.startswith(b"sd:c:")])
    left = [milliseconds for lists in left for milliseconds in lists]
    assert left and all(0 < milliseconds <= 300000 for milliseconds in left)
    cluster.each_master(lambda node: [node.call("PEXPIRE", key, 1) for key in node.keys()
                                      if key.startswith(b"sd:c:")])
    wait_until(lambda: not any(key.startswith(b"sd:c:") for keys in cluster.each_master(lambda node: node.keys())
                               for key in keys), 2, "Redis has dropped them")
    good = {"challenge_id": problem["challenge_id"], "code": problem["otp"]}
    check_problem(answer_with(otp, good), 410, "challenge_over")


def test_ids_that_were_never_given_are_over(otp):
    problem = challenge(otp, unique(), device={"id": "d"})
    genuine = problem["challenge_id"]
    altered = genuine[:-5] + ("A" if genuine[-5] != "A" else "B") + genuine[-4:]
    for other in (altered, "sc_" + "A" * 60, "nonsense", "sa_" + genuine[3:]):
        check_problem(answer_with(otp, {"challenge_id": other, "code": problem["otp"]}), 410,
                      "challenge_over")
    solve(otp, problem)


def refused(daemon, problem, **members):
    """The detail of a 400."""
    answer = answer_with(daemon, {"challenge_id": problem["challenge_id"], **members})
    return check_problem(answer, 400, "body_invalid")["detail"]


def attempts_left(daemon, problem, **members):
    answer = answer_with(daemon, {"challenge_id": problem["challenge_id"], **members})
    return check_problem(answer, 403, "verification_failed")["attempts_left"]


@pytest.mark.parametrize("members", [{}, {"cookie": False}, {"code": "000000", "verified": True},
                                     {"code": "000000", "verified": False}])
def test_an_answer_is_either_a_code_or_a_word_and_else_costs_nothing(otp, external, members):
    problem = challenge(otp, unique(), device={"id": "d"})
    detail = refused(otp, problem, **members)
    assert '"code"' in detail and '"verified"' in detail
    assert attempts_left(otp, problem, code=wrong(problem["otp"])) == 4
    problem = challenge(external, unique(), device={"id": "d"})
    refused(external, problem, **members)
    assert attempts_left(external, problem, verified=False) == 4


def test_a_word_does_not_stand_for_a_code_and_is_no_guess(otp):
    user = unique()
    problem = challenge(otp, user, device={"id": "d"})
    for word in 12 * (True, False):
        detail = refused(otp, problem, verified=word)
        assert '"code"' in detail and "otp" in detail
    line = otp.node.audit_lines()[-1]
    assert (line["event.action"], line["user.id"]) == ("verify-login", user)
    assert attempts_left(otp, problem, code=wrong(problem["otp"])) == 4
    solve(otp, problem)


def test_a_code_does_not_stand_for_the_word_of_the_service(external):
    problem = challenge(external, unique(), device={"id": "d"})
    for _ in range(6):
        detail = refused(external, problem, code="000000")
        assert '"verified"' in detail and "external" in detail
    assert attempts_left(external, problem, verified=False) == 4
    assert answer_with(external, {"challenge_id": problem["challenge_id"], "verified": True}).status == 201


def test_a_foreign_key_cannot_answer(otp):
    problem = challenge(otp, unique(), device={"id": "d"})
    good = {"challenge_id": problem["challenge_id"], "code": problem["otp"]}
    check_problem(answer_with(otp, good, ACME), 403, "tenant_forbidden")
    check_problem(otp.call("POST", "/v1/login/verify", good), 401, "credentials_missing")
    assert answer_with(otp, good, ADMIN).status == 201


def test_the_users_own_service_verifies(external):
    user = unique()
    problem = challenge(external, user, device={"id": "d"})
    assert problem["method"] == "external" and "otp" not in problem
    no = answer_with(external, {"challenge_id": problem["challenge_id"], "verified": False})
    assert check_problem(no, 403, "verification_failed")["attempts_left"] == 4
    yes = answer_with(external, {"challenge_id": problem["challenge_id"], "verified": True})
    assert yes.status == 201
    assert external.login(user, device={"id": "d"})["new_device"] is False


def test_the_cookie_that_was_asked_for_comes_with_the_verification(external):
    problem = challenge(external, unique(), device={"id": "d"}, cookie=True)
    yes = answer_with(external, {"challenge_id": problem["challenge_id"], "verified": True})
    assert yes.json["access_token"] in yes.header("Set-Cookie")
    assert yes.json["set_cookie"] == [yes.header("Set-Cookie")]


def test_a_login_that_is_refused_anyway_is_not_asked_for_a_code(start):
    daemon = start(policy__verify_on="new_device", policy__max_devices=1, policy__overflow="reject")
    user = unique()
    daemon.login(user, device={"id": "a"}, second_factor=True)
    check_problem(daemon.try_login(user, device={"id": "b"}), 409, "device_limit")


def test_a_login_with_a_second_factor_is_not_asked_for_another(external):
    body = external.login(unique(), device={"id": "d"}, second_factor=True)
    assert body["new_device"] is True


def test_a_logout_everywhere_ends_what_was_pending(external):
    user = unique()
    first = external.login(user, device={"id": "a"}, second_factor=True)
    problem = challenge(external, user, device={"id": "b"})
    ended = external.call("POST", f"/v1/users/{user}/logout-all", {"reason": "password_changed"},
                          SERVICE)
    assert ended.status == 200 and first["session_id"] in ended.json["sessions"]
    yes = answer_with(external, {"challenge_id": problem["challenge_id"], "verified": True})
    check_problem(yes, 410, "challenge_over")
    assert external.devices(user)["total"] == 0


def test_the_audit_names_user_and_outcome_but_neither_code_nor_id(otp):
    user = unique()
    problem = challenge(otp, user, device={"id": "d"}, ip=HOME)
    line = otp.node.audit_of(problem["request_id"])
    assert line["event.action"] == "login" and line["event.outcome"] == "failure"
    assert line["event.reason"] == "verification_required"
    bad = {"challenge_id": problem["challenge_id"], "code": wrong(problem["otp"])}
    failed = check_problem(answer_with(otp, bad), 403, "verification_failed")
    line = otp.node.audit_of(failed["request_id"])
    assert line["event.action"] == "verify-login" and line["user.id"] == user
    assert line["source.ip"] == HOME
    answer = answer_with(otp, {"challenge_id": problem["challenge_id"], "code": problem["otp"]})
    line = otp.node.audit_of(answer.header("X-Request-Id"))
    assert line["event.outcome"] == "success"
    assert line["sessiond.session_id"] == answer.json["session_id"]
    text = otp.node.audit.read_text() + otp.node.log_text()
    assert problem["challenge_id"] not in text and problem["challenge_id"][3:20] not in text


def test_without_verification_nothing_is_remembered(shared):
    user = unique()
    first = shared.login(user, device={"id": "a"}, ip=HOME)
    assert first["new_location"] is True
    assert shared.login(user, device={"id": "b"}, ip="198.51.100.99")["new_location"] is False
    assert shared.login(user, device={"id": "c"}, ip=OFFICE)["new_location"] is True
    assert shared.login(user, device={"id": "c"})["new_location"] is False
    shared.call("POST", f"/v1/users/{user}/logout-all", None, SERVICE)
    assert shared.login(user, device={"id": "a"}, ip=HOME)["new_device"] is True


def test_a_login_from_a_new_place_raises_an_alert(shared):
    user = unique()
    shared.login(user, ip=HOME)
    shared.login(user, ip=OFFICE)

    def alerts():
        return [line for line in shared.node.audit_lines()
                if line.get("event.kind") == "alert" and line.get("user.id") == user]
    found = wait_until(alerts, 3, "an alert")
    assert len(found) == 1 and found[0]["source.ip"] == OFFICE
