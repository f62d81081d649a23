from __future__ import annotations

import re
from dataclasses import fields

import pytest

from searchspace.__main__ import main
from searchspace.blocks.blocks import all_options, stage_blocks
from searchspace.format.network import Stage, with_defaults
from searchspace.format.reference import SECTIONS, about, keys


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_told_with_what_it_accepts(section: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = [*all_options()] if section == "stage" else []
    assert [key.name for key in keys(section)] == [
        *(field.name for field in fields(SECTIONS[section]) if field.name != "options"),
        *own,
    ]
    assert all(key.accepted and key.default for key in keys(section))
    assert main(["keys", section]) == 0
    said = capsys.readouterr().out
    assert all(re.search(rf"│ {key.name} +│", said) for key in keys(section))
    assert about(section).splitlines()[0] in said


def test_a_stages_defaults_are_those_that_hold() -> None:
    told = {key.name: key.default for key in keys("stage")}
    assert told["expansion"] == (
        "1; bottleneck, fused_mbconv, convnext, universal, star: 4; resnext, faster: 2; "
        "inverted, mbconv: 6; ghost: 3; shuffle: 0.5"
    )
    assert told["kernel"] == "3; convnext, star: 7"
    assert (
        told["norm_at"] == "[expand, spatial, project]; convnext: [spatial]; star: [spatial, project]; faster: [expand]"
    )
    assert (told["block"], told["depth"]) == ("has to be given", "1")
    for block in stage_blocks():
        for name, choice in with_defaults(Stage(block).given).items():
            if isinstance(choice, (str, int, float)) and name not in ("block", "depth", "stride"):
                text = str(choice).lower() if isinstance(choice, (bool, str)) else f"{choice:g}"
                own = re.search(rf"\b{block}\b[^:;]*: ([^;]+)", told[name])
                assert text == (own[1] if own else told[name].partition(";")[0]), (block, name)


def test_all_sections_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{section}\n┏" in f"\n{said}" for section in SECTIONS)
    assert "{choice: [...]}" in said
    assert (
        "max_pool" not in said.split("schedule\n┏")[0].split("stage\n┏")[1].split("depth")[0]
    )  # no block of a stage's
