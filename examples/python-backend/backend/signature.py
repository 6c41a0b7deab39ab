"""Did the gateway send this? The check of a Standard Webhooks signature.

In: headers, the raw body, the key, the time. Out: nothing, or `BadSignature`. Never: a look at the body's meaning.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping

# How far the sender's clock may be from ours; the same five minutes that the Standard Webhooks libraries allow.
TOLERANCE_SECONDS = 300


class BadSignature(Exception):
    """The request is not from the gateway, or is too old; the message says which."""


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def verify(key: bytes, headers: Mapping[str, str], body: bytes, now: float) -> None:
    message_id = headers.get("webhook-id")
    signatures = headers.get("webhook-signature")
    if not message_id or not signatures:
        raise BadSignature("webhook-id or webhook-signature is missing")
    try:
        timestamp = int(headers.get("webhook-timestamp", ""))
    except ValueError as cause:
        raise BadSignature("webhook-timestamp is not a number") from cause
    if abs(now - timestamp) > TOLERANCE_SECONDS:
        raise BadSignature("webhook-timestamp is too far from now")
    expected = sign(key, message_id, timestamp, body).encode()
    # A sender that rotates its secret sends one signature per secret, separated by spaces.
    if not any(hmac.compare_digest(expected, given.encode()) for given in signatures.split(" ")):
        raise BadSignature("webhook-signature does not match")
