"""Shares of the journal: the `manage` key of one tenant, freezing users that it makes up, neither
empties the journal of the others nor shuts them out of it."""

from checks import check_dead, check_ended, check_problem
from daemon import ACME, ADMIN, SERVICE, unique
from redis_servers import SingleRedis, wait_until

SMALL = {"journal__max_bytes": "65536"}  # room for about 700 freezes
FLOOD = 1500


def freeze(daemon, key, user=None):
    return daemon.call("POST", f"/v1/users/{user or unique('made-up')}/freeze", {}, key)


def journal_of(daemon, login):
    answer = daemon.call("POST", "/v1/explain", {"token": login["access_token"]}, ADMIN)
    assert answer.status == 200, answer
    return answer.json["journal"]


def freeze_until_refused(daemon, key):
    for count in range(FLOOD):
        answer = freeze(daemon, key)
        if answer.status != 202:
            check_problem(answer, 503, "journal_unavailable")
            return count
    raise AssertionError(f"{FLOOD} freezes were taken")


def test_a_flood_of_one_tenant_leaves_the_records_of_another(start):
    daemon = start(**SMALL)
    victim = daemon.login()
    assert daemon.kick(victim["user_id"], victim["session_id"]).status == 200
    wait_until(lambda: not journal_of(daemon, victim)["pending"], 5, "the kick is settled")
    for _ in range(FLOOD):
        assert freeze(daemon, ACME).status == 200
    journal = journal_of(daemon, victim)
    assert journal["says"] == "dead" and journal["reason"] == "kicked", journal
    assert daemon.node.metric("sessiond_journal_records") < FLOOD, "it was full"
    assert daemon.node.metric("sessiond_journal_refused_total") == 0


def test_in_an_outage_one_tenant_leaves_room_for_another(start, tmp_path):
    redis = SingleRedis(tmp_path / "redis").start()
    try:
        daemon = start(redis=redis, redis__mode="standalone", redis__wait_timeout="0", **SMALL)
        logins = [daemon.login() for _ in range(20)]
        for login in logins:
            assert daemon.is_alive(login["access_token"])
        redis.stop()
        wait_until(lambda: freeze(daemon, SERVICE, unique()).status == 202, 5, "pending")

        taken = freeze_until_refused(daemon, ACME)
        assert taken > 200, taken
        for login in logins:
            answer = daemon.call("POST", "/v1/logout", None, login["access_token"])
            check_ended(answer, [login["session_id"]], durability="pending")
            check_dead(daemon.validate(login["access_token"]), "logged_out")
        check_problem(freeze(daemon, ACME), 503, "journal_unavailable")

        redis.start()
        wait_until(lambda: daemon.node.metric("sessiond_journal_unsettled") == 0, 10, "settled")
        assert freeze(daemon, ACME).status == 200
    finally:
        redis.stop()
