"""Two users at once through each gateway and each cache: nobody is ever taken for the other."""
import threading

import pytest

from gateways import REAL
from guards import LIBRARIES
from parallel import at_once
from redis_servers import for_a_while


@pytest.fixture(scope="module", params=[client for client in (*REAL, *LIBRARIES) if client.name != "dovecot"], ids=lambda client: client.name)
def client(request, testbed):
    with request.param(testbed) as started:
        yield started


@pytest.mark.cell("mixed")
def test_two_users_are_never_mixed_up(client, testbed, seconds, figure):
    logins = [testbed.login(f"user-{n}", roles=[f"role-{n}"]) for n in range(2)]
    counts, wrong, lock = [0, 0], [], threading.Lock()

    def run(number):
        login = logins[number % 2]
        for turn in for_a_while(seconds, pause=0.001):
            verdict = client.ask(login["access_token"], path=f"/{turn % 3}", method=("GET", "POST")[turn % 5 == 0])
            right = verdict.status == 200 and verdict.user == login["user_id"] and verdict.roles == [f"role-{number % 2}"]
            with lock:
                counts[number % 2] += 1
                if not right:
                    wrong.append(verdict)
    at_once(4, run)
    figure(f"{client.name}: {sum(counts)} requests of two users in {seconds} s, {len(wrong)} mixed up or refused")
    assert not wrong, wrong[:3]
    assert min(counts) > 10
