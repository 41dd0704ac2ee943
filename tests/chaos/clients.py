"""The clients of a chaos run: threads that live the lives of sessions on all nodes, in a process of
their own, and note every call. Their calls are drawn from a seed; the outcomes are not."""

import base64
import collections
import http.client
import multiprocessing
import random
import secrets
import signal
import sys
import threading
import time
from dataclasses import dataclass, field

from client import Client
from history import (FINAL, FORGED, KICK, LOGIN, LOGOUT, LOGOUT_ALL, POLL, REFRESH, VALIDATE,
                     Recorder)

BROKEN = (OSError, http.client.HTTPException)
POLL_EVERY = 0.1
LOGINS_OF_A_USER = 25       # then somebody else comes; far below policy.max_devices
RECENT = 40                 # of the sessions that somebody tried to end, so many are hot
LATE = 0.8                  # share of a session's life after which it is left alone


@dataclass
class Setting:
    """The clients' view of the service."""
    ports: list
    ops_ports: list
    key: str
    seed: int
    rate: float             # calls a second, over all
    threads: int            # of each node
    sessions: int           # that live at a time
    patience: float         # for sure answers after the run
    timeout: float = 5.0


@dataclass(eq=False)
class Session:
    user: str
    id: str
    pairs: list             # (access, refresh), by generation
    born: float
    life: float
    doomed: bool = False    # somebody tried to end it, or it was refused

    @property
    def is_late(self):
        return time.monotonic() > self.born + self.life * LATE


@dataclass
class Crowd:
    """Shared by all threads. The lists are changed by single operations, which are atomic."""
    users: list = field(default_factory=list)
    living: list = field(default_factory=list)
    recent: collections.deque = field(default_factory=lambda: collections.deque(maxlen=RECENT))
    everything: list = field(default_factory=list)
    echoes: collections.deque = field(default_factory=collections.deque)
    unknown_endings: collections.deque = field(default_factory=collections.deque)
    stopping: threading.Event = field(default_factory=threading.Event)
    errors: list = field(default_factory=list)

    def doom(self, session):
        session.doomed = True
        self.recent.append(session)
        try:
            self.living.remove(session)
        except ValueError:
            pass

    def of_user(self, user):
        return [session for session in list(self.living) if session.user == user]


