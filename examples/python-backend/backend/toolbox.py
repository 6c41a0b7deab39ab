"""toolbox: `content_request`, written by the agent, and `quiz_response`, marked against the answers in `content/quizzes.json`.

In: any object of a user who is logged in. Out: `result`, which the gateway puts into the ack. Never: a mark that is
remembered; whoever needs a record stores it in a database of his own here.
"""

import asyncio
import json
import uuid
from typing import Any

from .agents import INSTRUCTION
from .event import MAX_TEXT, Refusal, UpstreamEvent
from .model import whole
from .services import Services


async def content_request(event: UpstreamEvent, services: Services) -> dict[str, Any]:
    user = event.connection.user
    if user is None:
        raise Refusal("UNAUTHORIZED", "log in first")
    payload = event.payload()
    topic = payload.get("topic") or payload.get("prompt")
    prompt = topic if isinstance(topic, str) else json.dumps(payload, ensure_ascii=False)
    if len(prompt) > MAX_TEXT:
        raise Refusal("TOO_LARGE", f"the request is longer than {MAX_TEXT} characters")
    named = payload.get("workflowId") or payload.get("workflow_id")
    workflow_id = named if isinstance(named, str) and len(named) <= 128 else str(uuid.uuid4())
    if services.agents is None:
        content = await whole(services.model, INSTRUCTION, prompt)
    else:
        # The user's own connections alone: the workflow's name is a client's word, and its room may be somebody else's.
        content = (await services.agents.run(workflow_id, prompt, {"users": [user.id]})).content
    return {"result": {"workflowId": workflow_id, "content": content}}


async def quiz_response(event: UpstreamEvent, services: Services) -> dict[str, Any]:
    if event.connection.user is None:
        raise Refusal("UNAUTHORIZED", "log in first")
    payload = event.payload()
    quiz_id = payload.get("quizId") or payload.get("quiz_id")
    quizzes = json.loads(await asyncio.to_thread((services.settings.content_dir / "quizzes.json").read_bytes))
    quiz = quizzes.get(quiz_id) if isinstance(quiz_id, str) else None
    if quiz is None:
        return {"result": {"received": True, "correct": None, "feedback": "This quiz has no stored answer."}}
    correct = str(payload.get("answer", "")).strip().casefold() == quiz["answer"].casefold()
    feedback = "Correct." if correct else quiz["hint"]
    return {"result": {"received": True, "quizId": quiz_id, "correct": correct, "feedback": feedback}}
