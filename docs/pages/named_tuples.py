"""What mkdocstrings is told beside the source: a NamedTuple is made of its fields."""

from typing import Any

import griffe


class NamedTuples(griffe.Extension):
    """Shows the fields of a NamedTuple, with their types and shapes, as its signature."""

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        if "NamedTuple" not in map(str, cls.bases):
            return
        fields = [
            griffe.Parameter(
                one.name,
                annotation=one.annotation,
                kind=griffe.ParameterKind.positional_or_keyword,
                default=one.value,
            )
            for one in cls.attributes.values()
            if one.annotation is not None and "property" not in one.labels
        ]
        of_class = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
        parameters = griffe.Parameters(of_class, *fields)
        cls.set_member("__init__", griffe.Function("__init__", parameters=parameters))
