"""A stand-in for the Hugging Face hub: as much of its API as pushing one small agent and loading it again needs."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Hub(BaseHTTPRequestHandler):
    """Keeps the files of all repositories as files in ``folder``."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._send_file()

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[0] == "api":  # api/models/OWNER/NAME...
            repository = self._repository(parts[2:4])
            files = {str(file.relative_to(repository)): file for file in repository.rglob("*") if file.is_file()}
            if parts[4:5] == ["tree"]:
                sizes = [(path, file.stat().st_size) for path, file in files.items()]
                self._answer([{"type": "file", "path": path, "size": size, "oid": "0" * 40} for path, size in sizes])
            else:
                siblings = [{"rfilename": path} for path in files]
                self._answer({"id": "/".join(parts[2:4]), "sha": "0" * 40, "siblings": siblings})
        else:
            self._send_file()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[1] == "repos":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            self._repository(name.split("/")).mkdir(parents=True, exist_ok=True)
            self._answer({"url": f"http://{self.headers['Host']}/{name}"})
        elif parts[1] == "validate-yaml":
            self._answer({"warnings": [], "errors": []})
        elif parts[4] == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            self._answer({"files": files, "commitOid": "0" * 40})
        else:
            for line in body.splitlines():
                operation = json.loads(line)
                if operation["key"] == "file":
                    file = self._repository(parts[2:4]) / operation["value"]["path"]
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(base64.b64decode(operation["value"]["content"]))
            name = "/".join(parts[2:4])
            url = f"http://{self.headers['Host']}/{name}/commit/{'1' * 40}"
            self._answer({"success": True, "commitOid": "1" * 40, "commitUrl": url})

    def _repository(self, parts: list[str]) -> Path:
        return self.folder.joinpath(*parts)

    def _send_file(self) -> None:
        owner, name, _, _, *path = self.path.split("?")[0].strip("/").split("/")  # OWNER/NAME/resolve/REVISION/FILE
        file = self._repository([owner, name, *path])
        if not file.is_file():
            self._answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        content = file.read_bytes()
        self._answer(content, 200, {"ETag": f'"{sha1(content).hexdigest()}"'})

    def _answer(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header(
            "Content-Type", "application/octet-stream" if isinstance(content, bytes) else "application/json"
        )
        self.send_header("X-Repo-Commit", "0" * 40)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def running_hub(folder: Path) -> Iterator[str]:
    """
    :param folder: where to keep the files
    :return: the address, for HF_ENDPOINT
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubOfAFolder", (Hub,), {"folder": folder}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
