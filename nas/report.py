"""`python -m nas.report RUN`: a run, running, finished or copied, as one page that needs no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from nas import figures, results, study
from nas.config import SearchConfig
from nas.folder import TABLE
from nas.importance import Importances, importances
from nas.trial import Outcome
from searchspace import command
from searchspace.document import plain
from searchspace.errors import InputError
from searchspace.latency import LatencyTable

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }
td, th { padding: .25rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
th { border-bottom: 2px solid #888 } td.text, th.text { text-align: left }
svg { max-width: 100%; height: auto } pre { background: #f6f6f6; padding: .7rem; overflow-x: auto }
.verdict { background: #eef4fa; padding: .6rem 1rem; border-left: 4px solid #1f6fb4 }
"""
COLUMNS = (
    "trial",
    "role",
    "outcome",
    "accuracy",
    "epochs",
    "MFLOPs",
    "MParams",
    "pred. ms",
    "ms",
    "alone ms",
    "images/s",
    "seconds",
    "network",
)
TEXT = {"role", "outcome", "network"}


def parser() -> command.Parser:
    p = command.Parser(prog="nas.report", description=__doc__)
    p.add_argument("run", type=Path, help="run folder of a search")
    return p


def main(arguments: Sequence[str]) -> int:
    run: Path = parser().parse_args(arguments).run
    stored = study.load(run)
    config = SearchConfig.load(run)
    trials = study.outcomes(stored)
    images = int(stored.user_attrs.get("validation_images", 0))
    ranked = study.ranked(stored)
    best = study.record(ranked[0]).arch if ranked else None
    drawn = figures.svg(figures.overview(trials, best))
    mattered = importances(trials)
    minimized = config.identity.minimize
    if minimized:
        volumes = study.hypervolumes(trials, minimized, config.budget)
        drawn += figures.svg(figures.tradeoff(trials, minimized, volumes))
    path = run / "report.html"
    try:
        path.write_text(page(run, config, trials, images, drawn, mattered), encoding="utf-8")
        results.write_csv(trials, run)
    except OSError as error:
        raise InputError(f"{run}: cannot be written ({error.strerror})") from None
    console = command.console()
    for line in results.findings(trials, images):
        console.print(line)
    if images:
        console.print(mattered.sentence)
    console.print(f"wrote {path} and {run / 'trials.csv'}")
    return 0


def page(
    run: Path, config: SearchConfig, trials: Sequence[Outcome], images: int, drawn: str, mattered: Importances
) -> str:
    """The whole page; everything that is shown is escaped."""
    identity, front = config.identity, results.front(trials)
    budget = f"{config.budget} at {config.space.network.resolution} px"
    sections = [
        f"<h1>{escape(run.name)}: {escape(config.space_name)} within {escape(budget)}</h1>",
        f'<p class="verdict">{"<br>".join(escape(line) for line in results.findings(trials, images))}</p>',
        drawn,
        "<h2>Best networks</h2>",
        table(row(t) for t in results.best_first(trials)[:10] if t.outcome == "complete"),
        *(["<h2>What nothing else beats</h2>", table(row(t) for t in front)] if front else []),
        "<h2>What mattered</h2>",
        weights(mattered),
        "<h2>All trials</h2>",
        table(row(t) for t in trials),
        "<h2>Failures</h2>",
        "".join(f"<p>trial {t.number}: {escape(t.measured['error'])}</p>" for t in trials if t.outcome == "failed")
        or "<p>None.</p>",
        "<h2>How to repeat it</h2>",
        f"<pre>{escape(config.conduct.command)}</pre>",
        "<p>One FLOP is one multiply-add of a convolution or linear layer. Accuracy is on the validation split of the "
        f"training images of {escape(identity.data.dataset)} after at most {identity.train.epochs} epochs; the test "
        "set was not read. Intervals are of 90 %. Milliseconds are of one image through the deployment network: "
        f"predicted from layer times{escape(device(run))}, measured while other trials ran, and of the best measured "
        "when nothing else ran.</p>",
        f"<pre>{escape(str(plain(identity.train)))}\nsampler {escape(identity.sampler)}, seed {identity.seed}</pre>",
    ]
    head = f'<meta charset="utf-8"><title>{escape(run.name)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(sections)}</body></html>\n'


def device(run: Path) -> str:
    """Which device's layer times the run predicts from, to follow "from layer times"; empty where from none."""
    path = run / TABLE
    return f" ({LatencyTable.load(path)})" if path.is_file() else ""


def weights(mattered: Importances) -> str:
    """The factors with their shares, as a figure and a table; one sentence where nothing can be said."""
    said = f"<p>{escape(mattered.sentence)}</p>"
    if not mattered.factors:
        return said
    rows = "".join(
        f'<tr><td class="text">{escape(f.factor)}</td><td>{f.share:.3f}</td><td>{f.low:.3f} to {f.high:.3f}</td></tr>'
        for f in mattered.factors
    )
    head = '<tr><th class="text">factor</th><th>share</th><th>90 % of resamples</th></tr>'
    meaning = (
        "<p>The share of the variance of accuracy that is lost when a factor's values are shuffled over trials.</p>"
    )
    return said + figures.svg(figures.importance(mattered)) + f"<table>{head}{rows}</table>" + meaning


def row(trial: Outcome) -> dict[str, str]:
    """A trial's cells, by column."""
    m = trial.measured
    speed, seconds = m.get("images_per_s"), m.get("seconds")
    predicted, beside, alone = (m.get(name) for name in ("predicted_ms", "latency_ms", "measured_ms"))
    cells = (
        str(trial.number),
        m.get("baseline") or trial.role,
        trial.outcome,
        "" if trial.accuracy is None else f"{trial.accuracy:.4f}",
        str(max(trial.curve, default=0)),
        f"{m['macs'] / 1e6:.1f}",
        f"{m['params'] / 1e6:.2f}",
        *("" if ms is None else f"{ms:.1f}" for ms in (predicted, beside, alone)),
        "" if speed is None else f"{speed:.0f}",
        "" if seconds is None else f"{seconds:.1f}",
        str(m["network"]),
    )
    return dict(zip(COLUMNS, cells, strict=True))


def table(rows: Iterable[dict[str, str]]) -> str:
    def cell(tag: str, name: str, text: str) -> str:
        kind = ' class="text"' if name in TEXT else ""
        return f"<{tag}{kind}>{escape(text)}</{tag}>"

    head = "".join(cell("th", name, name) for name in COLUMNS)
    body = "".join("<tr>" + "".join(cell("td", n, text) for n, text in cells.items()) + "</tr>" for cells in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


if __name__ == "__main__":
    command.run(main, "nas.report")
