import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.core.optimizers import OPTIMIZERS, Adam, AdamW, Sgd


def build():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2), nn.Linear(2, 2))
    return network.to(memory_format=torch.channels_last)


def backward(network, seed):
    images = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    # The last layer never gets a gradient.
    network[2](network[1](network[0](images))).square().sum().backward()


@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (Adam, torch.optim.Adam, {}),
        (Adam, torch.optim.Adam, {"weight_decay": 0.1}),
        (AdamW, torch.optim.AdamW, {"weight_decay": 0.1}),
        (Sgd, torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
        (Sgd, torch.optim.SGD, {}),
    ],
)
def test_steps_are_those_of_torch_to_the_bit(ours, theirs, options):
    network, reference = build(), build()
    weights = [parameter for name, parameter in reference.named_parameters() if name.endswith("weight")]
    biases = [parameter for name, parameter in reference.named_parameters() if name.endswith("bias")]
    groups = [{"params": weights}, {"params": biases, "weight_decay": 0}]
    ours, theirs = ours(network, 1e-2, **options), theirs(groups, lr=1e-2, fused=True, **options)
    for seed in range(5):
        ours.clear_gradients()
        theirs.zero_grad()
        backward(network, seed)
        backward(reference, seed)
        ours.step()
        theirs.step()
    for (name, value), other in zip(network.named_parameters(), reference.parameters(), strict=True):
        assert torch.equal(value, other), name
        if name.startswith("3"):
            assert not any(moment.any() for moment in ours.state[name].values())
            continue
        for key, moment in theirs.state[other].items():
            if moment is None:
                continue
            assert torch.equal(moment, ours.state[name][key]), f"{key} of {name}"


def test_what_is_no_layer_does_not_decay():
    network = nn.ModuleDict({"layer": nn.Linear(2, 2), "norm": nn.BatchNorm1d(2)})
    network.register_parameter("cross_stitch", nn.Parameter(torch.eye(2)))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = AdamW(network, 0.1, weight_decay=0.5)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] * (0.95 if name == "layer.weight" else 1), msg=name)


def test_only_gradients_that_are_too_long_are_shortened():
    def move(clip_norm):
        network = build()
        optimizer = Sgd(network, 1.0, clip_norm=clip_norm)
        before = [parameter.detach().clone() for parameter in network.parameters()]
        backward(network, 0)
        optimizer.step()
        return torch.cat([(a - b).flatten() for a, b in zip(network.parameters(), before, strict=True)])

    whole = move(0)
    assert whole.norm() > 0.1
    assert torch.equal(move(1e6), whole)
    torch.testing.assert_close(move(0.1), whole * 0.1 / whole.norm(), rtol=1e-4, atol=1e-6)


def test_loaded_moments_take_the_memory_order_of_their_parameter():
    network = build()
    optimizer = Adam(network, 1e-2)
    backward(network, 0)
    optimizer.step()
    plain = {name: {key: value.contiguous() for key, value in state.items()} for name, state in optimizer.state.items()}
    resumed = Adam(network, 1e-2)
    resumed.load_state(plain)
    for name, parameter in network.named_parameters():
        assert resumed.state[name]["exp_avg"].stride() == parameter.stride()
        assert torch.equal(resumed.state[name]["exp_avg"], optimizer.state[name]["exp_avg"])


def test_another_networks_state_is_refused():
    optimizer = Adam(build(), 1e-2)
    with pytest.raises(ValueError, match=r"the state step of 0\.weight is missing"):
        optimizer.load_state({})
    state = {name: dict(own) for name, own in optimizer.state.items()}
    state["2.bias"]["exp_avg"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"exp_avg of 2\.bias is of shape \(3,\), not of shape \(2,\)"):
        optimizer.load_state(state)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_does_not_import_what_it_does_not_need(name):
    code = (
        "import sys, torch; from stages.core.optimizers import OPTIMIZERS;"
        "from stages.core.training import prepare_torch; prepare_torch(1, 0); network = torch.nn.Linear(2, 2); "
        f"optimizer = OPTIMIZERS[{name!r}](network, 0.1, weight_decay=0.1, clip_norm=1);"
        "network(torch.ones(1, 2)).sum().backward(); optimizer.step();"
        "sys.exit(any(name in sys.modules for name in ('torch._dynamo', 'torchvision', 'faiss', 'sklearn')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0
