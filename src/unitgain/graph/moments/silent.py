"""Silent: theory has nothing to say about a node, and why."""

from __future__ import annotations


class Silent(Exception):
    """Raised by a law that cannot predict: the reason, a phrase that ends "not predicted: ..."."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason
