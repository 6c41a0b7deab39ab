"""codx: seven events, six of them a conversation with the model and one that loads a model.

In: `{chat: {name, …}, message, …}`. Out: the answer piece by piece as events of the same name to the sender, then the
whole as `result`. Never: a chat kept in memory; `codx-junior-improve` saves its chat as a file.
"""

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from .event import Refusal, UpstreamEvent, text
from .services import Services

IMPROVE = "codx-junior-improve"
IMPROVE_PATCH = "codx-junior-improve-patch"

INSTRUCTIONS = {
    "codx-junior-chat": "You answer questions about the user's project.",
    "codx-junior-subtasks": "Split what the user asks for into subtasks, one a line.",
    IMPROVE: "Improve the code that the user describes and say what you changed.",
    "codx-junior-generate-tasks": "Write the tasks that follow from the user's chat, one a line.",
    IMPROVE_PATCH: "Improve the patch as the user asks and answer with the new patch alone.",
    "codx-junior-generate-code": "Write the code that the user asks for and answer with the code alone.",
}

# The answers that are lists or code carry them once more under a name of their own.
LISTS = {"codx-junior-subtasks": "subtasks", "codx-junior-generate-tasks": "tasks"}
TEXTS = {IMPROVE_PATCH: "patch", "codx-junior-generate-code": "code"}

# Chats on the disk; past that a new name is refused, since anonymous clients may invent names without end.
MAX_SAVED_CHATS = 1_000


async def converse(event: UpstreamEvent, services: Services) -> AsyncIterator[dict[str, Any]]:
    payload = event.payload()
    chat = payload.get("chat")
    if not isinstance(chat, dict):
        raise Refusal("BAD_PAYLOAD", "`chat` must be an object")
    name = text(chat, "name")
    prompt = text(payload, "message")
    if event.event == IMPROVE_PATCH:
        prompt = f"{prompt}\n\n{text(payload, 'patch')}"
    return _answer(event, services, name, prompt)


async def _answer(event: UpstreamEvent, services: Services, name: str, prompt: str) -> AsyncIterator[dict[str, Any]]:
    chat = {"name": name}
    pieces: list[str] = []
    async for piece in services.model.answer(INSTRUCTIONS[event.event], prompt):
        pieces.append(piece)
        part = {"chat": chat, "part": len(pieces), "text": piece}
        yield {"emit": [{"event": event.event, "data": part}]}
    answer = "".join(pieces)
    result: dict[str, Any] = {"chat": chat, "done": True, "text": answer}
    if event.event in LISTS:
        result[LISTS[event.event]] = [line.strip() for line in answer.splitlines() if line.strip()]
    if event.event in TEXTS:
        result[TEXTS[event.event]] = answer
    if event.event == IMPROVE:
        saved = {"owner": event.owner(), "name": name, "message": prompt, "answer": answer}
        await asyncio.to_thread(save_chat, services.settings.data_dir / "chats", saved)
        result["saved"] = True
    yield {"result": result}


def save_chat(folder: Path, chat: dict[str, str]) -> None:
    """One file per owner and chat, replaced as a whole. The name is hashed: a client's words are never a path."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(f"{chat['owner']}\0{chat['name']}".encode()).hexdigest()
    path = folder / f"{digest}.json"
    if not path.exists() and sum(1 for _ in folder.glob("*.json")) >= MAX_SAVED_CHATS:
        raise Refusal("LIMIT_EXCEEDED", "too many chats are saved")
    handle, temporary = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(chat, file)
    os.replace(temporary, path)


async def load_model(event: UpstreamEvent, services: Services) -> dict[str, Any]:
    return {"result": await services.model.load(text(event.payload(), "model"))}
