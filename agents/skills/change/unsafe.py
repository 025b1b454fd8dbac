"""Calls that are unsafe in most places, which a change adds: found in the syntax tree, never executed.

The rules are few on purpose: each names a call whose safe form is as easy to write. What is found is for the person
at the gate to look at; a rule cannot know whether a value comes from outside.
"""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass

RULES: dict[str, str] = {
    "runs-text-as-code": "`eval` or `exec` runs text as code",
    "shell": "a shell reads the command: text in it becomes further commands",
    "loads-objects": "reading this format runs code that is in it",
    "yaml-objects": "`yaml.load` without a safe loader builds any object",
    "unverified-tls": "the server's certificate is not checked",
    "weak-hash": "MD5 and SHA-1 are broken; `usedforsecurity=False` says that it does not matter here",
    "predictable-file": "`mktemp` gives a name that another process can take first",
    "unpacks-anywhere": "an archive's paths may lead out of the folder without a `filter`",
    "open-to-all": "listens on every network interface",
    "writable-by-all": "everybody may write or run it",
    "sql-text": "a statement is put together from text: values become statements",
    "debug-server": "a debug server runs code for whoever reaches it",
    "not-python": "cannot be read as Python, and was not searched",
}
"""By name, what is wrong."""

_LOADERS = frozenset(
    f"{module}.{name}" for module in ("pickle", "cPickle", "marshal", "dill", "cloudpickle", "joblib")
    for name in ("load", "loads", "Unpickler")
) | {"shelve.open", "pandas.read_pickle", "jsonpickle.decode"}  # fmt: skip
_SHELLS = frozenset(
    {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "commands.getoutput"}
)
_SAFE_YAML = frozenset({"SafeLoader", "CSafeLoader", "BaseLoader", "CBaseLoader"})


@dataclass(frozen=True)
class Unsafe:
    """One finding: its rule, its line in the file, and the call as it stands there."""

    rule: str
    line: int
    call: str


def added(before: str | None, after: str) -> list[Unsafe]:
    """What `after` has and `before` (None: no such file) has not, or not as often."""
    old = Counter((each.rule, each.call) for each in find(before)) if before is not None else Counter()
    new = []
    for each in find(after):
        if old[each.rule, each.call] > 0:
            old[each.rule, each.call] -= 1
        else:
            new.append(each)
    return new


def find(text: str) -> list[Unsafe]:
    """Every finding in a Python file, by line."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [Unsafe("not-python", 1, "")]
    names = _imported(tree)
    found = [
        Unsafe(rule, node.lineno, ast.unparse(node)[:200])
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and (rule := _rule(node, _called(node.func, names)))
    ]
    return sorted(found, key=lambda each: (each.line, each.rule, each.call))


def _imported(tree: ast.AST) -> dict[str, str]:
    """Local names of imported modules and functions, with what they stand for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _called(node: ast.expr, names: dict[str, str]) -> str:
    """The dotted name of what is called, with imports resolved; of a method of anything else `.name`."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        return ".".join([names.get(node.id, node.id), *reversed(parts)])
    return f".{parts[0]}" if parts else ""


def _rule(node: ast.Call, name: str) -> str:
    words = {each.arg: each.value for each in node.keywords if each.arg}
    last = name.rpartition(".")[2]
    checks = {
        "runs-text-as-code": name in ("eval", "exec", "builtins.eval", "builtins.exec")
        and not (node.args and isinstance(node.args[0], ast.Constant)),
        "shell": name in _SHELLS or _is(words.get("shell"), True),
        "loads-objects": name in _LOADERS
        or (name == "torch.load" and not _is(words.get("weights_only"), True))
        or (name == "numpy.load" and _is(words.get("allow_pickle"), True)),
        "yaml-objects": name in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load")
        and not _names(node, words, _SAFE_YAML),
        "unverified-tls": _is(words.get("verify"), False) or name == "ssl._create_unverified_context",
        "weak-hash": not _is(words.get("usedforsecurity"), False)
        and (name in ("hashlib.md5", "hashlib.sha1") or (name == "hashlib.new" and _text(node, ("md5", "sha1")))),
        "predictable-file": name == "tempfile.mktemp",
        "unpacks-anywhere": last == "extractall" and "filter" not in words and not name.startswith("zipfile."),
        "open-to-all": any(_is(value, "0.0.0.0") for value in (*node.args, *words.values()))  # noqa: S104
        or any(isinstance(a, ast.Tuple) and any(_is(e, "0.0.0.0") for e in a.elts) for a in node.args),  # noqa: S104
        "writable-by-all": last == "chmod" and any(_number(each) & 0o002 for each in (*node.args, *words.values())),
        "sql-text": last in ("execute", "executemany", "executescript") and bool(node.args) and _built(node.args[0]),
        "debug-server": last == "run" and _is(words.get("debug"), True),
    }
    return next((rule for rule, holds in checks.items() if holds), "")


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is type(value) and node.value == value


def _number(node: ast.expr) -> int:
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else 0


def _text(node: ast.Call, values: tuple[str, ...]) -> bool:
    first = node.args[0] if node.args else None
    return isinstance(first, ast.Constant) and str(first.value).lower().replace("-", "") in values


def _names(node: ast.Call, words: dict[str, ast.expr], safe: frozenset[str]) -> bool:
    given = words.get("Loader") or (node.args[1] if len(node.args) > 1 else None)
    return (isinstance(given, ast.Attribute) and given.attr in safe) or (
        isinstance(given, ast.Name) and given.id in safe
    )


def _built(node: ast.expr) -> bool:
    """Text put together from parts that are not all constant."""
    if isinstance(node, ast.JoinedStr):
        return any(isinstance(part, ast.FormattedValue) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        texts = [isinstance(n, ast.JoinedStr) or (isinstance(n, ast.Constant) and isinstance(n.value, str))
                 for n in ast.walk(node)]  # fmt: skip
        return any(texts) and any(isinstance(n, ast.Name | ast.Attribute | ast.Call) for n in ast.walk(node))
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"
        and isinstance(node.func.value, ast.Constant)
    )  # fmt: skip
