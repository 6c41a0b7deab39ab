"""The realtime client of AI Coding Assistant.

Calls come in, the gateway's acks go out as return values; a refusal, a lost connection and a time-out are raised
with a code. It is a thin layer on python-socketio's synchronous client and never hides it: whatever is not here is on
``client``.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, List, Optional

import socketio
from socketio import exceptions

__all__ = ["AICodingAssistantError", "AICodingAssistantSocket"]

Handler = Callable[..., Any]


class AICodingAssistantError(Exception):
    """Why a call failed: ``code`` is the gateway's, or ``TIMEOUT``, ``NOT_CONNECTED``, ``CONNECT_ERROR`` of this side."""

    def __init__(self, code: str, message: str, event: Optional[str] = None, details: Optional[Dict[str, Any]] = None):
        super().__init__(f"{event}: {message}" if event else message)
        self.code = code
        self.event = event
        self.details = details or {}


class AICodingAssistantSocket:
    """One connection to the gateway; options besides the named ones are those of ``socketio.Client``."""

    def __init__(
        self,
        base_url: str,
        session_id: Optional[str] = None,
        *,
        user_id: Optional[str] = None,
        timeout: float = 20.0,
        **options: Any,
    ):
        self.client = socketio.Client(**options)
        self.user: Optional[Dict[str, Any]] = None
        self._base_url = base_url
        self._session_id = session_id
        self._user_id = user_id
        self._timeout = timeout
        self._projects: List[str] = []
        self._own_handlers: Dict[str, Handler] = {}
        # True from the server's CONNECT on, which is earlier than the client itself says so.
        self._live = False
        # Set once the present connection is logged in and back in its projects, or has failed to be.
        self._ready = threading.Event()
        self._failure: Optional[AICodingAssistantError] = None
        self._refusal = ""
        self.client.on("connect", self._connected)
        self.client.on("connect_error", self._refused)
        self.client.on("disconnect", self._disconnected)

    @property
    def connected(self) -> bool:
        return self._live

    def connect(self, timeout: float = 20.0, **options: Any) -> None:
        """Connects, and logs in where there is a session; options are those of ``socketio.Client.connect``."""
        if self._live:
            return
        self._ready.clear()
        self._refusal = ""
        try:
            self.client.connect(self._base_url, wait_timeout=timeout, **options)
            self._await_ready("connect", timeout)
        except exceptions.ConnectionError as error:
            raise AICodingAssistantError("CONNECT_ERROR", self._refusal or str(error) or "no connection") from error
        except AICodingAssistantError:
            self.client.disconnect()
            raise

    def join_project(self, project_id: str) -> List[Dict[str, Any]]:
        """Joins a project and returns those present. After a reconnection it is joined again."""
        ack = self.request("project:join", self._as({"projectId": project_id}))
        if project_id not in self._projects:
            self._projects.append(project_id)
        return ack.get("users", [])

    def leave_project(self, project_id: str) -> None:
        if project_id in self._projects:
            self._projects.remove(project_id)
        self.request("project:leave", self._as({"projectId": project_id}))

    def send_ai_message(
        self,
        message: str,
        project_id: Optional[str] = None,
        context: Optional[Dict[str, Any]] = None,
        timeout: float = 60.0,
    ) -> Any:
        """Sends a message to the assistant and returns its response."""
        payload: Dict[str, Any] = {"message": message}
        if project_id is not None:
            payload["projectId"] = project_id
        if context is not None:
            payload["context"] = context
        return self.request("ai:message", self._as(payload), timeout=timeout).get("response")

    def request(self, event: str, payload: Optional[Dict[str, Any]] = None, timeout: Optional[float] = None) -> Dict[str, Any]:
        """Sends any event and returns its ack, raising where that says no."""
        if not self._live:
            raise AICodingAssistantError("NOT_CONNECTED", "not connected", event)
        self._await_ready(event, self._timeout)
        return self._ask(event, payload or {}, self._timeout if timeout is None else timeout)

    def on(self, event: str, handler: Optional[Handler] = None) -> Any:
        """Registers a handler, as a call or as a decorator."""
        if handler is None:
            return lambda given: self.on(event, given)
        if event in ("connect", "connect_error", "disconnect"):
            self._own_handlers[event] = handler
        else:
            self.client.on(event, handler)
        return handler

    def wait(self) -> None:
        """Blocks until the connection ends for good."""
        self.client.wait()

    def disconnect(self) -> None:
        self.client.disconnect()

    def _as(self, payload: Dict[str, Any]) -> Dict[str, Any]:
        """Where nobody is logged in, the payload says who speaks; a logged-in user is known to the gateway."""
        if self._session_id is None and self._user_id is not None:
            return {**payload, "userId": self._user_id}
        return payload

    def _connected(self) -> None:
        self._live = True
        self._failure = None
        # The client's own connect() waits for this handler, and on a reconnection for no more than a second.
        self.client.start_background_task(self._restore)

    def _restore(self) -> None:
        """A new connection knows nothing of the former one: log in again, then return to the projects."""
        try:
            if self._session_id is not None:
                self.user = self._ask("auth:session", {"sessionId": self._session_id}, self._timeout).get("user")
            for project_id in list(self._projects):
                self._ask("project:join", self._as({"projectId": project_id}), self._timeout)
        except AICodingAssistantError as error:
            self._failure = error
        self._ready.set()
        if self._failure is None:
            self._tell("connect")

    def _refused(self, data: Any = None) -> None:
        self._refusal = str(data.get("message", "")) if isinstance(data, dict) else str(data or "")
        self._tell("connect_error", data)

    def _disconnected(self, reason: str = "") -> None:
        self._live = False
        self._ready.clear()
        self._tell("disconnect", reason)

    def _tell(self, event: str, *args: Any) -> None:
        """Calls the caller's own handler of an event that this class handles too."""
        if event in self._own_handlers:
            self._own_handlers[event](*args)

    def _await_ready(self, event: str, timeout: float) -> None:
        if not self._ready.wait(timeout):
            raise AICodingAssistantError("TIMEOUT", f"not logged in within {timeout:g} s", event)
        if self._failure is not None:
            raise self._failure

    def _ask(self, event: str, payload: Dict[str, Any], timeout: float) -> Dict[str, Any]:
        try:
            ack = self.client.call(event, payload, timeout=timeout)
        except exceptions.TimeoutError as error:
            if not self._live:
                raise AICodingAssistantError("NOT_CONNECTED", "the connection was lost", event) from error
            raise AICodingAssistantError("TIMEOUT", f"no answer within {timeout:g} s", event) from error
        except exceptions.SocketIOError as error:
            raise AICodingAssistantError("NOT_CONNECTED", str(error) or "the connection was lost", event) from error
        if not isinstance(ack, dict):
            return {}
        if ack.get("ok") is False:
            details = dict(ack.get("error") or {})
            code = details.pop("code", "INTERNAL")
            raise AICodingAssistantError(code, details.pop("message", "refused"), event, details)
        return ack
