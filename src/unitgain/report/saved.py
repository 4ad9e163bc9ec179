"""What the results that have a page of their own share: they are saved as a page, as JSON or as text."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any

from .json_report import dumps
from .report import save_text


class Saved(ABC):
    """A result whose `to_dict` gives plain data, `to_html` a page and `str` text."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data; what is not finite is None."""

    @abstractmethod
    def to_html(self) -> str:
        """One page that needs no network, in the look of the report of `ug.check`."""

    def to_json(self) -> str:
        """`to_dict` as strict JSON."""
        return dumps(self.to_dict())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes .html, .json or .txt by the suffix: the whole file or, on an error, nothing.

        Raises InputError for another suffix, and for a folder that does not exist or cannot be written.
        """
        page = self.to_html
        save_text(path, {".html": page, ".htm": page, ".json": self.to_json, ".txt": lambda: f"{self}\n"})
