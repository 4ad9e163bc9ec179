"""Silent: theory has nothing to say about a node, and why."""

from __future__ import annotations


class Silent(Exception):
    """Raised by a law that cannot predict: the reason, a phrase that ends "not predicted: ...".

    tied  the gradient behind depends on the values, so that laws in front must not take them for independent either
    """

    def __init__(self, reason: str, *, tied: bool = False):
        super().__init__(reason)
        self.reason, self.tied = reason, tied
