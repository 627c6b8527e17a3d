"""Two processes with half of every batch each train what one trains with all of it."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing, nn

from stages.core.augmentation import Augmentation
from stages.core.average import MovingAverage
from stages.core.batches import EpochBatches, TrainingSet
from stages.core.errors import PeerError
from stages.core.losses import LabelTransferTerm, RegularizationTerm
from stages.core.network import MultiTaskNetwork, NetworkSpecification
from stages.core.optimizers import OPTIMIZERS
from stages.core.parallel import ALONE, Processes, share_batch_norm
from stages.core.regularization import Regularization
from stages.core.targets import Targets
from stages.core.training import DivergedError, place_network, predict_batches, prepare_torch, train_pass

CPU = torch.device("cpu")
CLASSES = {"many": ["0", "1", "2"], "some": ["0", "1"], "few": ["0", "1", "2", "3"]}
SAMPLES = {"many": 49, "some": 37, "few": 3}
"""In batches of 8 a last one of a single sample, and most without the last task."""
ALL_PENALTIES = Regularization(laplacian=0.5, l21=0.01, joint_nuclear=0.01, task_nuclear=0.01, n_neighbors=3)


def draw_sets(**how):
    """A dataset for each task; with `how`, half of its labels are made and count by that."""
    rng = np.random.default_rng(0)
    sets = []
    for task, n in SAMPLES.items():
        images = rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
        targets = {task: Targets.for_all(draw_vectors(rng, task, n), given=True)}
        if how:
            targets[task] = replace(targets[task], given=np.arange(n) % 2 == 0, **how)
            other = "some" if task == "many" else "many"
            targets[other] = replace(Targets.for_all(draw_vectors(rng, other, n), given=False), **how)
        sets.append(TrainingSet(images, np.arange(n), targets))
    return sets


def draw_vectors(rng, task, n):
    return rng.dirichlet(np.ones(len(CLASSES[task])), n).astype(np.float32)


def train(
    processes,
    *,
    optimizer="sgd",
    backbone="vgg_tiny",
    sets=None,
    terms=(),
    options=None,
    learning_rate=None,
    dtype=torch.float32,
    **specified,
):
    """Weights, their average and losses after one pass."""
    prepare_torch(1, 0)
    normal = {"head_features": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3, "cross_stitch_identity": 0.9}
    specification = NetworkSpecification(
        backbone=backbone, image_shape=(16, 16, 3), classes=CLASSES, **normal, **specified
    )
    network = place_network(MultiTaskNetwork(specification), CPU).to(dtype)
    if processes.size > 1:
        share_batch_norm(network)
    settings = {"weight_decay": 0.01, "momentum": 0.9 if optimizer == "sgd" else 0, "clip_norm": 1.0}
    average = MovingAverage(network, 0.99)
    batches = EpochBatches(
        sets or draw_sets(),
        batch_size=8,
        **{"augmentation": Augmentation(), "order_seed": 1, "augmentation_seed": 2, **(options or {})},
        processes=processes,
    ).load(0, pin_memory=False)
    losses = train_pass(
        network,
        OPTIMIZERS[optimizer](network, learning_rate or (0.03 if optimizer == "sgd" else 0.003), **settings),
        batches,
        CPU,
        [term(processes) for term in terms],
        {"some": 2.0},
        average,
        processes=processes,
    )
    return {name: value.clone() for name, value in network.state_dict().items()}, average.weights, losses


WAYS = {
    **{name: {"optimizer": name} for name in OPTIMIZERS},
    "balanced sampling": {"options": {"sampling": "balanced"}},
    "augmentation": {"options": {"augmentation": Augmentation(horizontal_flip=True, policy="rand_augment")}},
    "made labels in a strong view": {
        "sets": draw_sets(strength=0.5, temperature=2.0),
        "options": {"strong": Augmentation(erasing=1.0), "strong_seed": 3},
    },
    "made labels apart from given ones": {"sets": draw_sets(strength=0.5, normalization="separate")},
    "penalties of the whole batch": {"terms": [partial(RegularizationTerm, ALL_PENALTIES)]},
    "label transfer": {"terms": [LabelTransferTerm], "label_transfer": True},
    "single networks": {"separate": True},
    # In float32 rounding grows to 0.001: the last layers normalise single pixels of 8 images.
    "batch normalisation": {"backbone": "resnet18", "dtype": torch.float64},
}


def normalise(processes):
    """Output, gradients and state of a layer of batch normalisation after rows in two batches, in float64."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.BatchNorm2d(3).double()
    layer.weight.data, layer.bias.data = torch.rand(2, 3, generator=generator, dtype=torch.float64)
    if processes.size > 1:
        share_batch_norm(layer)
    found = []
    for n in (5, 1):
        rows, weights = torch.randn(2, n, 3, 4, 4, generator=generator, dtype=torch.float64)
        own = (100 + rows)[processes.own].requires_grad_()
        output = layer(own)
        (output * weights[processes.own]).sum().backward()
        found += [output.detach(), own.grad]
    gradients = [layer.weight.grad, layer.bias.grad]
    processes.add_up(gradients)
    return found, [*gradients, *layer.state_dict().values()]


