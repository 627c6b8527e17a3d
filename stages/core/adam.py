"""Adam with its state in plain, named tensors.

`torch.optim.Adam` as a class imports the machinery of torch.compile at its first use, in torch 2.15
still, which costs every training process, and so every epoch, about two seconds. The arithmetic here
is torch's own fused kernel; only the bookkeeping of the moments is ours.
"""

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from stages.core.errors import UserError

BETAS = (0.9, 0.999)
EPSILON = 1e-8
STATE_KEYS = ("step", "exp_avg", "exp_avg_sq")


class Adam:
    """Adam (Kingma and Ba, 2015) over the parameters of a network already on its device.

    Args:
        network: whose parameters are trained.
        learning_rate: step size.

    Attributes:
        state: `step`, `exp_avg` (first moment) and `exp_avg_sq` (second moment) by parameter name;
            the moments have their parameter's shape and memory order.
    """

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self._parameters = dict(network.named_parameters())
        self.state = {name: self._start(parameter) for name, parameter in self._parameters.items()}

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Go on from moments by parameter name, on any device and in any memory order.

        Raises:
            ValueError: a parameter's state is missing or has another shape.
        """
        for name, own in self.state.items():
            for key in STATE_KEYS:
                given = state.get(name, {}).get(key)
                if given is None or given.shape != own[key].shape:
                    found = "missing" if given is None else f"of shape {tuple(given.shape)}"
                    raise UserError(f"the state {key} of {name} is {found}, not of shape {tuple(own[key].shape)}")
                # Copied, not replaced: the fused kernel walks through weights and moments in memory
                # order, so that both must have the same.
                own[key].copy_(given)

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step."""
        for parameter in self._parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        moved = {name: parameter for name, parameter in self._parameters.items() if parameter.grad is not None}
        states = [self.state[name] for name in moved]
        adam(
            list(moved.values()),
            [parameter.grad for parameter in moved.values()],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.learning_rate,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    @staticmethod
    def _start(parameter: Tensor) -> dict[str, Tensor]:
        moment = torch.zeros_like(parameter, requires_grad=False)
        step = torch.zeros((), dtype=torch.float32, device=parameter.device)
        return {"step": step, "exp_avg": moment, "exp_avg_sq": moment.clone()}
