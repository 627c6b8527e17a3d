"""Data parallelism: processes that train one network together, each with its own rows of every batch.

Each process adds up its rows' part of the batch's loss. The gradients of these parts are summed before the optimizer
sees them, so that every process takes the step that one process would take with the whole batch. Torch's
DistributedDataParallel takes their mean, and a mean of means is that of the batch only where all processes have equally
many labels of every task.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.core.errors import PeerError


@dataclass(frozen=True)
class Processes:
    """Those that train together, and which of them this one is.

    Attributes:
        rank: from 0; it has the rows rank, rank + size, rank + 2 size and so on of every batch.
        size: how many there are; one has all rows, and exchanges nothing.
    """

    rank: int = 0
    size: int = 1

    @property
    def own(self) -> slice:
        """The rows of a batch that this process has."""
        return slice(self.rank, None, self.size)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Put the sums over all processes in the place of tensors of one type, which all of them have in this order.

        Raises:
            PeerError: another process has ended.
        """
        if self.size > 1 and tensors:
            whole = torch.cat([tensor.reshape(-1) for tensor in tensors])
            _sum(whole)
            for tensor, sums in zip(tensors, whole.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(sums.view(tensor.shape))

    def gather_rows(self, values: Tensor, n_rows: int) -> Tensor:
        """Values of all rows of a batch from those of this process's; gradients find their way back.

        Args:
            values: of the own rows, (m, …).
            n_rows: of the batch.

        Raises:
            PeerError: another process has ended.
        """
        if self.size == 1:
            return values
        whole = values.new_zeros(n_rows, *values.shape[1:])
        whole[self.own] = values
        return _Sum.apply(whole)

    def send(self, values: Any) -> None:
        """Hand values, such as arrays on the host, to the first process.

        Raises:
            PeerError: it has ended.
        """
        from torch import distributed

        with _together():
            distributed.send_object_list([values], dst=0, device=HOST)

    def receive(self, rank: int) -> Any:
        """What a process has sent.

        Raises:
            PeerError: it has ended.
        """
        from torch import distributed

        received = [None]
        with _together():
            distributed.recv_object_list(received, src=rank, device=HOST)
        return received[0]


ALONE = Processes()
HOST = torch.device("cpu")


def share_batch_norm(network: nn.Module) -> None:
    """Have layers of batch normalisation normalise by the mean and variance of the whole batch in training.

    Torch's own SyncBatchNorm does that on CUDA only.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = _SharedBatchNorm


class _SharedBatchNorm(_BatchNorm):
    """Batch normalisation over the rows of all processes; its state is that of the layer that it was."""

    def _check_input_dim(self, values: Tensor) -> None:
        """Any: the layer that it was has been built for it."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)
        values = images.to(torch.promote_types(images.dtype, torch.float32))
        own = values.transpose(0, 1).flatten(1)
        counts = own.new_full((1,), own.shape[1])
        # In two rounds: squares less the square of the mean would lose digits.
        n, *sums = _Sum.apply(torch.cat([counts, own.sum(1)])).split([1, len(own)])
        mean = sums[0] / n
        centred = values - _spread(mean, values)
        variance = _Sum.apply(centred.square().transpose(0, 1).flatten(1).sum(1)) / n
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
            self.running_var.lerp_((variance * n / (n - 1)).to(self.running_var.dtype), share)
        normalised = centred * _spread((variance + self.eps).rsqrt(), values)
        if self.affine:
            normalised = normalised * _spread(self.weight, values) + _spread(self.bias, values)
        return normalised.to(images.dtype)


class _Sum(torch.autograd.Function):
    """The sum over all processes, of which each has a part of the loss."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        return _sum(values.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _sum(gradient.clone(memory_format=torch.contiguous_format))


def _sum(values: Tensor) -> Tensor:
    """Put the sum over all processes in the place of contiguous values."""
    # Imported here, as most runs have one process.
    from torch import distributed

    with _together():
        distributed.all_reduce(values)
    return values


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerError(f"another of the processes that work together has ended ({error})") from error


def _spread(values: Tensor, over: Tensor) -> Tensor:
    """Values by channel, (C,), in a shape that goes with (B, C, …)."""
    return values.view(1, -1, *[1] * (over.ndim - 2))
