"""A label transfer network, the heart of LEL-LTN (supplementary K; Augenstein et al., 2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LabelTransfer(nn.Module):
    """Maps what the other tasks say about a sample, and the sample's feature, to one task's classes.

    A label is embedded as its row of the classifier, bias included: the class scores are dot
    products of the feature, with a 1 appended, and these embeddings.

    Args:
        n_features: d.
        n_other_tasks: K - 1.
        n_classes: C of the task.
    """

    def __init__(self, n_features: int, n_other_tasks: int, n_classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_features + n_other_tasks * (n_features + 1), n_features)
        self.output = nn.Linear(n_features, n_classes)

    def forward(self, features: Tensor, summaries: Sequence[Tensor]) -> Tensor:
        """Class scores of shape (B, C).

        Args:
            features: f of the task, shape (B, d).
            summaries: of each other task the mean of its label embeddings under its predicted
                probabilities, shape (B, d + 1).
        """
        return self.output(torch.relu(self.hidden(torch.cat([features, *summaries], dim=1))))
