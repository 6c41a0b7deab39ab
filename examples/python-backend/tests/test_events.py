"""Each upstream event of each contract, and what is refused."""

import dataclasses
import json

import pytest

from backend.codx import MAX_SAVED_CHATS

MARIA = {"id": "maria", "name": "Maria"}
CHAT = {"chat": {"name": "plan", "messages": []}, "message": "split the login page"}
ANSWER = "Demo answer to: split the login page"


async def post(client, body):
    response = await client.post("/events", json=body)
    if response.headers["content-type"].startswith("application/x-ndjson"):
        return response.status_code, [json.loads(line) for line in response.text.splitlines()]
    return response.status_code, response.json()


CONVERSATIONS = [
    ("codx-junior-chat", {}, {}),
    ("codx-junior-subtasks", {}, {"subtasks": [ANSWER]}),
    ("codx-junior-improve", {}, {"saved": True}),
    ("codx-junior-generate-tasks", {}, {"tasks": [ANSWER]}),
    ("codx-junior-improve-patch", {"patch": "-a +b"}, {"patch": f"{ANSWER}\n\n-a +b"}),
    ("codx-junior-generate-code", {}, {"code": ANSWER}),
]


@pytest.mark.parametrize("name, more, extra", CONVERSATIONS, ids=[case[0] for case in CONVERSATIONS])
async def test_codx_conversations(calling, event, name, more, extra):
    async with calling() as client:
        status, lines = await post(client, event("codx", name, CHAT | more))
    assert status == 200
    *parts, last = lines
    assert len(parts) > 1
    emitted = [part["emit"][0] for part in parts]
    assert {emit["event"] for emit in emitted} == {name}
    assert all("to" not in emit for emit in emitted), "the parts are for the sender"
    assert [emit["data"]["part"] for emit in emitted] == list(range(1, len(parts) + 1))
    text = "".join(emit["data"]["text"] for emit in emitted)
    assert text == (f"{ANSWER}\n\n-a +b" if more else ANSWER)
    assert last == {"result": {"chat": {"name": "plan"}, "done": True, "text": text} | extra}


async def test_codx_load_model(calling, event):
    async with calling() as client:
        status, answer = await post(client, event("codx", "codx-junior-ai-load-model", {"model": "small"}))
        assert (status, answer) == (200, {"result": {"model": "small", "loaded": True, "provider": "demo"}})
        status, answer = await post(client, event("codx", "codx-junior-ai-load-model", {}))
        assert (status, answer["error"]["code"]) == (400, "BAD_PAYLOAD")


async def test_improve_saves_the_chat_and_only_so_many(calling, event, settings):
    name = {"chat": {"name": "../../etc/passwd"}, "message": "better"}
    chats = settings.data_dir / "chats"
    async with calling() as client:
        await post(client, event("codx", "codx-junior-improve", name, user=MARIA))
        [saved] = chats.glob("*")
        content = json.loads(saved.read_text())
        assert content["owner"] == "user:maria"
        assert content["name"] == "../../etc/passwd"
        assert content["answer"] == "Demo answer to: better"
        for number in range(MAX_SAVED_CHATS - 1):
            (chats / f"{number}.json").write_text("{}")
        _, lines = await post(client, event("codx", "codx-junior-improve", CHAT, user=MARIA))
        assert lines[-1]["error"]["code"] == "LIMIT_EXCEEDED"
        _, lines = await post(client, event("codx", "codx-junior-improve", name, user=MARIA))
        assert lines[-1]["result"]["saved"], "a chat that is saved already may be saved again"


async def test_ai_message(calling, event):
    payload = {"message": "why " * 100, "projectId": "p1", "context": {"file": "a.rs"}}
    async with calling() as client:
        status, lines = await post(client, event("coding-assistant", "ai:message", payload))
    assert status == 200
    *parts, last = lines
    assert len(parts) > 3 and all(part == {} for part in parts)
    assert last["result"]["response"]["text"].startswith("Demo answer to: why why")
    assert '{"file": "a.rs"}' in last["result"]["response"]["text"]


async def test_content_request(calling, event):
    async with calling() as client:
        payload = {"topic": "rivers", "workflow_id": "w1"}
        status, answer = await post(client, event("toolbox", "content_request", payload, user=MARIA))
        assert status == 200
        assert answer == {"result": {"workflowId": "w1", "content": "Demo answer to: rivers"}}
        status, answer = await post(client, event("toolbox", "content_request", {"grade": 4}, user=MARIA))
        assert answer["result"]["content"] == 'Demo answer to: {"grade": 4}'
        status, answer = await post(client, event("toolbox", "content_request", payload))
        assert (status, answer["error"]["code"]) == (401, "UNAUTHORIZED")


QUIZZES = [
    ("right", {"quizId": "capital-1", "answer": " paris "}, True),
    ("wrong", {"quiz_id": "capital-1", "answer": "Rome"}, False),
    ("number", {"quizId": "arithmetic-1", "answer": 4}, True),
    ("unknown", {"quizId": "nothing", "answer": "4"}, None),
    ("odd id", {"quizId": ["capital-1"], "answer": "4"}, None),
]