def predict(processes):
    prepare_torch(1, 0)
    specification = NetworkSpecification("vgg_tiny", (16, 16, 3), 8, CLASSES, 0.9, [0.5] * 3, [0.5] * 3)
    images = draw_sets()[0].images
    return list(predict_batches(MultiTaskNetwork(specification), images, batch_size=7, device=CPU, processes=processes))


def diverge(processes):
    with pytest.raises(DivergedError) as error:
        train(processes, learning_rate=1e30)
    return str(error.value)


def lose_the_other(processes):
    """The second process leaves; the first notices."""
    if processes.rank == 1:
        return None
    with pytest.raises(PeerError) as error:
        processes.add_up([torch.zeros(3)])
    return str(error.value)


def work(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    processes = Processes(rank, 2)
    results = {name: train(processes, **way) for name, way in WAYS.items()}
    results |= {function.__name__: function(processes) for function in (normalise, predict, diverge, lose_the_other)}
    torch.save(results, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What each of two processes comes to."""
    folder = tmp_path_factory.mktemp("together")
    multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_train_what_one_does_but_for_rounding(together, way):
    weights, average, losses = train(ALONE, **WAYS[way])
    for found, expected in ((together[0][way][0], weights), (together[0][way][1], average)):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")
    shared = together[0][way][2]
    assert list(shared.tasks) == list(losses.tasks)
    for task, loss in losses.tasks.items():
        assert shared.tasks[task].n_samples == loss.n_samples
        assert shared.tasks[task].cross_entropy == pytest.approx(loss.cross_entropy, rel=1e-5)
        assert shared.tasks[task].label_entropy == pytest.approx(loss.label_entropy, rel=1e-6)
    assert shared.terms.keys() == losses.terms.keys()
    for name, value in losses.terms.items():
        assert shared.terms[name] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_all_processes_hold_the_same_to_the_bit(together, way):
    for first, second in zip(together[0][way][:2], together[1][way][:2], strict=True):
        assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert together[0][way][2] == together[1][way][2]


def test_the_first_process_predicts_all_samples_in_order_to_the_same_bits(together):
    assert together[1]["predict"] == []
    expected = predict(ALONE)
    assert [rows for rows, *_ in together[0]["predict"]] == [rows for rows, *_ in expected]
    for found, alone in zip(together[0]["predict"], expected, strict=True):
        for values, others in zip(found[1:], alone[1:], strict=True):
            assert values.keys() == others.keys()
            for task in others:
                np.testing.assert_array_equal(values[task], others[task])


def test_batch_normalisation_is_that_of_the_whole_batch(together):
    (first, shared), (second, others) = (results["normalise"] for results in together)
    rows, expected = normalise(ALONE)
    for whole, even, odd in zip(rows, first, second, strict=True):
        torch.testing.assert_close(even, whole[0::2], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(odd, whole[1::2], rtol=1e-10, atol=1e-10)
    for value, one, other in zip(expected, shared, others, strict=True):
        torch.testing.assert_close(one, value, rtol=1e-10, atol=1e-10)
        assert torch.equal(one, other)


def test_a_diverging_loss_is_that_of_the_whole_batch_in_all_processes(together):
    assert together[0]["diverge"] == together[1]["diverge"] == diverge(ALONE)


def test_a_process_notices_that_another_has_ended(together):
    assert "another of the processes that work together has ended" in together[0]["lose_the_other"]


def test_parts_of_a_batch_are_the_batch():
    options = {"batch_size": 8, "augmentation": Augmentation(), "order_seed": 1, "augmentation_seed": 2}
    whole = EpochBatches(draw_sets(strength=0.5), **options)
    parts = [EpochBatches(draw_sets(strength=0.5), **options, processes=Processes(rank, 3)) for rank in range(3)]
    for number, batch in enumerate(whole.load(0, pin_memory=False)):
        here = [part[number] for part in parts]
        assert sorted(np.concatenate([part.sample_ids for part in here])) == sorted(batch.sample_ids)
        for rank, part in enumerate(here):
            np.testing.assert_array_equal(part.sample_ids, batch.sample_ids[rank::3])
            assert torch.equal(part.images, batch.images[rank::3])
            assert part.whole.n_images == len(batch.images)
        for task, labels in batch.targets.items():
            assert sum(len(part.targets[task]) for part in here) == len(labels) == here[0].whole.n_targets[task]
            shares = torch.cat([part.shares[task] for part in here])
            assert shares.sum().item() == pytest.approx(batch.shares[task].sum().item(), rel=1e-6)