class Caller:
    """Calls to one node, each noted by the recorder."""

    def __init__(self, setting, node, recorder):
        self.node, self.recorder, self.key = node, recorder, setting.key
        self.client = Client(port=setting.ports[node], timeout=setting.timeout)

    def send(self, pending, method, path, body=None, bearer=None):
        """(status, body); (0, {}) without a whole answer, and what is not JSON is no answer."""
        try:
            answer = self.client.call(method, path, body, bearer,
                                      {"X-Request-Id": pending.request_id})
            return answer.status, answer.json
        except (*BROKEN, ValueError):
            return 0, {}

    def login(self, user):
        pending = self.recorder.begin(LOGIN, self.node)
        status, body = self.send(pending, "POST", "/v1/login", {"user_id": user}, self.key)
        if status != 201:
            pending.done(status, user=user, **told_of(body))
            return None
        pending.done(status, user=user, session=body["session_id"], **pair_of(body))
        return Session(user, body["session_id"], [(body["access_token"], body["refresh_token"])],
                       time.monotonic(), body["expires_in"])

    def refresh(self, session, generation):
        token = session.pairs[generation][1]
        pending = self.recorder.begin(REFRESH, self.node)
        status, body = self.send(pending, "POST", "/v1/refresh", {"refresh_token": token})
        detail = pair_of(body) if status == 200 else told_of(body)
        pending.done(status, user=session.user, session=session.id, generation=generation,
                     token=token, **detail)
        return status, body

    def look(self, session, generation, kind=VALIDATE, by_service=False, is_last=True):
        """(status, whether the answer is sure). A final look that brings no sure answer is an
        ordinary one if it is not the last."""
        token = session.pairs[generation][0]
        pending = self.recorder.begin(kind, self.node)
        if by_service:
            status, body = self.send(pending, "POST", "/v1/validate", {"token": token}, self.key)
            if status == 200 and body.get("active") is False:
                status = 401
        else:
            status, body = self.send(pending, "GET", "/v1/validate", None, token)
        detail = told_of(body)
        if status == 200:
            detail = {"stale_for": body.get("stale_for") if body.get("stale") else None}
            if (body["user_id"], body["session_id"]) != (session.user, session.id):
                detail["told"] = (body["user_id"], body["session_id"])
        is_sure = status in (200, 401) and detail.get("stale_for") is None
        if kind == FINAL and not is_sure and not is_last:
            pending.kind = VALIDATE
        pending.done(status, user=session.user, session=session.id, generation=generation,
                     token=token, **detail)
        return status, is_sure

    def forge(self, token):
        pending = self.recorder.begin(FORGED, self.node)
        status, body = self.send(pending, "GET", "/v1/validate", None, token)
        pending.done(status, token=token, **told_of(body))

    def kick(self, session, by_user=None):
        pending = self.recorder.begin(KICK, self.node)
        if by_user:
            status, body = self.send(pending, "DELETE", f"/v1/devices/{session.id}", None, by_user)
        else:
            path = f"/v1/users/{session.user}/devices/{session.id}"
            status, body = self.send(pending, "DELETE", path, None, self.key)
        pending.done(status, user=session.user, session=session.id, **ended_of(status, body))
        return status

    def logout(self, session):
        generation = len(session.pairs) - 1
        token = session.pairs[generation][0]
        pending = self.recorder.begin(LOGOUT, self.node)
        status, body = self.send(pending, "POST", "/v1/logout", None, token)
        pending.done(status, user=session.user, session=session.id, generation=generation,
                     token=token, **ended_of(status, body))
        return status

    def logout_all(self, user, keep=None, bearer=None):
        """By a service, or by the kept session's own token."""
        pending = self.recorder.begin(LOGOUT_ALL, self.node)
        if bearer:
            status, body = self.send(pending, "POST", "/v1/logout-all",
                                     {"keep_current": bool(keep)}, bearer)
        else:
            status, body = self.send(pending, "POST", f"/v1/users/{user}/logout-all",
                                     {"keep_session": keep} if keep else {}, self.key)
        pending.done(status, user=user, keep=keep, **ended_of(status, body))
        return status


def told_of(body):
    return {name: body[name] for name in ("reason", "code") if name in body}


def pair_of(body):
    return {"access": body["access_token"], "refresh": body["refresh_token"],
            "expires_in": body["expires_in"]}


def ended_of(status, body):
    if status in (200, 202):
        return {"durability": body["durability"], "ended": tuple(body["sessions"])}
    return told_of(body)


def random_token(chance):
    return "sa_" + base64.urlsafe_b64encode(chance.randbytes(45)).decode()


def flipped(chance, token):
    """One bit of what the token says is another."""
    raw = bytearray(base64.urlsafe_b64decode(token[3:]))
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return "sa_" + base64.urlsafe_b64encode(raw).decode()


def transplanted(token, other):
    """The token with the session id (bytes 15 to 22) of another one."""
    raw = bytearray(base64.urlsafe_b64decode(token[3:]))
    raw[15:23] = base64.urlsafe_b64decode(other[3:])[15:23]
    return "sa_" + base64.urlsafe_b64encode(raw).decode()


