"""Optimizers with their state in plain, named tensors.

The classes of `torch.optim` import the machinery of torch.compile at their first use, in torch 2.15 still,
which costs every training process, and so every epoch, one to two seconds. The arithmetic here is torch's own
fused kernels; only the bookkeeping of the state is ours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from stages.core.errors import UserError

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Optimizer:
    """What the optimizers of the parameters of a network, already on its device, have in common.

    Args:
        network: whose parameters are trained.
        learning_rate: step size.
        weight_decay: of the weights of layers; biases, scales of normalisation and the cross-stitch unit, which is
            near the identity for a reason, never decay.
        momentum: of gradients, for `Sgd`.
        clip_norm: length that the gradient of all parameters together is shortened to; 0 leaves it as it is.

    Attributes:
        learning_rate: of the next step.
        state: tensors by parameter name and, within, by `state_keys`; those of the parameter's shape have its
            memory order, too.
    """

    state_keys: tuple[str, ...]

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        clip_norm: float = 0.0,
    ) -> None:
        self.learning_rate = learning_rate
        self._weight_decay, self._momentum, self._clip_norm = weight_decay, momentum, clip_norm
        self._parameters = dict(network.named_parameters())
        self.state = {name: self._start(parameter) for name, parameter in self._parameters.items()}

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Go on from a state by parameter name, on any device and in any memory order.

        Raises:
            ValueError: a parameter's state is missing or has another shape.
        """
        for name, own in self.state.items():
            for key in self.state_keys:
                given = state.get(name, {}).get(key)
                if given is None or given.shape != own[key].shape:
                    found = "missing" if given is None else f"of shape {tuple(given.shape)}"
                    raise UserError(f"the state {key} of {name} is {found}, not of shape {tuple(own[key].shape)}")
                # Copied, not replaced: the fused kernels walk through weights and moments in memory
                # order, so that both must have the same.
                own[key].copy_(given)

    @property
    def gradients(self) -> list[Tensor]:
        """Of the parameters that have one, in the order of the network."""
        return [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step."""
        for parameter in self._parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        moved = [name for name, parameter in self._parameters.items() if parameter.grad is not None]
        if self._clip_norm:
            clip_grad_norm_([self._parameters[name] for name in moved], self._clip_norm)
        decayed = [name for name in moved if self._weight_decay and self._is_layer(name)]
        for names, weight_decay in ((decayed, self._weight_decay), ([n for n in moved if n not in decayed], 0.0)):
            if names:
                parameters = [self._parameters[name] for name in names]
                self._move(parameters, [self.state[name] for name in names], weight_decay)

    def _is_layer(self, name: str) -> bool:
        return name.endswith("weight") and self._parameters[name].ndim > 1

    def _start(self, parameter: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError

    def _move(self, parameters: Sequence[Tensor], states: Sequence[dict[str, Tensor]], weight_decay: float) -> None:
        raise NotImplementedError


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015); weights decay through the gradient.

    Its state is `step`, `exp_avg` (first moment) and `exp_avg_sq` (second moment).
    """

    state_keys = ("step", "exp_avg", "exp_avg_sq")
    decoupled = False

    def _start(self, parameter: Tensor) -> dict[str, Tensor]:
        moment = torch.zeros_like(parameter, requires_grad=False)
        step = torch.zeros((), dtype=torch.float32, device=parameter.device)
        return {"step": step, "exp_avg": moment, "exp_avg_sq": moment.clone()}

    def _move(self, parameters: Sequence[Tensor], states: Sequence[dict[str, Tensor]], weight_decay: float) -> None:
        adam(
            list(parameters),
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            decoupled_weight_decay=self.decoupled,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=self.learning_rate,
            weight_decay=weight_decay,
            eps=EPSILON,
            maximize=False,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019)."""

    decoupled = True


class Sgd(Optimizer):
    """Stochastic gradient descent with momentum; its state is `momentum_buffer`."""

    state_keys = ("momentum_buffer",)

    def _start(self, parameter: Tensor) -> dict[str, Tensor]:
        return {"momentum_buffer": torch.zeros_like(parameter, requires_grad=False)}

    def _move(self, parameters: Sequence[Tensor], states: Sequence[dict[str, Tensor]], weight_decay: float) -> None:
        sgd(
            list(parameters),
            [parameter.grad for parameter in parameters],
            [state["momentum_buffer"] for state in states],
            fused=True,
            weight_decay=weight_decay,
            momentum=self._momentum,
            lr=self.learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )


OPTIMIZERS = {"adam": Adam, "adamw": AdamW, "sgd": Sgd}
