"""Places of addresses by a MaxMind DB file: in lists of devices, and what is a new one."""

import signal

import pytest

import location_file
from daemon import unique
from redis_servers import wait_until
from verification import challenge

# Three networks of Bavaria, one of them IPv6; one of Berlin; a country without parts.
MUNICH, NUREMBERG, MUNICH6 = "198.51.100.7", "203.0.113.9", "2001:db8:1::7"
BERLIN, SINGAPORE, NOWHERE = "192.0.2.1", "192.0.2.129", "10.1.2.3"
PLACES = {
    "198.51.100.0/24": location_file.place("DE", "Germany", "BY", "Bavaria", "Munich"),
    "203.0.113.0/24": location_file.place("DE", "Germany", "BY", "Bavaria", "Nuremberg"),
    "2001:db8:1::/48": location_file.place("DE", "Germany", "BY", "Bavaria", "Munich"),
    "192.0.2.0/25": location_file.place("DE", "Germany", "BE", "Berlin", "Berlin"),
    "192.0.2.128/25": location_file.place("SG", "Singapore"),
}


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "places.mmdb"
    location_file.write(path, PLACES)
    return path


def locations(daemon, user):
    return {entry["ip"]: entry.get("location") for entry in daemon.devices(user)["devices"]}


def test_lists_of_devices_say_where(start, database):
    daemon = start(geoip__database=database)
    user = unique()
    for ip in (MUNICH, MUNICH6, BERLIN, SINGAPORE, NOWHERE, "::ffff:203.0.113.9"):
        daemon.login(user, ip=ip)
    assert locations(daemon, user) == {
        MUNICH: "Munich, Bavaria, Germany", MUNICH6: "Munich, Bavaria, Germany",
        BERLIN: "Berlin, Germany", SINGAPORE: "Singapore", NOWHERE: None,
        "203.0.113.9": "Nuremberg, Bavaria, Germany"}


def test_a_place_is_a_part_of_a_country(start, database):
    daemon = start(geoip__database=database, policy__verify_on="new_location")
    user = unique()
    daemon.login(user, ip=MUNICH, second_factor=True)
    for ip in (NUREMBERG, MUNICH6):
        assert daemon.login(user, ip=ip)["new_location"] is False
    for ip in (BERLIN, SINGAPORE, NOWHERE):
        challenge(daemon, user, ip=ip)


def test_a_database_that_was_replaced_is_seen_after_a_reload(start, database, tmp_path):
    daemon = start(geoip__database=database)
    user = unique()
    daemon.login(user, ip=SINGAPORE)
    renewed = tmp_path / "new.mmdb"
    location_file.write(renewed, {"192.0.2.128/25": location_file.place("MY", "Malaysia")})
    renewed.replace(database)
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: locations(daemon, user)[SINGAPORE] == "Malaysia", 5, "the new database")

    database.unlink()
    daemon.node.signal(signal.SIGHUP)
    wait_until(lambda: "geoip.database" in daemon.node.log_text(), 5, "the refusal")
    assert locations(daemon, user)[SINGAPORE] == "Malaysia"


def test_a_file_that_is_no_database_keeps_the_service_down(start, tmp_path):
    path = tmp_path / "places.mmdb"
    path.write_text("nothing of the kind")
    daemon = start(begin_now=False, geoip__database=path)
    daemon.node.spawn()
    assert daemon.node.process.wait(10) != 0
    assert "geoip.database" in daemon.node.log_text() and str(path) in daemon.node.log_text()
    daemon.node.process = None


def overwrite(path, data):
    """In place, as `: > file` and `cp` do: the same file, other bytes."""
    with open(path, "r+b") as file:
        file.truncate(0)
        file.write(data)


def test_a_database_that_is_cut_or_overwritten_in_place_kills_nothing(start, database):
    whole = database.read_bytes()
    daemon = start(geoip__database=database)
    user = unique()
    daemon.login(user, ip=SINGAPORE)
    node = daemon.node
    for spoiled in (b"", whole[:100], whole[:-50], b"\xff" * len(whole)):
        overwrite(database, spoiled)
        daemon.login(user, ip=SINGAPORE)
        daemon.login(user, ip=MUNICH)
        refused = node.metric("sessiond_config_reload_errors_total")
        node.signal(signal.SIGHUP)
        wait_until(lambda: node.metric("sessiond_config_reload_errors_total") > refused, 5,
                   "the reload is refused")
        found = locations(daemon, user)
        assert found[SINGAPORE] == "Singapore" and found[MUNICH] == "Munich, Bavaria, Germany"
    overwrite(database, whole)
    node.signal(signal.SIGHUP)
    wait_until(lambda: node.metric("sessiond_config_reloads_total") >= 1, 5, "the reload is taken")
    assert locations(daemon, user)[SINGAPORE] == "Singapore"


def test_a_database_that_is_no_file_is_refused(start, tmp_path):
    daemon = start(begin_now=False, geoip__database=tmp_path)
    daemon.node.spawn()
    assert daemon.node.process.wait(10) != 0
    daemon.node.process = None
    assert "is not a regular file" in daemon.node.log_text()
