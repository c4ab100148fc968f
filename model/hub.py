"""Checkpoints come and go: from a folder or a repository of the Hugging Face hub, and to one.

A repository holds the files of a checkpoint's folder (manifest.py). Only what the manifest lists and the card travel,
so a pickle that lies beside them is never fetched. The hub's own login, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE hold.

    HubError  the hub cannot be reached, or says no; its text is one sentence
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock
from httpx import HTTPError
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from .build import variant_of
from .cache import MANIFEST, settle, sha256
from .installed import PACKAGED, checkpoints_dir
from .manifest import CARD, CheckpointError, Manifest, open_manifest, read_manifest
from .verify import verify

LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"

Get = Callable[[Path, Collection[str]], None]
"""Brings the named files into a folder; what is there already is not brought again."""


class HubError(RuntimeError):
    """The hub cannot be reached, or refuses; `str(error)` is one sentence that says what to do."""


@dataclass(frozen=True)
class Pulled:
    """A checkpoint that is here now; `fetched` is false where the same one had been."""

    name: str
    folder: Path
    manifest: Manifest
    fetched: bool


def pull(source: str, to: Path | None = None) -> Pulled:
    """Bring a checkpoint here; it appears under its name when it is whole and verified, in place of an earlier one.

    What was fetched stays in a hidden folder beside it when the network fails, and the next call goes on from there.

    Args:
        source: a folder, or "owner/name" on the hub, with "@revision" where it is not the main branch.
        to: a new folder for it; by default its place among the pulled ones.

    Raises:
        CheckpointError: there is no such source, or it is damaged, of an unknown variant, or not safetensors.
        HubError: the hub cannot be reached, or refuses.
        FileExistsError: `to` is there already.
    """
    name, get = _source(source)
    if to is None and (name in ("", PACKAGED) or name[0] == "."):
        raise CheckpointError(f"{source} cannot be pulled under the name {name!r}: rename it, or say --to FOLDER")
    if to is not None and to.exists():
        raise FileExistsError(f"{to} exists already: name a new folder, or remove it first")
    folder = to or checkpoints_dir() / name
    begun = folder.with_name(f".{folder.name}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")) if to is None else contextlib.nullcontext():
        begun.mkdir(exist_ok=True)
        try:
            get(begun, [MANIFEST])
            manifest = open_manifest(begun)
            variant_of(manifest, begun)  # before gigabytes of it come
            same = _same(folder, manifest)
            if not same:
                get(begun, [*manifest.files, CARD])
                _keep_only(begun, {MANIFEST, CARD, *manifest.files})
                verify(begun)
        except CheckpointError as error:
            shutil.rmtree(begun)
            told = str(error).replace(str(begun), source.rstrip("/"))
            raise CheckpointError(f"{told} (nothing was kept of it)") from None
        except HubError:
            if not any(begun.iterdir()):
                begun.rmdir()
            raise
        if same:
            shutil.rmtree(begun)
        else:
            settle(begun, folder)
    return Pulled(name.replace("--", "/"), folder, manifest, not same)


def push(folder: Path, repo: str, *, private: bool = False, revision: str | None = None) -> str:
    """Put a checkpoint into a repository of the hub, which is made if it is not there.

    Args:
        folder: the checkpoint; it is verified first. Only its listed files, manifest and card are sent.
        repo: "owner/name".
        private: a repository that is made now is seen by its owner only.
        revision: a branch, which is made if it is not there; by default the main one.

    Returns:
        The address of the commit.

    Raises:
        CheckpointError: it is damaged, or `repo` is no such name.
        HubError: the hub cannot be reached, or refuses.
    """
    if not _is_name(repo):
        raise CheckpointError(f"{repo} is no name of a repository such as owner/name")
    manifest = verify(folder)
    api = HfApi()
    with _sentences(repo):
        api.create_repo(repo, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            revision=revision,
            commit_message=f"{manifest.variant} {manifest.version}",
            allow_patterns=[MANIFEST, CARD, *manifest.files],
        )
    return commit.commit_url


def _source(source: str) -> tuple[str, Get]:
    """Name of a source's folder among the pulled ones, and what brings its files."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder.resolve().name, partial(_copy, folder)
    repo, _, revision = source.partition("@")
    if not _is_name(repo):
        raise CheckpointError(f"{source} is neither a folder here nor a repository of the hub such as owner/name")
    return source.replace("/", "--"), partial(_download, repo, revision or "main")


def _is_name(repo: str) -> bool:
    try:
        validate_repo_id(repo)
    except HFValidationError:
        return False
    return "/" in repo


def _copy(source: Path, folder: Path, names: Collection[str]) -> None:
    for name in names:
        file, copy = source / name, folder / name
        if not file.is_file() or (copy.is_file() and sha256(copy) == sha256(file)):
            continue  # what is missing is found out when the whole is verified
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def _download(repo: str, revision: str, folder: Path, names: Collection[str]) -> None:
    with _sentences(repo):
        commit = HfApi().model_info(repo, revision=revision).sha  # without it, an old partial folder would be returned
        snapshot_download(repo, revision=commit, local_dir=folder, allow_patterns=list(names))


@contextlib.contextmanager
def _sentences(repo: str) -> Iterator[None]:
    """Say in one sentence what went wrong between us and the hub."""
    try:
        yield
    except GatedRepoError:
        raise HubError(f"{repo} is given on request only: ask for it on its page, then {LOG_IN}") from None
    except RepositoryNotFoundError:
        raise HubError(f"the hub has no {repo}, or it is private: check the name, or {LOG_IN}") from None
    except RevisionNotFoundError:
        raise HubError(f"{repo} has no such revision: name a branch, a tag or a commit of it") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise HubError(f"the hub does not let you do this with {repo}: {LOG_IN}, with the rights for it") from None
        if status < 500 and status not in (408, 429):
            raise HubError(f"the hub refuses {repo} ({status}): {error.server_message or error}") from None
        raise HubError(_away(repo, f"it answered {status}")) from error
    except (HTTPError, OSError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # a disk that is full or cannot be written
        raise HubError(_away(repo, type(error).__name__)) from error


def _away(repo: str, why: str) -> str:
    return (
        f"{repo} could not be reached on the hub, or the connection broke off ({why}): connect to the network and run "
        "the command again; what is whole is not sent again"
    )


def _same(folder: Path, manifest: Manifest) -> bool:
    """Whether this very checkpoint is there already, undamaged."""
    try:
        return read_manifest(folder) == manifest
    except CheckpointError:
        return False


def _keep_only(folder: Path, names: Collection[str]) -> None:
    """Remove what an earlier revision left, and what huggingface_hub noted down."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is inside a folder comes before the folder
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(folder).as_posix() not in names:
            path.unlink()
