#!/usr/bin/env python3
"""Renders the chat templates below with transformers and writes tests/data/chat_templates.json.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install transformers jinja2 numpy
    /tmp/venv/bin/python tools/chat_templates.py

The templates are written for these tests, in the style of the families that they are named after: they use the constructs that
those families' templates use. Nothing else needs this script; the tests read the JSON.
"""

import datetime
import json
import pathlib

from transformers.utils import chat_template_utils

NOW = 1_795_267_899  # 2026-11-21 13:31:39 UTC


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)


chat_template_utils.datetime = Clock

USER = [{"role": "user", "content": "Hello there "}]
TURNS = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!\n"},
    {"role": "user", "content": "How are\nyou? <b>&\"é\" 🚀"},
]
SYSTEM = [{"role": "system", "content": "  Be brief.\n"}, *TURNS]
THOUGHT = [
    {"role": "user", "content": "1+1?"},
    {"role": "assistant", "content": "<think>\nThat is 2.\n</think>\n\nTwo."},
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "Four.", "reasoning_content": "Easy.\n"},
]
PARTS = [
    {"role": "user", "content": [{"type": "text", "text": " See: "}, {"type": "image"}, {"type": "text", "text": "?"}]},
    {"role": "assistant", "content": "A cat.", "name": None},
    {"role": "user", "content": [{"type": "text", "text": "Sure?"}]},
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the weather at a place.",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "Where <it> is"},
                    "days": {"type": "array", "items": {"type": "integer"}, "default": [1, 2.5, 1e-7, True, None]},
                },
                "required": ["place"],
            },
        },
    }
]
CALLS = [
    {"role": "system", "content": "Use tools."},
    {"role": "user", "content": "Weather in Zürich?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"type": "function", "id": "abcdef123", "function": {"name": "weather", "arguments": {"place": "Zürich", "days": [1]}}}
        ],
    },
    {"role": "tool", "name": "weather", "tool_call_id": "abcdef123", "content": '{"sun": true}'},
    {"role": "tool", "name": "weather", "tool_call_id": "abcdef124", "content": "windy"},
    {"role": "assistant", "content": "Sunny."},
    {"role": "user", "content": "Thanks"},
]
TWO_USERS = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
ALL = [USER, TURNS, SYSTEM, THOUGHT, CALLS, TWO_USERS]

