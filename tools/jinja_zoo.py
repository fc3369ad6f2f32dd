"""Conversations, variables and expressions that the template goldens are made from."""

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather <now> & \"later\" in a city.\nIn one line.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Stadt, e.g. Zürich"},
            "days": {"type": "integer", "minimum": 1}, "tags": {"type": "array", "items": {"type": "string"}},
            "extra": {"type": "object"}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object",
        "properties": {"a": {"type": "number", "default": 1.5}, "b": {"type": "number", "nullable": True}}, "required": ["a", "b"]}}},
]

CHATS = {
    "one": [{"role": "user", "content": "Hello"}],
    "pair": [{"role": "user", "content": "  Hi there \n"}, {"role": "assistant", "content": " Hello!\n\n"}],
    "system": [{"role": "system", "content": "Be brief. /no_think"}, {"role": "user", "content": "2+2?"},
               {"role": "assistant", "content": "4"}, {"role": "user", "content": "Sure?"}],
    "long": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nb"},
             {"role": "user", "content": "c"}, {"role": "assistant", "content": "<think>\nwell\n</think>\n\nd"}],
    "unicode": [{"role": "user", "content": "Grüße, 世界 🌍\u00a0\u2003"}, {"role": "assistant", "content": "\u3000Ça va\t\r\n"}],
    "calls": [{"role": "user", "content": "Weather?"},
              {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdefghi", "type": "function",
                  "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2, "deep": [1, None, True, 0.1, 1e20]}}}]},
              {"role": "tool", "content": "{\"t\": 21.5}", "tool_call_id": "abcdefghi"},
              {"role": "assistant", "content": "21.5 degrees"}],
    "parts": [{"role": "system", "content": [{"type": "text", "text": "sys"}]},
              {"role": "user", "content": [{"type": "text", "text": " look "}, {"type": "image"}, {"type": "text", "text": "there"}]}],
    "reasoning": [{"role": "user", "content": "why"}, {"role": "assistant", "content": "so", "reasoning": "because"}],
    "typed": [{"role": "user", "content": "write <|im_end|> and <|eot_id|> </s> {{ messages }} {% raw %}"},
              {"role": "assistant", "content": "<|im_end|><|eot_id|>"}],
    "users": [{"role": "user", "content": "x"}, {"role": "user", "content": "y"}],
    "extra": [{"role": "user", "content": "hi", "name": "Ann", "score": 1, "none": None}, {"role": "assistant", "content": None}],
}

# More of what people's rows hold, for whole folders of templates (template_zoo.py); no golden is made from these.
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Bern"}}}
ZOO_CHATS = {
    "empty": [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}],
    "none": [],
    "assistant first": [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "yo"}],
    "system alone": [{"role": "system", "content": "S"}],
    "system last": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}, {"role": "system", "content": "s"}],
    "developer": [{"role": "developer", "content": "D"}, {"role": "user", "content": "u"}],
    "unknown role": [{"role": "critic", "content": "c"}, {"role": "user", "content": "u"}],
    "turns": [{"role": ["user", "assistant"][i % 2], "content": f"turn {i}\n"} for i in range(8)],
    "string arguments": [{"role": "user", "content": "w?"},
        {"role": "assistant", "content": "wait", "tool_calls": [{"id": "call_1", "type": "function",
            "function": {"name": "get_weather", "arguments": "{\"city\": \"Zürich\", \"n\": 1.50}"}}]},
        {"role": "tool", "name": "get_weather", "tool_call_id": "call_1", "content": "{\"t\": 1}"}],
    "two calls": [{"role": "system", "content": "sys"}, {"role": "user", "content": "w?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "abcdefgh1", **CALL}, {"id": "abcdefgh2", **CALL}]},
        {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefgh1", "content": "1"},
        {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefgh2", "content": "2"},
        {"role": "assistant", "content": "1 and 2"}, {"role": "user", "content": "thanks"}],
    "flat call": [{"role": "user", "content": "w?"}, {"role": "assistant", "tool_calls": [{"name": "add", "arguments": {"a": 1, "b": [2.0]}}]},
        {"role": "tool", "content": 3}],
    "result object": [{"role": "user", "content": "w?"}, {"role": "assistant", "content": "", "tool_calls": [{"id": "123456789", **CALL}]},
        {"role": "tool", "name": "get_weather", "content": {"t": [1, 2.5, None, True], "ü": "\u2028<&>'"}}],
    "ipython": [{"role": "user", "content": "w?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "ipython", "content": {"output": "x"}}],
    "thinking": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "r\nr2\n"},
        {"role": "user", "content": "q2"}, {"role": "assistant", "content": "<think>\nt\n</think>\n\na2", "reasoning_content": ""}],
    "thinking calls": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [{"id": "a1b2c3d4e", **CALL}]},
        {"role": "tool", "tool_call_id": "a1b2c3d4e", "content": "x"}, {"role": "assistant", "reasoning_content": "done", "content": "ok"}],
    "image": [{"role": "user", "content": [{"type": "image", "image": "x.png"}, {"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": "y"}}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a cat"}]}],
    "parts call": [{"role": "user", "content": [{"type": "text", "text": "w?"}]}, {"role": "assistant", "content": [], "tool_calls": [{"id": "z12345678", **CALL}]},
        {"role": "tool", "content": [{"type": "text", "text": "21"}, {"type": "text", "text": "C"}], "tool_call_id": "z12345678"}],
    "no content": [{"role": "user"}, {"role": "assistant", "content": "a"}],
    "null content": [{"role": "user", "content": "u"}, {"role": "assistant", "content": None}],
    "number content": [{"role": "user", "content": 5}],
    "whitespace": [{"role": "system", "content": " \n"}, {"role": "user", "content": "\n\n x \t"}, {"role": "assistant", "content": "\n"}],
    "flags": [{"role": "system", "content": "/no_think /system_override be"}, {"role": "user", "content": "q /think"}, {"role": "assistant", "content": "</think>x"}],
    "long text": [{"role": "user", "content": "word " * 300}, {"role": "assistant", "content": "line\n" * 50}],
    "weird": [{"role": "user", "content": "e\u0301 \u200b \U0001F469\u200d\U0001F4BB \x00 \x1f \ufeff ß ǅ İ"}, {"role": "assistant", "content": "\\n {{x}} %} \"q\" 'p'"}],
}
# Conversations, what of them the assistant says, and what others do.
ANSWER = {"role": "assistant", "content": "Afin!"}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "abcdefghi", "content": "Tres."}
ASKS = {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdefghi", "type": "function",
    "function": {"name": "get_weather", "arguments": {"city": "Acity"}}}]}
