"""Files that are wrong as text: twice the same, too large, too deep, of odd characters and numbers. One line each.

`test_malformed.py` changes values; here the YAML itself is strange, and what `show` says of it is what a person reads.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from searchspace import Arch, InputError, Space
from searchspace.__main__ import main
from searchspace.document import Dumper, Loader, write_yaml
from searchspace.limits import LARGEST

NETWORK = """\
resolution: 64
stem: {width: 16}
schedule: {kind: stagewise, widths: [16, 32]}
stages:
- {block: mbconv, depth: 1}
- {block: bottleneck, depth: 2, stride: 2}
head: {width: 64}
"""
ARCH = """\
resolution: 32
stem: {width: 16}
blocks:
- {type: bottleneck, in_channels: 16, hidden: 8, out_channels: 32, shortcut: projection}
- {type: mbconv, in_channels: 32, hidden: 64, out_channels: 32, groups: 64, se: {channels: 8}}
"""
TOP, LAST = "resolution: 64\n", "stride: 2"
PIECEWISE = "{kind: piecewise, start: 16, end: 32, slopes: [1.0e+308, 1.0e+308]}"
QUANTISED = "{kind: quantised, start: 24, increment: 1.0e+308}"

# what is replaced, by what, and what the refusal says
CHANGES: list[tuple[str, str, str]] = [
    # said twice
    (TOP, TOP + "resolution: 128\n", r":2: resolution: written twice"),
    (TOP, TOP + "defaults: {kernal: 3}\n", r":2: defaults\.kernal: no such field; did you mean kernel\?"),
    (TOP, TOP + '"resolution": 32\n', r":2: resolution: written twice"),
    ("depth: 2,", "depth: 2, depth: 3,", r":6: stage2\.depth: written twice"),
    ("stem: {", "<<: {in_channels: 1}\n<<: {in_channels: 3}\nstem: {", r":3: <<: written twice"),
    # too large
    ("depth: 1}", "depth: 1000000000}", r":5: stage1: depth: at most 1,000, not 1000000000"),
    ("depth: 1}", "depth: 999}", r"stages: at most 1,000 blocks, not 1001"),
    (TOP, TOP + "depth_mult: 1.0e+308\n", r"depth_mult: above 0 and at most 1,000, not 1e\+308"),
    (TOP, TOP + "width_mult: 1.0e+300\n", r"width_mult: above 0 and at most 1,000"),
    (TOP, TOP + "width_mult: 999.0\n", r"hidden: at most 65,536"),
    (TOP, TOP + "width_mult: {fit: [0.1, 1.0e+300]}\n", r"width_mult: .* ≤ 1,000 is accepted"),
    (TOP, TOP + "num_classes: 1000000000000000\n", r"num_classes: at most 1,000,000"),
    (TOP, f"resolution: {10**18}\n", r"resolution: at most 65,536"),
    (TOP, f"resolution: {'9' * 6001}\n", r"not YAML: .*6001 digits"),
    ("widths: [16, 32]", "widths: [16, 1000000000000]", r"widths: above 0 and at most 65,536"),
    ("widths: [16, 32]", "widths: [16, 32], divisor: 1000000000000", r"divisor: at most 65,536"),
    ("widths: [16, 32]", "widths: [16, 32], min_width: 70000", r"min_width: at most 65,536"),
    ("{kind: stagewise, widths: [16, 32]}", PIECEWISE, r":3: schedule: slopes: numbers from 0 to 1,000"),
    ("{kind: stagewise, widths: [16, 32]}", QUANTISED, r":3: schedule: end and increment: at most 65,536"),
    (LAST, "stride: 2000000000", r"stride: at most 255"),
    (LAST, LAST + ", kernel: 99999999999", r"kernel: at most 255"),
    (LAST, LAST + ", dilation: 7000000000", r"dilation: at most 255"),
    (LAST, LAST + ", group_width: 7000000000", r"group_width: at most 65,536"),
    (LAST, LAST + ", expansion: 5.0e-324", r"expansion: from 0\.01 to 1,000"),
    ("head: {", "head: {norm: {eps: 1.0e+30}, ", r"head\.norm: eps: above 0 and at most 1"),
    ("- {block: mbconv, depth: 1}\n", "- {block: mbconv}\n" * 40_000, r"larger than 500,000 bytes"),
    # too deep, and what aliases make of a short file
    (TOP, f"resolution: {'[' * 5000}{']' * 5000}\n", r"nested deeper than 20 levels"),
    (TOP, f"resolution: {'{a: ' * 300}1{'}' * 300}\n", r":1: nested deeper than 20 levels"),
    (TOP, f"resolution: {'{choice: [' * 30}1{']}' * 30}\n", r"nested deeper than 20 levels"),
    (TOP, "resolution: &a [*a]\n", r"nested deeper than 20 levels"),
    ("{width: 64}", "&h {width: *h}", r":7: nested deeper than 20 levels"),
    (
        TOP,
        "a0: &a0 [1, 1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 18)),
        "100,000 values",
    ),
    (
        TOP,
        "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}\n" for i in range(1, 18)),
        "100,000",
    ),
    (TOP, "a0: &a0 {}\n" + "".join(f"a{i}: &a{i} {{<<: *a{i - 1}, y: *a{i - 1}}}\n" for i in range(1, 18)), "100,000"),
    (TOP, "resolution: *nothing\n", r":1: not YAML: found undefined alias"),
    # odd characters
    (TOP, '"reso\\nlution": 64\n', r":1: reso\\nlution: no such field"),
    (TOP, '"\\e[31mred": 64\n', r":1: \\x1b\[31mred: no such field"),
    (TOP, "résolution: 64\n", r":1: résolution: no such field"),
    (TOP, "resolution: ６４\n", r":1: resolution: a valid integer, not \"６４\""),
    ("mbconv", "mbсonv", r":5: stage1\.block: .*not \"mbсonv\""),
    ("mbconv", '"mb\\0conv"', r":5: stage1\.block: "),
    ("mbconv", '"\\ud800"', r"no plain data"),
    ("mbconv", "m" * 100_000, r":5: stage1\.block: "),
    # numbers that another YAML would take for other numbers, and what is none
    (TOP, "resolution: 0100\n", r":1: resolution: a valid integer, not \"0100\""),
    (TOP, "resolution: 1:04\n", r"resolution: a valid integer, not \"1:04\""),
    (TOP, "resolution: 0x40\n", r"resolution: a valid integer, not \"0x40\""),
    (TOP, "resolution: 6_4\n", r"resolution: a valid integer, not \"6_4\""),
    (TOP, "resolution: 2020-01-01\n", r"resolution: a valid integer, not \"2020-01-01\""),
    ("depth: 1}", "depth: 1, kernal: 3}", r":5: stage1\.kernal: no such field; did you mean kernel\?"),
    (
        "depth: 1}",
        "depth: {choices: [1, 2]}}",
        r":5: stage1\.depth: a valid integer.*; {choice: \[\.\.\.\]} frees a value",
    ),
    (LAST, "stride: 2.0", r":6: stage2\.stride: a valid integer, not 2\.0"),
    ("depth: 1}", "depth: yes}", r":5: stage1\.depth: a valid integer, not true"),
    (TOP, TOP + "drop_path: .nan\n", r"drop_path: only plain data and finite numbers"),
    (TOP, TOP + "width_mult: -.inf\n", r"width_mult: only plain data and finite numbers"),
    ("depth: 1}", "depth: {choice: [1, .nan]}}", r"stage1\.depth: only plain data"),
    # not the data that a network is made of
    ("mbconv", "!!binary aGVsbG8=", r"stage1\.block: only plain data"),
    ("[16, 32]", "!!set {16, 32}", r"schedule\.widths: only plain data"),
    ("[16, 32]", "!!python/tuple [16, 32]", r":3: not YAML"),
    (TOP, "resolution: !!python/object/apply:os.system ['true']\n", r":1: not YAML"),
    (TOP, "64: resolution\n", r":1: 64: no such field"),
    (TOP, "[1, 2]: 64\n", r":1: not YAML: found unhashable key"),
    ("{block: mbconv, depth: 1}", "[{block: mbconv, depth: 1}]", r":5: stage1: an object"),
    ("{width: 64}", "{width: {width: {width: 64}}}", r":7: head\.width: a valid integer"),
    ("head", "---\nhead", r":7: not YAML: but found another document"),
    ("- {block: m", "\t- {block: m", r":5: not YAML"),
]
ARCH_CHANGES = [
    ("hidden: 8,", "hidden: 8, hidden: 12,", r":4: blocks\.0\.hidden: written twice"),
    ("hidden: 8,", "hidden: 1000000000,", r":4: blocks\.0: hidden: at most 65,536"),
    ("channels: 8", "channels: 80000000000", r"blocks\.1\.se: channels: at most 65,536"),
    ("resolution: 32\n", "resolution: 32\nhead: {output: top}\n", r":2: head\.output: 'logits', 'features' or 'map'"),
    (
        "{channels: 8}",
        "{channels: 8, norm: true}, norm: {kind: group, groups: 8}",
        r"blocks\.1: norm\.groups: 8 leaves one",
    ),
    ("groups: 64", "groups: 64, drop_path_mode: column", r":5: blocks\.1\.drop_path_mode: 'row' or 'batch'"),
    (
        "- {type: b",
        "- {type: max_pool, in_channels: 16, hidden: 16, out_channels: 16}\n" * 999 + "- {type: b",
        "at most 1,000",
    ),
    ("blocks:", "blocks: ~\nx:", r":3: blocks: a valid array, not null"),
]
BYTES = {
    "latin-1": NETWORK.replace("mbconv", "mbcönv").encode("latin-1"),
    "utf-16": NETWORK.encode("utf-16"),
    "zeros": b"\0" * 1000,
    "gzip": b"\x1f\x8b\x08\x00" + bytes(range(256)),
    "empty": b"",
    "comment": b"# nothing\n",
    "scalar": b"42\n",
}


def refused(path: Path, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        main(["show", str(path)])
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value) or path.name in str(error.value)
    for load in (Space.load, Arch.load):
        with pytest.raises(InputError):
            load(path)


@pytest.mark.parametrize("change", CHANGES, ids=[change[2][:40] for change in CHANGES])
def test_a_network_s_file(change: tuple[str, str, str], tmp_path: Path) -> None:
    old, new, says = change
    assert old in NETWORK
    path = tmp_path / "bad.yaml"
    path.write_text(NETWORK.replace(old, new, 1), encoding="utf-8")
    refused(path, says)


@pytest.mark.parametrize("change", ARCH_CHANGES, ids=[change[2][:40] for change in ARCH_CHANGES])
def test_an_arch_s_file(change: tuple[str, str, str], tmp_path: Path) -> None:
    old, new, says = change
    assert old in ARCH
    path = tmp_path / "bad.yaml"
    path.write_text(ARCH.replace(old, new, 1), encoding="utf-8")
    refused(path, says)


@pytest.mark.parametrize("name", BYTES)
def test_what_is_no_text_or_no_network(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(BYTES[name])
    refused(path, "not UTF-8|not YAML|an object|a mapping")


@pytest.mark.parametrize("name", ["/dev/zero", "folder.yaml", "none.yaml", f"{'a' * 3000}.yaml", "a" * 3000])
def test_what_is_no_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    path = str(tmp_path / name)
    with pytest.raises(InputError, match=r"larger than|cannot be read|no such file"):
        main(["show", path])
    with pytest.raises(InputError, match=r"larger than|a file, or one of"):
        main(["describe", path, "--budget", "300MFLOPs"])


def test_a_name_too_long_for_a_file_is_a_name() -> None:
    with pytest.raises(InputError, match=r"no such name in the zoo"):
        main(["show", "a" * 3000])


def test_a_command_says_it_in_one_line_and_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(NETWORK.replace("depth: 1}", "depth: 1000000000}"))
    done = subprocess.run([sys.executable, "-m", "searchspace", "show", path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"searchspace: {path.name}:5: stage1: depth: at most {LARGEST['depth']:,}, not 1000000000\n"


def test_what_people_write_is_accepted(tmp_path: Path) -> None:
    """Byte order marks, Windows line ends, an alias for a stage, a merge, and 1e-6 without a point."""
    path = tmp_path / "good.yaml"
    text = NETWORK.replace("{block: mbconv, depth: 1}", "&s {block: mbconv, depth: 1, layer_scale: 1e-6}")
    text = text.replace("{block: bottleneck, depth: 2, stride: 2}", "{<<: *s, depth: 2, stride: 2}")
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    network = Space.load(path).network
    assert [(stage.block, stage.depth, stage.layer_scale) for stage in network.stages] == [
        ("mbconv", 1, 1e-6),
        ("mbconv", 2, 1e-6),
    ]


@pytest.mark.parametrize(
    "thing", ["1e9", "509e8830", "0100", "1:04", "6_4", "yes", "2020-01-01", "1.", 1e-6, 1.5, 1e22, -3, True, None, ""]
)
def test_what_is_written_is_read_back(thing: object, tmp_path: Path) -> None:
    write_yaml(tmp_path / "a.yaml", {"thing": thing})
    with (tmp_path / "a.yaml").open() as file:
        assert yaml.load(file, Loader=Loader) == {"thing": thing}
    assert yaml.load(yaml.dump(thing, Dumper=Dumper), Loader=Loader) == thing
