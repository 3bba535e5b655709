"""Requests that schemathesis makes of the interfaces' own document against `kiln serve`."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
# Seconds; every run tries the same requests in the same order, and what was not tried by then is left out.
LONGEST = 60
# What other servers' clients take for granted is looser than a document: what is asked for may be ignored, and a value that is none be refused later.
OF_OTHERS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.mark.parametrize(("which", "checks", "operations"), [("--exclude-path-regex", "all", 15), ("--include-path-regex", OF_OTHERS, 17)], ids=["own", "others"])
def test_no_request_is_answered_by_a_fault_or_otherwise_than_the_document_says(start, tmp_path, which, checks, operations):
    # A job that is asked for in whatever size and number of steps shall end before it is late.
    server = start("--deadline", "60", "--most-side", "64", "--most-count", "2")
    run = subprocess.run(
        [pathlib.Path(sys.executable).with_name("st"), "--config-file", HERE / "schemathesis.toml", "--no-color",
         "run", f"{server.url}/openapi.json", "--max-time", str(LONGEST), "--workers", "2", which, "^/(v1|sdapi)/", "--checks", checks],
        cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST * 5, env={**os.environ, "SCHEMATHESIS_HOOKS": ""})
    assert run.returncode == 0, run.stdout[-12_000:] + run.stderr[-2_000:]
    # All but the document itself.
    assert f"Selected: {operations}/" in run.stdout, run.stdout[-2_000:]
