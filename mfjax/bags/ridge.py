"""The ridge of the embeddings of features, (XᵀX + λI) B = R, for any λ at the price of products."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mfjax.bags.bag import Bag, collect, dense, spread
from mfjax.objective import FoldSums, LaneTerms, lane_terms
from mfjax.types import Hparams, Spec

MOST = 4096  # rows or features, the fewer of them, whose eigenvectors are found
TOLERANCE = 1e-5  # of conjugate gradients, where there are more
STEPS = 200  # of them, at most


class Basis(NamedTuple):
    """The eigenvectors of XXᵀ, or of XᵀX where there are fewer features than rows.

    Args:
      vectors: `[folds, n, n]`, of a lane that holds out none, 0, 1, …
      values: `[folds, n]`, from 0.
    """

    vectors: Float[Array, "folds n n"]
    values: Float[Array, "folds n"]


def prepare_basis(bag: Bag, sums: FoldSums, spec: Spec) -> Basis | None:
    """The basis of the lanes of every fold, on the host.

    Args:
      bag: X of one side.
      sums: of the folds, the first of which every lane trains on.
      spec: the shapes and the dtype.

    Returns:
      The Basis; None of so many rows and features that conjugate gradients take less.
    """
    if min(bag.spec.num_users, bag.num_features) > MOST:
        return None

    def of_fold(fold: int) -> tuple[np.ndarray, np.ndarray]:
        lane = lane_terms(jax.device_put(sums), Hparams.of(spec.dtype, fold=fold), spec)
        x = np.asarray(jax.jit(dense)(bag, lane))
        values, vectors = np.linalg.eigh(x @ x.T if is_dual(bag) else x.T @ x)
        return vectors, np.maximum(values, 0)

    none, *folds = sums.fold.tolist()
    whole = of_fold(none)
    has_ratings = sums.user_count.any(axis=1)[1:]  # a lane holds nothing out in an empty fold
    bases = [of_fold(fold) if has else whole for fold, has in zip(folds, has_ratings, strict=True)]
    vectors, values = zip(whole, *bases, strict=True)
    return Basis(np.stack(vectors), np.stack(values))


def is_dual(bag: Bag) -> bool:
    """Whether the basis is of XXᵀ."""
    return bag.spec.num_users <= bag.num_features


def solve_ridge(
    bag: Bag,
    basis: Basis | None,
    ridge: Float[Array, ""],
    right: Float[Array, "features columns"],
    start: Float[Array, "features columns"],
    lane: LaneTerms,
) -> Float[Array, "features columns"]:
    """B of (XᵀX + λI) B = R.

    Derivation: with XXᵀ = P diag(e) Pᵀ, the inverse is (I − Xᵀ P diag(1/(e + λ)) Pᵀ X)/λ, by the
    identity of Woodbury.

    Args:
      bag: X of one side.
      basis: of it; None: by conjugate gradients, to `TOLERANCE` of R.
      ridge: λ, above 0.
      right: R.
      start: where conjugate gradients begin.
      lane: whose features they are.

    Returns:
      `[features, columns]`.
    """
    if basis is None:

        def product(table):
            return collect(bag, spread(bag, table, lane), lane) + ridge * table

        cg = jax.scipy.sparse.linalg.cg
        found, _ = cg(product, right, x0=start, tol=TOLERANCE, maxiter=STEPS)
        return found
    fold = jnp.maximum(lane.fold, -1) + 1
    vectors = basis.vectors[fold]
    inverse = 1 / (basis.values[fold] + ridge)

    def in_basis(rows):
        return vectors @ (inverse[:, None] * (vectors.T @ rows))

    if is_dual(bag):
        return (right - collect(bag, in_basis(spread(bag, right, lane)), lane)) / ridge
    return in_basis(right)
