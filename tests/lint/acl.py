"""Holds conf/redis-acl.conf to the Redis commands that the sources send, in both directions.

A command is sent in one of two ways: as literals, {TEXT("CLUSTER"), TEXT("SLOTS")} or {"PING", 4},
or by redis.call('HGET', ...) in Lua. Every literal that looks like one must be known below as a
command or as something else, so that a new command cannot slip by.
"""
import re

FILE = "conf/redis-acl.conf"
SOURCES = ("src/redis", "src/session")

# Commands whose first argument is a command of its own.
CONTAINERS = {"ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "FUNCTION", "SCRIPT", "SENTINEL"}
# Commands for sentinels, which have users of their own.
SENTINELS = {"sentinel"}
# Literals that are no commands: arguments and answers.
OTHERS = set("""BCAST BYSCORE DENIED LIMIT MOVED NO NOAUTH NOLOOP OFF OK ON ONE OPTIN PREFIX REDIRECT SKIPME WITHSCORES
YES""".split())

LITERAL = r'(?:TEXT\("([A-Za-z][A-Za-z-]*)"\)|\{"([A-Za-z][A-Za-z-]*)", \d+\})'
# The next argument: in the same list, or assigned to the next place.
PLAIN = re.compile(LITERAL + r"(?:(?:,\s*|;\s*[\w.>\[\]-]+ = )" + LITERAL + ")?")
SCRIPTED = re.compile(r"""redis\.p?call\('([A-Za-z]+)'(?:, '([A-Za-z]+)')?""")


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def literals(text):
    """(position, first, second) of each literal and the one after it, which may be None."""
    position = 0
    while found := PLAIN.search(text, position):
        first, other_first, second, other_second = found.groups()
        yield found.start(), first or other_first, second or other_second
        # The second may be a command itself.
        position = found.start() + 1


def name_of(first, second):
    return f"{first}|{second}".lower() if first in CONTAINERS and second else first.lower()


def commands_of(text):
    """Yields (line, command) for each that the text sends."""
    arguments = set()
    for position, first, second in literals(text):
        if position in arguments or not first.isupper() or len(first) < 2 or first in OTHERS:
            continue
        if first in CONTAINERS and second:
            arguments.add(text.index(second, position + len(first)) - len('TEXT("'))
            arguments.add(text.index(second, position + len(first)) - len('{"'))
        yield line_of(text, position), name_of(first, second)
    for call in re.finditer(r"redis\.p?call\b", text):
        found = SCRIPTED.match(text, call.start())
        assert found, f"line {line_of(text, call.start())}: the command of redis.call() must be a literal"
        yield line_of(text, call.start()), name_of(*found.groups())


def sent(root):
    """{command: the first place that sends it}."""
    result = {}
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*.[ch]")):
            for line, command in commands_of(path.read_text()):
                result.setdefault(command, f"{path.relative_to(root)}:{line}")
    return result


def allowed(text, of_sentinels):
    """The commands of the user's line, or of the comment that is the user's line at sentinels."""
    begin = r"^#\s+user " if of_sentinels else r"^user "
    lines = [line for line in text.splitlines()
             if re.match(begin, line) and ("+sentinel" in line) == of_sentinels]
    assert len(lines) == 1, f"{FILE}: {len(lines)} lines of users{' at sentinels' * of_sentinels}"
    return set(re.findall(r" \+(\S+)", lines[0]))


def differences(needed, granted, what):
    for command in sorted(set(needed) - granted):
        yield f"{FILE}: +{command} is missing{what}; {needed[command]} sends it"
    for command in sorted(granted - set(needed)):
        yield f"{FILE}: +{command} is granted{what}, nothing sends it"


def violations(root):
    """Yields a line for each difference."""
    text = (root / FILE).read_text()
    needed = sent(root)
    at_sentinels = {name: where for name, where in needed.items() if name.split("|")[0] in SENTINELS}
    yield from differences({name: where for name, where in needed.items() if name not in at_sentinels},
                           allowed(text, False), "")
    # A link to a sentinel begins as every other.
    at_sentinels.update({name: needed[name] for name in ("auth", "ping") if name in needed})
    yield from differences(at_sentinels, allowed(text, True), " at sentinels")