CHATML = """{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

# filters, default system text, loop.first, blocks with whitespace control
SMOLLM = """{% for message in messages %}
{% if loop.first and messages[0]['role'] != 'system' %}
{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}
{% endif %}
{%- set role = message['role'] | lower -%}
{{ '<|im_start|>' ~ role ~ '\n' ~ (message['content'] or '') | trim ~ '<|im_end|>' ~ '\n' }}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\n' }}
{% endif %}
"""

# strftime_now, `is defined`, slicing, tools in the first user message, indent in tojson, raise_exception
LLAMA3 = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system message is taken out, so that tools can follow it. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\n" }}
{%- endif %}
{{- "Today: " + date_string + "\n\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("Cannot put tools in the first user message when there is none!") }}
    {%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\n\n' -}}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One tool call at a time!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

# namespaces, messages[::-1], startswith/endswith, split/strip of thoughts, loop.previtem by index, `is false`
QWEN3 = """{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\n\n' }}
    {%- endif %}
    {{- "# Tools\n\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"""

# alternation checks, modulo, selectattr, items(), nested loops over a dict, ~ of a text and a number
MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, roles must alternate user/assistant") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {{- "]" + eos_token if loop.last else ", " }}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}
"""

# content as parts, inline conditions, renamed roles, refusals
GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
"""

PHI = """{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}{% elif message['role'] in ['system', 'user'] %}{{ '<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>' + '\n' }}{% elif message['role'] == 'assistant' %}{% generation %}{{ '<|assistant|>\n' + (message['content'] if message['content'] else '') + '<|end|>\n' }}{% endgeneration %}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"""

# generation blocks, macros with defaults, break and continue, comments, raw, filters with blocks
BLOCKS = """{# one line #}
{%- macro turn(role, text='', end=true) -%}
<{{ role }}>{{ text }}{% if end %}</{{ role }}>{% endif %}

{%- endmacro -%}
{% for message in messages %}
  {% if message.role == 'tool' %}{% continue %}{% endif %}
  {% if loop.index > 4 %}{% break %}{% endif %}
  {% if message.role == 'assistant' %}
    {%- generation -%}
    {{ turn('assistant', message.content | default('(none)', true)) }}
    {%- endgeneration %}
  {% else %}
{{ turn(message.role, text=message.content, end=not loop.last) }}
  {% endif %}
{% endfor %}
{% raw %}{{ as it is }}{% endraw %}

{% filter upper %}done{% endfilter %}

"""

# methods of str, dict and list; tests; arithmetic; slices
PYTHON = r"""{% set s = '  Hello, World  ' %}
{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'aab'.lstrip('a') }}|{{ 'abb'.rstrip('b') }}
{{ s.upper() }}|{{ s.lower() }}|{{ "it's o'clock mcDonald".title() }}|{{ 'hELLO wORLD'.capitalize() }}|{{ 'a-b c' | title }}
{{ 'a,b,,c'.split(',') | join(';') }}|{{ ' a  b '.split() | join(';') }}|{{ 'a,b,c'.split(',', 1)[1] }}|{{ 'a,b,c'.rsplit(',', 1)[0] }}|{{ 'a</t>b'.split('</t>')[-1] }}
{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith(('x', 'bc')) }}|{{ 'abc'.replace('b', 'BB') }}|{{ 'aaa'.replace('a', 'b', 2) }}|{{ 'banana'.count('an') }}|{{ 'abc'.find('c') }}|{{ 'abc'.find('x') }}
{{ 'prefix-x'.removeprefix('prefix-') }}|{{ 'x.py'.removesuffix('.py') }}|{{ 'a=b=c'.partition('=')[2] }}|{{ '12'.isdigit() }}|{{ 'ab'.isalpha() }}|{{ ','.join(['x', 'y']) }}
{% set d = {'b': 1, 'a': [1, 2], 'items': {'z': none}} %}
{% for k, v in d.items() %}{{ k }}={{ v | tojson }};{% endfor %}|{{ d.get('x') }}|{{ d.get('x', 'y') }}|{{ d.get('b') }}|{{ d.keys() | list | length }}|{% for v in d.values() %}{{ loop.index }}{% endfor %}
{{ d | dictsort | map('first') | join(',') }}|{{ d | items | list | length }}|{{ 'b' in d }}|{{ 'x' not in d }}|{{ d['a'][-1] }}|{{ d.a[0] }}|{{ d.nothing is defined }}|{{ d['nothing'] is undefined }}
{{ [1, 2] + [3] == [1, 2, 3] }}|{{ [3, 1, 2] | sort | first }}|{{ [1, 2, 3] | last }}|{{ [1, 2, 3][1:] | length }}|{{ 'abcdef'[1:-1] }}|{{ 'abcdef'[::-1] }}|{{ 'abcdef'[-2:] }}|{{ [1, 2, 3][:2] | sum }}
{{ 7 // 2 }}|{{ 7 % 3 }}|{{ 2 ** 3 }}|{{ 7 / 2 }}|{{ -7 // 2 }}|{{ 1.0 }}|{{ 1 + 2 * 3 }}|{{ 'a' * 3 }}|{{ 'x' ~ 1 ~ true ~ none }}|{{ 3 | string + '!' }}|{{ '7' | int + 1 }}|{{ 2.5 | round }}|{{ -3 | abs }}
{{ none }}|{{ true }}|{{ False }}|{{ True and 1 }}|{{ not none }}|{{ 1 if false }}|{{ 'a' if 0 else 'b' }}|{{ undefined_thing }}|{{ undefined_thing | default('d') }}|{{ '' | default('e', true) }}|{{ none or 'f' }}
{{ 1 is number }}|{{ 's' is string }}|{{ [] is sequence }}|{{ {} is mapping }}|{{ none is none }}|{{ [] is iterable }}|{{ true is boolean }}|{{ 1 is integer }}|{{ 1.5 is float }}|{{ 3 is odd }}|{{ 4 is divisibleby(2) }}|{{ false is false }}|{{ 'a' is in(['a']) }}|{{ 2 is not number }}|{{ 1 is eq(1) }}
{{ messages | map(attribute='role') | join(',') }}|{{ messages | selectattr('role', 'eq', 'user') | list | length }}|{{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='content') | join('/') }}|{{ messages | length }}|{{ (messages | last).role }}|{{ messages[-1]['content'] | length }}
{{ range(3) | list | join(',') }}|{{ range(1, 10, 4) | list | join(',') }}|{{ [1, 2, 2] | unique | list | length }}|{{ [1, 2] | reverse | list | first }}|{{ ['a', 'B'] | map('upper') | join }}|{{ [0, 1] | select | list | length }}|{{ [1, 5] | max }}|{{ dict(a=1)['a'] }}|{{ 'a b' | replace(' ', '_') }}|{{ ' x ' | trim }}|{{ 'x\ny' | indent(2) }}
{% set ns = namespace(found=false, list=[]) %}{% for m in messages %}{% if not ns.found and m.role == 'user' %}{% set ns.found = true %}{% set ns.list = ns.list + [m.content] %}{% endif %}{% endfor %}{{ ns.found }}|{{ ns.list | length }}
{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem.role if loop.previtem is defined }}{% if not loop.last %}{{ loop.nextitem.role }}{% endif %}{% else %}none{% endfor %}
{% set block %}kept {{ 1 }}{% endset %}{{ block }}|{% with x = 2 %}{{ x }}{% endwith %}|{% set a, b = 1, 2 %}{{ a + b }}|{{ (1, 2)[1] }}|{% if 1 < 2 <= 2 %}y{% endif %}|{{ "a" "b" }}|{{ 'tab\tq\'"' }}
{{ {'b': 'é<&>"\\\n', 'a': [1, 2.0, 1e20, 1e-9, true, none], 'c': {}, 'd': []} | tojson }}
{{ {'b': 'é', 'a': [1, {'x': []}]} | tojson(indent=2) }}
{{ {'b': 'é🚀', 'a': 1} | tojson(ensure_ascii=true, sort_keys=true) }}|{{ [1, {'a': 2}] | tojson(separators=(',', ':')) }}
{{ strftime_now('%Y-%m-%d %H:%M:%S %B %A %j %y %-d %I %p') }}
"""

# how Python prints what is no text
REPR = r"""{{ ['a', "b'c", 1, 2.5, none, true] }}|{{ {'a': 'x\ny', 'b': [1, {}]} }}|{{ (1, 'b') }}|{{ 1e20 }}|{{ 1e-7 }}|{{ [] }}|{{ ['é'] ~ '' }}|{{ {'a': 1} | string }}"""

# documents, and a date from the caller
RAG = """{%- if documents %}{% for doc in documents %}[{{ loop.index0 }}] {{ doc['title'] }}: {{ doc.text }}
{% endfor %}{% endif -%}
{{ date_string | default('no date') }} {{ enable_thinking | default(true) }}
{% for m in messages %}{{ m.role }}: {{ m.content }}
{% endfor %}"""

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
GPTOSS_TOKENS = {"bos_token": "<|bos|>", "eos_token": "<|eot|>", "pad_token": "<|pad|>"}


def plain(messages, **more):
    return [
        {"messages": messages, "add_generation_prompt": False, **more},
        {"messages": messages, "add_generation_prompt": True, **more},
    ]


def each(conversations, **more):
    return [case for messages in conversations for case in plain(messages, **more)]


FAMILIES = [
    ("chatml", CHATML, {}, each(ALL)),
    ("smollm", SMOLLM, TOKENS, each(ALL)),
    (
        "llama3",
        LLAMA3,
        TOKENS,
        each(ALL)
        + plain(CALLS, tools=TOOLS)
        + plain(TURNS, tools=TOOLS, variables={"tools_in_user_message": False, "date_string": "1 Jan"})
        + plain(CALLS[:1], tools=TOOLS),
    ),
    ("qwen3", QWEN3, {}, each([*ALL, PARTS]) + plain(CALLS, tools=TOOLS) + plain(THOUGHT[:3], variables={"enable_thinking": False})),
    ("mistral", MISTRAL, TOKENS, each(ALL) + plain(CALLS, tools=TOOLS) + plain(SYSTEM, tools=TOOLS)),
    ("gemma", GEMMA, TOKENS, each([*ALL, PARTS])),
    ("phi", PHI, TOKENS, each(ALL)),
    ("blocks", BLOCKS, GPTOSS_TOKENS, each(ALL)),
    ("python", PYTHON, TOKENS, each([USER, SYSTEM, THOUGHT])),
    ("repr", REPR, {}, plain(USER)),
    ("rag", RAG, {}, plain(TURNS, documents=[{"title": "T", "text": "x"}], variables={"date_string": "d"}) + plain(USER)),
]


def main():
    out = []
    for name, template, tokens, cases in FAMILIES:
        for case in cases:
            try:
                # as `apply_chat_template` does before it renders
                messages = [{k: v for k, v in m.items() if v is not None} for m in case["messages"]]
                [case["text"]], _ = chat_template_utils.render_jinja_template(
                    conversations=[messages],
                    tools=case.get("tools"),
                    documents=case.get("documents"),
                    chat_template=template,
                    add_generation_prompt=case["add_generation_prompt"],
                    **{**tokens, **case.get("variables", {})},
                )
            except Exception as error:  # whatever a template raises
                case["error"] = f"{type(error).__name__}: {error}"
        out.append({"name": name, "template": template, "tokens": tokens, "now": NOW, "cases": cases})
        print(name, len(cases), "cases,", sum("error" in case for case in cases), "refused")
    path = pathlib.Path(__file__).parent.parent / "tests" / "data" / "chat_templates.json"
    path.write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
