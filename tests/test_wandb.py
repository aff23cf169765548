"""The W&B logger, judged by what is on disk or what a server receives; wandb itself is not mocked."""

from __future__ import annotations

import gc
import gzip
import json
import logging
import os
import pty
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from PIL import Image

import gan_experiments
from gan_experiments.errors import UserError
from gan_experiments.logging.logger import Logger, NoLogger
from gan_experiments.logging.wandb_logger import WandbLogger
from wandb_reader import RunFile, read_finished_run, rows

KEY = "0" * 40
# wandb.teardown() asks its service to end and forgets the process without waiting for it
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test sees the user's account or files, nor what an earlier test left in wandb."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("CACHE", "CONFIG", "DATA", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb_home" / name))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(gan_experiments.__file__).parents[1]))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_SILENT", "true")
    caplog.set_level(logging.INFO, logger="gan_experiments")
    wandb.teardown()
    yield
    wandb.teardown()
    gc.collect()  # here, where the warning about the forgotten process is ignored


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What our own loggers told the user."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("gan_experiments")]


def folders(directory: Path, kind: str = "offline-run") -> list[Path]:
    return sorted((directory / "wandb").glob(f"{kind}-*"))


def only_run(directory: Path) -> RunFile:
    (folder,) = folders(directory)
    return read_finished_run(folder)


def score(value: float | None, higher_is_better: bool = False, **more: Any) -> dict[str, Any]:
    return {"value": value, "higher_is_better": higher_is_better, "extractor": "classifier"} | more


# offline


def test_offline_run_holds_config_rows_summary_metrics_and_exit_code(tmp_path: Path) -> None:
    logger = WandbLogger("project", group="group", tags=["a", "b"], name="name", job_type="train", mode="offline")
    logger.open({"train": {"lr": 0.5, "betas": [0.0, 0.9]}, "seed": 3}, tmp_path, "the-id")
    logger.log({"generator/loss": 1.5, "discriminator/loss": float("inf")}, images=64)
    logger.log({"generator/loss": 2.5}, images=128)
    logger.summary({"parameters": 7})
    logger.close(3, "stopped on NaN")

    run = only_run(tmp_path)
    assert (run.run.run_id, run.run.project, run.run.run_group) == ("the-id", "project", "group")
    assert (run.run.display_name, run.run.job_type, list(run.run.tags)) == ("name", "train", ["a", "b"])
    del run.config["_wandb"]
    assert run.config == {"train": {"lr": 0.5, "betas": [0.0, 0.9]}, "seed": 3}
    assert rows(run) == [
        {"generator/loss": 1.5, "discriminator/loss": float("inf"), "progress/images": 64},
        {"generator/loss": 2.5, "progress/images": 128},
    ]
    assert run.summary["parameters"] == 7 and run.summary["reason"] == "stopped on NaN"
    axis, everything = run.metrics
    assert axis.name == "progress/images" and axis.options.hidden
    assert everything.glob_name == "*" and everything.step_metric == "progress/images"
    assert run.exit_code == 3


def test_tricks_are_tags_and_name_the_run(tmp_path: Path) -> None:
    logger = WandbLogger(tags=["mine"], mode="offline")
    logger.open({"run": {"seed": 3}, "trick": {"packing": {"size": 2}, "ema": {"about": "x"}}}, tmp_path, "id")
    logger.close(0, "completed")
    run = only_run(tmp_path)
    assert list(run.run.tags) == ["mine", "packing", "ema"] and run.run.display_name == "packing + ema, seed 3"


