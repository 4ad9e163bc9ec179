"""Cases of UG103 under a Probe: a softmax at the end of the model, and cross entropy, which applies its own."""

from __future__ import annotations

import torch
from loop_cases import (
    CE,
    MSE,
    Net,
    adam,
    chain,
    conv_net,
    encoder,
    endless,
    healthy,
    pictures,
    series,
    sgd,
    sick,
    table,
    texts,
    train,
)  # fmt: skip
from torch import Tensor, nn

import unitgain as ug
from unitgain.rules import Diagnosis


def ended(m: nn.Module, last: nn.Module) -> nn.Sequential:
    return nn.Sequential(m, last)


@sick("UG103")
def a_softmax_layer_before_cross_entropy() -> Diagnosis:
    m = ended(chain(12, 48, 4), nn.Softmax(dim=1))
    return train(m, adam(m, 5e-3), table(), nn.CrossEntropyLoss(), 60)


@sick("UG103")
def pictures_classified_by_softmax_and_cross_entropy() -> Diagnosis:
    m = ended(conv_net(), nn.Softmax(-1))
    return train(m, sgd(m, 0.1), pictures(), CE, 60, log=False)


@sick("UG103")
def a_function_at_the_end_of_forward() -> Diagnosis:
    m = Net(lambda net, x: torch.softmax(net.head(net.rnn(x)[1][0]), 1), rnn=nn.GRU(4, 24, batch_first=True),
            head=nn.Linear(24, 3))  # fmt: skip
    x, y = series()
    return train(m, adam(m, 5e-3), (x, (y[:, 0] > 0).long() + (y[:, 0] > 0.5).long()), CE, 60)


@sick("UG103")
def probabilities_and_weights_of_classes() -> Diagnosis:
    m = ended(encoder(3), nn.Softmax(1))
    return train(m, adam(m, 1e-3), texts(), nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.3, 0.8])), 60)


@sick("UG103")
def outputs_in_a_dictionary() -> Diagnosis:
    m = Net(lambda net, x: {"logits": net.body(x).softmax(-1)}, body=chain(12, 48, 48, 4))
    o = adam(m, 3e-3)
    batches = endless(table())
    with ug.Probe(m, o, every=5) as probe:
        for _ in range(60):
            x, y = next(batches)
            loss = CE(m(x)["logits"], y)
            o.zero_grad()
            loss.backward()
            o.step()
            probe.log(loss=loss)
    return ug.diagnose(probe.record)


@sick("UG103")
def a_language_model_for_its_last_word() -> Diagnosis:
    m = Net(lambda net, x: net.head(net.embed(x).flatten(1).tanh()).softmax(1), embed=nn.Embedding(30, 8),
            head=nn.Linear(88, 30))  # fmt: skip
    x, _ = texts()
    return train(m, adam(m, 5e-3), (x[:, :-1], x[:, -1]), CE, 60)


@healthy("UG103")
def scores_and_cross_entropy() -> Diagnosis:
    m = chain(12, 48, 4)
    return train(m, adam(m), table(), CE, 60)


@healthy("UG103")
def probabilities_and_the_likelihood() -> Diagnosis:
    m = ended(chain(12, 48, 4), nn.Softmax(dim=1))
    return train(m, adam(m), table(), lambda p, y: nn.functional.nll_loss((p + 1e-9).log(), y), 60)


@healthy("UG103")
def probabilities_and_a_squared_error() -> Diagnosis:
    m = ended(chain(12, 48, 4), nn.Softmax(dim=1))

    def brier(p: Tensor, y: Tensor) -> Tensor:
        return (p - nn.functional.one_hot(y, 4).float()).square().sum(1).mean()

    return train(m, adam(m, 5e-3), table(), brier, 60)


@healthy("UG103")
def log_probabilities_and_cross_entropy() -> Diagnosis:
    m = ended(conv_net(), nn.LogSoftmax(1))
    return train(m, adam(m), pictures(), CE, 60)


@healthy("UG103")
def shares_that_are_the_targets() -> Diagnosis:
    m = ended(chain(12, 48, 4), nn.Softmax(dim=1))
    x, _ = table()
    return train(m, adam(m, 5e-3), (x, (x @ torch.randn(12, 4)).softmax(1)), MSE, 60)


@healthy("UG103")
def two_heads_of_which_one_gives_shares() -> Diagnosis:
    """The mixture's weights are a softmax, and what is compared are the mixed scores."""
    m = Net(lambda net, x: (net.gate(x).softmax(1)[..., None] * net.experts(x).unflatten(1, (3, 4))).sum(1),
            gate=nn.Linear(12, 3), experts=chain(12, 48, 12))  # fmt: skip
    return train(m, adam(m), table(), CE, 60)
