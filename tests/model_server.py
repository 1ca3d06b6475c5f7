"A model server on the loopback that says what it is told to, in pieces, slowly, or half."

from __future__ import annotations

import http.server
import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Reply = Callable[[list[dict[str, str]]], Iterable[str]]  # messages → pieces


@contextmanager
def serve_model(
    reply: Reply,
    *,
    score: Callable[[str], tuple[list[int], list[float | None]]] | None = None,  # prompt → offsets and log-probabilities of its tokens
    pause: float = 0.0,  # seconds before each piece
    cut_after: int | None = None,  # pieces, then the connection is closed
    num_cut: float = math.inf,  # replies that are
    seen: list[dict[str, Any]] | None = None,  # hears each request
    most_bytes: int | None = None,  # of the messages of a request
) -> Iterator[str]:
    "The url of the server."

    cuts = itertools.count()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(200, {"data": [{"id": "any", "max_model_len": 16384}]})

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if seen is not None:
                seen.append(content)
            if most_bytes is not None and sum(len(message["content"]) for message in content.get("messages", ())) > most_bytes:
                self.answer(413, {"error": {"message": "Please reduce the length."}})
            elif self.path.endswith("/chat/completions"):
                self.talk(content)
            elif score is not None and content.get("echo"):
                offsets, values = score(content["prompt"])
                choice = {"text": content["prompt"], "logprobs": {"text_offset": offsets, "token_logprobs": values}}
                self.answer(200, {"choices": [choice]})
            else:
                self.answer(404, {"error": {"message": "no such path"}})

        def talk(self, content: dict[str, Any]) -> None:
            pieces = reply(content["messages"])
            if not content.get("stream"):
                self.answer(200, {"choices": [{"message": {"content": "".join(pieces)}}]})
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for number, piece in enumerate(pieces):
                if number == cut_after and next(cuts) < num_cut: return
                time.sleep(pause)
                event = json.dumps({"choices": [{"delta": {"content": piece}}]})
                try:
                    self.wfile.write(f"data: {event}\n\n".encode())
                    self.wfile.flush()
                except OSError:
                    return  # whoever asked has left
            self.wfile.write(b"data: [DONE]\n\n")

        def answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def in_pieces(text: str, size: int = 12) -> list[str]:
    "A text as a server streams it."
    return [text[i : i + size] for i in range(0, len(text), size)]
