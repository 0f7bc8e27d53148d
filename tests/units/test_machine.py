"""What is said of jax before its first use."""

import jax
import pytest
from configs import composed

from mfjax.app import machine

CACHE = "jax_compilation_cache_dir"


@pytest.fixture
def said(monkeypatch):
    """What jax is told by the first config of a process."""
    told = {}
    monkeypatch.setattr(machine, "_said", {})
    monkeypatch.setattr(jax.config, "update", lambda key, value: told.update({key: value}))
    return told


@pytest.mark.parametrize("given", ["true", "false"])
def test_programs_are_kept_in_the_users_cache_unless_told_otherwise(said, monkeypatch, given):
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    machine.set_up(composed(f"compilation_cache={given}"))
    assert (CACHE in said) == (given == "true")
    assert str(said.get(CACHE, "/cache/mfjax/compiled/")).startswith("/cache/mfjax/compiled/")


def test_the_job_and_the_dtype_say_whether_it_works_in_float64(said):
    for overrides, wide in (((), False), (("dtype=float64",), True), (("job=gradients",), True)):
        machine.set_up(composed(*overrides))
        assert said["jax_enable_x64"] == wide


def test_what_a_process_keeps_cannot_change(said):
    machine.set_up(composed("devices=2"))
    assert said["jax_num_cpu_devices"] == 2
    machine.set_up(composed("devices=2", "dtype=float64"))
    with pytest.raises(ValueError, match=r"devices=3: this process began with 2; use two commands"):
        machine.set_up(composed("devices=3"))
