"""The multi-task network: shared convolutions, one head per task, a cross-stitch unit between them.

Section 5.2: the convolutional layers of VGG are shared, fully connected layers are task-specific,
and a cross-stitch layer (Misra et al., 2016) sits between the heads.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from stages.core.backbones import build_backbone, count_outputs
from stages.core.errors import UserError
from stages.core.label_transfer import LabelTransfer
from stages.core.specification import NetworkSpecification


class MultiTaskNetwork(nn.Module):
    """Shared layers θ^s and, for every task, a fully connected layer and a classifier.

    For an image x, f^k = ReLU(Σ_j A_kj FC_j(θ^s(x))) with the cross-stitch unit A, of shape (K, K), and
    the scores of task k are W_k f^k + b_k.

    Args:
        specification: sizes, tasks and normalisation.
        pretrained: state dict that the backbones start from, see `build_backbone`; None for random weights.

    Raises:
        ValueError: the specification does not fit together.
    """

    def __init__(self, specification: NetworkSpecification, pretrained: Mapping[str, Tensor] | None = None) -> None:
        super().__init__()
        n_channels = specification.image_shape[2]
        for name, values in (("mean", specification.mean), ("std", specification.std)):
            if len(values) != n_channels:
                raise UserError(f"images.{name} has {len(values)} values for {n_channels} channels; give one for each")
        self.specification = specification
        tasks = specification.tasks
        build = partial(build_backbone, specification.backbone, specification.image_shape, pretrained)
        if specification.separate:
            self.backbones = nn.ModuleDict({name_module(task): build() for task in tasks})
            built = next(iter(self.backbones.values()))
        else:
            self.backbone = built = build()
        n_values = count_outputs(specification.backbone, built, specification.image_shape)
        self.heads = nn.ModuleDict(
            {name_module(task): nn.Linear(n_values, specification.head_features) for task in tasks}
        )
        if not specification.separate:
            self.cross_stitch = nn.Parameter(_near_identity(len(tasks), specification.cross_stitch_identity))
        self.classifiers = nn.ModuleDict(
            {
                name_module(task): nn.Linear(specification.head_features, len(specification.classes[task]))
                for task in tasks
            }
        )
        if specification.label_transfer:
            n_classes = {task: len(names) for task, names in specification.classes.items()}
            self.transfers = nn.ModuleDict(
                {
                    name_module(task): LabelTransfer(specification.head_features, len(tasks) - 1, n_classes[task])
                    for task in tasks
                }
            )
        self.register_buffer("pixel_mean", _scale_to_pixels(specification.mean), persistent=False)
        self.register_buffer("pixel_std", _scale_to_pixels(specification.std), persistent=False)

    def extract(
        self, images: Tensor, tasks: Collection[str] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Features and class scores.

        Args:
            images: (B, C, H, W) pixel values from 0 to 255, of any type.
            tasks: those wanted; None for all.

        Returns:
            f by task, shape (B, d), and the scores before the softmax by task, shape (B, C^task).
        """
        wanted = [task for task in self.specification.tasks if tasks is None or task in tasks]
        normalised = (images.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        if self.specification.separate:
            features = {task: self._extract_alone(normalised, name_module(task)) for task in wanted}
        else:
            shared = self.backbone(normalised).flatten(1)
            stacked = torch.stack([head(shared) for head in self.heads.values()])
            mixed = torch.relu(torch.einsum("kj,jbd->kbd", self.cross_stitch.to(stacked.dtype), stacked))
            features = dict(zip(self.specification.tasks, mixed, strict=True))
        scores = {task: self.classifiers[name_module(task)](features[task]) for task in wanted}
        return {task: features[task] for task in wanted}, scores

    def _extract_alone(self, normalised: Tensor, name: str) -> Tensor:
        """The f of a single-task network, (B, d), from normalised images (B, C, H, W)."""
        return torch.relu(self.heads[name](self.backbones[name](normalised).flatten(1)))

    def transfer_labels(self, features: dict[str, Tensor], scores: dict[str, Tensor]) -> dict[str, Tensor]:
        """Class scores (B, C^task) of every task from what the other tasks' scores say (LEL-LTN).

        The label transfer networks read the rest of the network and never train it.

        Args:
            features: f of every task, as `extract` returns them.
            scores: of every task.
        """
        tasks = self.specification.tasks
        summaries = {}
        for task in tasks:
            classifier = self.classifiers[name_module(task)]
            # The bias is the embedding's value along a feature that is always 1.
            embeddings = torch.cat([classifier.weight, classifier.bias[:, None]], dim=1).detach().float()
            summaries[task] = torch.softmax(scores[task].detach().float(), dim=1) @ embeddings
        return {
            task: self.transfers[name_module(task)](
                features[task].detach().float(), [summaries[other] for other in tasks if other != task]
            )
            for task in tasks
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Class scores (B, C^task) of every task for images (B, C, H, W) in 0 to 255."""
        return self.extract(images)[1]


def name_module(task: str) -> str:
    """The name of a task's layers: `type` or `train` alone would be taken for a module's attribute."""
    return f"task_{task}"


def restore_network(specification: NetworkSpecification, weights: Mapping[str, Tensor]) -> MultiTaskNetwork:
    """A network with the weights that it had, which become its own; no others are drawn first.

    Args:
        specification: of the network.
        weights: by name, on the host.

    Raises:
        ValueError: the specification does not fit together.
        RuntimeError: the weights are not those of such a network, in name, shape or type.
    """
    with torch.device("meta"):
        network = MultiTaskNetwork(specification)
    if differences := _list_differences(network.state_dict(), weights):
        more = f" and {len(differences) - 4} more" if len(differences) > 4 else ""
        raise RuntimeError("; ".join(differences[:4]) + more)
    network.load_state_dict(weights, assign=True)
    network.pixel_mean = _scale_to_pixels(specification.mean)
    network.pixel_std = _scale_to_pixels(specification.std)
    if any(tensor.is_meta for tensor in chain(network.parameters(), network.buffers())):
        # Some backbones have tables that are computed, not saved.
        network = MultiTaskNetwork(specification)
        network.load_state_dict(weights)
    return network


def _list_differences(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    def describe(value: Tensor) -> str:
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"

    return [
        *(f"{name} is missing" for name in expected if name not in found),
        *(f"{name} is unknown" for name in found if name not in expected),
        *(
            f"{name} is {describe(found[name])}, not {describe(expected[name])}"
            for name in expected
            if name in found and describe(found[name]) != describe(expected[name])
        ),
    ]


def add_label_transfer(network: MultiTaskNetwork) -> MultiTaskNetwork:
    """The same network with label transfer networks that have learned nothing yet (LEL-LTN, supplementary K)."""
    extended = MultiTaskNetwork(replace(network.specification, label_transfer=True))
    extended.load_state_dict(network.state_dict(), strict=False)
    return extended


def _scale_to_pixels(values: Sequence[float]) -> Tensor:
    """Numbers per channel, of pixel values in [0, 1], for those from 0 to 255: (1, C, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, len(values), 1, 1) * 255


def _near_identity(n_tasks: int, identity: float) -> Tensor:
    """A (K, K) with `identity` on its diagonal and the rest of 1 spread evenly over each row."""
    if n_tasks == 1:
        return torch.ones(1, 1)
    other = (1 - identity) / (n_tasks - 1)
    return torch.full((n_tasks, n_tasks), other) + torch.eye(n_tasks) * (identity - other)
