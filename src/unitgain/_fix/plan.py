"""Which remedies there are for which finding, as its rule names them: the one with the best expected effect first."""

from __future__ import annotations

from ..remedies import REMEDIES, Remedy
from ..rules import CATALOGUE

PLANS: dict[str, tuple[Remedy, ...]] = {
    code: tuple(REMEDIES[name] for name in rule.remedies) for code, rule in CATALOGUE.items() if rule.remedies
}
