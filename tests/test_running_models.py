"""The models of a run: what is counted of them."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from centernetd.config import Config
from centernetd.run import models as models_module
from centernetd.run.models import Models


class FakeModel:
    """A model that runs nothing; whether it has ended and what it ran on is set by the test."""

    def __init__(self, name: str, config: Any) -> None:
        self.name = name
        self.config = config.used_models[name]
        self.stage = SimpleNamespace(ended=False)
        self.ended = False
        self.inferred = 0

    def close(self) -> None: ...


def wanting(**models: object) -> Config:
    return cast(Config, SimpleNamespace(used_models=models))


def test_the_count_of_a_model_outlives_it_and_never_falls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_module, "Model", FakeModel)
    models = Models()
    assert models.inferences() == {}

    def load(config: Config) -> list[FakeModel]:
        made = models.lacking(config)
        models.accept(made)
        return cast(list[FakeModel], made)

    faces, coco = load(wanting(faces=1, coco=1))
    assert models.inferences() == {"faces": 0, "coco": 0}
    faces.inferred, coco.inferred = 40, 7
    (changed,) = load(wanting(faces=2))
    faces.inferred, changed.inferred = 42, 3
    assert models.inferences() == {"faces": 45, "coco": 7}, "both run for a while"
    faces.ended = coco.ended = True
    assert models.check()
    assert models.inferences() == {"faces": 45, "coco": 7}
    (again,) = load(wanting(coco=1))
    again.inferred = 1
    assert models.inferences() == {"faces": 45, "coco": 8}
    changed.ended = again.ended = True
    assert models.check()
    assert not models.check()
    assert models.inferences() == {"faces": 45, "coco": 8}


def test_a_model_that_is_not_taken_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_module, "Model", FakeModel)
    models = Models()
    (refused,) = cast(list[FakeModel], models.lacking(wanting(faces=1)))
    refused.ended = True
    assert models.check()
    assert models.inferences() == {}
