"""Penalties of the manifold baselines SFSMR and SLRM, added to the loss of mixed batches.

SFSMR: smoothness of the predictions on the batch's graph, ‖W_k‖₂,₁ and the nuclear norm of all
classifiers together. SLRM: smoothness and the nuclear norm of each classifier (supplementary, baselines).
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Regularization:
    """Coefficients of the penalties; a penalty whose coefficient is 0 is not computed.

    Attributes:
        laplacian: μ of Σ_k tr(P_kᵀ L_k P_k) / B.
        l21: α of Σ_k ‖W_k‖₂,₁.
        joint_nuclear: β of SFSMR, of ‖[W_1; …; W_K]‖_*.
        task_nuclear: β of SLRM, of Σ_k ‖W_k‖_*.
        n_neighbors: of a sample in the graph behind L_k.

    Raises:
        ValueError: a coefficient is negative or not finite, or `n_neighbors` is below 1.
    """

    laplacian: float = 0
    l21: float = 0
    joint_nuclear: float = 0
    task_nuclear: float = 0
    n_neighbors: int = 5

    def __post_init__(self) -> None:
        for name, value in self._coefficients.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"the regularization's {name} must be 0 or more and finite, not {value}")
        if self.n_neighbors < 1:
            raise ValueError(f"the regularization's n_neighbors must be 1 or more, not {self.n_neighbors}")

    @property
    def active(self) -> bool:
        """Whether there is any penalty."""
        return any(self._coefficients.values())

    @property
    def _coefficients(self) -> dict[str, float]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "n_neighbors"}

    def measure(
        self, features: dict[str, Tensor], predictions: dict[str, Tensor], classifiers: dict[str, Tensor]
    ) -> Tensor:
        """The weighted sum of the penalties (supplementary, baselines), a scalar.

        Args:
            features: f^k of the batch, (B, d) by task.
            predictions: P_k, probabilities of the batch, labelled for the task or not, (B, C^k) by task.
            classifiers: W_k, (C^k, d) by task.
        """
        total = next(iter(classifiers.values())).new_zeros(())
        if self.laplacian:
            roughness = [measure_roughness(features[task], predictions[task], self.n_neighbors) for task in predictions]
            total = total + self.laplacian * sum(roughness)
        if self.l21:
            total = total + self.l21 * sum(map(measure_l21, classifiers.values()))
        if self.joint_nuclear:
            total = total + self.joint_nuclear * measure_nuclear_norm(torch.cat(list(classifiers.values())))
        if self.task_nuclear:
            total = total + self.task_nuclear * sum(map(measure_nuclear_norm, classifiers.values()))
        return total


def measure_l21(matrix: Tensor) -> Tensor:
    """‖W‖₂,₁, the sum over features of the feature's l2 norm over classes, a scalar.

    Its gradient at a feature that no class uses is 0, the smallest subgradient.

    Args:
        matrix: W, shape (C, d), classes by features.
    """
    return torch.linalg.vector_norm(_widen(matrix), dim=0).sum()


def measure_nuclear_norm(matrix: Tensor) -> Tensor:
    """‖W‖_*, the sum of the singular values, a scalar.

    Its gradient is U_r V_rᵀ over the r singular values above rounding, the smallest subgradient. It
    is defined everywhere, unlike the derivative of `torch.linalg.svd` at repeated singular values.

    Args:
        matrix: W, shape (C, d).
    """
    with torch.autocast(matrix.device.type, enabled=False):
        return _NuclearNorm.apply(_widen(matrix))


class _NuclearNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, matrix: Tensor) -> Tensor:
        # Where the network has diverged, the check of the loss says so; the decomposition would only fail.
        left, values, right = torch.linalg.svd(torch.nan_to_num(matrix), full_matrices=False)
        kept = values > max(matrix.shape) * torch.finfo(matrix.dtype).eps * values.max()
        ctx.save_for_backward((left * kept) @ right)
        return values.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        (subgradient,) = ctx.saved_tensors
        return gradient * subgradient


def measure_roughness(features: Tensor, predictions: Tensor, n_neighbors: int) -> Tensor:
    """tr(Pᵀ L P) / B, how much predictions differ between neighbours, a scalar; 0 for one sample.

    L = D - S is the Laplacian of S_ij = exp(-||f_i - f_j||² / σ²) where j is among the k nearest
    samples of i or i among those of j, with σ² the mean squared distance to a neighbour. The graph
    is a constant: gradients reach the predictions only.

    Args:
        features: f, shape (B, d).
        predictions: P, shape (B, C).
        n_neighbors: k; B - 1 where the batch is smaller.
    """
    with torch.no_grad():
        similarities = _connect_neighbours(_widen(features), n_neighbors)
    predictions = _widen(predictions)
    with torch.autocast(predictions.device.type, enabled=False):
        laplacian = torch.diag(similarities.sum(dim=1)) - similarities
        return (predictions * (laplacian.to(predictions.dtype) @ predictions)).sum() / len(predictions)


def _connect_neighbours(features: Tensor, n_neighbors: int) -> Tensor:
    """S of `measure_roughness`, (B, B), symmetric with a diagonal of 0, for features (B, d)."""
    n = len(features)
    # By direct differences: those of squared lengths would lose close neighbours to rounding.
    squared = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").square()
    squared.fill_diagonal_(math.inf)
    nearest = squared.topk(min(n_neighbors, n - 1), largest=False)
    # A comparison with every column instead of a scatter, which need not be deterministic.
    linked = (nearest.indices[:, :, None] == torch.arange(n, device=features.device)).any(dim=1)
    scale = nearest.values.mean()
    # 0 where all neighbours are identical, NaN where there are none.
    scale = torch.where(scale > 0, scale, 1)
    return torch.where(linked | linked.T, torch.exp(-squared / scale), 0)


def _widen(values: Tensor) -> Tensor:
    """At least float32, whatever the forward pass computed in."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
