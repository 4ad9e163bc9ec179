"""A finding's `where` ("net.py:12 (self.fc1 in class Net)") as a file and a line."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..rules import Finding


class Place(NamedTuple):
    """A file, with slashes whatever the system, and a line from 1."""

    file: str
    line: int


def place_of(finding: Finding, source: str | None = None) -> Place | None:
    """Where a finding is. source: the file that the model came from, for findings without a place of their own.

    >>> from unitgain.rules import Finding
    >>> place_of(Finding("UG303", "saturated", "error", "fc1", "", where="net.py:12 (self.fc1 in class Net)"))
    Place(file='net.py', line=12)
    """
    found = re.match(r"(.+?):(\d+)(?: |$)", finding.where or "")
    if found:
        return Place(found[1].replace("\\", "/"), max(1, int(found[2])))
    return None if source is None else Place(source.replace("\\", "/"), 1)
