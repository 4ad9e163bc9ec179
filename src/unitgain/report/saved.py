"""What the results that have a page of their own share: they are saved as a page, as JSON or as text."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any

from .._base import card, escape, fold
from .json_report import dumps
from .report import save_text


class Saved(ABC):
    """A result whose `to_dict` gives plain data, `to_html` a page and `str` text."""

    @property
    @abstractmethod
    def verdict(self) -> str:
        """One sentence."""

    @property
    @abstractmethod
    def status(self) -> str:
        """healthy, watch, sick or info: the colour."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data; what is not finite is None."""

    @abstractmethod
    def to_html(self) -> str:
        """One page that needs no network, in the look of the report of `ug.check`."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.verdict}>"

    def _repr_html_(self) -> str:
        """A notebook's card: the verdict, and all of the text, which unfolds."""
        text = f'<pre style="white-space:pre-wrap;background:none">{escape(self)}</pre>'
        return card(self.verdict, self.status, [fold("all of it", [text])])

    def to_json(self) -> str:
        """`to_dict` as strict JSON."""
        return dumps(self.to_dict())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes .html, .json or .txt by the suffix: the whole file or, on an error, nothing.

        Raises InputError for another suffix, and for a folder that does not exist or cannot be written.
        """
        page = self.to_html
        save_text(path, {".html": page, ".htm": page, ".json": self.to_json, ".txt": lambda: f"{self}\n"})
