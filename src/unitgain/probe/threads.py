"""Which thread's passes are followed.

A model that is trained in one thread may be run in another one meanwhile: by a server, or an actor that plays while the
learner learns. Hooks are called in both, and what they see could not be told apart. So a thread that looks without
gradients is left out, and of several that run the model with gradients at the same time, all but the first.
"""

from __future__ import annotations

import threading

from ..graph import in_backward


class Threads:
    """always: passes without gradients count too, as there is no optimizer.

    all  numbers of those that have run the model
    """

    def __init__(self, always: bool):
        self._always = always
        self._followed = threading.get_ident()
        self._left_out: set[int] = set()  # in a pass that is not followed
        self.all: set[int] = set()

    def begins(self, in_pass: bool, gradients: bool) -> bool:
        """A pass begins in this thread; in_pass: another one has begun and not ended. Whether it is to be followed."""
        me = threading.get_ident()
        self.all.add(me)
        if in_pass and me != self._followed and _lives(self._followed):
            self._left_out.add(me)
            return False
        if gradients or self._always:
            self._followed = me
        return True

    def ends(self) -> bool:
        """A pass ends in this thread. Whether it is one that was not followed."""
        me = threading.get_ident()
        left_out = me in self._left_out
        self._left_out.discard(me)
        return left_out

    def leaves_out(self, gradients: bool) -> bool:
        """Whether what runs in this thread now is not followed. gradients: whether they are enabled."""
        me = threading.get_ident()
        if me == self._followed or in_backward():  # of an accelerator, a thread of its own
            return False
        return me in self._left_out or not (gradients or self._always)


def _lives(thread: int) -> bool:
    return any(one.ident == thread for one in threading.enumerate())
