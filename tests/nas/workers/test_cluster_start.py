"""How Ray is started on this machine: reached by nobody else, and in plain words where it cannot be."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
import ray

from nas.workers import ray_private
from nas.workers.cluster import Cluster, LostClusterError, import_path
from searchspace import machine


@pytest.mark.parametrize("error", [Exception("timed out\nduring startup"), OSError(28, "No space left on device")])
def test_what_ray_raises_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray raises plain `Exception`, which nobody else may catch."""

    def init(**settings: Any) -> NoReturn:
        raise error

    monkeypatch.setattr(ray, "init", init)
    with Cluster(None, "") as cluster, pytest.raises(LostClusterError, match="the same command carries on") as raised:
        cluster.ready()
    assert "Ray cannot be started on this machine" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_disk_without_room_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=65_536))
    with Cluster(None, "") as cluster, pytest.raises(LostClusterError, match=f"10 MB of room in {tmp_path} .TMPDIR"):
        cluster.ready()


@pytest.mark.parametrize(
    ("limit", "allowed", "says"),
    [
        (resource.RLIMIT_NOFILE, 20, "ulimit -n allows 20"),
        (resource.RLIMIT_AS, 3 * 10**9, "ulimit -v allows 3.0"),
    ],
)
def test_limits_with_which_ray_waits_for_ever_are_said_at_once(
    limit: int, allowed: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 20 files its start took 46 s, with 8 GB of addresses no trial ever began."""
    own = resource.getrlimit
    monkeypatch.setattr(resource, "getrlimit", lambda of: (allowed, -1) if of == limit else own(of))
    monkeypatch.setattr(ray, "init", lambda **settings: pytest.fail("Ray was started"))
    with Cluster(None, "") as cluster, pytest.raises(LostClusterError, match=says):
        cluster.ready()


def test_too_few_processes_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `docker run --pids-limit 100` leaves them; Ray's start took a minute, or ended in words of its own."""
    monkeypatch.setattr(machine, "processes", lambda: 70.0)
    monkeypatch.setattr(ray, "init", lambda **settings: pytest.fail("Ray was started"))
    with Cluster(None, "") as cluster, pytest.raises(LostClusterError, match=r"200 .* and 70 are left here"):
        cluster.ready()


def test_a_temporary_folder_with_too_long_a_path_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets have names of at most 107 bytes; batch systems have folders for every job."""
    folder = Path(tempfile.mkdtemp(prefix="nas-" + "n" * 49, dir="/tmp"))
    monkeypatch.setattr(ray, "init", lambda **settings: pytest.fail("Ray was started"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    with (
        Cluster(None, "") as cluster,
        pytest.raises(LostClusterError, match=r"of 66 bytes; at most 39 are accepted \(TMPDIR"),
    ):
        cluster.ready()
    folder.rmdir()


def test_ray_is_asked_to_listen_on_loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def init(**settings: Any) -> NoReturn:
        from ray._private import services

        asked.update(settings, resolved=services.resolve_ip_for_localhost(settings["_node_ip_address"]))
        raise RuntimeError

    monkeypatch.setattr(ray, "init", init)
    with Cluster(None, "") as cluster, pytest.raises(LostClusterError):
        cluster.ready()
    assert asked["_node_ip_address"] == asked["resolved"] == "127.0.0.1"


def test_a_daemon_that_ends_while_ray_starts_ends_the_start() -> None:
    """Ray would wait for half a minute."""
    from ray._private import services

    with ray_private.daemons() as started:
        assert services.get_node is not None
        process = services.ConsolePopen([sys.executable, "-c", ""], preexec_fn=None)
        process.wait()
        assert started == [process]
        assert ray_private.ended(started) == []  # it is none that Ray needs
        process.args = ["/somewhere/raylet"]
        with pytest.raises(OSError, match="its raylet has ended"):
            services.get_node("address", "node")


def test_the_token_is_its_user_s_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ray_private.keep_token_private()
    path = tmp_path / ".ray" / "auth_token"
    made = path.read_text()
    assert len(made) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)  # as Ray makes it
    ray_private.keep_token_private()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == made


def test_ray_starts_where_there_is_no_home_to_write_to(tmp_path: Path) -> None:
    """As in a container whose user has none; the environment of the process is as it was afterwards."""
    script = """
import os
from nas.workers.cluster import Cluster
with Cluster(None, "python -m nas.search") as here:
    here.ready()
    import ray
    assert ray.get(ray.remote(lambda: 42).remote()) == 42
print(sorted(name for name in os.environ if "AUTH_TOKEN" in name))
"""
    known = {name: setting for name, setting in os.environ.items() if not name.startswith("RAY_AUTH")}
    lost = {**known, "HOME": "/proc/1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=lost)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


@pytest.mark.parametrize(
    ("daemon", "says"), [('""', "Ray's raylet has ended"), ('"import time; time.sleep(9)"', "Ray has not started")]
)
def test_trouble_is_told_and_ends_a_process_that_does_not(daemon: str, says: str) -> None:
    script = f"""
import subprocess, sys, time
from nas.workers import cluster
cluster.GRACE_S, cluster.START_S = 0.2, 3.0
here = cluster.Cluster(None, "python -m nas.search --x")
here.when_lost = lambda error: print("told", error, flush=True)
here._daemons = [subprocess.Popen([sys.executable, "-c", {daemon}])]
here._daemons[0].args = ["raylet"]
here._watch()
time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout.startswith(f"told {says}")
    assert done.stderr.startswith(f"nas.search: {says}")
    assert done.stderr.count("\n") == 1


def test_who_stops_a_command_does_not_wait_for_ray_to_start() -> None:
    """Ray's daemons are ended, and its own handler of the exit, which would wait for its start, is not called."""
    script = """
import subprocess, sys, time
import ray
from searchspace import command
from searchspace.signals import StoppedError
from nas.workers import cluster
cluster.LEAVE_S = 0.2
def start(here):
    with ray._private.worker._connect_or_shutdown_lock:
        here._daemons.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        print("starting", flush=True)
        time.sleep(60)
cluster.Cluster._begin = start
def main(arguments):
    with cluster.Cluster(None, "python -m nas.search") as here:
        here.begin()
        while not here._daemons:
            time.sleep(0.01)
        try:
            raise StoppedError(15)
        finally:
            print(here._daemons[0].pid, flush=True)
command.run(main, "nas.search")
"""
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=50)
    assert done.returncode == 143, done.stderr
    said, daemon = done.stdout.split()
    assert said == "starting"
    status = Path(f"/proc/{daemon}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()
    assert time.monotonic() - begun < 45


def test_workers_import_what_the_driver_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path, str(tmp_path), str(tmp_path / "none")])
    monkeypatch.chdir(tmp_path.parent)
    told = import_path()["PYTHONPATH"].split(os.pathsep)
    assert told[:2] == [str(tmp_path.parent), str(tmp_path)]
    assert len(set(told)) == len(told)
    assert not any("site-packages" in folder or folder.endswith("lib-dynload") for folder in told)
