"""What a run leaves behind is read back as it was, and is written whole or not at all."""

import json
import math

import numpy as np
import pytest
from matplotlib.text import Text

import mfjax
from mfjax import Bounds, Factors, Hparams, Lane, Problem, Spec
from mfjax.data import from_ids
from mfjax.errors import InputError
from mfjax.reporting.files import as_json, write_csv, write_json
from mfjax.reporting.formats import Shown, cells, in_figure, latex, markdown, printable
from mfjax.training.lanes import Fit
from mfjax.training.whole import read_json

RANK, COLUMNS, MEAN, BOUNDS = (
    3,
    18,
    3.5,
    (1.0, 5.0),
)  # 16 factor columns, of which the lane has 3, and the two of the biases
IDS = {
    "integers": ([30, 7, 7, 100], [5, 5, 9, 2]),
    "strings": (["b", "a", "a", "é x"], ["007", "007", "7", "B0"]),
}


@pytest.fixture(params=IDS)
def dataset(request):
    return from_ids("made", *IDS[request.param], [1.0, 2.0, 3.0, 5.0])


def tables(dataset, bias):
    """Whole factor tables, pinned as in training: [U | 0 | b | 1] and [V | 0 | 1 | c].

    Or without the last two columns.
    """
    rng = np.random.default_rng(0)
    sides = []
    for count, pinned in ((dataset.num_users, -1), (dataset.num_items, -2)):
        table = rng.normal(size=(count, COLUMNS if bias else COLUMNS - 2)).astype(np.float32)
        table[:, RANK:16] = 0
        if bias:
            table[:, pinned] = 1
        sides.append(table)
    return Factors(*sides)


def written(folder, dataset, bias=True, bounds=BOUNDS):
    factors, mean = tables(dataset, bias), MEAN if bias else 0.0
    fit = Fit(Lane(Hparams(rank=RANK), 1), factors, mean, "finished", 1, {})
    spec = Spec(dataset.num_users, dataset.num_items, bias=bias)
    problem = Problem(dataset.ratings(), dataset.ratings(slice(0)), Bounds(*bounds))
    mfjax.Model.of(fit, dataset, problem, spec).write(folder / "factors.npz")
    write_json(folder / "results.json", {"status": "finished"})
    return mfjax.load(folder), factors.user.astype(float) @ factors.item.T.astype(float) + mean


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_predictions_are_mean_biases_and_dot_clipped(tmp_path, dataset, bias):
    model, scores = written(tmp_path, dataset, bias)
    users, items = (
        side.ravel() for side in np.meshgrid(dataset.user_ids, dataset.item_ids, indexing="ij")
    )
    predicted = model.predict(users.tolist(), items.tolist())
    np.testing.assert_allclose(
        predicted, np.clip(scores, *BOUNDS).ravel(), rtol=1e-5
    )  # float32 factors
    assert model.user_factors.shape == (3, RANK) and model.item_factors.shape == (3, RANK)
    assert ((scores < BOUNDS[0]) | (scores > BOUNDS[1])).any()  # else clipping was not tried
    assert bias or not (model.user_bias.any() or model.item_bias.any() or model.mean)


def test_nothing_is_clipped_to_infinite_bounds(tmp_path, dataset):
    model, scores = written(tmp_path, dataset, bounds=(-math.inf, math.inf))
    user = dataset.user_ids[1].item()
    np.testing.assert_allclose(
        model.predict([user] * 3, dataset.item_ids.tolist()), scores[1], rtol=1e-5
    )


def test_top_orders_by_unclipped_prediction_and_excludes(tmp_path, dataset):
    model, scores = written(tmp_path, dataset)
    for i, user in enumerate(dataset.user_ids.tolist()):
        best = [dataset.item_ids[j].item() for j in np.argsort(-scores[i])]
        assert [item for item, _ in model.top(user)] == best
        np.testing.assert_allclose(
            [score for _, score in model.top(user)], np.sort(scores[i])[::-1], rtol=1e-5
        )
        assert [item for item, _ in model.top(user, n=1)] == best[:1]
        assert [item for item, _ in model.top(user, n=1, exclude=best[:1])] == best[1:2]


def test_top_never_names_an_excluded_item(tmp_path, dataset):
    model, _ = written(tmp_path, dataset)
    items = dataset.item_ids.tolist()
    assert {
        item for item, _ in model.top(dataset.user_ids[0].item(), n=10, exclude=items[:1])
    } == set(items[1:])


@pytest.mark.parametrize("unknown", [-1, 8, 10**6, "", "aa", "zz", 2.5], ids=repr)
def test_unknown_ids_are_refused(tmp_path, dataset, unknown):
    model, _ = written(tmp_path, dataset)
    user, item = dataset.user_ids[0].item(), dataset.item_ids[0].item()
    with pytest.raises(InputError, match=r"unknown user .* 3 user ids"):
        model.predict([unknown], [item])
    with pytest.raises(InputError, match="unknown item"):
        model.predict([user], [unknown])
    with pytest.raises(InputError, match="unknown user"):
        model.top(unknown)
    with pytest.raises(InputError, match="unknown item"):
        model.top(user, exclude=[unknown])


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no factors\.npz; expected the output folder"):
        mfjax.load(tmp_path)


