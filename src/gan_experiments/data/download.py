"""Downloads by torchvision, whose many failures become one line."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from gan_experiments.errors import UserError


@contextmanager
def explained(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever a download or an unpacking raises within into a UserError: `what` failed, why, and the `remedy`."""
    try:
        yield
    # URLError and its like are OSErrors; a file cut short shows as one of the others.
    except (OSError, RuntimeError, ValueError, EOFError, tarfile.TarError, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what}: {reason}; {remedy}") from error
