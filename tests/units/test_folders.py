"""An output folder: one owner at a time, whose finished result stays."""

import fcntl
import json
from contextlib import contextmanager

import pytest
from configs import TINY, composed, schema  # noqa: F401 (which knows the keys)

from mfjax.app.build import build
from mfjax.app.folders import LOCK, RESULTS, clear, make_room, owning, stands, subfolder
from mfjax.app.identity import flat, run_identity
from mfjax.app.schema import JOBS
from mfjax.errors import CheckpointError, InputError
from mfjax.reporting.files import write_json
from mfjax.training.checkpoint import differing

# the lock


@contextmanager
def held_by_another(folder):
    """The folder as another process has it: a lock is of an open file, not of a process."""
    with (folder / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("4711\n")
        file.flush()
        yield


def test_a_run_goes_on_with_the_kernel_that_it_began_with():
    cfg = composed(*TINY)
    experiment = build(cfg)
    ours = run_identity(flat(cfg), experiment)
    other = {"name": "another", "reason": "no compiler"}
    theirs = run_identity(
        flat(cfg), experiment._replace(method=experiment.method | {"kernel": other})
    )
    assert differing(ours, theirs) == ["kernel, chosen"]


def test_a_folder_has_one_owner_at_a_time(tmp_path):
    with (
        held_by_another(tmp_path),
        pytest.raises(InputError, match=f"another run, pid 4711, is at work in {tmp_path}"),
        owning(tmp_path),
    ):
        pass
    with owning(tmp_path), owning(tmp_path):  # its own it has already
        assert (tmp_path / LOCK).is_file()
    assert not (tmp_path / LOCK).exists()


def test_the_lock_of_the_dead_holds_nothing_and_what_they_left_half_written_goes(tmp_path):
    (tmp_path / LOCK).write_text("4711\n")
    left = [tmp_path / ".results.json.part", tmp_path / "checkpoint" / "of" / ".a.ckpt.part"]
    kept = [tmp_path / "mine.part", tmp_path / "checkpoint" / "of" / "a.ckpt"]
    for path in (*left, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with owning(tmp_path):
        assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_a_folder_in_which_nothing_came_to_be_goes_again(tmp_path):
    with pytest.raises(ZeroDivisionError), owning(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not (tmp_path / "a" / "b").exists()


# a finished result


def finished(folder, *overrides, **content):
    run = run_identity(flat(composed(*TINY, *overrides)))
    write_json(folder / RESULTS, {"status": "finished", "run": run | {"data": "abc"}} | content)


def seen_to(folder, *overrides):
    make_room(composed(*TINY, *overrides), folder)


def test_another_config_is_refused_with_the_keys_that_differ(tmp_path):
    finished(tmp_path)
    before = (tmp_path / RESULTS).read_bytes()
    for more in ((), ("resume=true",)):
        with pytest.raises(CheckpointError) as refusal:
            seen_to(tmp_path, "epochs=7", "hparams.reg=0.5", *more)
        lines = str(refusal.value).splitlines()
        assert lines[0] == f"{tmp_path / RESULTS} is of another run"
        assert lines[1:3] == ["  epochs: 40 there, 7 here", "  hparams.reg: 0.05 there, 0.5 here"]
        assert "overwrite=true" in lines[3]
    assert (tmp_path / RESULTS).read_bytes() == before


def test_the_same_config_is_resumed_or_refused_and_keys_that_change_no_number_may_differ(tmp_path):
    finished(tmp_path)
    with pytest.raises(CheckpointError, match="of this very run, and finished"):
        seen_to(tmp_path)
    seen_to(tmp_path, "resume=true", "plots.draw=false", "checkpoint.every=3", "debug=true")
    assert stands(tmp_path)


@pytest.mark.parametrize("job", JOBS)
def test_resuming_is_advised_to_a_job_that_can_resume(tmp_path, job):
    cfg = composed(f"job={job}")
    write_json(tmp_path / RESULTS, {"run": run_identity(flat(cfg))})
    with pytest.raises(CheckpointError, match="overwrite=true runs again") as refusal:
        make_room(cfg, tmp_path)
    assert ("resume=true" in str(refusal.value)) == (job == "train")


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_what_did_not_finish_gives_way(tmp_path, status):
    finished(tmp_path, status=status)
    seen_to(tmp_path, "epochs=7")
    assert not stands(tmp_path)


def test_overwriting_removes_the_result_its_plots_and_its_checkpoints_and_no_other_file(tmp_path):
    finished(tmp_path)
    gone = ["heat_map.pdf", "learning_curves.png", "checkpoint/a.ckpt"]
    kept = ["mine.png", "heat_map.txt", "run.log"]
    for name in gone + kept:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    seen_to(tmp_path, "overwrite=true")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_overwriting_a_comparison_removes_the_results_of_its_variants(tmp_path):
    variant, other = tmp_path / "low", tmp_path / "0"
    for folder in (variant, other):
        folder.mkdir()
        finished(folder)
        (folder / "learning_curves.png").touch()
        (folder / ".lanes.csv.part").touch()
    run = {"job.name": "compare"}
    write_json(tmp_path / RESULTS, {"status": "finished", "run": run, "figures": {"low": {}}})
    seen_to(tmp_path, "overwrite=true")
    assert list(variant.iterdir()) == []
    assert len(list(other.iterdir())) == 3


def test_a_variant_is_not_advised_to_resume(tmp_path):
    finished(tmp_path)
    with pytest.raises(CheckpointError, match="finished\noverwrite=true runs again"):
        make_room(composed(*TINY), tmp_path, job="compare")


def test_overwriting_and_resuming_keep_what_is_of_this_run(tmp_path):
    finished(tmp_path)
    seen_to(tmp_path, "overwrite=true", "resume=true")
    assert stands(tmp_path)
    seen_to(tmp_path, "overwrite=true", "resume=true", "epochs=7")
    assert not stands(tmp_path)


def test_checkpoints_of_an_unfinished_run_are_resumed_or_refused(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "a.ckpt").touch()
    with pytest.raises(CheckpointError, match="resume=true goes on with it, and overwrite=true"):
        seen_to(tmp_path)
    seen_to(tmp_path, "resume=true")


@pytest.mark.parametrize("content", ["", "{", "[1]", json.dumps({"status": "finished"})[:-1]])
def test_a_damaged_result_is_one_message_and_stays(tmp_path, content):
    (tmp_path / RESULTS).write_text(content)
    with pytest.raises(InputError, match=r"results.json is damaged") as refusal:
        seen_to(tmp_path)
    assert len(str(refusal.value).splitlines()) == 2
    assert stands(tmp_path)
    seen_to(tmp_path, "overwrite=true")
    assert not stands(tmp_path)


def test_a_folder_without_anything_is_clear(tmp_path):
    clear(tmp_path)
    assert not stands(tmp_path)


# names


@pytest.mark.parametrize("name", ["../a", "a/b", "/a", "..", ".hydra", "", "a\n", "a\x1b[1m"])
def test_a_name_is_no_path(tmp_path, name):
    with pytest.raises(InputError, match=r"job.variants: expected the name of a folder"):
        subfolder(tmp_path, name, "job.variants")


def test_other_names_are_folders(tmp_path):
    assert subfolder(tmp_path, "λ = 0.1 $x$", "job.variants").parent == tmp_path
