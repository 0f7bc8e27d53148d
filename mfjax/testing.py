"""The contracts of the tables, as checks of your own gradient, loss, method, ratings or split.

Each check is a function without arguments that raises AssertionError, and says what disagrees:

    @pytest.mark.parametrize("check", gradient_checks(my_gradient).items(), ids=lambda c: c[0])
    def test_my_gradient(check):
        check[1]()

Those of losses, gradients and methods work in float64; of gradients and methods, on a small problem
with all that may go wrong: weights, folds, padding, users and items without ratings, and ranks
below that of the program.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mfjax.data.contracts import Checks, any_ratings, dataset_checks, split_checks
from mfjax.gradients import GRADIENTS
from mfjax.losses import LINKS, Loss, link_of, loss_of
from mfjax.objective import columns, held_out
from mfjax.types import (
    LOSS_SCALE,
    MISSING,
    NO_FOLD,
    REG_BY,
    Factors,
    Gradient,
    Hparams,
    Info,
    Method,
    Ratings,
    Sides,
    Spec,
)

__all__ = [
    "any_ratings",
    "dataset_checks",
    "gradient_checks",
    "lane",
    "loss_checks",
    "method_checks",
    "random_factors",
    "small_ratings",
    "small_spec",
    "split_checks",
    "swap",
]
QUICK = {  # of XLA: the programs here are small, and compiling them well takes four times as long
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}

SPEC = Spec(num_users=6, num_items=5, max_rank=3, dtype="float64")
LANE = Hparams.of(
    "float64", reg=0.3, reg_bias=0.07, missing_weight=0.4, momentum=0.5, rank=2, fold=1
)
# every pair of values of (missing, loss_scale, reg_by, bias): Latin squares, 9 of 54 combinations
CONVENTIONS = [
    replace(
        SPEC,
        missing=MISSING[i],
        loss_scale=LOSS_SCALE[j],
        reg_by=REG_BY[(i + j) % 3],
        bias=(i + 2 * j) % 3 > 0,
    )
    for i, j in itertools.product(range(3), repeat=2)
]
BIASED = CONVENTIONS[1]  # missing=ignore; the identities below are tried where programs are shared
IMPUTED = CONVENTIONS[3]  # missing=item_mean, with biases
IMPUTED_PLAIN = CONVENTIONS[4]  # and without
ZERO = CONVENTIONS[6]  # missing=zero, with biases
SUMMED = 1e-12  # relative, float64: the same terms, tens of them, in another order
FLOAT32 = 1e-5  # relative: 1e-7 an operation, tens of terms


def lane(**changes: float) -> Hparams:
    """The small problem's setting with some values changed, dtypes kept.

    Args:
      **changes: values of Hparams by their names.

    Returns:
      Hparams in float64.
    """
    return LANE._replace(
        **{key: np.asarray(x, getattr(LANE, key).dtype) for key, x in changes.items()}
    )


LANES = [
    lane(rank=3, fold=0),
    lane(rank=2, fold=1),
    lane(rank=0, fold=NO_FOLD),
    lane(rank=3, fold=NO_FOLD),
]


def small_ratings(dtype: str = "float64", loss: str = Spec.loss) -> Ratings:
    """16 ratings of 6 users and 5 items, and 3 of padding.

    They have weights and folds -1, 0 and 1; user 3 and item 2 have none; the padding stands at
    (0, 0), where there is a real rating too.

    Args:
      dtype: of the values and weights.
      loss: which takes them, of `mfjax.losses.LOSSES`.

    Returns:
      The same every time.
    """
    rng = np.random.default_rng(1)
    cells = [(u, i) for u in (0, 1, 2, 4, 5) for i in (0, 1, 3, 4) if (u + i) % 4 or u == 0]
    user, item = np.transpose(cells)
    n = len(cells)
    score = rng.normal(size=n)
    value = 3 + score if loss_of(loss).link == "identity" else link_of(loss).rating(score)
    weight = rng.uniform(0.5, 2, n)
    fold = np.arange(n) % 3 - 1
    return Ratings.of(user, item, value, weight, fold, dtype=dtype).padded(n + 3)


def small_spec(spec: Spec) -> Spec:
    """The small problem under the conventions of a Spec.

    Args:
      spec: of any problem.

    Returns:
      One of 6 users, 5 items and rank 3, in float64.
    """
    return replace(
        spec,
        num_users=SPEC.num_users,
        num_items=SPEC.num_items,
        max_rank=SPEC.max_rank,
        dtype=SPEC.dtype,
        tiling=SPEC.tiling,
    )


def random_factors(spec: Spec, seed: int = 0) -> Factors:
    """Normal factors, the pinned columns not at their pins.

    Args:
      spec: the shapes and the dtype.
      seed: of the draw, from 0.

    Returns:
      NumPy arrays of standard deviation 1.
    """
    rng = np.random.default_rng(seed)
    user = rng.normal(size=(spec.num_users, spec.columns))
    item = rng.normal(size=(spec.num_items, spec.columns))
    return Factors(user.astype(spec.dtype), item.astype(spec.dtype))


# gradients


def gradient_checks(make: Callable[[Spec], Gradient], spec: Spec | None = None) -> Checks:
    """The contract of a row of GRADIENTS.

    Args:
      make: a gradient of a Spec, as GRADIENTS has them.
      spec: whose conventions alone it is held to, on the small problem; None: to all of them, and
        to the identities that they bring.

    Returns:
      The checks by name: that it is `jax.grad` of the objective under every convention, to its own
      `tolerance`; the identities of that gradient; that settings are traced once; that `vmap` and
      float32 give the same. A gradient whose tolerance is above 1e-10 is not held to float32.
    """
    at = partial(_gradient_at, _compiled(make))
    conventions = CONVENTIONS if spec is None else [small_spec(spec)]
    one = BIASED if spec is None else small_spec(spec)
    checks = {
        f"is jax.grad: {_convention(each)}": partial(_is_jax_grad, at, each) for each in conventions
    }
    if spec is None:
        checks |= {
            "pinned columns have no gradient": partial(_pinned_have_no_gradient, at),
            "weight 0 is an absent rating": partial(_weight_0_is_absent, at),
            "swapping users and items swaps it": partial(_swaps, at),
            "relabelling users and items permutes it": partial(_permutes, at),
            "rotating the factors rotates it": partial(_rotates, at),
        }
    checks |= {
        "three settings are one trace": partial(_gradient_traces_once, make, one),
        "vmap is a loop": partial(_gradient_vmaps, make, at, one),
    }
    if make(one).tolerance <= 1e-10:
        checks["float32 is close to float64"] = partial(_close_in_float32, at, one)
    return {name: _in_float64(check) for name, check in checks.items()}


def _has_sums(make: Callable[[Spec], Method], spec: Spec) -> None:
    layout = make(spec).prepare(small_ratings(loss=spec.loss))
    found = type(getattr(layout, "sums", None)).__name__
    assert found == "FoldSums", f"expected FoldSums in layout.sums, got {found}"


def _is_jax_grad(at: Callable, spec: Spec) -> None:
    ratings = small_ratings(loss=spec.loss)
    for hparams in LANES:
        ours, tolerance = at(spec, ratings, hparams)
        theirs, _ = _gradient_at(ORACLE, spec, ratings, hparams)
        _assert_same(ours, theirs, tolerance)


def _pinned_have_no_gradient(at: Callable) -> None:
    for hparams in LANES:
        (_, grad), _ = at(ZERO, small_ratings(), hparams)
        latent = [c < hparams.rank for c in range(ZERO.max_rank)]
        for side, biases in zip(grad, ([True, False], [False, True]), strict=True):
            moves = np.any(np.asarray(side) != 0, axis=0).tolist()  # exactly 0, not nearly
            assert moves == latent + biases, f"rank {hparams.rank}: columns with a gradient {moves}"


def _weight_0_is_absent(at: Callable) -> None:
    present, absent = _with_and_without_a_rating_of_weight_0()
    ours, tolerance = at(IMPUTED, present, LANE)
    theirs, _ = at(IMPUTED, absent, LANE)
    _assert_same(ours, theirs, max(SUMMED, tolerance))


def _swaps(at: Callable) -> None:
    for spec in (BIASED, ZERO):  # an item's mean is no user's
        ratings = small_ratings()
        factors = random_factors(spec)
        (loss, grad), tolerance = at(spec, ratings, LANE, factors)
        (mirrored, swapped), _ = at(_swapped_spec(spec), _swapped(ratings), LANE, swap(factors))
        _assert_same((mirrored, swap(swapped)), (loss, grad), max(SUMMED, tolerance))


def _permutes(at: Callable) -> None:
    spec = IMPUTED
    ratings = small_ratings()
    factors = random_factors(spec)
    (loss, grad), tolerance = at(spec, ratings, LANE, factors)
    there, back = _relabelling(spec)
    relabelled, _ = at(spec, _relabelled(ratings, there), LANE, _permuted(factors, back))
    _assert_same(relabelled, (loss, _permuted(grad, back)), max(SUMMED, tolerance))


def _rotates(at: Callable) -> None:
    spec = IMPUTED_PLAIN
    hparams = lane(rank=3)
    factors = random_factors(spec)
    rotation, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    (loss, grad), tolerance = at(spec, small_ratings(), hparams, factors)
    rotated = Factors(*(np.asarray(side) @ rotation for side in factors))
    expected = Factors(*(np.asarray(side) @ rotation for side in grad))
    _assert_same(
        at(spec, small_ratings(), hparams, rotated)[0], (loss, expected), max(SUMMED, tolerance)
    )


def _gradient_traces_once(make: Callable[[Spec], Gradient], spec: Spec) -> None:
    gradient = make(spec)
    layout = gradient.prepare(small_ratings(loss=spec.loss))
    traces = []

    def counted(factors, layout, hparams):
        traces.append(hparams)
        return gradient.value_and_grad(factors, layout, hparams)

    for hparams in _three_settings():
        jax.jit(counted).eval_shape(random_factors(spec), layout, hparams)
    assert len(traces) == 1, f"three settings were traced {len(traces)} times"


def _gradient_vmaps(make: Callable[[Spec], Gradient], at: Callable, spec: Spec) -> None:
    gradient = make(spec)
    ratings = small_ratings(loss=spec.loss)
    factors = random_factors(spec)
    lanes = _jit(jax.vmap(gradient.value_and_grad, (None, None, 0)))
    together = lanes(factors, gradient.prepare(ratings), _stacked(LANES))
    for i, hparams in enumerate(LANES):
        ours = jax.tree.map(lambda leaf, i=i: leaf[i], together)
        alone, _ = at(spec, ratings, hparams, factors)
        _assert_same(ours, alone, max(SUMMED, gradient.tolerance))


def _close_in_float32(at: Callable, spec: Spec) -> None:
    narrow = replace(spec, dtype="float32")
    hparams = Hparams.of("float32", **LANE._asdict())
    (loss, grad), _ = at(narrow, small_ratings("float32", spec.loss), hparams)
    kinds = {str(leaf.dtype) for leaf in (loss, *grad)}
    assert kinds == {"float32"}, f"float32 in, {kinds} out"
    _assert_same((loss, grad), at(spec, small_ratings(loss=spec.loss), LANE)[0], FLOAT32)


def _compiled(make: Callable[[Spec], Gradient]) -> Callable[[Spec], Gradient]:
    """As `make`, and compiled once a Spec."""

    @cache
    def compiled(spec: Spec) -> Gradient:
        gradient = make(spec)
        return gradient._replace(value_and_grad=_jit(gradient.value_and_grad))

    return compiled


ORACLE = _compiled(GRADIENTS["autodiff"])


def _gradient_at(
    compiled: Callable,
    spec: Spec,
    ratings: Ratings,
    hparams: Hparams,
    factors: Factors | None = None,
) -> tuple[Any, float]:
    """(loss, gradient), at random factors where none are given; and the gradient's tolerance."""
    gradient = compiled(spec)
    point = random_factors(spec) if factors is None else factors
    both = gradient.value_and_grad(point, gradient.prepare(ratings), hparams)
    of_both = jax.tree.structure(both), [leaf.shape for leaf in jax.tree.leaves(both)]
    wanted = jax.tree.structure((0, Factors(0, 0))), [(), *(side.shape for side in point)]
    assert of_both == wanted, f"expected a loss and Factors like those given, got {of_both}"
    return both, gradient.tolerance


