"""Random weights in the layout of the FID Inception network, scaled so that signals neither vanish nor explode."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor


def write_random_weights(path: Path) -> Path:
    """A PyTorch file of random weights of torch-fidelity's network, always the same."""
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(inception, "load_state_dict_from_url", lambda *arguments, **options: {})
        patch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        layout = inception.FeatureExtractorInceptionV3("inception", ["2048"]).state_dict()
    generator = torch.Generator().manual_seed(0)
    torch.save({name: values(name, like, generator) for name, like in layout.items()}, path)
    return path


def values(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    """He's initial values of a weight; batch normalisation with a little of everything."""
    if like.ndim >= 2:
        return torch.randn(like.shape, generator=generator) * (2 / like[0].numel()) ** 0.5
    if name.endswith(("running_var", "bn.weight")):
        return 0.8 + 0.4 * torch.rand(like.shape, generator=generator)
    return 0.1 * torch.randn(like.shape, generator=generator) if like.ndim else torch.zeros((), dtype=like.dtype)
