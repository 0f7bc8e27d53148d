"""mfjax through its public names, set up as its command sets it up: a CPU device a core, and one XLA thread a program."""

import os
import time
from dataclasses import replace

os.environ.setdefault("PJRT_NPROC", "1")  # before jax is imported
import jax
import numpy as np
from common import (
    BIAS_REG,
    EPOCHS,
    REG,
    ROW_REGS,
    SWEEPS,
    THREADS,
    Task,
    best_curve,
    gradient_result,
    main,
    median_seconds,
    settings,
    starting_factors,
    sweep_result,
)

import mfjax
from mfjax.kernels.tiles import ALS_OVERHEAD, GRADIENT_OVERHEAD

RATES = (0.01, 0.014, 0.019, 0.026, 0.034, 0.045, 0.06, 0.08)
REGS = (0.06, 0.085, 0.11, 0.14)


def chosen(table: dict, name: str):
    """An entry of one of mfjax's tables; ends with what there is, where it is not among them."""
    if name not in table:
        raise SystemExit(f"not available: this mfjax has {', '.join(table)}, not {name}")
    return table[name]


def ratings(task: Task) -> mfjax.Ratings:
    """The training ratings."""
    return mfjax.Ratings.of(task.data.user, task.data.item, task.data.value)


def spec(task: Task, **changes) -> mfjax.Spec:
    """The static side of a problem of this shape."""
    return mfjax.Spec(task.data.num_users, task.data.num_items, max_rank=task.rank, **changes)


def shared_out(task: Task, spec: mfjax.Spec, overhead: float) -> mfjax.Spec:
    """The same with tiles that suit the ratings, and the rows of the one fit shared out over the devices."""
    return replace(spec, tiling=mfjax.Tiling(mfjax.tile_width(ratings(task), spec, overhead), shards=THREADS))


def hparams(task: Task, **changes) -> mfjax.Hparams:
    """A setting that holds nothing out."""
    return mfjax.Hparams.of(rank=task.rank, **({"fold": -2} | changes))


def compiled(function, *arguments, **jit):
    """(the compiled function, its arguments where it wants them, the seconds of compiling)."""
    began = time.perf_counter()
    program = jax.jit(function, **jit).lower(*arguments).compile()
    seconds = time.perf_counter() - began
    return program, jax.device_put(arguments, program.input_shardings[0]), seconds


def gradient(task: Task) -> dict:
    """One full gradient of both sides and the loss, by the variant of the option `variant`."""
    make = chosen(mfjax.GRADIENTS, task.options["variant"])
    variant = make(shared_out(task, spec(task, bias=False, reg_by="row"), GRADIENT_OVERHEAD))
    began = time.perf_counter()
    layout = variant.prepare(ratings(task))
    prepared = time.perf_counter() - began
    factors = mfjax.Factors(*starting_factors(task.data, task.rank))
    program, arguments, seconds = compiled(variant.value_and_grad, factors, layout, hparams(task, reg=REG))
    call = lambda: jax.block_until_ready(program(*arguments))  # noqa: E731
    loss, grads = call()
    median = median_seconds(call, task.quick)
    return gradient_result(loss, *grads, seconds=median, setup_seconds=prepared + seconds)


class Fit:
    """One fit by a method, epoch after epoch."""

    def __init__(self, task: Task, method: mfjax.Method, setting: mfjax.Hparams):
        began = time.perf_counter()
        self.task, self.method, self.epoch = task, method, 0
        layout = method.prepare(ratings(task))
        state = jax.jit(method.init)(jax.random.key(0), layout, setting)
        self.program, (self.state, *self.rest, _), _ = compiled(
            method.step, state, layout, setting, self.order(), donate_argnums=0
        )
        self.setup_seconds = time.perf_counter() - began

    def order(self) -> np.ndarray | None:
        """The shuffle of the next epoch."""
        return self.method.order(len(self.task.data.value), 0, self.epoch)

    def step(self) -> None:
        """One epoch, its shuffle included."""
        self.state, _ = jax.block_until_ready(self.program(self.state, *self.rest, self.order()))
        self.epoch += 1

    def restart(self, setting: mfjax.Hparams) -> None:
        """Begin again at another setting, without compiling."""
        layout, _ = self.rest
        state = jax.jit(self.method.init)(jax.random.key(0), layout, setting)
        states, *rest = self.program.input_shardings[0][:3]
        self.state, self.rest, self.epoch = jax.device_put(state, states), jax.device_put([layout, setting], rest), 0

    def rmse(self) -> float:
        """The test error now."""
        user, item = map(np.asarray, self.state.factors)
        return self.task.data.rmse_of(user, item, self.task.data.value.mean(dtype=np.float64))


