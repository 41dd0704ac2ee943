"""docs/openapi.yaml through the tools of others: a linter, and a generator of types whose output must compile."""
import os
import pathlib
import re
import subprocess

import pytest

from guards import BUILT

DESCRIPTION = pathlib.Path(__file__).resolve().parents[2] / "docs/openapi.yaml"
RULES = """\
extends: [recommended-strict]
rules:
  operation-4xx-problem-details-rfc7807: error
"""
# A call of each kind, whose members must have the types that the description gives them.
PROGRAM = """\
import type { components, operations, paths } from "./description.js";

type Schemas = components["schemas"];
type Good = operations["validate"]["responses"][200]["content"]["application/json"];
type Bad = operations["validate"]["responses"][401]["content"]["application/problem+json"];

const login: Schemas["LoginRequest"] = { user_id: "alice", roles: ["buyer"], device: { id: "d-1", type: "phone" } };
const owner = (session: Good): string => `${session.tenant}/${session.user_id} until ${session.expires_at.toFixed()}`;
const reason = (problem: Bad): string => `${problem.status}: ${problem.code} ${problem.reason ?? ""}`;
const asked: paths["/v1/validate"]["post"]["requestBody"]["content"]["application/json"] = { token: "sa_", touch: false };
const policy: Schemas["PolicySettings"] = { overflow: "evict_idlest", roles: { staff: { idle_timeout: 28800 } } };
// @ts-expect-error: no such word
const wrong: Schemas["PolicySettings"] = { overflow: "evict_nobody" };
export { asked, login, owner, policy, reason, wrong };
"""


def run(program, *words, directory):
    """Runs a program of npm, which must succeed; returns what it says."""
    environment = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    done = subprocess.run([BUILT / "node_modules/.bin" / program, *words], cwd=directory, env=environment, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.cell("redocly", "other", "lints docs/openapi.yaml")
def test_a_strict_linter_has_nothing_to_say(tmp_path, figure):
    (tmp_path / "redocly.yaml").write_text(RULES)
    said = run("redocly", "lint", "--config", "redocly.yaml", str(DESCRIPTION), directory=tmp_path)
    assert not re.search(r"\b(warning|error)s? (was|were) generated", said), said
    figure("redocly: " + re.search(r"^.*API description is valid.*$", said, re.MULTILINE)[0])


@pytest.mark.cell("openapi-typescript", "other", "makes types of docs/openapi.yaml")
def test_generated_types_compile_and_tell_right_from_wrong(tmp_path):
    # By default it takes members with a default for required, also where callers send them.
    run("openapi-typescript", str(DESCRIPTION), "-o", "description.d.ts", "--default-non-nullable", "false",
        directory=tmp_path)
    (tmp_path / "program.ts").write_text(PROGRAM)
    run("tsc", "--noEmit", "--strict", "--exactOptionalPropertyTypes", "--module", "nodenext", "--target", "es2022",
        "program.ts", directory=tmp_path)
