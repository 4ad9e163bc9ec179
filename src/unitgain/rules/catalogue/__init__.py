"""Codes, texts and thresholds of all rules: one Entry each, one file per family.

To add a rule, add its entry to its family's file here and its function to RULES in engine.py; the pages under
docs/reference/rules are built from here. `unitgain rules` prints the table of names, `unitgain rules CODE` what
`explain` returns.
"""

from .lookup import CATALOGUE, explain, resolve

__all__ = ["CATALOGUE", "explain", "resolve"]
