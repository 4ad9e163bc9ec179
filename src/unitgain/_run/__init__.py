"""Runs a model, and puts back what it changed."""

from .loaders import (
    generator_states,
    is_stateful,
    loader_state,
    loaders_kept,
    set_generators,
    set_loader_state,
)

__all__ = [
    "generator_states",
    "is_stateful",
    "loader_state",
    "loaders_kept",
    "set_generators",
    "set_loader_state",
]
