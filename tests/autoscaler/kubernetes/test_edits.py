from __future__ import annotations

import msgspec
import pytest

from shoal.autoscaler.kubernetes.edits import Edit, Edits, ManagedFields, editor


def test_numbers_of_ours_are_no_edits() -> None:
    edits = Edits(2)
    assert edits.saw(2) is None
    edits.sending(5)
    edits.wrote(5)
    assert edits.saw(5) is None


def test_others_are_told_once() -> None:
    edits = Edits(2)
    edits.wrote(0)
    assert edits.saw(7) == Edit(0, 7)
    assert edits.saw(7) is None


@pytest.mark.parametrize(("seen", "is_edit"), [(5, False), (2, False), (6, True)])
def test_a_write_without_an_answer_may_have_been_taken(seen: int, is_edit: bool) -> None:
    edits = Edits(2)
    edits.sending(5)
    assert (edits.saw(seen) is not None) is is_edit


def managed(manager: str, time: str, fields: object) -> ManagedFields:
    entry = {"manager": manager, "time": time, "fieldsV1": fields}
    return msgspec.json.decode(msgspec.json.encode(entry), type=ManagedFields)


def test_the_editor_is_the_last_that_owns_replicas() -> None:
    replicas = {"f:spec": {"f:replicas": {}}}
    found = [
        managed("kubectl", "2026-01-01T00:00:00Z", replicas),
        managed("argocd", "2026-01-02T00:00:00Z", replicas),
        managed("kube-controller-manager", "2026-01-03T00:00:00Z", {"f:status": {}}),
    ]
    assert editor(found) == "argocd"
    assert editor(found[2:]) == ""
    edit = Edit(0, 7).by_one_of(found)
    assert str(edit).startswith("'argocd' set replicas from 0 to 7")
