"""Holds includes to the layers and libraries to their doors.

A layer includes only itself and what is below it; a library is included only behind its door, so
that it can be replaced by changing one place.
"""
import pathlib
import re

# What each layer may include besides itself. redis and services are peers.
BELOW = {
    "base": set(),
    "services": {"base"},
    "redis": {"base"},
    "session": {"base", "services", "redis"},
    "http": {"base", "services", "redis", "session"},
    "main": {"base", "services", "redis", "session", "http"},
}

# Rooms of a layer from bottom to top: each includes only itself and what stands before it.
ROOMS = {
    "redis": ["protocol", "state", "calls", "tracking", "topology"],
    "session": ["model", "index engine operations upkeep"],
}

# The layer whose contract a header in include/ is. Files in include/tbl belong to the one that
# expands them, and are seen by everybody.
CONTRACTS = {
    "base": "text bytes clean credential ids changes clock container_of err json memory crypto conf log metrics address breaker private_file jitter etag thread hash signing",
    "services": "audit commit_ticket cache journal alerts location policy tenants ratelimit file_locks signatures",
    "redis": "store",
    "session": "token record session",
    "http": "http",
}
LAYER_OF_HEADER = {f"{name}.h": layer for layer, names in CONTRACTS.items() for name in names.split()}

# Library headers (as a pattern) and the only files (as patterns) that may include them.
DOORS = [
    (r"microhttpd\.h", r"src/http/|tests/bench/"),
    (r"gnutls/.*", r"src/http/server/https\.c"),
    (r"(hiredis/)?(hiredis|read|sds|async)\.h|hiredis/.*", r"src/redis/protocol/reply\.c|tests/"),
    (r"sodium(/.*)?\.h", r"src/base/(crypto|keyring)\w*\.[ch]"),
    (r"openssl/.*", r"src/base/(crypto|keyring)\w*\.c|src/redis/protocol/(tls|script)\.c|tests/unit/redis/check_store_tls\.c|tests/support/support_signature\.c"),
    (r"jansson\.h", r"src/base/json/json_parse\.h|tests/"),
    (r"ini\.h", r"src/base/conf/conf_load\.c"),
    (r"maxminddb\.h", r"src/services/location\.c"),
    (r"systemd/.*", r"src/main/|src/http/"),
    (r"curl/.*", r"src/services/alerts/webhook\.c"),
]

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)')


def layer_of_source(path):
    """The layer of a file under src/, None for files elsewhere."""
    return path.parts[1] if path.parts[0] == "src" else None


def layer_of_include(root, source, name):
    """The layer an included project header belongs to; None: every layer may include it."""
    if name.startswith("tbl/"):
        return None
    for candidate in (root / source.parent / name, root / "src" / name):
        if candidate.exists() and candidate.resolve().is_relative_to(root / "src"):
            return layer_of_source(candidate.resolve().relative_to(root))
    return LAYER_OF_HEADER.get(name, "unknown")


def check_layer(root, source, layer, name):
    target = layer_of_include(root, source, name)
    if target == "unknown":
        return f'"{name}" belongs to no layer; add it to CONTRACTS in tests/lint/includes.py'
    if target is None or target == layer or target in BELOW[layer]:
        return None
    return f'{layer} must not include "{name}" of {target}'


def rank(path):
    """(layer, how high its room stands); None for files elsewhere."""
    if path.parts[0] != "src" or path.parts[1] not in ROOMS or len(path.parts) < 4:
        return None
    return next(((path.parts[1], number) for number, names in enumerate(ROOMS[path.parts[1]])
                 if path.parts[2] in names.split()), None)


def check_room(root, source, name):
    if ".." in name:
        return f'"{name}": say the path from src/ on'
    target = pathlib.Path("src") / name
    if not (root / target).exists() or not rank(source) or not rank(target):
        return None
    (layer, own), (other_layer, other) = rank(source), rank(target)
    if layer != other_layer or other <= own:
        return None
    return f'{source.parts[2]} must not include "{name}" of {target.parts[2]}, which stands above it'


def check_door(source, name):
    for header, allowed in DOORS:
        if re.fullmatch(header, name) and not re.match(allowed, source.as_posix()):
            return f"<{name}> is for {allowed} only"
    return None


def violations(root):
    """Yields a line for each include that is not allowed."""
    root = root.resolve()
    for source in sorted(path.relative_to(root) for folder in ("include", "src", "tests")
                         for path in (root / folder).rglob("*.[ch]")):
        layer = LAYER_OF_HEADER.get(source.name) if source.parts[0] == "include" else layer_of_source(source)
        for number, line in enumerate((root / source).read_text().splitlines(), 1):
            found = INCLUDE.match(line)
            if not found:
                continue
            quoted, angled = found.groups()
            problem = check_door(source, quoted or angled)
            if not problem and quoted and layer and source.parts[:2] != ("include", "tbl"):
                problem = check_layer(root, source, layer, quoted) or check_room(root, source, quoted)
            if problem:
                yield f"{source}:{number}: {problem}"
