import pytest
import torch
from torch import nn

from stages.core.average import MovingAverage


def build():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {
            name: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
            for name in ("one", "other")
        }
    ).to(memory_format=torch.channels_last)


def step(network, seed, part="one"):
    """A step of gradient descent on one part."""
    images = torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
    network.zero_grad()
    network[part](images).square().sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 0.01 * parameter.grad


def test_the_average_forgets_the_start_and_then_moves_by_its_decay():
    network = build()
    average = MovingAverage(network, 0.5)
    names = ["one.0.weight", "one.1.bias", "one.1.running_mean"]
    expected = {name: network.state_dict()[name].clone().double() for name in names}
    for number in range(20):
        step(network, number)
        average.update()
        decay = min(0.5, (1 + number) / (10 + number))
        for name in names:
            expected[name] = decay * expected[name] + (1 - decay) * network.state_dict()[name].double()
    for name in names:
        torch.testing.assert_close(average.weights[name].double(), expected[name], rtol=1e-5, atol=1e-6, msg=name)
    assert average.weights["one.1.num_batches_tracked"] == 20
    assert not torch.equal(average.weights["one.0.weight"], network.state_dict()["one.0.weight"])
    assert average.weights["one.0.weight"].stride() == network.one[0].weight.stride()


def test_the_average_of_a_constant_is_the_constant():
    network = build()
    step(network, 0)
    average = MovingAverage(network, 0.99)
    for _ in range(5):
        average.update()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(average.weights[name], value)


def test_what_is_not_trained_keeps_its_average():
    network = build()
    average = MovingAverage(network, 0.5)
    step(network, 0, "other")
    average.update()
    before = {name: value.clone() for name, value in average.weights.items() if name.startswith("other.")}
    assert not torch.equal(before["other.0.weight"], network.other[0].weight)
    for number in range(3):
        step(network, number)
        average.update()
    for name, value in before.items():
        assert torch.equal(average.weights[name], value), name


def test_another_networks_average_is_refused():
    average = MovingAverage(build(), 0.5)
    state = average.state
    state["one.0.weight"]["last"] = torch.zeros(2)
    with pytest.raises(ValueError, match=r"the last of one\.0\.weight is missing or of another shape"):
        average.load_state(state)
