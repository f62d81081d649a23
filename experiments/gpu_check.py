"""Claim: what holds on a CPU holds on a GPU, and a trial trains there twice as fast as a plain bfloat16 loop.

    make gpu-check                                # --dataset is optional
    python experiments/gpu_check.py --smoke       # a minute, on whatever device there is
    python experiments/gpu_check.py --parts packing,search --dataset path/to/images

Needs PyTorch and this project's small requirements (NumPy, Pillow, pydantic, PyYAML, rich, safetensors, scikit-learn;
for images other than digits also `datasets`). What needs more is left out where it is missing, and the result says so:
speeds beside timm's networks need timm and torchvision, whole searches Ray, Optuna and fvcore. Parts, each a process
with a time limit of its own, so that one that fails or hangs leaves the others:

    machine     what it is, and how fast it copies and multiplies
    networks    networks of every family and random ones of every space: logits and gradients in float32 against the
                CPU's, logits in bfloat16
    training    the same training on the CPU, on the GPU and there with steps replayed as CUDA graphs: losses
    oom         trials that ask for too much memory or cannot be captured, and those that come after them
    memory      24 trials in one process, every other with CUDA graphs: what stays in the GPU's memory and the host's
    profile     kernels a step, and how long the GPU has nothing to do
    speed       images a second of the user's loop, a plain one and ours, at 32 px
    packing     1 to 12 trainings on one GPU at a time, with and without MPS: images a second of all together
    search      a search at 300MFLOPs: trials an hour, use of the GPU

Every row is in `gpu_check.jsonl` as soon as it is measured, errors in full in `gpu_check.log`, and everything by part
in `gpu_check.json` as soon as a part ends.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import gpu_correctness  # noqa: E402
import gpu_packing  # noqa: E402
import gpu_speed  # noqa: E402
from gpu_steps import ROWS, Note, noting  # noqa: E402

from nas.latency.timing import device_for  # noqa: E402

Found = dict[str, Any]
PARTS: dict[str, tuple[Callable[[argparse.Namespace, Note], None], int]] = {
    "machine": (gpu_correctness.machine, 20),
    "networks": (gpu_correctness.networks, 70),
    "training": (gpu_correctness.training, 50),
    "oom": (gpu_correctness.oom, 20),
    "memory": (gpu_correctness.memory, 60),
    "profile": (gpu_speed.profile, 40),
    "speed": (gpu_speed.speed, 120),
    "packing": (gpu_packing.packing, 110),
    "search": (gpu_packing.search, 90),
}  # seconds; of `search` beside its own limit
BEFORE_S, GRACE_S = 3.0, 5.0


def limit(name: str, args: argparse.Namespace) -> float:
    own = args.search_time_limit if name == "search" else 0.0
    return float((own + PARTS[name][1]) * args.patience)


def carried_out(name: str, args: argparse.Namespace, arguments: list[str]) -> Found:
    """A part in a session of its own, which ends with all its processes when its time is over."""
    command = [sys.executable, str(Path(__file__).resolve()), *arguments, "--part", name]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    start, error = time.perf_counter(), ""
    with (args.out / "gpu_check.log").open("a") as log:
        log.write(f"== {name}\n")
        log.flush()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            if code := process.wait(limit(name, args)):
                error = f"ended with code {code}"
        except subprocess.TimeoutExpired:
            error = f"took longer than {limit(name, args):.0f} s"
            ended(process)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    found: Found = {"seconds": round(time.perf_counter() - start, 1), "rows": rows(args.out, name)}
    failed = [row for row in found["rows"] if row.get("passed") is False]
    told = [row["error"] for row in found["rows"] if row.get("error") and row.get("passed") is False]
    if error or failed:
        return {**found, "error": "; ".join(filter(None, [error, *told[:1]])), "passed": False, "failed": len(failed)}
    return {**found, **({"passed": True} if any("passed" in row for row in found["rows"]) else {})}


def ended(process: subprocess.Popen[bytes]) -> None:
    """Ask a part to end, so that it ends what it has started elsewhere, before its processes are killed."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(GRACE_S)


def rows(out: Path, name: str) -> list[Found]:
    path, found = out / ROWS, []
    for line in path.read_text().splitlines() if path.exists() else []:
        with suppress(ValueError):
            row = json.loads(line)
            if row.pop("part") == name:
                found.append(row)
    return found


def part(args: argparse.Namespace) -> None:
    """One part, in this process. What it raises is a row too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    args.ends = time.perf_counter() + limit(args.part, args) - BEFORE_S
    note = noting(args.out, args.part)
    try:
        PARTS[args.part][0](args, note)
    except Exception as error:
        traceback.print_exc()
        note({"error": f"{type(error).__name__}: {error}"[:400], "passed": False})


def chosen(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{', '.join(PARTS)} are accepted, not {', '.join(unknown)}")
    return names


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits", help="a folder of images or a hub name (default: digits)")
    parser.add_argument("--parts", type=chosen, default=list(PARTS), help="which, with commas between (all)")
    parser.add_argument("--smoke", action="store_true", help="a little of every part")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where the results go")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--patience", type=float, default=1.0, help="times the seconds that a part may take (1)")
    parser.add_argument("--trials", type=int, default=24, help="of the part memory (24)")
    parser.add_argument("--search-trials", type=int, default=160, help="of the search, at most (160)")
    parser.add_argument(
        "--search-limit", dest="search_time_limit", type=float, default=150, help="seconds of the search (150)"
    )
    parser.add_argument("--search-options", default="", help="more options of nas.search, as one text")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    args.out = args.out.resolve()
    args.device = device_for(args.device)
    return args


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    args = parsed(arguments)
    if args.part:
        part(args)
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    for name in (ROWS, "gpu_check.log"):
        (args.out / name).unlink(missing_ok=True)
    found: Found = {}
    for name in args.parts:
        one = found[name] = carried_out(name, args, arguments)
        (args.out / "gpu_check.json").write_text(json.dumps(found, indent=1) + "\n")
        verdict = {True: "passed", False: "FAILED"}.get(one.get("passed"), "measured")
        why = f": {one['error']}" if one.get("error") else ""
        print(f"{name}: {verdict}{why}, {len(one['rows'])} rows ({one['seconds']} s)", flush=True)
    print(f"wrote {args.out / 'gpu_check.json'}")
    return 1 if any(one.get("passed") is False for one in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