TURNS = [{"role": "user", "content": "Uone?"}, {"role": "assistant", "content": "Aone!"}, {"role": "user", "content": "Utwo?"}, ANSWER]
MASK_CHATS = {
    "turns": TURNS,
    "system": [{"role": "system", "content": "Sys."}, *TURNS],
    "calls": [TURNS[0], ASKS, RESULT, *TURNS[1:]],
    "system and calls": [{"role": "system", "content": "Sys."}, TURNS[0], ASKS, RESULT, *TURNS[1:]],
    "thinking": [TURNS[0], {**TURNS[1], "reasoning_content": "Aweigh"}, TURNS[2], {**ANSWER, "reasoning_content": "Aweigh"}],
}
MASK_WORDS = (("Aone!", "Afin!", "Acity"), ("Uone?", "Utwo?", "Tres.", "Sys."))
DOCUMENTS = [{"title": "T1", "text": "Body <1>\n"}, {"doc_id": 7, "title": "T2", "text": "b", "contents": "c", "url": "u"}]
VARIABLE_SETS = {
    "plain": {},
    "no thinking": {"enable_thinking": False, "thinking": False, "add_vision_id": True, "reasoning_effort": "low", "thinking_mode": "off"},
    "documents": {"documents": DOCUMENTS, "enable_thinking": True, "thinking": True, "date_string": "1 Jan 2025",
                  "system_prompt": "S!", "tools_in_user_message": False, "custom_tools": TOOLS, "builtin_tools": ["brave_search", "code_interpreter"],
                  "reasoning_effort": "high", "citation_mode": "accurate", "controls": {"length": "short"}, "bos_token": "[B]"},
}

VARIABLES = {
    "s": "Hello, World", "u": "Größe 世界 🌍!", "e": "", "sp": "  \t pad \n", "n": 7, "z": 0, "neg": -3, "f": 2.5, "big": 1e22,
    "t": True, "no": False, "nil": None, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "el": [],
    "d": {"b": 1, "a": {"x": [1, 2, {"y": "deep"}]}, "C": None}, "ed": {},
    "rows": [{"name": "ann", "age": 30, "tag": "x"}, {"name": "Bob", "age": 25, "tag": "y"}, {"name": "cid", "age": 30}],
    "html": "<a href='x'>\"q\" & b</a>", "lines": "one\n two\n\nthree\r\nfour", "q": "it's \"quoted\" \\ \x07\u200b\u00e9",
    "m": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}],
    "items": "shadow", "dd": {"items": 1, "keys": 2, "get": 3},
}

