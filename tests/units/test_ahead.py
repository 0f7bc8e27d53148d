"""What the end of a run needs is imported as the devices train, and no error comes of it."""

import sys

import pytest

from mfjax.app.ahead import importing
from mfjax.training.lanes import Progress

NOW = Progress(done=1, total=2, loss=0.5, score=0.5)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that is not imported yet."""
    (tmp_path / "imported_ahead.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield "imported_ahead"
    sys.modules.pop("imported_ahead", None)


def test_it_begins_with_the_first_progress_and_is_done_at_the_end(module):
    seen = []
    with importing([module], seen.append) as on_progress:
        assert module not in sys.modules
        on_progress(NOW)
        on_progress(NOW)
    assert module in sys.modules
    assert seen == [NOW, NOW]


def test_without_progress_nothing_is_imported(module):
    with importing([module], lambda now: None):
        pass
    assert module not in sys.modules


def test_what_cannot_be_imported_is_left_to_who_needs_it(module):
    with importing(["no_such_module", module], lambda now: None) as on_progress:
        on_progress(NOW)
    assert module in sys.modules


def test_an_error_while_it_trains_is_that_of_the_training(module):
    with pytest.raises(KeyboardInterrupt), importing([module], lambda now: None) as on_progress:
        on_progress(NOW)
        raise KeyboardInterrupt
