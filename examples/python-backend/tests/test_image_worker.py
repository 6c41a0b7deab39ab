"""The worker against a real Redis: what it answers, what it keeps, what it puts aside."""

import base64
import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import httpx
import pytest
from gateway_api_server import GatewayApiServer
from running import client as redis_client
from running import process, redis_server, serve

import image_worker
from image_worker import GROUP, MAX_DELIVERIES, BadImage, Worker, inspect

STREAM = "gateway:images"


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(width)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg(width, height):
    frame = struct.pack(">BHHB", 8, height, width, 1) + bytes(3)
    return b"\xff\xd8\xff\xe0" + struct.pack(">H", 4) + b"JF\xff\xc0" + struct.pack(">H", 2 + len(frame)) + frame


def webp(kind, body):
    return b"RIFF" + struct.pack("<I", 12 + len(body)) + b"WEBP" + kind + struct.pack("<I", len(body)) + body


IMAGES = [
    ("png", png(3, 2), "PNG", 3, 2),
    ("gif", b"GIF89a" + struct.pack("<HH", 5, 4) + bytes(3), "GIF", 5, 4),
    ("jpeg", jpeg(640, 480), "JPEG", 640, 480),
    ("webp extended", webp(b"VP8X", bytes(4) + (99).to_bytes(3, "little") + (49).to_bytes(3, "little")), "WebP", 100, 50),
    ("webp lossless", webp(b"VP8L", b"\x2f" + struct.pack("<I", 6 | 4 << 14)), "WebP", 7, 5),
    ("webp lossy", webp(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 9, 8)), "WebP", 9, 8),
]


@pytest.mark.parametrize("name, image, kind, width, height", IMAGES, ids=[case[0] for case in IMAGES])
def test_images_are_read_and_cut_ones_refused(name, image, kind, width, height):
    found = inspect(image)
    assert (found["format"], found["width"], found["height"], found["bytes"]) == (kind, width, height, len(image))
    for length in range(len(image)):
        # A file cut after its header still has a size; nothing shorter may raise anything else.
        with contextlib.suppress(BadImage):
            inspect(image[:length])
    with pytest.raises(BadImage):
        inspect(image[:8])


@pytest.fixture(scope="module")
def redis_url():
    with redis_server() as url:
        yield url


@pytest.fixture
def store(redis_url):
    with redis_client(redis_url) as connected:
        connected.flushall()
        yield connected


@contextlib.contextmanager
def working(store, server):
    with serve(server.app) as url, httpx.Client(timeout=5) as client:
        worker = Worker(store, client, url, "api-key", STREAM)
        worker.open_group()
        yield worker


def upload(image, **more):
    payload = {"session_id": "s1", "image": image}
    connection = {"sid": "sid-1", "user": None, "roles": [], "ip": "127.0.0.1"}
    event = {"id": "image-7", "contract": "security-gate", "namespace": "/gate", "event": "upload_image"}
    return {"event": json.dumps(event | {"args": [payload], "connection": connection, "session_id": "s1"} | more)}


GOOD = base64.b64encode(png(3, 2)).decode()
ANSWERED = [
    ("base64", GOOD, "image_processed"),
    ("data URL", f"data:image/png;base64,{GOOD}", "image_processed"),
    ("binary argument", {"$binary": GOOD}, "image_processed"),
    ("not an image", base64.b64encode(b"text").decode(), "image_failed"),
    ("not base64", "%%%", "image_failed"),
    ("a number", 7, "image_failed"),
]


@pytest.mark.parametrize("name, image, kind", ANSWERED, ids=[case[0] for case in ANSWERED])
def test_an_upload_is_answered_and_removed(store, name, image, kind):
    server = GatewayApiServer()
    with working(store, server) as worker:
        store.xadd(STREAM, upload(image))
        assert worker.step(block_ms=1) == 1
    [command] = server.commands
    assert command["namespace"] == "/gate"
    assert command["event"] == "session_update"
    assert command["to"] == {"rooms": ["s1"], "sids": ["sid-1"]}
    assert (command["data"]["type"], command["data"]["image_id"]) == (kind, "image-7")
    assert server.keys == ["image-image-7"]
    assert store.xlen(STREAM) == 0
    assert store.xpending(STREAM, GROUP)["pending"] == 0


def test_a_gateway_that_is_away_loses_nothing(store, monkeypatch):
    monkeypatch.setattr(image_worker, "BACKOFF_SECONDS", (0,))
    server = GatewayApiServer([503, 429, 500])
    with working(store, server) as worker:
        store.xadd(STREAM, upload(GOOD))
        worker.step(block_ms=1)
    assert len(server.commands) == 1
    assert server.keys == ["image-image-7"] * 4, "each try has the same key"
    assert store.xlen(STREAM) == 0


DEAD = [
    ("not JSON", {"event": "{"}, []),
    ("no field", {"other": "1"}, []),
    ("not an object", {"event": "[]"}, []),
    ("no arguments", {"event": '{"args": []}'}, []),
    ("refused for good", upload(GOOD), [400]),
]


@pytest.mark.parametrize("name, fields, answers", DEAD, ids=[case[0] for case in DEAD])
def test_what_cannot_be_done_is_put_aside(store, name, fields, answers):
    with working(store, GatewayApiServer(answers)) as worker:
        store.xadd(STREAM, fields)
        worker.step(block_ms=1)
    assert store.xlen(STREAM) == 0
    [(_, dead)] = store.xrange(f"{STREAM}:dead")
    assert dead.pop(b"reason")
    assert {key.decode(): value.decode() for key, value in dead.items()} == fields


def test_what_a_dead_worker_held_is_taken_over_until_it_is_poison(store, monkeypatch):
    monkeypatch.setattr(image_worker, "ABANDONED_MS", 0)
    server = GatewayApiServer()
    with working(store, server) as worker:
        store.xadd(STREAM, upload(GOOD))
        store.xreadgroup(GROUP, "dead-worker", {STREAM: ">"})
        assert worker.step(block_ms=1) == 1
        assert len(server.commands) == 1
        entry = store.xadd(STREAM, upload(GOOD))
        store.xreadgroup(GROUP, "dead-worker", {STREAM: ">"})
        store.xclaim(STREAM, GROUP, "dead-worker", 0, [entry], retrycount=MAX_DELIVERIES)
        assert worker.step(block_ms=1) == 0
    assert len(server.commands) == 1
    assert store.xlen(f"{STREAM}:dead") == 1


def test_the_program_runs_survives_an_emptied_redis_and_stops_on_sigterm(store, redis_url):
    server = GatewayApiServer()
    script = Path(image_worker.__file__)
    with serve(server.app) as url:
        env = os.environ | {"REDIS_URL": redis_url, "GATEWAY_API_URL": url, "GATEWAY_API_KEY": "api-key"}
        with process([sys.executable, str(script)], env=env) as worker:
            store.xadd(STREAM, upload(GOOD))
            assert server.emitted.acquire(timeout=30)
            store.flushall()
            store.xadd(STREAM, upload(GOOD))
            assert server.emitted.acquire(timeout=30)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(timeout=30) == 0


def test_the_program_names_what_is_missing():
    env = {name: value for name, value in os.environ.items() if name not in ("REDIS_URL", "GATEWAY_API_URL")}
    script = Path(image_worker.__file__)
    done = subprocess.run(
        [sys.executable, str(script)], env=env | {"GATEWAY_API_KEY": "k"}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == "image_worker: set REDIS_URL, GATEWAY_API_URL\n"