EXPRESSIONS = r"""
1 + 2 * 3 - 4 // 3 ** 2 % 5
-7 // 2, -7 % 3, 7 // -2, 7 % -3, -7.5 // 2, -7.5 % 2, 7.5 % -2
2 ** 10, 2 ** -1, 2 ** 0.5, -2 ** 2, 2 ** 3 ** 2
1 / 2, 4 / 2, 1e3, 1.0, 100000000000000000.0, 1e16, 123456789012345.6, 0.1 + 0.2, 1e-5, 0.0001, -0.0, 1.5e300 * 1e10
10_000, 0x1f, 0b101, 0o17, 1_0.5
true + true, true * 3, not true, not 0, -true
1 / 0
1 // 0
5 % 0
'a' + 'b' ~ 1 ~ none ~ true ~ 1.0 ~ [1, 'x'] ~ undefined_name
'ab' * 3, 3 * 'ab', [1] * 2, 'x' * 0, 'x' * -1
'a' + 1
[1] + [2], (1,) + (2,), [1] + (2,)
1 < 2 < 3, 1 < 3 < 2, 'a' < 'b', [1, 2] < [1, 3], 1 == 1.0, true == 1, 'a' == 1, none == none, undefined_name == none
'a' < 1
none < 1
2 in l, 4 not in l, 'ell' in s, 'x' in d, 'b' in d, 'z' in undefined_name, '' in s
1 in s
s and 'x', e and 'x', s or 'x', e or 'x', e or 0 or none, not e
'yes' if n > 3 else 'no'
'yes' if n > 30
('yes' if n > 30) is defined
n if n else z if z else 1
s[0], s[-1], s[1:4], s[:-1], s[::-1], s[::2], s[7:], s[5:2], s[-100:100], s[100]
u[4], u[-2], u[6:8], u[::-1], u|length, u[3:4]
l[0], l[-1], l[5], l[1:], l[::-1], l[0:2], (1, 2, 3)[1:], range(10)[2:8:3], range(5)[-1]
l['a'], l.x, d['zz'], d.zz, d[0], s.zz, n.zz, nil.zz
d.a.x[2].y, d['a']['x'][0], d.a['x'].2.y
d.zz.y
nil.zz.y
undefined_name.x
undefined_name[0]
undefined_name()
undefined_name + 1
undefined_name, undefined_name|length, undefined_name|upper, undefined_name|list, undefined_name|first, undefined_name ~ 'x'
-undefined_name
undefined_name < 1
undefined_name|int
undefined_name|tojson
{'a': 1, 2: 'b', none: true}, {}, [], (), (1,), [none, true, 1.5, 'x']
d, l, rows[0], u, [u], q, [q], ["it's"], ['"'], ['\'"'], ['\n\t\r\\ \x00 \u2028 \U0001f30d \xad']
'\x41\u00e9\101\n\q\'' ~ "a\"b" 'c' "d"
[1, 2, 3,], (1, 2,), {'a': 1,}
s is string, n is string, d is mapping, l is mapping, l is iterable, s is iterable, n is iterable, l is sequence, d is sequence, nil is none
n is number, f is number, t is number, s is number, n is integer, t is integer, f is integer, f is float, n is float, t is boolean, n is boolean
t is true, no is false, n is true, 1 is true
x is defined, s is defined, d.zz is defined, d.b is defined, d.zz is not defined, nil is defined, x is undefined
n is odd, n is even, n is divisibleby 7, n is divisibleby(2), n is not divisibleby 2
n is eq 7, n is equalto(7), n is ne 7, n is lt 8, n is gt 8, n is le 7, n is ge 8, n is sameas 7, n is lessthan 8, n is greaterthan 1
n is in [7, 8], 'a' is in 'abc', n is not in [7]
'abc' is lower, 'ABC' is upper, 'aB' is lower, '1' is lower
range is callable, s.upper is callable, s is callable
'upper' is filter, 'nope' is filter, 'odd' is test
s is nope
s|nope
n is defined and s is defined or no
(n is odd) if n is defined else 2
not n is odd
1 is eq 1 == true
s|upper, s|lower, 'hELLO wORLD-foo (bar)'|title, 'hELLO'|capitalize, 'ß'|upper, u|upper, u|lower
sp|trim ~ '|', 'xxaxx'|trim('x'), sp|trim|length, 'ab'|trim('ba')|length
s|length, l|count, d|length, e|length, range(4)|length
n|length
l|join, l|join(', '), ls|join('-')|upper, rows|join(',', attribute='name'), s|join('.'), []|join, d|join('+'), nil|join
s|replace('l', 'L'), s|replace('l', 'L', 2), s|replace('', '-'), e|replace('', '-'), n|replace(7, 'x'), s|replace('zz', 'y')
l|first, l|last, s|first, s|last, el|first, el|last, d|first
l|sort, l|sort(reverse=true), ls|sort, ls|sort(case_sensitive=true), rows|sort(attribute='age')|map(attribute='name')|join, rows|sort(attribute='age,name')|map(attribute='name')|join
[1, 'a']|sort
ls|unique|list, [1, 1.0, 2, true]|unique|list, rows|unique(attribute='age')|map(attribute='name')|list, ls|unique(true)|list
l|min, l|max, ls|min, ls|max, el|min, rows|max(attribute='age'), [true, 2]|max
l|sum, rows|sum(attribute='age'), [1.5, 2]|sum, el|sum(start=5), [[1], [2]]|sum(start=[])
['a']|sum
l|reverse|list, s|reverse, (1, 2)|reverse|list
l|map('string')|list, ls|map('upper')|join, rows|map(attribute='tag', default='?')|list, rows|map(attribute='tag')|list, l|map('round', 1)|list
l|map('nope')|list
rows|selectattr('tag')|map(attribute='name')|list, rows|selectattr('age', 'eq', 30)|list|length, rows|rejectattr('tag', 'defined')|map(attribute='name')|list, rows|selectattr('age', '>', 26)|map(attribute='age')|list
l|select('odd')|list, l|reject('odd')|list, [0, 1, '', 'x', none]|select|list, [0, 1, '']|reject|list, l|select('gt', 1)|list, l|select('in', [1, 2])|list
(l|select('gt', 100)) is defined, 'y' if l|select('gt', 100) else 'n', (rows|selectattr('zz'))|list
m|selectattr('role', 'equalto', 'user')|list, (m|selectattr('role', 'equalto', 'user')|first).content
rows|groupby('age'), rows|groupby('tag', default='none')|map(attribute='grouper')|list, (rows|groupby('age'))[0].list|length
l|batch(2)|list, l|batch(2, 'x')|list, range(7)|slice(3)|list, range(7)|slice(3, 'x')|list
d|dictsort, d|dictsort(reverse=true), d|dictsort(true), {'a': 2, 'b': 1}|dictsort(by='value')
d|items|list, ed|items|list, undefined_name|items|list, d.items(), d.keys(), d.values(), d.items()|list|first
l|items
d|list, s|list, l|list, (1, 2)|list, range(3)|list, range(1, 7, 2), range(3), range(5, 0, -2)|list, range(0)|list
x|default('D'), e|default('D'), e|default('D', true), nil|default('D'), nil|d('D', true), x|default, x|d(boolean=true, default_value=3)
'42'|int, '42.7'|int, 'x'|int, 'x'|int(-1), ' 12 '|int, '0x1f'|int(base=16), '0b11'|int(0, 2), 3.99|int, -3.99|int, true|int, nil|int, '1_000'|int, '1e3'|int, ''|int(5)
'1.5'|float, 'x'|float, 'x'|float(2.5), 3|float, '1e3'|float, 'inf'|float, '-nan'|float is float, true|float
2.5|round, 3.5|round, 2.675|round(2), -2.5|round, 42.55|round(1, 'floor'), 42.51|round(1, 'ceil'), 42|round, 1234|round(-2), 42.7|round|int, 0.5|round
(-3)|abs, -3|abs, 2.5|abs, (-2.5)|abs
s|string, n|string ~ 'x', d|string, 1.0|string, nil|string, t|string
'<b>'|safe, '<b>'|e, ('<b>'|e) + '<i>', '<b>'|safe ~ '<i>', ('<b>'|e)|e, html|escape, html|forceescape, ['<'|e]
'a\nb\n\nc'|indent, 'a\nb'|indent(2, true), 'a\n\nb'|indent(2, blank=true), 'a\nb'|indent('> '), lines|indent(1), ''|indent(2, first=true)
'foo bar baz qux'|truncate(9), 'foo bar baz qux'|truncate(9, true), 'foo bar baz qux'|truncate(11), 'foo bar baz qux'|truncate(11, false, '...', 0)
'a b  c-d e_f'|wordcount, u|wordcount, 'ab'|center(7) ~ '|', 'abc'|center(6) ~ '|'
'a b&c/ü'|urlencode, {'a': 'x y', 'b': '/'}|urlencode
1000|filesizeformat, 1|filesizeformat, 1500000|filesizeformat, 1024|filesizeformat(true)
d|tojson, d|tojson(indent=2), u|tojson, u|tojson(ensure_ascii=true), q|tojson, l|tojson(separators=(',', ':')), d|tojson(sort_keys=false), {'b': 1, 'a': 2}|tojson(sort_keys=true), html|tojson
[1.0, 1e20, 0.1, none, true, (1, 2), 'a\u2028b\x7f']|tojson, [1.0, 'é\x7f']|tojson(true), ed|tojson(indent=4), el|tojson(indent=4), {1: 2, none: 3, true: 4, 1.5: 0}|tojson, [[]]|tojson(indent='--'), l|tojson(indent=0)
range(2)|tojson
(l|map('string'))|tojson
d|tojson(nope=1)
s.upper(), s.lower(), 'hello wORLD it\'s'.title(), 'hELLO'.capitalize(), 'aB'.swapcase(), 'Straße'.casefold()
sp.strip() ~ '|', sp.lstrip() ~ '|', sp.rstrip() ~ '|', 'xxaxx'.strip('x'), 'abcba'.strip('ab'), 'abcba'.lstrip('ab'), '\u3000x\u00a0'.strip() ~ '|', 'éaé'.strip('é')
'a,b,,c'.split(','), ' a  b c '.split(), 'a,b,c'.split(',', 1), 'a b c d'.split(none, 1), 'a,b,c'.rsplit(',', 1), ' a b  c '.rsplit(maxsplit=1), ''.split(), ''.split(','), 'a<x>b<x>c'.split('<x>')[-1], 'a b c'.rsplit()
'a'.split('')
lines.splitlines(), lines.splitlines(true), ''.splitlines(), 'a\n'.splitlines(), 'a\x0bb\u2028c'.splitlines()
s.startswith('He'), s.startswith('he'), s.startswith(('x', 'H')), s.endswith('ld'), s.endswith(('x', 'y')), s.startswith(''), s.startswith('World', 7), s.endswith('Hello', 0, 5), s.startswith(())
s.startswith(1)
s.replace('l', 'L'), s.replace('l', 'L', 1), s.replace('', '.'), s.replace('o', '')
s.replace(1, 2)
s.find('o'), s.find('o', 5), s.find('zz'), s.rfind('o'), s.index('W'), s.count('l'), s.count(''), u.find('世'), u.index('🌍'), s.find('o', -3), s.find('', 100)
s.index('zz')
'-'.join(['a', 'b']), ''.join(ls), ','.join(d), '-'.join('abc'), ''.join([])
','.join([1])
'{} {}'.format(1, 'a'), '{0}{1}{0}'.format('a', 'b'), '{x} {y[0]} {z.b}'.format(x=1, y=[2], z=d), '{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}'.format('a', 'b', 'c', 42, 3.14159, 1234567), '{{}}'.format(), '{!r}'.format('a'), '{:+d} {:x} {:#x} {:e} {:%}'.format(5, 255, 255, 12345.678, 0.25), '{:*^7}'.format('é'), '{:5}|{:5}'.format(1, true), '{}'.format(none)
'{} {}'.format(1)
'%s is %d and %.2f %5s|%-5s|%05d %x %%' % ('a', 3, 2.5, 'r', 'l', 42, 255), '%s' % 'x', '%s' % [1], '%(a)s' % {'a': 1}, '%r' % 'x', '%+d' % 5, '%d' % 3.9, '%c|' % 65 if false else ''
'%s %s' % 'a'
'%s' % ('a', 'b')
'%d' % 'a'
"%s, %s!"|format('a', 'b'), '%(x)s'|format(x=1)
'123'.isdigit(), '12a'.isdigit(), ''.isdigit(), 'abc'.isalpha(), 'ab1'.isalnum(), ' \t'.isspace(), 'A'.isupper(), 'a1'.islower(), '²'.isdigit(), '²'.isdecimal(), '½'.isnumeric(), 'é'.isalpha(), 'é'.isascii(), 'Hello World'.istitle(), 'Hello world'.istitle()
'abc'.removeprefix('a'), 'abc'.removesuffix('bc'), 'abc'.removeprefix('x'), 'a=b=c'.partition('='), 'a=b=c'.rpartition('='), 'abc'.partition('='), 'abc'.rpartition('='), 'a'.ljust(3) ~ '|', 'a'.rjust(3, '.'), 'a'.center(4, '-'), 'ab'.center(5, '-'), '-5'.zfill(4), '5'.zfill(3)
d.get('b'), d.get('zz'), d.get('zz', 9), d.get('C', 1), d.copy() == d, d.keys()|list, d.values()|list, 'b' in d.keys(), d.items()|length
dd.items() | list | length, dd['items'], dd.get('get'), dd.keys()|join
l.index(2), l.count(1), (1, 2, 1).count(1), (1, 2).index(2), l.copy()
l.index(9)
l.append(4)
l.pop()
d.update({'x': 1})
d.pop('b')
d.setdefault('b', 1)
l.append is defined, d.update is defined
s.__class__
s.__class__.__mro__
s.upper.zz
dict(a=1, b=2), dict({'x': 1}, y=2), dict([('a', 1), ['b', 2]]), dict(), dict(**d)
namespace(a=1).a, namespace({'x': 2}).x, namespace().zz is defined
range(3)|sum, range(0, 10, 3)|list, range(10, 0, -3)|list
range(100001)
range(0, 5, 0)
range()
raise_exception('boom ' ~ n)
strftime_now('%Y-%m-%d'), strftime_now('%d %b %Y'), strftime_now('%A %B %H:%M:%S %j'), strftime_now('')
cycler('a', 'b').next(), joiner('-')() ~ 'x'
lipsum is defined, cycler is defined, self is defined
rows[0].name, rows[0]['na' ~ 'me'], rows|length, rows[-1].tag is defined, rows[0] == rows[0], rows[0] != rows[1]
l|attr('x'), 'abc'|attr('upper'), (d|attr('b')) is defined
[1, 2][true], [1, 2][1.0], s['upper']() , 'a'.upper is defined
(1, 2) == [1, 2], (1, 2) == (1, 2), [] == [], {} == {}, {'a': 1} == {'a': 1.0}, 'é' == 'e\u0301'
1 if true else 2 if false else 3
n|string|length + 1
-n|abs, (-n)|abs, n - -n, n--n, +n
n.real if false else 1
l|sort|first, l | sort | last, (l|sort)[1], l|length > 2 and l|length < 4
not (n == 7 and f == 2.5) or t
n ~ f ~ t, n + f, n * f, n // f, n % f, f ** 2, n - t
9223372036854775807, -9223372036854775807, 3000000000 * 3
{'a': {'b': {'c': 1}}}['a'].b['c'], {'k': [1, 2]}.k[1], {'a': 1}.a, {'x-y': 2}['x-y']
'a' 'b' ~ 'c'
s|upper|lower|title|length
[l, d]|map('length')|list, [[3, 1], [2]]|map('sort')|list, ls|map('lower')|unique|sort|join(',')
ls|map('replace', 'a', 'z')|list, rows|map(attribute='name')|map('upper')|join(' '), [{'a': {'b': 1}}]|map(attribute='a.b')|list, [[1, 2]]|map(attribute=1)|list
foo.bar is defined
(foo is defined and foo.bar) or 'none'
''|default('x', boolean=true)|upper
1 in (1, 2), 1 in {1: 2}, [1] in [[1]], none in [none], '1' in [1]
{[1]: 2}
nil|map('upper')|list, nil|select|list, nil|selectattr('x')|list, z|map(attribute='x')|list, no|reject('odd')|list, nil|map('nope')|list
nil|select|length
[nil, nil]|sort, [undefined_name, undefined_name]|sort|length, [[2], [1]]|sort, [d, d]|sort|length
[1, nil]|sort
[nil, nil]|max
d[1:2]
nil[:1]
n[:1]
d.keys()[:1]
dict(1)
s.join
(rows|groupby("age"))[0][0], (rows|groupby("age"))[0][1]|length, (rows|groupby("age"))[0][-1][0].name
(rows|groupby("age"))[0][:1], (rows|groupby("age"))[0][::-1][1], (rows|groupby("age"))[0][7] is defined
"%s" % missing, "%s|" % missing, "abc" % missing
"%d" % missing
"%s %s" % missing
rows|map(attribute="tag.x", default="-")|list, rows|map(attribute="no.where", default="?")|join(" ")
rows|map(attribute="tag", default=none)|list|length, rows|map(attribute=9, default="n")|list
(rows|groupby("no.where", default="g"))[0].grouper, (rows|groupby("tag", default="zz"))|map("first")|list
1e19|round(0, "ceil"), 1e300|round(2, "floor"), -0.5|round(0, "ceil"), 2.5|round(-1, "ceil"), 12345|round(-2, "floor")
1e308|round(10, "ceil")
"one\ttwo\n\tx\té\t.".expandtabs(), "a\tb".expandtabs(4), "a\tb".expandtabs(0), "a\tb".expandtabs(-1), "ab\r\tc".expandtabs(tabsize=2)
"abc".isidentifier(), "1a".isidentifier(), "_a9".isidentifier(), "".isidentifier(), "größe".isidentifier(), "a b".isidentifier(), "if".isidentifier()
"abc é世 ".isprintable(), "a\n".isprintable(), "".isprintable(), "\u200b".isprintable(), "\xa0".isprintable(), "\ud83c".isprintable() is defined
{"class": "a b", "id": none, "n": 3, "q": "<\"&'>"}|xmlattr, {}|xmlattr, {"a": 1}|xmlattr(false), {"u": missing, "b": true}|xmlattr
{"a b": 1}|xmlattr
{"a/b": 1}|xmlattr
{"a>b": 1}|xmlattr
s|xmlattr
""".strip().split("\n")

