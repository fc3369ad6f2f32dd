"""`graft download` and huggingface_hub share one cache: what either fetches from a hub on this machine, the other finds."""
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def serve(folder, slow=0):
    """A hub with one model, me/tiny: the API's list, and files by range; weights by their SHA-256, the rest by git's name."""
    files = {p.name: p.read_bytes() for p in Path(folder).iterdir() if p.is_file()}

    def digest(name):
        data = files[name]
        if name.endswith(".safetensors"):
            return hashlib.sha256(data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    class Hub(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def head(self, status, **headers):
            self.send_response(status)
            self.send_header("X-Repo-Commit", COMMIT)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), str(value))
            self.end_headers()

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = self.path.split("?")[0]
            found = re.fullmatch(rf"/me/tiny/resolve/(?:main|{COMMIT})/(.+)", path)
            if path.startswith("/api/models/me/tiny/tree/"):
                body = json.dumps([{"type": "file", "path": n, "size": len(d), "oid": "0" * 40 if n.endswith(".safetensors")
                                    else digest(n), **({"lfs": {"oid": digest(n), "size": len(d), "pointerSize": 130}}
                                                       if n.endswith(".safetensors") else {})} for n, d in files.items()]).encode()
                self.head(200, Content_Length=len(body), Content_Type="application/json")
                self.wfile.write(body)
            elif path.startswith("/api/models/me/tiny"):
                rows = [{"rfilename": n, "size": len(d), "blobId": digest(n) if not n.endswith(".safetensors") else "0" * 40,
                         **({"lfs": {"sha256": digest(n), "size": len(d), "pointerSize": 130}}
                            if n.endswith(".safetensors") else {})} for n, d in files.items()]
                body = json.dumps({"id": "me/tiny", "modelId": "me/tiny", "sha": COMMIT, "siblings": rows, "private": False,
                                   "tags": [], "downloads": 0, "likes": 0}).encode()
                self.head(200, Content_Length=len(body), Content_Type="application/json")
                if self.command == "GET":
                    self.wfile.write(body)
            elif found and found[1] in files:
                name, data, status, more = found[1], files[found[1]], 200, {}
                part = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
                if part:
                    data, status = data[int(part[1]):], 206
                    more["Content_Range"] = f"bytes {part[1]}-{len(files[name]) - 1}/{len(files[name])}"
                if name.endswith(".safetensors"):
                    more.update(X_Linked_Etag=f'"{digest(name)}"', X_Linked_Size=len(files[name]))
                self.head(status, Content_Length=len(data), ETag=f'"{digest(name)}"', Accept_Ranges="bytes", **more)
                if self.command == "GET":
                    for at in range(0, len(data), 8192):
                        self.wfile.write(data[at:at + 8192])
                        if slow:
                            time.sleep(slow)
            else:
                self.head(404, X_Error_Code="EntryNotFound", Content_Length=0)

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):  # a client that went away
            pass

    server = Server(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


def environment(folder, endpoint, **more):
    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("HF_")}
    return {**clean, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1", **more}


def graft(ctx, env, *args):
    done = subprocess.run([ctx.graft, *map(str, args)], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, f"graft {args}: {done.returncode}: {done.stderr[-1000:]}"
    return done.stdout


def python(env, code):
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout.strip()


def places(ctx, name):
    home = ctx.work / name
    shutil.rmtree(home, ignore_errors=True)
    return ctx.tiny("llama_rope"), home


FIND = "from huggingface_hub import snapshot_download as s; print(s('me/tiny', local_files_only=True{}))"


def ours_for_them(ctx):
    model, home = places(ctx, "hub-ours")
    server, endpoint = serve(model)
    env = environment(home, endpoint)
    got = json.loads(graft(ctx, env, "download", "me/tiny", "--json"))
    assert got["commit"] == COMMIT and got["fetched_bytes"] == got["bytes"] > 0, got
    again = json.loads(graft(ctx, env, "download", "me/tiny", "--json"))
    assert again["fetched_bytes"] == 0, again
    server.shutdown()
    offline = environment(home, endpoint, HF_HUB_OFFLINE="1")
    assert python(offline, FIND.format("")) == got["path"], "huggingface_hub finds another snapshot"
    text = python(offline, "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
                           "M.from_pretrained('me/tiny'); print(T.from_pretrained('me/tiny').encode('a b'))")
    ids = json.loads(graft(ctx, offline, "tokenize", "--model", "me/tiny", "--text", "a b", "--json"))["ids"]
    assert json.loads(text) == ids or json.loads(text) + ids[-1:] == ids, (text, ids)


def in_parts(ctx, model):
    """The same model with its weights in several files."""
    from transformers import AutoModelForCausalLM

    folder = ctx.work / "hub-parts"
    shutil.copytree(model, folder, dirs_exist_ok=True)
    (folder / "model.safetensors").unlink(missing_ok=True)
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


def theirs_for_us(ctx):
    model, home = places(ctx, "hub-theirs")
    model = in_parts(ctx, model)
    server, endpoint = serve(model)
    env = environment(home, endpoint)
    path = python(env, "from huggingface_hub import snapshot_download as s; print(s('me/tiny'))")
    got = json.loads(graft(ctx, env, "download", "me/tiny", "--json"))
    assert got["fetched_bytes"] == 0 and got["path"] == path, (got, path)
    server.shutdown()
    offline = environment(home, endpoint, HF_HUB_OFFLINE="1")
    assert json.loads(graft(ctx, offline, "plan", "--model", "me/tiny", "--json"))["parameters"]["total"] > 0
    answer = ("generate", "--prompt", "a b", "--ignore-chat-template", "--max-tokens", "4", "--temp", "0", "--json", "--model")
    by_name, by_path = (json.loads(graft(ctx, offline, *answer, m)) for m in ("me/tiny", model))
    assert by_name["text"] == by_path["text"], (by_name, by_path)
    weights = sorted(Path(path).glob("*.safetensors"))[1]
    os.unlink(os.path.realpath(weights))
    done = subprocess.run([ctx.graft, "plan", "--model", "me/tiny"], capture_output=True, text=True, env=offline, check=False)
    assert done.returncode == 1 and weights.name in done.stderr and "graft download me/tiny" in done.stderr, done.stderr


def interrupted(ctx):
    model, home = places(ctx, "hub-stopped")
    size = (Path(model) / "model.safetensors").stat().st_size
    server, endpoint = serve(model, slow=2.0 / (size / 8192))
    env = environment(home, endpoint)
    run = subprocess.Popen([ctx.graft, "download", "me/tiny"], stderr=subprocess.PIPE, text=True, env=env)
    blobs = home / "hub" / "models--me--tiny" / "blobs"
    for _ in range(200):
        parts = list(blobs.glob("*.incomplete"))
        if parts and parts[0].stat().st_size > size // 4:
            break
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    message = run.communicate(timeout=20)[1]
    assert run.returncode == 130 and "goes on from here" in message, (run.returncode, message)
    had = list(blobs.glob("*.incomplete"))[0].stat().st_size
    assert 0 < had < size and not (blobs.parent / "refs" / "main").exists()
    got = json.loads(graft(ctx, env, "download", "me/tiny", "--json"))
    assert got["fetched_bytes"] == got["bytes"] - had, (got, had)
    server.shutdown()


def checks(ctx):
    yield "what graft downloads, huggingface_hub and transformers find offline", lambda: ours_for_them(ctx)
    yield "what huggingface_hub downloads, graft finds; a missing blob is named", lambda: theirs_for_us(ctx)
    yield "Ctrl-C leaves a part from which the same line goes on", lambda: interrupted(ctx)
