from __future__ import annotations

from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from shoal.engine.tokenizer import chat_template
from shoal.engine.tokenizer.chat_template import ChatTemplate
from shoal.errors import InvalidRequest, UnsupportedModel

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' "
    "+ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS_STYLE = """
{%- if tools %}
    {{- "<|im_start|>system\\n# Tools\\n" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "tool" %}
        {{- "<tool_response>" + message.content + "</tool_response>\\n" }}
        {%- continue %}
    {%- endif %}
    {{- "<|im_start|>" + message.role + "\\n" }}
    {%- generation %}
    {{- message.content }}
    {%- endgeneration %}
    {%- for call in message.tool_calls or [] %}
        {{- '<tool_call>{"name": "' ~ call.function.name ~ '", "arguments": ' }}
        {{- call.function.arguments | tojson }}
        {{- "}</tool_call>" }}
    {%- endfor %}
    {{- "<|im_end|>\\n" }}
{%- endfor %}
{%- set ns = namespace(last="") %}
{%- for message in messages | reverse %}
    {%- if message.role == "user" %}{% set ns.last = message.content %}{% break %}{% endif %}
{%- endfor %}
{{- "[" ~ ns.last | trim ~ "]" }}
{%- if add_generation_prompt %}
    {{- bos_token + "<|im_start|>assistant\\n" }}
{%- endif %}
"""
MESSAGES = [
    {"role": "system", "content": 'Be <b>brief</b> & "polite".'},
    {"role": "user", "content": "  Wie ist das Wetter in Zürich? 🎉 "},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "1",
                "type": "function",
                "function": {"name": "weather", "arguments": {"city": "Zürich", "days": 2}},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "12 °C"},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "it's <ok>",
            "parameters": {"b": 1, "a": []},
        },
    }
]


@pytest.mark.parametrize("source", [CHATML, TOOLS_STYLE])
@pytest.mark.parametrize("tools", [None, TOOLS])
def test_it_renders_what_transformers_renders(
    source: str, tools: list[dict[str, Any]] | None
) -> None:
    messages = MESSAGES if source is TOOLS_STYLE else MESSAGES[:2]
    (expected,), _ = render_jinja_template(
        conversations=[messages],
        chat_template=source,
        tools=tools,
        add_generation_prompt=True,
        bos_token="<s>",
    )
    template = ChatTemplate(source, special_tokens={"bos_token": "<s>"})
    assert template.render(messages, tools=tools) == expected


def render(source: str, content: Any = "hi", **options: Any) -> str:
    template = ChatTemplate(source, special_tokens={"eos_token": "</s>"})
    return template.render([{"role": "user", "content": content}], **options)


def test_variables_of_the_template() -> None:
    assert render("{{ eos_token }}{{ enable_thinking }}", enable_thinking=False) == "</s>False"
    assert render("{{ add_generation_prompt }}", add_generation_prompt=False) == "False"
    assert render("{{ messages | length }}", messages=[], self=1) == "1"
    assert len(render("{{ strftime_now('%Y-%m-%d') }}")) == 10


def test_tools_use_their_own_template_where_there_is_one() -> None:
    template = ChatTemplate("plain", tool_use_source="tools", special_tokens={})
    assert template.render([]) == "plain"
    assert template.render([], tools=TOOLS) == "tools"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content }}",
        "{% set content = messages[0]['content'] %}{{ content }}",
    ],
)
def test_text_parts_become_one_text_where_the_template_wants_text(source: str) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert render(source, parts) == "a\nb"
    assert render(source, "c") == "c"
    assert render(source, None) == ""


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}",
        "{% for m in messages %}{% set c = m['content'] %}{% for p in c %}[{{ p['text'] }}]"
        "{% endfor %}{% endfor %}",
    ],
)
def test_parts_stay_parts_where_the_template_loops_over_them(source: str) -> None:
    assert (
        render(source, [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]) == "[a][b]"
    )
    assert render(source, "ab") == "[ab]"


def test_a_template_that_tells_text_from_parts_gets_what_was_sent() -> None:
    source = (
        "{% set c = messages[0].content %}{% if c is string %}text {{ c }}"
        "{% else %}{% for p in c %}part {{ p.text }}{% endfor %}{% endif %}"
    )
    assert render(source, "a") == "text a"
    assert render(source, [{"type": "text", "text": "a"}]) == "part a"


def test_parts_that_are_not_text_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[0\].*'image_url'.*only text parts"):
        render(CHATML, [{"type": "image_url", "image_url": {"url": "x"}}])


def test_arguments_of_tool_calls_are_parsed() -> None:
    """The API sends them as JSON text, templates take them as an object."""
    as_text = [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}],
        }
    ]
    template = ChatTemplate(
        "{{ messages[0].tool_calls[0].function.arguments.a + 1 }}", special_tokens={}
    )
    assert template.render(as_text) == "2"
    assert as_text[0]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'  # type: ignore[index]
    as_text[0]["tool_calls"][0]["function"]["arguments"] = "{"  # type: ignore[index]
    with pytest.raises(InvalidRequest, match="arguments of 'f' are not JSON"):
        template.render(as_text)


def test_tool_calls_in_another_form_are_refused_or_left_to_the_template() -> None:
    template = ChatTemplate("{{ messages[0].tool_calls[0] }}", special_tokens={})
    with pytest.raises(InvalidRequest, match=r"messages\[0\]\.tool_calls is not a list"):
        template.render([{"role": "assistant", "tool_calls": "f()"}])
    assert template.render([{"role": "assistant", "tool_calls": ["f()"]}]) == "f()"


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].content + 1 }}", "refused the messages"),
        ("{{ messages[0].role.__class__.__mro__ }}", "refused the messages"),
        ("{{ messages.append(1) }}", "refused the messages"),
        ("{% for i in range(10000000) %}{% endfor %}", "refused the messages"),
        ("{{ nothing.there }}", "refused the messages"),
    ],
)
def test_what_a_template_refuses_is_the_clients_mistake(source: str, complaint: str) -> None:
    with pytest.raises(InvalidRequest, match=complaint) as refusal:
        render(source)
    assert refusal.value.param == "messages"


def test_what_a_template_writes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_MAX_PROMPT_CHARS", 100)
    with pytest.raises(InvalidRequest, match="longer than 100 characters"):
        render(CHATML, "x" * 100)


def test_a_broken_template_is_refused_when_the_model_loads() -> None:
    with pytest.raises(UnsupportedModel, match="chat template is broken"):
        ChatTemplate("{% for %}", special_tokens={})
