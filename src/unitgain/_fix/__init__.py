"""The closed loop: check, change, check again, keep what helped.

loop.py  fix()
plan.py  finding -> remedies, best first
"""

from .loop import fix

__all__ = ["fix"]
