"""Settings that only a network can know to be impossible are refused in one line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from bad_inputs import Bad, answer
from processes import Workshop

RUN = ["metric=none", "extractor=none", "logger=none", "schedule.steps=1", "schedule.images=null", "run.dir=run"]
G, D = "model.generator", "model.discriminator"


def bad(model: str, *lines: str, says: list[str]) -> Bad:
    """A network asked for what it can't be, on images of side 32."""
    return Bad([f"model={model}", *RUN, *lines], says, tiny=False)


BAD = {
    "unknown way to double": bad("resnet", f"{G}.upsampling=cubic", says=["upsampling='cubic'", "nearest, bilinear"]),
    "no way to double": bad("biggan_deep", f"{G}.upsampling=2", says=["upsampling='2'", "nearest, bilinear"]),
    "variances that may be 0": bad("resnet", f"{G}.norm_eps=0", says=["norm_eps=0", "positive"]),
    "variances less a number": bad("biggan", f"{G}.norm_eps=-1e-5", says=["norm_eps=-1e-05", "positive"]),
    "unknown initial weights": bad("biggan", f"{D}.init=ortho", says=["init='ortho'", "orthogonal"]),
    "unknown pooling": bad("sagan", f"{D}.pooling=max", says=["pooling='max'", "sum, mean"]),
    "unknown gains": bad("resnet", "conditioning=[batch_norm,projection]", "conditioning.batch_norm.gains=ones",
                         says=["gains='ones'", "orthogonal"]),
    "unknown vectors": bad("resnet", "conditioning=[batch_norm,projection]", "conditioning.projection.init=zero",
                           says=["init='zero'", "glorot"]),
    "spectral norm of nothing": bad("resnet", "conditioning=[batch_norm,projection]",
                                    "conditioning.batch_norm.spectral_norm=true", says=["spectral_norm=true", "gains"]),
    "no norms": bad("r3gan", "conditioning=[batch_norm,projection]", says=["no batch norm to replace"]),
    "latents in pieces": bad("biggan", "conditioning=[native]", f"{G}.latent_dim=81",
                            says=["latent_dim=81", "multiple"]),
    "no latents": bad("resnet", f"{G}.latent_dim=0", says=["latent_dim=0"]),
    "fewer than no latents": bad("sndcgan", f"{G}.latent_dim=-3", says=["latent_dim=-3"]),
    "no width": bad("resnet", f"{D}.width=0", says=["width=0"]),
    "negative width": bad("biggan", f"{G}.width=-4", says=["width=-4"]),
    "no embedding": bad("biggan", "conditioning=[native]", f"{G}.embedding_dim=0", says=["embedding_dim=0"]),
    "no blocks in a level": bad("biggan_deep", f"{D}.depth=0", says=["depth=0"]),
    "attention between levels": bad("sagan", f"{G}.attention_resolution=12", says=["attention_resolution=12", "4, 8"]),
    "a list for another side": bad("r3gan", f"{G}.width=[96,96]", says=["width=[96, 96]", "4, 8, 16, 32"]),
    "a stage without width": bad("r3gan", f"{D}.width=[96,96,0,96]", says=[f"{D}.width.2=0: must be 1 or more"]),
    "groups that don't divide": bad("r3gan", f"{G}.width=96", f"{G}.groups=7", says=["groups=7", "width * expansion"]),
    "groups of a stage": bad("r3gan", f"{G}.width=16", f"{G}.groups=[4,4,4,5]", says=["groups=5", "width * expansion"]),
    "no blocks of a stage": bad("r3gan", f"{G}.width=16", f"{G}.groups=4", f"{G}.blocks=[1,1,0,1]",
                                says=["blocks=[1, 1, 0, 1]"]),
    "no expansion": bad("r3gan", f"{G}.width=16", f"{G}.groups=4", f"{G}.expansion=0", says=["expansion=0"]),
    "heads that don't divide": bad("transgan", f"{G}.heads=3", says=["heads=3", "divide"]),
    "no stages of blocks": bad("transgan", f"{G}.depths=[]", says=["depths=[]"]),
    "shares of more than all": bad("transgan", f"{D}.shares=[0.9,0.9]", says=["shares=[0.9, 0.9]", "add up to 1"]),
    "patches that don't fit": bad("transgan", f"{D}.patch=5", says=["lower patch", "32"]),
    "no configuration": bad("stylegan3", f"{G}.configuration=s", says=["configuration=s", "t or r"]),
    "all layers critical": bad("stylegan3", f"{G}.critical=14", says=["critical=14", "fewer than depth"]),
    "growth from a side between": bad("progan", f"{G}.first=6", says=["first=6", "power of two"]),
    "growth beyond the data": bad("stylegan", f"{G}.first=64", says=["first=64", "32"]),
    "unknown blocks": bad("fastgan", f"{G}.blocks=triple", says=["blocks='triple'", "alternating, double, single"]),
    "kernels that skip pixels": bad("dcgan", f"{G}.kernel=1", says=["kernel=1", "2 or more"]),
    "unknown norm": bad("dcgan", f"{D}.norm=bath", says=["'bath'", "batch"]),
    "classes asked of two": bad("biggan", "conditioning=[native,projection]", says=["uses classes already"]),
    "no classes": bad("biggan", f"{G}.conditional=false", f"{D}.conditional=true", says=["told classes"]),
    "images to points": bad("resnet", "dataset=ring", says=["ResNetGenerator", "points"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_networks(name: str, workshop: Workshop, tmp_path: Path) -> None:
    answer(BAD[name], workshop, tmp_path)
