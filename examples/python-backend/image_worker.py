"""A worker for uploaded images: one of any number that share the consumer group.

    stream entry → image inspected → `session_update` through the gateway's server API → acknowledged and deleted

In: entries of the images stream, each with the upstream event as JSON in its field `event`. Out: one `session_update`
per image, to the session's room and to the sender. Never: an entry acknowledged before the gateway has taken its
answer. A worker that dies leaves its entry to the others; a second answer to one image has the same idempotency key.
"""

import base64
import binascii
import hashlib
import json
import logging
import os
import signal
import socket
import struct
import sys
import threading
from typing import Any

import httpx
import redis

from backend.gateway_api import EmitFailed, check, request

log = logging.getLogger("image_worker")

GROUP = "image-workers"
BLOCK_MS = 2_000
# Longer than any inspection takes: an entry that idle belongs to a worker that is gone.
ABANDONED_MS = 60_000
# An entry that has taken so many workers down with it is put aside.
MAX_DELIVERIES = 5
MAX_DEAD = 1_000
BACKOFF_SECONDS = (0.5, 1, 2, 5, 10)


class BadImage(Exception):
    """The entry holds no image that this worker reads; the message is for the sender."""


class Worker:
    def __init__(self, store: redis.Redis, client: httpx.Client, gateway: str, key: str, stream: str) -> None:
        self._store = store
        self._client = client
        self._gateway = gateway
        self._key = key
        self._stream = stream
        self._name = f"{socket.gethostname()}-{os.getpid()}"
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        failures = 0
        ready = False
        while not self._stopping.is_set():
            try:
                if not ready:
                    self.open_group()
                    ready = True
                self.step(BLOCK_MS)
                failures = 0
            except redis.RedisError as cause:
                # Redis may come back empty, so the group is opened again.
                ready = False
                log.warning("redis failed: %r", cause)
                self._pause(failures)
                failures += 1

    def open_group(self) -> None:
        try:
            self._store.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except redis.ResponseError as cause:
            if not str(cause).startswith("BUSYGROUP"):
                raise

    def step(self, block_ms: int) -> int:
        """Do what others abandoned, else wait for a new entry; how many entries were handled."""
        claimed = self._store.xautoclaim(self._stream, GROUP, self._name, ABANDONED_MS, count=1)[1]
        entries = [entry for entry in claimed if entry[1] and not self._put_aside_poison(entry)]
        if not entries:
            answer = self._store.xreadgroup(GROUP, self._name, {self._stream: ">"}, count=1, block=block_ms)
            entries = answer[0][1] if answer else []
        for entry_id, fields in entries:
            self._handle(entry_id, fields)
        return len(entries)

    def _put_aside_poison(self, entry: tuple[bytes, dict[bytes, bytes]]) -> bool:
        entry_id, fields = entry
        pending = self._store.xpending_range(self._stream, GROUP, entry_id, entry_id, 1)
        if not pending or pending[0]["times_delivered"] <= MAX_DELIVERIES:
            return False
        self._bury(entry_id, fields, "delivered too often")
        return True

    def _handle(self, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        try:
            command, image_id = answer(entry_id, fields)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as cause:
            self._bury(entry_id, fields, f"not an upstream event: {cause!r}")
            return
        attempt = 0
        while not self._stopping.is_set():
            try:
                check(self._client.send(request(self._gateway, self._key, command, f"image-{image_id}")))
            except (httpx.HTTPError, EmitFailed) as cause:
                if isinstance(cause, EmitFailed) and cause.permanent:
                    self._bury(entry_id, fields, str(cause))
                    return
                log.warning("an answer is not delivered yet: %s", cause)
                self._pause(attempt)
                attempt += 1
                continue
            self._done(entry_id)
            log.info("image %s is answered", image_id)
            return

    def _done(self, entry_id: bytes) -> None:
        # Deleted too: the gateway refuses uploads while the stream is full, whether its entries are read or not.
        with self._store.pipeline(transaction=True) as commands:
            commands.xack(self._stream, GROUP, entry_id)
            commands.xdel(self._stream, entry_id)
            commands.execute()

    def _bury(self, entry_id: bytes, fields: dict[bytes, bytes], reason: str) -> None:
        log.error("entry %s goes to %s:dead: %s", entry_id.decode(), self._stream, reason)
        self._store.xadd(f"{self._stream}:dead", {**fields, b"reason": reason.encode()}, maxlen=MAX_DEAD)
        self._done(entry_id)

    def _pause(self, attempt: int) -> None:
        self._stopping.wait(BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)])


