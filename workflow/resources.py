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


def list_resources(rule: str, device_kind: str) -> dict[str, Callable[..., int] | int]:
    """The resources of a rule, for its `resources:`.

    Args:
        rule: its name.
        device_kind: `cuda` or `cpu`, what networks run on.
    """
    memory, minutes = MEMORY_AND_TIME.get(rule, SMALL)
    cards = {"gpu": 1} if device_kind == "cuda" and rule in ON_CARDS else {}
    return {
        "mem_mb": lambda wildcards, attempt: memory * 2 ** (attempt - 1),
        "runtime": lambda wildcards, attempt: minutes * 2 ** (attempt - 1),
        **cards,
    }
