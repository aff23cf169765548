"""Reads the `.wandb` file of a W&B run back from disk (LevelDB log framing around protobuf records)."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

BLOCK = 32768
HEADER = struct.Struct("<IHB")  # crc32 of kind and data, length, kind
FULL, FIRST, LAST = 1, 2, 4


@dataclass
class RunFile:
    """What a run file holds: run fields, configuration, rows, summary, metric definitions and exit code."""

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: list[Any] = field(default_factory=list)
    exit_code: int | None = None


def read_finished_run(folder: Path, seconds: float = 10) -> RunFile:
    """The run in a W&B run folder once its end is on disk, which W&B's service writes just after `finish` returned."""
    deadline = time.monotonic() + seconds
    while (run := read_run(folder)).exit_code is None:
        assert time.monotonic() < deadline, f"{folder} has no end"
        time.sleep(0.02)
    return run


def read_run(folder: Path) -> RunFile:
    """The run in a W&B run folder as far as it is on disk."""
    (path,) = folder.glob("*.wandb")
    result = RunFile()
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            result.run = record.run
            _put(result.config, record.run.config.update)
        elif kind == "config":
            _put(result.config, record.config.update)
        elif kind == "history":
            result.history.append({})
            _put(result.history[-1], record.history.item)
        elif kind == "summary":
            _put(result.summary, record.summary.update)
        elif kind == "metric":
            result.metrics.append(record.metric)
        elif kind == "exit":
            result.exit_code = record.exit.exit_code
    return result


def rows(run: RunFile) -> list[dict[str, Any]]:
    """The rows without W&B's own columns (those with a leading underscore)."""
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in run.history]


def _records(content: bytes) -> Iterator[Any]:
    if not content:
        return
    assert content[:7] == b":W&B" + struct.pack("<HB", 0xBEE1, 0)
    position, data = 7, b""
    while position + HEADER.size <= len(content):
        room = BLOCK - position % BLOCK
        if room < HEADER.size:  # a block's end too small for a header is padding
            position += room
            continue
        checksum, length, kind = HEADER.unpack_from(content, position)
        position += HEADER.size
        part = content[position : position + length]
        position += length
        if kind == 0 or len(part) < length:  # a torn tail
            return
        assert zlib.crc32(bytes([kind]) + part) == checksum
        data = part if kind in (FULL, FIRST) else data + part
        if kind in (FULL, LAST):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(data)
            yield record


def _put(target: dict[str, Any], items: Any) -> None:
    for item in items:
        *folders, last = list(item.nested_key) or [item.key]
        place = target
        for name in folders:
            place = place.setdefault(name, {})
        place[last] = json.loads(item.value_json)
