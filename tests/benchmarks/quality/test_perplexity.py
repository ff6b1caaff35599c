"""Perplexity of a tiny model equals what its own logits say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from shoal.benchmarks.cpu.driven_model import DrivenModel
from shoal.benchmarks.quality import perplexity
from shoal.benchmarks.quality.perplexity import Prediction, predict, windows_of
from shoal.benchmarks.quality.text import reference_text
from shoal.engine.sources.model_files import ModelFiles
from tests.engine.models.drive import native_logits_in_chunks
from tests.engine.models.test_native import SIZES, TOKENS
from tests.engine.models.test_parity import save_reference
from tests.kernels.cpu_library import kernels


def test_windows_have_one_length_and_what_is_left_over_is_dropped() -> None:
    windows = windows_of(list(range(23)), num_tokens=20, length=6)
    assert [window.tolist() for window in windows] == [
        list(range(6)), list(range(6, 12)), list(range(12, 18)),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="the text has 5 tokens, 6 were asked for"):
        windows_of([1] * 5, num_tokens=6, length=3)


def test_every_window_is_predicted_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perplexity, "CHUNK", 17)
    save_reference("smollm2", tmp_path, sizes=SIZES)
    files = ModelFiles(name="tiny", path=tmp_path, format="hf", source="")
    model = DrivenModel(files, kernels(), num_threads=2, num_kv_tokens=48, kv_format="float32")
    windows = windows_of(TOKENS, num_tokens=80, length=40)
    found = list(predict(model, windows))
    assert len(found) == 2
    for window, (logprobs, best) in zip(windows, found, strict=True):
        logits = native_logits_in_chunks(model.model, window.tolist(), [40])[:-1]
        expected = logits.log_softmax(-1).gather(1, torch.from_numpy(window[1:, None]))[:, 0]
        torch.testing.assert_close(torch.from_numpy(logprobs), expected, atol=1e-4, rtol=0)
        assert best.tolist() == logits.argmax(-1).tolist()


def test_perplexity_and_agreement() -> None:
    ones = np.log(np.full(4, 0.25, np.float32))
    prediction = Prediction(ones, np.array([1, 2, 3, 4], np.int32))
    assert prediction.perplexity == pytest.approx(4.0)
    other = Prediction(ones, np.array([1, 2, 0, 4], np.int32))
    assert prediction.agreement(other) == 0.75


def test_the_text_is_long_enough_and_always_the_same() -> None:
    text = reference_text()
    assert len(text) > 300_000
    assert text == reference_text()
