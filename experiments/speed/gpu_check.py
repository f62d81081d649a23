"""Claim: what holds on a CPU holds on a GPU, and a trial trains there three times as fast as a plain bfloat16 loop.

    make gpu-check  # nine minutes at most; --dataset is optional
    make gpu-check ARGS='--parts packing,search --budget-s 330'  # some parts, within so many seconds
    python -m experiments.speed.gpu_check --smoke  # a minute, on whatever device there is

Needs PyTorch and this project's small requirements (NumPy, Pillow, pydantic, PyYAML, rich, safetensors, scikit-learn;
for images other than digits also `datasets`). What needs more is left out where it is missing, and the result says so:
speeds beside timm's networks need timm and torchvision, trials fvcore, searches Ray and Optuna too. Parts:

    machine     names, versions, memory, whether MPS is there; how fast the device copies and multiplies
    networks    networks of every family and random ones of every space: logits and gradients in float32 against the
                CPU's, logits in bfloat16
    training    the same trainings on the CPU, on the GPU and there with steps replayed as CUDA graphs: losses, weights
    oom         a trial that is out of memory, and one whose steps cannot be captured: the next one trains
    memory      many trials in one process, every other with CUDA graphs: what stays in the GPU's memory
    kernels     this project's own: errors against float64, microseconds beside PyTorch's
    plans       milliseconds of the first convolution of a shape and of the next, with cuDNN's plans and without
    profile     kernels of a step, and how long the GPU has nothing to do
    speed       images a second: a user's loop, a plain one, ours eager and as CUDA graphs, at 32 and 128 px
    packing     up to 12 trainings on one GPU at a time, with and without MPS: images a second of all together
    search      a search at 300MFLOPs: trials an hour, use of the GPU

Each part is a process with a time limit of its own, which ends with all that it has started. Rows are in
`gpu_check.jsonl` as soon as they are measured, what parts print in `gpu_check.log`, all together in `gpu_check.json`.
Parts that measure no time are carried out at the same time.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from experiments import findings
from experiments.speed.gpu_rows import LOG, ROWS, SUMMARY, Row, noting, read, summarized

MODULE = "experiments.speed.gpu_check"
# Where each part is, its seconds at most, and whether others may run at the same time.
PARTS: dict[str, tuple[str, int, bool]] = {
    "machine": ("experiments.speed.gpu_correctness", 45, False),
    "networks": ("experiments.speed.gpu_correctness", 90, True),
    "training": ("experiments.speed.gpu_correctness", 90, True),
    "oom": ("experiments.speed.gpu_correctness", 60, True),
    "memory": ("experiments.speed.gpu_correctness", 90, True),
    "kernels": ("experiments.speed.gpu_kernels", 60, False),
    "plans": ("experiments.speed.gpu_speed", 60, False),
    "profile": ("experiments.speed.gpu_speed", 60, False),
    "speed": ("experiments.speed.gpu_speed", 200, False),
    "packing": ("experiments.speed.gpu_packing", 170, False),
    "search": ("experiments.speed.gpu_packing", 400, False),
}
MARK = "GPU_CHECK_PART"  # an environment variable by which a part's processes are known, whoever is their parent
GRACE_S, LEAST_S, SHARE = 5.0, 6.0, 0.93  # a part ends by itself after SHARE of its time
SHOWN = 150


class Part:
    """A part of the check while it runs."""

    def __init__(self, name: str, args: argparse.Namespace, seconds: float) -> None:
        self.name, self.seconds, self.start = name, seconds, time.perf_counter()
        self.mark = uuid.uuid4().hex
        command = [sys.executable, "-m", MODULE, "--part", name, "--seconds", f"{SHARE * seconds:.1f}"]
        command += ["--device", args.device, "--dataset", args.dataset, "--out", str(args.out)]
        command += ["--trials", str(args.trials), "--search-trials", str(args.search_trials)]
        command += ["--search-limit", str(args.search_limit), f"--search-options={args.search_options}"]
        command += ["--smoke"] if args.smoke else []
        environment = findings.environment(**{"PYTHONUNBUFFERED": "1", MARK: self.mark})
        with (args.out / LOG).open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)

    def over(self) -> bool:
        """Whether it has ended, or its time has."""
        return self.process.poll() is not None or time.perf_counter() > self.start + self.seconds

    def ended(self) -> Row:
        """How it ended. What it has started ends with it."""
        taken, code = round(time.perf_counter() - self.start, 1), self.process.poll()
        self.end()
        error = f"took longer than {self.seconds:.0f} s" if code is None else f"code {code}, see {LOG}" if code else ""
        return {"part": self.name, "seconds": taken, **({"error": error} if error else {})}

    def end(self) -> None:
        with suppress(ProcessLookupError):
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(GRACE_S)
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pid in marked(self.mark):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """The processes that were started by a part, also those with sessions of their own, as Ray's and daemons."""
    found, wanted = [], f"{MARK}={mark}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def carried_out(names: list[str], args: argparse.Namespace, ends: float) -> None:
    """Part after part; those that measure no time at the same time, when all are."""
    while names:
        together = [names.pop(0)]
        while PARTS[together[0]][2] and names and PARTS[names[0]][2]:
            together.append(names.pop(0))
        left = ends - time.perf_counter()
        if left < LEAST_S:
            for name in together:
                report({"part": name, "seconds": 0.0, "left out": "no time left"}, args, left)
            continue
        running = [Part(name, args, min(PARTS[name][1] * args.patience, left)) for name in together]
        try:
            while running:
                for part in [part for part in running if part.over()]:
                    report(part.ended(), args, ends - time.perf_counter())
                    running.remove(part)
                time.sleep(0.05)
        finally:
            for part in running:
                part.end()


