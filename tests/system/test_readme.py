"""Every command of the READMEs, run as it is printed, in a copy of the checkout; its output against what is printed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.support.paths import ROOT

# In the order in which they are read: a command may use what an earlier one has made.
DOCUMENTS = ("README.md", "nas/README.md", "searchspace/README.md", "nas/workers/README.md", "nas/samplers/README.md")
README = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)
LONGEST_FRONT = 150
# Rows that differ from run to run: timing decides which trial comes next and which is stopped.
VARYING = re.compile(
    r"\s*([│┃┏└┡]|trial |…|Known |\d+ (control|search|baseline) |timing layers|timed \d|latency predicted |"
    r"both are of |\d+ threads?: |Finals: |finals: |In the same trainings )"
)
pytestmark = pytest.mark.readme


def transcripts() -> list[tuple[str, list[str]]]:
    """(command, printed lines) of every console block, in order."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def shape(line: str) -> str:
    """A line without its numbers and spacing."""
    line = re.sub(r"(it may be noise[^.]*|more than noise[^.]*)", "VERDICT", line)
    line = re.sub(r"\((baseline|search|control)\)", "ROLE", line)
    line = re.sub(r": (ham|spam) \(", ": CLASS (", line)
    line = re.sub(r"digest [0-9a-f]+", "digest HEX", line)  # which network is best hangs on the last bit of a float
    return re.sub(r"[-+]?\d[\d.,]*(e\+\d+)?[kMGT]?", "0", re.sub(r"\s+", " ", line)).strip()


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files with the environment of this one, so that nothing is installed twice."""
    copy = tmp_path_factory.mktemp("readme") / "checkout"
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
    for name in filter(None, files):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    for label in ("ham", "spam"):
        for part, count in (("train", 80), ("test", 20)):
            folder = copy / "path" / "to" / "images" / part / label
            folder.mkdir(parents=True)
            for index in range(count):
                noise = Image.effect_noise((40, 48), 10 + index).convert("RGB")
                tint = Image.new("RGB", noise.size, "red" if label == "ham" else "blue")
                Image.blend(noise, tint, 0.3).save(folder / f"{index}.png")
    for name, text in re.findall(r"```(?:yaml|python)\n# (\S+\.(?:yaml|py))\n(.*?)```", README, re.DOTALL):
        (copy / name).write_text(text)
    return copy


def ran(command: str, checkout: Path) -> str:
    environment = {**os.environ, "PATH": f"{checkout / '.venv' / 'bin'}:{os.environ['PATH']}", "COLUMNS": "80"}
    environment.pop("MAKEFLAGS", None)
    for _ in range(3):
        done = subprocess.run(
            command, shell=True, cwd=checkout, env=environment, capture_output=True, text=True, timeout=900
        )
        if "does NOT hold" not in done.stdout:
            break
        shutil.rmtree(Path(os.environ["NAS_CACHE"]) / "latency")  # layers were timed while the machine was busy
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(not (ROOT / ".venv" / "done").exists(), reason="needs the environment that `make setup` makes")
def test_every_command_prints_what_the_readme_says(checkout: Path) -> None:
    assert len(transcripts()) >= 6
    for command, printed in transcripts():
        said = {shape(line) for line in ran(command, checkout).splitlines()}
        expected = [shape(line) for line in printed if not VARYING.match(line)]
        assert expected, command
        for line in expected:
            assert line in said, f"{command}\nnot printed: {line}\nbut:\n" + "\n".join(sorted(said))


@pytest.mark.skipif(not (ROOT / ".venv" / "done").exists(), reason="needs the environment that `make setup` makes")
def test_the_python_of_the_readme_runs(checkout: Path) -> None:
    expected = ("True True\n", "True True 4\nreport.html export\n", "f1_macro True False\n", "True\n", "True\n")
    for code, printed in zip(
        re.findall(r"```python\n(?!# \S+\.py\n)(.*?)```", README, re.DOTALL), expected, strict=True
    ):
        (checkout / "snippet.py").write_text(code)
        assert ran("python snippet.py", checkout).endswith(printed)


def test_the_front_page_is_short_and_links_lead_somewhere() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= LONGEST_FRONT
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            path, _, anchor = link.partition("#")
            target = (ROOT / name).parent / path if path else ROOT / name
            assert target.exists(), f"{name}: {link}"
            heads = re.findall(r"(?m)^#+ (.*)$", target.read_text(encoding="utf-8")) if anchor else []
            assert not anchor or anchor in [
                re.sub(r"[^a-z0-9 -]", "", head.lower()).replace(" ", "-") for head in heads
            ]


def test_the_test_command_is_the_one_that_ci_runs() -> None:
    assert "`make test`" in README
    assert "make check" in (ROOT / ".ci" / "run").read_text()
    recipe = re.search(r"^check:.*?\n\n", (ROOT / "Makefile").read_text(), re.DOTALL | re.MULTILINE)
    assert recipe is not None
    assert "$(MAKE) test" in recipe[0]
