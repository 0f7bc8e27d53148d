"""What holds of gradients beside the contract of each (`mfjax.testing.gradient_checks`)."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from mfjax import GRADIENTS, Hparams, InputError
from mfjax.testing import CONVENTIONS, SPEC, random_factors


def test_the_conventions_cover_every_pair():
    fields = ("missing", "loss_scale", "reg_by", "bias")
    for pair in itertools.combinations(fields, 2):
        values = [{getattr(spec, field) for spec in CONVENTIONS} for field in pair]
        seen = {tuple(getattr(spec, field) for field in pair) for spec in CONVENTIONS}
        assert seen == set(itertools.product(*values))


def test_a_dense_gradient_that_does_not_fit_is_refused(ratings):
    large = GRADIENTS["matrix"](replace(SPEC, num_users=10**6, num_items=10**6))
    with pytest.raises(InputError, match=r"(?s)1,000,000 x 1,000,000.*GB.*tiles"):
        large.prepare(ratings)


@pytest.mark.parametrize(
    "cast, expected", [(partial(Hparams.of, "float64"), 1), (Hparams, 3)], ids=["cast", "not"]
)
def test_settings_are_one_trace_for_their_dtypes(ratings, cast, expected):
    gradient = GRADIENTS["coo"](SPEC)
    layout = gradient.prepare(ratings)
    traces = []

    @jax.jit
    def counted(factors, layout, hparams):
        traces.append(hparams)
        return gradient.value_and_grad(factors, layout, hparams)

    factors = random_factors(SPEC)
    settings = [cast(reg=reg) for reg in (0.5, 0, np.float32(1))]
    losses = {float(counted(factors, layout, hparams)[0]) for hparams in settings}
    assert (len(traces), len(losses)) == (expected, 3)
