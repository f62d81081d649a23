"""A network as a small drawing, for a page with many of them: SVG without Matplotlib, which takes 0.3 s each."""

from __future__ import annotations

from html import escape

from searchspace.arch import Arch
from searchspace.costs.network_cost import section_costs
from searchspace.figures import colour

BAR, GAP = 14, 3
NEUTRAL = "#888888"  # stem and head, on a light page and a dark one
UP, DOWN, TOP = 70, 40, 16  # pixels for channels, multiply-adds and the words above


def sketch(arch: Arch) -> str:
    """Channels (bars upwards), multiply-adds (downwards) and resolution (numbers) over depth, and what colours mean."""
    parts = section_costs(arch)
    kinds = ["stem", *(block.type for block in arch.blocks), "head"]
    widest = max(part.output[0] for part in parts[:-1])
    dearest = max(part.macs for part in parts) or 1
    drawn, before = [], 0
    for index, (kind, part) in enumerate(zip(kinds, parts, strict=True)):
        channels, side = part.output[0], part.output[1]
        is_head = index == len(parts) - 1
        up = 0.0 if is_head else UP * channels / widest
        down = DOWN * part.macs / dearest
        left, middle = index * (BAR + GAP), TOP + UP
        name = kind if kind in ("stem", "head") else f"block {index}: {kind}"
        shape = "" if is_head else f"{channels} channels, {side} px, "
        drawn.append(
            f'<path fill="{_colour(kind)}" d="M{left} {middle - up:.0f}h{BAR}V{middle + 2 + down:.0f}'
            f'h-{BAR}z"><title>{escape(f"{name}, {shape}{part.macs / 1e6:.2f} MFLOPs")}</title></path>'
        )
        if not is_head and side != before:
            drawn.append(f'<text x="{left}" y="11">{side}</text>')
            before = side
    width = len(parts) * (BAR + GAP)
    line = f'<path fill="none" stroke="currentColor" d="M0 {TOP + UP + 1}H{width}"/>'
    size = f'style="max-width:{width * 1.3:.0f}px" viewBox="0 0 {width} {TOP + UP + DOWN + 4}"'
    shown = f'<svg class="sketch" {size}>{"".join(drawn)}{line}</svg>'
    meaning = f"Up: output channels, at most {widest}; down: multiply-adds, at most {dearest / 1e6:.2f} million; "
    return f'{shown}<p class="note">{meaning}numbers: resolution in pixels. {_key(kinds)}</p>'


def _colour(kind: str) -> str:
    return NEUTRAL if kind in ("stem", "head") else colour(kind)


def _key(kinds: list[str]) -> str:
    return "".join(
        f'<span class="key" style="background:{_colour(kind)}"></span>{escape(kind)}'
        for kind in dict.fromkeys(kinds)
        if kind not in ("stem", "head")
    )
