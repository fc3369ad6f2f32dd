"""Writes small training data the project owns: DIR/{text,completions,chat,tools}/{train,valid,test}.jsonl.

usage: make_tiny_data.py DIR [--rows 24] [--seed 7]

Rows are made from word lists by a seeded generator, so every machine gets the same bytes. Lengths differ on purpose.
"""
import argparse
import json
import random
from pathlib import Path

CITIES = ["Oslo", "Lima", "Kyoto", "Accra", "Quito", "Zürich", "München", "São Paulo"]
THINGS = ["a kite", "two apples", "the old clock", "a map", "her bicycle", "three letters", "some bread"]
DOINGS = ["carried", "painted", "lost", "found", "repaired", "sold", "borrowed"]
NAMES = ["Ada", "Bo", "Chen", "Dina", "Emil", "Fay"]


def sentence(rng):
    return f"{rng.choice(NAMES)} {rng.choice(DOINGS)} {rng.choice(THINGS)} in {rng.choice(CITIES)}."


def text_row(rng):
    return {"text": " ".join(sentence(rng) for _ in range(rng.randint(1, 6)))}


def question(rng):
    a, b = rng.randint(2, 99), rng.randint(2, 99)
    name, city = rng.choice(NAMES), rng.choice(CITIES)
    return rng.choice([(f"What is {a} plus {b}?", f"{a} plus {b} is {a + b}."),
                       (f"Where does {name} live?", f"{name} lives in {city}."),
                       (f"Repeat twice: {city}", f"{city}, {city}")])


def completion_row(rng):
    prompt, completion = question(rng)
    return {"prompt": prompt, "completion": completion}


def chat_row(rng):
    messages = [{"role": "system", "content": "Answer in one line."}] if rng.random() < 0.5 else []
    for _ in range(rng.randint(1, 3)):
        user, assistant = question(rng)
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return {"messages": messages}


def tools_row(rng):
    city = rng.choice(CITIES)
    tool = {"type": "function", "function": {
        "name": "weather", "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
    call = {"type": "function", "id": "call_1", "function": {"name": "weather", "arguments": {"city": city}}}
    return {"messages": [{"role": "user", "content": f"How is the weather in {city}?"},
                         {"role": "assistant", "content": "", "tool_calls": [call]},
                         {"role": "tool", "name": "weather", "tool_call_id": "call_1", "content": "sunny"},
                         {"role": "assistant", "content": f"It is sunny in {city}."}],
            "tools": [tool]}


KINDS = {"text": text_row, "completions": completion_row, "chat": chat_row, "tools": tools_row}


def write(root, rows=24, seed=7):
    """Returns {kind: directory}."""
    made = {}
    for kind, make in KINDS.items():
        rng = random.Random(f"{seed} {kind}")
        folder = Path(root) / kind
        folder.mkdir(parents=True, exist_ok=True)
        for split, count in (("train", rows), ("valid", max(4, rows // 4)), ("test", max(4, rows // 4))):
            lines = [json.dumps(make(rng), ensure_ascii=False) for _ in range(count)]
            (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        made[kind] = folder
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    for kind, folder in write(args.dir, args.rows, args.seed).items():
        print(f"{kind}: {folder}")


if __name__ == "__main__":
    main()
