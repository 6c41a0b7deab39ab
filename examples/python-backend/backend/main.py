"""The HTTP side: `POST /events` for the gateway, `POST /agents/run` for whoever starts agents, `GET /health`.

    body (bounded) → signature → UpstreamEvent → handler by contract and event → one JSON object, or NDJSON as it is written

In: requests. Out: the answers that the gateway acts on. Never: state between two requests, a stack trace to a client.
"""

import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field, ValidationError

from . import codx, coding_assistant, security_gate, toolbox
from .agents import Agents
from .event import MAX_TEXT, Refusal, UpstreamEvent
from .gateway_api import GatewayApi
from .model import DemoModel, OpenAiModel
from .services import Services
from .settings import Settings
from .signature import BadSignature, verify

log = logging.getLogger(__name__)

Answer = dict[str, Any] | AsyncIterator[dict[str, Any]]
Handler = Callable[[UpstreamEvent, Services], Awaitable[Answer]]

# agent-stream is not here: its clients send nothing that reaches the application, they hear of agents.
HANDLERS: dict[tuple[str, str], Handler] = {
    **{("codx", event): codx.converse for event in codx.INSTRUCTIONS},
    ("codx", "codx-junior-ai-load-model"): codx.load_model,
    ("coding-assistant", "ai:message"): coding_assistant.ai_message,
    ("toolbox", "content_request"): toolbox.content_request,
    ("toolbox", "quiz_response"): toolbox.quiz_response,
    ("security-gate", "send_message"): security_gate.send_message,
    ("security-gate", "request_threat_logs"): security_gate.threat_logs,
}


class AgentRun(BaseModel):
    workflowId: str = Field(min_length=1, max_length=128)
    prompt: str = Field(min_length=1, max_length=MAX_TEXT)


def create_app(settings: Settings | None = None, gateway: httpx.AsyncBaseTransport | None = None) -> FastAPI:
    """The application. `gateway` replaces the network on the way to the server API."""
    settings = settings or Settings.from_environment()
    to_model = httpx.AsyncClient(timeout=httpx.Timeout(30, connect=5))
    # The gateway is beside us, so a proxy that the environment names is not for it.
    to_gateway = httpx.AsyncClient(transport=gateway, timeout=5, trust_env=False)
    services = build(settings, to_model, to_gateway)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await to_model.aclose()
        await to_gateway.aclose()

    app = FastAPI(title="Backend behind the gateway", lifespan=lifespan)

    @app.post("/events")
    async def events(request: Request) -> Response:
        try:
            body = await read(request, settings.max_body_bytes)
            if settings.webhook_key is not None:
                verify(settings.webhook_key, request.headers, body, time.time())
            return await handle(body, services)
        except BadSignature as failure:
            # No `error` object: a secret that differs is this application's trouble, not the client's refusal.
            log.warning("a request is refused: %s", failure)
            return JSONResponse({"detail": str(failure)}, status_code=401)
        except Refusal as refusal:
            return JSONResponse(refusal.answer(), status_code=refusal.status)

    @app.post("/agents/run")
    async def run_agent(run: AgentRun, request: Request) -> Response:
        given = request.headers.get("authorization", "").encode()
        wanted = f"Bearer {settings.agent_run_key}".encode()
        if settings.agent_run_key and not hmac.compare_digest(given, wanted):
            return JSONResponse({"detail": "AGENT_RUN_KEY is not matched"}, status_code=401)
        if services.agents is None:
            return JSONResponse({"detail": "GATEWAY_API_URL is not set"}, status_code=503)
        try:
            done = await services.agents.run(run.workflowId, run.prompt, {"rooms": [f"workflow:{run.workflowId}"]})
        except Refusal as refusal:
            return JSONResponse(refusal.answer(), status_code=refusal.status)
        told = {"workflowId": done.workflow_id, "content": done.content, "emitted": done.emitted, "failed": done.failed}
        return JSONResponse(told)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    return app


def build(settings: Settings, to_model: httpx.AsyncClient, to_gateway: httpx.AsyncClient) -> Services:
    model: DemoModel | OpenAiModel = DemoModel()
    if settings.openai_base_url and settings.openai_model:
        model = OpenAiModel(to_model, settings.openai_base_url, settings.openai_api_key, settings.openai_model)
    agents = None
    if settings.gateway_api_url and settings.gateway_api_key:
        api = GatewayApi(to_gateway, settings.gateway_api_url, settings.gateway_api_key)
        agents = Agents(api, model, settings.agent_namespace)
    return Services(settings, model, agents)


async def read(request: Request, limit: int) -> bytes:
    """The raw body (a signature is of bytes, not of what they mean), given up as soon as it is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise Refusal("TOO_LARGE", f"the body is longer than {limit} bytes")
    return bytes(body)


async def handle(body: bytes, services: Services) -> Response:
    try:
        event = UpstreamEvent.model_validate_json(body)
    except ValidationError as cause:
        raise Refusal("BAD_PAYLOAD", "the body is not an upstream event") from cause
    handler = HANDLERS.get((event.contract, event.event))
    if handler is None:
        raise Refusal("UNKNOWN_EVENT", "this application does not serve the event")
    answer = await handler(event, services)
    if isinstance(answer, dict):
        return JSONResponse(answer)
    return StreamingResponse(ndjson(answer), media_type="application/x-ndjson")


async def ndjson(parts: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """One JSON object a line, as each is ready. The status is sent already, so a failure is the last line."""
    try:
        async for part in parts:
            yield line(part)
    except Refusal as refusal:
        yield line(refusal.answer())
    except Exception:
        log.exception("a streamed answer failed")
        yield line(Refusal("INTERNAL", "the application failed").answer())


def line(part: dict[str, Any]) -> bytes:
    return json.dumps(part, ensure_ascii=False).encode() + b"\n"
