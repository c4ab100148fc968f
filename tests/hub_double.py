"""A double of the Hugging Face hub's HTTP API, for one process: what downloads and uploads of models ask of it.

Large files go by the LFS protocol, as to any hub without Xet. It can break a connection in the middle of a file, hold
a file back, and change its bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_double"


class HubDouble(ThreadingHTTPServer):
    """`repos` is {repository: {branch: {path: bytes}}}; `asked` lists (method, path, Range, Authorization)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: set[str] = set()
        self.asked: list[tuple[str, str, str | None, str | None]] = []
        self.break_after: dict[str, list[int]] = {}
        """Path -> bytes after which each of the next requests breaks off."""
        self.held: dict[str, threading.Event] = {}
        """Path -> half of it is sent, the rest when the event is set."""
        self.blobs: dict[str, bytes] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def put(self, repo, folder, branch="main"):
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.repos.setdefault(repo, {})[branch] = files

    def fetched(self):
        """Names of the files whose content was asked for, in order."""
        return [path.split("/", 5)[5] for method, path, *_ in self.asked if method == "GET" and "/resolve/" in path]

    def handle_error(self, request, client_address):
        """A client that was killed is no error of ours."""


def sha(files):
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubDouble

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._note()
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            if (files := self._files(*found.groups())) is not None:
                self._json({"id": found[1], "sha": sha(files), "siblings": [{"rfilename": name} for name in files]})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(.+)", path):
            if (files := self._files(*found.groups())) is not None:
                rows = [{"type": "file", "path": n, "size": len(b), "oid": _oid(b)} for n, b in files.items()]
                self._json(rows)
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            if (files := self._files(found[1], found[2])) is not None:
                self._file(found[3], files, sha(files))
        else:
            self._refuse(404, None)

    do_HEAD = do_GET

    def do_POST(self):
        self._note()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(self.path.partition("?")[0])
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(401, None)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            if repo in self.server.repos:
                self._json({"url": f"{self.server.url}/{repo}"}, 409)
            else:
                self.server.repos[repo] = {"main": {}}
                self.server.private |= {repo} if asked.get("visibility") == "private" else set()
                self._json({"url": f"{self.server.url}/{repo}"})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/branch/(.+)", path):
            branches = self.server.repos[found[1]]
            status = 409 if found[2] in branches else 200
            branches.setdefault(found[2], dict(branches["main"]))
            self._json({}, status)
        elif re.fullmatch(r"/api/models/[^/]+/[^/]+/preupload/.+", path):
            files = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                 "shouldIgnore": False} for f in json.loads(body)["files"]
            ]  # fmt: skip
            self._json({"files": files})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {"oid": o["oid"], "size": o["size"],
                 "actions": {"upload": {"href": f"{self.server.url}/lfs/{o['oid']}"}}}
                for o in json.loads(body)["objects"]
            ]  # fmt: skip
            self._json({"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/(.+)", path):
            files = self.server.repos[found[1]][found[2]]
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.server.blobs[value["oid"]]
            self._json({"commitUrl": f"{self.server.url}/{found[1]}/commit/{sha(files)}", "commitOid": sha(files)})
        else:
            self._refuse(404, None)

    def do_PUT(self):
        self._note()
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(content).hexdigest() == self.path.rpartition("/")[2]
        self.server.blobs[self.path.rpartition("/")[2]] = content
        self._json({})

    def _note(self):
        self.server.asked.append(
            (self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization"))
        )

    def _files(self, repo, revision):
        branches = self.server.repos.get(repo)
        if branches is None or (repo in self.server.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            return self._refuse(401, "RepoNotFound")
        for branch, files in branches.items():
            if revision in (branch, sha(files)):
                return files
        return self._refuse(404, "RevisionNotFound")

    def _file(self, name, files, commit):
        if name not in files:
            self._refuse(404, "EntryNotFound")
            return
        content = files[name]
        start = int(re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "bytes=0-")[1])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{_oid(content)}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        broken = self.server.break_after.get(name)
        held = self.server.held.get(name)
        if broken:
            self.wfile.write(content[start : start + broken.pop(0)])
            self.close_connection = True
        elif held is not None:
            half = (start + len(content)) // 2
            self.wfile.write(content[start:half])
            self.wfile.flush()
            held.wait(60)
            self.wfile.write(content[half:])
        else:
            self.wfile.write(content[start:])

    def _json(self, value, status=200):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status, code):
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
