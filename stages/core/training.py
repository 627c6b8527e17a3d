"""One pass of gradient descent (equations 4, 5, 8 and 9) and inference without it."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import torch
from torch import Tensor

from stages.core.average import MovingAverage
from stages.core.batches import Batch
from stages.core.errors import UserError
from stages.core.losses import RunningMean, Step, Term, compute_losses
from stages.core.network import MultiTaskNetwork
from stages.core.optimizers import Optimizer
from stages.core.parallel import ALONE, Processes

SCHEDULES = ("alternating", "mixed", "single")
"""One dataset per epoch for all tasks; all of them in mixed batches; one per epoch for its own task only."""
BATCHES_PER_CHECK = 25
"""After how many batches the losses are looked at."""


class DivergedError(UserError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class TaskLoss:
    """Means over the samples that trained a task in a pass, in nats; weighted as the loss is (not always by 1 in all).

    Attributes:
        n_samples: how many there were.
        cross_entropy: between label vectors and predictions, while they changed.
        label_entropy: of the label vectors, the least that the cross-entropy can be; 0 for given
            labels that are not smoothed. Their difference is the Kullback-Leibler divergence that training works on.
    """

    n_samples: int
    cross_entropy: float
    label_entropy: float

    @property
    def divergence(self) -> float:
        """Kullback-Leibler divergence from the predictions to the label vectors, in nats."""
        return self.cross_entropy - self.label_entropy


@dataclass(frozen=True)
class PassLosses:
    """What one pass minimised.

    Attributes:
        tasks: by task.
        terms: means of the terms beside them, by name.
    """

    tasks: dict[str, TaskLoss]
    terms: dict[str, float | dict[str, float]]


def train_pass(
    network: MultiTaskNetwork,
    optimizer: Optimizer,
    batches: Iterable[Batch],
    device: torch.device,
    terms: Sequence[Term] = (),
    task_weights: Mapping[str, float] | None = None,
    average: MovingAverage | None = None,
    rates: Iterable[float] | None = None,
    processes: Processes = ALONE,
) -> PassLosses:
    """Train on every batch once; the loss is the weighted sum over tasks of the mean cross-entropy (equations 4 and 5).

    On CUDA the forward pass runs in bfloat16 by automatic mixed precision.

    Args:
        network: on `device`.
        optimizer: of its parameters.
        batches: see `Batch`; this process's parts of them.
        device: where the network is.
        terms: what baselines add to the loss.
        task_weights: of a task in the sum; 1 where it is left out, the paper's.
        average: of the weights, which follows them and changes nothing in training.
        rates: learning rates of the steps; without, the optimizer's.
        processes: that train copies of the network together; all of them return the same.

    Raises:
        DivergedError: a loss is not finite, and the message names the samples of the batch; or a
            parameter is not after the last step.
        PeerError: another of the processes has ended.
    """
    network.train()
    factors = task_weights or {}
    means: dict[str, _TaskMeans] = {}
    check = _LossCheck(processes)
    for batch, rate in zip(batches, rates or repeat(optimizer.learning_rate), strict=False):
        whole = batch.whole
        _set_batch_norm(network, training=whole.n_images > 1)
        batch = batch.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            # Terms look at all tasks, cross-entropies only at those with labels.
            features, scores = network.extract(batch.images, None if terms else batch.targets)
        losses = compute_losses(scores, batch.targets, batch.members, batch.shares, batch.temperatures)
        step = Step(network, batch, features, scores)
        weighted = [factors.get(task, 1) * value for task, value in losses.items()]
        loss = torch.stack([*weighted, *(term(step) for term in terms)]).sum()
        optimizer.clear_gradients()
        loss.backward()
        processes.add_up(optimizer.gradients)
        optimizer.learning_rate = rate
        optimizer.step()
        if average:
            average.update()
        for task, value in losses.items():
            mean = means.setdefault(task, _TaskMeans(processes))
            mean.add(value, batch.targets[task], batch.shares.get(task), whole.n_targets[task])
        check.add(whole.sample_ids, loss)
    check.finish()
    _check_parameters(network)
    return PassLosses(
        {task: mean.summarize() for task, mean in means.items()}, {term.name: term.measure() for term in terms}
    )


class _TaskMeans:
    """The running means behind a `TaskLoss`."""

    def __init__(self, processes: Processes) -> None:
        self._cross_entropy, self._label_entropy = RunningMean(processes), RunningMean(processes)

    def add(self, cross_entropy: Tensor, labels: Tensor, shares: Tensor | None, n_targets: int) -> None:
        """Count a batch: its cross-entropy, a scalar, its label vectors, (B_k, C^k), and their shares, (B_k,).

        Of a process's part that is the part of the whole batch's; `n_targets` is the whole's number of labels.
        """
        self._cross_entropy.add(cross_entropy, n_targets)
        sums = labels.double().sum(1)
        # Of a vector times a weight it is the entropy times the weight.
        weights = torch.where((sums - 1).abs() < 1e-4, 1, sums)
        entropies = torch.special.entr(labels.double()).sum(1) + torch.xlogy(weights, weights)
        self._label_entropy.add(entropies.mean() if shares is None else shares.double() @ entropies, n_targets)

    def summarize(self) -> TaskLoss:
        cross_entropy, label_entropy = self._cross_entropy.measure(), self._label_entropy.measure()
        return TaskLoss(self._cross_entropy.n, cross_entropy, max(0.0, label_entropy))


class _LossCheck:
    """Looks at the losses once in a while: reading every one would make a GPU wait for the host."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._n_checked = 0
        self._unchecked: list[tuple[np.ndarray, Tensor]] = []

    def add(self, sample_ids: np.ndarray, loss: Tensor) -> None:
        """Keep a batch's loss, a scalar, or this process's part of it, for the next look, and look if it is time."""
        self._unchecked.append((sample_ids, loss.detach().clone()))
        if len(self._unchecked) == BATCHES_PER_CHECK:
            self.finish()

    def finish(self) -> None:
        """Look at what is left.

        Raises:
            DivergedError: a loss is not finite.
        """
        self._processes.add_up([loss for _, loss in self._unchecked])
        values = torch.stack([loss for _, loss in self._unchecked]).tolist() if self._unchecked else []
        for (sample_ids, _), value in zip(self._unchecked, values, strict=True):
            if not math.isfinite(value):
                raise DivergedError(
                    f"the loss of batch {self._n_checked} is {value} (sample_id {', '.join(map(str, sample_ids))}); "
                    "lower training.learning_rate or look at these samples; no checkpoint was written"
                )
            self._n_checked += 1
        self._unchecked.clear()


