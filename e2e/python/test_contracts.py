"""One flow of each contract with python-socketio, over both transports, binary included."""

import base64

import pytest
import socketio
from conftest import assert_ok, assert_refused, token, wrapped

BLOB = bytes(range(256))
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def test_codx(gateway, peer):
    a, b = peer("/codx"), peer("/codx")
    assert a.call("codx-junior-ping") is True
    users = a.call("codx-junior-login", {"username": "john_doe", "key": BLOB})
    assert users[a.sid] == {"username": "john_doe", "key": BLOB}
    for each in (a, b):
        assert each.next("codx-junior-online-users", lambda m: a.sid in m)[a.sid]["key"] == BLOB
    chat = {"chat": {"name": "project_discussion"}, "message": "Let's start the discussion"}
    ack = a.call("codx-junior-chat", chat)
    assert_ok(ack, "codx-junior-chat")
    assert a.next("codx-junior-chat") is not None
    assert_refused(a.call("codx-junior-ai-load-model", {}), "codx-junior-ai-load-model", "BAD_PAYLOAD")


def test_coding_assistant(gateway, peer):
    gateway.api("PUT", "/v1/sessions/py-session", {"user": {"id": "ann", "name": "Ann", "roles": []}, "ttl_s": 60})
    a, b = peer("/"), peer("/", token("bob"))
    assert_ok(a.call("auth:session", {"sessionId": "py-session"}), "auth:session")
    assert a.next("auth:success")["user"]["id"] == "ann"
    for each in (a, b):
        assert_ok(each.call("project:join", {"projectId": "py"}), "project:join")
    joined = a.next("user:joined")
    assert joined["user"]["id"] == "bob" and joined["data"]["projectId"] == "py"
    assert_ok(a.call("file:lock", {"projectId": "py", "filePath": "f", "lockType": "exclusive"}), "file:lock")
    assert b.next("file:locked")["userId"] == "ann"
    refused = b.call("file:lock", {"projectId": "py", "filePath": "f", "lockType": "exclusive"})
    assert_refused(refused, "file:lock", "CONFLICT")
    assert refused["error"]["holder"]["userId"] == "ann"
    assert_ok(a.call("file:unlock", {"projectId": "py", "filePath": "f"}), "file:unlock")
    b.next("file:unlocked")
    ack = a.call("ai:message", {"message": "Create a component", "projectId": "py"})
    assert_ok(ack, "ai:message")
    assert b.next("ai:message")["message"] == "Create a component"
    assert b.next("ai:response")["response"] == ack["response"]
    assert_ok(a.call("test:event", {"blob": BLOB}), "test:event")
    assert a.next("test:response")["blob"] == BLOB
    a.call("project:leave", {"projectId": "py"})
    assert b.next("user:left")["user"]["id"] == "ann"


def test_agent_stream(gateway, peer):
    for auth, message in ((None, "Authentication required"), ({"token": "rubbish"}, "Invalid or expired token")):
        client, told = socketio.Client(reconnection=False), []
        client.on("connect_error", told.append, namespace="/agents")
        with pytest.raises(socketio.exceptions.ConnectionError):
            client.connect(gateway.url, namespaces=["/agents"], auth=auth, wait_timeout=5)
        assert told == [{"message": message}]
        client.disconnect()
    a, b = peer("/agents", token("ann")), peer("/agents", token("bob"), socketio_path="ws/socket.io")
    assert_ok(a.call("workflow:subscribe", {"workflowId": "w"}), "workflow:subscribe")
    gateway.emit("/agents", "agent:thought", {"workflow_id": "w", "data": {"content": "hm"}}, {"rooms": ["workflow:w"]})
    thought = a.next("agent:thought")
    assert (thought["type"], thought["workflowId"], thought["data"]) == ("thought", "w", {"content": "hm"})
    gateway.emit("/agents", "agent:result", {"workflowId": "w", "data": {"image": wrapped(BLOB)}})
    for each in (a, b):
        assert each.next("agent:result")["data"]["image"] == BLOB
    gateway.emit("/agents", "agent:error", {"workflowId": "w", "data": {"code": "X", "message": "m", "details": {}}}, {"users": ["bob"]})
    assert b.next("agent:error")["data"]["code"] == "X"


def test_toolbox(gateway, peer):
    teacher, student = peer("/toolbox", token("tom", ["teacher"])), peer("/toolbox", token("stu", ["student"]))
    assert_ok(teacher.call("ping"), "ping")
    for each in (teacher, student):
        assert_ok(each.call("subscribe", {"channel": "class"}), "subscribe")
    ack = student.call("message", {"type": "chat", "channel": "class", "blob": BLOB})
    assert (ack["ok"], ack["type"]) == (True, "chat")
    heard = teacher.next("message")
    assert (heard["from"], heard["blob"]) == ("stu", BLOB)
    assert_refused(student.call("broadcast", {"text": "no"}), "broadcast", "FORBIDDEN")
    assert_ok(teacher.call("broadcast", {"channel": "class", "text": "yes"}), "broadcast")
    for each in (teacher, student):
        assert each.next("broadcast")["text"] == "yes"
    assert_ok(student.call("quiz_response", {"answer": 42}), "quiz_response")
    debug = peer("/debug")
    assert debug.call("echo", BLOB) == BLOB
    assert_ok(debug.call("join", {"room": "lab"}), "join")
    assert debug.call("rooms") == ["lab"]


def test_security_gate(gateway, peer):
    a, b = peer("/gate"), peer("/gate")
    for each in (a, b):
        assert each.next("status") == {"msg": "Connected to Security Gate System"}
        assert each.next("system_status")["healthy"] is True
    a.send("start_session", {})
    session = a.next("session_started")
    assert session["status"] == "success"
    session_id = session["session_id"]
    b.send("join_session_updates", {"session_id": session_id})
    b.next("status")
    a.send("send_message", {"session_id": session_id, "message": "Hello"})
    assert isinstance(a.next("chat_response")["agent_response"], str)
    a.send("upload_image", {"session_id": session_id, "image": base64.b64encode(PNG).decode()})
    upload = a.next("image_upload_response")
    assert upload["status"] == "success" and upload["image_id"]
    a.send("get_profile", {"session_id": session_id})
    assert a.next("profile_data")["session_active"] is True
    gateway.emit("/gate", "scan", {"frame": wrapped(BLOB)}, {"sids": [b.sid]})
    assert b.next("scan")["frame"] == BLOB
    a.send("end_session", {"session_id": session_id})
    assert a.next("session_ended")["status"] == "success"
    assert b.next("session_update", lambda p: p["type"] == "session_ended")["message"]
    a.send("send_message", {"session_id": session_id, "message": "still there?"})
    assert a.next("error")["msg"]
