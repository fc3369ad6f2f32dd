"""`graft serve` with the real `openai` client: sessions, errors as its classes, streams, adapters; and under load.

As a program: check_serve.py GRAFT MODEL [CLIENTS [REQUESTS [TOKENS]]] prints the table of docs/serve.md: how long answers
take beside each other (at least REQUESTS in a row of the table), against as many runs of `graft generate`.
"""
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

MESSAGES = [{"role": "user", "content": "one two three"}]


class Server:
    """A running `graft serve`; url is its /v1."""

    def __init__(self, graft, model, *args, env=None):
        self.process = subprocess.Popen([graft, "serve", "--model", str(model), "--port", "0", "--json", *map(str, args)],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, **(env or {})})
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"graft serve: {self.process.stderr.read()[-2000:]}")
        self.url = f"http://127.0.0.1:{json.loads(line)['port']}/v1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()

    def client(self, key="none", **more):
        import openai

        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=120, **more)

    def stop(self):
        """Its last line: what it did."""
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, f"exit {self.process.returncode}: {err[-1000:]}"
        return json.loads(out.splitlines()[-1])


def trained(ctx):
    """(model, adapter): tiny, and trained enough to differ."""
    model, adapter = ctx.tiny("qwen2"), ctx.work / "serve-adapter"
    if not (adapter / "adapter_config.json").exists():
        ctx.run("train", "--model", model, "--data", ctx.tiny_data("chat"), "--adapter-path", adapter, "--iters", 20,
                "--learning-rate", "1e-2", "--lora-rank", 4)
    return model, adapter


def raises(kind, status, function):
    import openai

    try:
        function()
    except openai.APIStatusError as error:
        assert isinstance(error, kind) and error.status_code == status, f"{type(error).__name__} {error.status_code}"
        return error
    raise AssertionError(f"no {kind.__name__}")


def session(ctx):
    """Chat, completion, streams and models are what `graft generate` says."""
    model, adapter = trained(ctx)
    with Server(ctx.graft, model, "--compute", "fp32", "--adapter", f"tale={adapter}") as server:
        client = server.client()
        names = [m.id for m in client.models.list()]
        assert names == [Path(model).name, "tale"], names
        assert client.models.retrieve("tale").object == "model"
        for name in names:
            adapted = ["--adapter-path", adapter] if name == "tale" else []
            plain = ["--model", model, "--compute", "fp32", "--max-tokens", 16, *adapted]
            expected = ctx.json("generate", *plain, "--prompt", MESSAGES[0]["content"])
            answer = client.chat.completions.create(model=name, messages=MESSAGES, max_completion_tokens=16)
            assert answer.choices[0].message.content == expected["text"], (answer, expected)
            assert answer.usage.completion_tokens == expected["tokens"] and answer.usage.prompt_tokens == expected["prompt_tokens"]
            assert answer.choices[0].finish_reason in ("stop", "length") and answer.model == name
            stream = client.chat.completions.create(model=name, messages=MESSAGES, max_tokens=16, stream=True,
                                                    stream_options={"include_usage": True})
            chunks = list(stream)
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            assert text == expected["text"], (text, expected)
            assert chunks[-1].usage.completion_tokens == expected["tokens"]
            assert all("usage" in c.model_fields_set and c.usage is None for c in chunks[:-1])
            assert chunks[0].choices[0].delta.role == "assistant"
            expected = ctx.json("generate", *plain, "--prompt", "two", "--ignore-chat-template")
            answer = client.completions.create(model=name, prompt="two", max_tokens=16)
            assert answer.choices[0].text == expected["text"], (answer, expected)
            stream = client.completions.create(model=name, prompt="two", max_tokens=16, stream=True)
            text = "".join(c.choices[0].text for c in stream)
            assert text == expected["text"]
        by_field = client.chat.completions.create(model=names[0], messages=MESSAGES, max_tokens=16, extra_body={"adapter": "tale"})
        by_name = client.chat.completions.create(model="tale", messages=MESSAGES, max_tokens=16)
        assert by_field.choices[0].message.content == by_name.choices[0].message.content
        same = [client.chat.completions.create(model="tale", messages=MESSAGES, max_tokens=16, temperature=0.8, seed=5, top_p=0.9)
                .choices[0].message.content for _ in range(2)]
        assert same[0] == same[1]
        done = server.stop()
        assert done["answers"] == 12 and done["refused"] == 0, done


def errors(ctx):
    """Errors are the client's own classes, and name the field."""
    import openai

    model, _ = trained(ctx)
    with Server(ctx.graft, model, "--max-seq-length", 200, "--max-body", 5000, env={"GRAFT_API_KEY": "sesame"}) as server:
        raises(openai.AuthenticationError, 401, lambda: server.client("wrong").models.list())
        client = server.client("sesame")
        create = client.chat.completions.create
        raises(openai.NotFoundError, 404, lambda: create(model="gpt-4o", messages=MESSAGES))
        name = Path(model).name
        for field, value in (("n", 2), ("logprobs", True), ("tools", [{"type": "function", "function": {"name": "f"}}]),
                             ("presence_penalty", 1.0), ("temperature", -1), ("reasoning_effort", "high"),
                             ("verbosity", "low"), ("modalities", ["text", "audio"]),
                             ("response_format", {"type": "json_object"})):
            error = raises(openai.BadRequestError, 400, lambda f=field, v=value: create(model=name, messages=MESSAGES, **{f: v}))
            assert error.param == field, (field, error.param)
        error = raises(openai.BadRequestError, 400, lambda: create(model=name, messages=[{"role": "user", "content": "x " * 500}]))
        assert error.code == "context_length_exceeded", error.code
        error = raises(openai.APIStatusError, 413, lambda: create(model=name, messages=[{"role": "user", "content": "x" * 6000}]))
        assert error.code == "request_too_large", error.code
        elsewhere = server.client("sesame", default_headers={"Host": "example.org"})
        error = raises(openai.PermissionDeniedError, 403, elsewhere.models.list)
        assert error.code == "host_not_allowed", error.code
        assert create(model=name, messages=MESSAGES, max_tokens=2).choices