# losses

SCORES = np.linspace(-3, 5, 33)  # predictions
TRIED = (0.0, 5.0)  # ratings, where the loss takes them
AWAY = 0.0137  # of a rating from a prediction, where a loss may have a kink


def loss_checks(loss: Loss) -> Checks:
    """The contract of a row of LOSSES.

    Args:
      loss: a row of LOSSES, made by `mfjax.losses.loss_of` where it is a function of your own.

    Returns:
      The checks by name: that value and slope are finite, and the slope is `jax.grad` of the value
      and its central difference, at predictions from -3 to 5 and ratings between 0 and 5 that it
      takes; that its link has an inverse; that float32 stays float32.
    """
    checks = {
        "value and slope are finite": partial(_is_finite, loss),
        "its slope is jax.grad": partial(_slope_is_jax_grad, loss),
        "its slope is the difference": partial(_slope_is_the_difference, loss),
        "the inverse of its link is one": partial(_link_inverts, loss),
        "float32 stays float32": partial(_loss_keeps_float32, loss),
    }
    return {name: _in_float64(check) for name, check in checks.items()}


def _grid(loss: Loss) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and ratings that the loss takes, each with each."""
    low, high = np.clip(loss.takes, *TRIED)
    rating = np.linspace(low + AWAY, high - 2 * AWAY, 7)
    prediction, rating = np.meshgrid(SCORES, rating)
    return prediction, rating


def _hparams_of(loss: Loss) -> list[np.ndarray]:
    return [np.asarray(getattr(LANE, key)) for key in loss.reads]


def _at_grid(loss: Loss, by: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Value and slope on the grid, the predictions moved."""
    prediction, rating = map(jnp.asarray, _grid(loss))
    at = (prediction + by, rating, *_hparams_of(loss))
    return np.asarray(loss.value(*at)), np.asarray(loss.slope(*at))


