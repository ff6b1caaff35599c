"""The service account of the autoscaler with the rights of `deploy/autoscaler/rbac.yaml`, alone.

The manifest names one namespace; each test has another in its place.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from .api import PLURALS, Api, ApiError, Json, at

MANIFEST = Path(__file__).parents[3] / "deploy" / "autoscaler" / "rbac.yaml"
TOKEN_S = 3600


async def grant(api: Api, namespace: str, *, everywhere: bool = False) -> str:
    """Create all of the manifest for `namespace`; a token of its service account.

    `everywhere`: with bindings for the whole cluster, as the manifest stands; else, as it says,
    with bindings in this namespace alone.
    """
    account = ""
    for document in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")):
        made = _for_namespace(document, namespace, everywhere=everywhere)
        kind = made["kind"]
        if kind == "ServiceAccount":
            account = made["metadata"]["name"]
        path = at(PLURALS[kind], None if kind.startswith("Cluster") else namespace)
        try:
            await api.create(path, made)
        except ApiError as error:
            if (kind, error.code) != ("ClusterRole", 409):  # of a test before
                raise
    path = at("serviceaccounts", namespace, account, "token")
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": TOKEN_S},
    }
    token: str = (await api.create(path, request))["status"]["token"]
    return token


async def may(api: Api, verb: str, resource: str, namespace: str, sub: str = "") -> bool:
    """Whether the user of `api` has a right: `resource` is PLURAL.GROUP."""
    plural, _, group = resource.partition(".")
    attributes = {
        "namespace": namespace, "verb": verb, "group": group, "resource": plural,
        "subresource": sub,
    }  # fmt: skip
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    return bool((await api.create(path, review))["status"]["allowed"])


def _for_namespace(document: Json, namespace: str, *, everywhere: bool) -> Json:
    made: Json = {**document, "metadata": {**document["metadata"]}}
    kind = document["kind"]
    if kind == "ClusterRole":
        return made
    if "subjects" in document:
        made["subjects"] = [{**subject, "namespace": namespace} for subject in document["subjects"]]
    if kind == "ClusterRoleBinding" and everywhere:
        made["metadata"]["name"] += f"-{namespace}"
        return made
    if kind == "ClusterRoleBinding":
        # The lease's binding in the autoscaler's own namespace may have the same name.
        made |= {"kind": "RoleBinding"}
        made["metadata"]["name"] += "-policies"
    made["metadata"]["namespace"] = namespace
    return made
