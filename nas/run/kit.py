"""A kit to time a device that is not here: small ONNX files and one script, which need onnxruntime and numpy alone.

The script times random networks of a space kernel by kernel, by the very functions that time them here, and others as a
whole to check predictions with; it writes a table for `--latency-table`. Weights are random numbers, so the kit has
none: the script makes a file of them, to which all networks point.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console

from nas.bundle.function_source import sort_imports, standalone
from nas.latency import device_table, onnx_graph, onnx_networks, timing
from nas.views.meter import meter
from searchspace.arch import Arch
from searchspace.costs.latency import LatencyTable, placed
from searchspace.document import writing
from searchspace.errors import InputError
from searchspace.space.space import Space

MANIFEST, SCRIPT_FILE, WEIGHTS = "kit.json", "measure.py", "weights.bin"
LEAST_BYTES, ALIGNMENT = 256, 64

SCRIPT = '''\
"""Time this machine for a search that is made elsewhere: python measure.py

Needs onnxruntime and numpy, and the files beside it; takes some minutes, in which nothing else should run. What it
writes is for `python -m nas.search --latency-table FILE`; `python -m nas.measure --check --table FILE` checks it.
"""

from __future__ import annotations

{imports}

HERE = Path(__file__).resolve().parent
MAGNITUDE, AT_ONCE, PIECE, NOTHING = {magnitude}, {at_once}, 1 << 20, {nothing}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=Path("latency.json"), help="file to write (latency.json)")
    options.add_argument("--threads", type=int, default=1, help="of the processor (1)")
    options.add_argument("--rounds", type=int, default={rounds}, help="how often each network is timed ({rounds})")
    given = options.parse_args()
    if min(given.threads, given.rounds) < 1:
        options.error("arguments --threads and --rounds: at least 1")
    try_to_write(given.out, options)
    kit = loaded()
    write_weights(kit["weights"], kit["table"]["dtype"])
    begun = datetime.datetime.now().isoformat(timespec="seconds")
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    batch_size = kit["table"]["batch_size"]
    times = timed(kit["timed"], batch_size, given)
    table = {{
        "device": processor_name(),
        "torch": "",
        "date": begun[:10],
        **kit["table"],
        "threads": given.threads,
        "onnxruntime": onnxruntime.__version__,
        "sessions": [[begun, len(kit["timed"]), round(busy, 2), os.cpu_count() or 1]],
        "times": {{name: list(rows.values()) for name, rows in times.items()}},
        "checked": checked(kit["checked"], batch_size, given),
    }}
    given.out.write_text(json.dumps(table, ensure_ascii=False) + "\\n", encoding="utf-8")
    print(f"wrote {{given.out}}: {{sum(map(len, times.values()))}} times of {{len(times)}} operators")


def try_to_write(path, options):
    """Ends it before anything is timed where the file cannot be written; what is in it stays."""
    existed = path.exists()
    try:
        path.open("a").close()
    except OSError as error:
        options.error(f"argument --out: {{path}} cannot be written ({{error.strerror}})")
    if not existed:
        path.unlink()


def loaded():
    try:
        return json.loads((HERE / "{manifest}").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"{{HERE / '{manifest}'}}: cannot be read ({{error}})")


def write_weights(number, dtype):
    """Random numbers, where they are not there: of which values they are takes no time."""
    path, width = HERE / "{weights}", 1 if dtype == "int8" else 4
    if path.exists() and path.stat().st_size == number * width:
        return
    random = np.random.default_rng(0)
    with open(path, "wb") as file:
        for first in range(0, number, PIECE):
            size = min(PIECE, number - first)
            if dtype == "int8":
                piece = random.integers(-127, 128, size, np.int8)
            else:
                piece = random.uniform(-MAGNITUDE, MAGNITUDE, size).astype(np.float32)
            file.write(piece.tobytes())


def timed(networks, batch_size, given):
    """The rows of every operator."""
    times = {{}}
    for part in parts(networks, "timed layers of"):
        paths = [HERE / one["file"] for one in part]
        for one, own in zip(part, step_ms(paths, batch_size, given.threads, given.rounds, lambda: None)):
            for number, (name, *size) in enumerate(one["kernels"]):
                times.setdefault(name, {{}})[tuple(size)] = [*size, round(own.get(number, NOTHING), 6)]
    return times


def checked(networks, batch_size, given):
    """Milliseconds of whole networks."""
    found = {{}}
    for part in parts(networks, "timed"):
        paths = [HERE / one["file"] for one in part]
        for one, own in zip(part, network_rounds(paths, batch_size, given.threads, given.rounds, lambda: None)):
            found[one["arch"]] = round(median(own), 6)
    return found


def parts(networks, said):
    """A few networks at a time, which take turns; one file that is not there ends it."""
    for first in range(0, len(networks), AT_ONCE):
        part = networks[first : first + AT_ONCE]
        for one in part:
            if not (HERE / one["file"]).is_file():
                sys.exit(f"{{HERE / one['file']}}: is not there; copy the whole kit")
        yield part
        print(f"{{said}} {{min(first + AT_ONCE, len(networks))}} of {{len(networks)}} networks", flush=True)


# From here on: how networks are timed where the kit was made.


{parts}

if __name__ == "__main__":
    main()
'''
NEEDED = {
    *("import argparse", "import datetime", "import json", "import os", "import sys", "from pathlib import Path"),
    *("import numpy as np", "import onnxruntime", "from statistics import median"),
}


def script() -> str:
    """The text of the kit's script."""
    from nas.latency import onnx_timing

    needed, parts = standalone(onnx_timing.step_ms, onnx_timing.network_rounds, timing.processor_name)
    return SCRIPT.format(
        imports=sort_imports({*needed, *NEEDED}),
        magnitude=onnx_graph.MAGNITUDE,
        at_once=device_table.AT_ONCE,
        rounds=device_table.ROUNDS,
        nothing=onnx_networks.NOTHING,
        manifest=MANIFEST,
        weights=WEIGHTS,
        parts=parts,
    )


