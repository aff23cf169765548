"""Packages that only some metrics and extractors need, and that are therefore extras of the installation."""

from __future__ import annotations

import importlib.util

from gan_experiments.errors import UserError


def require_package(who: str, module: str, package: str, extra: str) -> None:
    """UserError, with the command that installs it, when the module `module` of `package` isn't there."""
    if importlib.util.find_spec(module) is None:
        raise UserError(f"{who} needs the package {package}: pip install 'gan-experiments[{extra}]'")