def _is_finite(loss: Loss) -> None:
    for name, found in zip(("value", "slope"), _at_grid(loss), strict=True):
        assert found.shape == _grid(loss)[0].shape, f"a {name} of shape {found.shape}"
        assert np.isfinite(found).all(), f"a {name} that is not finite"


def _slope_is_jax_grad(loss: Loss) -> None:
    prediction, rating = map(jnp.asarray, _grid(loss))
    hparams = _hparams_of(loss)
    theirs = jax.grad(lambda at: loss.value(at, rating, *hparams).sum())(prediction)
    _assert_close([_at_grid(loss)[1]], [theirs], 1e-10)


def _slope_is_the_difference(loss: Loss) -> None:
    h = 1e-4
    apart = [_at_grid(loss, by)[0] - _at_grid(loss, -by)[0] for by in (h, 2 * h)]
    _assert_close([_at_grid(loss)[1]], [(8 * apart[0] - apart[1]) / (12 * h)], 1e-7)


def _link_inverts(loss: Loss) -> None:
    link = LINKS[loss.link]
    ratings = np.asarray(link.rating(SCORES))
    np.testing.assert_allclose(link.inverse(ratings), SCORES, rtol=1e-9, atol=1e-9)
    assert (np.diff(ratings) > 0).all(), "a link that does not rise"


