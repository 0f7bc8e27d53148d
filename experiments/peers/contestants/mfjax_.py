"""mfjax through its public names, set up as its command sets it up.

That is a CPU device a core, and one XLA thread a program.
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

os.environ.setdefault("PJRT_NPROC", "2")  # before jax is imported
import jax
import numpy as np
from common import (
    BIAS_REG,
    EPOCHS,
    GIBBS_SWEEPS,
    REG,
    ROW_REGS,
    THREADS,
    Data,
    Task,
    best_curve,
    curve_of_steps,
    gradient_result,
    main,
    median_seconds,
    settings,
    starting_factors,
    sweep_result,
)

from mfjax import (
    BAGS,
    GRADIENTS,
    KERNELS,
    METHODS,
    Bounds,
    Factors,
    Hparams,
    Kernel,
    Lane,
    Method,
    Plan,
    Problem,
    Ratings,
    Schedule,
    Sides,
    Spec,
    Sweep,
    Tiling,
    optimizer,
    tile_width,
)
from mfjax.kernels.layout import ALS_OVERHEAD, GRADIENT_OVERHEAD

RATES = (0.01, 0.014, 0.019, 0.026, 0.034, 0.045, 0.06, 0.08)
REGS = (0.06, 0.085, 0.11, 0.14)


def chosen(table: dict, name: str) -> Callable:
    """An entry of one of mfjax's tables; where it is not there, ends with what is."""
    if name not in table:
        raise SystemExit(f"not available: this mfjax has {', '.join(table)}, not {name}")
    return table[name]


def ratings(task: Task) -> Ratings:
    """The training ratings."""
    return Ratings.of(task.data.user, task.data.item, task.data.value)


def spec(task: Task, **changes: Any) -> Spec:
    """The static side of a problem of this shape."""
    return Spec(
        task.data.num_users,
        task.data.num_items,
        max_rank=task.rank,
        **changes,
    )


def shared_out(task: Task, spec: Spec, overhead: float) -> Spec:
    """The same with tiles that suit the ratings, the rows of a fit shared out over the devices."""
    width = tile_width(ratings(task), spec, overhead)
    return replace(spec, tiling=Tiling(width, shards=THREADS))


def hparams(task: Task, **changes: Any) -> Hparams:
    """A setting that holds nothing out."""
    return Hparams.of(rank=task.rank, fold=-2, **changes)


def compiled(function: Callable, *arguments: Any, **jit: Any) -> tuple[Callable, Any, float]:
    """(the compiled function, its arguments where it wants them, the seconds of compiling)."""
    began = time.perf_counter()
    program = jax.jit(function, **jit).lower(*arguments).compile()
    seconds = time.perf_counter() - began
    return program, jax.device_put(arguments, program.input_shardings[0]), seconds


def gradient(task: Task) -> dict:
    """One full gradient of both sides and the loss, by the variant of the option `variant`."""
    make = chosen(GRADIENTS, task.options["variant"])
    plain = spec(task, bias=False, reg_by="row")
    whole = shared_out(task, plain, GRADIENT_OVERHEAD)
    variant = make(whole)
    began = time.perf_counter()
    layout = variant.prepare(ratings(task))
    prepared = time.perf_counter() - began
    factors = Factors(*starting_factors(task.data, task.rank))
    setting = hparams(task, reg=REG)
    program, arguments, seconds = compiled(variant.value_and_grad, factors, layout, setting)

    def call():
        return jax.block_until_ready(program(*arguments))

    loss, grads = call()
    median = median_seconds(call, task.quick)
    return gradient_result(loss, *grads, seconds=median, setup_seconds=prepared + seconds)


class Fit:
    """One fit by a method, epoch after epoch."""

    def __init__(
        self,
        task: Task,
        method: Method,
        setting: Hparams,
        seen: Ratings | None = None,
    ):
        began = time.perf_counter()
        self.task = task
        self.method = method
        self.epoch = 0
        layout = method.prepare(ratings(task) if seen is None else seen)
        start = (self.started(layout, setting), layout, setting, np.int32(0))
        self.program, placed, _ = compiled(method.step, *start, donate_argnums=0)
        self.state, self.layout, self.setting, _ = placed
        self.setup_seconds = time.perf_counter() - began

    def started(self, layout: Any, setting: Hparams):
        """The state before the first epoch."""
        return jax.jit(self.method.init)(jax.random.key(0), layout, setting)

    def step(self) -> None:
        """One epoch."""
        after = self.program(self.state, self.layout, self.setting, np.int32(self.epoch))
        self.state, _ = jax.block_until_ready(after)
        self.epoch += 1

    def restart(self, setting: Hparams) -> None:
        """Begin again at another setting, without compiling."""
        of_state, of_layout, of_setting, *_ = self.program.input_shardings[0]
        self.state = jax.device_put(self.started(self.layout, setting), of_state)
        self.layout = jax.device_put(self.layout, of_layout)
        self.setting = jax.device_put(setting, of_setting)
        self.epoch = 0

    def rmse(self) -> float:
        """The test error now."""
        user, item = map(np.asarray, self.state.factors)
        mean = self.task.data.value.mean(dtype=np.float64)
        return self.task.data.rmse_of(user, item, mean)


