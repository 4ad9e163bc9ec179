"""The closed loop: check, change, check again, keep what helped.

loop.py     fix()
plan.py     finding -> remedies, best first
patient.py  the model with its batch and loss
"""

from .loop import fix

__all__ = ["fix"]
