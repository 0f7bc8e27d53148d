"""The command, run in this process's child."""

import pytest
from commands import Child, assert_succeeded


@pytest.fixture(scope="session")
def command():
    """`command(folder, *arguments)`: what it says, and its exit code."""
    child = Child()
    yield child
    child.close()


@pytest.fixture(scope="session")
def succeeded(command):
    """As `command`, and it must exit with 0."""
    return lambda folder, *arguments: assert_succeeded(command(folder, *arguments))
