"""What the object files say of the house: who calls whom, and what public functions are called.

A circle is a set of files each of which reaches each other by calls; nobody can read, test or move
one of them alone. A public function bears the name of its file, of a folder that its file is in, or
of the header in include/ that declares it, so that its name says where it is.
"""
import collections
import pathlib
import re
import subprocess

CIRCLE_FILES = 4


def symbols(build):
    """{source: (functions and objects that it defines, those that it needs)} of the objects under src/."""
    result = {}
    for path in sorted((build / "src").rglob("*.o")):
        source = path.relative_to(build).with_suffix(".c")
        text = subprocess.run(["nm", "--format=posix", "--extern-only", path], check=True, stdout=subprocess.PIPE,
                              text=True).stdout
        kinds = [line.split()[:2] for line in text.splitlines()]
        result[source] = ({name for name, kind in kinds if kind in "TDBRVW"},
                          {name for name, kind in kinds if kind == "U"},
                          {name for name, kind in kinds if kind == "T"})
    return result


def calls(of):
    """{source: {source it calls: names}}."""
    where = {name: source for source, (defined, _, _) in of.items() for name in defined}
    result = {source: collections.defaultdict(set) for source in of}
    for source, (_, needed, _) in of.items():
        for name in needed & where.keys():
            result[source][where[name]].add(name)
    return result


def circles(graph):
    """The strongly connected components with more than one file, by Tarjan's algorithm."""
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
