"""The server API's front door as seen by its callers: it checks what it is sent and remembers it.

The real gateway is behind the same calls in `test_end_to_end.py`; this one also refuses and fails when it is told to.
"""

import threading

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse


class GatewayApiServer:
    def __init__(self, answers=()):
        self.answers = list(answers)
        self.commands = []
        self.keys = []
        self.emitted = threading.Semaphore(0)
        self.app = FastAPI()
        self.app.post("/v1/emit")(self.emit)

    async def emit(self, request: Request):
        if request.headers.get("authorization") != "Bearer api-key":
            return JSONResponse({"ok": False, "error": {"code": "UNAUTHORIZED", "message": "no"}}, status_code=401)
        status = self.answers.pop(0) if self.answers else 200
        self.keys.append(request.headers.get("idempotency-key"))
        if status != 200:
            return JSONResponse({"ok": False, "error": {"code": "INTERNAL", "message": "no"}}, status_code=status)
        self.commands.append(await request.json())
        self.emitted.release()
        return {"ok": True}
