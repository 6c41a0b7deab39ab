"""security-gate: a visitor is asked three things, then a rule decides; and the log of threats.

In: the visitor's message with the session's stored `state`. Out: `result` and a merge patch of `state`. Never: anything
remembered here (the gateway keeps the state and hands over one message of a session at a time), and never a decision
by the model, which only words the questions.
"""

import asyncio
import json
from typing import Any

from .event import Refusal, UpstreamEvent, text
from .model import DemoModel, whole
from .services import Services

# What is asked, in this order: the field of the profile that an answer fills, and the question.
QUESTIONS = [
    ("name", "Please tell me your name."),
    ("purpose", "What is the purpose of your visit?"),
    ("host", "Whom are you visiting?"),
]

INSTRUCTION = "You are a polite guard at a gate. Put the question that the user gives you into one friendly sentence."

ALARMING = ("weapon", "bomb", "explosive", "break in", "steal", "attack")

# A profile is shown on a screen, and the state is stored with every message: an answer longer than this is cut.
MAX_ANSWER = 500


async def send_message(event: UpstreamEvent, services: Services) -> dict[str, Any]:
    message = text(event.payload(), "message")
    state = event.state or {}
    if state.get("session_active") is False:
        raise Refusal("FORBIDDEN", "this session is complete; start a new one")
    stored = state.get("visitor_profile")
    profile = dict(stored) if isinstance(stored, dict) else {}
    unanswered = [question for question in QUESTIONS if question[0] not in profile]
    if unanswered:
        profile[unanswered[0][0]] = message.strip()[:MAX_ANSWER]
    if len(unanswered) > 1:
        reply = await word(services, unanswered[1][1])
        return {
            "result": {"agent_response": reply, "session_complete": False},
            "state": {"visitor_profile": profile},
        }
    decision, confidence, final = decide(profile)
    return {
        "result": {
            "agent_response": final,
            "session_complete": True,
            "profile": profile,
            "final_response": final,
        },
        "state": {
            "visitor_profile": profile,
            "decision": decision,
            "decision_confidence": confidence,
            "session_active": False,
        },
    }


async def word(services: Services, question: str) -> str:
    if isinstance(services.model, DemoModel):
        return question
    return await whole(services.model, INSTRUCTION, question)


def decide(profile: dict[str, Any]) -> tuple[str, float, str]:
    """The decision, how sure it is, and what the visitor is told."""
    said = " ".join(str(value) for value in profile.values()).casefold()
    if any(word in said for word in ALARMING):
        return "deny", 0.9, "Access denied. Please wait for a member of staff."
    return "allow", 0.8, f"Welcome, {profile.get('name', 'visitor')}. You may enter."


async def threat_logs(event: UpstreamEvent, services: Services) -> dict[str, Any]:
    path = services.settings.content_dir / "threat_log.json"
    try:
        logs = json.loads(await asyncio.to_thread(path.read_bytes))
    except (OSError, ValueError) as cause:
        raise Refusal("NOT_FOUND", "the threat log is missing or invalid") from cause
    if not isinstance(logs, list):
        raise Refusal("NOT_FOUND", "the threat log is missing or invalid")
    return {"result": {"logs": logs}}
