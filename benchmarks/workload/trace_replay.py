"""Arrivals and lengths of a recorded trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .plan import Workload
from .tokens import PromptWriter

if TYPE_CHECKING:
    from .spec import WorkloadSpec


class TraceReplay:
    @classmethod
    def of(cls, spec: WorkloadSpec, writer: PromptWriter) -> Workload:
        raise NotImplementedError
