"""The class that is meant by what was typed."""

from collections.abc import Sequence

from scorecam_jax.cli.errors import UserError
from scorecam_jax.reading import labels as _labels
from scorecam_jax.reading.labels import file_names as file_names


def find_class(name: str, labels: Sequence[str]) -> int:
    """The index of the class meant by an index, a name, or a part of a name.

    Names are matched as by `matching_classes`.

    Raises:
        UserError: there is no such class, or there are several.
    """
    try:
        return _labels.find_class(name, labels)
    except ValueError as error:
        raise UserError(str(error)) from error
