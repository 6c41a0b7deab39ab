"""What an operator can set, read once from the environment.

In: environment variables. Out: one frozen `Settings`. Never: a variable read anywhere else, a secret in a message.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class SettingsError(Exception):
    """A variable is missing or malformed; the message names it and says what would be right."""


@dataclass(frozen=True, repr=False)
class Settings:
    """`repr` is off because two of these are secrets."""

    webhook_key: bytes | None = None
    openai_base_url: str | None = None
    openai_api_key: str | None = None
    openai_model: str | None = None
    gateway_api_url: str | None = None
    gateway_api_key: str | None = None
    agent_namespace: str = "/agents"
    agent_run_key: str | None = None
    data_dir: Path = ROOT / "data"
    content_dir: Path = ROOT / "content"
    max_body_bytes: int = 8_000_000

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        given = {name: value for name, value in env.items() if value}
        secret = given.get("WEBHOOK_SECRET")
        settings = cls(
            webhook_key=webhook_key(secret) if secret else None,
            openai_base_url=given.get("OPENAI_BASE_URL", "").rstrip("/") or None,
            openai_api_key=given.get("OPENAI_API_KEY"),
            openai_model=given.get("OPENAI_MODEL"),
            gateway_api_url=given.get("GATEWAY_API_URL", "").rstrip("/") or None,
            gateway_api_key=given.get("GATEWAY_API_KEY"),
            agent_namespace=given.get("AGENT_NAMESPACE", cls.agent_namespace),
            agent_run_key=given.get("AGENT_RUN_KEY"),
            data_dir=Path(given.get("DATA_DIR", cls.data_dir)),
            content_dir=Path(given.get("CONTENT_DIR", cls.content_dir)),
            max_body_bytes=positive(given, "MAX_BODY_BYTES", cls.max_body_bytes),
        )
        if settings.openai_base_url and not settings.openai_model:
            raise SettingsError("OPENAI_BASE_URL is set, so OPENAI_MODEL must name a model of that endpoint")
        if settings.gateway_api_url and not settings.gateway_api_key:
            raise SettingsError("GATEWAY_API_URL is set, so GATEWAY_API_KEY must hold the gateway's API key")
        return settings


def webhook_key(secret: str) -> bytes:
    """The HMAC key inside a Standard Webhooks secret: base64, padded or not, after the prefix `whsec_`."""
    encoded = secret.removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error as cause:
        raise SettingsError("WEBHOOK_SECRET must be `whsec_` and then base64") from cause
    if len(key) < 16:
        raise SettingsError("WEBHOOK_SECRET must hold at least 16 bytes")
    return key


def positive(env: Mapping[str, str], name: str, default: int) -> int:
    try:
        value = int(env.get(name, default))
    except ValueError as cause:
        raise SettingsError(f"{name} must be a whole number") from cause
    if value < 1:
        raise SettingsError(f"{name} must be at least 1")
    return value
