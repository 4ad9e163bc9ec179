"""All cases of this folder: small networks for the rules about what function a network computes and where its gradient
goes, sick ones and healthy ones that look like them; README.md has the figures of the first run."""

from __future__ import annotations

import cases_axes  # noqa: F401
import cases_classes  # noqa: F401
import cases_critics  # noqa: F401
import cases_crossed  # noqa: F401
import cases_data  # noqa: F401
import cases_discarded  # noqa: F401
import cases_drawn_masks  # noqa: F401
import cases_dropped  # noqa: F401
import cases_encodings  # noqa: F401
import cases_floor  # noqa: F401
import cases_gradients  # noqa: F401
import cases_half  # noqa: F401
import cases_inputs  # noqa: F401
import cases_labels  # noqa: F401
import cases_latents  # noqa: F401
import cases_left_out  # noqa: F401
import cases_losses  # noqa: F401
import cases_modes  # noqa: F401
import cases_order  # noqa: F401
import cases_outputs  # noqa: F401
import cases_places  # noqa: F401
import cases_pooled  # noqa: F401
import cases_scores  # noqa: F401
import cases_scrambled  # noqa: F401
import cases_shared  # noqa: F401
import cases_sign_of_term  # noqa: F401
import cases_signs  # noqa: F401
import cases_sums  # noqa: F401
import cases_terms  # noqa: F401
import cases_text  # noqa: F401
import cases_training  # noqa: F401
import cases_twice  # noqa: F401
import cases_wanted  # noqa: F401
import cases_weights  # noqa: F401
import cases_wrong_axes  # noqa: F401
from function_rows import CASES, ROWS

from case_rows import Row

HELD_OUT = CASES.held_out()

__all__ = ["HELD_OUT", "ROWS", "Row"]
