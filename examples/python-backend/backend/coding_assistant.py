"""coding-assistant: `ai:message`, answered by the model while everybody in the project sees that it is at work.

In: `{message, projectId?, context?}`. Out: an empty part as the answer grows, which the contract turns into
`ai:processing` with its progress, then `result.response`, from which it makes `ai:response`. Never: an event of its own;
who may hear of the answer is the contract's to say.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

from .event import MAX_TEXT, Refusal, UpstreamEvent, text
from .services import Services

INSTRUCTION = "You are a coding assistant. Answer the user's message; the context, if any, follows it."

# One part per so much text: progress that moves, and not an event per word to a whole room.
CHARACTERS_PER_PART = 80


async def ai_message(event: UpstreamEvent, services: Services) -> AsyncIterator[dict[str, Any]]:
    payload = event.payload()
    prompt = text(payload, "message")
    context = payload.get("context")
    if context is not None:
        prompt = f"{prompt}\n\nContext: {json.dumps(context, ensure_ascii=False)}"
    if len(prompt) > MAX_TEXT:
        raise Refusal("TOO_LARGE", f"message and context are longer than {MAX_TEXT} characters")
    return _answer(services, prompt)


async def _answer(services: Services, prompt: str) -> AsyncIterator[dict[str, Any]]:
    pieces: list[str] = []
    untold = 0
    async for piece in services.model.answer(INSTRUCTION, prompt):
        first = not pieces
        pieces.append(piece)
        untold += len(piece)
        if first or untold >= CHARACTERS_PER_PART:
            untold = 0
            yield {}
    yield {"result": {"response": {"text": "".join(pieces), "actions": []}}}
