#!/usr/bin/python3
"""Every option of include/tbl/options.h is in conf/sessiond.conf and, as that file says it, in
docs/configuration.md. (That the file is what the program prints is checked by tests/unit/base/check_conf.c.)

With --write, the tables of docs/configuration.md are written again.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
ROWS = ROOT / "include/tbl/options.h"
SAMPLE = ROOT / "conf/sessiond.conf"
DOCUMENT = ROOT / "docs/configuration.md"

TABLE_HEAD = ["| option | default | value | takes effect on | |", "|---|---|---|---|---|"]
RULES = re.compile(r"(?:Value: (?P<value>.*)\. )?Takes effect on (?P<effect>\w+)\.$")


def options_in_rows():
    """(section, name) of every row."""
    return re.findall(r"^OPTION_\w+\((\w+), (\w+),", ROWS.read_text(), re.MULTILINE)


def options_in_sample():
    """(section, name) -> cells of the table's row."""
    result = {}
    section, comment = None, []
    for line in SAMPLE.read_text().splitlines():
        if line.startswith("#"):
            comment.append(line[1:].strip())
        elif line.startswith("["):
            section = line.strip("[]")
        elif "=" in line:
            name, default = (part.strip() for part in line.split("=", 1))
            result[section, name] = cells(name, default, comment)
        if not line.startswith("#"):
            comment = []
    return result


def cells(name, default, comment):
    text = " ".join(comment)
    start = text.index("Value: ") if "Value: " in text else text.index("Takes effect on ")
    rules = RULES.match(text[start:])
    return [f"`{name}`", f"`{default}`" if default else "", (rules["value"] or "").replace("|", "\\|"),
            rules["effect"], text[:start].strip()]


def table(options, section):
    rows = [f"| {' | '.join(row)} |" for (of, _), row in options.items() if of == section]
    return TABLE_HEAD + rows


def split_document(lines):
    """Yields (section or None, lines): tables below '## [section]' are apart from the rest."""
    section, run = None, []
    in_table = False
    for line in lines:
        heading = re.match(r"## \[(\w+)\]$", line)
        section = heading[1] if heading else None if line.startswith("## ") else section
        is_row = section is not None and line.startswith("|")
        if is_row != in_table and run:
            yield (last_section if in_table else None), run
            run = []
        in_table, last_section = is_row, section
        run.append(line)
    if run:
        yield (section if in_table else None), run


def documented(options):
    """The document as it should be."""
    result = []
    for section, lines in split_document(DOCUMENT.read_text().splitlines()):
        result += table(options, section) if section else lines
    return result


def problems(options):
    rows = options_in_rows()
    for section, name in rows:
        if (section, name) not in options:
            yield f"{SAMPLE.name}: [{section}] {name} is missing"
    for section, name in options:
        if (section, name) not in rows:
            yield f"{SAMPLE.name}: [{section}] {name} is no option"
    present = DOCUMENT.read_text().splitlines()
    sections = [section for section, _ in split_document(present) if section]
    for section in dict.fromkeys(section for section, _ in rows):
        if sections.count(section) != 1:
            yield f"{DOCUMENT.name}: there must be one table of [{section}]"
    for line in documented(options):
        if line not in present:
            yield f"{DOCUMENT.name}: lacks: {line}"
    if present != documented(options):
        yield f"{DOCUMENT.name}: its tables are out of date; run {sys.argv[0]} --write"


def main():
    options = options_in_sample()
    if sys.argv[1:] == ["--write"]:
        DOCUMENT.write_text("\n".join(documented(options)) + "\n")
    found = list(problems(options))
    print("\n".join(found) if found else f"{len(options)} options are documented")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