def _set_batch_norm(network: MultiTaskNetwork, *, training: bool) -> None:
    """One sample has no variance: a last batch of one is normalised as in evaluation."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.train(training)


def _check_parameters(network: MultiTaskNetwork) -> None:
    """The last step is followed by no loss that would show what it did."""
    for name, parameter in network.named_parameters():
        if not torch.isfinite(parameter).all():
            raise DivergedError(
                f"the last step left {name} with values that are not finite; lower training.learning_rate; "
                "no checkpoint was written"
            )


def choose_device(name: str) -> torch.device:
    """The device of `auto`, `cpu` or `cuda`; `auto` takes CUDA where there is one.

    Raises:
        ValueError: `cuda` was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UserError("the device is to be 'cuda', but torch finds none; choose auto or cpu (compute.device)")
    return torch.device("cuda" if available and name in ("auto", "cuda") else "cpu")


def prepare_torch(n_threads: int, seed: int) -> None:
    """Make results repeatable: fixed threads, deterministic kernels, seeded generators, float32 that is float32."""
    torch.set_num_threads(n_threads)
    torch.manual_seed(seed)
    # use_deterministic_algorithms does the same, but imports torch.compile's machinery: 1.8 s.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    # TF32 keeps 10 bits of a factor, and cuDNN's convolutions take it unless told.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    # Deterministic mode fills every new tensor before it is computed; none is read before.
    torch.utils.deterministic.fill_uninitialized_memory = False


def name_training_precision(device: torch.device) -> str:
    """What `train_pass` computes in."""
    return "bfloat16 autocast, else float32 without TF32" if device.type == "cuda" else "float32"


