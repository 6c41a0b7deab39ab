"""A real gateway for the tests of the Python SDK: its ``ready`` line comes in, its two addresses go out."""

import json
import os
import pathlib
import subprocess
import tempfile
import urllib.request

import pytest
import socketio

KEY = "sdk-test-key"
TARGET = pathlib.Path(__file__).resolve().parents[2] / "target"


def binary() -> str:
    """The binary under test: ``GATEWAY_BIN``, else the release build, else the debug one."""
    given = os.environ.get("GATEWAY_BIN")
    built = [str(TARGET / profile / "gateway") for profile in ("release", "debug")]
    return given or next((path for path in built if os.path.exists(path)), built[0])


class Gateway:
    def __init__(self, process: subprocess.Popen, public: str, internal: str):
        self.process = process
        self.url = f"http://{public}"
        self.internal = f"http://{internal}"

    def session(self, session_id: str, name: str) -> str:
        """Stores a login session, as an application's own login page would."""
        body = json.dumps({"user": {"id": f"user-{name}", "name": name, "roles": []}, "ttl_s": 600}).encode()
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.internal}/v1/sessions/{session_id}", body, headers, method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status < 300, answer.read()
        return session_id


@pytest.fixture(scope="session")
def gateway():
    command = [binary(), "serve", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "GATEWAY_API_KEY": KEY}, text=True)
        try:
            line = process.stdout.readline()
            words = dict(word.split("=", 1) for word in line.split()[1:]) if line.startswith("ready ") else {}
            if {"public", "internal"} - words.keys():
                log.seek(0)
                pytest.fail(f"the gateway did not become ready: {line!r}\n{log.read().decode(errors='replace')}")
            yield Gateway(process, words["public"], words["internal"])
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def colleague(gateway):
    """Somebody else in a project, on the official client alone; a function that joins one."""
    clients = []

    def join(project_id: str) -> socketio.Client:
        client = socketio.Client()
        clients.append(client)
        client.connect(gateway.url, wait_timeout=10)
        ack = client.call("project:join", {"projectId": project_id, "userId": "colleague"}, timeout=10)
        assert ack["ok"] is True, ack
        return client

    yield join
    for client in clients:
        client.disconnect()
