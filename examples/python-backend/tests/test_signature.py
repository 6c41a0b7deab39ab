"""Only what the gateway signed, and lately, is served."""

import base64
import dataclasses
import json
import time

import pytest

from backend.settings import Settings, SettingsError, webhook_key
from backend.signature import TOLERANCE_SECONDS, sign, verify

KEY = b"a key of twenty-five byte"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


def test_the_example_of_the_standard():
    """The value that the Standard Webhooks libraries publish in their own tests."""
    key = webhook_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": f"v1,AAAA {expected}",
    }
    verify(key, headers, body, now=1614265330 + TOLERANCE_SECONDS)


def signed(body, timestamp, key=KEY, **changed):
    headers = {"webhook-id": "m1", "webhook-timestamp": str(timestamp), "webhook-signature": sign(key, "m1", timestamp, body)}
    return {name: value for name, value in (headers | changed).items() if value is not None}


NOW = int(time.time())
CASES = [
    ("good", {}, b"", 200),
    ("another key", {"key": b"another key of more bytes"}, b"", 401),
    ("another body", {}, b" ", 401),
    ("another id", {"webhook-id": "m2"}, b"", 401),
    ("no id", {"webhook-id": None}, b"", 401),
    ("no signature", {"webhook-signature": None}, b"", 401),
    ("no timestamp", {"webhook-timestamp": None}, b"", 401),
    ("timestamp is a word", {"webhook-timestamp": "now"}, b"", 401),
    ("signature is not ASCII", {"webhook-signature": "v1,é"}, b"", 401),
    ("too old", {"timestamp": NOW - 2 * TOLERANCE_SECONDS}, b"", 401),
    ("from the future", {"timestamp": NOW + 2 * TOLERANCE_SECONDS}, b"", 401),
]


@pytest.mark.parametrize("name, changed, added, status", CASES, ids=[case[0] for case in CASES])
async def test_signatures(calling, event, settings, name, changed, added, status):
    body = json.dumps(event("security-gate", "request_threat_logs", {})).encode()
    headers = signed(body, **({"timestamp": NOW} | changed))
    encoded = {name: value.encode() for name, value in headers.items()}
    async with calling(dataclasses.replace(settings, webhook_key=webhook_key(SECRET))) as client:
        response = await client.post("/events", content=body + added, headers=encoded)
    assert response.status_code == status
    # Without an `error` object: a wrong secret is no refusal of the client's event.
    assert "error" not in response.json()


def test_settings_that_cannot_be_meant():
    bad = [
        {"WEBHOOK_SECRET": "whsec_%%%"},
        {"WEBHOOK_SECRET": "whsec_AAAA"},
        {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"},
        {"GATEWAY_API_URL": "http://127.0.0.1:3002"},
        {"MAX_BODY_BYTES": "many"},
        {"MAX_BODY_BYTES": "0"},
    ]
    for env in bad:
        with pytest.raises(SettingsError, match=next(iter(env))):
            Settings.from_environment(env)
    for secret in (SECRET, SECRET.rstrip("="), SECRET.removeprefix("whsec_")):
        assert Settings.from_environment({"WEBHOOK_SECRET": secret}).webhook_key == KEY, secret
    assert Settings.from_environment({"WEBHOOK_SECRET": ""}).webhook_key is None
