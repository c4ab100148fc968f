"""`emox model`: the model's checkpoints: which are here, whether they are whole, and how they come and go."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .edge import AsJson, clean_stdout, fail
from .settings import load_settings

app = typer.Typer(no_args_is_help=True, help=__doc__.partition(": ")[2].capitalize())

err = Console(stderr=True)

Checkpoint = Annotated[str, typer.Argument(help="`packaged`, the name of a pulled one, or a folder.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """The checkpoints of this machine, whether each is whole, and which one the agent uses."""
    from model.installed import installed

    with _refusing() as out:
        rows = installed(load_settings().checkpoint)
        if as_json:
            _print({"checkpoints": [asdict(row) | {"intact": not row.problem} for row in rows]}, out)
            return
        table = Table("", show_edge=False)
        for column in ("name", "variant", "version", "phase", "reads", "MB", "whole"):
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(
                "*" if row.used else "",
                escape(row.name),
                escape(row.variant + (", merged" if row.merged else "")),
                escape(row.version),
                escape(row.phase),
                ", ".join(row.modalities),
                f"{row.size_bytes / 1e6:.0f}",
                escape(row.problem) or "yes",
            )
        Console(file=out).print(table)


@app.command()
def pull(
    source: Annotated[str, typer.Argument(help="owner/name[@revision] on the Hugging Face hub, or a folder.")],
    to: Annotated[Path | None, typer.Option(help="A new folder for it, instead of a place under its name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a checkpoint and verify it; it is used as EMOX_CHECKPOINT=NAME. What broke off goes on where it was."""
    with _refusing() as out:
        from model.hub import pull

        with err.status(f"fetching {escape(source)} ..."):
            pulled = pull(source, to)
        facts = {"name": str(to) if to else pulled.name, "folder": str(pulled.folder), "fetched": pulled.fetched}
        if as_json:
            _print(facts | {"variant": pulled.manifest.variant, "version": pulled.manifest.version}, out)
        else:
            came = "is here now" if pulled.fetched else "was here already"
            print(f"{facts['name']} {came}: {pulled.manifest.variant} {pulled.manifest.version}", file=out)


@app.command()
def push(
    folder: Checkpoint,
    repo: Annotated[str, typer.Argument(help="owner/name on the Hugging Face hub; it is made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="If it is made now: seen by its owner only.")] = False,
    revision: Annotated[str | None, typer.Option(help="A branch; it is made if it is not there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Verify a checkpoint and put it on the hub: its listed files, manifest and card, nothing else."""
    with _refusing() as out:
        from model.hub import push
        from model.installed import find

        with err.status(f"sending to {escape(repo)} ..."):
            url = push(find(folder), repo, private=private, revision=revision)
        if as_json:
            _print({"repo": repo, "commit": url}, out)
        else:
            print(url, file=out)


@app.command()
def verify(
    folder: Annotated[str | None, typer.Argument(help="A folder or a name; by default the one in use.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a checkpoint file by file: hashes, and that every tensor fits the variant. Exits 2 where one does not."""
    with _refusing() as out:
        from model.installed import PACKAGED, find
        from model.verify import examine

        checkpoint = find(folder or load_settings().checkpoint or PACKAGED)
        checks = examine(checkpoint)
        bad = [check for check in checks if check.problem]
        if as_json:
            files = [asdict(check) for check in checks]
            _print({"folder": str(checkpoint), "intact": not bad, "files": files}, out)
        else:
            table = Table("file", "bytes", "sha256", "tensors", "whole", show_edge=False)
            for check in checks:
                cells = (check.name, f"{check.size_bytes:,}", check.sha256[:12], str(check.n_tensors or ""))
                table.add_row(*map(escape, cells), "no" if check.problem else "yes")
            Console(file=out).print(table)
        if bad:
            more = f" ({len(bad)} files are bad)" if len(bad) > 1 else ""
            fail(2, f"{checkpoint / bad[0].name} {bad[0].problem}{more}")


@app.command()
def export(
    folder: Checkpoint,
    to: Annotated[Path, typer.Option(help="A new folder.")],
    merged: Annotated[
        bool, typer.Option("--merged", help="With the language model, the adapters folded in: for transformers.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a checkpoint to a new folder, as it is or merged with its language model."""
    with _refusing() as out:
        from model.installed import find
        from model.manifest import open_manifest

        checkpoint = find(folder)
        open_manifest(checkpoint)  # what is not here is not fetched from the hub
        if merged:
            from model.export import export_merged

            with err.status("merging ..."):
                manifest = export_merged(checkpoint, to, load_settings().weights)
        else:
            from model.hub import pull

            manifest = pull(str(checkpoint), to).manifest
        if as_json:
            facts = {"folder": str(to), "variant": manifest.variant, "version": manifest.version}
            _print(facts | {"merged": manifest.merged, "files": manifest.files}, out)
        else:
            print(f"{to}: {manifest.variant} {manifest.version}{', merged' if manifest.merged else ''}", file=out)


def _print(document: dict[str, Any], out: Any) -> None:
    print(json.dumps(document, ensure_ascii=False), file=out)


@contextlib.contextmanager
def _refusing() -> Iterator[Any]:
    """Clean standard output; a checkpoint that cannot be used, or a folder in the way, is the caller's to mend."""
    from model.manifest import CheckpointError

    with clean_stdout() as out:
        try:
            yield out
        except (CheckpointError, FileExistsError) as error:
            fail(2, str(error))