class Worker(threading.Thread):
    """One client: draws what to do next, for ever."""

    def __init__(self, setting, node, number, crowd, recorder):
        super().__init__(name=f"client {node}.{number}", daemon=True)
        self.setting, self.crowd = setting, crowd
        self.caller = Caller(setting, node, recorder)
        self.chance = random.Random(f"{setting.seed}/client/{node}/{number}")
        self.pause = len(setting.ports) * setting.threads / setting.rate

    ACTS = (("look", 68), ("forge", 3), ("renew", 7), ("reuse", 0.4), ("log_in", 5), ("end", 3.5))

    def run(self):
        names, weights = zip(*self.ACTS)
        due = time.monotonic() + self.chance.random() * self.pause
        while not self.crowd.stopping.wait(max(0.0, due - time.monotonic())):
            due = max(due + self.pause, time.monotonic() - 1)
            try:
                getattr(self, self.chance.choices(names, weights)[0])()
            except Exception as error:  # it must not be lost with the thread
                self.crowd.errors.append(f"{self.name}: {error!r}")
                raise

    def draw(self, sessions):
        sessions = list(sessions)
        return self.chance.choice(sessions) if sessions else None

    def pick_living(self):
        session = self.draw(self.crowd.living)
        if session and session.is_late:
            self.crowd.doom(session)
            return None
        return session

    def look(self):
        """Mostly at the living, often at those that were just ended, now and then at old ones."""
        crowd = self.crowd
        session = self.draw(self.chance.choices((crowd.living, crowd.recent, crowd.everything),
                                                (65, 30, 5))[0])
        if not session:
            return
        generation = len(session.pairs) - 1
        if generation and self.chance.random() < 0.1:
            generation = self.chance.randrange(generation)
        status, _ = self.caller.look(session, generation, by_service=self.chance.random() < 0.2)
        if status == 401 and generation == len(session.pairs) - 1 and not session.doomed:
            crowd.doom(session)

    def forge(self):
        one, other = self.draw(self.crowd.everything), self.draw(self.crowd.living)
        kinds = [lambda: random_token(self.chance)]
        if one and other:
            access, refresh = other.pairs[-1]
            kinds += [lambda: flipped(self.chance, access), lambda: "sa_" + refresh[3:]]
            if one.id != other.id:
                kinds.append(lambda: transplanted(access, one.pairs[0][0]))
        self.caller.forge(self.chance.choice(kinds)())

    def log_in(self):
        """A login, if there is room."""
        crowd = self.crowd
        if len(crowd.living) >= self.setting.sessions:
            return
        place = self.chance.randrange(len(crowd.users))
        user, left = crowd.users[place]
        crowd.users[place] = (user, left - 1) if left > 1 else new_user()
        session = self.caller.login(user)
        if session:
            crowd.everything.append(session)
            crowd.living.append(session)

    def renew(self):
        """A refresh; some are sent twice at the same time, through other nodes. One whose fate is
        unknown is simply tried again some time, as clients do, and may then be too late."""
        crowd = self.crowd
        try:
            session, generation = crowd.echoes.popleft()
        except IndexError:
            session = self.pick_living()
            if not session:
                return
            generation = len(session.pairs) - 1
            if self.chance.random() < 0.3:
                crowd.echoes.append((session, generation))
        status, body = self.caller.refresh(session, generation)
        if status == 200 and len(session.pairs) == generation + 1:
            session.pairs.append((body["access_token"], body["refresh_token"]))
        elif status == 401:
            crowd.doom(session)

    def reuse(self):
        """A used refresh token comes back: whatever comes of it, the session is not judged."""
        session = self.pick_living()
        if session and len(session.pairs) > 1:
            self.crowd.doom(session)
            self.caller.refresh(session, self.chance.randrange(len(session.pairs) - 1))

    def end(self):
        """A kick, a logout or a logout-all; a kick whose fate is unknown is tried again."""
        crowd = self.crowd
        if crowd.unknown_endings and self.chance.random() < 0.5:
            self.kick(crowd.unknown_endings.popleft())
            return
        session = self.pick_living()
        if not session:
            return
        what = self.chance.choices((self.kick, self.logout, self.logout_all), (6, 4, 2))[0]
        what(session)
        if self.chance.random() < 0.5:
            self.caller.look(session, len(session.pairs) - 1)

    def kick(self, session):
        mates = [mate for mate in self.crowd.of_user(session.user) if mate is not session]
        by_user = mates and self.chance.random() < 0.3
        bearer = self.chance.choice(mates).pairs[-1][0] if by_user else None
        self.crowd.doom(session)
        if self.caller.kick(session, bearer) in (0, 503):
            self.crowd.unknown_endings.append(session)

    def logout(self, session):
        self.crowd.doom(session)
        self.caller.logout(session)

    def logout_all(self, session):
        keeps, by_user = self.chance.random() < 0.5, self.chance.random() < 0.5
        for mate in self.crowd.of_user(session.user):
            if not (keeps and mate is session):
                self.crowd.doom(mate)
        self.caller.logout_all(session.user, session.id if keeps else None,
                               session.pairs[-1][0] if by_user else None)


