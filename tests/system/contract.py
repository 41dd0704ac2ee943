"""docs/openapi.yaml, the description of the interface."""

import pathlib

DESCRIPTION = pathlib.Path(__file__).resolve().parents[2] / "docs/openapi.yaml"
