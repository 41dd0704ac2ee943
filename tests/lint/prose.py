"""Holds sentences to their subject, and documents to their width.

A sentence that begins with a nominal relative ("What was heard is proven ...", "Who joins must ...")
makes its reader wait for the subject. Questions may begin so.
"""
import re

WIDTH = 120
NOMINAL = re.compile(r"(?:Of|Where|Wherever|What|Who|Whom|Whose|Whoever|Whatever|Whichever|That which"
                     r"|Those (?:who|whom|whose|that|which))\b")
SENTENCE_END = re.compile(r'(?<=[.:;!?])\s+(?=[A-Z"`])')
# Tables that a script writes, by the heading or file that they stand under.
GENERATED = {"docs/configuration.md", "docs/metrics.md", "docs/logs.md"}


def comments(text):
    """(line, text without the stars) of each comment."""
    for comment in re.finditer(r"/\*(.*?)\*/", text, re.DOTALL):
        lines = (re.sub(r"^\s*\*? ?", "", line) for line in comment[1].split("\n"))
        yield text.count("\n", 0, comment.start()) + 1, re.sub(r"\s+", " ", " ".join(lines)).strip()


def sentences(comment):
    return [sentence for sentence in SENTENCE_END.split(comment) if re.match("[A-Z]", sentence)]


def nominal(root):
    """(where, sentence) of each that begins so, and the number of all sentences."""
    found, count = [], 0
    for path in sorted(path for folder in ("include", "src", "tests") for path in (root / folder).rglob("*.[ch]")):
        for line, comment in comments(path.read_text()):
            for sentence in sentences(comment):
                count += 1
                if NOMINAL.match(sentence) and not sentence.rstrip().endswith("?"):
                    found.append((f"{path.relative_to(root)}:{line}", sentence))
    return found, count


def wide_lines(root):
    """(where, length) of each line of a document that is too wide; code and generated tables are as they are."""
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md")), root / "tests/README.md"]:
        name, code = str(path.relative_to(root)), False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code ^= line.lstrip().startswith("```")
            if len(line) > WIDTH and not code and not (name in GENERATED and line.startswith("|")):
                yield f"{name}:{number}", len(line)


def violations(root):
    for where, sentence in nominal(root)[0]:
        yield f"{where}: begins with a nominal relative: {sentence[:80]}"
    for where, length in wide_lines(root):
        yield f"{where}: {length} columns, {WIDTH} are allowed"
