"""Batches of one epoch: which samples, in which order, seen how."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import get_all_start_methods

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stages.core.augmentation import Augmentation, augment_images
from stages.core.parallel import ALONE, Processes
from stages.core.targets import Targets, share_loss

SAMPLINGS = {"proportional": 1, "square_root": 0.5, "balanced": 0}
"""A task's share of each batch grows with the number of its labels to that power; with 1 every sample comes once."""


@dataclass(frozen=True)
class Whole:
    """What a process must know of a batch of which it has a part.

    Attributes:
        n_images: B.
        n_targets: B_k by task.
        n_given: how many of these are the datasets' own labels, by task.
        sample_ids: int64 (B,).
    """

    n_images: int
    n_targets: dict[str, int]
    n_given: dict[str, int]
    sample_ids: np.ndarray


@dataclass(frozen=True)
class Batch:
    """One training step's input, or the part of it that is one process's: all tasks of the whole, some without rows.

    Attributes:
        images: uint8 (B, C, H, W), in channels-last memory order.
        targets: label vectors by task, float32 (B_k, C^k).
        members: for tasks that only some samples have labels for, their positions in the batch,
            int64 (B_k,); a task that is absent here is trained on the whole batch.
        given: which of a task's label vectors are the datasets' own labels, bool (B_k,), always on the host.
        sample_ids: which samples these are, for messages, int64 (B,).
        shares: of every sample's cross-entropy in the task's loss, float32 (B_k,); a task that is absent here takes
            their mean.
        temperatures: by which its scores are divided before, float32 (B_k,); absent where that is 1 for all.
        part_of: of what this is a part; None where it is the whole. A part has shares of all tasks.
    """

    images: Tensor
    targets: dict[str, Tensor]
    members: dict[str, Tensor]
    given: dict[str, Tensor]
    sample_ids: np.ndarray
    shares: dict[str, Tensor] = field(default_factory=dict)
    temperatures: dict[str, Tensor] = field(default_factory=dict)
    part_of: Whole | None = None

    @property
    def whole(self) -> Whole:
        """The whole batch, whatever part of it this is."""
        return self.part_of or Whole(
            len(self.sample_ids),
            {task: len(labels) for task, labels in self.targets.items()},
            {task: int(own.sum()) for task, own in self.given.items()},
            self.sample_ids,
        )

    def pin_memory(self) -> "Batch":
        """A copy from which CUDA can read while the host goes on; called by the data loader."""
        return self._map(Tensor.pin_memory)

    def to(self, device: torch.device) -> "Batch":
        """The same on a device, all but `given`, which is read on the host; a pinned batch is not waited for."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """A batch whose tensors, but for `given`, went through `change`."""
        return replace(
            self,
            images=change(self.images),
            targets={task: change(labels) for task, labels in self.targets.items()},
            members={task: change(rows) for task, rows in self.members.items()},
            shares={task: change(values) for task, values in self.shares.items()},
            temperatures={task: change(values) for task, values in self.temperatures.items()},
        )


@dataclass(frozen=True)
class TrainingSet:
    """A dataset as training sees it.

    Attributes:
        images: uint8 (n, H, W, C), usually a memory map.
        sample_ids: int64 (n,).
        targets: by task.
    """

    images: np.ndarray
    sample_ids: np.ndarray
    targets: Mapping[str, Targets]

    def find_rows(self) -> np.ndarray:
        """The samples that have a target for some task, int64 (m,)."""
        known = [target.known for target in self.targets.values()]
        return np.flatnonzero(np.any(known, axis=0)) if known else np.empty(0, dtype=np.int64)


class EpochBatches(Dataset):
    """The batches of one pass over one or several datasets, by batch number.

    Batches mix the datasets, and each sample trains the tasks that it has a target for; samples without
    any are left out. Where sampling is proportional, every sample comes once. Otherwise the tasks take turns,
    equally often or by the square roots of how many labels they have: each draws from the samples with a given label
    for it, over and over where these are few, and those without any given label have turns of their own. The
    pass is as long in all.

    Args:
        training_sets: the datasets to mix.
        batch_size: B; the last batch may be smaller.
        augmentation: changes to the images.
        order_seed: seed of the order of the samples.
        augmentation_seed: seed of the changes.
        share: (i, n) for the i-th of n equal shares of the pass, from 0.
        sampling: one of `SAMPLINGS`.
        length: of the pass, in samples that are drawn; None for as many as there are.
        strong: further changes, for what is trained on labels that are not given; see `split_views`.
        strong_seed: seed of these.
        processes: that train together; the batches are this one's parts of them.
    """

    def __init__(
        self,
        training_sets: Sequence[TrainingSet],
        *,
        batch_size: int,
        augmentation: Augmentation,
        order_seed: int,
        augmentation_seed: int,
        share: tuple[int, int] = (0, 1),
        sampling: str = "proportional",
        length: int | None = None,
        strong: Augmentation | None = None,
        strong_seed: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        self._processes = processes
        self._sets = list(training_sets)
        of_tasks = [(task, one) for part in self._sets for task, one in part.targets.items()]
        self._weighed = {task for task, one in of_tasks if not one.plain}
        self._separate = {task for task, one in of_tasks if one.normalization == "separate"}
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._strong = strong
        found = [part.find_rows() for part in self._sets]
        parts = np.repeat(np.arange(len(found)), [len(one) for one in found])
        rows = np.concatenate(found)
        pools = [np.arange(len(rows))] if sampling == "proportional" else _group_by_task(self._sets, found)
        order = draw_order(pools, len(rows) if length is None else length, order_seed, SAMPLINGS[sampling])
        index, n_shares = share
        span = slice(index * len(order) // n_shares, (index + 1) * len(order) // n_shares)
        self._parts, self._rows = parts[order[span]], rows[order[span]]
        self._changes = augmentation.draw(len(order), augmentation_seed)[span] if augmentation.active else None
        self._strong_changes = strong.draw(len(order), strong_seed)[span] if strong else None

    @property
    def n_samples(self) -> int:
        """Samples drawn in the pass, or in the share of it."""
        return len(self._rows)

    def load(self, n_workers: int, *, pin_memory: bool) -> DataLoader:
        """Iterate over the batches, in `n_workers` further processes or, with 0, in this one."""
        # Forked processes share the memory map; others would each be sent a copy of all images.
        context = "fork" if n_workers and "fork" in get_all_start_methods() else None
        return DataLoader(
            self, batch_size=None, num_workers=n_workers, pin_memory=pin_memory, multiprocessing_context=context
        )

    def __len__(self) -> int:
        return -(-len(self._rows) // self._batch_size)

    def __getitem__(self, number: int) -> Batch:
        span = slice(number * self._batch_size, (number + 1) * self._batch_size)
        if not len(self._rows[span]):
            raise IndexError(number)
        batch = self._collect_labels(span)
        places = np.arange(len(batch.sample_ids))
        n_weak = len(places)
        if self._strong is not None:
            batch, places, n_weak = split_views(batch)
        if self._processes.size > 1:
            own = self._processes.own
            batch, places, n_weak = take_part(batch, own), places[own], len(places[:n_weak][own])
        return replace(batch, images=self._load_images(span, places, n_weak))

    def _collect_labels(self, span: slice) -> Batch:
        """A batch without its images."""
        parts, rows = self._parts[span], self._rows[span]
        sample_ids = np.empty(len(rows), dtype=np.int64)
        targets: dict[str, list[np.ndarray]] = {}
        members: dict[str, list[np.ndarray]] = {}
        given: dict[str, list[np.ndarray]] = {}
        made: dict[str, list[np.ndarray]] = {}
        for number_of_part in np.unique(parts):
            part = self._sets[number_of_part]
            here = np.flatnonzero(parts == number_of_part)
            sample_ids[here] = part.sample_ids[rows[here]]
            for task, target in part.targets.items():
                known = target.known[rows[here]]
                if known.any():
                    chosen = rows[here[known]]
                    targets.setdefault(task, []).append(target.vectors[chosen])
                    members.setdefault(task, []).append(here[known])
                    given.setdefault(task, []).append(target.given[chosen])
                    if task in self._weighed:
                        own = (target.strength, target.temperature)
                        made.setdefault(task, []).append(np.where(target.given[chosen, None], 1, own))
        counted = {task: np.concatenate(pieces) for task, pieces in made.items()}
        return Batch(
            torch.empty(0),
            {task: _join(labels, np.float32) for task, labels in targets.items()},
            {
                task: _join(places, np.int64)
                for task, places in members.items()
                if len(self._sets) > 1 or sum(map(len, places)) < len(rows)
            },
            {task: _join(own, np.bool_) for task, own in given.items()},
            sample_ids,
            {
                task: _join(
                    [share_loss(*pair.T, np.concatenate(given[task]), separate=task in self._separate)], np.float32
                )
                for task, pair in counted.items()
            },
            {task: _join([pair[:, 1]], np.float32) for task, pair in counted.items() if (pair[:, 1] != 1).any()},
        )

    def _load_images(self, span: slice, places: np.ndarray, n_weak: int) -> Tensor:
        """Images at some places of a batch, uint8 (b, C, H, W), all but the first `n_weak` under stronger changes."""
        parts, rows = self._parts[span][places], self._rows[span][places]
        images = np.empty((len(rows), *self._sets[0].images.shape[1:]), dtype=np.uint8)
        for number_of_part in np.unique(parts):
            here = np.flatnonzero(parts == number_of_part)
            images[here] = self._sets[number_of_part].images[rows[here]]
        tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
        if self._changes is not None and len(rows):
            tensor = augment_images(tensor, self._changes[span][places], self._augmentation)
        if self._strong is not None and n_weak < len(rows):
            changes = self._strong_changes[span][places[n_weak:]]
            tensor = torch.cat([tensor[:n_weak], augment_images(tensor[n_weak:], changes, self._strong)])
        return tensor.contiguous(memory_format=torch.channels_last)


def split_views(batch: Batch) -> tuple[Batch, np.ndarray, int]:
    """Two views of a batch: what is trained on given labels keeps its own, all else sees another.

    A sample with labels of both kinds stands in it twice.

    Args:
        batch: of B samples, without images.

    Returns:
        The batch of b views, the sample of each, int64 (b,), and how many of them, the first ones, are its own.
    """
    n_samples = len(batch.sample_ids)
    members = {task: batch.members.get(task, torch.arange(n_samples)) for task in batch.targets}
    views = {task: (~given).long() for task, given in batch.given.items()}
    used = torch.zeros(2, n_samples, dtype=torch.bool)
    for task, rows in members.items():
        used[views[task], rows] = True
    positions = (used.flatten().cumsum(0) - 1).reshape(2, n_samples)
    places = used.nonzero()[:, 1].numpy()
    members = {task: positions[views[task], rows] for task, rows in members.items()}
    return replace(batch, members=members, sample_ids=batch.sample_ids[places]), places, int(used[0].sum())


def take_part(batch: Batch, own: slice) -> Batch:
    """One process's part of a batch without images.

    What a sample counts in a task's loss, it counts in the whole batch; the parts' losses add up to the batch's.

    Args:
        batch: the whole.
        own: the rows of the process, every n-th.
    """
    n_images = len(batch.sample_ids)
    positions = torch.full((n_images,), -1)
    positions[own] = torch.arange(len(positions[own]))
    members, mine = {}, {}
    for task in batch.targets:
        here = positions[batch.members.get(task, slice(None))]
        mine[task] = here >= 0
        members[task] = here[mine[task]]
    shares = {task: torch.full((len(rows),), 1 / len(rows)) for task, rows in mine.items()} | batch.shares
    return Batch(
        batch.images,
        {task: labels[mine[task]] for task, labels in batch.targets.items()},
        members,
        {task: given[mine[task]] for task, given in batch.given.items()},
        batch.sample_ids[own],
        {task: values[mine[task]] for task, values in shares.items()},
        {task: values[mine[task]] for task, values in batch.temperatures.items()},
        batch.whole,
    )


def draw_order(pools: Sequence[np.ndarray], length: int, seed: int, power: float = 0) -> np.ndarray:
    """Draw from pools in turns, without replacement until a pool is empty and begins anew, int64 (length,).

    Args:
        pools: of which samples, int64 (m,); empty ones have no turn.
        length: how many are drawn; none where all pools are empty.
        seed: of the order within the pools.
        power: the share of a pool is its size to that power, over their sum; turns are spread evenly.
    """
    rng = np.random.default_rng(seed)
    pools = [pool for pool in pools if len(pool)]
    order = np.empty(length if pools else 0, dtype=np.int64)
    turns = take_turns(np.array([len(pool) for pool in pools]) ** float(power), len(order))
    for turn, pool in enumerate(pools):
        places = np.flatnonzero(turns == turn)
        n_rounds = -(-len(places) // len(pool))
        if n_rounds:
            order[places] = np.concatenate([rng.permutation(pool) for _ in range(n_rounds)])[: len(places)]
    return order


def take_turns(weights: np.ndarray, length: int) -> np.ndarray:
    """Whose turn it is, spread as evenly as the weights allow: the k-th of one comes at (k - 1/2) / its weight.

    Args:
        weights: greater than 0, shape (n,); where all are equal, they take turns in their order.
        length: number of turns.

    Returns:
        int64 (length,).
    """
    if not length:
        return np.empty(0, dtype=np.int64)
    # Others may be half a turn late each.
    n_turns = np.ceil(length * weights / weights.sum() + len(weights) / 2).astype(np.int64) + 1
    owners = np.repeat(np.arange(len(weights)), n_turns)
    times = np.concatenate([(np.arange(n) + 0.5) / weight for n, weight in zip(n_turns, weights, strict=True)])
    return owners[np.argsort(times, kind="stable")[:length]]


def _group_by_task(sets: Sequence[TrainingSet], found: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Of the found rows of all sets, one after another, those with a given label, by task, and those without any."""
    given = [
        np.concatenate(
            [
                part.targets[task].given[rows] if task in part.targets else np.full(len(rows), False)
                for part, rows in zip(sets, found, strict=True)
            ]
        )
        for task in dict.fromkeys(task for part in sets for task in part.targets)
    ]
    return [np.flatnonzero(mask) for mask in [*given, ~np.any(given, axis=0)]] if given else []


def _join(pieces: Sequence[np.ndarray], dtype: type) -> Tensor:
    """Rows of the pieces, one after another, as a tensor that owns its memory."""
    return torch.from_numpy(np.ascontiguousarray(np.concatenate(pieces), dtype=dtype))
