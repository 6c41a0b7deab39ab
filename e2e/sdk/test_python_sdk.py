"""The Python SDK against a real gateway: the document's snippet first, then what a caller meets when things go wrong."""

import queue
import socket as tcp
import threading

import pytest

from ai_coding_assistant import AICodingAssistantError, AICodingAssistantSocket

WAIT = 10


@pytest.fixture
def client(gateway):
    opened = []

    def make(session_id=None, **options):
        options.setdefault("base_url", gateway.url)
        socket = AICodingAssistantSocket(session_id=session_id, **options)
        opened.append(socket)
        return socket

    yield make
    for socket in opened:
        socket.disconnect()


def update(project_id, value):
    return {"projectId": project_id, "userId": "colleague", "update": {"type": "description", "value": value}}


def refused(call, *args, **options):
    with pytest.raises(AICodingAssistantError) as caught:
        call(*args, **options)
    return caught.value


def test_the_snippet_of_the_document(gateway, colleague):
    socket = AICodingAssistantSocket(base_url=gateway.url, session_id=gateway.session("py-snippet", "Ada"))
    heard = queue.Queue()

    socket.connect()
    assert (socket.user["id"], socket.user["name"]) == ("user-Ada", "Ada")

    users = socket.join_project("py-project-123")
    assert [user["id"] for user in users] == ["user-Ada"]

    response = socket.send_ai_message(message="Create a React component", project_id="py-project-123")
    assert "Create a React component" in str(response)

    @socket.on("project:updated")
    def handle_project_update(data):
        heard.put(data)

    colleague("py-project-123").emit("project:update", update("py-project-123", "Updated project description"))
    data = heard.get(timeout=WAIT)
    assert data["project"]["id"] == "py-project-123"
    assert data["update"]["value"] == "Updated project description"
    socket.disconnect()
    assert not socket.connected


def test_an_unknown_session_is_refused_and_the_connection_closed(client):
    told = queue.Queue()
    socket = client("no-such-session")
    socket.on("auth:error", told.put)
    error = refused(socket.connect)
    assert (error.code, error.event) == ("UNAUTHORIZED", "auth:session")
    assert told.get(timeout=WAIT)["code"] == "UNAUTHORIZED"
    assert not socket.connected


@pytest.mark.parametrize(
    ("event", "payload", "code"),
    [
        ("ai:message", {"message": ""}, "BAD_PAYLOAD"),
        ("no:such:event", {}, "UNKNOWN_EVENT"),
        ("file:lock", {"projectId": "elsewhere", "filePath": "a", "lockType": "shared"}, "FORBIDDEN"),
    ],
)
def test_refusals_carry_the_code_of_the_gateway(client, event, payload, code):
    socket = client(user_id="clumsy")
    socket.connect()
    error = refused(socket.request, event, payload)
    assert (error.code, error.event) == (code, event)


def test_a_lock_that_somebody_else_holds_names_the_holder(client, colleague):
    lock = {"projectId": "py-locks", "filePath": "a.py", "lockType": "exclusive"}
    held = colleague("py-locks").call("file:lock", {**lock, "userId": "colleague"}, timeout=WAIT)
    assert held["ok"] is True, held
    socket = client(user_id="late")
    socket.connect()
    socket.join_project("py-locks")
    error = refused(socket.request, "file:lock", {**lock, "userId": "late"})
    assert (error.code, error.details["holder"]["userId"]) == ("CONFLICT", "colleague")


def test_after_a_lost_connection_the_session_and_the_projects_are_back(gateway, client, colleague):
    socket = client(gateway.session("py-lasting", "Bo"), reconnection_delay=0.05, randomization_factor=0)
    heard = queue.Queue()
    back = threading.Event()
    lost = threading.Event()
    socket.on("project:updated", heard.put)
    socket.connect()
    socket.join_project("py-lasting")
    other = colleague("py-lasting")

    socket.on("connect", back.set)
    socket.on("disconnect", lambda reason: lost.set())
    # The transport breaks under the client, as when the network goes.
    socket.client.eio.ws.sock.shutdown(tcp.SHUT_RDWR)
    assert lost.wait(WAIT)
    assert back.wait(WAIT)

    other.emit("project:update", update("py-lasting", "again"))
    assert heard.get(timeout=WAIT)["update"]["value"] == "again"
    assert "user-Bo" in [user["id"] for user in socket.join_project("py-lasting")]


def test_a_server_that_never_answers_or_is_not_there_is_an_error(client):
    with tcp.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert refused(client(base_url=url, request_timeout=0.2).connect).code == "CONNECT_ERROR"
    assert refused(client(base_url=url).connect).code == "CONNECT_ERROR"


def test_nothing_is_sent_without_a_connection(client):
    socket = client(user_id="quiet")
    error = refused(socket.join_project, "any")
    assert (error.code, error.event) == ("NOT_CONNECTED", "project:join")
    socket.connect()
    assert [user["id"] for user in socket.join_project("py-quiet")] == ["quiet"]
    socket.disconnect()
    assert refused(socket.send_ai_message, "hello").code == "NOT_CONNECTED"
