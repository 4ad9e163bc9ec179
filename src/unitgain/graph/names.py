"""Names of nodes, which are the names of sites."""

from __future__ import annotations

from collections.abc import Container


def unique_name(label: str, path: str, paths: Container[str]) -> str:
    """A node's name: its label, or where that is another module's path too, the label and whose site it is. So no
    two of a model's inputs and activations have one name. path: of the module that it belongs to; paths: all.

    >>> unique_name("input", "", {"fc"}), unique_name("input", "", {"input", "fc"}), unique_name("fc", "fc", {"fc"})
    ('input', 'input (of the model)', 'fc')
    >>> unique_name("fc#2", "fc", {"fc", "fc#2"})
    'fc#2 (of fc)'
    """
    return f"{label} (of {path or 'the model'})" if label != path and label in paths else label
