"""A Ray cluster of two nodes on this machine, one of which dies; another that has no folder of the project."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nas.study.records import trial_records
from nas.study.storage import load
from tests.nas.test_search import ENVIRONMENT
from tests.support.paths import ROOT
from tests.system.test_chaos import SMALL, begin, checked, events
from tests.system.test_faults import descendants

pytestmark = pytest.mark.slow
SECRET = "k3pt-s3cr3t"
NODE = {**{name: word for name, word in ENVIRONMENT.items() if name != "PYTHONPATH"}, "RAY_AUTH_MODE": "token"}
NODE["RAY_AUTH_TOKEN"] = "0123456789abcdef" * 4
JOB = """
import json, os, sys
from nas.workers import cluster
with cluster.Cluster(sys.argv[1], "python -m nas.search --storage without") as here:
    here.ready()
    import ray
    os.rename(sys.argv[2], sys.argv[2] + "-elsewhere")  # what a node does not have
    @ray.remote
    def where():
        import nas, searchspace
        return [nas.__file__, searchspace.__file__]
    print(json.dumps([ray.get(where.remote()), str(ray._private.state.jobs())]))
"""


class Cluster:
    """Nodes of one CPU each, in process groups of their own. Tokens keep everybody else out."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.nodes = folder, []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        ray = str(Path(sys.executable).with_name("ray"))
        command = [ray, "start", "--block", "--num-cpus", "1", "--num-gpus", "0", "--disable-usage-stats", *words]
        quiet = subprocess.DEVNULL
        node = subprocess.Popen(
            command, env=NODE, cwd=self.folder, start_new_session=True, stdout=quiet, stderr=subprocess.STDOUT
        )
        self.nodes.append(node)
        return node

    def head(self) -> subprocess.Popen[bytes]:
        port = self.address.partition(":")[2]
        return self.start("--head", "--port", port, "--include-dashboard", "false", "--node-ip-address", "127.0.0.1")

    def join(self) -> subprocess.Popen[bytes]:
        return self.start("--address", self.address)

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        with suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGKILL)
        node.wait()

    def has(self, count: int) -> None:
        """Wait until there are so many nodes."""
        code = (
            "import ray, sys; ray.init(address=sys.argv[1], logging_level=50, log_to_driver=False);"
            "print(sum(n['Alive'] for n in ray.nodes()))"
        )
        deadline = time.monotonic() + 180
        while True:
            asked = subprocess.run([sys.executable, "-c", code, self.address], env=NODE, capture_output=True, text=True)
            if asked.stdout.strip() == str(count):
                return
            assert time.monotonic() < deadline, asked.stderr
            time.sleep(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        made.head()
        made.has(1)
        yield made
    finally:
        for node in reversed(made.nodes):
            made.kill(node)


def test_nodes_get_this_code_and_never_the_typed_command(cluster: Cluster, tmp_path: Path) -> None:
    project = tmp_path / "project"
    for package in ("nas", "searchspace"):
        shutil.copytree(ROOT / package, project / package)
    words = [sys.executable, "-c", JOB, cluster.address, str(project), f"postgresql://nas:{SECRET}@db/runs"]
    surroundings = {**NODE, "PYTHONPATH": str(project)}
    done = subprocess.run(words, env=surroundings, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    files, jobs = json.loads(done.stdout.strip().splitlines()[-1])
    assert all("py_modules_files" in path for path in files), files
    assert "--storage without" in jobs
    assert SECRET not in jobs


def test_without_the_token_nobody_joins(cluster: Cluster, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "nas.search", *SMALL, "--run", str(tmp_path / "r"), "--ray-address", cluster.address]
    stranger = {**ENVIRONMENT, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}
    done = subprocess.run(words, env=stranger, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("nas.search: ray-address")


def test_a_node_dies_and_another_comes(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setitem(ENVIRONMENT, name, NODE[name])
    run, total = tmp_path / "run", 16
    node = cluster.join()
    cluster.has(2)
    process = begin(run, total, ["--ray-address", cluster.address])

    def wait_for(count: int) -> None:
        deadline = time.monotonic() + 240
        while events(run) < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    wait_for(5)
    cluster.kill(node)
    wait_for(9)
    late = cluster.join()
    deadline = time.monotonic() + 240
    while not descendants(late.pid, "ray::Resource"):  # an actor that trains
        assert process.poll() is None, "the node that came was not used"
        assert time.monotonic() < deadline
        time.sleep(0.2)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    assert "Traceback" not in out + err
    checked(load(run), run, total, [])
    lost = [t for t in load(run).trials if t.user_attrs.get("error") == "interrupted"]
    assert lost, "what ran on the node that died was asked again"
    assert len(trial_records(load(run))) == total