def test_scores_have_floors_best_last_and_provenance(tmp_path: Path) -> None:
    logger = WandbLogger(mode="offline")
    logger.open({}, tmp_path, "id")
    for images, fid, inception in ((10, 9.0, 2.0), (20, 4.0, 5.0), (30, 6.0, 3.0), (40, float("nan"), None)):
        logger.scores(
            {"fid": score(fid, floor=1.5, images=images), "inception_score": score(inception, True, floor=None)}, images
        )
    logger.close(0, "completed")

    run = only_run(tmp_path)
    assert rows(run)[1] == {
        "score/fid": 4.0,
        "score/fid_floor": 1.5,
        "score/inception_score": 5.0,
        "progress/images": 20,
    }
    assert (run.summary["score/fid_best"], run.summary["score/fid_best_images"]) == (4.0, 20)
    assert (run.summary["score/inception_score_best"], run.summary["score/inception_score_best_images"]) == (5.0, 20)
    assert np.isnan(rows(run)[3]["score/inception_score"])
    assert run.summary["score/fid_last"] is None  # W&B's summary has no NaN
    record = run.summary["score/fid_record"]
    assert (record["images"], record["floor"], record["extractor"]) == (40, 1.5, "classifier")


def test_resumed_run_keeps_its_id_and_its_best_score(tmp_path: Path) -> None:
    logger = WandbLogger(mode="offline")
    logger.open({"images": 1}, tmp_path, "same")
    logger.scores({"fid": score(4.0), "inception_score": score(5.0, True)}, 10)
    logger.close(1, "stopped")
    resumed = WandbLogger(mode="offline")
    resumed.remember({"fid": score(4.0), "inception_score": score(5.0, True), "kid": score(3.0)})
    resumed.remember({"fid": score(6.0)})
    resumed.open({"images": 2}, tmp_path / "resumed", "same")
    resumed.remember({"precision": score(0.5, True)})
    resumed.scores({"fid": score(8.0), "inception_score": score(9.0, True)}, 20)
    resumed.close(0, "completed")

    run = only_run(tmp_path / "resumed")
    assert run.run.run_id == "same" and run.config["images"] == 2
    assert (run.summary["score/fid_best"], run.summary["score/fid_last"]) == (4.0, 8.0)
    assert (run.summary["score/kid_best"], run.summary["score/precision_best"]) == (3.0, 0.5)
    assert (run.summary["score/inception_score_best"], run.summary["score/inception_score_best_images"]) == (9.0, 20)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_keep_their_pixels(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    logger = WandbLogger(mode="offline")
    logger.open({}, tmp_path, "id")
    logger.log_images("samples/ema", pixels, images=64, caption="at the start")
    logger.close(0, "completed")

    (row,) = rows(only_run(tmp_path))
    assert row["progress/images"] == 64 and row["samples/ema"]["caption"] == "at the start"
    (folder,) = folders(tmp_path)
    with Image.open(folder / "files" / row["samples/ema"]["path"]) as picture:
        assert np.array_equal(np.asarray(picture).reshape(pixels.shape), pixels)


@pytest.mark.parametrize(
    "pixels", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((2, 3, 4, 4), np.uint8)]
)
def test_pictures_that_wandb_would_spoil_are_refused(tmp_path: Path, pixels: Any) -> None:
    with pytest.raises(ValueError, match=r"samples: expected uint8 \(h, w, 3\)"):
        WandbLogger(mode="offline").log_images("samples", pixels, images=0)


def test_two_runs_in_one_process_are_two_runs(tmp_path: Path) -> None:
    config = {"model": {"width": 1}, "only_first": 1}
    first, second = WandbLogger(mode="offline"), WandbLogger(mode="offline")
    first.open(config, tmp_path / "1", "first")
    config["model"]["width"] = 5  # type: ignore[index]
    first.log({"loss": 1.0}, images=1)
    second.open({"model": {"width": 2}}, tmp_path / "2", "second")  # though the first was never closed
    second.log({"loss": 2.0}, images=2)
    second.close(0, "completed")
    first.close(1, "failed")

    one, two = only_run(tmp_path / "1"), only_run(tmp_path / "2")
    assert (one.run.run_id, two.run.run_id) == ("first", "second")
    assert one.config["model"] == {"width": 1} and two.config["model"] == {"width": 2}
    assert "only_first" not in two.config
    assert [rows(one), rows(two)] == [
        [{"loss": 1.0, "progress/images": 1}],
        [{"loss": 2.0, "progress/images": 2}],
    ]
    assert (one.exit_code, two.exit_code) == (1, 0)


