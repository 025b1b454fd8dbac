"""Model files: the same model always gives the same bytes, and a file is never trusted for what it claims to be.

A skops file is a zip of `schema.json` and arrays. skops names arrays and objects by their memory address, so its bytes
differ between runs; `dump_model` renumbers them in the order they are met and fixes the zip's dates.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

from agents.skill import SkillError

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every member of a deterministic zip (the earliest a zip can hold)."""

EXTRA_TYPES = (
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)
"""Types our models hold that skops does not trust by itself; `_check_trees` looks into the trees before use."""

_MODULES = (
    "builtins", "collections", "numpy", "_loss", "sklearn._loss", "sklearn.compose", "sklearn.dummy",
    "sklearn.ensemble", "sklearn.impute", "sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing",
    "sklearn.tree", "sklearn.utils._bunch",
)  # fmt: skip
"""Where the types of a model we trained come from; a file that names any other module is not one of ours."""

_MEMBERS = frozenset(
    f"{kind}{task}" for kind in ("RandomForest", "HistGradientBoosting") for task in ("Classifier", "Regressor")
) | {"LogisticRegression", "Ridge"}
"""What an average is made of: trees inside anything else would go unseen."""

_MAX_BYTES = 1_000_000_000
"""Largest unpacked model we load: a small zip can hold a very large one."""


class UntrustedModel(SkillError):
    """The model file holds something a model trained here never does; it was not loaded."""

    def __init__(self, name: str, found: str) -> None:
        super().__init__(f"{name} is not a model this train produced: {found}", "train again; do not load this file")


def dump_model(model: Any) -> bytes:
    """A fitted pipeline as a skops file whose bytes depend on nothing but the model and the library versions."""
    import skops.io

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(model))) as raw:
        schema = json.loads(raw.read("schema.json"))
        files = _renumber(schema)
        members = {"schema.json": json.dumps(schema).encode()} | {new: raw.read(old) for old, new in files.items()}
    return zip_bytes(members)


def zip_bytes(members: dict[str, bytes]) -> bytes:
    """A zip of these members in this order whose bytes depend on nothing else (no dates, no owner)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            packed.writestr(info, content)
    return buffer.getvalue()


def _renumber(schema: Any) -> dict[str, str]:
    """Replace memory addresses in a skops schema, in place, by order of appearance; returns old to new file names.

    Ids only say which objects are one and the same. Plain values need none: whether two equal strings are one object
    is an accident of the interpreter.
    """
    ids: dict[int, int] = {}
    files: dict[str, str] = {}

    def visit(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                visit(item)
        if not isinstance(node, dict):
            return
        if node.get("__loader__") == "JsonNode":
            node.pop("__id__", None)
        for key, value in node.items():
            if key == "__id__":
                node[key] = ids.setdefault(value, len(ids) + 1)
            elif key == "file" and isinstance(value, str):
                node[key] = files.setdefault(value, f"{len(files) + 1:06d}.{value.partition('.')[2]}")
            else:
                visit(value)

    visit(schema)
    return files


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def load_model(path: Path) -> Any:
    """The pipeline in a skops file, if it holds nothing but the kinds of objects our own training writes.

    The schema is checked before anything is built or imported. Raises UntrustedModel for anything else, a pickle and a
    damaged file included; nothing in the file is executed.
    """
    return loads_model(path.name, path.read_bytes())


def loads_model(name: str, data: bytes) -> Any:
    """As `load_model`, from the file's bytes; `name` is for error messages."""
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        _check_archive(name, data)
        model = skops.io.loads(data, trusted=list(EXTRA_TYPES))
        _check_trees(name, model)
    except UntrustedTypesFoundException as error:
        raise UntrustedModel(name, str(error).splitlines()[0]) from error
    except SkillError:
        raise
    except Exception as error:  # a damaged or forged file can fail in any way inside skops
        raise UntrustedModel(name, f"{type(error).__name__}: {str(error)[:200]}") from error
    return model


def _check_archive(name: str, data: bytes) -> None:
    """Refuse what is not a zip, would unpack to too much, or names a module our models do not come from."""
    import skops.io

    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise UntrustedModel(name, "not a skops file")
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        if sum(info.file_size for info in packed.infolist()) > _MAX_BYTES:
            raise UntrustedModel(name, f"it unpacks to more than {_MAX_BYTES:,} bytes")
        schema = json.loads(packed.read("schema.json"))
    foreign = sorted(module for module in _modules(schema) if not _ours(module))
    if foreign:
        raise UntrustedModel(name, f"it refers to {', '.join(foreign)}")
    untrusted = set(skops.io.get_untrusted_types(data=data)) - set(EXTRA_TYPES)
    if untrusted:
        raise UntrustedModel(name, f"it holds {', '.join(sorted(untrusted))}")


def _ours(module: str) -> bool:
    return any(module == known or module.startswith(known + ".") for known in _MODULES)


def _modules(schema: Any) -> set[str]:
    """Every module a skops schema names, at any depth."""
    found: set[str] = set()
    pending = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if isinstance(node.get("__module__"), str):
                found.add(node["__module__"])
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    return found


def _check_trees(name: str, model: Any) -> None:
    """Refuse decision trees whose links or column numbers point outside: scikit-learn follows them unchecked."""
    import numpy as np

    for tree, columns in _trees(model):
        if hasattr(tree, "nodes"):
            nodes = tree.nodes
            left, right, column = nodes["left"], nodes["right"], nodes["feature_idx"]
            inner = nodes["is_leaf"] == 0
        else:
            left, right, column = tree.children_left, tree.children_right, tree.feature
            inner = left != -1
        own = np.arange(len(left))
        links = np.concatenate([(left - own)[inner], (right - own)[inner]])
        sound = (links > 0).all() and (np.maximum(left, right)[inner] < len(left)).all()
        if not sound or not ((column[inner] >= 0) & (column[inner] < columns)).all():
            raise UntrustedModel(name, "a decision tree points outside itself")


def _trees(model: Any) -> list[tuple[Any, int]]:
    """Each tree of the pipeline's last step with the number of columns it may read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _trees_of(model[-1])


def _trees_of(last: Any) -> list[tuple[Any, int]]:
    from sklearn.ensemble import VotingClassifier, VotingRegressor

    found: list[tuple[Any, int]] = []
    if isinstance(last, VotingClassifier | VotingRegressor):
        if foreign := [type(member).__name__ for member in last.estimators_ if type(member).__name__ not in _MEMBERS]:
            raise TypeError(f"an average of {foreign[0]}")
        return [tree for member in last.estimators_ for tree in _trees_of(member)]
    for grown in getattr(last, "_predictors", []):
        found += [(tree, last._n_features) for tree in grown]
    for estimator in getattr(last, "estimators_", []):
        found.append((estimator.tree_, estimator.n_features_in_))
    return found
