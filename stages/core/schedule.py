"""Which datasets an epoch trains on, and for which tasks they lack labels."""

from collections.abc import Mapping, Sequence

SCHEDULES = ("alternating", "mixed", "single")
"""One dataset per epoch for all tasks; all of them in mixed batches; one per epoch for its own task only."""


def trained_dataset(epoch: int, datasets: Sequence[str]) -> str:
    """The dataset of epoch t ≥ 1: number (t - 1) mod K in the order of the config (Algorithm 1).

    Args:
        epoch: t, at least 1 (epoch 0 is joint training on all of them).
        datasets: names of the K datasets.

    Raises:
        ValueError: the epoch is below 1.
    """
    if epoch < 1:
        raise ValueError(f"epoch {epoch} trains on every dataset; alternating epochs begin at 1")
    return datasets[(epoch - 1) % len(datasets)]


def augmented_tasks(epoch: int, tasks: Mapping[str, str]) -> list[str]:
    """The tasks for which the epoch's dataset has no labels.

    Args:
        epoch: t, at least 1.
        tasks: task by dataset, in the order of the config.

    Raises:
        ValueError: the epoch is below 1.
    """
    trained = trained_dataset(epoch, list(tasks))
    return [task for dataset, task in tasks.items() if dataset != trained]
