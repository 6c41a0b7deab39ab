"""An answer is passed on while it is written; both ends are real servers."""

import dataclasses
import json

import httpx
import pytest
from openai_server import OpenAiServer
from running import serve

from backend.main import create_app
from backend.model import MAX_ANSWER, lines

CHAT = {"chat": {"name": "plan"}, "message": "hello"}


def with_model(settings, url):
    return dataclasses.replace(settings, openai_base_url=f"{url}/v1", openai_api_key="key-1", openai_model="small")


async def test_each_piece_leaves_as_it_comes(settings, event):
    model = OpenAiServer(["Hel", "lo ", "wörld"])
    with serve(model.app) as model_url, serve(create_app(with_model(settings, model_url))) as url:
        body = event("codx", "codx-junior-chat", CHAT)
        async with httpx.AsyncClient(timeout=20) as client, client.stream("POST", f"{url}/events", json=body) as answer:
            assert answer.headers["content-type"].startswith("application/x-ndjson")
            received = []
            async for line in answer.aiter_lines():
                received.append(json.loads(line))
                # The model says nothing more until this line has arrived here.
                model.seen.set()
    texts = [part["emit"][0]["data"]["text"] for part in received[:-1]]
    assert texts == ["Hel", "lo ", "wörld"]
    assert received[-1]["result"]["text"] == "Hello wörld"
    [asked] = model.requests
    assert asked["stream"] is True and asked["model"] == "small"
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert asked["messages"][1]["content"] == "hello"


ENDINGS = [("cut", "cut", ["a"]), ("error", "error", ["a"]), ("garbage", "garbage", ["a"])]


@pytest.mark.parametrize("name, ending, pieces", ENDINGS, ids=[case[0] for case in ENDINGS])
async def test_a_stream_that_fails_ends_in_an_error(settings, event, calling, name, ending, pieces):
    model = OpenAiServer(pieces, ending=ending)
    with serve(model.app) as url:
        async with calling(with_model(settings, url)) as client:
            response = await client.post("/events", json=event("codx", "codx-junior-chat", CHAT))
    received = [json.loads(line) for line in response.text.splitlines()]
    assert received[0]["emit"][0]["data"]["text"] == "a"
    assert received[1:] == [{"error": {"code": "UNAVAILABLE", "message": received[1]["error"]["message"]}}]
    assert "tokens" not in received[1]["error"]["message"], "the endpoint's words stay here"


async def test_an_endpoint_that_refuses_or_is_not_there(settings, event, calling):
    model = OpenAiServer(["a"], key="another")
    with serve(model.app) as url:
        refused = with_model(settings, url)
        async with calling(refused) as client:
            response = await client.post("/events", json=event("codx", "codx-junior-chat", CHAT))
            assert json.loads(response.text)["error"]["code"] == "UNAVAILABLE"
    async with calling(refused) as client:
        response = await client.post("/events", json=event("codx", "codx-junior-chat", CHAT))
        assert json.loads(response.text)["error"]["code"] == "UNAVAILABLE"


async def test_an_endless_answer_is_given_up(settings, event, calling):
    model = OpenAiServer(["a" * MAX_ANSWER, "b"])
    model.seen.set()
    with serve(model.app) as url:
        async with calling(with_model(settings, url)) as client:
            response = await client.post("/events", json=event("coding-assistant", "ai:message", {"message": "hi"}))
    assert json.loads(response.text.splitlines()[-1])["error"]["code"] == "TOO_LARGE"


async def test_other_events_use_the_model_too(settings, event, calling):
    model = OpenAiServer(["What may ", "bring you here?"])
    model.seen.set()
    with serve(model.app) as url:
        async with calling(with_model(settings, url)) as client:
            payload = {"session_id": "s", "message": "Maria"}
            response = await client.post("/events", json=event("security-gate", "send_message", payload, state={}))
            assert response.json()["result"]["agent_response"] == "What may bring you here?"
            for name, status in (("small", 200), ("large", 404)):
                body = event("codx", "codx-junior-ai-load-model", {"model": name})
                assert (await client.post("/events", json=body)).status_code == status, name


async def test_lines_are_whole_and_bounded():
    async def chunks(*parts):
        for part in parts:
            yield part

    assert [line async for line in lines(chunks(b"da", b"ta: a\r", b"\n\ndata", b": b\n"))] == [b"data: a", b"", b"data: b"]
    with pytest.raises(ValueError, match="too long"):
        [line async for line in lines(chunks(b"a" * 600_000, b"a" * 600_000))]
