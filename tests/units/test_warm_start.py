"""`init.path` starts from a model: its rows by their ids, and the others at 0."""

import numpy as np
import pytest
from configs import TINY, built, composed, refusal
from marks import often

import mfjax
from mfjax import InputError, Lane
from mfjax.app.build import build_dataset
from mfjax.app.identity import flat

SLOWLY = ("hparams.rank=2", "hparams.learning_rate=1e-12")  # a start that stays where it is


@pytest.fixture(scope="module", params=often([True, False], one_of=2), ids=["bias", "no bias"])
def saved(request, tmp_path_factory):
    """A folder with a model of the tiny ratings, the model, and what is said of biases."""
    data = build_dataset(composed(*TINY))
    bias = request.param
    model = mfjax.fit(data, "als", rank=2, epochs=3, bias=bias)
    folder = tmp_path_factory.mktemp("saved")
    model.save(folder)
    return folder, model, f"bias={str(bias).lower()}"


def test_a_lane_starts_where_the_model_is(saved):
    folder, model, bias = saved
    split = ("split.validation=0", "split.test=0")  # of which μ is that of the model
    experiment = built(*TINY, *SLOWLY, *split, bias, f"init.path={folder}")
    (lane,) = experiment.lanes
    (fit,) = experiment.sweep.train([Lane(lane, 1)])
    user, item = fit.factors
    np.testing.assert_allclose(user[:, :2], model.user_factors, rtol=1e-5)
    np.testing.assert_allclose(item[:, :2], model.item_factors, rtol=1e-5)
    if model.bias:
        np.testing.assert_allclose(user[:, -2], model.user_bias, rtol=1e-5)
        np.testing.assert_allclose(item[:, -1], model.item_bias, rtol=1e-5)
    assert experiment.start == f"6 of 6 users and 5 of 5 items as in {folder}, the others at 0"


def test_another_model_in_the_folder_makes_another_run(saved, tmp_path):
    _, model, bias = saved
    identities = []
    for user_id in (77, 88):
        model.fold_in(user_id, {0: 1.0}).save(tmp_path)
        cfg = composed(*TINY, *SLOWLY, bias, f"init.path={tmp_path}")
        identities.append(flat(cfg))
    changed = {key for key, value in identities[0].items() if identities[1][key] != value}
    assert changed == {"init.path, sha256"}


def test_rows_are_found_by_their_ids_and_others_start_at_0(saved):
    _, model, _ = saved
    user, item = [4, 99, 1, 2], [3, 3, -7, 0]
    other = mfjax.from_ids("other", user, item, [1, 2, 3, 4])
    start = model.start(other)
    for side, table in start._asdict().items():
        ids = getattr(model, f"{side}_ids").tolist()
        factors = getattr(model, f"{side}_factors")
        for one, row in zip(getattr(other, f"{side}_ids").tolist(), table, strict=True):
            expected = factors[ids.index(one)] if one in ids else [0, 0]
            np.testing.assert_array_equal(row[:2], expected)
            assert one in ids or not row.any()
    named = mfjax.from_ids("named", ["a", "b"], [1, 2], [1, 2])
    with pytest.raises(InputError, match="unknown user 'a': ids are integers here"):
        model.start(named)


def test_what_does_not_fit_is_refused(saved, tmp_path):
    folder, _, bias = saved
    path = f"init.path={folder}"
    assert "expected a model of rank 16, got rank 2" in refusal(*TINY, bias, path)
    swept = ("hparams.rank=2", "sweep.rank=[2,3]")
    assert "expected a model of rank 3, got rank 2" in refusal(*TINY, *swept, bias, path)
    other = {"bias=true": "bias=false", "bias=false": "bias=true"}[bias]
    assert f"biases: set {bias}" in refusal(*TINY, *SLOWLY, other, path)
    assert "no factors.npz" in refusal(*TINY, *SLOWLY, f"init.path={tmp_path}")


def test_a_model_that_has_seen_what_is_held_out_is_refused(saved):
    folder, _, bias = saved
    given = (*TINY, *SLOWLY, bias, f"init.path={folder}")
    for part, share in (("test", "split.validation=0"), ("validation", "split.test=0")):
        said = refusal(*given, share)
        assert f"its model was trained on 3 of the 3 {part} ratings" in said


@pytest.mark.parametrize(
    "key", ["hparams.init_seed=3", "hparams.init_scale=0.3", "init.user=[[1]]"]
)
def test_what_a_model_stands_in_place_of_is_refused(saved, key):
    folder, _, bias = saved
    said = refusal(*TINY, "hparams.rank=2", bias, f"init.path={folder}", key)
    assert "has no effect with init.path" in said
