"""A Kubernetes API on loopback: the real kube-apiserver with its etcd where KUBEBUILDER_ASSETS names a directory that has both
(as for envtest), and else a stand-in: a store of objects behind the API's paths, with merge patches and its kind of refusals. The
stand-in is no Kubernetes: it admits everything, defaults nothing and controls nothing. Tests pass on either.

Nobody runs pods here: what a kubelet or a controller would do, tests do themselves.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, TCPConnector, web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.tools import free_port, spawn, wait_until

_TOKEN = "test-admin-token"
_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?P<status>/status)?"
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """`kubeconfig`: a file for whoever is to use it. `real`: it is a kube-apiserver."""

    url: str
    kubeconfig: Path
    real: bool
    session: ClientSession

    async def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> dict[str, Any]:
        """As an administrator. AssertionError for a refusal."""
        headers = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": kind}
        async with self.session.request(method, self.url + path, data=json.dumps(body) if body else None, headers=headers) as got:
            said: dict[str, Any] = await got.json()
            assert got.status < 300, (method, path, got.status, said)
            return said

    async def make(self, path: str, name: str, /, *, api: str = "v1", kind: str, **fields: Any) -> dict[str, Any]:
        """An object at `path`, with `labels`, `owner`, `spec`, `status`; its status is set as its controller would."""
        metadata: dict[str, Any] = {"name": name, "labels": fields.pop("labels", {})}
        if owner := fields.pop("owner", ""):
            metadata["ownerReferences"] = [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": f"uid-{owner}", "controller": True}
            ]
        status = fields.pop("status", None)
        made = await self.call("POST", path, {"apiVersion": api, "kind": kind, "metadata": metadata, **fields})
        if status is not None:
            await self.set_status(f"{path}/{name}", status)
        return made

    async def set_status(self, path: str, status: dict[str, Any]) -> None:
        await self.call("PATCH", f"{path}/status", {"status": status}, "application/merge-patch+json")

    async def pod(self, name: str, labels: dict[str, str], owner: str = "origin-7f", ready: bool = True) -> None:
        spec = {"containers": [{"name": "a", "image": "none"}]}
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        path = "/api/v1/namespaces/live/pods"
        await self.make(path, name, kind="Pod", labels=labels, owner=owner, spec=spec, status={"conditions": conditions})


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """One with the namespace `live`."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    serving = _real(folder, Path(assets)) if assets else _stand_in()
    async with serving as url, ClientSession(connector=TCPConnector(ssl=False)) as session:
        file = folder / "kubeconfig"
        file.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "test",
                    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin", "namespace": "live"}}],
                    "clusters": [{"name": "test", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
                    "users": [{"name": "admin", "user": {"token": _TOKEN}}],
                }
            )
        )
        made = Cluster(url, file, assets is not None, session)
        await made.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "live"}})
        yield made


@asynccontextmanager
async def _real(folder: Path, assets: Path) -> AsyncIterator[str]:
    etcd, peer, port = free_port(), free_port(), free_port()
    key = folder / "sa.key"
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    key.write_bytes(pem)
    (folder / "tokens.csv").write_text(f'{_TOKEN},admin,admin,"system:masters"\n')
    to = f"http://127.0.0.1:{etcd}"
    store = [assets / "etcd", "--data-dir", folder / "etcd", "--unsafe-no-fsync", "--listen-client-urls", to]
    store += ["--advertise-client-urls", to, "--listen-peer-urls", f"http://127.0.0.1:{peer}"]
    serve = [assets / "kube-apiserver", f"--etcd-servers={to}", f"--secure-port={port}", "--bind-address=127.0.0.1"]
    serve += [f"--cert-dir={folder / 'certs'}", f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC"]
    serve += [f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}"]
    serve += ["--service-account-issuer=https://test", "--service-cluster-ip-range=10.0.0.0/24", "--profiling=false"]
    serve += ["--disable-admission-plugins=ServiceAccount"]
    with spawn([str(part) for part in store], folder / "etcd.log"):
        with spawn([str(part) for part in serve], folder / "apiserver.log"):
            async with ClientSession(connector=TCPConnector(ssl=False)) as session:

                async def ready() -> bool:
                    try:
                        async with session.get(
                            f"https://127.0.0.1:{port}/readyz", headers={"Authorization": f"Bearer {_TOKEN}"}
                        ) as got:
                            return got.status == 200
                    except OSError:
                        return False

                await wait_until(ready, 60, "the API server")
            yield f"https://127.0.0.1:{port}"


@asynccontextmanager
async def _stand_in() -> AsyncIterator[str]:
    objects: dict[str, dict[str, Any]] = {}
    kinds: set[str] = set()  # of custom resources, by "group/plural"

    def answer(body: Any, status: int = 200) -> web.Response:
        return web.Response(body=json.dumps(body).encode(), status=status, content_type="application/json")

    def refusal(code: int, reason: str, words: str) -> web.Response:
        body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": words}
        return answer(body, code)

    async def serve(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {_TOKEN}":
            return refusal(401, "Unauthorized", "Unauthorized")
        found = _PATH.fullmatch(request.path)
        if found is None:
            return refusal(404, "NotFound", "the server could not find the requested resource")
        group, plural, name = found["group"] or "", found["plural"], found["name"]
        if group == "chaos-mesh.org" and f"{group}/{plural}" not in kinds:
            return refusal(404, "NotFound", "the server could not find the requested resource")
        where = f"{group}/{found['namespace'] or ''}/{plural}/"
        body = json.loads(await request.text() or "{}")
        if request.method == "POST":
            if plural == "customresourcedefinitions":
                kinds.add(f"{body['spec']['group']}/{body['spec']['names']['plural']}")
            if where + body["metadata"]["name"] in objects:
                return refusal(409, "AlreadyExists", "already exists")
            body["metadata"] |= {"uid": secrets.token_hex(8), "generation": 1, "namespace": found["namespace"]}
            objects[where + body["metadata"]["name"]] = body
            return answer(body, 201)
        if name is None:
            wanted = dict(part.split("=") for part in request.query.get("labelSelector", "").split(",") if part)
            items = [
                one
                for key, one in objects.items()
                if key.startswith(where) and wanted.items() <= (one["metadata"].get("labels") or {}).items()
            ]
            return answer({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
        one = objects.get(where + name)
        if one is None:
            return refusal(404, "NotFound", f'{plural} "{name}" not found')
        if request.method == "PATCH":
            changed = "spec" in body and body["spec"] != one.get("spec")
            _merge(one, body)
            one["metadata"]["generation"] += changed
        elif request.method == "DELETE":
            del objects[where + name]
        return answer(one)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _merge(into: dict[str, Any], patch: dict[str, Any]) -> None:
    """RFC 7396."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge(into[key], value)
        else:
            into[key] = value
