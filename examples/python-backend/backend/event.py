"""One upstream event as the gateway posts it, and the refusals that answer it.

In: the JSON body of `POST /events`. Out: a checked `UpstreamEvent`. Never: trust in an identity named by a payload;
who sent the event is in `connection` alone.
"""

from typing import Any

from pydantic import BaseModel, Field

# A longer text costs more at the model than anybody means to ask.
MAX_TEXT = 32_000

STATUS = {
    "BAD_PAYLOAD": 400,
    "UNKNOWN_EVENT": 404,
    "UNAUTHORIZED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "LIMIT_EXCEEDED": 429,
    "TOO_LARGE": 413,
    "UNAVAILABLE": 503,
    "INTERNAL": 500,
}


class Refusal(Exception):
    """Why an event is not done; `code` is one of the gateway's closed list of codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        return STATUS[self.code]

    def answer(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": self.message}}


class User(BaseModel):
    id: str
    name: str | None = None


class Connection(BaseModel):
    sid: str
    user: User | None = None
    roles: list[str] = Field(default_factory=list)
    ip: str | None = None


class UpstreamEvent(BaseModel):
    contract: str
    namespace: str = "/"
    event: str
    args: list[Any] = Field(default_factory=list)
    connection: Connection
    session_id: str | None = None
    state: dict[str, Any] | None = None

    def payload(self) -> dict[str, Any]:
        """The event's first argument, an object; an event sent without one has an empty object."""
        payload = self.args[0] if self.args else {}
        if not isinstance(payload, dict):
            raise Refusal("BAD_PAYLOAD", f"{self.event} takes an object")
        return payload

    def owner(self) -> str:
        """Whose things this event may touch: the authenticated user's, else this one connection's."""
        user = self.connection.user
        return f"user:{user.id}" if user else f"sid:{self.connection.sid}"


def text(payload: dict[str, Any], name: str) -> str:
    """A field that must be there as text, of a length that is worth answering."""
    value = payload.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Refusal("BAD_PAYLOAD", f"`{name}` must be text")
    if len(value) > MAX_TEXT:
        raise Refusal("TOO_LARGE", f"`{name}` is longer than {MAX_TEXT} characters")
    return value
