"""Real servers for the tests, each on a port that the kernel chose and that is bound before anybody is told of it.

In: an ASGI application, a command. Out: its address; it is gone when the `with` ends. Never: a sleep, a port picked.
"""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import redis
import uvicorn

REDIS_SERVER = shutil.which("redis-server")


def listening() -> socket.socket:
    """Connections wait in its backlog from now on, so nobody has to wait for the server behind it."""
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    server.set_inheritable(True)
    return server


def url(server: socket.socket) -> str:
    host, port = server.getsockname()
    return f"http://{host}:{port}"


async def _ended(tasks: list["asyncio.Task"]) -> None:
    """Waits for cancelled tasks, inside the loop that they belong to."""
    await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def serve(app) -> Iterator[str]:
    """An ASGI application on a thread of its own, with real sockets."""
    listener = listening()
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield url(listener)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextlib.contextmanager
def process(command: list[str], **options) -> Iterator[subprocess.Popen]:
    """A process that dies with the test, politely where it listens to that."""
    running = subprocess.Popen(command, **options)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(timeout=10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """A Redis of its own on a Unix socket; yields its URL once it says that it is ready."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        path = Path(folder) / "redis.sock"
        command = [REDIS_SERVER, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder]
        with process(command, stdout=subprocess.PIPE, text=True) as server:
            for line in server.stdout:
                if "The server is now ready to accept connections at" in line:
                    break
            drain = threading.Thread(target=server.stdout.read, daemon=True)
            drain.start()
            yield f"unix://{path}"


@contextlib.contextmanager
def tcp_to(path: str) -> Iterator[str]:
    """A TCP address in front of a Unix socket, for clients that know only TCP: Redis cannot be given port 0."""
    listener = listening()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.start_server(connect, sock=listener))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        host, port = listener.getsockname()
        yield f"redis://{host}:{port}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(_ended(tasks))
        loop.close()
        listener.close()


def client(redis_url: str) -> redis.Redis:
    return redis.Redis.from_url(redis_url)
