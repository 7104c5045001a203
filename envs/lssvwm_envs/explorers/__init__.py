"""Scripted policies for data collection: worlds are only worth learning from if the data shows what matters.

Every explorer is a class or function `(envs, seed) -> Policy` in a file of this folder, decorated with its name:

    @explorer("spin", suits=made_of(MiniGridEnv))
    class Spin: ...

Importing the folder imports all of its files, so that every name is known.
"""

from __future__ import annotations

import importlib
import pkgutil

from lssvwm_envs.explorers.explore import make_explorer
from lssvwm_envs.explorers.registry import explorer, explorer_named, explorer_names, made_of

__all__ = ["explorer", "explorer_named", "explorer_names", "made_of", "make_explorer"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
