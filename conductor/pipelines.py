"""Loading pipeline definitions from YAML: the shipped ones, and the user's, which come first."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from conductor import criteria
from schemas.pipeline import PipelineDefinition


class PipelineError(ValueError):
    """A pipeline file that cannot be used; the message names file, line, field and reason."""


def load(name: str, folders: Iterable[Path] = ()) -> PipelineDefinition:
    """The pipeline called `name`: from the first of `folders` that has `<name>.yaml`, else the shipped one.

    Raises PipelineError for an unknown name (naming the known ones) and for an invalid file.
    """
    known: dict[str, Any] = {}
    for item in resources.files("pipelines").iterdir():
        if item.name.endswith(".yaml"):
            known[item.name.removesuffix(".yaml")] = item
    for folder in reversed(list(folders)):
        if folder.is_dir():
            known.update({path.stem: path for path in sorted(folder.glob("*.yaml"))})
    if name not in known:
        raise PipelineError(f"there is no pipeline {name!r}; there are {', '.join(sorted(known))}")
    try:
        text = known[name].read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise PipelineError(f"{name}.yaml: cannot be read as UTF-8 text: {problem}") from problem
    return parse(text, f"{name}.yaml", name)


def parse(text: str, source: str, name: str | None = None) -> PipelineDefinition:
    """A definition from YAML text. Raises PipelineError with the line and the reason of the first problem."""
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        body = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise PipelineError(f"{source}{line}: not YAML: {getattr(problem, 'problem', problem)}") from problem
    except ValueError as problem:  # a scalar that looks like a date and is none
        raise PipelineError(f"{source}: not YAML: {problem}") from problem
    _refuse_doubles(tree, source)
    try:
        definition = PipelineDefinition.model_validate(body)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise PipelineError(f"{source}:{_line(tree, first['loc'])}: {where}: {first['msg']}") from problem
    if name is not None and definition.name != name:
        raise PipelineError(f"{source}: the file's name and `name: {definition.name}` must be the same")
    for index, phase in enumerate(definition.phases):
        expressions: list[tuple[tuple[Any, ...], str]] = [(("criteria", i), e) for i, e in enumerate(phase.criteria)]
        expressions += [(("gate", "when"), phase.gate.when)] if phase.gate.when else []
        expressions += [(("skip_when",), phase.skip_when)] if phase.skip_when else []
        expressions += [(("repeat", i, "when"), rule.when) for i, rule in enumerate(phase.repeat) if rule.when]
        for path, expression in expressions:
            try:
                criteria.check_syntax(expression)
            except criteria.CriterionError as problem:
                raise PipelineError(f"{source}:{_line(tree, ('phases', index, *path))}: {problem}") from problem
    return definition


def _refuse_doubles(tree: Any, source: str) -> None:
    """YAML keeps the last of two equal keys; a criterion must not vanish like that. Raises PipelineError.

    `tree` was constructed before, so every key is a scalar.
    """
    seen: set[int] = set()  # an alias may point back to what holds it
    nodes = [tree]
    while nodes:
        node = nodes.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            keys: set[Any] = set()
            for key, value in node.value:
                if key.value in keys:
                    raise PipelineError(f"{source}:{key.start_mark.line + 1}: {key.value!r} is given twice")
                keys.add(key.value)
                nodes.append(value)


def _line(node: Any, path: Iterable[Any]) -> int:
    """The line (from 1) of the deepest node of `path` that exists."""
    line = 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == part), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