def test_what_is_not_finished_is_no_model(tmp_path, dataset):
    written(tmp_path, dataset)
    results = tmp_path / "results.json"
    write_json(results, {"status": "diverged", "reason": "every setting diverged\ntry"})
    with pytest.raises(InputError, match="every setting diverged; expected the output folder of a"):
        mfjax.load(tmp_path)
    results.write_text("{")
    with pytest.raises(InputError, match=r"results\.json is damaged"):
        mfjax.load(tmp_path)
    results.unlink()
    with pytest.raises(InputError, match=r"no results\.json; expected the output folder"):
        mfjax.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"], ids=["empty", "cut"])
def test_damaged_factors_are_one_message(tmp_path, dataset, content):
    written(tmp_path, dataset)
    (tmp_path / "factors.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"factors\.npz is damaged, or of another version"):
        mfjax.load(tmp_path)


def test_plain_is_what_json_knows():
    value = {
        1: np.float32(0.5),
        "nan": math.nan,
        "infinite": [np.inf, -math.inf, np.float64("nan")],
        "array": np.array([[1.0, np.nan], [2.0, 3.0]]),
        "flags": (np.bool_(True), False, None, "text", np.int64(7)),
        "hparams": Hparams(reg=np.float64(0.25))._replace(rank=np.int32(4)),
    }
    plain = as_json(value)
    assert plain == {
        "1": 0.5,
        "nan": None,
        "infinite": [None, None, None],
        "array": [[1.0, None], [2.0, 3.0]],
        "flags": [True, False, None, "text", 7],
        "hparams": Hparams(reg=0.25, rank=4)._asdict(),
    }
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert type(plain["1"]) is float and type(plain["hparams"]["rank"]) is int


def test_json_and_csv_come_back_and_leave_nothing_beside_them(tmp_path):
    write_json(tmp_path / "a.json", {"λ": np.float64(0.5), "none": math.nan})
    assert json.loads((tmp_path / "a.json").read_text()) == {"λ": 0.5, "none": None}
    write_csv(
        tmp_path / "a.csv",
        [{"x": 1, "y": None}, {"x": np.float32(0.5), "y": math.nan}, {"x": 2, "y": "a,b"}],
    )
    assert (tmp_path / "a.csv").read_text() == 'x,y\n1.0,\n0.5,\n2.0,"a,b"\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json"]


@pytest.mark.parametrize("there", [True, False], ids=["over a file", "new"])
def test_a_failed_json_leaves_what_was_there(tmp_path, there):
    path = tmp_path / "a.json"
    if there:
        path.write_text("before")
    with pytest.raises(TypeError):
        write_json(path, {"fine": 1, "not": object()})
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == (
        {"a.json": "before"} if there else {}
    )


@pytest.mark.parametrize("there", [True, False], ids=["over a file", "new"])
def test_a_failed_csv_leaves_what_was_there(tmp_path, there):
    path = tmp_path / "a.csv"
    if there:
        path.write_text("before")
    with pytest.raises(Exception, match=r"CSV|nested"):
        write_csv(path, [{"x": [1, 2]}])
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == (
        {"a.csv": "before"} if there else {}
    )


def test_text_that_is_no_unicode_is_written_and_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"command": ["data.path=\udcff.csv"]})
    assert read_json(tmp_path / "a.json") == {"command": ["data.path=\udcff.csv"]}


# escapes


def test_what_a_terminal_would_obey_is_shown():
    shown = printable("a\x1b[31mb\tc\nd \u202e\x07λ [red]")
    assert shown == "a\\x1b[31mb\tc\nd \\u202e\\x07λ [red]"


@pytest.mark.parametrize("name", ["$a$", r"\$a$", "a$b$c$", "plain", "\\$"])
def test_a_dollar_in_a_figure_is_a_dollar(name):
    shown, is_formula = Text(text=in_figure(name))._preprocess_math(in_figure(name))
    assert (shown, is_formula) == (name, False)


def test_a_markdown_cell_is_no_html_and_one_line():
    (*_, row) = markdown(["<b>"], [["<script>&\n\x1b|"]]).splitlines()
    assert row == r"| &lt;script&gt;&amp; \x1b\| |"


def test_a_markdown_table():
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_a_latex_table_escapes():
    table = latex(["error_user", "λ"], [["5 %", "–"]])
    assert "error\\_user & $\\lambda$ \\\\\n" in table and "5 \\% & -- \\\\\n" in table
    assert table.startswith("\\begin{tabular}{lr}\n") and table.endswith("\\end{tabular}\n")


def test_a_markdown_cell_may_hold_a_bar():
    (*_, row) = markdown(["a", "b"], [["x|y", "2"]]).splitlines()
    assert row == r"| x\|y | 2 |"


def test_a_latex_cell_may_hold_every_special_character():
    table = latex(["a"], [["& # $ { }"]])
    assert r"\& \# \$ \{ \}" in table


def test_cells_have_their_format_and_unit_and_a_dash_where_there_is_nothing():
    shown = {
        "MB": Shown("temp_bytes", ".1f", 1e6),
        "error": Shown("error", ".1e"),
        "of": Shown("gradient"),
    }
    row = {"temp_bytes": 2_345_678, "error": 1e-12, "gradient": "coo"}
    assert cells(row, shown) == ["2.3", "1.0e-12", "coo"]
    assert cells({"temp_bytes": None, "gradient": "coo"}, shown) == ["–", "–", "coo"]
