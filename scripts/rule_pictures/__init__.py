"""The pictures on the rules' pages: what each rule looks at, measured in its bad example and in its better one.

    _example.py   runs an example of a rule and keeps what a picture may need of it
    _paper.py     two panels side by side, as an SVG that is readable on light and on dark pages
    outputs.py    what can be drawn of outputs, targets and the loss
    inputs.py     ... of the batch
    layers.py     ... of activations, weights and gradients, over depth
    steps.py      ... of a training, over its steps
    reach.py      ... of what depends on what
    _sources.py   which of these lines draw one picture: what it is out of date against
    table.py      one row for each rule: what is drawn, and the sentence that says what is seen

scripts/draw_rule_figures.py draws them; scripts/build_rule_pages.py puts them on the pages.
"""
