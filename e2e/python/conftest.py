"""Starts the gateway binary for the Python tests: the demo mounting, state in memory, the built-in application."""

import base64
import json
import os
import pathlib
import re
import subprocess
import threading
import urllib.request

import jwt
import pytest
import socketio

API_KEY = "e2e-api-key-0123456789"
JWT_SECRET = "e2e-jwt-secret-that-is-longer-than-32-bytes"
TARGET = pathlib.Path(__file__).resolve().parents[2] / "target"
DEADLINE = 5


def binary():
    """The binary under test: GATEWAY_BIN, else the release build, else the debug build."""
    named = os.environ.get("GATEWAY_BIN")
    if named:
        return named
    for profile in ("release", "debug"):
        path = TARGET / profile / "gateway"
        if path.exists():
            return str(path)
    raise RuntimeError("no gateway binary: build it, or name it in GATEWAY_BIN")


class Gateway:
    """One running gateway."""

    def __init__(self, args=(), **more):
        env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "GATEWAY_API_KEY": API_KEY,
            "GATEWAY_JWT_SECRET": JWT_SECRET,
            **more,
        }
        self.process = subprocess.Popen(
            [binary(), "serve", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        self.log = []
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        line = self.process.stdout.readline()
        ready = re.fullmatch(r"ready public=(\S+) internal=(\S+)\n", line)
        if not ready:
            self.process.kill()
            raise RuntimeError(f"not ready: {line!r}\n{''.join(self.log)}")
        self.url = f"http://{ready[1]}"
        self.internal = f"http://{ready[2]}"

    def api(self, method, path, body=None):
        """One call of the server API; returns its JSON."""
        request = urllib.request.Request(
            self.internal + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"authorization": f"Bearer {API_KEY}", "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
            return json.loads(answer.read())

    def emit(self, namespace, event, data, to=None):
        body = {"namespace": namespace, "event": event, "data": data}
        if to is not None:
            body["to"] = to
        return self.api("POST", "/v1/emit", body)

    def stop(self):
        died = self.process.poll()
        self.process.kill()
        self.process.wait()
        assert died is None, f"the gateway ended by itself ({died}): {''.join(self.log)}"
        assert not any("panicked at" in line for line in self.log), "the gateway panicked"


class Peer:
    """An official Python client on one namespace, whose events are taken one by one."""

    def __init__(self, client):
        self.client = client
        self.waiting = []

    @property
    def sid(self):
        return self.client.sid

    def call(self, event, data=None):
        return self.client.call(event, data, timeout=DEADLINE)

    def send(self, event, data=None):
        self.client.emit(event, data)

    def next(self, event, match=lambda payload: True):
        """The payload of the next event of that name; what came before it waits for its own turn."""
        for at, (name, payload) in enumerate(self.waiting):
            if name == event and match(payload):
                del self.waiting[at]
                return payload
        while True:
            name, *args = self.client.receive(timeout=DEADLINE)
            payload = args[0] if args else None
            if name == event and match(payload):
                return payload
            self.waiting.append((name, payload))


@pytest.fixture(scope="session")
def gateway():
    gateway = Gateway()
    yield gateway
    gateway.stop()


@pytest.fixture(params=["websocket", "polling"])
def peer(request, gateway):
    """Opens clients over one transport, and closes them after the test."""
    opened = []

    def open_peer(namespace, token=None, **options):
        client = socketio.SimpleClient()
        auth = None if token is None else {"token": token}
        client.connect(gateway.url, namespace=namespace, auth=auth, transports=[request.param], **options)
        opened.append(client)
        return Peer(client)

    yield open_peer
    for client in opened:
        client.disconnect()


def token(subject, roles=(), **claims):
    return jwt.encode({"sub": subject, "name": subject.title(), "roles": list(roles), **claims}, JWT_SECRET, algorithm="HS256")


def wrapped(data):
    """Binary, as the server API takes it."""
    return {"$binary": base64.b64encode(data).decode()}


def assert_ok(ack, event):
    assert ack["ok"] is True, ack
    assert ack["event"] == event
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", ack["ts"])


def assert_refused(ack, event, code):
    assert ack["ok"] is False, ack
    assert ack["event"] == event
    assert ack["error"]["code"] == code
    assert ack["error"]["message"]