TEMPLATES = [
    "{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }}{{ x }};{% endfor %}",
    "{% for x in l %}{{ loop.previtem }}-{{ loop.nextitem }} {{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}",
    "{% for x in l if x > 1 %}{{ x }}{{ loop.last }}{{ loop.index }}{% endfor %}{% for x in el %}{% else %}empty{% endfor %}",
    "{% for a, b in d.items() %}{{ a }}={{ b }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for c in 'héy' %}[{{ c }}]{% endfor %}",
    "{% for a, b in [(1, 2), [3, 4]] %}{{ a + b }} {% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% for x in nil %}{% endfor %}",
    "{% for x in undefined_name %}x{% else %}none{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}",
    "{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns }}",
    "{% set d.x = 1 %}", "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "{% if z %}a{% elif n > 3 %}b{% else %}c{% endif %}{% if e %}1{% endif %}{% if no %}{% elif no %}{% elif t %}deep{% endif %}",
    "{% if t %}{% set y = 5 %}{% endif %}{{ y }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d2) = l[:2] %}{{ c }}{{ d2 }}{% set t3 = 1, 2 %}{{ t3 }}",
    "{% set x %}a{{ n }}b{% endset %}{{ x }}{{ x|length }}{% set y | upper %}q{{ n }}{% endset %}{{ y }}{% set z2 | replace('a', 'b') | upper %}aaa{% endset %}{{ z2 }}",
    "{% macro f(a, b=2, c='x') %}[{{ a }},{{ b }},{{ c }}]{% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(c=5, a=0) }}{{ f() }}{{ f(1)|length }}{{ f.name }}",
    "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}",
    "{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, x=3) }}",
    "{% macro wrap(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call wrap('b') %}in {{ n }}{% endcall %}",
    "{% macro each(xs) %}{% for x in xs %}{{ caller(x) }},{% endfor %}{% endmacro %}{% call(v) each(l) %}<{{ v * 2 }}>{% endcall %}",
    "{% macro rec(k) %}{{ k }}{% if k > 0 %}{{ rec(k - 1) }}{% endif %}{% endmacro %}{{ rec(5) }}",
    "{% macro rec(k) %}{{ rec(k) }}{% endmacro %}{{ rec(5) }}",
    "{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}", "{% set g = 1 %}{% macro f() %}{{ g }}{% endmacro %}{% set g = 2 %}{{ f() }}",
    "{% filter upper %}a{{ s }}b{% endfilter %}{% filter trim | replace('x', 'y') %}  x  {% endfilter %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% print n, 1 %}",
    "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% else %}E{% endfor %}",
    "{% for i in [1] %}{% break %}{% else %}E{% endfor %}",
    "{% for i in l %}{% for j in l %}{{ loop.index }}{% if j == 1 %}{% break %}{% endif %}{% endfor %}{{ loop.index }};{% endfor %}",
    "{% for i in l %}{% set outer = loop %}{% for j in 'ab' %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% for r in rows %}{{ loop.cycle('odd', 'even') }}{{ loop.changed(r.age) }} {% endfor %}",
    "{% set ns = namespace(f=false) %}{% for x in l if not ns.f %}{{ x }}{% set ns.f = true %}{% endfor %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set j = joiner() %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}",
    "{% raw %}{{ x }} {% if %}{% endraw %}|{%- raw -%}  {{ y }}  {%- endraw -%}  |",
    "a{# comment #}b{#- c -#} c {#- d #} e\n  {# full line #}\nf",
    "  {% if t %}\n  x\n  {% endif %}\ny", "  {%+ if t %}\n  x\n  {%+ endif %}\ny", "a {%- if t -%} b {%- endif -%} c", "a\n  {{ n }}\n  {{- n -}}  \nb\n",
    "x {% if t +%}\n y{% endif %}", "{{ n }}\n{% set a = 1 %}\n{% set b = 2 %}\n{{ a }}\n\n", "line\r\nnext\rlast\r\n", "\n\n{% if t %}\n\nx{% endif %}\n\n",
    "a{{ '}}' }}b{{ \"%}\" }}{{ {'a': {'b': 1}}['a'] }}", "{{ 'a' }}{{- ' b ' -}} c", "é {%- if t %} ü{% endif %}\u3000{%- if t %}\u00a0x{% endif %}",
    "{{ '{{' }}{{ '{%' }} { { % } #}", "{{ [1,2][0] }}{{ (1,2)|length }}{{ ((1)) }}{{ 1, }}",
    "{% generation %}a{% endgeneration %}b{% generation %}{{ s }}{% set q9 = 1 %}{% endgeneration %}{{ q9 }}",
    "{%- generation -%} x {%- endgeneration -%} y", "{% for x in l %}{% generation %}{{ x }}ü{% endgeneration %},{% endfor %}",
    "{% include 'x' %}", "{% import 'x' as y %}", "{% extends 'x' %}", "{% nope %}", "{% if %}{% endif %}", "{% for %}", "{{ }}", "{{ 1 +", "{% if t %}", "{{ 'a }}", "{# open",
    "{% endif %}", "{% set 1 = 2 %}", "{{ a b }}", "{{ [1, }}", "{{ (1 }}", "{{ ] }}", "{% break %}", "{% set true = 1 %}", "{{ 1 | }}", "{{ x.}}", "{{ @ }}", "{% macro f(a=1, b) %}{% endmacro %}",
    "{{ f(a=1, 2) }}", "{{ dict(a=1, a=2) }}", "{{ dict(**{'a': 1}, a=2) }}", "{{ '%s-%s' % (*l[:2],) }}", "{{ range(*[1, 4])|list }}",
    "{% set messages = m %}{% for message in messages %}{{ message.role }}{% if not loop.last %}, {% endif %}{% endfor %}{{ messages[-1].content }}",
    "{%- set x = 'a' -%}\n\n{%- for i in l -%}\n  {{ i }}\n{%- endfor %}", "{% if n == 7 -%}   yes{%- else -%}no{%- endif %}  end",
    "{{ '\\n' }}|{{ 'a\\tb' }}|{{ 'x' }}\n", "{% set s = s ~ '!' %}{{ s }}{% if true %}{% set s = 'in' %}{% endif %}{{ s }}", "{% set l2 = l + [9] %}{{ l2 }}{{ l }}",
    "{{ m | map(attribute='content') | join(' / ') }}{{ m | selectattr('role', 'in', ['user', 'tool']) | list | length }}",
    "{% for role, group in m | groupby('role') %}{{ role }}:{{ group|length }} {% endfor %}",
    "{{ caller is defined }}{{ loop is defined }}{{ varargs is defined }}", "{% for i in l %}{{ loop.zz }}{% endfor %}", "{% for i in [1, [2, [3]]] recursive %}{{ loop.depth }}{{ loop(i) if i is not number else i }},{% endfor %}", "{% for i in l %}{{ loop(l) }}{% endfor %}",
    "{{- n -}}\n\n", "\n", "", "plain text only", "{{ s", "{% raw %}", "{%", "{{", "{#", "}} %} #}", "{{ not }}", "{{ 1 if }}", "{{ l[ }}", "{{ l[1:2:3:4] }}", "{{ l[] }}", "{{ -'a' }}",
    "{% for i in range(3) %}{{ i }}{% if loop.last %}!{% endif %}{% endfor %}{{ i }}", "{% set x = [] %}{% set _ = x.append(1) %}", "{{ none }}{{ None }}{{ True }}{{ False }}{{ true }}",
    "{% call wrap() %}x{% endcall %}", "{% set x = caller %}{{ x is defined }}", "{{ 08 }}", "{{ 1.e5 }}", "{{ 1_000 }}", "{{ .5 }}", "{{ s.0 }}{{ l.0 }}",
    "{% block a %}in {{ s }}{% endblock %}|{% block b %}{% set x = 2 %}{{ x }}{% endblock b %}|{{ x is defined }}",
    "{% set x = 1 %}{% block a %}{{ x }}{% set x = 3 %}{{ x }}{% endblock %}{{ x }}",
    "{% for i in l %}{% block c %}{{ i is defined }}{% endblock %}{% endfor %}",
    "{% for i in l %}{% block c scoped %}{{ i }}{% endblock %}{% endfor %}",
    "{% block a %}{% block b %}deep{% endblock %}{% endblock %}",
    "{% block a %}1{% endblock %}{% block a %}2{% endblock %}",
    "{% block a %}1{% endblock b %}",
    "{% block a-b %}1{% endblock %}",
    "{% block a required %}{% endblock %}",
    "{% block a %}{{ super() }}{% endblock %}",
    "{% if t %}{% set x = 5 %}{% block a %}{{ x }}{% endblock %}{% endif %}",
    "{% macro f() %}{% block a %}{{ s }}{% endblock %}{% endmacro %}{{ f() }}",
    "{% autoescape false %}{{ html }}{% set v = 1 %}{% endautoescape %}{{ v is defined }}",
]
