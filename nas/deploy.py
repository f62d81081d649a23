"""`python -m nas.deploy --budget 40MFLOPs --dataset path/to/images --out deploy`: from images to predictions.

Three commands in one: a search, the full training of its best network in RUN/trained, the export with ONNX and
predict.py. Stopped or killed, the same command carries on.
"""

from __future__ import annotations

from collections.abc import Sequence

from nas import export, search, train
from nas.run import search_options
from searchspace import command

EXAMPLE = "python -m nas.deploy --budget 40MFLOPs --dataset path/to/images --out deploy"
EPILOG = """All other options are those of nas.search; the full training has all images, whatever --images says. Once
it has begun, the search stays as it is; one that --time-limit has ended is taken as far as it came. Networks of space
mcu, as with --target, are exported for microcontrollers too."""


def parser() -> command.Parser:
    p = search_options.parser()
    p.prog, p.description, p.epilog, p.example = "nas.deploy", __doc__, EPILOG, EXAMPLE
    p.add_argument("--out", type=command.path, required=True, metavar="DIR", help="folder to write to")
    p.add_argument("--full-epochs", type=int, metavar="E", help="of the full training (default: digits 30, others 100)")
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)

    from nas.bundle import bundle
    from nas.full_training import training_folder
    from nas.run import deploy
    from nas.run.run import Run
    from nas.run.search import Search, carry_out_command

    if args.full_epochs is not None:
        deploy.check_epochs(args.full_epochs)
    bundle.require_onnx()
    args.command = search.command_line(deploy.search_words(arguments), args)
    begun = Search(args)  # refuses another search of the same run folder
    run = begun.folder
    trained = run / deploy.TRAINED
    deploy.check_dataset(begun.config)
    deploy.check_out(args.out, begun.config, run)
    if training_folder.is_folder(trained):
        if not args.quiet:
            command.console().print(f"the full training in {trained} has begun: the search stays as it is")
    else:
        if not args.dry_run:
            begun.check_budget()
            deploy.check_images(begun)
        code = carry_out_command(begun)
        if code or args.dry_run:
            return code
        if begun.config.identity.minimize and not args.quiet:
            command.console().print(deploy.describe_choice(Run.open(run)))
    config = Run.config_of(run)
    assert config is not None
    code = train.main(deploy.training_words(run, config.identity.data.location, args))
    if code or args.dry_run:
        return code
    return export.main([str(trained), "--out", str(args.out), *deploy.export_words(config)])


if __name__ == "__main__":
    command.run(main, "nas.deploy")
