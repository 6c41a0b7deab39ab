"""A small server that speaks the part of OpenAI's API that the application uses, over real sockets.

In: chat completions. Out: an answer in as many pieces as it is told, the second only once the test allows it.
"""

import asyncio
import json
import threading

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse


class OpenAiServer:
    def __init__(self, pieces, ending="done", key="key-1"):
        self.pieces = pieces
        self.ending = ending
        self.key = key
        self.requests = []
        # Set by the test when it has seen the first piece; until then the second is held back.
        self.seen = threading.Event()
        self.app = FastAPI()
        self.app.post("/v1/chat/completions")(self.complete)
        self.app.get("/v1/models")(self.models)

    async def models(self):
        return {"object": "list", "data": [{"id": "small", "object": "model"}]}

    async def complete(self, request: Request):
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "no such key"}}, status_code=401)
        self.requests.append(await request.json())
        return StreamingResponse(self.stream(), media_type="text/event-stream")

    async def stream(self):
        yield b": a comment\n\n"
        for number, piece in enumerate(self.pieces):
            if number == 1:
                assert await asyncio.to_thread(self.seen.wait, 20), "nobody saw the first piece"
            event = {"choices": [{"index": 0, "delta": {"content": piece}}]}
            yield f"data: {json.dumps(event)}\r\n\r\n".encode()
        if self.ending == "error":
            yield b'data: {"error": {"message": "out of tokens"}}\n\n'
        if self.ending == "garbage":
            yield b"data: <html>\n\n"
        if self.ending == "done":
            yield b'data: {"choices": [], "usage": {"total_tokens": 3}}\n\n'
            yield b"data: [DONE]\n\n"
