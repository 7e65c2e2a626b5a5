"""Another checkout of rmq_publisher, which the worker has put first on its path."""

from __future__ import annotations

from .ours import Peer

__all__ = ["Peer"]
