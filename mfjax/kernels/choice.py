"""Which kernel computes: the compiled one on a CPU where it can, and XLA's elsewhere."""

from collections.abc import Iterable
from typing import NamedTuple

import jax

from mfjax.errors import InputError
from mfjax.kernels import KERNELS, Kernel
from mfjax.kernels.native.library import Missing, library
from mfjax.kernels.native.visits import moves_of
from mfjax.types import Optimizer, Spec

AUTO = "auto"


class Choice(NamedTuple):
    """A row of KERNELS, and why it was taken.

    Args:
      name: of the row.
      reason: in words.
      is_lacking: whether it was taken for want of the compiled kernels, which can be mended.
    """

    name: str
    reason: str
    is_lacking: bool = False


def choice(
    asked: str = AUTO,
    optimizer: Optimizer | None = None,
    loss: str = Spec.loss,
    *,
    has_bags: bool = False,
) -> Choice:
    """The kernel for what is asked.

    Args:
      asked: a row of KERNELS; `auto`: `native` on a CPU, for a loss and optimisers that it knows.
      optimizer: of a method that takes batches by it.
      loss: of `mfjax.losses.LOSSES`.
      has_bags: whether users or items are made of features.

    Returns:
      The row and the reason.
    """
    if asked != AUTO:
        return Choice(asked, "as asked")
    if (platform := jax.default_backend()) != "cpu":
        return Choice("xla", f"the compiled kernels are for CPUs, and this is {platform}")
    found = library()
    if loss != Spec.loss:
        return Choice("xla", f"the compiled kernels have loss={Spec.loss} alone, not {loss}")
    if isinstance(found, Missing):
        return Choice("xla", found.reason, is_lacking=True)
    if optimizer is not None and has_bags:
        return Choice("xla", "the compiled kernels take no batches with bags")
    if optimizer is not None:
        try:
            moves_of(optimizer)
        except InputError as error:
            return Choice("xla", str(error).partition(";")[0])
    return Choice("native", f"compiled for {found.isa}")


def available(names: Iterable[str], loss: str = Spec.loss) -> list[str]:
    """Those of some kernels or gradients that this machine can compute.

    Args:
      names: rows of KERNELS or of `mfjax.gradients.GRADIENTS`.
      loss: of `mfjax.losses.LOSSES`.

    Returns:
      All but `native`, and that where `choice` takes it.
    """
    has_native = choice(loss=loss).name == "native"
    return [name for name in names if name != "native" or has_native]


def best_kernel(
    spec: Spec, optimizer: Optimizer | None = None, *, has_bags: bool = False
) -> Kernel:
    """The kernel of `choice`, made for a Spec.

    Args:
      spec: the shapes and the conventions.
      optimizer: of a method that takes batches by it.
      has_bags: whether users or items are made of features.

    Returns:
      The Kernel.
    """
    chosen = choice(optimizer=optimizer, loss=spec.loss, has_bags=has_bags)
    return KERNELS[chosen.name](spec)
