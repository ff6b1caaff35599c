"""`shoal chat`: talk to a running server from the terminal."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from shoal.errors import RequestError

if TYPE_CHECKING:  # httpx takes a quarter of a second, and `shoal --help` needs none of it
    from .chat_client import ChatClient, Message

COMMANDS = """\
  /reset   forget the conversation
  /help    show this list
  /exit    leave (Ctrl-D does too)
Ctrl-C stops an answer that is being written."""


class Conversation:
    """The messages so far, and how the next answer is made.

    Invariant: after each turn `messages` alternates user and assistant, behind an optional
    system message; a turn that failed leaves no trace, one that was stopped keeps what came.
    """

    def __init__(
        self,
        client: ChatClient,
        model: str,
        *,
        system: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
    ) -> None:
        self._client = client
        self.model = model
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._opening: list[Message] = [{"role": "system", "content": system}] if system else []
        self.messages: list[Message] = list(self._opening)

    def reset(self) -> None:
        self.messages = list(self._opening)

    def ask(self, text: str) -> None:
        """Write the answer to stdout as it arrives. Ctrl-C stops the answer, not the program."""
        asked: list[Message] = [*self.messages, {"role": "user", "content": text}]
        pieces: list[str] = []
        answer = self._client.stream(
            self.model, asked, temperature=self._temperature, max_tokens=self._max_tokens
        )
        try:
            with closing(answer):
                for piece in answer:
                    pieces.append(piece)
                    sys.stdout.write(piece)
                    sys.stdout.flush()
        except KeyboardInterrupt:
            typer.secho(" (stopped)", dim=True, nl=False)
        sys.stdout.write("\n")
        if pieces:
            self.messages = [*asked, {"role": "assistant", "content": "".join(pieces)}]


def chat(
    url: Annotated[
        str, typer.Option(metavar="URL", envvar="SHOAL_URL", help="Address of the server.")
    ] = "http://127.0.0.1:8000",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Model to talk to.", show_default="the first one the server lists"
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="System message: how the model should behave."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            min=0.0,
            max=2.0,
            help="0 always takes the most likely token.",
            show_default="the server's",
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Longest answer, in tokens.", show_default="no bound"
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY", envvar="SHOAL_API_KEY", help="Key for a server that asks for one."
        ),
    ] = None,
) -> None:
    """Chat with a running server: Shoal, or any other with the OpenAI API.

    Text from a pipe is one question, and the answer is all that is printed:

    [bold]echo "Why is the sky blue?" | shoal chat[/bold]
    """
    from .chat_client import ChatClient

    with ChatClient(url, api_key=api_key) as client:
        conversation = Conversation(
            client,
            model or _first_model(client),
            system=system,
            temperature=temperature,
            max_tokens=max_tokens,
        )
        if sys.stdin.isatty():
            _talk(conversation)
        else:
            conversation.ask(sys.stdin.read().strip())


def _first_model(client: ChatClient) -> str:
    names = client.model_names()
    if not names:
        raise RequestError(f"{client.url} lists no model; name one with --model")
    return names[0]


def _talk(conversation: Conversation) -> None:
    """Read, answer, repeat until /exit or the end of input."""
    import readline  # noqa: F401  (gives input() a history and editing keys)

    typer.secho(f"Chatting with {conversation.model}. /help lists the commands.", dim=True)
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:
            typer.secho(" (/exit leaves)", dim=True)
            continue
        match text:
            case "":
                continue
            case "/exit" | "/quit":
                return
            case "/reset":
                conversation.reset()
                typer.secho("The conversation is forgotten.", dim=True)
            case "/help":
                typer.echo(COMMANDS)
            case _ if text.startswith("/"):
                typer.secho(f"There is no command {text.split()[0]}.\n{COMMANDS}", dim=True)
            case _:
                try:
                    conversation.ask(text)
                except RequestError as error:
                    typer.secho(f"Error: {error}", fg=typer.colors.RED, err=True)
