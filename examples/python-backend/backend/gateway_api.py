"""The gateway's server API as this application uses it: emit one event.

In: an event and who is to hear it. Out: one `POST /v1/emit`. Never: a second attempt; the caller decides what a failure
means and gives an idempotency key where it will try again.
"""

from typing import Any

import httpx


class EmitFailed(Exception):
    """`permanent` says that the same call would be refused again."""

    def __init__(self, message: str, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


def request(base_url: str, key: str, command: dict[str, Any], idempotency_key: str | None = None) -> httpx.Request:
    headers = {"authorization": f"Bearer {key}"}
    if idempotency_key:
        headers["idempotency-key"] = idempotency_key
    return httpx.Request("POST", f"{base_url}/v1/emit", json=command, headers=headers)


def check(response: httpx.Response) -> None:
    """A wrong key, a limit or an outage passes with time; any other refusal is of the command itself."""
    if response.status_code == 200:
        return
    permanent = 400 <= response.status_code < 500 and response.status_code not in (401, 408, 409, 429)
    raise EmitFailed(f"the gateway answered {response.status_code}: {response.text[:300]}", permanent)


class GatewayApi:
    def __init__(self, client: httpx.AsyncClient, base_url: str, key: str) -> None:
        self._client = client
        self._base_url = base_url
        self._key = key

    async def emit(self, namespace: str, event: str, data: dict[str, Any], to: dict[str, Any] | None) -> None:
        command: dict[str, Any] = {"namespace": namespace, "event": event, "data": data}
        if to is not None:
            command["to"] = to
        try:
            response = await self._client.send(request(self._base_url, self._key, command))
        except httpx.HTTPError as cause:
            raise EmitFailed(f"the gateway cannot be reached: {cause!r}", permanent=False) from cause
        check(response)
