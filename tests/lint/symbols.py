"""What the object files say of the house: which files call each other, and what public functions are called.

A circle is a set of files each of which reaches every other by calls: nobody can read, test or move
one of them alone. A public function bears the name of its file, of a room that its file is in, or of
the contract in include/ that declares it, so that its name says where it is. A file like index_write.c
beside index.c or index.h is a part of it, and shares its name.
"""
import collections
import functools
import json
import re
import subprocess

CIRCLE_FILES = 4
# One function in so many may share its name with a function of another file.
SHARED_NAMES = 100
# The allocation that never fails has the names that such functions have everywhere.
EXCEPTIONS = {"main", "xmalloc", "xcalloc", "xrealloc", "xstrdup", "xstrndup"}


@functools.lru_cache
def symbols(root, build):
    """{source: (all that it defines, what it needs, its functions)} of the objects of src/."""
    sources = {str(build / path.relative_to(root).with_suffix(".o")): path.relative_to(root)
               for path in sorted(root.glob("src/**/*.c"))}
    text = subprocess.run(["nm", "--format=posix", "--extern-only", "--print-file-name", *sources], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    kinds = collections.defaultdict(lambda: collections.defaultdict(set))
    for line in text.splitlines():
        path, name, kind = line.split()[:3]
        kinds[path.rstrip(":")][kind].add(name)
    return {source: (set().union(*(kinds[path][kind] for kind in "TDBRVW")), kinds[path]["U"], kinds[path]["T"])
            for path, source in sources.items()}


def calls(of):
    """{source: {source that it needs: names}}."""
    where = {name: source for source, (defined, _, _) in of.items() for name in defined}
    result = {source: collections.defaultdict(set) for source in of}
    for source, (_, needed, _) in of.items():
        for name in needed & where.keys():
            result[source][where[name]].add(name)
    return result


def circles(graph):
    """The strongly connected components with more than one file (Tarjan's algorithm), the largest first."""
    index, low, stack, result = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            result.append(stack[at:])
            del stack[at:]

    for node in graph:
        if node not in index:
            visit(node)
    return sorted((sorted(found) for found in result if len(found) > 1), key=len, reverse=True)


def circle_violations(root, build):
    """A line for each circle of too many files, followed by the calls that make it."""
    graph = calls(symbols(root, build))
    for circle in circles(graph):
        if len(circle) <= CIRCLE_FILES:
            continue
        yield f"{len(circle)} files call each other, {CIRCLE_FILES} are allowed: {' '.join(map(str, circle))}"
        for source in circle:
            for target in circle:
                if target in graph[source]:
                    yield f"    {source} needs {target}: {' '.join(sorted(graph[source][target]))}"


def contracts(root):
    """{function: the headers of include/ that declare it}."""
    result = collections.defaultdict(set)
    for header in root.glob("include/*.h"):
        for name in re.findall(r"\b(\w+)\(", header.read_text()):
            result[name].add(header.stem)
    return result


def prefixes(root, source, declared):
    """What the name of a public function of this file may begin with."""
    beside = {path.stem for path in (root / source).parent.glob("*.[ch]")}
    words = source.stem.split("_")
    whole = {"_".join(words[:count]) for count in range(1, len(words))} & beside
    return {source.stem, *source.parts[1:-1], *whole, *declared}


def name_violations(root, build):
    """A line for each public function whose name does not say where it is."""
    declared = contracts(root)
    for source, (_, _, functions) in symbols(root, build).items():
        for name in sorted(functions - EXCEPTIONS):
            allowed = prefixes(root, source, declared[name])
            if not any(name == prefix or name.startswith(prefix + "_") for prefix in allowed):
                yield f"{source}: {name}() begins with none of {', '.join(sorted(allowed))}"


def shared_names(root):
    """{name: files} of the functions of src/ whose name several files have, and the number of all."""
    sources = sorted(str(path.relative_to(root)) for path in root.glob("src/**/*.c"))
    tags = subprocess.run(["ctags", "-f", "-", "--output-format=json", "--languages=C", "--kinds-C=f", *sources],
                          cwd=root, check=True, stdout=subprocess.PIPE, text=True).stdout
    files, count = collections.defaultdict(set), 0
    for tag in map(json.loads, tags.splitlines()):
        files[tag["name"]].add(tag["path"])
        count += 1
    return {name: of for name, of in files.items() if len(of) > 1}, count


def shared_name_violations(root):
    shared, count = shared_names(root)
    sharing = sum(map(len, shared.values()))
    if sharing * SHARED_NAMES > count:
        yield f"{sharing} of {count} functions share their name with another file's, one in {SHARED_NAMES} may:"
        for name, of in sorted(shared.items(), key=lambda item: -len(item[1])):
            yield f"    {name}() in {' '.join(sorted(of))}"