def _loss_keeps_float32(loss: Loss) -> None:
    given = [np.float32(x) for x in (*_grid(loss), *_hparams_of(loss))]
    kinds = {str(jax.eval_shape(part, *given).dtype) for part in (loss.value, loss.slope)}
    assert kinds == {"float32"}, f"float32 in, {kinds} out"


# methods


def method_checks(
    make: Callable[[Spec], Method],
    spec: Spec = SPEC,
    *,
    alternates: bool = False,
) -> Checks:
    """The contract of a row of METHODS; of one that samples, without what its draws' order decides.

    Args:
      make: a method of a Spec, with its gradient, kernel or optimiser.
      spec: whose conventions it is held to, on the small problem.
      alternates: whether an epoch takes one side after the other, so that users and items do not
        change places.

    Returns:
      The checks by name: that it lowers the objective, keeps pinned columns, dtypes and held-out
      ratings apart, that settings are traced once, and that `vmap`, relabelling and swapping give
      the same fit.
    """
    spec = small_spec(spec)
    samples = make(spec).averages is not None
    trained = partial(_trained, _compiled_method(make))
    checks = {
        "its layout has the sums of the folds": partial(_has_sums, make, spec),
        "lowers the objective": partial(_lowers_the_objective, trained, spec),
        "pinned columns stay": partial(_pinned_stay, trained, spec),
        "starts where it is told": partial(_starts_warm, trained, spec),
        "held-out ratings change no bit": partial(_held_out_change_nothing, trained, spec),
        "weight 0 is an absent rating": partial(_weight_0_trains_nothing, trained, spec),
        "relabelling users and items permutes the fit": partial(_fit_permutes, trained, spec),
        "a lower rank is the fit of that rank": partial(_surplus_columns, trained, spec),
        "the same bits every time": partial(_repeats, trained, spec),
        "three settings are one trace": partial(_method_traces_once, make, spec),
        "vmap is a loop": partial(_method_vmaps, make, trained, spec),
        "float32 stays float32": partial(_keeps_float32, make, spec),
    }
    for name in OF_ORDER if samples else ():
        del checks[name]
    if (
        not (alternates or samples) and spec.bias and spec.missing != "item_mean"
    ):  # which no user has
        checks["swapping users and items swaps the fit"] = partial(_fit_swaps, trained, spec)
    return {name: _in_float64(check) for name, check in checks.items()}


