"""A delivered pipeline as an ONNX graph in double precision, from standard operators.

The common converter has no scikit-learn 1.9 boosting, no imputed text, and trees in single precision, which give other
answers for some rows. Ours are made of few parts, and version 5 of ONNX's operators for machine learning has trees in
double precision. What is written here is proved by running it, not by having been written: see `onnx_proof`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from agents.skills.extras import needed

OPSET, ML_OPSET, IR_VERSION = 18, 5, 10
"""Versions that onnxruntime 1.20 and newer run."""
MISSING = "(missing)"
"""What stands for a missing text value: tensors of text have none."""
MOST_NODES = 2_000_000
"""Inner nodes of trees over all outputs: about 100 MB."""


class Unwritable(Exception):
    """A step of the pipeline that has no equal in ONNX. `step` names it, `why` says what is missing."""

    def __init__(self, step: str, why: str) -> None:
        super().__init__(f"{step}: {why}")
        self.step, self.why = step, why


class Graph:
    """Collects nodes and constants under names that no input has."""

    def __init__(self, taken: Sequence[str]) -> None:
        self.helper = needed("onnx.helper", "onnx", "ONNX")
        self.types = needed("onnx", "onnx", "ONNX").TensorProto
        self._numpy = needed("onnx.numpy_helper", "onnx", "ONNX")
        self._taken = set(taken)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def name(self, wanted: str) -> str:
        """`wanted`, or it with a number."""
        found, number = wanted, 1
        while found in self._taken:
            number += 1
            found = f"{wanted}.{number}"
        self._taken.add(found)
        return found

    def add(self, operator: str, *inputs: str, called: str = "", domain: str = "", **attributes: Any) -> str:
        """A node with one output, whose name is returned."""
        output = self.name(called or operator.lower())
        self.nodes.append(self.helper.make_node(operator, list(inputs), [output], domain=domain, **attributes))
        return output

    def constant(self, values: Any, called: str = "constant") -> str:
        """An array, kept in the graph."""
        output = self.name(called)
        self.constants.append(self._numpy.from_array(values, output))
        return output

    def tensor(self, values: Any) -> Any:
        """An array as an attribute."""
        return self._numpy.from_array(values)

    def joined(self, parts: Sequence[str]) -> str:
        """Side by side."""
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=1)


def write_onnx(
    pipeline: Any, columns: Sequence[tuple[str, bool]], classes: Sequence[str], told: dict[str, str]
) -> bytes:
    """The bytes of the model. `columns` are the prepared columns in order, with whether each is text; `classes` the
    order of the probabilities (empty: a number); `told` goes in as metadata.

    Each column is an input (rows, 1), float64 or text, NaN or MISSING where there is no value. The one output is
    `probabilities` (rows, classes) or `prediction` (rows, 1), float64. Raises Unwritable naming the step.
    """
    output_name = "probabilities" if classes else "prediction"
    graph = Graph([name for name, _ in columns])
    if output_name in dict(columns):
        raise Unwritable("inputs", f"a column is called {output_name}, as the output is")
    encoded = _transformed(graph, pipeline[0])
    made = _predicted(graph, pipeline[-1], encoded)
    if classes:
        made = _ordered(graph, made, [str(label) for label in pipeline[-1].classes_], classes)
    graph.nodes.append(graph.helper.make_node("Identity", [made], [output_name]))
    kinds = {False: graph.types.DOUBLE, True: graph.types.STRING}
    value = graph.helper.make_tensor_value_info
    model = graph.helper.make_model(
        graph.helper.make_graph(
            graph.nodes,
            "value-train",
            [value(name, kinds[text], ["rows", 1]) for name, text in columns],
            [value(output_name, graph.types.DOUBLE, ["rows", len(classes) or 1])],
            graph.constants,
        ),
        opset_imports=[graph.helper.make_opsetid("", OPSET), graph.helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION,
        producer_name="value-train",
    )
    graph.helper.set_model_props(model, dict(sorted(told.items())))
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _transformed(graph: Graph, transformer: Any) -> str:
    """The ColumnTransformer, part by part, in its order."""
    parts = []
    for step, fitted, names in transformer.transformers_:
        columns = [str(name) for name in names]
        if step in ("numeric", "calendar"):
            parts.append(_scaled(graph, fitted[-1], _imputed(graph, fitted[0], columns)))
        elif step == "boolean":
            parts.append(_imputed(graph, fitted, columns))
        elif step == "one_hot":
            parts += [_levels(graph, fitted, place, name) for place, name in enumerate(columns)]
        elif len(columns):
            raise Unwritable(f"transform/{step}", "this kind of encoding has not been written for ONNX")
    return graph.joined(parts)


def _imputed(graph: Graph, imputer: Any, columns: Sequence[str]) -> str:
    """Numbers with their gaps filled, then one column for each that had gaps in training: 1.0 where it has one now."""
    import numpy as np

    given = graph.joined(columns)
    gaps = graph.add("IsNaN", given)
    fill = np.asarray(imputer.statistics_, dtype=np.float64).reshape(1, -1)
    filled = graph.add("Where", gaps, graph.constant(np.where(np.isnan(fill), 0.0, fill)), given)
    if getattr(imputer, "indicator_", None) is None or not len(imputer.indicator_.features_):
        return filled
    places = graph.constant(np.asarray(imputer.indicator_.features_, dtype=np.int64))
    told = graph.add("Cast", graph.add("Gather", gaps, places, axis=1), to=graph.types.DOUBLE)
    return graph.joined([filled, told])


def _scaled(graph: Graph, scaler: Any, given: str) -> str:
    import numpy as np

    mean, scale = (np.asarray(part, dtype=np.float64).reshape(1, -1) for part in (scaler.mean_, scaler.scale_))
    return graph.add("Div", graph.add("Sub", given, graph.constant(mean)), graph.constant(scale))


def _levels(graph: Graph, fitted: Any, place: int, name: str) -> str:
    """One text column as one-hot: its text is looked up as a row of a table, which holds what the encoder gives for
    that text; the last two rows are those of a missing and of an unseen one."""
    import numpy as np

    imputer, encoder = fitted[0], fitted[-1]
    levels = [str(level) for level in encoder.categories_[place]]
    fill = imputer.statistics_[place]
    if (
        MISSING in levels
        or not isinstance(fill, str)
        or not all(isinstance(e, str) for e in encoder.categories_[place])
    ):
        raise Unwritable("transform/one_hot", f"column {name[:60]!r} has levels that are no plain text, or {MISSING!r}")
    unseen = "never " + max(levels, key=len) + "!"
    asked = np.array([[fill] * len(encoder.categories_) for _ in range(len(levels) + 2)], dtype=object)
    for other in range(len(encoder.categories_)):
        asked[:, other] = encoder.categories_[other][0]
    asked[:, place] = [*levels, fill, unseen]
    widths = _widths(encoder)
    first = sum(widths[:place])
    table = np.asarray(encoder.transform(asked), dtype=np.float64)[:, first : first + widths[place]]
    found = graph.add(
        "LabelEncoder",
        name,
        domain="ai.onnx.ml",
        keys_strings=[*levels, MISSING],
        values_int64s=list(range(len(levels) + 1)),
        default_int64=len(levels) + 1,
    )
    return graph.add(
        "Gather", graph.constant(table), graph.add("Squeeze", found, graph.constant(np.array([1]))), axis=0
    )


def _widths(encoder: Any) -> list[int]:
    """How many columns each input of a OneHotEncoder becomes."""
    count = len(encoder.categories_)
    names = [str(name) for name in encoder.get_feature_names_out([str(place) for place in range(count)])]
    owners = [int(name.partition("_")[0]) for name in names]
    return [owners.count(place) for place in range(count)]


def _predicted(graph: Graph, model: Any, given: str) -> str:
    """Probabilities (rows, the model's classes), or numbers (rows, 1)."""
    kind = type(model).__name__
    writers: dict[str, Callable[[Graph, Any, str], str]] = {
        "Ridge": _linear,
        "LogisticRegression": _linear,
        "RandomForestRegressor": _forest,
        "RandomForestClassifier": _forest,
        "HistGradientBoostingRegressor": _boosted,
        "HistGradientBoostingClassifier": _boosted,
        "VotingRegressor": _average,
        "VotingClassifier": _average,
    }
    if kind not in writers:
        raise Unwritable(f"model/{kind}", "this kind of model has not been written for ONNX")
    return writers[kind](graph, model, given)


def _linear(graph: Graph, model: Any, given: str) -> str:
    import numpy as np

    weights = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64)).T
    offset = np.asarray(model.intercept_, dtype=np.float64).reshape(1, -1)
    margins = graph.add("Add", graph.add("MatMul", given, graph.constant(weights)), graph.constant(offset))
    return _probabilities(graph, margins, weights.shape[1]) if hasattr(model, "classes_") else margins


