"""``centernetd check``: whether the configuration is valid, and this machine can run it."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from centernetd.cli.options import ConfigFile, Json, read_config
from centernetd.cli.output import print_table
from centernetd.commands.check import Probe, StreamSummary, probe_all, summarize, survey
from centernetd.commands.disclosure import LOGS, served
from centernetd.commands.probe import SourceProbe
from centernetd.errors import ConfigError
from centernetd.service import logs


def check(
    config: ConfigFile = None,
    base_dir: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, metavar="DIR", help="Validate it as if it were in DIR."
        ),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Open the sources, load the model, measure this machine."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Validate the configuration."""
    try:
        settings = read_config(config, base_dir)
    except ConfigError as error:
        if as_json:
            sentences = [logs.redactor()(sentence) for sentence in (str(error), *error.others)]
            print(json.dumps({"valid": False, "error": sentences[0], "errors": sentences}))
        raise
    streams, pages = summarize(settings), served(settings)
    notices, found = settings.notices(), None
    if probe:
        found, problems = probe_all(settings)
    else:
        problems, unsure = survey(settings)
        notices = (*notices, *unsure)
    sentences = [logs.redactor()(str(problem)) for problem in problems]
    if as_json:
        print(json.dumps(_document(streams, pages, notices, found, sentences), indent=2))
    else:
        _print_report(streams, pages, notices, found, sentences)
    raise typer.Exit(max((problem.exit_code for problem in problems), default=0))


def _document(
    streams: Sequence[StreamSummary],
    pages: str,
    notices: Sequence[str],
    found: Probe | None,
    problems: Sequence[str],
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "valid": True,
        "streams": [dataclasses.asdict(stream) for stream in streams],
        "pages": pages,
        "logs": LOGS,
        "notices": notices,
        "problems": problems,
    }
    if found is not None:
        document["probe"] = dataclasses.asdict(found)
        document["probe"]["disk"]["folder"] = str(found.disk.folder)
    return document


def _print_report(
    streams: Sequence[StreamSummary],
    pages: str,
    notices: Sequence[str],
    found: Probe | None,
    problems: Sequence[str],
) -> None:
    _print_streams(streams)
    _print_disclosures(streams, pages)
    for notice in notices:
        print(f"note: {notice}")
    if found is not None:
        _print_probe(found)
    for problem in problems:
        print(f"problem: {problem}")
    if not problems:
        print("OK" if found else "OK; --probe also opens the sources and runs the model")


def _print_streams(streams: Sequence[StreamSummary]) -> None:
    print_table(
        ("stream", "source", "policy", "record", "events"),
        (
            (
                stream.name,
                stream.source,
                stream.policy,
                f"{stream.record} ({stream.draw})" if stream.record else "never",
                stream.events or "never",
            )
            for stream in streams
        ),
    )


def _print_disclosures(streams: Sequence[StreamSummary], pages: str) -> None:
    """Print what leaves the streams; those of which the same is true together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for stream in streams:
        groups.setdefault(tuple(stream.leaves.sentences()), []).append(stream.name)
    print("what leaves this machine's memory:")
    for sentences, names in groups.items():
        print(f"- {', '.join(names)}")
        for sentence in sentences:
            print(f"    {sentence}")
    print(f"- {pages}")
    print(f"- {LOGS}")


def _print_probe(found: Probe) -> None:
    print_table(("stream", "found"), ((probe.stream, _seen(probe)) for probe in found.looks))
    for sentence in _sentences(found):
        print(sentence)


def _seen(probe: SourceProbe) -> str:
    if probe.problem or probe.skipped:
        return probe.problem or f"not probed: {probe.skipped}"
    rate = f"{probe.fps:.4g} frames/s" if probe.fps else "rate unknown"
    return f"{probe.codec}, {probe.width}x{probe.height}, {rate}"


def _sentences(found: Probe) -> Iterator[str]:
    for name, model in found.models.items():
        height, width = model.input_size
        labels = f"{model.labels} label{'' if model.labels == 1 else 's'}"
        network = f"{model.layout}, input {height}x{width}, {labels}"
        yield f"model {name}: {network}; runs on {model.backend}, because {model.reason}"
        if model.unbuilt:
            yield f"its plan is built at the next start, which can take minutes: {model.unbuilt}"
    if found.memory:
        yield (
            f"memory: the streams take at most about {found.memory / 1e6:.0f} MB, when all queues "
            "are full; the daemon and its model take about 200 MB more"
        )
    if (capacity := found.capacity) is None:
        return
    costs = capacity.costs
    parts = {"decode": costs.decode, "detect": costs.infer, "record": costs.record}
    shares = ", ".join(f"{name} {1000 * seconds:.1f}" for name, seconds in parts.items())
    yield f"a frame of {capacity.stream} costs, in milliseconds of one core: {shares}"
    yield (
        f"this machine ({capacity.cores} cores) handles about {capacity.frames_per_second:.0f} "
        f"such frames/s: enough for {capacity.fits} such streams at {capacity.fps:.4g} each; "
        f"the configured streams need {capacity.load:.0%} of it"
    )
    if capacity.days is not None:
        yield (
            f"recordings of cameras take {capacity.bytes_per_second / 1e3:.0f} kB/s: about "
            f"{capacity.days:.1f} days are kept, limited by {capacity.limit} ({found.disk.folder})"
        )