EPOCHS = 3
OF_ORDER = (
    "lowers the objective",
    "relabelling users and items permutes the fit",
    "a lower rank is the fit of that rank",
)


def _lowers_the_objective(trained: Callable, spec: Spec) -> None:
    ratings = small_ratings(loss=spec.loss)
    start = random_factors(spec)
    (before, *_, after), infos = trained(spec, ratings, LANE, start)
    assert all(np.isfinite(info.loss) for info in infos), f"losses {[i.loss for i in infos]}"
    losses = [_objective(spec, ratings, LANE, factors) for factors in (before, after)]
    assert losses[1] < losses[0], f"the objective went from {losses[0]} to {losses[1]}"


def _pinned_stay(trained: Callable, spec: Spec) -> None:
    (*_, after), _ = trained(spec, small_ratings(loss=spec.loss), LANE, random_factors(spec))
    for name, side, of_side in zip(Sides._fields, after, columns(LANE, spec), strict=True):
        pinned = np.asarray(of_side.free) == 0
        at = np.broadcast_to(np.asarray(of_side.pin)[pinned], side[:, pinned].shape)
        np.testing.assert_array_equal(side[:, pinned], at, f"the pinned columns of a {name}")


def _starts_warm(trained: Callable, spec: Spec) -> None:
    given = random_factors(spec)
    (start, *_), _ = trained(spec, small_ratings(loss=spec.loss), LANE, given)
    for side, warm, of_side in zip(start, given, columns(LANE, spec), strict=True):
        free = np.asarray(of_side.free) > 0
        np.testing.assert_array_equal(side[:, free], warm[:, free], "the factors of a warm start")


def _held_out_change_nothing(trained: Callable, spec: Spec) -> None:
    ratings = small_ratings(loss=spec.loss)
    other = np.where(held_out(ratings.fold, LANE), 99.0, ratings.value)
    ours, _ = trained(spec, ratings, LANE)
    theirs, _ = trained(spec, ratings._replace(value=other), LANE)
    jax.tree.map(np.testing.assert_array_equal, ours[-1], theirs[-1])


def _weight_0_trains_nothing(trained: Callable, spec: Spec) -> None:
    present, _ = _with_and_without_a_rating_of_weight_0()
    padding = Ratings(user=0, item=0, value=0.0, weight=0.0, fold=-1)
    # in the same place: a method may take the ratings in an order of their places
    pairs = zip(present, padding, strict=True)
    absent = Ratings(*(np.where(present.weight > 0, column, x) for column, x in pairs))
    ours, _ = trained(spec, present, LANE)
    theirs, _ = trained(spec, absent, LANE)
    _assert_close(ours[-1], theirs[-1], SUMMED)


def _fit_permutes(trained: Callable, spec: Spec) -> None:
    ratings = small_ratings(loss=spec.loss)
    start = random_factors(spec)
    there, back = _relabelling(spec)
    (*_, after), _ = trained(spec, ratings, LANE, start)
    (*_, ours), _ = trained(spec, _relabelled(ratings, there), LANE, _permuted(start, back))
    _assert_close(ours, _permuted(after, back), 1e-9)  # Adam divides by small gradients


