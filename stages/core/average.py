"""The moving average of a network's weights: what is used, while training goes on from the last weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stages.core.errors import UserError

STATE_KEYS = ("last", "n_averaged")


class MovingAverage:
    """Exponential moving average of all weights of a network already on its device.

    After n moves of a tensor its decay is min(decay, (1 + n) / (10 + n)): an average over about the last ninth of
    training, until that is as long as `decay` says. So it forgets the random start, which a constant decay would
    keep for several times 1 / (1 - decay) steps, more than joint training may have.

    A tensor's average moves where the tensor was trained: of networks that share nothing, one that rests keeps its
    average. Running statistics of batch normalisation are averaged with the weights that they were measured under;
    what counts in whole numbers is copied.

    Args:
        network: that is trained; its weights are where the average begins.
        decay: share of the average that stays in a step, at least 0 and below 1.

    Attributes:
        weights: the averages by name in the network's state, each with its tensor's shape and memory order.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        # These share their memory with the network.
        self._last = network.state_dict()
        self._trained_with = _find_parameters(network)
        self._n_averaged = dict.fromkeys(self._last, 0)
        self.weights = {name: value.clone() for name, value in self._last.items()}

    @property
    def state(self) -> dict[str, dict[str, Tensor]]:
        """What training goes on from, by name: the `last` weights and `n_averaged`, how often their average moved."""
        return {
            name: {"last": value, "n_averaged": torch.tensor(self._n_averaged[name])}
            for name, value in self._last.items()
        }

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Give the network its last weights back, and go on with the average that it was loaded with.

        Raises:
            ValueError: a tensor's state is missing or has another shape.
        """
        for name, own in self.state.items():
            for key in STATE_KEYS:
                given = state.get(name, {}).get(key)
                if given is None or given.shape != own[key].shape:
                    raise UserError(f"the {key} of {name} is missing or of another shape (training.average)")
            self._last[name].copy_(state[name]["last"])
            self._n_averaged[name] = int(state[name]["n_averaged"])

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages of all that the last step trained."""
        moved, shares = [], []
        for name, value in self._last.items():
            parameter = self._trained_with.get(name)
            if parameter is not None and parameter.grad is None:
                continue
            if not value.is_floating_point():
                self.weights[name].copy_(value)
                continue
            n = self._n_averaged[name]
            moved.append(name)
            shares.append(1 - min(self._decay, (1 + n) / (10 + n)))
            self._n_averaged[name] = n + 1
        torch._foreach_lerp_([self.weights[name] for name in moved], [self._last[name] for name in moved], shares)


def _find_parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """By whose gradient one sees that a tensor was trained: its own, of statistics that of a weight beside them."""
    found = {}
    for prefix, module in network.named_modules():
        own = dict(module.named_parameters(recurse=False))
        beside = [(name, next(iter(own.values()))) for name, _ in module.named_buffers(recurse=False) if own]
        found.update({f"{prefix}.{name}".lstrip("."): parameter for name, parameter in [*own.items(), *beside]})
    return found
