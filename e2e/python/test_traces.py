"""Traces over OTLP/HTTP, as a receiver of somebody else's reads them: from the handshake by an event to the application."""

import http.server
import json
import pathlib
import re
import socket
import subprocess
import threading
import time
import urllib.request

import pytest
import rotel
import socketio

from conftest import Gateway, assert_ok

DEADLINE = 20
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, ask):
    end = time.monotonic() + DEADLINE
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < end, what
        time.sleep(0.05)


class Receiver:
    """A rotel agent that prints the spans it is sent."""

    def __init__(self):
        self.port = free_port()
        agent = pathlib.Path(rotel.__file__).parent / "rotel-agent"
        self.process = subprocess.Popen(
            [
                agent, "start", "--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed",
                "--otlp-grpc-endpoint", f"127.0.0.1:{free_port()}", "--otlp-http-endpoint", f"127.0.0.1:{self.port}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        self.lines = []
        threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True).start()
        until("the receiver starts", lambda: "Starting Rotel" in self.text())

    def text(self):
        return re.sub(r"\x1b\[[0-9;]*m", "", "".join(self.lines))

    def stop(self):
        self.process.kill()
        self.process.wait()


class Application(http.server.ThreadingHTTPServer):
    """Answers every event, and remembers the trace that it was told."""

    def __init__(self):
        self.traceparents = []
        application = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                application.traceparents.append(self.headers["traceparent"])
                body = b'{"result": {"answer": "yes"}}'
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()


def traced(receiver, tmp_path, sample):
    application = Application()
    config = tmp_path / "gateway.toml"
    config.write_text(
        f"""
[trace]
endpoint = "http://127.0.0.1:{receiver.port}/v1/traces"
sample = {sample}
[log]
format = "json"
level = "debug"
[upstream.app]
kind = "http"
url = "http://127.0.0.1:{application.server_port}/"
"""
    )
    return Gateway(["--config", str(config)]), application


def talk(gateway, headers):
    with socketio.SimpleClient() as client:
        client.connect(gateway.url, namespace="/codx", transports=["websocket"], headers=headers)
        assert_ok(client.call("codx-junior-chat", {"chat": {"name": "c"}, "message": "m"}, timeout=5), "codx-junior-chat")
        assert client.call("codx-junior-nosuch", {}, timeout=5)["ok"] is False


def test_one_trace_from_the_handshake_to_the_application(receiver, tmp_path):
    gateway, application = traced(receiver, tmp_path, 1.0)
    try:
        talk(gateway, {"traceparent": f"00-{TRACE}-{PARENT}-01"})
        (given,) = application.traceparents
        assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-01", given), given
        wanted = ["handshake", "event", "upstream"]
        text = until(
            f"the receiver is sent {wanted} of the trace",
            lambda: all(re.search(rf"Name\W+{name}\b", receiver.text()) for name in wanted) and receiver.text(),
        )
        assert text.count(TRACE) >= len(wanted), text[-4000:]
        assert given.split("-")[2] in text, "the application's parent is a span that was received"
        assert PARENT in text, "the handshake's parent is the client's"
        # The log and an exemplar lead to it.
        lines = [json.loads(line) for line in gateway.log if line.startswith("{")]
        assert any(TRACE in json.dumps(line) for line in lines), lines[-5:]
        request = urllib.request.Request(gateway.internal + "/metrics", headers={"accept": "application/openmetrics-text"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.headers["content-type"].startswith("application/openmetrics-text")
            body = answer.read().decode()
        assert re.search(rf'gateway_event_duration_seconds_bucket{{le="[^"]+"}} \d+ # {{trace_id="{TRACE}"}}', body), body
        assert body.endswith("# EOF\n")
    finally:
        gateway.stop()
        application.shutdown()


def test_what_is_not_sampled_is_not_sent_and_the_application_is_told_so(receiver, tmp_path):
    gateway, application = traced(receiver, tmp_path, 0.0)
    try:
        talk(gateway, {})
        talk(gateway, {"traceparent": f"00-{TRACE}-{PARENT}-01"})
        until("the trace that its client wants is sent", lambda: TRACE in receiver.text())
        first, second = application.traceparents
        assert first.endswith("-00") and second.endswith("-01"), (first, second)
        assert first.split("-")[1] not in receiver.text()
    finally:
        gateway.stop()
        application.shutdown()