def _fit_swaps(trained: Callable, spec: Spec) -> None:
    ratings = small_ratings(loss=spec.loss)
    start = random_factors(spec)
    (*_, after), _ = trained(spec, ratings, LANE, start)
    (*_, ours), _ = trained(_swapped_spec(spec), _swapped(ratings), LANE, swap(start))
    _assert_close(swap(ours), after, 1e-9)  # Adam divides by small gradients


def _surplus_columns(trained: Callable, spec: Spec) -> None:
    ratings = small_ratings(loss=spec.loss)
    (*_, wide), _ = trained(replace(spec, max_rank=5), ratings, LANE)
    (*_, narrow), _ = trained(spec, ratings, LANE)
    for a, b in zip(wide, narrow, strict=True):
        np.testing.assert_allclose(a[:, :2], b[:, :2], rtol=0, atol=1e-9)
        if spec.bias:
            np.testing.assert_allclose(a[:, -2:], b[:, -2:], rtol=0, atol=1e-9)


def _repeats(trained: Callable, spec: Spec) -> None:
    once, _ = trained(spec, small_ratings(loss=spec.loss), LANE)
    again, _ = trained(spec, small_ratings(loss=spec.loss), LANE)
    jax.tree.map(np.testing.assert_array_equal, once[-1], again[-1])


def _method_traces_once(make: Callable[[Spec], Method], spec: Spec) -> None:
    method = make(spec)
    ratings = small_ratings(loss=spec.loss)
    layout = method.prepare(ratings)
    traces = []

    def counted(layout, hparams, epoch):
        traces.append(hparams)
        state = method.init(jax.random.key(0), layout, hparams)
        return method.step(state, layout, hparams, epoch)

    for epoch, hparams in enumerate(_three_settings()):
        jax.jit(counted).eval_shape(layout, hparams, epoch)
    assert len(traces) == 1, f"three settings were traced {len(traces)} times"


def _method_vmaps(make: Callable[[Spec], Method], trained: Callable, spec: Spec) -> None:
    method = make(spec)
    ratings = small_ratings(loss=spec.loss)
    lanes = [lane(fold=0, reg=0.1), lane(rank=3, split_seed=1), lane(fold=NO_FOLD)]
    layout = jax.device_put(method.prepare(ratings))
    init = _jit(jax.vmap(partial(method.init, jax.random.key(0)), (None, 0)))
    step = _jit(jax.vmap(method.step, (0, None, 0, None)))
    states = init(layout, _stacked(lanes))
    for epoch in range(EPOCHS):
        states, _ = step(states, layout, _stacked(lanes), epoch)
    for i, hparams in enumerate(lanes):
        (*_, alone), _ = trained(spec, ratings, hparams)
        _assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], states.factors), alone, 1e-9)


def _keeps_float32(make: Callable[[Spec], Method], spec: Spec) -> None:
    method = make(replace(spec, dtype="float32"))
    hparams = Hparams.of("float32", **LANE._asdict())
    ratings = small_ratings("float32", spec.loss)

    def epoch(layout):
        before = method.init(jax.random.key(0), layout, hparams)
        after, info = method.step(before, layout, hparams, 0)
        return before, after, info

    before, after, info = jax.eval_shape(epoch, method.prepare(ratings))
    kinds = {str(leaf.dtype) for leaf in (*after.factors, *info)}
    assert kinds == {"float32"}, f"float32 in, {kinds} out"
    of_states = [[str(leaf.dtype) for leaf in jax.tree.leaves(one)] for one in (before, after)]
    assert of_states[0] == of_states[1], f"an epoch makes {of_states[1]} of a state {of_states[0]}"


def _compiled_method(make: Callable[[Spec], Method]) -> Callable[[Spec], Method]:
    """As `make`, and compiled once a Spec."""

    @cache
    def compiled(spec: Spec) -> Method:
        method = make(spec)
        return method._replace(init=_jit(method.init), step=_jit(method.step))

    return compiled


def _trained(
    compiled: Callable,
    spec: Spec,
    ratings: Ratings,
    hparams: Hparams,
    start: Factors | None = None,
) -> tuple[list[Factors], list[Info]]:
    """The factors before the first epoch and after each, and what each epoch said."""
    method = compiled(spec)
    layout = jax.device_put(method.prepare(ratings))
    state = method.init(jax.random.key(0), layout, hparams, start)
    factors = [state.factors]
    infos = []
    for epoch in range(EPOCHS):
        state, info = method.step(state, layout, hparams, epoch)
        factors.append(state.factors)
        infos.append(info)
    return [jax.tree.map(np.asarray, table) for table in factors], infos


