import numpy as np
import pytest
import torch

from stages.core.batches import Batch
from stages.core.losses import LabelTransferTerm, RegularizationTerm, RunningMean, Step, compute_losses
from stages.core.network import MultiTaskNetwork, NetworkSpecification, add_label_transfer
from stages.core.optimizers import Adam
from stages.core.regularization import Regularization
from stages.core.training import train_pass

CPU = torch.device("cpu")
CLASSES = {"expression": ["happy", "sad", "angry"], "pose": ["left", "right"]}


def build_network():
    torch.manual_seed(0)
    network = MultiTaskNetwork(NetworkSpecification("vgg_tiny", (8, 8, 1), 6, CLASSES, 0.9, [0.5], [0.5]))
    return add_label_transfer(network)


def make_batch(n_samples, n_faces, seed=0, given=True):
    """The first samples know their expression, the others their pose."""
    generator = torch.Generator().manual_seed(seed)
    members = {"expression": torch.arange(n_faces), "pose": torch.arange(n_faces, n_samples)}
    return Batch(
        torch.randint(0, 256, (n_samples, 1, 8, 8), dtype=torch.uint8, generator=generator),
        {task: torch.softmax(torch.randn(len(rows), len(CLASSES[task])), 1) for task, rows in members.items()},
        members,
        {task: torch.full((len(rows),), given) for task, rows in members.items()},
        np.arange(n_samples),
    )


def look_at(network, batch):
    return Step(network, batch, *network.extract(batch.images))


class Recorded:
    """A term that returns what a function makes of a step."""

    name = "recorded"

    def __init__(self, function):
        self._function = function
        self.steps = []

    def measure(self):
        return float(len(self.steps))

    def __call__(self, step):
        self.steps.append(step)
        return self._function(step)


def test_losses_look_at_the_members_of_each_task():
    scores = {"a": torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 3.0]]), "b": torch.zeros(3, 4)}
    targets = {"a": torch.tensor([[1.0, 0.0], [0.5, 0.5]]), "b": torch.full((3, 4), 0.25)}
    losses = compute_losses(scores, targets, {"a": torch.tensor([1, 0])})
    assert losses["a"].item() == pytest.approx(0.5 * np.log(2))
    assert losses["b"].item() == pytest.approx(np.log(4))


def test_shares_sum_up_softened_cross_entropies_and_plain_ones_are_the_mean():
    generator = torch.Generator().manual_seed(0)
    scores = {"a": 5 * torch.randn(6, 3, generator=generator)}
    targets = {"a": torch.softmax(torch.randn(6, 3, generator=generator), 1)}
    plain = compute_losses(scores, targets, {})["a"]
    alike = {"a": torch.full((6,), 1 / 6)}
    ones = {"a": torch.ones(6)}
    assert compute_losses(scores, targets, {}, alike, ones)["a"].item() == pytest.approx(plain.item(), rel=1e-6)
    shares, temperatures = torch.tensor([0.5, 0.0, 0.1, 0, 0, 2]), torch.tensor([1.0, 1, 2, 1, 1, 4])
    expected = 0
    for i in (0, 2, 5):
        log_shares = torch.log_softmax(scores["a"][i].double() / temperatures[i], 0)
        expected -= shares[i] * (targets["a"][i] * log_shares).sum()
    found = compute_losses(scores, targets, {}, {"a": shares}, {"a": temperatures})["a"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_term_is_added_to_the_cross_entropies():
    """One that takes them away leaves nothing to learn."""

    def cancel(step):
        return -sum(compute_losses(step.scores, step.batch.targets, step.batch.members).values())

    network, term = build_network(), Recorded(cancel)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    losses = train_pass(network, Adam(network, 1e-2), [make_batch(8, 3), make_batch(6, 2)], CPU, [term])
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert losses.terms == {"recorded": 2.0}
    assert [len(step.batch.images) for step in term.steps] == [8, 6]


def test_terms_see_all_tasks_of_all_samples():
    network = build_network()
    batch = make_batch(8, 8)
    del batch.targets["pose"], batch.members["pose"]
    term = Recorded(lambda step: step.features["pose"].square().mean())
    train_pass(network, Adam(network, 1e-2), [batch], CPU, [term])
    [step] = term.steps
    assert {task: tuple(scores.shape) for task, scores in step.scores.items()} == {"expression": (8, 3), "pose": (8, 2)}


def test_the_regularization_is_that_of_the_step_and_its_mean_that_of_the_batches():
    network = build_network()
    regularization = Regularization(laplacian=0.5, l21=0.1, n_neighbors=2)
    term = RegularizationTerm(regularization)
    values = []
    for seed, n_samples in enumerate((8, 3)):
        step = look_at(network, make_batch(n_samples, 2, seed))
        classifiers = {task: network.classifiers[f"task_{task}"].weight for task in CLASSES}
        predictions = {task: torch.softmax(scores, 1) for task, scores in step.scores.items()}
        expected = regularization.measure(step.features, predictions, classifiers).item()
        assert term(step).item() == pytest.approx(expected, rel=1e-6)
        values.append(expected)
    assert term.measure() == pytest.approx(np.mean(values), rel=1e-6)


def test_label_transfer_learns_from_given_labels_only():
    network, term = build_network(), LabelTransferTerm()
    assert term(look_at(network, make_batch(6, 2, given=False))).item() == 0
    assert term.measure() == {}
    batch = make_batch(8, 3)
    batch.given["pose"][:] = torch.tensor([True, False, False, True, True])
    step = look_at(network, batch)
    transferred = network.transfer_labels(step.features, step.scores)
    rows = [0, 3, 4]
    log_shares = torch.log_softmax(transferred["pose"][3:][rows], 1)
    pose = -(batch.targets["pose"][rows] * log_shares).sum(1).mean().item()
    expression = -(batch.targets["expression"] * torch.log_softmax(transferred["expression"][:3], 1)).sum(1).mean()
    assert term(step).item() == pytest.approx(pose + expression.item(), rel=1e-6)
    assert term.measure() == pytest.approx({"pose": pose, "expression": expression.item()}, rel=1e-6)


def test_a_running_mean_weighs_its_values():
    mean = RunningMean()
    mean.add(torch.tensor(1.0), 3)
    mean.add(torch.tensor(5.0, requires_grad=True))
    assert (mean.measure(), mean.n) == (2.0, 4)
