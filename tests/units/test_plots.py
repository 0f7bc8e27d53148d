"""Every figure shows its numbers, is labelled, stays on its page, and bears the awkward cases."""

import itertools

import numpy as np
import pytest
from marks import often
from matplotlib import rcParams
from matplotlib.figure import Figure

from mfjax import Bounds, Factors, Hparams, Lane, plots
from mfjax.reporting.formats import printable
from mfjax.reporting.style import VERMILLION
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


# learning curves


@pytest.mark.parametrize("result", OUTCOMES.values(), ids=OUTCOMES)
def test_learning_curves_bear_every_outcome(result):
    figure = plots.learning_curves(result)
    figure.set_layout_engine(None)  # takes most of the time, and does not depend on the outcome
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert axes.get_title()
        assert axes.get_ylabel()
        assert np.isfinite(axes.get_ylim()).all()


def test_learning_curves_show_the_evaluated_epochs():
    figure = drawn(plots.learning_curves(OUTCOMES["every second epoch"]))
    validation, train, objective = figure.axes
    x, y = line(validation, "chosen setting")
    np.testing.assert_array_equal(x, [2, 4, 6])
    np.testing.assert_allclose(y, [1.0, 0.9, 0.95], rtol=1e-6)
    np.testing.assert_allclose(line(train, "chosen setting")[1], [0.9, 0.8, 0.85], rtol=1e-6)
    x, y = line(objective, "chosen setting")
    np.testing.assert_array_equal(x, [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(y, [9, 8, 7, 6, 5, 4])


def test_the_best_epoch_is_marked_in_every_panel():
    figure = plots.learning_curves(OUTCOMES["every second epoch"])
    marks = [line(axes, "best epoch of a fit") for axes in figure.axes]
    np.testing.assert_allclose(marks, [[[4], [0.9]], [[4], [0.8]], [[4], [6]]], rtol=1e-6)


def test_what_chooses_has_an_axis_of_its_own():
    apart = outcome(fit(FALLING, train=[0.5, 0.2, 0.1, 0.05]))
    validation, train, _ = plots.learning_curves(apart).axes
    assert validation.get_title() == "validation RMSE (chooses)"
    assert 0.8 < validation.get_ylim()[0] < 0.85 < 1 < validation.get_ylim()[1] < 1.1
    assert train.get_ylim()[1] < 0.6


def test_the_other_settings_lie_behind_what_chooses_alone():
    validation, *others = plots.learning_curves(OUTCOMES["another diverged"]).axes
    assert [one.get_label() for one in validation.lines] == [
        "other settings",
        "chosen setting",
        "best epoch of a fit",
    ]
    for axes in others:
        assert "other settings" not in [one.get_label() for one in axes.lines]


def test_of_settings_that_are_pooled_none_is_said_to_be_chosen():
    axes = {"learning_rate": RATES, "reg": REGS}
    pooled = outcome(*swept(lambda rate, reg: rate + reg, axes))._replace(pooled=True)
    curves = drawn(plots.learning_curves(pooled))
    assert curves.get_suptitle().startswith("Learning curves of the best setting")
    assert curves.axes[0].get_title() == "validation RMSE"
    assert "best setting" in [one.get_label() for one in curves.axes[0].lines]
    title = drawn(plots.heat_map(pooled, AXES)).get_suptitle()
    assert title.startswith("Mean validation RMSE by") and title.endswith("the best setting")


def test_the_mean_ends_where_the_first_fit_stopped_and_the_band_goes_on():
    axes = plots.learning_curves(OUTCOMES["stopped apart"]).axes[0]
    _, y = line(axes, "chosen setting")
    np.testing.assert_allclose(y, [1.0, 0.9, NAN, NAN, NAN, NAN], rtol=1e-6)
    assert axes.collections[0].get_datalim(axes.transData).x1 == 6


def test_the_best_of_a_diverged_fit_is_not_marked():
    axes = plots.learning_curves(OUTCOMES["chosen diverged"]).axes[0]
    np.testing.assert_allclose(line(axes, "best epoch of a fit"), [[2], [1.0]])


@pytest.mark.parametrize("case", ["one lane", "one epoch", "stopped apart", "all diverged at once"])
def test_epochs_are_whole_numbers(case):
    for axes in plots.learning_curves(OUTCOMES[case]).axes:
        assert all(tick == round(tick) for tick in axes.get_xticks())


def test_without_validation_training_chooses():
    train, objective = drawn(plots.learning_curves(OUTCOMES["no validation"])).axes
    assert train.get_title() == "training RMSE (chooses)"
    assert [one.get_label() for one in train.lines] == ["other settings", "chosen setting"]
    assert [one.get_label() for one in objective.lines] == ["chosen setting"]


@pytest.mark.parametrize("case", ["another diverged", "chosen diverged", "began badly"])
def test_a_bad_lane_or_start_does_not_flatten_the_rest(case):
    low, high = plots.learning_curves(OUTCOMES[case]).axes[0].get_ylim()
    assert 0.6 < low < high < 1.5


@pytest.mark.parametrize("case, scale", [("exact", "log"), ("one lane", "linear")])
def test_a_wide_range_is_logarithmic_and_whole(case, scale):
    figure = plots.learning_curves(OUTCOMES[case])
    assert {axes.get_yscale() for axes in figure.axes} == {scale}
    assert figure.axes[0].get_ylim()[1] > 0.1


def test_learning_curves_of_many_swept_axes_stay_on_the_page():
    drawn(plots.learning_curves(OUTCOMES["thirty settings"]))


VARIANTS = {"descent": OUTCOMES["one lane"], "one pair at a time": OUTCOMES["stopped apart"]}


def test_side_by_side_has_a_line_a_variant_and_validation_beside_training():
    figure = drawn(plots.side_by_side(VARIANTS))
    columns = ("validation_rmse", "train_rmse", "loss")
    for axes, column in zip(figure.axes, columns, strict=True):
        for name, result in VARIANTS.items():
            both = [fit.history[column][:2] for fit in result.chosen.fits]
            np.testing.assert_allclose(line(axes, name)[1][:2], np.mean(both, 0), rtol=1e-6)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(VARIANTS)


def test_side_by_side_shows_validation_where_there_is_any():
    none = OUTCOMES["no validation"]
    _, *titles = (axes.get_title() for axes in plots.side_by_side({"a": none, "b": none}).axes)
    assert titles == ["objective (minimised)"]
    figure = drawn(plots.side_by_side({"a": none, **VARIANTS}))
    assert [one.get_label() for one in figure.axes[0].lines] == list(VARIANTS)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", *VARIANTS]


# maps


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
    assert "outlined: the chosen setting" in figure.get_suptitle()


def heat_map(criterion) -> Figure:
    settings = outcome(*swept(criterion, {"learning_rate": RATES, "reg": REGS}))
    return drawn(plots.heat_map(settings, AXES))


@pytest.mark.parametrize(
    "criterion",
    [lambda a, b: 0.9, lambda a, b: 0.9 if b == 0.05 else 80 + a],
    ids=["all equal", "some far off"],
)
def test_heat_map_bears(criterion):
    heat_map(criterion)


def test_where_all_diverged_nothing_is_outlined():
    figure = heat_map(lambda a, b: INF)
    assert not figure.axes[0].patches
    assert "outlined" not in figure.get_suptitle()


def test_what_is_written_in_a_cell_beyond_a_range_without_width_can_be_read():
    axes, _ = heat_map(lambda a, b: 80 if (a, b) == (0.1, 0.2) else 0.9).axes
    (image,) = axes.images
    low, high = image.get_clim()
    assert low < high < 80
    colors = {text.get_text(): text.get_color() for text in axes.texts}
    assert colors == {"0.9000": "black", "80.00": "white"}


def test_heat_map_says_that_settings_were_dropped():
    fits = swept(lambda rate, reg: 0.8 + rate + reg, {"learning_rate": RATES, "reg": REGS})
    halved = [fits[0]._replace(status="dropped at epoch 2"), *fits[1:]]
    for of, said in ((fits, False), (halved, True)):
        for axes in (AXES, {"reg": REGS}):
            title = drawn(plots.heat_map(outcome(*of), axes)).get_suptitle()
            assert ("to where each was dropped" in title) == said


def many_cells() -> Figure:
    axes = {
        "reg": [i / 1000 for i in range(1, 11)],
        "learning_rate": [i / 10000 for i in range(1, 9)],
    }
    fits = swept(lambda a, b: 0.9 + a - b, axes)
    return drawn(plots.heat_map(outcome(*fits), axes))


def test_heat_map_bears_many_cells():
    assert len(texts(many_cells().axes[0])) == 80


def test_an_only_axis_gives_a_line():
    regs = {"reg": [0.01, 0.3, 1]}
    first = swept(lambda reg: INF if reg == 1 else reg, regs)
    second = swept(lambda reg: reg + 1, regs, split_seed=1)
    result = outcome(*first, *second)
    (axes,) = drawn(plots.heat_map(result, regs | {"init_seed": [0, 1]})).axes
    mean = line(axes, "mean of the fits")
    np.testing.assert_allclose(mean, [[0.01, 0.3], [0.51, 0.8]], rtol=1e-6)
    assert line(axes, "diverged")[0] == [1]
    assert len(line(axes, "a fit")[0]) == 4
    assert axes.get_xscale() == "log"


FORMULAS = ("$a$", r"\frac{1}$x$ and $", "\x1b[1m$$")  # as names


def test_names_are_no_formulas():
    drawn(plots.side_by_side(dict.fromkeys(FORMULAS, OUTCOMES["one lane"])))
    rows = [
        {"a": name, "b": str(i), "validation_rmse": 1.0 + i} for name in FORMULAS for i in range(2)
    ]
    figure = jobs_map(rows, "a", "b")
    labels = figure.axes[0].get_xticklabels()
    assert {label.get_text().replace(r"\$", "$") for label in labels} == {
        printable(name) for name in FORMULAS
    }


def test_no_axis_gives_no_heat_map():
    assert plots.heat_map(OUTCOMES["one lane"], {}) is None
    constant = {"split_seed": [0, 1, 2], "reg": [0.05], "rank": [4, 4]}
    assert plots.heat_map(OUTCOMES["stopped apart"], constant) is None


BY_OPTIMIZER = [
    {"hparams.reg": str(reg), "optimizer": name, "validation_rmse": 1 + reg}
    for reg in (0.1, 0.2)
    for name in ("sgd", "adam")
]
DRAWN = [
    {"a": str(0.001 * 3**i), "b": str(7 * i % 5), "validation_rmse": None if i == 2 else 1 + i}
    for i in range(5)
]


def jobs_map(rows, *varied: str) -> Figure:
    return drawn(plots.jobs_map(rows, varied, "validation_rmse"))


def test_jobs_that_fill_a_grid_are_cells():
    figure = jobs_map(BY_OPTIMIZER, "hparams.reg", "optimizer")
    assert len(figure.axes[0].images) == 1
    assert plots.jobs_map(BY_OPTIMIZER, ["optimizer"], "validation_rmse") is None


def test_jobs_that_were_drawn_are_points():
    figure = jobs_map(DRAWN, "a", "b")
    assert figure.get_suptitle().endswith("outlined: the best job; ×: failed")
    panel = figure.axes[0]
    assert not panel.images
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "linear")
    good, best, bad = (points.get_offsets().tolist() for points in panel.collections[:3])
    assert len(good) == 4
    assert best == [[0.001, 0.0]]
    assert [y for _, y in bad] == [4.0]
    assert {"0.001", "0.002", "0.05"} <= {label.get_text() for label in panel.get_xticklabels()}


def test_jobs_that_all_failed_have_no_best():
    figure = jobs_map([row | {"validation_rmse": None} for row in DRAWN], "a", "b")
    assert figure.get_suptitle().endswith("\n×: failed")


def test_a_key_of_numbers_and_words_is_one_of_words():
    rows = [row | {"b": b} for row, b in zip(DRAWN, ("10", "null", "9", "2", "all"), strict=True)]
    panel = jobs_map(rows, "a", "b").axes[0]
    words = [label.get_text() for label in panel.get_yticklabels()]
    assert words == ["2", "9", "10", "all", "null"]
    grid = [{"a": a, "b": b, "validation_rmse": 1} for a in "12" for b in ("10", "null", "9")]
    panel = jobs_map(grid, "a", "b").axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["9", "10", "null"]


# predictions


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


# gradients


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
    notes = texts(right)
    assert notes[0] == "2 ms, oracle"
    assert "refused" in notes[2]
    assert "FAILED" in notes[3]


def test_times_are_points_with_whiskers_and_no_bars():
    _, right = drawn(plots.gradients(ROWS)).axes
    assert right.get_xscale() == "log"
    assert not right.patches
    drawn_rows = [container.lines for container in right.containers]
    points = [point.get_xdata()[0] for point, _, _ in drawn_rows]
    np.testing.assert_array_equal(points, [2, 2, NAN, 200])
    _, _, (whiskers,) = drawn_rows[0]
    np.testing.assert_allclose(whiskers.get_segments()[0][:, 0], [1.5, 3])


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


# files


PNG = b"\x89PNG"
BEGINS = {"png": PNG, "pdf": b"%PDF", "svg": b"<?xml"}


def saved(folder, figure: Figure, **how) -> dict[str, bytes]:
    """What `save` writes, by format."""
    plots.save(figure, folder, "figure", plots.Saving(**how))
    return {path.suffix[1:]: path.read_bytes() for path in folder.iterdir()}


def inches(png: bytes) -> list[float]:
    return [int.from_bytes(png[at : at + 4]) / 150 for at in (16, 20)]


def curves() -> Figure:
    return plots.learning_curves(OUTCOMES["another diverged"])


@pytest.mark.parametrize("kinds", [("png", "pdf"), ("svg",)])
def test_a_figure_is_saved_in_each_format(tmp_path, kinds):
    files = saved(tmp_path, curves(), format=kinds)
    assert set(files) == set(kinds)
    for kind, data in files.items():
        assert data.startswith(BEGINS[kind])
        assert len(data) > 10_000


@pytest.mark.slow
def test_without_a_title_there_is_more_room_and_the_file_still_says_what_it_shows(tmp_path):
    figure = curves()
    saved(tmp_path, figure)
    titled = figure.axes[0].get_position().height
    files = saved(tmp_path, figure, title=False)
    assert figure.axes[0].get_position().height > titled
    assert b"Learning curves of the chosen setting" in files["png"]
    saved(tmp_path, figure)
    assert figure.axes[0].get_position().height == pytest.approx(titled)


@pytest.mark.slow
def test_a_figure_has_the_size_that_is_asked_for_and_its_legend_fits(tmp_path):
    figure = curves()
    assert inches(saved(tmp_path, figure)["png"]) == pytest.approx([11.1, 4])
    assert inches(saved(tmp_path, figure, size=(3.5, 5))["png"]) == pytest.approx([3.5, 5])
    (legend,) = figure.legends
    assert legend.get_window_extent().width < figure.bbox.width
    assert len(legend.get_texts()) == 3


def test_what_is_written_in_the_cells_of_a_small_figure_fits_them_or_is_hidden(tmp_path):
    figure = heat_map(lambda a, b: a + b)
    axes = figure.axes[0]
    saved(tmp_path, figure, size=(3, 2))
    room = axes.bbox.width / len(RATES)
    assert all(text.get_visible() for text in axes.texts)
    assert all(text.get_window_extent().width < room for text in axes.texts)
    figure = many_cells()
    saved(tmp_path, figure, size=(3, 2))
    assert not any(text.get_visible() for text in figure.axes[0].texts)


def test_drawing_leaves_nothing_in_matplotlibs_settings(tmp_path):
    before = dict(rcParams)
    saved(tmp_path, curves())
    assert dict(rcParams) == before


@pytest.mark.parametrize("kind", often(["png", "pdf", "svg"], one_of=3))
def test_the_same_figure_is_the_same_file(tmp_path, kind):
    files = []
    for name in ("once", "again"):
        figure = plots.side_by_side(VARIANTS)
        plots.save(figure, tmp_path, name, plots.Saving(format=(kind,)))
        files.append((tmp_path / f"{name}.{kind}").read_bytes())
    assert files[0] == files[1]