def leaving(ctx):
    """A stream that its client closes makes room for the next one, and a queue that is full is a RateLimitError."""
    import openai

    model, _ = trained(ctx)
    with Server(ctx.graft, model, "--batch-size", 1, "--max-requests", 1, "--max-seq-length", 20000) as server:
        client = server.client()
        stream = client.completions.create(model=Path(model).name, prompt="a", stream=True, max_tokens=19000, temperature=1, seed=1,
                                           extra_body={"top_k": 2})
        next(iter(stream))
        waiting = threading.Thread(target=lambda: client.completions.create(model=Path(model).name, prompt="a", max_tokens=1))
        waiting.start()
        time.sleep(0.3)
        if waiting.is_alive():  # else the first answer was short
            raises(openai.RateLimitError, 429, lambda: client.completions.create(model=Path(model).name, prompt="a"))
        stream.close()
        waiting.join(30)
        assert not waiting.is_alive()
        server.stop()


def page(ctx):
    """What docs/serve.md shows of the client."""
    model, adapter = trained(ctx)
    text = (Path(__file__).resolve().parents[2] / "docs" / "serve.md").read_text()
    blocks = [part.split("```")[0] for part in text.split("```py\n")[1:]]
    assert blocks, "no program on the page"
    with Server(ctx.graft, model, "--max-tokens", 8, "--adapter", f"tales={adapter}") as server:
        for block in blocks:
            here = block.replace("http://127.0.0.1:8080/v1", server.url)
            assert here != block, block
            done = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0, done.stderr[-1000:]
        assert server.stop()["answers"] == len(blocks)


def load(server, model, clients, requests, tokens):
    """(seconds of each answer, tokens per second of all, errors) of so many threads with so many requests each."""
    seconds, errors_seen, counted, lock = [], [], [], threading.Lock()

    def run(number):
        client = server.client()
        for i in range(requests):
            start = time.monotonic()
            try:
                words = f"Tell me about the number {number * requests + i}."
                answer = client.chat.completions.create(model=model, max_tokens=tokens,
                                                        messages=[{"role": "user", "content": words}])
                with lock:
                    seconds.append(time.monotonic() - start)
                    counted.append(answer.usage.completion_tokens)
            except Exception as error:  # pylint: disable=broad-except
                with lock:
                    errors_seen.append(repr(error))

    start = time.monotonic()
    threads = [threading.Thread(target=run, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(seconds), sum(counted) / (time.monotonic() - start), errors_seen


def crowd(ctx):
    """Forty clients at once: every answer comes, and is the one that it is alone."""
    model, _ = trained(ctx)
    with Server(ctx.graft, model, "--batch-size", 8) as server:
        seconds, _, bad = load(server, Path(model).name, 40, 5, 20)
        assert not bad and len(seconds) == 200, bad[:3]
        done = server.stop()
        assert done["answers"] == 200 and done["refused"] == done["left"] == 0, done


def checks(ctx):
    yield "the openai client's session says what generate says", lambda: session(ctx)
    yield "the client's program on the page runs", lambda: page(ctx)
    yield "errors are the openai client's classes", lambda: errors(ctx)
    yield "who leaves makes room", lambda: leaving(ctx)
    yield "forty clients at once", lambda: crowd(ctx)


def percentile(values, share):
    return values[min(len(values) - 1, int(share * len(values)))]


def main():
    graft, model = sys.argv[1:3]
    most, requests, tokens = (int(x) for x in (sys.argv[3:6] + ["16", "120", "32"][len(sys.argv) - 3:]))
    alone = []
    for i in range(requests):
        start = time.monotonic()
        subprocess.run([graft, "generate", "--model", model, "--max-tokens", str(tokens),
                        "--prompt", f"Tell me about the number {i}."], check=True, capture_output=True)
        alone.append(time.monotonic() - start)
    alone.sort()
    print(f"generate, with opening the model: {tokens} tokens, {requests} runs, p50 {percentile(alone, .5):.2f} s, "
          f"p99 {percentile(alone, .99):.2f} s, {tokens / percentile(alone, .5):.1f} tokens/s")
    print("clients  at once  requests  errors  p50 s  p99 s  tokens/s")
    for batch in (1, 4, 8):
        with Server(graft, model, "--batch-size", batch) as server:
            name = server.client().models.list().data[0].id
            for clients in sorted({1, batch, most}):
                each = -(-requests // clients)
                seconds, rate, bad = load(server, name, clients, each, tokens)
                print(f"{clients:7d}  {batch:7d}  {clients * each:8d}  {len(bad):6d}  {percentile(seconds, .5):5.2f}  "
                      f"{percentile(seconds, .99):5.2f}  {rate:8.1f}", flush=True)
            server.stop()


if __name__ == "__main__":
    main()
