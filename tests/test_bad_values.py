"""Values that can't be are refused in one line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from bad_inputs import Bad, answer
from processes import Workshop

BAD = {
    "batch size 0": Bad(["schedule.batch_size=0"], ["schedule.batch_size=0"]),
    "two lengths": Bad(["schedule.steps=3"], ["schedule.images", "schedule.steps"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_values(name: str, workshop: Workshop, tmp_path: Path) -> None:
    answer(BAD[name], workshop, tmp_path)
