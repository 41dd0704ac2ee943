#!/usr/bin/python3
"""docs/metrics.md has every metric of include/tbl/metrics.h and src/base/telemetry/metrics_print.c, docs/logs.md
every event that the program logs: as the code says them, and nothing else.

With --write, the tables of both are written again.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
METRICS = ROOT / "docs/metrics.md"
LOGS = ROOT / "docs/logs.md"

STRING = r'"(?:[^"\\]|\\.)*"'
STRINGS = rf"{STRING}(?:\s*(?:PRI\w+|{STRING}))*"
CALL = re.compile(rf"\b(?:boot_)?log_(?P<name>debug|info|warning|error|write|messages)\((?P<rest>.*?)\);", re.DOTALL)
CONVERSION = re.compile(r"%[-+ #0]*[\d.*]*(?:hh|h|ll|l|z|j|t)?[a-zA-Z]")


def joined(strings):
    """The text of string literals that stand side by side."""
    return "".join(text[1:-1].replace('\\"', '"') for text in re.findall(STRING, strings))


# --- metrics ------------------------------------------------------------------------------------
def metrics_in_rows():
    """(name, kind, help) of every row of tbl/metrics.h."""
    text = (ROOT / "include/tbl/metrics.h").read_text()
    return [(name, kind.lower(), words) for kind, name, words in re.findall(
        r'^(COUNTER|GAUGE|HISTOGRAM)\(\w+, "(\w+)", "(.*)"\)$', text, re.MULTILINE)]


def metrics_in_print():
    """The same of the families that have no row: of routes, of the build and of the process."""
    text = (ROOT / "src/base/telemetry/metrics_print.c").read_text()
    names = dict(re.findall(r'static const char (\w+)\[\] = "(\w+)";', text))
    families = re.findall(rf'add_family\(out, ("\w+"|\w+), "(\w+)",\s*({STRINGS})\)', text)
    gauges = re.findall(rf'print_gauge\(out, ("\w+"), ({STRINGS}),', text)
    for name, kind, words in families + [(name, "gauge", words) for name, words in gauges]:
        yield (names.get(name) or joined(name), kind, joined(words))


def metrics_table():
    rows = sorted({*metrics_in_rows(), *metrics_in_print()})
    return ["| metric | kind | |", "|---|---|---|"] + [
        f"| `{name}` | {kind} | {words} |" for name, kind, words in rows]


# --- log events ---------------------------------------------------------------------------------
def events_in(text):
    """(event, level, format) of every call that logs; of two events that a condition chooses, two."""
    for call in CALL.finditer(text):
        arguments = re.match(rf"(?P<first>[^;]*?(?P<names>{STRING}(?:\s*:\s*{STRING})?)),?\s*(?P<format>{STRINGS})?",
                             call["rest"], re.DOTALL)
        names = arguments and re.findall(r'"([a-z]\w+)"', arguments["names"])
        if not names or "=" in arguments["names"]:
            continue  # a function that hands on what it was called with
        levels = re.findall(r"LOG_LEVEL_(\w+)", arguments["first"]) or [call["name"]]
        level = " or ".join(sorted(level.lower() for level in levels)).replace("messages", "error")
        format_ = 'reason="…"' if call["name"] == "messages" else joined(arguments["format"] or "")
        for name in names:
            yield name, level, CONVERSION.sub("…", format_)


def logs_table():
    found = {}
    for source in sorted((ROOT / "src").rglob("*.c")):
        for event in events_in(source.read_text()):
            found.setdefault(event, set()).add(str(source.relative_to(ROOT)))
    return ["| event | level | members | logged by |", "|---|---|---|---|"] + [
        f"| `{name}` | {level} | {f'`{members}`' if members else ''} | {', '.join(sorted(by))} |"
        for (name, level, members), by in sorted(found.items())]


# --- documents ----------------------------------------------------------------------------------
def documented(path, table):
    """The document with its one table as it should be, at the place where it is or at the end."""
    lines = path.read_text().splitlines()
    places = [number for number, line in enumerate(lines) if line.startswith("|")]
    start, end = (places[0], places[-1] + 1) if places else (len(lines), len(lines))
    return "\n".join(lines[:start] + table + lines[end:]) + "\n"


def main():
    problems = 0
    for path, table in (METRICS, metrics_table()), (LOGS, logs_table()):
        wanted = documented(path, table)
        if sys.argv[1:] == ["--write"]:
            path.write_text(wanted)
        if path.read_text() != wanted:
            present = path.read_text().splitlines()
            for line in [line for line in table if line not in present]:
                print(f"{path.name}: lacks: {line}")
            for line in [line for line in present if line.startswith("|") and line not in table]:
                print(f"{path.name}: has what the code has not: {line}")
            print(f"{path.name}: is out of date; run {sys.argv[0]} --write")
            problems += 1
        else:
            print(f"{path.name}: {len(table) - 2} rows")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