def write(folder: Path, space: Space, here: LatencyTable, to_check: int, console: Console) -> None:
    """Write a kit for a space's networks, under such conditions; `InputError` where the folder cannot be used."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"kit {folder}: is not empty; give another folder")
    name = space.title
    with writing(f"kit {folder}"), meter(console, "choosing networks") as progress:
        timed = list(to_time(space, here))
        known = set().union(*map(here.operators, timed))
        others = device_table.networks(space, random.Random("check"))
        checked = list(islice((arch for arch in others if here.operators(arch) <= known), to_check))
        folder.mkdir(parents=True, exist_ok=True)
        sizes = []
        for number, arch in enumerate((*timed, *checked)):
            sizes.append(write_network(arch, folder / f"{number:03}.onnx", here))
            progress("writing networks", number + 1, len(timed) + len(checked))
        manifest = {
            "table": {"dtype": here.dtype, "batch_size": here.batch_size, "spaces": {name: len(timed)}},
            "weights": max(sizes),
            "timed": [{"file": f"{at:03}.onnx", "kernels": rows(arch, here)} for at, arch in enumerate(timed)],
            "checked": [
                {"file": f"{at:03}.onnx", "arch": json.dumps(arch.to_dict())}
                for at, arch in enumerate(checked, len(timed))
            ],
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / SCRIPT_FILE).write_text(script(), encoding="utf-8")
    console.print(
        f"wrote {folder}: {len(timed)} networks of {space.source} to time, {len(checked)} to check with, {here.dtype}; "
        f"there, with onnxruntime and numpy: python {SCRIPT_FILE} --out latency.json"
    )


def to_time(space: Space, here: LatencyTable) -> Iterator[Arch]:
    """As many networks as a table needs of a space: of every operator enough times."""
    name, table, wanted = space.source, here, device_table.space_operators(space, here)
    drawn, seen = device_table.networks(space, random.Random(f"kit {name}")), set[str]()
    while short := device_table.lacking(table, name, wanted):
        chosen = device_table.choose_networks(drawn, short, wanted.keys(), here)
        archs = [arch for arch in chosen if arch.digest not in seen]
        if not archs:
            return
        seen |= {arch.digest for arch in archs}
        yield from archs
        pieces = (part for arch in archs for section, at in placed(arch) for part in here.parts(section, at))
        table = table.with_times(name, len(archs), ((operator, size, 1.0) for operator, size in pieces))


def rows(arch: Arch, here: LatencyTable) -> list[list[Any]]:
    """A network's kernels by number: the operator and its size."""
    return [[name, *size] for section, at in placed(arch) for name, size in here.parts(section, at)]


def write_network(arch: Arch, path: Path, here: LatencyTable) -> int:
    """A network's file, whose weights are in another; returns how many numbers that has to have."""
    from onnx import TensorProto, load, save

    onnx_networks.write(arch, path, here)
    model = load(path)
    kind = TensorProto.INT8 if here.dtype == "int8" else TensorProto.FLOAT
    weights = [one for one in model.graph.initializer if one.data_type == kind and len(one.dims) in (2, 4)]
    used = point_to(WEIGHTS, [one for one in weights if len(one.raw_data) >= LEAST_BYTES])
    save(model, path)
    return used // (1 if here.dtype == "int8" else 4)


def point_to(file: str, tensors: Sequence[Any]) -> int:
    """Let tensors be parts of a file, one behind the other; returns how many bytes of it."""
    from onnx.external_data_helper import set_external_data

    used = 0
    for tensor in tensors:
        length = len(tensor.raw_data)
        set_external_data(tensor, file, used, length)
        tensor.ClearField("raw_data")
        used += -(-length // ALIGNMENT) * ALIGNMENT
    return used
