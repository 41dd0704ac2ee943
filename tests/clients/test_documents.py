"""The OpenAPI document in the hands of others: linted by Redocly, turned into TypeScript, compiled."""
import json
import shutil
import subprocess

import pytest

from guards import BUILT, HERE, node_program
from processes import directory_of, run, write

# Redocly's strictest rules, and errors that are problems (RFC 9457, formerly 7807).
REDOCLY = {"extends": ["recommended-strict"], "rules": {"operation-4xx-problem-details-rfc7807": "error"}}


@pytest.fixture(scope="module")
def document(testbed):
    answer = testbed.daemon.call("GET", "/openapi.json")
    assert answer.status == 200, answer
    return answer


@pytest.mark.cell("@redocly/cli", "other")
def test_redocly_finds_nothing(document):
    node_program("documents")  # skips where node is too old
    with directory_of("redocly") as directory:
        write(directory / "openapi.json", document.body.decode())
        write(directory / "redocly.yaml", json.dumps(REDOCLY))
        status, output = run([BUILT / "node_modules" / ".bin" / "redocly", "lint", "openapi.json", "--config", "redocly.yaml"], directory,
                             {"REDOCLY_TELEMETRY": "off", "CI": "true"})
    assert status == 0 and "Your API description is valid" in output, output


@pytest.mark.cell("openapi-typescript", "other")
def test_typescript_compiles_a_caller_against_it(document):
    with directory_of("typescript") as directory:
        source = write(directory / "openapi.json", document.body.decode())
        program = node_program("documents")
        result = subprocess.run([str(word) for word in program], env={"PATH": "/usr/bin:/bin", "DOCUMENT": source.as_uri()},
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stderr
        write(directory / "openapi.ts", result.stdout)
        shutil.copy(HERE / "node" / "caller.ts", directory)
        status, output = run([BUILT / "node_modules" / ".bin" / "tsc", "--strict", "--noEmit", "--skipLibCheck", "--target", "es2022", "--lib", "es2022", "--module", "esnext",
                              "--moduleResolution", "bundler", "caller.ts"], directory)
    assert status == 0, output
