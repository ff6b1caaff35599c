"""Renders a conversation with the model's own Jinja template, the way `transformers` does.

The template comes with the model, the messages from the client. Templates run in Jinja's
immutable sandbox, and what they write is bounded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shoal.errors import InvalidRequest, UnsupportedModel

from .chat_messages import ContentStyle, prepare_messages

_MAX_PROMPT_CHARS = 16 * 1024 * 1024


class ChatTemplate:
    """A compiled chat template, and a second one for requests with tools if the model has it.

    `special_tokens` ("bos_token", "eos_token", ...) are variables of the template.
    Raises UnsupportedModel when the source is not valid Jinja.
    """

    def __init__(
        self,
        source: str,
        *,
        tool_use_source: str | None = None,
        special_tokens: Mapping[str, str],
    ) -> None:
        self._default = _Compiled(source)
        self._tool_use = _Compiled(tool_use_source) if tool_use_source else self._default
        self._special_tokens = dict(special_tokens)

    def render(
        self,
        messages: list[dict[str, Any]],
        /,
        *,
        tools: list[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **template_kwargs: Any,
    ) -> str:
        """The prompt text. Raises InvalidRequest with the template's own complaint."""
        compiled = self._tool_use if tools else self._default
        variables = {
            **self._special_tokens,
            **template_kwargs,
            "messages": prepare_messages(messages, compiled.content_style),
            "tools": tools,
            "documents": template_kwargs.get("documents"),
            "add_generation_prompt": add_generation_prompt,
        }
        return compiled.render(variables)


class _Compiled:
    """One template source, compiled once, and how it wants message contents."""

    def __init__(self, source: str) -> None:
        environment = _environment()
        try:
            self.content_style = _content_style(environment.parse(source))
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise UnsupportedModel(f"the model's chat template is broken: {error}") from error

    def render(self, variables: dict[str, Any]) -> str:
        pieces = []
        num_chars = 0
        try:
            for piece in self._template.generate(variables):
                num_chars += len(piece)
                if num_chars > _MAX_PROMPT_CHARS:
                    raise InvalidRequest(
                        f"the rendered chat prompt is longer than {_MAX_PROMPT_CHARS} characters",
                        param="messages",
                    )
                pieces.append(piece)
        except InvalidRequest:
            raise
        except Exception as error:
            # A template is a program: it can raise anything, and only these messages made it.
            raise InvalidRequest(
                f"the model's chat template refused the messages: {error}", param="messages"
            ) from error
        return "".join(pieces)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[LoopControls, _GenerationTag]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class _GenerationTag(Extension):
    """`{% generation %}...{% endgeneration %}` marks training targets: here it renders its body."""

    tags = {"generation"}  # noqa: RUF012 (Jinja declares it as an instance variable)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes for HTML, which no model was trained on."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout)


def _content_style(template: nodes.Template) -> ContentStyle:
    """Whether the template loops over the parts of a message's content, or takes it as text."""
    aliases = {
        assign.target.name
        for assign in template.find_all(nodes.Assign)
        if isinstance(assign.target, nodes.Name) and _reads_content(assign.node)
    }
    loops_over_content = any(
        _reads_content(loop.iter)
        or (isinstance(loop.iter, nodes.Name) and loop.iter.name in aliases)
        for loop in template.find_all(nodes.For)
    )
    if not loops_over_content:
        return ContentStyle.TEXT
    tests_for_text = any(test.name == "string" for test in template.find_all(nodes.Test))
    return ContentStyle.TEXT_OR_PARTS if tests_for_text else ContentStyle.PARTS


def _reads_content(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Getattr):
        return node.attr == "content"
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    return False
