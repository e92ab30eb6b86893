"""A server with as much of the Hugging Face Hub's protocol as fetching a file needs."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Repository(NamedTuple):
    """Files by name, and the fault of the weights: `"cut"`, `"altered"` or `""` for none."""

    files: Mapping[str, bytes]
    fault: str = ""
    revisions: tuple[str, ...] = ("main", COMMIT)


@contextlib.contextmanager
def serving(repositories: Mapping[str, Repository]) -> Iterator[tuple[str, list[str]]]:
    """Serve repositories on this machine; yield the server's address and the requested paths."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(with_content=False)

        def do_GET(self):
            asked.append(self.path)
            self.answer(with_content=True)

        def log_message(self, *_):
            pass

        def answer(self, *, with_content):
            owner, name, _, revision, file = self.path.strip("/").split("/")
            repository = repositories.get(f"{owner}/{name}")
            if repository is None:
                return self.refuse("RepoNotFound")
            if revision not in repository.revisions:
                return self.refuse("RevisionNotFound")
            if file not in repository.files:
                return self.refuse("EntryNotFound")
            content = repository.files[file]
            is_large = file.endswith(".safetensors")
            if is_large:
                tag = hashlib.sha256(content).hexdigest()
            else:
                tag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            fault = repository.fault if is_large and with_content else ""
            if fault == "altered":
                content = bytes(len(content))
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{tag}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_content:
                self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
            return None

        def refuse(self, code):
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
