"""A score and everything one must know to compare it with another."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class Score:
    """One number about generated samples, with its interval, its floor and its provenance.

    `floor` is the same number for `n_floor` held-out real samples in place of the generated ones, `real` the number for
    real data where the metric itself defines one; None where there is no such number. `error` is a standard deviation
    or error, obtained as `error_from` says; `interval` is a 95 % interval, obtained as `interval_from` says. `draws`
    sets of `n_fake` samples were scored. `weights` are the generator's: "ema" or "raw". `images` counts the images seen
    in training. `quantise` says how samples became bytes: "round", "truncate", "stored" as they were, or "none".
    `batch_norm` says which statistics were used in generating: "running", "standing", "batch", or "none" without batch
    norms, and `truncation` how samples were truncated, or "none"; both are "unknown" of stored samples. `n_real` is 0
    where reals play no part. `seconds` is the whole evaluation's time. `fewer_samples` is "higher" or
    "lower" where fewer samples alone move the number that way, as a floor of fewer than `n_fake` is then moved.
    """

    name: str
    value: float
    error: float | None
    error_from: str
    interval: tuple[float, float] | None
    interval_from: str
    floor: float | None
    n_floor: int
    real: float | None
    n_real: int
    n_fake: int
    draws: int
    split: str
    dataset: str
    data_fingerprint: str
    transform: str
    quantise: str
    batch_norm: str
    truncation: str
    extractor: str
    extractor_sha256: str
    resize: str
    weights: str
    images: int
    step: int
    seed: int
    batch_size: int
    device: str
    seconds: float
    higher_is_better: bool = False
    fewer_samples: str = ""
    details: dict[str, int | float | str | list[float]] = field(default_factory=dict)

    def to_record(self) -> dict[str, object]:
        """The score as a plain dict."""
        return asdict(self)