def test_one_logger_opened_again_ends_its_former_run(tmp_path: Path) -> None:
    logger = WandbLogger(mode="offline")
    logger.open({}, tmp_path / "1", "first")
    logger.scores({"fid": score(1.0)}, 1)
    logger.open({}, tmp_path / "2", "second")
    logger.scores({"fid": score(2.0)}, 1)
    logger.close(0, "completed")
    logger.close(1, "again")
    logger.log({"loss": 1.0}, images=1)
    assert only_run(tmp_path / "1").exit_code == 1
    run = only_run(tmp_path / "2")
    assert run.exit_code == 0 and run.summary["score/fid_best"] == 2.0 and len(run.history) == 1


# where the run goes


def test_environment_decides_when_the_mode_is_auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = WandbLogger()
    logger.open({}, tmp_path, "id")
    logger.log({"loss": 1.0}, images=1)
    logger.close(0, "completed")
    assert not (tmp_path / "wandb").exists()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    logger = WandbLogger()
    logger.open({}, tmp_path, "id")
    logger.close(0, "completed")
    assert only_run(tmp_path).exit_code == 0


def test_common_folder_of_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "environment"))
    for number, directory in enumerate([tmp_path / "common", tmp_path / "common", None]):
        logger = WandbLogger(mode="offline", directory=directory)
        logger.open({}, tmp_path / str(number), f"id{number}")
        logger.close(0, "completed")
    assert len(folders(tmp_path / "common")) == 2 and len(folders(tmp_path / "environment")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "on"}, "logger.mode=on is not a W&B mode: expected auto, online, offline or disabled"),
        ({"project": "a/b"}, "logger.project='a/b'"),
        ({"project": ""}, "logger.project=''"),
        ({"tags": ["good", "x" * 65]}, "has 65 characters"),
        ({"tags": [""]}, "has 0 characters"),
    ],
)
def test_settings_that_wandb_refuses_are_refused_before_the_run(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        WandbLogger(**arguments)


def test_bad_mode_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "of")
    with pytest.raises(UserError, match="WANDB_MODE=of"):
        WandbLogger()