def sgd(task: Task) -> dict:
    """One epoch of SGD, its order included."""
    setting = hparams(task, learning_rate=0.03, reg=0.1, reg_bias=0.02)
    batch, threads = int(task.options["batch"]), int(task.options["threads"])
    whole = spec(task, tiling=Tiling(shards=threads))
    fit = Fit(task, descending(task, whole), setting)
    fit.step()
    seconds = median_seconds(fit.step, task.quick)
    fit.restart(setting)
    for _ in range(EPOCHS):
        fit.step()
    return {
        "seconds": seconds,
        "setup_seconds": fit.setup_seconds,
        "rmse": fit.rmse(),
        "note": f"batch {batch}, {threads} thread(s)",
    }


def als(task: Task) -> dict:
    """One sweep of the method of the option `method`.

    With the option `curve`, the test error by sweep at the best λ too.
    """
    make = chosen(METHODS, task.options["method"])

    def method(spec: Spec) -> Method:
        return make(spec, kernel=kernel(task, spec))

    def setting(reg: float) -> Hparams:
        return hparams(task, reg=reg, reg_bias=BIAS_REG)

    def curve(reg: float) -> dict[int, float]:
        fit.restart(setting(reg))
        return curve_of_steps(fit.step, fit.rmse, task)

    whole = spec(task, reg_by="row")
    overhead = ALS_OVERHEAD if method(whole).solves_rows else GRADIENT_OVERHEAD
    fit = Fit(task, method(shared_out(task, whole, overhead)), setting(ROW_REGS[1]))
    fit.step()
    result = {
        "seconds": median_seconds(fit.step, task.quick),
        "setup_seconds": fit.setup_seconds,
    }
    return result | best_curve(curve, ROW_REGS, task)


def gibbs(task: Task) -> dict:
    """One sweep of Gibbs sampling with the bags of both sides and the noise of the option `noise`.

    With the option `curve`, the test error of the mean over the samples so far too.
    """
    data = task.data
    nothing = np.zeros(len(data.test_value))
    asked = Ratings.of(data.test_user, data.test_item, nothing, nothing)
    seen = Ratings(*map(lambda *both: np.concatenate(both), ratings(task), asked))
    rated = (BAGS["rated"],)
    whole = spec(task, tiling=Tiling(shards=THREADS))
    method = chosen(METHODS, "gibbs")(
        whole,
        kernel=kernel(task, whole),
        bags=Sides(rated, rated),
        noise=task.options["noise"],
    )
    setting = hparams(task)
    fit = Fit(task, method, setting, seen)
    fit.step()
    result = {
        "seconds": median_seconds(fit.step, task.quick),
        "setup_seconds": fit.setup_seconds,
        "note": "bags of both sides",
    }
    if not task.curve:
        return result
    fit.restart(setting)
    errors = {}
    last = GIBBS_SWEEPS[0] if task.quick else GIBBS_SWEEPS[-1]
    for n in range(1, last + 1):
        fit.step()
        if n in GIBBS_SWEEPS:
            averages = method.averages(fit.state)
            errors[n] = data.rmse(np.asarray(averages.mean)[len(data.value) :])
    return result | {"curve": errors, "rmse": min(errors.values())}


def sweep(task: Task) -> dict:
    """The settings as one compiled program, its lanes shared out over the devices.

    Compiling is part of the wall time. Programs are kept from run to run, as mfjax's command keeps
    them: the first round compiles, and later ones read.
    """
    jax.config.update("jax_compilation_cache_dir", os.environ["MFJAX_PEERS_CACHE"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    began = time.perf_counter()
    plan = Plan(
        spec=spec(task),
        method=partial(descending, task),
        problems={(0, 0): tested_as_validation(task.data)},
        schedule=Schedule(epochs=EPOCHS, eval_every=EPOCHS, epochs_per_call=EPOCHS),
    )
    base = Hparams(rank=task.rank, reg_bias=0.02)
    lanes = [
        Lane(base._replace(learning_rate=rate, reg=reg), EPOCHS)
        for rate, reg in settings(RATES, REGS, task)
    ]
    trainer = Sweep(plan, lanes_per_program=len(lanes))
    errors = [fit.at_best("validation_rmse") for fit in trainer.train(lanes)]
    return sweep_result(
        began,
        errors,
        setup_seconds=trainer.compile_seconds,
        note="compiling, or reading what the first round compiled, included; 2 devices",
    )


def descending(task: Task, spec: Spec) -> Method:
    """Plain SGD, in batches of the option `batch`."""
    return chosen(METHODS, "sgd")(
        spec,
        kernel=kernel(task, spec),
        optimizer=optimizer("sgd"),
        batch_size=int(task.options["batch"]),
    )


def kernel(task: Task, spec: Spec) -> Kernel:
    """The kernel of the option `kernel`."""
    return chosen(KERNELS, task.options["kernel"])(spec)


def tested_as_validation(data: Data) -> Problem:
    """The test ratings as the fold that is held out."""
    sizes = [len(data.value), len(data.test_value)]
    return Problem(
        ratings=Ratings.of(
            np.concatenate([data.user, data.test_user]),
            np.concatenate([data.item, data.test_item]),
            np.concatenate([data.value, data.test_value]),
            fold=np.repeat(np.int32([-1, 0]), sizes),
        ),
        test=Ratings.of([], [], []),
        bounds=Bounds(float(data.value.min()), float(data.value.max())),
    )


jax.config.update("jax_num_cpu_devices", THREADS)
main({"gradient": gradient, "sgd": sgd, "als": als, "gibbs": gibbs, "sweep": sweep})