@pytest.mark.parametrize("name, payload, correct", QUIZZES, ids=[case[0] for case in QUIZZES])
async def test_quiz_response(calling, event, name, payload, correct):
    async with calling() as client:
        status, answer = await post(client, event("toolbox", "quiz_response", payload, user=MARIA))
    assert status == 200
    assert answer["result"]["received"] is True
    assert answer["result"]["correct"] is correct


def merge(document, patch):
    """JSON merge patch, as the gateway applies it."""
    merged = dict(document)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = merge(merged.get(name) or {}, value)
        else:
            merged[name] = value
    return merged


VISITS = [
    ("welcome", ["Maria", "a meeting", "Dr. Chen"], "allow", "Welcome, Maria. You may enter."),
    ("alarming", ["Eve", "to steal a painting", "nobody"], "deny", "Access denied."),
]


@pytest.mark.parametrize("name, said, decision, final", VISITS, ids=[case[0] for case in VISITS])
async def test_send_message_until_a_decision(calling, event, name, said, decision, final):
    """Every message goes to an application of its own: what it knows is only what the state brings."""
    state = {"session_active": True}
    for number, message in enumerate(said, 1):
        payload = {"session_id": "s1", "message": message}
        async with calling() as client:
            body = event("security-gate", "send_message", payload, session_id="s1", state=state)
            status, answer = await post(client, body)
        assert status == 200
        assert answer["result"]["session_complete"] is (number == len(said))
        assert answer["result"]["agent_response"]
        state = merge(state, answer["state"])
    assert answer["result"]["final_response"].startswith(final)
    assert answer["result"]["profile"] == dict(zip(("name", "purpose", "host"), said))
    assert state["visitor_profile"] == answer["result"]["profile"]
    assert state["decision"] == decision
    assert 0 < state["decision_confidence"] <= 1
    async with calling() as client:
        body = event("security-gate", "send_message", payload, session_id="s1", state=state)
        assert (await post(client, body))[1]["error"]["code"] == "FORBIDDEN"


async def test_request_threat_logs(calling, event, settings, tmp_path):
    async with calling() as client:
        status, answer = await post(client, event("security-gate", "request_threat_logs", {}))
        assert status == 200
        assert [entry["level"] for entry in answer["result"]["logs"]] == ["low", "high"]
    for content in (None, "{", "{}"):
        if content is not None:
            (tmp_path / "threat_log.json").write_text(content)
        async with calling(dataclasses.replace(settings, content_dir=tmp_path)) as client:
            status, answer = await post(client, event("security-gate", "request_threat_logs"))
            assert (status, answer["error"]["code"]) == (404, "NOT_FOUND"), content


REFUSED = [
    ("unknown event", "codx", "codx-junior-nothing", [{}], 404, "UNKNOWN_EVENT"),
    ("event of another contract", "toolbox", "ai:message", [{"message": "a"}], 404, "UNKNOWN_EVENT"),
    ("no object", "codx", "codx-junior-chat", ["text"], 400, "BAD_PAYLOAD"),
    ("no arguments", "codx", "codx-junior-chat", [], 400, "BAD_PAYLOAD"),
    ("no chat", "codx", "codx-junior-chat", [{"message": "a"}], 400, "BAD_PAYLOAD"),
    ("no message", "codx", "codx-junior-chat", [{"chat": {"name": "a"}}], 400, "BAD_PAYLOAD"),
    ("no patch", "codx", "codx-junior-improve-patch", [CHAT], 400, "BAD_PAYLOAD"),
    ("too long", "coding-assistant", "ai:message", [{"message": "a" * 40_000}], 413, "TOO_LARGE"),
    ("long context", "coding-assistant", "ai:message", [{"message": "a", "context": {"b": "c" * 40_000}}], 413, "TOO_LARGE"),
    ("binary", "security-gate", "send_message", [{"message": {"$binary": "AA=="}}], 400, "BAD_PAYLOAD"),
]


@pytest.mark.parametrize("name, contract, sent, args, status, code", REFUSED, ids=[case[0] for case in REFUSED])
async def test_refusals(calling, event, name, contract, sent, args, status, code):
    async with calling() as client:
        answered, answer = await post(client, event(contract, sent, *args))
    assert (answered, answer["error"]["code"]) == (status, code)


async def test_bodies_that_are_no_events(calling, settings):
    async with calling(dataclasses.replace(settings, max_body_bytes=100)) as client:
        for body in (b"", b"{", b"[]", b'{"contract": "codx"}', b"\xff", b'["\\ud800"]', b"[" * 99):
            response = await client.post("/events", content=body)
            assert (response.status_code, response.json()["error"]["code"]) == (400, "BAD_PAYLOAD"), body
        response = await client.post("/events", content=b"[" + b" " * 100)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "TOO_LARGE")