def _objective(spec: Spec, ratings: Ratings, hparams: Hparams, factors: Factors) -> float:
    (loss, _), _ = _gradient_at(ORACLE, spec, ratings, hparams, factors)
    return float(loss)


# what the identities change

EXTRA = 4  # the place of the rating of weight 0


def _with_and_without_a_rating_of_weight_0() -> tuple[Ratings, Ratings]:
    """The real ratings with one of weight 0 between them, and with padding at their end alone.

    That one stands at a missing entry, in a fold of its own.
    """
    ratings = small_ratings()
    real = ratings.taken(ratings.weight > 0)
    extra = Ratings(user=3, item=2, value=99.0, weight=0.0, fold=2)
    present = Ratings(*(np.insert(column, EXTRA, x) for column, x in zip(real, extra, strict=True)))
    n = len(ratings.value)
    return present.padded(n), real.padded(n)


def swap(factors: Factors) -> Factors:
    """The factors with users and items in each other's place.

    The free bias column changes places with the pinned one.

    Args:
      factors: with biases.

    Returns:
      The factors of the swapped ratings.
    """
    order = [*range(factors.user.shape[1] - 2), -1, -2]
    return Factors(factors.item[:, order], factors.user[:, order])


def _swapped(ratings: Ratings) -> Ratings:
    return ratings._replace(user=ratings.item, item=ratings.user)


def _swapped_spec(spec: Spec) -> Spec:
    return replace(spec, num_users=spec.num_items, num_items=spec.num_users)


Labels = tuple[np.ndarray, np.ndarray]  # of users and of items


def _relabelling(spec: Spec) -> tuple[Labels, Labels]:
    """New labels of users and items, and the old ones in the order of the new."""
    rng = np.random.default_rng(5)
    there = rng.permutation(spec.num_users), rng.permutation(spec.num_items)
    return there, (np.argsort(there[0]), np.argsort(there[1]))


def _relabelled(ratings: Ratings, there: Labels) -> Ratings:
    users, items = there
    user = users[ratings.user].astype(np.int32)
    return ratings._replace(user=user, item=items[ratings.item].astype(np.int32))


def _permuted(factors: Factors, back: Labels) -> Factors:
    return Factors(*(side[rows] for side, rows in zip(factors, back, strict=True)))


def _three_settings() -> Iterable[Hparams]:
    return (Hparams.of("float64", reg=reg, rank=2) for reg in (0.5, 0, np.float32(1)))


def _stacked(lanes: list[Hparams]) -> Hparams:
    return Hparams(*map(np.stack, zip(*lanes, strict=True)))


def _convention(spec: Spec) -> str:
    bias = "biases" if spec.bias else "no biases"
    return f"{spec.missing}, {spec.loss_scale}, {spec.reg_by}, {bias}"


# programs


def _jit(function: Callable) -> Callable:
    return jax.jit(function, compiler_options=_known_options())


@cache
def _known_options() -> dict[str, Any]:
    """QUICK, and nothing where this XLA has another name for one of them."""
    try:
        jax.jit(jnp.negative, compiler_options=QUICK)(1)
    except (RuntimeError, ValueError):
        return {}
    return QUICK


# agreement


def _assert_same(ours: Any, theirs: Any, tolerance: float) -> None:
    """The same loss and gradients: max|a - b| <= tolerance · max|b|."""
    _assert_close([ours[0], *ours[1]], [theirs[0], *theirs[1]], tolerance)


def _assert_close(ours: Iterable, theirs: Iterable, tolerance: float) -> None:
    for a, b in zip(map(np.asarray, ours), map(np.asarray, theirs), strict=True):
        size = np.abs(b).max() or 1.0
        error = np.abs(a - b).max() / size
        assert error <= tolerance, f"relative error {error:.2g}, at most {tolerance:g} expected"


def _in_float64(check: Callable[[], None]) -> Callable[[], None]:
    def checked() -> None:
        with jax.enable_x64(True):
            check()

    return checked
