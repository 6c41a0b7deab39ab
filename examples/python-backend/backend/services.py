"""What the handlers of events work with. Cheap to share; holds clients and settings, and nothing of any session."""

from dataclasses import dataclass

from .agents import Agents
from .model import Model
from .settings import Settings


@dataclass(frozen=True)
class Services:
    settings: Settings
    model: Model
    # None where no server API is configured: then nothing is emitted outside of the answers themselves.
    agents: Agents | None
