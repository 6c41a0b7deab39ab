"""What an agent reports, to whom, and that a gateway which is away stops nothing."""

import dataclasses

import httpx
import pytest
from gateway_api_server import GatewayApiServer
from openai_server import OpenAiServer
from running import serve

MARIA = {"id": "maria"}


@pytest.fixture
def with_api(settings):
    return dataclasses.replace(settings, gateway_api_url="http://gateway", gateway_api_key="api-key")


async def test_a_run_tells_the_workflow(calling, with_api):
    gateway = GatewayApiServer()
    async with calling(with_api, httpx.ASGITransport(app=gateway.app)) as client:
        response = await client.post("/agents/run", json={"workflowId": "w1", "prompt": "rivers"})
    assert response.status_code == 200
    assert response.json() == {"workflowId": "w1", "content": "Demo answer to: rivers", "emitted": 4, "failed": 0}
    events = [command["event"] for command in gateway.commands]
    assert events == ["agent:thought", "agent:tool_call", "agent:tool_call", "agent:result"]
    for command in gateway.commands:
        assert command["namespace"] == "/agents"
        assert command["to"] == {"rooms": ["workflow:w1"]}
        assert command["data"]["workflowId"] == "w1"
        assert command["event"] == f"agent:{command['data']['type']}"
    data = [command["data"]["data"] for command in gateway.commands]
    assert data[0]["content"]
    assert [step["status"] for step in data[1:3]] == ["in_progress", "completed"]
    assert data[3] == {"status": "success", "content_type": "text", "content": "Demo answer to: rivers"}


async def test_content_request_tells_its_user_alone(calling, with_api, event):
    gateway = GatewayApiServer()
    async with calling(with_api, httpx.ASGITransport(app=gateway.app)) as client:
        body = event("toolbox", "content_request", {"topic": "rivers", "workflowId": "somebody-elses"}, user=MARIA)
        assert (await client.post("/events", json=body)).json()["result"]["workflowId"] == "somebody-elses"
    assert len(gateway.commands) == 4
    assert {tuple(command["to"]["users"]) for command in gateway.commands} == {("maria",)}
    assert all(set(command["to"]) == {"users"} for command in gateway.commands)


async def test_a_failing_model_is_told_as_agent_error(calling, with_api):
    gateway = GatewayApiServer()
    with serve(OpenAiServer([], key="another").app) as url:
        given = dataclasses.replace(with_api, openai_base_url=f"{url}/v1", openai_model="small")
        async with calling(given, httpx.ASGITransport(app=gateway.app)) as client:
            response = await client.post("/agents/run", json={"workflowId": "w1", "prompt": "rivers"})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "UNAVAILABLE")
    last = gateway.commands[-1]
    assert last["event"] == "agent:error"
    assert last["data"]["data"]["code"] == "GENERATION_FAILED"
    assert last["data"]["data"]["details"] == {"code": "UNAVAILABLE"}


async def test_a_gateway_that_fails_stops_nothing(calling, with_api):
    for name, gateway in (("refuses", GatewayApiServer([503, 200, 400, 200])), ("is away", None)):
        transport = httpx.ASGITransport(app=gateway.app) if gateway else None
        # Port 9 of this machine is closed: the connection is refused at once.
        given = with_api if gateway else dataclasses.replace(with_api, gateway_api_url="http://127.0.0.1:9")
        async with calling(given, transport) as client:
            response = await client.post("/agents/run", json={"workflowId": "w1", "prompt": "rivers"})
        assert response.status_code == 200, name
        assert response.json()["failed"] == (2 if gateway else 4), name


async def test_who_may_run_agents(calling, settings, with_api):
    async with calling(settings) as client:
        response = await client.post("/agents/run", json={"workflowId": "w1", "prompt": "rivers"})
        assert response.status_code == 503, "no server API is configured"
    gateway = GatewayApiServer()
    given = dataclasses.replace(with_api, agent_run_key="run-key")
    async with calling(given, httpx.ASGITransport(app=gateway.app)) as client:
        for key, status in ((None, 401), ("Bearer wrong", 401), ("Bearer run-key", 200)):
            headers = {"authorization": key} if key else {}
            response = await client.post("/agents/run", json={"workflowId": "w", "prompt": "a"}, headers=headers)
            assert response.status_code == status, key
        response = await client.post("/agents/run", json={"workflowId": "", "prompt": "a"}, headers=headers)
        assert response.status_code == 422
    assert len(gateway.commands) == 4