def _probabilities(graph: Graph, margins: str, count: int) -> str:
    """Of log-odds: of one column those of two classes."""
    if count > 1:
        return graph.add("Softmax", margins, axis=1)
    return graph.joined([graph.add("Sigmoid", graph.add("Neg", margins)), graph.add("Sigmoid", margins)])


def _forest(graph: Graph, model: Any, given: str) -> str:
    """Scikit-learn rounds what a forest reads to single precision and compares in double: so does this."""
    import numpy as np

    single = graph.add("Cast", given, to=graph.types.FLOAT)
    rounded = graph.add("Cast", single, to=graph.types.DOUBLE)
    count = len(getattr(model, "classes_", ())) or 1
    trees = _Trees(count)
    for grown in model.estimators_:
        tree = grown.tree_
        for output in range(count):
            trees.grow(tree.children_left, tree.children_right, tree.feature, tree.threshold,
                       tree.value[:, 0, output], tree.children_left == -1, output)  # fmt: skip
    total = graph.add("TreeEnsemble", rounded, domain="ai.onnx.ml", **trees.attributes(graph))
    return graph.add("Div", total, graph.constant(np.array([[float(len(model.estimators_))]])))


def _boosted(graph: Graph, model: Any, given: str) -> str:
    import numpy as np

    base = np.asarray(model._baseline_prediction, dtype=np.float64).reshape(1, -1)
    trees = _Trees(base.shape[1])
    for turn in model._predictors:
        for output, grown in enumerate(turn):
            nodes = grown.nodes
            if nodes["is_categorical"].any():
                raise Unwritable("model/" + type(model).__name__, "a tree splits on categories")
            trees.grow(nodes["left"], nodes["right"], nodes["feature_idx"], nodes["num_threshold"], nodes["value"],
                       nodes["is_leaf"] != 0, output)  # fmt: skip
    total = graph.add("TreeEnsemble", given, domain="ai.onnx.ml", **trees.attributes(graph))
    margins = graph.add("Add", total, graph.constant(base))
    return _probabilities(graph, margins, base.shape[1]) if hasattr(model, "classes_") else margins