def answer(entry_id: bytes, fields: dict[bytes, bytes]) -> tuple[dict[str, Any], str]:
    """The emit command that answers one entry, and the image's id."""
    event = json.loads(fields[b"event"])
    payload = event["args"][0]
    session_id = event.get("session_id") or payload["session_id"]
    image_id = str(event.get("id") or entry_id.decode())
    data: dict[str, Any] = {"image_id": image_id}
    try:
        found = inspect(decode(payload["image"]))
        data |= {"type": "image_processed", "image": found}
        data["message"] = f"{found['format']}, {found['width']} x {found['height']}, {found['bytes']} bytes"
    except BadImage as cause:
        data |= {"type": "image_failed", "message": str(cause)}
    to = {"rooms": [session_id], "sids": [event["connection"]["sid"]]}
    command = {"namespace": event["namespace"], "event": "session_update", "data": data, "to": to}
    return command, image_id


def decode(image: Any) -> bytes:
    """The bytes of an image sent as base64, as a data URL, or as a binary argument (`{"$binary": base64}`)."""
    if isinstance(image, dict):
        image = image.get("$binary")
    if not isinstance(image, str):
        raise BadImage("the image is not base64")
    if image.startswith("data:"):
        image = image.partition(",")[2]
    try:
        return base64.b64decode(image, validate=True)
    except binascii.Error as cause:
        raise BadImage("the image is not base64") from cause


def inspect(image: bytes) -> dict[str, Any]:
    try:
        kind, width, height = size(image)
    except (struct.error, IndexError) as cause:
        raise BadImage("the image is cut short") from cause
    digest = hashlib.sha256(image).hexdigest()
    return {"format": kind, "width": width, "height": height, "bytes": len(image), "sha256": digest}


def size(image: bytes) -> tuple[str, int, int]:
    """Format and size from the header alone; nothing is decompressed, so a small file cannot become a large picture."""
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return ("PNG", *struct.unpack_from(">II", image, 16))
    if image[:6] in (b"GIF87a", b"GIF89a"):
        return ("GIF", *struct.unpack_from("<HH", image, 6))
    if image.startswith(b"\xff\xd8"):
        return jpeg_size(image)
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return webp_size(image)
    raise BadImage("the image is not a PNG, JPEG, GIF or WebP")


def jpeg_size(image: bytes) -> tuple[str, int, int]:
    """The frame header is the first segment that starts a frame: C0 to CF, less three that are no frames."""
    position = 2
    while True:
        marker, length = struct.unpack_from(">HH", image, position)
        if marker >> 8 != 0xFF or length < 2:
            raise BadImage("the JPEG is damaged")
        if 0xC0 <= marker & 0xFF <= 0xCF and marker & 0xFF not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", image, position + 5)
            return "JPEG", width, height
        position += 2 + length


def webp_size(image: bytes) -> tuple[str, int, int]:
    kind = image[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(image[at : at + 3], "little") + 1 for at in (24, 27))
        if len(image) < 30:
            raise BadImage("the image is cut short")
        return "WebP", width, height
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", image, 21)
        return "WebP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", image, 26)
        return "WebP", width & 0x3FFF, height & 0x3FFF
    raise BadImage("the WebP is damaged")


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    given = {name: os.environ.get(name) for name in ("REDIS_URL", "GATEWAY_API_URL", "GATEWAY_API_KEY")}
    missing = [name for name, value in given.items() if not value]
    if missing:
        print(f"image_worker: set {', '.join(missing)}", file=sys.stderr)
        return 2
    # The socket may rest longer than a blocking read lasts, and no longer.
    store = redis.Redis.from_url(given["REDIS_URL"], socket_timeout=BLOCK_MS / 1000 + 5)
    with httpx.Client(timeout=5, trust_env=False) as client:
        stream = os.environ.get("IMAGES_STREAM") or "gateway:images"
        worker = Worker(store, client, given["GATEWAY_API_URL"].rstrip("/"), given["GATEWAY_API_KEY"], stream)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
        log.info("reading %s", stream)
        worker.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
