"""Who writes the answers: an OpenAI-compatible endpoint where one is configured, else a fixed rule.

In: an instruction and a prompt. Out: the answer, piece by piece as it is written. Never: state between two answers, an
answer without a bound, an endpoint's own words in an error that reaches a client.
"""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any, Protocol

import httpx

from .event import Refusal

log = logging.getLogger(__name__)

# A whole answer, in characters, and one line of the endpoint's stream, in bytes: an endpoint that runs away ends there.
MAX_ANSWER = 200_000
MAX_LINE = 1_000_000
WORDS_PER_PIECE = 4


class Model(Protocol):
    def answer(self, instruction: str, prompt: str) -> AsyncIterator[str]: ...

    async def load(self, name: str) -> dict[str, Any]: ...


class DemoModel:
    """Answers by rule, so that the example runs, and is tested, without any endpoint."""

    async def answer(self, instruction: str, prompt: str) -> AsyncIterator[str]:
        words = f"Demo answer to: {prompt}".split(" ")
        for start in range(0, len(words), WORDS_PER_PIECE):
            piece = " ".join(words[start : start + WORDS_PER_PIECE])
            yield piece if start == 0 else " " + piece

    async def load(self, name: str) -> dict[str, Any]:
        return {"model": name, "loaded": True, "provider": "demo"}


class OpenAiModel:
    """Streams `POST /chat/completions` of any endpoint that speaks OpenAI's API."""

    def __init__(self, client: httpx.AsyncClient, base_url: str, api_key: str | None, model: str) -> None:
        self._client = client
        self._base_url = base_url
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._model = model

    async def answer(self, instruction: str, prompt: str) -> AsyncIterator[str]:
        body = {
            "model": self._model,
            "stream": True,
            "messages": [{"role": "system", "content": instruction}, {"role": "user", "content": prompt}],
        }
        written = 0
        try:
            async with self._client.stream(
                "POST", f"{self._base_url}/chat/completions", json=body, headers=self._headers
            ) as response:
                response.raise_for_status()
                async for line in lines(response.aiter_bytes()):
                    piece, done = delta(line)
                    if done:
                        return
                    written += len(piece)
                    if written > MAX_ANSWER:
                        raise Refusal("TOO_LARGE", "the answer is longer than this application passes on")
                    if piece:
                        yield piece
        except (httpx.HTTPError, ValueError) as cause:
            log.warning("the model's endpoint failed: %r", cause)
            raise Refusal("UNAVAILABLE", "the model is not available") from cause
        # A stream that ends without its end mark was cut: what came is half an answer and must not pass for a whole one.
        raise Refusal("UNAVAILABLE", "the model's answer was cut")

    async def load(self, name: str) -> dict[str, Any]:
        try:
            response = await self._client.get(f"{self._base_url}/models", headers=self._headers)
            response.raise_for_status()
            known = {entry["id"] for entry in response.json()["data"]}
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as cause:
            log.warning("the model's endpoint does not list its models: %r", cause)
            raise Refusal("UNAVAILABLE", "the models cannot be listed") from cause
        if name not in known:
            raise Refusal("NOT_FOUND", "no such model")
        return {"model": name, "loaded": True, "provider": "openai-compatible"}


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a byte stream, each of bounded length (httpx's own splitter keeps an unbounded one)."""
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r")
        if len(rest) > MAX_LINE:
            raise ValueError("a line of the stream is too long")


def delta(line: bytes) -> tuple[str, bool]:
    """What one line of the event stream adds to the answer, and whether it is the end mark."""
    if not line.startswith(b"data:"):
        return "", False
    data = line.removeprefix(b"data:").strip()
    if data == b"[DONE]":
        return "", True
    event = json.loads(data)
    if not isinstance(event, dict) or "error" in event:
        raise ValueError("the endpoint reports an error")
    # The last event before the end mark carries only the usage, and no choice.
    choices = event.get("choices") or [{}]
    piece = (choices[0].get("delta") or {}).get("content") or ""
    if not isinstance(piece, str):
        raise ValueError("the piece is not text")
    return piece, False


async def whole(model: Model, instruction: str, prompt: str) -> str:
    return "".join([piece async for piece in model.answer(instruction, prompt)])
