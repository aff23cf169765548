"""Bad inputs and what an answer to them must be: one clear line, nothing else broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from processes import SCRIPTS, Command, Done, Workshop, gan_train, script
from tiny import TINY

NEVER = ("Traceback", "an error of the program's own")


@dataclass(frozen=True)
class Bad:
    """Arguments of gan-train (or of a script), the words that the answer's line must hold, what is prepared before.

    `prepare` is given the folder in which the command then runs. Arguments of gan-train come after those of a run
    that takes a fraction of a second; without `tiny` they are all there is. Options that are `first` go before both.
    """

    arguments: Sequence[str]
    says: Sequence[str]
    prepare: Callable[[Path], object] | None = None
    script: str | None = None
    tiny: bool = True
    first: Sequence[str] = ()

    def command(self, cwd: Path, prelude: str = "") -> Command:
        """What is run, in `cwd`, after the statements of `prelude`."""
        if self.script is not None:
            return script(self.script, *self.arguments, cwd=cwd)
        names = {argument.partition("=")[0] for argument in self.arguments}
        base = [line for line in (*TINY, "run.dir=run") if self.tiny and line.partition("=")[0] not in names]
        return gan_train(*self.first, *base, *self.arguments, cwd=cwd, prelude=prelude)


def answer(bad: Bad, workshop: Workshop, cwd: Path, prelude: str = "") -> Done:
    """What the command said to the bad input, after checking that it was answered cleanly."""
    if bad.prepare is not None:
        bad.prepare(cwd)
    done = workshop.run(bad.command(cwd, prelude))
    check_clean(done, bad.says)
    return done


def check_clean(done: Done, says: Sequence[str]) -> None:
    """Fail unless the command failed with one line at the end that names the program and holds the words."""
    assert done.code in (1, 2), (done.code, done.err)
    for word in NEVER:
        assert word not in done.err, done.err
    assert done.lines, done.out
    last = done.lines[-1]
    program = last.partition(": ")[0]
    assert program.endswith(("gan-train", ".py")) or (SCRIPTS / f"{program}.py").is_file(), done.err
    assert len(last) < 600 and len(done.lines) <= 6, done.err
    for word in says:
        assert word in last, last
