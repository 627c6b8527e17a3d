"""What a job asks of a scheduler: memory, time and cards, by rule.

On one machine only cards count. Memory and time are for SLURM and the like; a job that was killed for too little of
either is sent again, where the profile has retries, and asks for twice as much each time.
"""

from collections.abc import Callable

MEMORY_AND_TIME = {
    "prepare_images": (4_000, 240),
    "initialize_network": (8_000, 720),
    "extract_features": (12_000, 60),
    "train_epoch": (8_000, 360),
    "evaluate_network": (12_000, 60),
    "estimate_density": (4_000, 30),
    "fit_mixture": (4_000, 30),
    "measure_discrepancy": (6_000, 30),
    "refine_labels": (6_000, 60),
    "export_network": (6_000, 30),
    "export_explorer": (8_000, 120),
    "collect_samples": (8_000, 60),
    "draw_map": (6_000, 60),
}
"""Megabytes and minutes of a first attempt, with room for the largest pair of the paper."""
SMALL = (2_000, 15)
"""Those of all other rules; a SLURM job holds two processes of Snakemake beside its own."""
ON_CARDS = ("initialize_network", "extract_features", "train_epoch", "evaluate_network")
"""The rules that compute on a card where the device is CUDA."""
ON_SEVERAL = ("initialize_network", "extract_features", "train_epoch")
"""Those that share their work among as many processes as `training.devices` says."""


def count_processes(rule: str, devices: int) -> int:
    """How many processes a rule computes in, of which each has threads, memory and a card of its own.

    Args:
        rule: its name.
        devices: `training.devices`.
    """
    return devices if rule in ON_SEVERAL else 1


def list_resources(
    rule: str, device_kind: str, devices: int = 1, *, shared: bool = False
) -> dict[str, Callable[..., int] | int]:
    """The resources of a rule, for its `resources:`.

    Args:
        rule: its name.
        device_kind: `cuda` or `cpu`, what networks run on.
        devices: `training.devices`.
        shared: whether jobs see each other's cards, so that one of a single card must ask for all: it takes the first.
    """
    memory, minutes = MEMORY_AND_TIME.get(rule, SMALL)
    n_processes = count_processes(rule, devices)
    cards = {"gpu": devices if shared else n_processes} if device_kind == "cuda" and rule in ON_CARDS else {}
    return {
        "mem_mb": lambda wildcards, attempt: n_processes * memory * 2 ** (attempt - 1),
        "runtime": lambda wildcards, attempt: minutes * 2 ** (attempt - 1),
        **cards,
    }
