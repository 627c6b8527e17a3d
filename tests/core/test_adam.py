import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.core.adam import Adam


def build():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 2), nn.Linear(2, 2))
    return network.to(memory_format=torch.channels_last)


def backward(network, seed):
    images = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    # The last layer never gets a gradient.
    network[2](network[1](network[0](images))).square().sum().backward()


def test_steps_are_those_of_torch_to_the_bit():
    network, reference = build(), build()
    ours, theirs = Adam(network, 1e-2), torch.optim.Adam(reference.parameters(), lr=1e-2, fused=True)
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
            assert ours.state[name]["step"] == 0
            continue
        for key, moment in theirs.state[other].items():
            assert torch.equal(moment, ours.state[name][key]), f"{key} of {name}"


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


def test_training_does_not_import_what_it_does_not_need():
    code = (
        "import sys, torch; from stages.core.adam import Adam; from stages.core.training import prepare_torch;"
        "prepare_torch(1, 0); network = torch.nn.Linear(2, 2); optimizer = Adam(network, 0.1);"
        "network(torch.ones(1, 2)).sum().backward(); optimizer.step();"
        "sys.exit(any(name in sys.modules for name in ('torch._dynamo', 'torchvision', 'faiss', 'sklearn')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 0
