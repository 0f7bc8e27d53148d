"""Metrics by hand, and the two predictors that every reader wants beside a model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mfjax import METRICS, Bounds, InputError, Problem, Ratings
from mfjax.metrics import columns, label, measured, metric_of, names
from mfjax.metrics.baselines import baseline_errors, on_test

# item 0 has mean 2 (weights 1, 3), item 1 has 5, item 2 none; the mean is (1 + 3 · 7/3 + 5) / 5
SMALL = Problem(
    Ratings.of([0, 1, 1, 0], [0, 0, 1, 2], [1, 7 / 3, 5, 99], weight=[1, 3, 1, 0], dtype="float64"),
    Ratings.of([1, 0, 0], [0, 1, 2], [1, 2, 2], dtype="float64"),
    Bounds(0.0, 4.0),
)
UNBOUNDED = SMALL._replace(bounds=Bounds(-np.inf, np.inf))


def test_baselines_by_hand():
    rmse = baseline_errors({(0, 0): SMALL, (5, 0): UNBOUNDED})
    global_mean = np.sqrt((1.6**2 + 0.6**2 + 0.6**2) / 3)
    clipped, whole = (np.sqrt((1 + error**2 + 0.6**2) / 3) for error in (2, 3))
    assert rmse["global mean"] == pytest.approx([global_mean] * 2)
    assert rmse["item mean"] == pytest.approx([clipped, whole])


def test_predictions_are_clipped_in_errors():
    errors = on_test(np.array([4.5, -2.5, 1.5]), SMALL)  # clipped to 4, 0 and 1.5
    assert errors["test_rmse"] == pytest.approx(np.sqrt((3**2 + 2**2 + 0.5**2) / 3))
    assert errors["test_mae"] == pytest.approx(5.5 / 3)


def test_test_ratings_weigh_in_errors():
    weighted = SMALL._replace(test=SMALL.test._replace(weight=np.array([1.0, 3.0, 0.5])))
    errors = on_test(np.array([2.0, 4.0, 2.0]), weighted)  # off by 1, 2 and 0
    assert errors["test_rmse"] == pytest.approx(np.sqrt((1 + 3 * 4) / 4.5))
    assert errors["test_mae"] == pytest.approx((1 + 3 * 2) / 4.5)


def test_without_test_ratings_there_is_no_error():
    nothing = SMALL._replace(test=Ratings.of([], [], []))
    errors = on_test(np.array([]), nothing)
    assert list(errors) == columns("test")
    assert np.isnan(list(errors.values())).all()
    assert np.isnan(baseline_errors({(0, 0): nothing})["item mean"]).all()


def test_metrics_are_weighted_and_nan_without_weight():
    prediction, value = np.array([1.0, 2.0, 9.0]), np.array([2.0, 4.0, 0.0])
    arrays = {"prediction": prediction, "value": value, "user": np.array([7, 3, 7])}
    weight = np.array([1.0, 3.0, 0.0])
    wanted = names("test")
    of = measured(wanted, weight=weight, **arrays)
    assert list(of) == ["rmse", "mae", "r2", "user_rmse"]
    assert of["rmse"] == pytest.approx(np.sqrt((1 + 3 * 4) / 4))
    assert of["mae"] == pytest.approx((1 + 3 * 2) / 4)
    assert of["r2"] == pytest.approx(1 - (1 + 3 * 4) / (1.5**2 + 3 * 0.5**2))
    assert of["user_rmse"] == pytest.approx((1 + 2) / 2)
    in_jax = measured(wanted, weight=jnp.asarray(weight), **jax.tree.map(jnp.asarray, arrays))
    assert in_jax == pytest.approx(of, rel=1e-6)
    with np.errstate(invalid="ignore"):
        nothing = measured(wanted, weight=np.zeros(3), **arrays)
    assert np.isnan(list(nothing.values())).all()
    with np.errstate(invalid="ignore"):
        alike = measured(["r2"], weight=weight, **(arrays | {"value": np.full(3, 4.0)}))
    assert np.isnan(alike["r2"])


def test_columns_and_their_labels():
    of_test = ["test_rmse", "test_mae", "test_r2", "test_user_rmse"]
    assert columns("train", "test") == ["train_rmse", "train_mae", *of_test]
    chosen = ["train_rmse", "train_mae", "train_r2"]
    assert columns("train", chooses="validation_r2") == chosen
    assert metric_of("validation_mae") is METRICS["mae"]
    assert label("train_rmse") == "training RMSE"
    for wrong in ("rmse", "validation_nope", "middle_rmse"):
        with pytest.raises(InputError, match=f"expected one of validation_rmse, .*{wrong}"):
            metric_of(wrong)