@pytest.mark.parametrize("run_id", ["", "a/b", "a:b"])
def test_bad_run_id_is_named(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(UserError, match=f"run id '{run_id}'"):
        WandbLogger(mode="offline").open({}, tmp_path, run_id)


# without wandb, key, network or input


def python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_none_never_imports_wandb_and_wandb_says_what_is_missing() -> None:
    code = """
import sys
sys.modules["wandb"] = None
from pathlib import Path
from gan_experiments.errors import UserError
from gan_experiments.logging.logger import NoLogger
from gan_experiments.logging.wandb_logger import WandbLogger
logger = NoLogger()
logger.open({}, Path("."), "id"), logger.log({}, 1), logger.log_images("a", None, 1), logger.scores({}, 1)
logger.remember({}), logger.summary({}), logger.close(0, "completed")
WandbLogger(mode="disabled").open({}, Path("."), "id")
try:
    WandbLogger()
except UserError as error:
    print(error)
"""
    result = python(code)
    assert result.stderr == ""
    assert result.stdout == "logger=wandb needs the package wandb: pip install wandb, or choose logger=none\n"
    assert issubclass(NoLogger, Logger) and not Logger.__abstractmethods__ - set(vars(NoLogger))


RUN = """
import logging, sys
from pathlib import Path
from gan_experiments.logging.wandb_logger import WandbLogger
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
logger = WandbLogger(mode=sys.argv[2])
logger.open({"a": 1}, Path(sys.argv[1]), "id")
logger.log({"loss": 1.0}, images=64)
logger.close(0, "completed")
"""


def test_no_key_means_offline_at_once_without_a_question(
    tmp_path: Path, server: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", server.address)
    monkeypatch.delenv("WANDB_SILENT")
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    screen, terminal = pty.openpty()
    begin = [sys.executable, "-c"]
    started = time.monotonic()
    with (
        subprocess.Popen(
            [*begin, f"import os; os.close(0)\n{RUN}", str(tmp_path / "closed"), "auto"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as closed,
        # wandb asks when both input and errors are a terminal
        subprocess.Popen(
            [*begin, RUN, str(tmp_path / "terminal"), "online"],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=terminal,
        ) as asked,
    ):
        try:
            output = {
                "closed": closed.communicate(timeout=40)[0].decode(),
                "terminal": asked.communicate(timeout=40)[0].decode(),
            }
        finally:
            asked.kill()
            closed.kill()
    assert (closed.returncode, asked.returncode) == (0, 0)
    assert time.monotonic() - started < 20  # alone 2 s
    os.close(terminal)
    os.set_blocking(screen, False)
    with pytest.raises(OSError):  # nothing was ever written there
        os.read(screen, 1)
    os.close(screen)
    for name, said_there in output.items():
        (folder,) = folders(tmp_path / name)
        reason = "no API key; `wandb login` stores one"
        assert said_there == f"W&B: offline ({reason}); to upload later: wandb sync {folder}\n"
        assert read_finished_run(folder).exit_code == 0
    assert not server.seen


# a server, and its absence


class Stub(ThreadingHTTPServer):
    """As much of a W&B server as a run needs; keeps what it receives."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.seen: list[tuple[str, bytes]] = []
        self.address = f"http://127.0.0.1:{self.server_port}"

    def text(self) -> str:
        return b"\n".join(body for _, body in self.seen).decode(errors="replace")

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for path, body in self.seen:
            if path.endswith("file_stream"):
                history = json.loads(body).get("files", {}).get("wandb-history.jsonl", {})
                found += [json.loads(line) for line in history.get("content", [])]
        return found


class Answer(BaseHTTPRequestHandler):
    """Says yes to everything."""

    server: Stub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.seen.append((self.path, body))
        reply = json.dumps({"data": self.data(body)}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_PUT = do_POST

    def data(self, body: bytes) -> dict[str, Any]:
        try:
            message = json.loads(body)
            query, variables = message["query"], message.get("variables") or {}
        except (ValueError, KeyError, TypeError):
            return {}
        if "upsertBucket" in query:
            project = {"id": "p", "name": "project", "entity": {"id": "e", "name": "entity"}}
            bucket = {"id": "b", "name": variables.get("name"), "displayName": "run", "description": "", "config": "{}"}
            bucket |= {"sweepName": None, "historyLineCount": 0, "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.server.address}/up"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if "viewer" in query:
            return {
                "viewer": {"id": "v", "entity": "entity", "username": "user", "flags": "{}", "teams": {"edges": []}}
            }
        return {}

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Stub]:
    stub = Stub()
    thread = threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield stub
    stub.shutdown()
    stub.server_close()
    thread.join()


@pytest.fixture
def online(server: Stub, monkeypatch: pytest.MonkeyPatch) -> Stub:
    monkeypatch.setenv("WANDB_BASE_URL", server.address)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    return server


def test_a_key_means_online_and_everything_arrives(
    tmp_path: Path, online: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    logger = WandbLogger("project")
    logger.open({"learning_rate": 0.125}, tmp_path, "the-id")
    logger.log({"loss": 1.25}, images=64)
    logger.scores({"fid": score(4.5, floor=1.5)}, 64)
    logger.close(0, "completed")
    sent = [{key: value for key, value in row.items() if key[0] != "_"} for row in online.rows()]
    assert {"loss": 1.25, "progress/images": 64} in sent
    assert {"score/fid": 4.5, "score/fid_floor": 1.5, "progress/images": 64} in sent
    assert "learning_rate" in online.text() and "fid_best" in online.text()
    (line,) = said(caplog)
    assert line.startswith("W&B: http") and line.endswith("/the-id")
    assert len(folders(tmp_path, "run")) == 1 and not folders(tmp_path)


def test_unreachable_server_means_offline_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    logger = WandbLogger(init_timeout=0.5)
    logger.open({"a": 1}, tmp_path, "the-id")
    logger.log({"loss": 1.0}, images=64)
    logger.close(0, "completed")
    run = only_run(tmp_path)
    assert run.run.run_id == "the-id" and run.config["a"] == 1 and len(run.history) == 1 and run.exit_code == 0
    (line,) = said(caplog)
    assert line.startswith("W&B: offline (online failed: ") and line.endswith(f"wandb sync {folders(tmp_path)[0]}")
    assert "\n" not in line


def test_malformed_key_means_offline_with_one_line(
    tmp_path: Path, online: Stub, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short")
    logger = WandbLogger()
    logger.open({}, tmp_path, "id")
    logger.close(0, "completed")
    assert only_run(tmp_path).exit_code == 0
    (line,) = said(caplog)
    assert "WANDB_API_KEY invalid" in line and "wandb sync" in line


def test_server_that_vanishes_delays_the_end_by_no_more_than_the_timeout(
    tmp_path: Path, online: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    logger = WandbLogger(finish_timeout=0.5)
    logger.open({}, tmp_path, "id")
    online.shutdown()
    online.server_close()
    logger.log({"loss": 1.0}, images=64)
    started = time.monotonic()
    logger.close(0, "completed")
    wandb.teardown()
    assert time.monotonic() - started < 8
    (folder,) = folders(tmp_path, "run")
    assert said(caplog)[-1].endswith(f"later: wandb sync {folder}") and len(said(caplog)) == 2
    assert rows(read_finished_run(folder)) == [{"loss": 1.0, "progress/images": 64}]


def test_offline_run_is_uploaded_by_the_command_in_its_line(
    tmp_path: Path, online: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    logger = WandbLogger(mode="offline")
    logger.open({}, tmp_path, "the-id")
    logger.log({"loss": 1.25}, images=64)
    logger.close(0, "completed")
    assert only_run(tmp_path).exit_code == 0 and not online.seen
    _, command = said(caplog)[0].split("to upload later: wandb ")
    result = subprocess.run(
        [sys.executable, "-m", "wandb", *command.split()], capture_output=True, timeout=60, cwd=tmp_path
    )
    assert result.returncode == 0
    assert [row["loss"] for row in online.rows() if "loss" in row] == [1.25]


ORPHAN = """
import logging, os, signal, subprocess, sys
from pathlib import Path
from gan_experiments.logging.wandb_logger import WandbLogger
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
logger = WandbLogger(mode="offline")
logger.open({}, Path(sys.argv[1]) / "1", "first")
children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
(service,) = [int(child) for child in children if "wandb-core" in Path(f"/proc/{child}/comm").read_text()]
os.kill(service, signal.SIGKILL)
os.waitid(os.P_PID, service, os.WEXITED | os.WNOWAIT)
for images in (1, 2, 3):
    logger.log({"loss": 1.0}, images)
    logger.scores({"fid": {"value": 1.0, "higher_is_better": False}}, images)
logger.close(0, "completed")
logger.open({}, Path(sys.argv[1]) / "2", "second")
logger.log({"loss": 2.0}, images=4)
logger.close(0, "completed")
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds wandb's service through /proc")
def test_training_outlives_wandbs_service(tmp_path: Path) -> None:
    result = python(ORPHAN, str(tmp_path))
    assert result.returncode == 0 and result.stderr == ""
    (line,) = result.stdout.splitlines()
    assert line.startswith("W&B: lost (") and "metrics.jsonl" in line
    assert rows(only_run(tmp_path / "2")) == [{"loss": 2.0, "progress/images": 4}]