def sgd(task: Task) -> dict:
    """One epoch of SGD in batches of 256, the shuffle on the host included."""
    setting = hparams(task, learning_rate=0.03, reg=0.1, reg_bias=0.02)
    fit = Fit(task, chosen(mfjax.METHODS, "sgd")(spec(task, batch_size=256), None, mfjax.optimizer("sgd")), setting)
    fit.step()
    seconds = median_seconds(fit.step, task.quick)
    fit.restart(setting)
    for _ in range(EPOCHS):
        fit.step()
    return {"seconds": seconds, "setup_seconds": fit.setup_seconds, "rmse": fit.rmse(), "note": "batch 256, 1 core"}


def als(task: Task) -> dict:
    """One sweep of the method of the option `method`; with the option `curve`, the test error by sweep at the best λ too."""

    def setting(reg: float) -> mfjax.Hparams:
        return hparams(task, reg=reg, reg_bias=BIAS_REG)

    def curve(reg: float) -> dict[int, float]:
        fit.restart(setting(reg))
        errors = {}
        for n in range(1, SWEEPS[2 if task.quick else -1] + 1):
            fit.step()
            errors[n] = fit.rmse()
        return errors

    overhead = ALS_OVERHEAD if task.options["method"] == "als" else GRADIENT_OVERHEAD
    method = chosen(mfjax.METHODS, task.options["method"])(shared_out(task, spec(task, reg_by="row"), overhead), None, None)
    fit = Fit(task, method, setting(ROW_REGS[1]))
    fit.step()
    result = {"seconds": median_seconds(fit.step, task.quick), "setup_seconds": fit.setup_seconds}
    return result | (best_curve(curve, ROW_REGS, task.quick) if task.curve else {})


def sweep(task: Task) -> dict:
    """32 settings as one compiled program, its lanes shared out over the devices; compiling is part of the wall time.

    Programs are kept from run to run, as mfjax's command keeps them: the first round compiles, and later ones read.
    """
    jax.config.update("jax_compilation_cache_dir", os.environ["MFJAX_PEERS_CACHE"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    began = time.perf_counter()
    data = task.data
    fold = np.repeat(np.int32([-1, 0]), [len(data.value), len(data.test_value)])
    columns = zip((data.user, data.item, data.value), (data.test_user, data.test_item, data.test_value), strict=True)
    everything = mfjax.Ratings.of(*map(np.concatenate, columns), fold=fold)
    bounds = mfjax.Bounds(float(data.value.min()), float(data.value.max()))
    none = mfjax.Ratings.of([], [], [])
    grid = settings(RATES, REGS, task.quick)
    trainer = mfjax.Sweep(
        spec(task, batch_size=256),
        lambda spec: mfjax.METHODS["sgd"](spec, None, mfjax.optimizer("sgd")),
        {0: mfjax.Problem(everything, none, bounds)},
        mfjax.Schedule(epochs=EPOCHS, eval_every=EPOCHS, chunk=EPOCHS),
        width=len(grid),
    )
    base = mfjax.Hparams(rank=task.rank, reg_bias=0.02)
    lanes = [mfjax.Lane(base._replace(learning_rate=rate, reg=reg), EPOCHS) for rate, reg in grid]
    errors = [fit.at_best("validation_rmse") for fit in trainer.train(lanes)]
    return sweep_result(
        began,
        errors,
        setup_seconds=trainer.compile_seconds,
        note="compiling, or reading what the first round compiled, included; 2 devices",
    )


jax.config.update("jax_num_cpu_devices", THREADS)
main({"gradient": gradient, "sgd": sgd, "als": als, "sweep": sweep})