def _average(graph: Graph, model: Any, given: str) -> str:
    import numpy as np

    if model.weights is not None or getattr(model, "voting", "soft") != "soft":
        raise Unwritable(f"model/{type(model).__name__}", "an average with weights, or by majority")
    parts = [_predicted(graph, member, given) for member in model.estimators_]
    total = parts[0]
    for part in parts[1:]:
        total = graph.add("Add", total, part)
    return graph.add("Div", total, graph.constant(np.array([[float(len(parts))]])))


def _ordered(graph: Graph, given: str, known: Sequence[str], wanted: Sequence[str]) -> str:
    """Probabilities in the order of the scope; zero for a class the model never saw."""
    import numpy as np

    if list(known) == list(wanted):
        return given
    places = np.zeros((len(known), len(wanted)))
    for row, label in enumerate(known):
        places[row, list(wanted).index(label)] = 1.0
    return graph.add("MatMul", given, graph.constant(places))


class _Trees:
    """The attributes of one TreeEnsemble: inner nodes and leaves of all trees in lists of their own."""

    def __init__(self, outputs: int) -> None:
        self.outputs = outputs
        self.roots: list[int] = []
        self.inner: dict[str, list[Any]] = {n: [] for n in ("feature", "split", "true", "false", "leaf_t", "leaf_f")}
        self.leaves: list[tuple[int, float]] = []

    def grow(self, left: Any, right: Any, feature: Any, threshold: Any, value: Any, is_leaf: Any, output: int) -> None:
        """Add one tree, given node by node (root first), whose leaves add `value` to `output`."""
        import numpy as np

        is_leaf = np.asarray(is_leaf, dtype=bool)
        first, first_leaf = len(self.inner["feature"]), len(self.leaves)
        place = np.where(is_leaf, first_leaf + np.cumsum(is_leaf) - 1, first + np.cumsum(~is_leaf) - 1)
        self.leaves += [(output, float(each)) for each in np.asarray(value)[is_leaf]]
        self.roots.append(first)
        if is_leaf[0]:  # a root has to be a node: both of its ways lead to the one leaf
            for name, each in zip(self.inner, (0, 0.0, first_leaf, first_leaf, 1, 1), strict=True):
                self.inner[name].append(each)
            return
        at = np.flatnonzero(~is_leaf)
        low, high = np.asarray(left)[at].astype(np.intp), np.asarray(right)[at].astype(np.intp)
        columns = (
            np.asarray(feature)[at], np.asarray(threshold)[at], place[low], place[high], is_leaf[low], is_leaf[high],
        )  # fmt: skip
        for name, values in zip(self.inner, columns, strict=True):
            self.inner[name] += values.tolist()
        if len(self.inner["feature"]) > MOST_NODES:
            raise Unwritable("model", f"its trees have more than {MOST_NODES:,} nodes over all outputs")

    def attributes(self, graph: Graph) -> dict[str, Any]:
        """For the node: values up to a threshold go left."""
        import numpy as np

        return {
            "n_targets": self.outputs,
            "aggregate_function": 1,  # sum
            "post_transform": 0,
            "tree_roots": self.roots,
            "nodes_featureids": [int(each) for each in self.inner["feature"]],
            "nodes_modes": graph.tensor(np.zeros(len(self.inner["feature"]), dtype=np.uint8)),  # at most
            "nodes_splits": graph.tensor(np.array(self.inner["split"], dtype=np.float64)),
            "nodes_truenodeids": [int(each) for each in self.inner["true"]],
            "nodes_falsenodeids": [int(each) for each in self.inner["false"]],
            "nodes_trueleafs": [int(each) for each in self.inner["leaf_t"]],
            "nodes_falseleafs": [int(each) for each in self.inner["leaf_f"]],
            "leaf_targetids": [output for output, _ in self.leaves],
            "leaf_weights": graph.tensor(np.array([weight for _, weight in self.leaves], dtype=np.float64)),
        }
