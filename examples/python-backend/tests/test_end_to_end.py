"""The real gateway, this backend behind it, official Socket.IO clients in front: every upstream event and its replies.

In: the gateway's binary (`GATEWAY_BIN`, else the workspace's release or debug build). Each test runs with the gateway's
state in memory and in a Redis of its own.
"""

import asyncio
import base64
import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import jwt
import pytest
import socketio
from running import listening, process, redis_server, tcp_to, url
from test_image_worker import png

HERE = Path(__file__).resolve().parent.parent
JWT_SECRET = "a secret of this test that is long enough"
API_KEY = "the API key of this test"
# Nothing here takes a second; this is for a machine that is busy with other things.
PATIENCE = 30

CODX, TOOLBOX, AGENTS, GATE = "/codx", "/toolbox", "/agents", "/gate"
EVERYWHERE = ["/", CODX, TOOLBOX, AGENTS, GATE]


def gateway_binary() -> str:
    target = HERE.parent.parent / "target"
    named = os.environ.get("GATEWAY_BIN")
    for path in [Path(named)] if named else [target / "release/gateway", target / "debug/gateway"]:
        if path.is_file():
            return str(path.resolve())
    return pytest.fail("no gateway: run `cargo build --release` at the top, or set GATEWAY_BIN")


def setting(name: str) -> str:
    """A value of the example's own gateway.toml, which the tests run with."""
    for line in (HERE / "gateway.toml").read_text().splitlines():
        if line.startswith(f"{name} = "):
            return line.split('"')[1]
    raise KeyError(name)


class Running:
    def __init__(self, public: str, internal: str, backend: str, redis_url: str | None) -> None:
        self.public = f"http://{public}"
        self.internal = f"http://{internal}"
        self.backend = backend
        self.redis_url = redis_url


def ready(gateway: subprocess.Popen, log: Path) -> tuple[str, str]:
    """The two addresses of the line that the gateway prints when it is ready."""
    timer = threading.Timer(PATIENCE, gateway.kill)
    timer.start()
    line = gateway.stdout.readline()
    timer.cancel()
    assert line.startswith("ready "), f"the gateway said {line!r}\n{log.read_text()}"
    told = dict(part.split("=", 1) for part in line.split()[1:])
    return told["public"], told["internal"]


