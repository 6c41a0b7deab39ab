"""python-socketio under uvicorn, as the load generator measures it beside the gateway.

In come the events of the load; out go acks, and what is said to a channel, to the others in it. There is no check, no
limit and no state but the library's rooms. With REDIS_URL, pods share their rooms by the library's own manager.
"""

import asyncio
import os
import socket
from datetime import datetime, timezone

import socketio
import uvicorn

redis = os.environ.get("REDIS_URL")
manager = socketio.AsyncRedisManager(redis) if redis else None
io = socketio.AsyncServer(async_mode="asgi", client_manager=manager, cors_allowed_origins="*")


def done(event):
    return {"ok": True, "event": event, "ts": datetime.now(timezone.utc).isoformat(timespec="milliseconds")}


@io.on("ping")
async def ping(sid, *_):
    return done("ping")


@io.on("subscribe")
async def subscribe(sid, payload):
    await io.enter_room(sid, payload["channel"])
    return done("subscribe")


@io.on("unsubscribe")
async def unsubscribe(sid, payload):
    await io.leave_room(sid, payload["channel"])
    return done("unsubscribe")


@io.on("message")
async def message(sid, payload):
    await io.emit("message", payload, room=payload["channel"], skip_sid=sid)
    return done("message")


@io.on("broadcast")
async def broadcast(sid, payload):
    await io.emit("broadcast", payload, room=payload["channel"])
    return done("broadcast")


async def main():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    config = uvicorn.Config(socketio.ASGIApp(io), log_level="error", ws_per_message_deflate=False, lifespan="off")
    print(f"ready public=127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


asyncio.run(main())
