"""Pages of other sites: none unless the operator lets them in."""

import requests

SITE = {"origin": "https://kiosk.example"}
ASKS = {**SITE, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}


def test_only_the_named_origin_is_let_in(start):
    closed, opened = start(), start("--cors", "https://kiosk.example")
    job = {"prompt": "a red apple", "steps": 1, "size": "64x64"}
    for server, origin, expected in ((closed, SITE, 403), (opened, SITE, 202), (opened, {"origin": "https://evil.example"}, 403)):
        answer = requests.post(f"{server.url}/jobs", json=job, headers=origin)
        assert answer.status_code == expected, (origin, answer.text)
        assert answer.headers.get("access-control-allow-origin") == (SITE["origin"] if expected == 202 else None)
    leave = requests.options(f"{opened.url}/jobs", headers=ASKS)
    assert leave.status_code == 204 and "POST" in leave.headers["access-control-allow-methods"]
    assert "access-control-allow-origin" not in requests.options(f"{closed.url}/jobs", headers=ASKS).headers
    assert "access-control-allow-origin" not in requests.get(f"{opened.url}/jobs").headers