def name_prediction_precision(device: torch.device) -> str:
    """What `predict_batches` computes in."""
    return "float32 without TF32" if device.type == "cuda" else "float32"


def place_network(network: MultiTaskNetwork, device: torch.device) -> MultiTaskNetwork:
    """Move the network to the device, in channels-last memory order."""
    return network.to(device, memory_format=torch.channels_last)


def predict_batches(
    network: MultiTaskNetwork,
    images: np.ndarray,
    *,
    batch_size: int,
    device: torch.device,
    tasks: Collection[str] | None = None,
    transferred: bool = False,
    processes: Processes = ALONE,
) -> Iterator[tuple[slice, dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Run the network over images in evaluation mode and in float32.

    The next batch is read while one is computed. Several processes take the batches in turns, and the first yields
    all of them in order; the others yield none.

    Args:
        network: on `device`.
        images: uint8 (n, H, W, C), usually a memory map; at most two batches are read and not yet computed.
        batch_size: images at a time.
        device: where the network is.
        tasks: those wanted; None for all.
        transferred: whether the probabilities are those of the label transfer networks.
        processes: that share the batches.

    Raises:
        PeerError: another of the processes has ended.

    Yields:
        Rows, f by task as float32 (B, d), and softmax probabilities by task as float32 (B, C^k).
    """
    spans = [slice(start, min(start + batch_size, len(images))) for start in range(0, len(images), batch_size)]
    batches = _read_ahead(images, spans[processes.own], device)
    for first in range(0, len(spans), processes.size):
        turns = spans[first : first + processes.size]
        if processes.rank < len(turns):
            predicted = predict_batch(network, next(batches), device, tasks, transferred=transferred)
        if processes.rank > 0:
            if processes.rank < len(turns):
                processes.send(predicted)
            continue
        yield turns[0], *predicted
        for rank, rows in enumerate(turns[1:], start=1):
            yield rows, *processes.receive(rank)


def _read_ahead(images: np.ndarray, spans: Sequence[slice], device: torch.device) -> Iterator[Tensor]:
    """Batches of images, uint8 (B, H, W, C), one of which is read while the one before it is used; pinned for CUDA."""

    def read(rows: slice) -> Tensor:
        batch = torch.from_numpy(np.array(images[rows]))
        return batch.pin_memory() if device.type == "cuda" else batch

    with ThreadPoolExecutor(1) as reader:
        following = [reader.submit(read, rows) for rows in spans[:1]]
        for number in range(len(spans)):
            batch = following.pop().result()
            following = [reader.submit(read, rows) for rows in spans[number + 1 : number + 2]]
            yield batch


def predict_batch(
    network: MultiTaskNetwork,
    images: np.ndarray | Tensor,
    device: torch.device,
    tasks: Collection[str] | None = None,
    *,
    transferred: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """One batch of `predict_batches`: f, float32 (B, d), and probabilities, float32 (B, C^k), by task.

    Args:
        network: on `device`.
        images: uint8 (B, H, W, C).
        device: where the network is.
        tasks: those wanted; None for all.
        transferred: whether the probabilities are those of the label transfer networks.
    """
    network.eval()
    with torch.inference_mode():
        # A pinned batch is not waited for.
        batch = torch.as_tensor(images).permute(0, 3, 1, 2).to(device, non_blocking=True)
        features, scores = network.extract(batch, None if transferred else tasks)
        if transferred:
            scores = network.transfer_labels(features, scores)
        probabilities = {task: torch.softmax(values.double(), dim=1) for task, values in scores.items()}
    return (
        {task: values.float().cpu().numpy() for task, values in features.items()},
        {task: values.float().cpu().numpy() for task, values in probabilities.items()},
    )


def normalise_features(features: np.ndarray, normalize: str) -> np.ndarray:
    """Scale features for the statistics, float32 (n, d).

    Args:
        features: f, shape (n, d).
        normalize: `l2` scales every row to unit length (a zero row stays zero); `none` is the
            paper's letter.
    """
    if normalize == "none":
        return features
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return (features / np.where(lengths > 0, lengths, 1)).astype(np.float32)