@pytest.fixture(scope="module", params=["memory", "redis"])
def running(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    env = os.environ | {"GATEWAY_JWT_SECRET": JWT_SECRET, "GATEWAY_API_KEY": API_KEY}
    env.pop("REDIS_URL", None)
    with contextlib.ExitStack() as stack:
        if request.param == "redis":
            path = stack.enter_context(redis_server()).removeprefix("unix://")
            env["REDIS_URL"] = stack.enter_context(tcp_to(path))
        listener = stack.enter_context(listening())
        config = folder / "gateway.toml"
        text = (HERE / "gateway.toml").read_text()
        config.write_text(text.replace("http://127.0.0.1:8000", url(listener)))
        log = folder / "gateway.log"
        command = [gateway_binary(), "serve", "--config", str(config)]
        command += ["--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"]
        stderr = stack.enter_context(log.open("w"))
        gateway = stack.enter_context(
            process(command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=stderr, text=True)
        )
        public, internal = ready(gateway, log)
        env |= {"WEBHOOK_SECRET": setting("secret"), "GATEWAY_API_URL": f"http://{internal}", "DATA_DIR": str(folder)}
        command = [sys.executable, "-m", "uvicorn", "backend.main:create_app", "--factory", "--fd", str(listener.fileno())]
        stack.enter_context(process(command, env=env, cwd=HERE, pass_fds=[listener.fileno()]))
        yield Running(public, internal, url(listener), env.get("REDIS_URL"))


class Client:
    """An official client that keeps what it hears, namespace by namespace, in the order in which it came."""

    def __init__(self) -> None:
        self.socket = socketio.AsyncClient(reconnection=False)
        self.heard: list[tuple[str, str, object]] = []
        self._news = asyncio.Event()
        self.socket.on("*", self._hear, namespace="*")

    async def _hear(self, event, namespace, *args):
        # Nothing is awaited, so what arrives together is kept in the order of its arrival.
        self.heard.append((namespace, event, args[0] if args else None))
        self._news.set()

    async def until(self, namespace, event, matches=lambda data: True):
        """The first such event, heard already or yet to come."""

        def found():
            return [data for at, name, data in self.heard if (at, name) == (namespace, event) and matches(data)]

        try:
            async with asyncio.timeout(PATIENCE):
                while not found():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pytest.fail(f"{event} in {namespace} did not come; heard: {self.heard}")
        return found()[0]

    def all(self, namespace, event):
        return [data for at, name, data in self.heard if (at, name) == (namespace, event)]

    async def call(self, namespace, event, data=None):
        return await self.socket.call(event, data, namespace=namespace, timeout=PATIENCE)


@pytest.fixture
async def connect(running):
    """Connects as somebody, or as nobody, to some namespaces."""
    async with contextlib.AsyncExitStack() as stack:

        async def connect(user, namespaces=EVERYWHERE):
            client = Client()
            auth = None
            if user is not None:
                auth = {"token": jwt.encode({"sub": user, "exp": int(time.time()) + 600}, JWT_SECRET, "HS256")}
            await client.socket.connect(running.public, auth=auth, namespaces=namespaces, wait_timeout=PATIENCE)
            stack.push_async_callback(client.socket.disconnect)
            return client

        yield connect


def is_ok(ack, event):
    assert ack["ok"] is True and ack["event"] == event and ack["ts"].endswith("Z"), ack


CONVERSATIONS = [
    ("codx-junior-chat", {}),
    ("codx-junior-subtasks", {}),
    ("codx-junior-improve", {}),
    ("codx-junior-generate-tasks", {}),
    ("codx-junior-improve-patch", {"patch": "-a +b"}),
    ("codx-junior-generate-code", {}),
]


@pytest.mark.parametrize("event, more", CONVERSATIONS, ids=[case[0] for case in CONVERSATIONS])
async def test_codx(connect, event, more):
    client = await connect(None, [CODX])
    payload = {"chat": {"name": "plan"}, "message": "split the login page, please"} | more
    ack = await client.call(CODX, event, payload)
    is_ok(ack, event)
    assert ack["result"]["done"] is True
    *parts, last = client.all(CODX, event)
    assert last == ack["result"]
    assert [part["part"] for part in parts] == list(range(1, len(parts) + 1)) and len(parts) > 1
    assert "".join(part["text"] for part in parts) == last["text"]
    assert "split the login page, please" in last["text"]


async def test_codx_load_model(connect):
    client = await connect(None, [CODX])
    event = "codx-junior-ai-load-model"
    ack = await client.call(CODX, event, {"model": "small"})
    is_ok(ack, event)
    assert ack["result"] == {"model": "small", "loaded": True, "provider": "demo"}
    assert await client.until(CODX, event) == ack["result"]
    ack = await client.call(CODX, event, {})
    assert ack["ok"] is False and ack["error"]["code"] == "BAD_PAYLOAD"


async def test_ai_message(connect):
    maria, omar = await connect("maria"), await connect("omar")
    for client in (maria, omar):
        is_ok(await client.call("/", "project:join", {"projectId": "p1"}), "project:join")
    ack = await maria.call("/", "ai:message", {"message": "why is it slow? " * 20, "projectId": "p1"})
    is_ok(ack, "ai:message")
    assert ack["response"]["text"].startswith("Demo answer to: why is it slow?")
    for client in (maria, omar):
        response = await client.until("/", "ai:response")
        assert response["response"] == ack["response"]
        assert response["data"]["response"] == ack["response"], "the envelope carries the fields too"
        assert response["event"] == "ai:response" and response["timestamp"]
        await client.until("/", "ai:processing", lambda data: data["status"] == "completed")
        assert len(client.all("/", "ai:response")) == 1, "once, also to the sender, who is in the room"
        heard = client.all("/", "ai:processing")
        assert [heard[0]["status"], heard[-1]["status"]] == ["started", "completed"]
        between = heard[1:-1]
        assert between and all(data["status"] == "progress" and data["progress"] >= 0 for data in between)
    assert (await omar.until("/", "ai:message"))["message"].startswith("why is it slow?")
    assert not maria.all("/", "ai:message")


async def test_content_request(connect):
    maria, omar = await connect("maria"), await connect("omar")
    ack = await maria.call(TOOLBOX, "content_request", {"topic": "rivers", "workflowId": "w1"})
    is_ok(ack, "content_request")
    assert ack["result"] == {"workflowId": "w1", "content": "Demo answer to: rivers"}
    result = await maria.until(AGENTS, "agent:result")
    assert result["data"]["content"] == "Demo answer to: rivers" and result["timestamp"]
    assert len(maria.all(AGENTS, "agent:thought")) == 1 and len(maria.all(AGENTS, "agent:tool_call")) == 2
    await maria.socket.emit("content_request", {"topic": "lakes"}, namespace=TOOLBOX)
    told = await maria.until(TOOLBOX, "content_request_result")
    assert told["content"] == "Demo answer to: lakes"
    # What omar hears of his own request is the first that he hears: nothing of maria's went to him.
    await omar.call(TOOLBOX, "content_request", {"topic": "seas", "workflowId": "w1"})
    await omar.until(AGENTS, "agent:result")
    assert [data["data"]["content"] for data in omar.all(AGENTS, "agent:result")] == ["Demo answer to: seas"]


async def test_quiz_response(connect):
    maria, nobody = await connect("maria"), await connect(None, [TOOLBOX])
    for answer, correct in (("paris", True), ("Rome", False)):
        ack = await maria.call(TOOLBOX, "quiz_response", {"quizId": "capital-1", "answer": answer})
        is_ok(ack, "quiz_response")
        assert ack["result"]["correct"] is correct, answer
    ack = await nobody.call(TOOLBOX, "quiz_response", {"quizId": "capital-1", "answer": "paris"})
    assert ack["ok"] is False and ack["error"]["code"] == "UNAUTHORIZED"


async def test_agents_run(running, connect):
    maria = await connect("maria", [AGENTS])
    is_ok(await maria.call(AGENTS, "workflow:subscribe", {"workflowId": "w9"}), "workflow:subscribe")
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        run = {"workflowId": "w9", "prompt": "rivers"}
        response = await client.post(f"{running.backend}/agents/run", json=run)
    assert response.json()["failed"] == 0, response.text
    await maria.until(AGENTS, "agent:result")
    assert [event for _, event, _ in maria.heard] == [
        "agent:thought",
        "agent:tool_call",
        "agent:tool_call",
        "agent:result",
    ]
    for _, event, data in maria.heard:
        assert data["workflowId"] == "w9" and event == f"agent:{data['type']}" and data["timestamp"]


async def start_session(client):
    await client.socket.emit("start_session", {}, namespace=GATE)
    started = await client.until(GATE, "session_started")
    assert started["status"] == "success"
    return started["session_id"]


async def test_send_message_until_a_decision(connect):
    visitor, watcher = await connect(None, [GATE]), await connect(None, [GATE])
    session = await start_session(visitor)
    is_ok(await watcher.call(GATE, "join_session_updates", {"session_id": session}), "join_session_updates")
    said = ["Maria", "a meeting", "Dr. Chen"]
    for number, message in enumerate(said, 1):
        is_ok(await visitor.call(GATE, "send_message", {"session_id": session, "message": message}), "send_message")
        replies = visitor.all(GATE, "chat_response")
        assert len(replies) == number
        assert replies[-1]["session_complete"] is (number == len(said))
        assert replies[-1]["agent_response"]
    for client in (visitor, watcher):
        update = await client.until(GATE, "session_update")
        assert update["type"] == "session_complete"
        assert update["profile"] == {"name": "Maria", "purpose": "a meeting", "host": "Dr. Chen"}
        assert update["final_response"] == "Welcome, Maria. You may enter."
    await visitor.socket.emit("get_profile", {"session_id": session}, namespace=GATE)
    profile = await visitor.until(GATE, "profile_data")
    assert profile == {
        "visitor_profile": update["profile"],
        "decision": "allow",
        "decision_confidence": 0.8,
        "session_active": False,
    }
    ack = await visitor.call(GATE, "send_message", {"session_id": session, "message": "one more"})
    assert ack["ok"] is False and ack["error"]["code"] == "FORBIDDEN"
    refused = await visitor.until(GATE, "error")
    assert refused == {"msg": "this session is complete; start a new one", "code": "FORBIDDEN"}


async def test_request_threat_logs(connect):
    client = await connect(None, [GATE])
    await client.socket.emit("request_threat_logs", {}, namespace=GATE)
    logs = await client.until(GATE, "threat_logs")
    assert [entry["level"] for entry in logs] == ["low", "high"]


async def test_upload_image(running, connect):
    if running.redis_url is None:
        pytest.skip("in memory the images wait inside the gateway, where no worker can read them")
    env = os.environ | {"REDIS_URL": running.redis_url, "GATEWAY_API_URL": running.internal, "GATEWAY_API_KEY": API_KEY}
    client = await connect(None, [GATE])
    session = await start_session(client)
    image = base64.b64encode(png(3, 2)).decode()
    with process([sys.executable, "image_worker.py"], env=env, cwd=HERE):
        await client.socket.emit("upload_image", {"session_id": session, "image": image}, namespace=GATE)
        queued = await client.until(GATE, "image_upload_response")
        assert queued["status"] == "success"
        update = await client.until(GATE, "session_update")
    assert update["type"] == "image_processed"
    assert update["image_id"] == queued["image_id"]
    assert (update["image"]["format"], update["image"]["width"], update["image"]["height"]) == ("PNG", 3, 2)


async def test_only_the_gateway_may_post_events(running, event):
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        response = await client.post(f"{running.backend}/events", json=event("security-gate", "request_threat_logs", {}))
    assert response.status_code == 401
