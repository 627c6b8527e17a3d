"""What a step minimises: the cross-entropies of equations 4 and 5, and what baselines add to them.

A baseline's addition is a term: it looks at a step, returns a scalar for the sum, and keeps the mean of
what it returned over one pass.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from stages.core.batches import Batch
from stages.core.network import MultiTaskNetwork, name_module
from stages.core.parallel import ALONE, Processes
from stages.core.regularization import Regularization


@dataclass(frozen=True)
class Step:
    """What is known of a step before its gradients.

    Attributes:
        network: as it was when it saw the batch.
        batch: on the network's device; this process's part of it.
        features: f of all tasks and samples, (B, d) by task.
        scores: of all tasks and samples before the softmax, (B, C^k) by task.
    """

    network: MultiTaskNetwork
    batch: Batch
    features: dict[str, Tensor]
    scores: dict[str, Tensor]


class Term(Protocol):
    """An addition to the loss, made anew for every pass.

    Attributes:
        name: its key in the checkpoint's card.
    """

    name: str

    def __call__(self, step: Step) -> Tensor:
        """Its part of the step's loss, a scalar; over all processes the parts add up to the term."""

    def measure(self) -> float | dict[str, float]:
        """The mean over the steps so far; by task where it has one value for each. All processes call it together."""


class RunningMean:
    """A mean that is summed up where the values are, so that a GPU need not wait.

    Args:
        processes: of which each adds its part of a value.
    """

    def __init__(self, processes: Processes = ALONE) -> None:
        self._processes = processes
        self._total: Tensor | float = 0.0
        self.n = 0

    def add(self, value: Tensor, n: int = 1) -> None:
        """Count a scalar, or this process's part of it, `n` times."""
        self._total = self._total + n * value.detach().double()
        self.n += n

    def measure(self) -> float:
        """Of what was added so far; 0 where it is nothing. All processes call it together."""
        if isinstance(self._total, Tensor):
            self._processes.add_up([total := self._total.clone()])
            return float(total) / max(self.n, 1)
        return 0.0


def compute_losses(
    scores: dict[str, Tensor],
    targets: dict[str, Tensor],
    members: dict[str, Tensor],
    shares: Mapping[str, Tensor] = MappingProxyType({}),
    temperatures: Mapping[str, Tensor] = MappingProxyType({}),
) -> dict[str, Tensor]:
    """Mean cross-entropy with vector targets by task, scalars in nats (equations 4, 5, 8 and 9).

    Args:
        scores: before the softmax, (B, C^k) by task.
        targets: label vectors, (B_k, C^k) by task.
        members: positions of those B_k samples in the batch; absent where it is all of them.
        shares: of the samples in a sum instead of the mean, (B_k,) by task; absent where it is the mean.
        temperatures: by which the scores are divided first, (B_k,) by task; absent where they are not.
    """
    losses = {}
    for task, labels in targets.items():
        own = (scores[task][members[task]] if task in members else scores[task]).float()
        if task in temperatures:
            own = own / temperatures[task][:, None]
        if task in shares:
            losses[task] = shares[task] @ functional.cross_entropy(own, labels, reduction="none")
        else:
            losses[task] = functional.cross_entropy(own, labels)
    return losses


class RegularizationTerm:
    """The penalties of SFSMR and SLRM; they look at all tasks of all samples, labelled or not.

    Args:
        regularization: which, and how much of each.
        processes: that train together; each measures the whole batch, and counts for a share of it.
    """

    name = "regularization"

    def __init__(self, regularization: Regularization, processes: Processes = ALONE) -> None:
        self._regularization = regularization
        self._processes = processes
        self._mean = RunningMean(processes)

    def measure(self) -> float:
        """The mean over the batches."""
        return self._mean.measure()

    def __call__(self, step: Step) -> Tensor:
        """The weighted sum of the penalties, a scalar."""
        predictions = {task: torch.softmax(scores.float(), dim=1) for task, scores in step.scores.items()}
        features = step.features
        if self._processes.size > 1:
            n_images = step.batch.whole.n_images
            features, predictions = (
                {task: self._processes.gather_rows(values, n_images) for task, values in of_task.items()}
                for of_task in (features, predictions)
            )
        classifiers = {task: step.network.classifiers[name_module(task)].weight for task in predictions}
        penalty = self._regularization.measure(features, predictions, classifiers) / self._processes.size
        self._mean.add(penalty)
        return penalty


class LabelTransferTerm:
    """What LEL-LTN's label transfer networks learn from: their cross-entropy on given labels.

    Args:
        processes: that train together.
    """

    name = "label_transfer"

    def __init__(self, processes: Processes = ALONE) -> None:
        self._processes = processes
        self._means: dict[str, RunningMean] = {}

    def measure(self) -> dict[str, float]:
        """The means over the samples whose labels were given, in nats, by task."""
        return {task: mean.measure() for task, mean in self._means.items()}

    def __call__(self, step: Step) -> Tensor:
        """The sum over tasks of the mean cross-entropy, a scalar; 0 in a batch without given labels."""
        batch = step.batch
        transferred = step.network.transfer_labels(step.features, step.scores)
        # Counted on the host: a GPU would have to be waited for.
        n_given = {task: n for task, n in batch.whole.n_given.items() if n}
        own = {task: torch.nonzero(batch.given[task]).flatten().to(batch.images.device) for task in n_given}
        targets = {task: batch.targets[task][rows] for task, rows in own.items()}
        members = {task: batch.members[task][rows] if task in batch.members else rows for task, rows in own.items()}
        shares = {}
        if batch.part_of:
            shares = {task: torch.full_like(rows, 1 / n_given[task], dtype=torch.float32) for task, rows in own.items()}
        losses = compute_losses(transferred, targets, members, shares)
        for task, loss in losses.items():
            self._means.setdefault(task, RunningMean(self._processes)).add(loss, n_given[task])
        return sum(losses.values(), torch.zeros((), device=batch.images.device))