def new_user():
    return f"user-{secrets.token_hex(6)}", LOGINS_OF_A_USER


class Poller(threading.Thread):
    """Asks a node again and again how many unconfirmed revocations its journal has."""

    def __init__(self, setting, node, crowd, recorder):
        super().__init__(name=f"poller {node}", daemon=True)
        self.node, self.crowd, self.recorder = node, crowd, recorder
        self.ops = Client(port=setting.ops_ports[node], timeout=setting.timeout)

    def run(self):
        while not self.crowd.stopping.wait(POLL_EVERY):
            pending = self.recorder.begin(POLL, self.node)
            try:
                answer = self.ops.call("GET", "/readyz")
                pending.done(answer.status,
                             unsettled=answer.json.get("journal", {}).get("unsettled"))
            except (*BROKEN, ValueError):
                pending.done(0, unsettled=None)


def look_again(caller, sessions, patience):
    """Every token of the sessions at one node. One without a sure answer is asked for again later:
    what Redis has of its user may be older than what the node has seen, for a minute at most."""
    left = [(session, generation) for session in sessions
            for generation in range(len(session.pairs))]
    end = time.monotonic() + patience
    while left:
        is_last = time.monotonic() > end
        left = [(session, generation) for session, generation in left
                if not caller.look(session, generation, FINAL, True, is_last)[1]]
        if is_last:
            return
        time.sleep(2 if left else 0)


class Clients:
    """All threads of the process."""

    def __init__(self, setting):
        self.setting = setting
        self.recorder = Recorder()
        self.crowd = Crowd(users=[new_user() for _ in range(max(4, setting.sessions // 4))])
        nodes = range(len(setting.ports))
        self.threads = [Worker(setting, node, number, self.crowd, self.recorder)
                        for node in nodes for number in range(setting.threads)]
        self.threads += [Poller(setting, node, self.crowd, self.recorder) for node in nodes]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.crowd.stopping.set()
        for thread in self.threads:
            thread.join(3 * self.setting.timeout)
        return self.crowd.errors + [f"{thread.name} hangs" for thread in self.threads
                                    if thread.is_alive()]

    def finish(self):
        """The looks after the run, at all nodes at the same time; how many sessions there were."""
        sessions = [s for s in self.crowd.everything if time.monotonic() < s.born + s.life]
        callers = [Caller(self.setting, node, self.recorder)
                   for node in range(len(self.setting.ports))]
        lookers = [threading.Thread(target=look_again, daemon=True,
                                    args=(caller, sessions, self.setting.patience))
                   for caller in callers]
        for looker in lookers:
            looker.start()
        for looker in lookers:
            looker.join()
        return len(sessions)


def serve(setting, pipe):
    """The process: obeys one word after the other, until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.setswitchinterval(0.001)
    clients = Clients(setting)
    answers = {
        "start": clients.start,
        "stop": clients.stop,
        "finish": clients.finish,
        "history": lambda: [tuple(operation) for operation in clients.recorder.operations],
    }
    try:
        while True:
            pipe.send(answers[pipe.recv()]())
    except (EOFError, BrokenPipeError):
        pass


class ClientProcess:
    """The parent's end."""

    def __init__(self, setting):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(setting, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, word, seconds=60):
        self.pipe.send(word)
        if not self.pipe.poll(seconds):
            raise TimeoutError(f"the clients do not answer to {word!r}")
        return self.pipe.recv()

    def end(self):
        self.pipe.close()
        self.process.join(2)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
