"""Rules over a Record: what is wrong, why, and what to do. Nothing here needs a model or torch.

ug101_confident_at_init.py ...   the rules, one file each: texts, thresholds, judgement, examples
_rule.py         what such a file holds                 _registry.py  finds them: CATALOGUE, explain, resolve
_engine.py       diagnose: asks every rule              _causes.py    what explains what
_view.py         a record, arranged for rules           _words.py     numbers and names in messages
_flow.py, _trend.py, _residual.py, _scale.py, _gradient_scale.py, _logits.py, _recurrent.py, _gains.py, _loss_curve.py,
_updates.py, _comparison.py    judgement that several rules share
_finding.py, _diagnosis.py, _compare.py, _baseline.py    what comes out, compared with another time

To add a rule: docs/contributing/add-a-rule.md.
"""

from ._baseline import Accepted, accept, load_baseline, new_findings, save_baseline
from ._compare import Comparison, compare
from ._diagnosis import Diagnosis
from ._engine import diagnose, reconsider
from ._finding import SEVERITIES, Finding, Prescription, Proof
from ._registry import CATALOGUE, as_data, explain, resolve
from ._rule import Rule, Threshold

__all__ = [
    "CATALOGUE",
    "SEVERITIES",
    "Accepted",
    "Comparison",
    "Diagnosis",
    "Finding",
    "Prescription",
    "Proof",
    "Rule",
    "Threshold",
    "accept",
    "as_data",
    "compare",
    "diagnose",
    "explain",
    "load_baseline",
    "new_findings",
    "reconsider",
    "resolve",
    "save_baseline",
]
