"""Checkpoints: weights and the state of training as safetensors, and a card that people can read."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import shorten

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from stages.core.average import MovingAverage
from stages.core.errors import UserError
from stages.core.network import MultiTaskNetwork, NetworkSpecification, restore_network
from stages.core.optimizers import Optimizer
from stages.core.training import PassLosses
from stages.storage.contracts import CHECKPOINT, METRICS
from stages.storage.datasets import PreparedSplit
from stages.storage.files import digest_file, read_json, replace_when_complete, write_json
from stages.storage.provenance import Provenance
from stages.storage.tables import read_table


@dataclass(frozen=True)
class CheckpointPaths:
    """The three files of a checkpoint.

    Attributes:
        network: weights to use, safetensors.
        optimizer: what training goes on from beside them, safetensors.
        card: what people read, and the digests of the other two, JSON.
    """

    network: str | Path
    optimizer: str | Path
    card: str | Path


def save_network(path: str | Path, network: MultiTaskNetwork, average: MovingAverage | None = None) -> None:
    """Write the weights, those of the average where there is one, and in their metadata all that is needed to use them.

    What evaluates, exports or predicts need not know of averages.
    """
    weights = network.state_dict() if average is None else average.weights
    weights = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    # One metadata entry only: several would be written in a random order.
    metadata = {"network": json.dumps(asdict(network.specification))}
    _write_safetensors(path, weights, metadata)


def load_network(
    path: str | Path, splits: Iterable[PreparedSplit] = (), card: str | Path | None = None
) -> MultiTaskNetwork:
    """Build a network from its file.

    Args:
        path: a `network.safetensors`.
        splits: what it is about to be used on.
        card: the artifact that records the file's digest: `checkpoint.json`, or of a final network
            `metrics.parquet`; None for files that came without it.

    Raises:
        ValueError: the file is missing or damaged, is not the one that `card` records, holds values
            that are not finite, or a network for other tasks, classes or images.
    """
    weights, metadata = _read_safetensors(path, card)
    if "network" not in metadata:
        raise UserError(f"{path}: describes no network; it was not written by this pipeline")
    try:
        specification = NetworkSpecification.parse(json.loads(metadata["network"]))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: its description is none of a network ({_shorten(error)}); if another version of this project "
            "wrote it, use that one"
        ) from None
    for split in splits:
        _check_fit(path, specification, split)
    try:
        # Copied: they lie in the file, at any address, and faster instructions may round otherwise at some.
        network = restore_network(specification, {name: value.clone() for name, value in weights.items()})
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"{path}: its weights do not fit its own description ({_shorten(error, 300)}); delete it and run "
            "snakemake again"
        ) from None
    for name, value in network.state_dict().items():
        # Ten times as fast as isfinite over all values: an extreme that is finite bounds finite values only.
        if value.numel() and not torch.isfinite(torch.stack(torch.aminmax(value))).all():
            raise UserError(f"{path}: its {name} has values that are not finite; delete it and run snakemake again")
    return network


def save_optimizer(path: str | Path, optimizer: Optimizer, average: MovingAverage | None = None) -> None:
    """Write the state of the optimizer by parameter, as `<key>.<parameter>`, and that of an average."""
    tensors = {
        f"{key}.{name}": value.cpu().contiguous()
        for states in (optimizer.state, average.state if average else {})
        for name, state in states.items()
        for key, value in state.items()
    }
    _write_safetensors(path, tensors, None)


def load_optimizer(
    path: str | Path,
    optimizer: Optimizer,
    average: MovingAverage | None = None,
    fresh: Collection[str] = (),
    card: str | Path | None = None,
) -> None:
    """Resume training where `save_optimizer` left it.

    Args:
        path: an `optimizer.safetensors`.
        optimizer: of the network that goes on.
        average: of the network that goes on, which gets its last weights.
        fresh: weights that the file knows nothing of; they keep the state they have.
        card: see `load_network`.

    Raises:
        ValueError: the file is missing or damaged, is not the one that `card` records, or belongs to
            another network.
    """
    tensors, _ = _read_safetensors(path, card)
    known = average.state if average else {}
    state: dict[str, dict[str, torch.Tensor]] = {
        name: optimizer.state.get(name, {}) | known.get(name, {}) for name in fresh
    }
    for full_name, tensor in tensors.items():
        key, _, name = full_name.partition(".")
        state.setdefault(name, {})[key] = tensor
    try:
        optimizer.load_state(state)
        if average:
            average.load_state(state)
    except ValueError as error:
        raise UserError(f"{path}: {error}; it belongs to another network") from None


def load_last_weights(path: str | Path, network: MultiTaskNetwork, card: str | Path | None = None) -> None:
    """Put the weights that training goes on from in the place of their average.

    Args:
        path: an `optimizer.safetensors`.
        network: of the same checkpoint, on the host.
        card: see `load_network`.

    Raises:
        ValueError: the file is missing or damaged, is not the one that `card` records, or holds no such weights.
    """
    tensors, _ = _read_safetensors(path, card)
    last = {name.removeprefix("last."): value for name, value in tensors.items() if name.startswith("last.")}
    try:
        network.load_state_dict(last)
    except RuntimeError as error:
        raise UserError(
            f"{path}: holds no weights beside an average of this network ({_shorten(error)}); they are there where "
            "training.average is above 0"
        ) from None


def save_checkpoint(
    paths: CheckpointPaths,
    network: MultiTaskNetwork,
    optimizer: Optimizer,
    average: MovingAverage | None,
    *,
    provenance: Provenance,
    epoch: int,
    dataset: str | None,
    losses: PassLosses,
    labels: Mapping[str, str],
    n_samples: int,
    seed: int,
    threads: int,
    seconds: float,
) -> None:
    """Write the three files of a checkpoint, the card last.

    Args:
        paths: where to.
        network: what was trained.
        optimizer: its state.
        average: of its weights, if there is one.
        provenance: recorded in the card.
        epoch: number of the epoch.
        dataset: what it trained on; None for all of them.
        losses: of the last pass.
        labels: by task where its labels came from: given, materialized or both.
        n_samples: in the pass.
        seed: of the experiment.
        threads: of the process; they decide the last bits.
        seconds: wall time, the one value of a checkpoint that differs from run to run.
    """
    save_network(paths.network, network, average)
    save_optimizer(paths.optimizer, optimizer, average)
    card = {
        "epoch": epoch,
        "dataset": dataset,
        "n_samples": n_samples,
        "losses": {
            task: {
                "labels": labels[task],
                "n_samples": loss.n_samples,
                "cross_entropy": loss.cross_entropy,
                "label_entropy": loss.label_entropy,
                "divergence": loss.divergence,
            }
            for task, loss in losses.tasks.items()
        },
        "label_transfer": losses.terms.get("label_transfer", {}),
        "regularization": losses.terms.get("regularization"),
        "seed": seed,
        "threads": threads,
        "n_parameters": sum(parameter.numel() for parameter in network.parameters()),
        "seconds": seconds,
        "files": {Path(path).name: digest_file(path) for path in (paths.network, paths.optimizer)},
    }
    write_json(paths.card, CHECKPOINT, card, provenance)


def _write_safetensors(path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> None:
    with replace_when_complete(path) as path_temporary:
        try:
            safetensors.torch.save_file(tensors, path_temporary, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def _read_safetensors(path: str | Path, card: str | Path | None) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    if Path(path).is_dir():
        raise UserError(f"{path}: is a folder; name the network.safetensors in it")
    if not Path(path).exists():
        raise UserError(f"{path}: does not exist; run snakemake for it first")
    if card is not None and digest_file(path) != _read_digests(card).get(Path(path).name):
        raise UserError(
            f"{path}: is not the file that {card} records (damaged, or of another run); delete both and run snakemake "
            "again"
        )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(
            f"{path}: is no network or is damaged ({error}); name a network.safetensors, or run snakemake again for it"
        ) from None


def _read_digests(card: str | Path) -> dict[str, str]:
    """Digests by file name, as a checkpoint's card or a run's metrics record them."""
    recorded = read_table(card, METRICS, []).metadata if str(card).endswith(".parquet") else read_json(card, CHECKPOINT)
    return recorded.get("files", {})


def _shorten(error: Exception, width: int = 200) -> str:
    """Its last line, which is the most specific one of torch's."""
    return shorten((str(error).splitlines() or [type(error).__name__])[-1], width, placeholder=" …")


def _check_fit(path: str | Path, specification: NetworkSpecification, split: PreparedSplit) -> None:
    image_shape = tuple(split.images.shape[1:])
    if specification.image_shape != image_shape:
        found, wanted = f"images {specification.image_shape}", f"images {image_shape}"
    else:
        known = specification.classes
        others = [task for task, names in split.classes.items() if not set(names) <= set(known.get(task, []))]
        if not others:
            return
        task = others[0]
        found = f"the classes {list(known[task])} of task '{task}'" if task in known else f"no task '{task}'"
        wanted = f"its classes {split.classes[task]}"
    raise UserError(
        f"{path}: is a checkpoint for another network: it has {found}, but {split.path_table} has {wanted}; "
        "choose another `experiment` name or delete the checkpoint and run snakemake again"
    )
