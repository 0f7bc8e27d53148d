"""Every figure shows its numbers, is labelled, stays on its page, and bears the awkward cases."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from mfjax import Bounds, Factors, Hparams, Lane
from mfjax.reporting import plots
from mfjax.reporting.plots.style import VERMILLION
from mfjax.training.lanes import Fit
from mfjax.training.protocol import Outcome, settings_of

NAN = float("nan")
INF = float("inf")
FALLING = [1.0, 0.9, 0.85, 0.88]


def fit(validation, train=None, loss=None, status="finished", **hparams) -> Fit:
    """A fit with these curves.

    Its best epoch is the least validation (the last without one, 0 if it has none).
    """
    validation = np.asarray(validation, np.float32)
    train = validation - 0.1 if train is None else np.asarray(train, np.float32)
    loss = 100 * train if loss is None else np.asarray(loss, np.float32)
    seen = np.isfinite(validation)
    best = len(train) if np.isfinite(train).any() else 0
    if seen.any():
        best = int(np.nanargmin(np.where(seen, validation, INF))) + 1
    history = {
        "loss": loss,
        "update_norm": np.ones_like(loss),
        "train_rmse": train,
        "train_mae": train,
        "validation_rmse": validation,
        "validation_mae": validation,
    }
    none = np.zeros((1, 1))
    lane = Lane(Hparams(**hparams), len(train))
    return Fit(lane, Factors(none, none), 0.0, status, best, history)


def outcome(*fits: Fit, chosen_by: str = "validation_rmse") -> Outcome:
    settings = settings_of(fits, chosen_by)
    final = settings[0].fits
    test = [{"test_rmse": NAN, "test_mae": NAN}] * len(final)
    return Outcome(settings, chosen_by, final, test, refitted=False)


def swept(criterion, axes: dict[str, list[float]], **hparams) -> list[Fit]:
    """A fit a combination of `axes`, whose best validation RMSE is `criterion(*values)`.

    Infinite is diverged.
    """
    fits = []
    for values in itertools.product(*axes.values()):
        best = criterion(*values)
        setting = dict(zip(axes, values, strict=True)) | hparams
        if np.isfinite(best):
            fits.append(fit([best + 0.1, best], **setting))
        else:
            fits.append(fit([1.0, NAN], status="diverged at epoch 2", **setting))
    return fits


DIVERGED = {"train": [1.2, INF], "loss": [9.0, INF], "status": "diverged at epoch 2"}
OUTCOMES = {
    "one lane": outcome(fit(FALLING)),
    "one epoch": outcome(fit([0.9]), fit([0.95], split_seed=1)),
    "every second epoch": outcome(fit([NAN, 1.0, NAN, 0.9, NAN, 0.95], loss=[9, 8, 7, 6, 5, 4])),
    "no validation": outcome(
        fit([NAN] * 4, train=FALLING),
        fit([NAN] * 4, train=[1, 1, 1, 1], reg=1),
        chosen_by="train_rmse",
    ),
    "stopped apart": outcome(
        fit(FALLING), fit(FALLING[:2], split_seed=1), fit([*FALLING, 0.8, 0.81], split_seed=2)
    ),
    "another diverged": outcome(fit(FALLING), fit([1e30, INF], **DIVERGED, reg=1.0)),
    "chosen diverged": outcome(fit([1.1, NAN], **DIVERGED), fit([1.2, 1.0])),
    "all diverged at once": outcome(
        fit([NAN], train=[INF], loss=[INF], status="diverged at epoch 1")
    ),
    "grew before it diverged": outcome(
        fit(
            [1, 1e5, 1e20, NAN],
            train=[1, 1e5, 1e20, NAN],
            loss=[1, 1e9, 1e30, INF],
            status="diverged at epoch 4",
        )
    ),
    "began badly": outcome(fit([1e6, *np.linspace(1, 0.9, 50)])),
    "exact": outcome(fit(10.0 ** -np.arange(1, 13), train=10.0 ** -np.arange(1, 13))),
    "nothing to tell": outcome(fit([0.0, 0.0], train=[0, 0])),
    "thirty settings": outcome(
        *(fit(np.add(FALLING, r / 50), reg=r, reg_bias=1 / (1 + r), rank=5 + r) for r in range(30))
    ),
}


def drawn(figure: Figure | None) -> Figure:
    """The figure, laid out, once it has what every figure owes its reader.

    A title, labels apart, and nothing cut off.
    """
    assert figure is not None
    figure.draw_without_rendering()
    box, page = figure.get_tightbbox(), figure.bbox_inches
    assert min(box.x0, box.y0) >= -0.01 and box.x1 <= page.x1 + 0.01 and box.y1 <= page.y1 + 0.01
    assert figure.get_suptitle()
    for axes in figure.axes:
        assert axes.get_ylabel() if axes.get_label() == "<colorbar>" else axes.get_xlabel()
        labels = [
            label.get_window_extent()
            for label in axes.get_xticklabels(which="both")
            if label.get_text()
        ]
        labels.sort(key=lambda box: box.x0)
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(labels))
    assert sum(len(legend.get_texts()) for legend in figure.legends) <= 20
    return figure


def line(axes, label: str) -> tuple[np.ndarray, np.ndarray]:
    return next(line.get_data() for line in axes.lines if line.get_label() == label)


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("result", OUTCOMES.values(), ids=OUTCOMES)
def test_learning_curves_bear_every_outcome(result):
    figure = plots.learning_curves(result)
    figure.set_layout_engine(
        None
    )  # the layout takes most of the time, and does not depend on the outcome
    figure.draw_without_rendering()
    left, right = figure.axes
    assert left.get_ylabel() and right.get_ylabel()
    assert np.isfinite([left.get_ylim(), right.get_ylim()]).all()


def test_learning_curves_show_the_evaluated_epochs():
    left, right = drawn(plots.learning_curves(OUTCOMES["every second epoch"])).axes
    x, y = line(left, "validation RMSE")
    np.testing.assert_array_equal(x, [2, 4, 6])
    np.testing.assert_allclose(y, [1.0, 0.9, 0.95], rtol=1e-6)
    np.testing.assert_allclose(line(left, "training RMSE")[1], [0.9, 0.8, 0.85], rtol=1e-6)
    np.testing.assert_array_equal(
        right.lines[0].get_data(), [[1, 2, 3, 4, 5, 6], [9, 8, 7, 6, 5, 4]]
    )
    np.testing.assert_allclose(line(left, "best epoch of a fit"), [[4], [0.9]], rtol=1e-6)
    np.testing.assert_allclose(line(right, "best epoch of a fit"), [[4], [6]])


def test_the_mean_ends_where_the_first_fit_stopped_and_the_band_goes_on():
    axes = plots.learning_curves(OUTCOMES["stopped apart"]).axes[0]
    _, y = line(axes, "validation RMSE")
    np.testing.assert_allclose(y, [1.0, 0.9, NAN, NAN, NAN, NAN], rtol=1e-6)
    assert axes.collections[1].get_datalim(axes.transData).x1 == 6


def test_the_best_of_a_diverged_fit_is_not_marked():
    axes = plots.learning_curves(OUTCOMES["chosen diverged"]).axes[0]
    np.testing.assert_allclose(line(axes, "best epoch of a fit"), [[2], [1.0]])


@pytest.mark.parametrize("case", ["one lane", "one epoch", "stopped apart", "all diverged at once"])
def test_epochs_are_whole_numbers(case):
    for axes in plots.learning_curves(OUTCOMES[case]).axes:
        assert all(tick == round(tick) for tick in axes.get_xticks())


def test_without_validation_only_training_is_shown():
    labels = [
        line.get_label() for line in plots.learning_curves(OUTCOMES["no validation"]).axes[0].lines
    ]
    assert labels == ["training RMSE of other settings", "training RMSE"]


@pytest.mark.parametrize("case", ["another diverged", "chosen diverged", "began badly"])
def test_a_bad_lane_or_start_does_not_flatten_the_rest(case):
    low, high = plots.learning_curves(OUTCOMES[case]).axes[0].get_ylim()
    assert 0.6 < low < high < 1.5


def test_a_wide_range_is_logarithmic_and_whole():
    assert plots.learning_curves(OUTCOMES["exact"]).axes[0].get_ylim()[1] > 0.1
    assert [axes.get_yscale() for axes in plots.learning_curves(OUTCOMES["exact"]).axes] == [
        "log",
        "log",
    ]
    assert [axes.get_yscale() for axes in plots.learning_curves(OUTCOMES["one lane"]).axes] == [
        "linear",
        "linear",
    ]


def test_learning_curves_of_many_swept_axes_stay_on_the_page():
    drawn(plots.learning_curves(OUTCOMES["thirty settings"]))


def test_side_by_side_has_a_line_a_method():
    curves = {
        name: OUTCOMES[case]
        for name, case in (("descent", "one lane"), ("one pair at a time", "stopped apart"))
    }
    figure = drawn(plots.side_by_side(curves))
    for axes, metric in zip(figure.axes, ("train_rmse", "loss"), strict=True):
        for name, result in curves.items():
            expected = np.mean([fit.history[metric][:2] for fit in result.chosen.fits], axis=0)
            np.testing.assert_allclose(line(axes, name)[1][:2], expected, rtol=1e-6)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(curves)


RATES, REGS = [0.1, 0.01, 0.02], [0.2, 0.05]
AXES: dict[str, list[float]] = {
    "learning_rate": RATES,
    "reg": REGS,
    "rank": [4, 8],
    "split_seed": [0, 1, 2, 3],
}


def test_heat_map_shows_the_best_over_the_other_axes_and_outlines_the_chosen():
    def criterion(rate, reg, rank):
        return INF if rate == 0.1 else 0.8 + rate + reg + rank / 100

    fits = swept(criterion, {k: AXES[k] for k in ("learning_rate", "reg", "rank")})
    figure = drawn(plots.heat_map(outcome(*fits), AXES))
    axes = figure.axes[0]
    expected = [[criterion(rate, reg, 4) for rate in (0.01, 0.02)] for reg in (0.05, 0.2)]
    values = axes.images[0].get_array()
    np.testing.assert_allclose(values[:, :2], expected, rtol=1e-6)
    assert values.mask[:, 2].all() and texts(axes).count("diverged") == 2
    assert texts(axes)[:2] == ["0.9000", "0.9100"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.01", "0.02", "0.1"]
    assert {patch.get_xy() for patch in axes.patches} == {(-0.5, -0.5)}  # of column 0, row 0
    assert "rank" in figure.get_suptitle()


@pytest.mark.parametrize(
    "criterion",
    [lambda a, b: 0.9, lambda a, b: 0.9 if b == 0.05 else 80 + a, lambda a, b: INF],
    ids=["all equal", "some far off", "all diverged"],
)
def test_heat_map_bears(criterion):
    drawn(plots.heat_map(outcome(*swept(criterion, {"learning_rate": RATES, "reg": REGS})), AXES))


def test_heat_map_says_that_settings_were_dropped():
    fits = swept(lambda rate, reg: 0.8 + rate + reg, {"learning_rate": RATES, "reg": REGS})
    halved = [fits[0]._replace(status="dropped at epoch 2"), *fits[1:]]
    for of, said in ((fits, False), (halved, True)):
        for axes in (AXES, {"reg": REGS}):
            assert (
                "to where each was dropped"
                in drawn(plots.heat_map(outcome(*of), axes)).get_suptitle()
            ) == said


def test_heat_map_bears_many_cells():
    axes = {
        "reg": [i / 1000 for i in range(1, 11)],
        "learning_rate": [i / 10000 for i in range(1, 9)],
    }
    assert (
        len(
            texts(
                drawn(plots.heat_map(outcome(*swept(lambda a, b: 0.9 + a - b, axes)), axes)).axes[0]
            )
        )
        == 80
    )


def test_an_only_axis_gives_a_line():
    regs = {"reg": [0.01, 0.3, 1]}
    fits = swept(lambda reg: INF if reg == 1 else reg, regs) + swept(
        lambda reg: reg + 1, regs, split_seed=1
    )
    axes = drawn(plots.heat_map(outcome(*fits), {"reg": [0.01, 0.3, 1], "init_seed": [0, 1]})).axes[
        0
    ]
    np.testing.assert_allclose(
        line(axes, "mean of the fits"), [[0.01, 0.3], [0.51, 0.8]], rtol=1e-6
    )
    assert line(axes, "diverged")[0] == [1] and len(line(axes, "a fit")[0]) == 4
    assert axes.get_xscale() == "log"


def test_no_axis_gives_no_heat_map():
    assert plots.heat_map(OUTCOMES["one lane"], {}) is None
    assert (
        plots.heat_map(
            OUTCOMES["stopped apart"], {"split_seed": [0, 1, 2], "reg": [0.05], "rank": [4, 4]}
        )
        is None
    )


RNG = np.random.default_rng(0)
STARS = RNG.integers(1, 6, 400).astype(np.float32)


def test_predictions_of_stars_are_boxed_and_clipped():
    predicted = STARS + RNG.normal(0.2, 1, 400)
    figure = drawn(plots.predictions(predicted, STARS, Bounds(1, 5), "test ratings"))
    left, right = figure.axes
    error = np.clip(predicted, 1, 5) - STARS
    boxes = [patch for patch in left.patches if patch.get_facecolor()[:3] != (1, 1, 1)]
    assert len(boxes) == 5 and sum(bar.get_height() for bar in right.patches) == 400
    rmse = np.sqrt(np.mean(error**2))
    expected = f"RMSE {rmse:.4f}, MAE {abs(error).mean():.4f}, bias {error.mean():+.4f}"
    assert expected in figure.get_suptitle()
    assert "400 test ratings" in figure.get_suptitle()
    medians = [
        line.get_ydata()[0]
        for line in left.lines
        if line.get_color() == "black" and len(line.get_xdata()) == 2
    ]
    assert np.isin(
        [np.median(np.clip(predicted, 1, 5)[star == STARS]) for star in range(1, 6)], medians
    ).all()


PREDICTIONS = {
    "continuous": (RNG.normal(size=300), RNG.normal(size=300)),
    "one rating": (np.array([3.2]), np.array([3])),
    "constant": (np.full(9, 3.0), np.full(9, 3.0)),
    "far off": (np.array([1e6, 2, 3]), np.array([1, 2, 3])),
}


@pytest.mark.parametrize(("predicted", "actual"), PREDICTIONS.values(), ids=PREDICTIONS)
def test_predictions_bear(predicted, actual):
    figure = drawn(
        plots.predictions(predicted, actual, Bounds(-INF, INF), "test ratings, split_seed 0")
    )
    assert sum(bar.get_height() for bar in figure.axes[1].patches) == len(actual)


@pytest.mark.parametrize("shape", [(3, 4), (6, 10), (60, 40), (1, 1)])
def test_matrices(shape):
    actual, missing = RNG.integers(1, 6, shape).astype(float), RNG.random(shape) < 0.3
    missing[0, 0], actual[missing] = False, NAN
    predicted = np.nan_to_num(actual, nan=3) + 0.25
    real, estimate, error = (
        axes.images[0] for axes in drawn(plots.matrices(actual, predicted, missing)).axes[:3]
    )
    np.testing.assert_array_equal(real.get_array().mask, missing)
    np.testing.assert_array_equal(estimate.get_array(), predicted)
    np.testing.assert_allclose(error.get_array().compressed(), 0.25)
    assert real.get_clim() == estimate.get_clim() and error.get_clim()[0] == -error.get_clim()[1]
    written = [len(texts(image.axes)) for image in (real, estimate)]
    assert written == ([(~missing).sum(), missing.size] if missing.size <= 60 else [0, 0])


def test_an_exact_prediction_looks_like_no_error():
    actual = np.array([[1.0, 2.0], [3.0, 4.0]])
    axes = drawn(plots.matrices(actual, actual + 1e-7, actual < 0)).axes[2]
    assert axes.images[0].get_clim()[1] >= 0.03 and set(texts(axes)) == {"0.00"}


def row(gradient: str, status: str = "ok", **fields) -> dict:
    known = {
        "ms": 2.0,
        "ms_low": 1.5,
        "ms_high": 3.0,
        "error_user": 1e-15,
        "error_item": 3e-16,
        "tolerance": 1e-10,
    }
    rest = {"compile_s": 0.1, "temp_bytes": 10, "flops": 10, "ratings": 1000, "entries": 9000}
    return {"gradient": gradient, "status": status} | known | rest | fields


UNKNOWN = dict.fromkeys(("ms", "ms_low", "ms_high", "error_user", "error_item", "tolerance"))
ROWS = [
    row("autodiff", "oracle", error_user=None, error_item=None, tolerance=None),
    row("coo", error_user=0.0),
    row(
        "dense",
        "refused: the layout would need 123 GiB, more than the 8 GiB of this machine",
        **UNKNOWN,
    ),
    row("candidate", "FAILED", error_user=0.5, error_item=INF, ms=200.0, ms_low=None, ms_high=None),
]


def test_gradients_show_errors_times_and_failures():
    left, right = drawn(plots.gradients(ROWS)).axes
    assert [label.get_text() for label in left.get_yticklabels()] == [
        "autodiff",
        "coo",
        "dense",
        "candidate",
    ]
    assert left.get_yticklabels()[3].get_color() == VERMILLION
    user = line(left, "error, user factors")[0]
    assert user[1] == left.get_xticks()[0] and left.get_xticklabels()[0].get_text() == "0"
    assert user[3] == 0.5 and np.isnan(user[[0, 2]]).all()
    np.testing.assert_array_equal([bar.get_width() for bar in right.patches], [2, 2, NAN, 200])
    notes = texts(right)
    assert notes[0] == " 2 ms, oracle" and "refused" in notes[2] and "FAILED" in notes[3]


@pytest.mark.parametrize(
    "rows",
    [[row("a")], [row("a", **UNKNOWN)], [row("a", error_user=0, error_item=0, tolerance=None)]],
)
def test_gradients_bear(rows):
    drawn(plots.gradients(rows))


def test_scaling_has_a_line_a_variant_and_a_guide_of_slope_1():
    rows = [
        {**r, "ratings": n, "ms": r["ms"] and r["ms"] * n} for n in (100, 10, 1000) for r in ROWS
    ]
    (axes,) = drawn(plots.scaling(rows)).axes
    np.testing.assert_array_equal(line(axes, "coo"), [[10, 100, 1000], [20, 200, 2000]])
    assert next(line.get_label() for line in axes.lines) == "candidate (FAILED)"
    x, y = line(axes, "proportional to ratings")
    np.testing.assert_allclose(y / x, 2)
    drawn(plots.scaling([row("alone")]))


def test_save_writes_both_formats(tmp_path):
    plots.save(plots.learning_curves(OUTCOMES["one lane"]), tmp_path, "curves")
    png, pdf = ((tmp_path / f"curves.{kind}").read_bytes() for kind in ("png", "pdf"))
    assert png.startswith(b"\x89PNG") and pdf.startswith(b"%PDF") and len(png) > 10_000


def test_jobs_that_fill_a_grid_are_cells_and_drawn_ones_are_points():
    rows = [
        {"hparams.reg": str(r), "optimizer": o, "validation_rmse": 1 + r}
        for r in (0.1, 0.2)
        for o in ("sgd", "adam")
    ]
    assert (
        len(
            drawn(plots.jobs_map(rows, ["hparams.reg", "optimizer"], "validation_rmse"))
            .axes[0]
            .images
        )
        == 1
    )
    rows = [
        {"a": str(0.001 * 3**i), "b": str(7 * i % 5), "validation_rmse": None if i == 2 else 1 + i}
        for i in range(5)
    ]
    figure = drawn(plots.jobs_map(rows, ["a", "b"], "validation_rmse"))
    assert "×: failed" in figure.get_suptitle()
    panel = figure.axes[0]
    good, best, bad = (points.get_offsets().tolist() for points in panel.collections[:3])
    assert not panel.images and panel.get_xscale() == "log" and panel.get_yscale() == "linear"
    assert len(good) == 4 and best == [[0.001, 0.0]] and len(bad) == 1 and bad[0][1] == 4.0
    assert {"0.001", "0.002", "0.05"} <= {label.get_text() for label in panel.get_xticklabels()}
    assert plots.jobs_map(rows, ["a"], "validation_rmse") is None
