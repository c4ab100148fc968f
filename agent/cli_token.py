"""`emox token`: who may reach the server, and who may not any more."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from .edge import AsJson
from .settings import load_settings

if TYPE_CHECKING:
    from .people import People, Token

app = typer.Typer(no_args_is_help=True, help=__doc__.partition(": ")[2].capitalize())


@app.command()
def new(user: Annotated[str, typer.Option("--user", help="Who its holder is.")], as_json: AsJson = False) -> None:
    """Make a token and show it, once. As soon as there is one, the server answers nobody without."""
    with _people() as people:
        token = people.new_token(user)
    print(json.dumps({"user": user, "token": token}) if as_json else token)


@app.command()
def model(as_json: AsJson = False) -> None:
    """Make a token for the model that `emox serve-model` serves, and show it, once, with the hash that lets it in."""
    from model.tokens import hash_of

    from .people import make_token

    token = make_token()
    if as_json:
        print(json.dumps({"token": token, "hash": hash_of(token)}))
    else:
        print(f"EMOX_MODEL_TOKEN={token}")
        print(f'in settings.toml where the model is served: model_tokens = ["{hash_of(token)}"]')


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """All tokens, by the beginning of their hash; the tokens themselves are kept nowhere."""
    with _people() as people:
        tokens = people.tokens()
    if as_json:
        print(json.dumps({"tokens": [_plain(token) for token in tokens]}))
        return
    table = Table("id", "user", "made", show_edge=False)
    for token in tokens:
        table.add_row(token.id, token.user, f"{token.made_at.astimezone():%Y-%m-%d %H:%M}")
    Console().print(table if tokens else "there are no tokens: the server answers this machine only")


@app.command()
def revoke(id: str, as_json: AsJson = False) -> None:
    """Make a token worthless, at once."""
    with _people() as people:
        token = people.revoke(id)
    print(
        json.dumps({"revoked": _plain(token)}) if as_json else f"the token {token.id} of {token.user} is worthless now"
    )


def _plain(token: Token) -> dict[str, str]:
    return {"id": token.id, "user": token.user, "made_at": token.made_at.isoformat()}


@contextlib.contextmanager
def _people() -> Iterator[People]:
    from .people import People

    with contextlib.closing(People(load_settings().home / "people.sqlite")) as people:
        yield people
