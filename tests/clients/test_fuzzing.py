"""Requests that schemathesis makes of the interface's own document against `kiln serve`."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
# Seconds; every run tries the same requests in the same order, and what was not tried by then is left out.
LONGEST = 60


def test_no_request_is_answered_by_a_fault_or_otherwise_than_the_document_says(start, tmp_path):
    server = start("--deadline", "5")
    run = subprocess.run(
        [pathlib.Path(sys.executable).with_name("st"), "--config-file", HERE / "schemathesis.toml", "--no-color",
         "run", f"{server.url}/openapi.json", "--max-time", str(LONGEST), "--workers", "2"],
        cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST * 5, env={**os.environ, "SCHEMATHESIS_HOOKS": ""})
    assert run.returncode == 0, run.stdout[-12_000:] + run.stderr[-2_000:]
    # All but the document itself.
    assert "Selected: 15/15" in run.stdout, run.stdout[-2_000:]
