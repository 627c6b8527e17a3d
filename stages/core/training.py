"""One pass of gradient descent (equations 4, 5, 8 and 9) and inference without it."""

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.core.adam import Adam
from stages.core.batches import Batch
from stages.core.network import MultiTaskNetwork, name_module
from stages.core.regularization import Regularization

BATCHES_PER_CHECK = 25
"""After how many batches the losses are looked at."""


class DivergedError(ValueError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class TaskLoss:
    """Means over the samples that trained a task in one pass, in nats.

    Attributes:
        n_samples: how many there were.
        cross_entropy: between label vectors and predictions, while they changed.
        label_entropy: of the label vectors, the least that the cross-entropy can be; 0 for given
            labels. Their difference is the Kullback-Leibler divergence that training works on.
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
        label_transfer: cross-entropy of each task's label transfer network on given labels, in nats.
        regularization: mean over the batches of the weighted sum of the regularisers; None without.
    """

    tasks: dict[str, TaskLoss]
    label_transfer: dict[str, float]
    regularization: float | None


class _Mean:
    """A mean that is summed up where the values are, so that a GPU need not wait."""

    def __init__(self) -> None:
        self._total: Tensor | float = 0.0
        self._n = 0

    def add(self, value: Tensor, n: int = 1) -> None:
        self._total = self._total + n * value.detach().double()
        self._n += n

    @property
    def value(self) -> float:
        return float(self._total) / self._n


def choose_device(name: str) -> torch.device:
    """The device of `auto`, `cpu` or `cuda`; `auto` takes CUDA where there is one.

    Raises:
        ValueError: `cuda` was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("the device is to be 'cuda', but torch finds none; choose auto or cpu (compute.device)")
    return torch.device("cuda" if available and name in ("auto", "cuda") else "cpu")


def prepare_torch(n_threads: int, seed: int) -> None:
    """Make results repeatable: fixed threads, deterministic kernels, seeded generators."""
    torch.set_num_threads(n_threads)
    torch.manual_seed(seed)
    # use_deterministic_algorithms does the same, but imports torch.compile's machinery: 1.8 s.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    # Deterministic mode fills every new tensor before it is computed; none is read before.
    torch.utils.deterministic.fill_uninitialized_memory = False


def name_training_precision(device: torch.device) -> str:
    """What `train_pass` computes in."""
    return "bfloat16 autocast" if device.type == "cuda" else "float32"


def place_network(network: MultiTaskNetwork, device: torch.device) -> MultiTaskNetwork:
    """Move the network to the device, in channels-last memory order."""
    return network.to(device, memory_format=torch.channels_last)


def compute_losses(scores: dict[str, Tensor], targets: dict[str, Tensor], members: dict[str, Tensor]) -> dict:
    """Mean cross-entropy with vector targets by task.

    Args:
        scores: before the softmax, (B, C^k) by task.
        targets: label vectors, (B_k, C^k) by task.
        members: positions of those B_k samples in the batch; absent where it is all of them.
    """
    return {
        task: functional.cross_entropy(
            (scores[task][members[task]] if task in members else scores[task]).float(), labels
        )
        for task, labels in targets.items()
    }


def compute_transfer_losses(
    transferred: dict[str, Tensor], targets: dict[str, Tensor], members: dict[str, Tensor], given: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Mean cross-entropy of the label transfer networks on the samples whose labels are given.

    Args:
        transferred: scores of the label transfer networks, (B, C^k) by task.
        targets: label vectors, (B_k, C^k) by task.
        members: positions of those B_k samples in the batch; absent where it is all of them.
        given: which of the label vectors are given labels, bool (B_k,) by task, on the host.
    """
    # Counted on the host: a GPU would have to be waited for.
    own = {task: torch.nonzero(given[task]).flatten().to(targets[task].device) for task in targets}
    places = {task: members[task][rows] if task in members else rows for task, rows in own.items()}
    return compute_losses(transferred, {task: targets[task][rows] for task, rows in own.items() if len(rows)}, places)


def train_pass(
    network: MultiTaskNetwork,
    optimizer: Adam,
    batches: Iterable[Batch],
    device: torch.device,
    regularization: Regularization | None = None,
) -> PassLosses:
    """Train on every batch once; the loss is the sum over tasks of the mean cross-entropy.

    Label transfer networks, where the network has them, learn from the given labels beside it.
    On CUDA the forward pass runs in bfloat16 by automatic mixed precision.

    Args:
        network: on `device`.
        optimizer: of its parameters.
        batches: see `Batch`.
        device: where the network is.
        regularization: what is added to the loss; it looks at all tasks of all samples, labelled
            or not.

    Raises:
        DivergedError: a loss is not finite; the message names the samples of the batch.
    """
    network.train()
    specification = network.specification
    regularized = regularization is not None and regularization.active
    looks_at_all_tasks = regularized or specification.label_transfer
    totals: dict[str, Tensor] = {}
    transfer_losses: dict[str, _Mean] = {}
    penalties = _Mean()
    unchecked: list[tuple[int, np.ndarray, Tensor]] = []
    for number, batch in enumerate(batches):
        _set_batch_norm(network, training=len(batch.images) > 1)
        images = batch.images.to(device, non_blocking=True)
        targets = {task: labels.to(device, non_blocking=True) for task, labels in batch.targets.items()}
        members = {task: rows.to(device, non_blocking=True) for task, rows in batch.members.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            features, scores = network.extract(images, None if looks_at_all_tasks else targets)
        losses = compute_losses(scores, targets, members)
        terms = list(losses.values())
        if specification.label_transfer:
            transferred = network.transfer_labels(features, scores)
            for task, value in compute_transfer_losses(transferred, targets, members, batch.given).items():
                terms.append(value)
                transfer_losses.setdefault(task, _Mean()).add(value, int(batch.given[task].sum()))
        if regularized:
            predictions = {task: torch.softmax(values.float(), dim=1) for task, values in scores.items()}
            classifiers = {task: network.classifiers[name_module(task)].weight for task in specification.tasks}
            penalty = regularization.measure(features, predictions, classifiers)
            terms.append(penalty)
            penalties.add(penalty)
        loss = torch.stack(terms).sum()
        optimizer.clear_gradients()
        loss.backward()
        optimizer.step()
        for task, value in losses.items():
            labels = targets[task].double()
            summary = torch.stack(
                [
                    value.detach().double(),
                    torch.special.entr(labels).sum(1).mean(),
                    torch.ones_like(labels[0, 0]),
                ]
            )
            totals[task] = totals.get(task, 0) + len(labels) * summary
        unchecked.append((number, batch.sample_ids, loss.detach()))
        if len(unchecked) == BATCHES_PER_CHECK:
            _check_losses(unchecked)
            unchecked.clear()
    _check_losses(unchecked)
    _check_parameters(network)
    sums = {task: values.tolist() for task, values in totals.items()}
    return PassLosses(
        {task: TaskLoss(round(n), loss / n, max(0.0, entropy / n)) for task, (loss, entropy, n) in sums.items()},
        {task: mean.value for task, mean in transfer_losses.items()},
        penalties.value if regularized else None,
    )


def _set_batch_norm(network: MultiTaskNetwork, *, training: bool) -> None:
    """One sample has no variance: a last batch of one is normalised as in evaluation."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.train(training)


def _check_losses(unchecked: list[tuple[int, np.ndarray, Tensor]]) -> None:
    """Looked at once in a while: reading every loss would make a GPU wait for the host."""
    if not unchecked:
        return
    values = torch.stack([loss for *_, loss in unchecked]).cpu()
    for (number, sample_ids, _), value in zip(unchecked, values.tolist(), strict=True):
        if not math.isfinite(value):
            raise DivergedError(
                f"the loss of batch {number} is {value} (sample_id {', '.join(map(str, sample_ids))}); lower "
                "training.learning_rate or look at these samples; no checkpoint was written"
            )


def _check_parameters(network: MultiTaskNetwork) -> None:
    """The last step is followed by no loss that would show what it did."""
    for name, parameter in network.named_parameters():
        if not torch.isfinite(parameter).all():
            raise DivergedError(
                f"the last step left {name} with values that are not finite; lower training.learning_rate; "
                "no checkpoint was written"
            )


def predict_batches(
    network: MultiTaskNetwork,
    images: np.ndarray,
    *,
    batch_size: int,
    device: torch.device,
    tasks: Collection[str] | None = None,
    transferred: bool = False,
) -> Iterator[tuple[slice, dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Run the network over images in evaluation mode and in float32.

    Args:
        network: on `device`.
        images: uint8 (n, H, W, C), usually a memory map; one batch is read at a time.
        batch_size: images at a time.
        device: where the network is.
        tasks: those wanted; None for all.
        transferred: whether the probabilities are those of the label transfer networks.

    Yields:
        Rows, f by task as float32 (B, d), and softmax probabilities by task as float32 (B, C^k).
    """
    for start in range(0, len(images), batch_size):
        rows = slice(start, min(start + batch_size, len(images)))
        yield rows, *predict_batch(network, np.array(images[rows]), device, tasks, transferred=transferred)


def predict_batch(
    network: MultiTaskNetwork,
    images: np.ndarray,
    device: torch.device,
    tasks: Collection[str] | None = None,
    *,
    transferred: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """One batch of `predict_batches`: f and the probabilities by task, for uint8 images (B, H, W, C)."""
    network.eval()
    with torch.inference_mode():
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
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
