"""An agent at work, told step by step to whoever follows it: `agent:thought`, `agent:tool_call`, `agent:result`, `agent:error`.

In: a workflow's id, a prompt, who is to hear of it. Out: agent events through the gateway's server API, and the text.
Never: a run that fails because somebody could not be told of it; a failed emit is logged, and the caller told the count.
"""

import logging
from dataclasses import dataclass
from typing import Any

from .event import Refusal
from .gateway_api import EmitFailed, GatewayApi
from .model import Model, whole

log = logging.getLogger(__name__)

INSTRUCTION = "You write short learning material on what the user asks for."


@dataclass(frozen=True)
class Run:
    workflow_id: str
    content: str
    emitted: int
    failed: int


class Agents:
    def __init__(self, api: GatewayApi, model: Model, namespace: str) -> None:
        self._api = api
        self._model = model
        self._namespace = namespace

    async def run(self, workflow_id: str, prompt: str, to: dict[str, Any]) -> Run:
        """Write the content and tell `to` of every step; a model that fails is told as `agent:error` and raised."""
        told = [
            await self._tell(to, "thought", workflow_id, {"content": f"Planning an answer to: {prompt[:200]}"}),
            await self._tell(to, "tool_call", workflow_id, tool("in_progress", "Writing the content")),
        ]
        try:
            content = await whole(self._model, INSTRUCTION, prompt)
        except Refusal as refusal:
            data = {"code": "GENERATION_FAILED", "message": refusal.message, "details": {"code": refusal.code}}
            await self._tell(to, "error", workflow_id, data)
            raise
        data = {"status": "success", "content_type": "text", "content": content}
        told += [
            await self._tell(to, "tool_call", workflow_id, tool("completed", "The content is written")),
            await self._tell(to, "result", workflow_id, data),
        ]
        return Run(workflow_id, content, emitted=told.count(True), failed=told.count(False))

    async def _tell(self, to: dict[str, Any], kind: str, workflow_id: str, data: dict[str, Any]) -> bool:
        # The gateway adds the timestamp: one clock orders what several agents report.
        payload = {"type": kind, "workflowId": workflow_id, "data": data}
        try:
            await self._api.emit(self._namespace, f"agent:{kind}", payload, to)
        except EmitFailed as failure:
            log.warning("agent:%s of a workflow was not emitted: %s", kind, failure)
            return False
        return True


def tool(status: str, message: str) -> dict[str, Any]:
    return {"tool_name": "generate_content", "status": status, "message": message}
