"""A view with other parameters: it computes with them, the module does not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clipmamba.nn.overlay import with_parameters


def test_a_view_computes_with_its_own_and_leaves_the_module_alone() -> None:
    inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    module = nn.ModuleDict({"first": inner, "second": nn.Linear(3, 2)})
    bias = torch.ones(3, requires_grad=True)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    view = with_parameters(module, {"first.0.bias": bias})
    x = torch.rand(4, 3)
    expected = torch.relu(x @ inner[0].weight.T + bias)
    assert torch.equal(view["first"](x), expected)
    view["first"](x).sum().backward()
    assert bias.grad is not None
    assert {*module.state_dict()} == {*before}
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())
    assert view["second"] is module["second"]
    assert view["first"][0].weight is inner[0].weight


@pytest.mark.parametrize("name", ["third.bias", "first.9.bias", "first.0.gain", "first"])
def test_an_unknown_name_is_refused(name: str) -> None:
    module = nn.ModuleDict({"first": nn.Sequential(nn.Linear(3, 3))})
    with pytest.raises(KeyError, match="has no"):
        with_parameters(module, {name: torch.zeros(3)})