def report(outcome: Row, args: argparse.Namespace, left: float) -> None:
    """Note how a part ended, make the summary anew, and say it on the terminal."""
    name = outcome.pop("part")
    with (args.out / ROWS).open("a") as file:
        file.write(json.dumps({"part": name, "ended": outcome}) + "\n")
    one = summarized(args.out)[name]
    failed = [row for row in one["rows"] if row.get("passed") is False]
    for row in failed if PARTS[name][2] else one["rows"]:
        print("   ", text_of(row)[:SHOWN])
    print(
        f"{name}: {ended(one)}, {len(one['rows'])} rows ({one['seconds']} s; {max(0, left):.0f} s left)",
        flush=True,
    )


def parser() -> argparse.ArgumentParser:
    made = findings.options(__doc__, __file__, "a little of every part")
    made.add_argument("--parts", default=",".join(PARTS), help="which, with commas between them (all)")
    made.add_argument("--budget-s", type=float, default=540.0, help="seconds for all parts together (540)")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    made.add_argument("--patience", type=float, default=1.0, help="times the seconds that a part may take (1)")
    made.add_argument("--trials", type=int, default=24, help="of the part memory (24)")
    made.add_argument("--search-trials", type=int, default=160, help="of the part search (160)")
    made.add_argument("--search-limit", type=float, default=300.0, help="seconds of the search, at most (300)")
    made.add_argument("--search-options", default="", help="more options of the part search, in one string")
    made.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    made.add_argument("--seconds", type=float, default=60.0, help=argparse.SUPPRESS)
    return made


def carry_out(args: argparse.Namespace, begun: float) -> None:
    """One part, in this process."""
    if args.device == "auto":
        from nas.latency.timing import device_for

        args.device = device_for(args.device)
    args.ends = begun + args.seconds
    part = getattr(importlib.import_module(PARTS[args.part][0]), args.part)
    part(args, noting(args.out, args.part))


def main(arguments: list[str] | None = None) -> int:
    begun, args = time.perf_counter(), parser().parse_args(arguments)
    args.out = args.out.resolve()
    if args.part:
        carry_out(args, begun)
        return 0
    names = args.parts.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise SystemExit(f"parts: {', '.join(PARTS)} are accepted, not {', '.join(unknown)}")
    page = findings.Page(__doc__, __file__, args, arguments, device=args.device)
    earlier = [row for row in read(args.out / ROWS) if row["part"] not in names]
    (args.out / ROWS).write_text("".join(json.dumps(row) + "\n" for row in earlier))
    (args.out / LOG).write_text("")
    carried_out(list(names), args, begun + args.budget_s)
    found = summarized(args.out)
    page.table("", f"Parts (all numbers: {SUMMARY})", [{"part": name, **short(one)} for name, one in found.items()])
    for name, one in found.items():
        page.table("", name, [{"measured": text_of(row)} for row in one["rows"]] or [{"measured": "nothing"}])
    page.write(n="one run")
    return 1 if any(found[name].get("passed") is False for name in names) else 0


def short(one: Row) -> Row:
    """How a part ended."""
    return {"ended": ended(one), "rows": len(one["rows"]), "seconds": one.get("seconds", "")}


def ended(one: Row) -> str:
    passed = one.get("passed")
    verdict = "measured" if passed is None else "passed" if passed else "FAILED"
    return str(one.get("error") or one.get("left out") or verdict)


def text_of(row: Row) -> str:
    return ", ".join(f"{key} {value}" for key, value in row.items())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # what was started ends with it
    sys.exit(main())
