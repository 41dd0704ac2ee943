"""Holds folders to a size that a reader can keep in mind, each file to its row in the map of the house
(docs/architecture.md), and constants to one definition."""
import collections
import pathlib
import re

FOLDER_FILES = 20
MAP = "docs/architecture.md"
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
MACRO = re.compile(r"^#define (\w+) +(\S.*)$", re.MULTILINE)
ENUMERATION = re.compile(r"\benum (?:\w+ )?\{(.*?)\}", re.DOTALL)
ENUMERATOR = re.compile(r"\b([A-Z][A-Z0-9_]*)\s*=\s*([^,}]+)")


def folder_violations(root):
    """A line for each folder of src/ and tests/unit/ with too many .c files."""
    counts = collections.Counter(path.parent.relative_to(root) for top in ("src", "tests/unit")
                                 for path in (root / top).rglob("*.c"))
    for folder, count in sorted(counts.items()):
        if count > FOLDER_FILES:
            yield f"{folder} has {count} .c files, {FOLDER_FILES} are allowed"


def rows(text):
    """The files of the map's tables, each under the heading of its room or rooms."""
    folders = []
    for line in text.splitlines():
        if line.startswith("#"):
            folders = re.findall(r"src/[\w/]+", line)
        elif found := re.match(r"\| `(\w+\.c)`", line):
            yield from (f"{folder}/{found[1]}" for folder in folders)


def map_violations(root):
    """A line for each file of src/ without its row, and for each row without its file."""
    mapped = set(rows((root / MAP).read_text()))
    present = {str(path.relative_to(root)) for path in (root / "src").rglob("*.c")}
    shared = {pathlib.PurePath(path).name for path in present & mapped}
    yield from (f"{MAP} has no row for {path}" for path in sorted(present - mapped))
    yield from (f"{MAP} has a row for {path}, which is not there" for path in sorted(mapped - present)
                if pathlib.PurePath(path).name not in shared)


def constants(text):
    """(name, value) of the constants that a source defines."""
    text = COMMENT.sub("", text)
    yield from ((name, value.strip()) for name, value in MACRO.findall(text))
    for body in ENUMERATION.findall(text):
        yield from ((name, value.strip()) for name, value in ENUMERATOR.findall(body))


def constant_violations(root):
    """A line for each constant that two files define under one name and with one value: the same fact twice."""
    where = collections.defaultdict(set)
    for path in sorted(path for folder in ("include", "src") for path in (root / folder).rglob("*.[ch]")):
        for constant in constants(path.read_text()):
            where[constant].add(str(path.relative_to(root)))
    for (name, value), files in sorted(where.items()):
        if len(files) > 1:
            yield f"{name} is {value} in {', '.join(sorted(files))}"
