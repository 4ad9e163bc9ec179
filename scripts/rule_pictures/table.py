"""One row for each rule: what is drawn of its two examples, and the sentence that says what is seen.

{bad} and {better} stand for what was measured, the words in the panels' titles. A rule for which no picture makes sense
has the reason in the place of one; there is none at present.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import inputs, layers, outputs, reach, steps
from ._paper import Draw


@dataclass(frozen=True)
class Picture:
    """share: whether both panels have one y axis."""

    draw: Draw
    sentence: str
    share: bool = True


RMS = layers.over_depth("activation", "rms", "rms of activations")
GRADIENT = layers.over_depth("gradient", "rms", "rms of the gradient", backwards=True)
STREAM = layers.over_depth("activation", "rms", "rms of the stream", role="block")

PICTURES: dict[str, Picture | str] = {
    "UG101": Picture(
        outputs.confidence,
        "Before any training the example's classifier gives its likeliest class nearly any "
        "probability up to one ({bad}), the better one about a tenth ({better}).",
    ),
    "UG102": Picture(
        outputs.each_output,
        "Outputs of sixteen examples, a row each: in the example all rows are the same, in the "
        "better one they differ.",
        share=False,
    ),
    "UG103": Picture(
        outputs.training(300, outputs.lowest_of_certain_answers, "lowest possible"),
        "The loss over 300 steps on one batch: behind a softmax it stays above 1.46 ({bad}), "
        "without it falls to zero.",
    ),
    "UG104": Picture(
        outputs.of_each_example,
        "The loss of each example over its error: the example's is NaN wherever the error is "
        "negative ({bad}), the better one's is finite everywhere.",
    ),
    "UG105": Picture(
        outputs.training(300, outputs.lowest_of_certain_answers, "lowest possible"),
        "The loss over 300 steps on one batch: behind a sigmoid it {bad}, the lowest that is "
        "possible there, without one it {better}.",
    ),
    "UG106": Picture(
        outputs.along(outputs.right_answers, "size of all right scores", 20.0),
        "The loss over the size of right scores: with targets of 0 and 255 it falls without end, "
        "with 0 and 1 it falls to zero.",
        share=False,
    ),
    "UG107": Picture(
        outputs.pairs,
        "Which output the loss compares with which target: in the example each with all, in the "
        "better one each with its own, a diagonal.",
    ),
    "UG108": Picture(
        outputs.against_targets(300),
        "Outputs against targets after 300 steps: those behind a tanh stop at -1 and 1 ({bad}), "
        "the others follow the targets ({better}).",
    ),
    "UG109": Picture(
        outputs.against_targets(300),
        "Outputs against targets after 300 steps: for prices of 300,000 they stay near zero "
        "({bad}), for normalized prices they follow the targets ({better}).",
        share=False,
    ),
    "UG110": Picture(
        steps.loss(),
        "The loss of the batch over twenty steps on it: it rises in the example ({bad}) and falls"
        " in the better one ({better}).",
    ),
    "UG111": Picture(
        outputs.pull(-10, 10),
        "How strongly the loss pulls up the right class's score: behind a softmax a squared error"
        " does not pull where the answer is most wrong, cross entropy pulls most there.",
    ),
    "UG112": Picture(
        outputs.histogram(0, 1, "output"),
        "Histogram of the outputs: a softmax over one unit gives 1 for all examples, a sigmoid "
        "spreads them ({better}).",
    ),
    "UG113": Picture(
        outputs.label_counts,
        "How often each class is in the batch: one class alone in the example, all ten in the better one.",
    ),
    "UG114": Picture(
        outputs.in_the_plane(150),
        "Outputs after 150 steps: those of the example have become one point, those of the better"
        " one lie apart.",
    ),
    "UG115": Picture(
        outputs.pull(-4, 4),
        "How strongly the loss pulls up the right class's score: not at all below zero behind a "
        "ReLU, most there without it.",
    ),
    "UG116": Picture(
        outputs.read_and_asked,
        "Which token that is read is the answer that is asked for: in the example that of the "
        "same step, in the better one that of the next.",
    ),
    "UG117": Picture(
        outputs.counted,
        "Places that the loss counts, by example and step: in the example padding is among them "
        "({bad}), in the better one only real tokens are.",
    ),
    "UG118": Picture(
        outputs.shares_of_classes,
        "Shares of two classes: the example's weights leave the rare one next to nothing of the "
        "loss ({bad}), the better ones give it half.",
    ),
    "UG119": Picture(
        outputs.along(outputs.downhill, "distance along the slope", 40.0),
        "The loss as outputs move on against its slope: in the example it falls in a straight "
        "line without end, in the better one it ends at a lowest value.",
        share=False,
    ),
    "UG120": Picture(
        outputs.turned,
        "The loss over the angle between outputs and targets: in the example it is {bad}, in the "
        "better one {better}.",
    ),
    "UG121": Picture(
        outputs.directions,
        "Variance of the data along its main directions, and the variance of noise that the loss "
        "assumes: in the example {bad}, in the better one {better}.",
        share=False,
    ),
    "UG201": Picture(
        inputs.values,
        "Histogram of the input's values: pixels from 0 to 255 ({bad}) lie far outside of the "
        "band of normalized values, which the better ones fill.",
        share=False,
    ),
    "UG202": Picture(
        inputs.cells,
        "Values of sixteen examples by feature: one value of the example is NaN, in the better "
        "one all are finite.",
    ),
    "UG203": Picture(
        inputs.cells,
        "Values of sixteen examples by feature: one whole column of the example is NaN, in the "
        "better one all are finite.",
    ),
    "UG204": Picture(
        inputs.picture,
        "One input as a picture: in the example scrambled into stripes, in the better one smooth "
        "areas of colour.",
    ),
    "UG205": Picture(
        inputs.effect,
        "How far outputs move when one input is exchanged: in the example not at all for the "
        "second one, in the better one for both.",
    ),
    "UG206": Picture(
        inputs.members,
        "Which examples each of five batches holds: always the first 64 of 320 in the example, "
        "another fifth each time in the better one.",
    ),
    "UG301": Picture(
        RMS,
        "rms of the activations over eight layers: it falls in the example ({bad}) and stays in "
        "the better one ({better}).",
    ),
    "UG302": Picture(
        RMS,
        "rms of the activations over eight layers: it grows in the example ({bad}) and stays in "
        "the better one ({better}).",
    ),
    "UG303": Picture(
        layers.densities,
        "Density of the outputs of tanh: piled up at -1 and 1 in the example ({bad}), spread "
        "between them in the better one ({better}).",
    ),
    "UG304": Picture(
        layers.activity,
        "For how many examples each unit of the ReLU is active: sixteen of the example's are "
        "active for none, all of the better one's for some.",
    ),
    "UG305": Picture(
        layers.mean_shift,
        "Squared mean of the channels over their variance, block by block: it grows beyond one in"
        " the example ({bad}) and stays below in the better one ({better}).",
    ),
    "UG306": Picture(
        layers.not_finite,
        "Share of values that are NaN, by layer: half behind the root of the example and all "
        "after it, none in the better one.",
    ),
    "UG307": Picture(
        layers.over_depth("activation", "cosine", "cosine between examples", log=False),
        "Cosine between different examples over depth: it jumps to one in the example and stays "
        "well below in the better one.",
    ),
    "UG401": Picture(
        GRADIENT,
        "rms of the gradient over depth: it falls on its way back to the first layer of the "
        "example ({bad}), in the better one it nearly keeps its size ({better}).",
    ),
    "UG402": Picture(
        GRADIENT,
        "rms of the gradient over depth: it grows on its way back to the first layer of the "
        "example ({bad}), in the better one far less ({better}).",
    ),
    "UG403": Picture(
        layers.gradients_that_arrive,
        "Norm of each parameter's gradient: the body's have none in the example, all have one in "
        "the better one.",
    ),
    "UG404": Picture(
        layers.gradient_ratios,
        "gradient:data of each weight: one lies {bad} in the example, all are alike in the better one.",
    ),
    "UG405": Picture(
        layers.gradients_that_are_finite,
        "Norm of each parameter's gradient: all are NaN in the example, all are finite in the better one.",
    ),
    "UG406": Picture(
        layers.gradient_magnitudes,
        "Histogram of the gradients' magnitudes: in float16 half of them lie in the range in "
        "which digits are lost ({bad}), in bfloat16 none do.",
    ),
    "UG407": Picture(
        layers.after_a_step,
        "The first weight after one step of Adam: in float16 most values are NaN or infinite "
        "({bad}), in float32 all are finite.",
    ),
    "UG501": Picture(
        steps.ratios,
        "update:data of two weights over ten steps: above the healthy band in the example, within"
        " it in the better one.",
    ),
    "UG502": Picture(
        steps.ratios,
        "update:data of two weights over ten steps: far below the healthy band in the example, "
        "within it in the better one.",
    ),
    "UG503": Picture(
        steps.lowest_ratio,
        "update:data of six weights over ten steps: one lies three decades below the others in "
        "the example, all run together in the better one.",
    ),
    "UG504": Picture(
        steps.loss(log=True),
        "The loss over 120 steps: in the example it shoots up after step 80 and becomes NaN, in "
        "the better one it goes on falling ({better}).",
    ),
    "UG505": Picture(
        steps.loss(limit=steps.even_guess),
        "The loss over 256 steps: in the example it drops from far above ln(10) in the first "
        "steps, a hockey stick ({bad}), in the better one it falls evenly ({better}).",
    ),
    "UG506": Picture(
        steps.piled_up,
        "Norm of the gradients that each step uses: they pile up in the example ({bad}), in the "
        "better one they fall ({better}).",
        share=False,
    ),
    "UG507": Picture(
        steps.sizes,
        "Size of two weights over eighty steps, as a share of the first: they shrink to a few "
        "hundredths in the example, in the better one they stay.",
    ),
    "UG508": Picture(
        steps.ratios,
        "update:data over 120 steps: it falls by a decade every three steps to nothing in the "
        "example, in the better one every 48 steps.",
    ),
    "UG509": Picture(
        steps.gradients(log=False),
        "Norm of the gradients after backward and of those that the step used: in the example the"
        " step used none, in the better one the same.",
    ),
    "UG510": Picture(
        steps.loss(limit=steps.guess),
        "The loss over 300 steps: in the example it stays at that of a guess, in the better one "
        "it falls below ({better}).",
    ),
    "UG511": Picture(
        steps.gradients(log=False, limit=1.0),
        "Norm of the gradients after backward and of those that the step used: in the example the"
        " step used them whole, in the better one clipped to 1.",
    ),
    "UG601": Picture(
        layers.gradients_that_arrive,
        "Norm of each parameter's gradient: that of the bias before the norm is zero but for "
        "rounding in the example, which the better one does without.",
        share=False,
    ),
    "UG602": Picture(
        reach.companions,
        "Outputs of one example beside twelve sets of companions: in batches of four its "
        "BatchNorm scatters them widely, with GroupNorm they are the same.",
    ),
    "UG603": Picture(
        reach.examples,
        "Which output depends on which example: in the example each on all, in the better one "
        "each on its own, a diagonal.",
    ),
    "UG604": Picture(
        layers.running,
        "Running variance of each channel against that of the batch: {bad} as large in the "
        "example, equal in the better one.",
    ),
    "UG605": Picture(
        RMS,
        "rms of the activations over depth: it drops at one layer of the example ({bad}), in the "
        "better one it stays ({better}).",
    ),
    "UG606": Picture(
        layers.similarity(layers.units_of_second, "unit"),
        "Likeness of each pair of units' weights: all the same in the example, different in the better one.",
    ),
    "UG607": Picture(
        STREAM,
        "rms of the residual stream over ten blocks: it grows in the example ({bad}), in the "
        "better one it stays ({better}).",
    ),
    "UG701": Picture(
        steps.moved,
        "How far ten steps move each weight: two of three not at all in the example, all in the better one.",
    ),
    "UG702": Picture(
        steps.own_loss,
        "The loss over thirty passes of the loop: constant in the example, falling in the better "
        "one ({better}).",
    ),
    "UG703": Picture(
        outputs.both_modes,
        "The loss of one batch in training and in evaluation mode: in evaluation mode {bad} of "
        "training in the example, about the same in the better one.",
    ),
    "UG704": Picture(
        steps.gradients(),
        "Norm of the gradients after backward and of those that the step used: clipped to a "
        "thousandth in the example, hardly in the better one.",
    ),
    "UG705": Picture(
        steps.modes,
        "The mode of each of eighty steps: eval from step 20 on in the example, always train in "
        "the better one.",
    ),
    "UG706": Picture(
        outputs.repeated,
        "Outputs of one example in twelve passes in evaluation mode: scattered in the example, "
        "the same in the better one.",
    ),
    "UG707": Picture(
        layers.kept,
        "Values that the dropout keeps, by example and unit: a few in the example ({bad}), most "
        "in the better one ({better}).",
    ),
    "UG708": Picture(
        steps.validations,
        "Twelve validations of the same weights: in train mode the loss differs each time ({bad}), in "
        "evaluation mode it is the same and lower ({better}).",
    ),
    "UG801": Picture(
        steps.moved,
        "How far ten steps on the model's parameters move each weight: the layer in a list not at"
        " all in the example, both in the better one.",
    ),
    "UG802": Picture(
        reach.tokens,
        "Which step's output depends on which token: on all in the example, in the better one on "
        "its own and earlier ones, a triangle.",
    ),
    "UG803": Picture(
        reach.along_a_line,
        "Outputs along a line through two inputs: straight lines in the example, bent ones in the"
        " better one.",
    ),
    "UG804": Picture(
        layers.widths,
        "Features before the last layer on two principal axes: those of the example lie on a "
        "curve, as they came through one unit, those of the better one fill a cloud.",
        share=False,
    ),
    "UG805": Picture(
        reach.padding,
        "Three outputs of one text over the padding behind it: they move with it in the example, "
        "in the better one they stay.",
    ),
    "UG806": Picture(
        inputs.landing,
        "Where the three colours of a picture land: in the example each channel holds all three "
        "as stripes, in the better one a single one.",
    ),
    "UG807": Picture(
        reach.attention,
        "Sum of each query's attention weights over the keys: {bad} in the example, one for all "
        "in the better one.",
    ),
    "UG808": Picture(
        layers.of_the_sum,
        "What a block's output is made of: twice its branch and nothing of its input in the "
        "example, one of each in the better one.",
    ),
    "UG809": Picture(
        layers.similarity(layers.repeated_layers, "layer"),
        "Likeness of the weights of three layers: all the same in the example, different in the better one.",
    ),
    "UG810": Picture(
        layers.reaches_the_last,
        "Values that reach the last layer: where the ReLU's result is dropped {bad}, where it is assigned "
        "{better}.",
    ),
    "UG811": Picture(
        layers.encoded,
        "Four sines of the time's encoding: in the example they are the same for all times ({bad}), in the better one "
        "they tell times apart ({better}).",
    ),
}
