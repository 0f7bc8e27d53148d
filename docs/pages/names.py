"""The reference of the public names: one page a room, rendered from the docstrings."""

from importlib import import_module

import mfjax
from pages.docstrings import summary

WHOLE = ("mfjax.types", "mfjax.objective", "mfjax.errors", "mfjax.testing")


def rooms() -> dict[str, list[str]]:
    """The pages by their name: the modules and names of each, by the path of their definition."""
    homes = dict.fromkeys(WHOLE, None)
    of_rooms = {module.split(".")[1]: [module] for module in homes}
    for name in mfjax.__all__:
        home = mfjax._HOME[name]
        if home in WHOLE:
            continue
        room = home.split(".")[1]
        is_module = home.endswith(f".{name}") and _is_module(home)
        of_rooms.setdefault(room, []).append(home if is_module else f"{home}.{name}")
    return of_rooms


def pages() -> dict[str, str]:
    """The pages in Markdown, by the room."""
    return {room: _page(room, paths) for room, paths in rooms().items()}


def _page(room: str, paths: list[str]) -> str:
    about = summary(import_module(f"mfjax.{room}"))
    parts = [f"# `mfjax.{room}`\n"]
    if paths != [f"mfjax.{room}"] and about:
        parts.append(f"{about}\n")
    parts += [_directive(path) for path in paths]
    return "\n".join(parts)


def _directive(path: str) -> str:
    if path in WHOLE:
        return f"::: {path}\n    options:\n      show_root_heading: false\n"
    *_, name = path.split(".")
    return f'::: {path}\n    options:\n      heading: "mfjax.{name}"\n'


def _is_module(path: str) -> bool:
    try:
        import_module(path)
    except ImportError:
        return False
    return True
