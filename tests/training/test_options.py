"""Learning rates, groups, and what the record of a run keeps."""

import pytest
from small_network import small_network

from resnet_np.training.options import HEAD_RATES, OPTIMIZERS, TRUNK_SHARE, Options


@pytest.mark.parametrize(
    ("given", "trunk", "head"),
    [
        ({}, TRUNK_SHARE * HEAD_RATES["adam"], HEAD_RATES["adam"]),
        ({"lr": 0.5}, 0.5, 0.5),
        ({"head_lr": 0.25}, TRUNK_SHARE * HEAD_RATES["adam"], 0.25),
        ({"lr": 0.5, "head_lr": 0.25}, 0.5, 0.25),
        ({"lr": 0.5, "head_lr": 0.0}, 0.5, 0.0),
    ],
)
def test_learning_rates(given, trunk, head):
    assert Options(**given).learning_rates() == (trunk, head)


def test_each_group_has_its_parameters_and_its_rate():
    model = small_network()
    model.freeze_before("layer4")
    optimizer = Options(optimizer="sgd", lr=0.1, head_lr=0.2).make_optimizer(model)
    trunk, head = optimizer.groups
    assert (trunk["lr"], head["lr"], trunk["momentum"]) == (0.1, 0.2, 0.9)
    assert [p.shape for p in head["params"]] == [(32, 5), (5,)]
    assert len(trunk["params"]) == len(list(model.layer4.named_parameters()))
    model.freeze_before("fc")
    assert [group["lr"] for group in Options(lr=0.1, head_lr=0.2).make_optimizer(model).groups] == [
        0.2
    ]


def test_every_optimizer_has_a_rate():
    assert OPTIMIZERS.keys() == HEAD_RATES.keys()


def test_the_record_brings_the_options_back():
    options = Options(head=(8, 4), data="photos", lr=0.1, dropout=0, cache=False)
    assert Options.from_record(options.to_record()) == options
