"""What every test of the application starts from: the application itself, called in process without a network."""

import httpx
import pytest

from backend.main import create_app
from backend.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path)


@pytest.fixture
def calling(settings):
    """Calls an application: `async with calling() as client`, or with other settings and another way to the gateway."""

    def call(given: Settings = settings, gateway: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=create_app(given, gateway))
        return httpx.AsyncClient(transport=transport, base_url="http://backend")

    return call


@pytest.fixture
def event():
    """The body of one upstream event."""

    def build(contract, name, *args, user=None, **more):
        connection = {"sid": "sid-1", "user": user, "roles": [], "ip": "127.0.0.1"}
        return {"contract": contract, "namespace": "/", "event": name, "args": list(args), "connection": connection} | more

    return build
