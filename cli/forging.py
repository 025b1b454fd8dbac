"""A GitHub backlog for the commands: which repository, with which credentials, its policy and its clone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from autopilot.plainyaml import Problem
from autopilot.policyfile import PolicyError, load_policy, parse_policy, version_of
from autopilot.sources.github import GitHubBacklog
from cli.errors import CliError, Exit
from cli.home import Home
from cli.selecting import GITHUB
from cli.settings import Settings
from forge import reading
from forge.client import GitHub
from forge.credentials import App, Credentials, Token
from forge.errors import ForgeError, NotFound
from schemas.policy import Policy
from workspace.cloning import KeptClone
from workspace.git import Repository

POLICY = ".valuetrain/policy.yaml"
"""Where a repository's policy is, on its base branch."""
_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9_.-]{1,100}$")


def repository_of(backlog: str) -> str:
    """`OWNER/REPO` of a backlog `github:OWNER/REPO`. Raises CliError."""
    name = backlog.removeprefix(GITHUB)
    if not _NAME.match(name) or name.endswith((".", "..", ".git")):
        raise CliError(f"{backlog!r} names no repository; write github:OWNER/REPO", Exit.USAGE)
    return name


def credentials(settings: Settings, *, read_only: bool) -> Credentials:
    """What to log in with. To read, `github_read_token` when it is set, else the same as to write. Raises CliError when
    nothing is set or a file cannot be used."""
    if read_only and (token := _token(settings.github_read_token, settings.github_read_token_file)):
        return Token(token)
    if settings.github_app_id is not None:
        key, installation = settings.github_app_key_file, settings.github_app_installation
        if key is None or installation is None:
            raise CliError("github_app_id needs github_app_installation and github_app_key_file as well")
        return App(settings.github_app_id, installation, secret_file(key))
    if token := _token(settings.github_token, settings.github_token_file):
        return Token(token)
    raise CliError(
        "no credentials for GitHub: set VALUETRAIN_GITHUB_TOKEN, or github_token_file, or a GitHub App "
        "(github_app_id, github_app_installation, github_app_key_file); docs/cli.md says which permissions it needs"
    )


def _token(secret: SecretStr | None, file: Path | None) -> str:
    found = secret.get_secret_value() if secret is not None else secret_file(file) if file is not None else ""
    if any(char.isspace() or not char.isprintable() for char in found):
        raise CliError("the GitHub token holds blanks or control characters; give the token alone")
    return found


def secret_file(path: Path) -> str:
    """What is in a file that only we may read. Raises CliError."""
    try:
        if path.stat().st_mode & 0o077:
            raise CliError(f"{path} can be read by others; run: chmod 600 {path}")
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else "it is not text"
        raise CliError(f"{path} cannot be read: {why}; github_… settings name the file with the secret") from None


def github_at(backlog: str, settings: Settings, *, read_only: bool = True) -> GitHub:
    """A client for the repository of a backlog. Raises CliError."""
    name = repository_of(backlog)
    try:
        return GitHub(name, base_url=settings.github_url, credentials=credentials(settings, read_only=read_only))
    except ForgeError as problem:
        raise CliError(str(problem)) from problem


def clone_url(base_url: str, repository: str) -> str:
    """Where git finds the repository of an API's address: `https://github.com/OWNER/REPO.git`."""
    parts = urlsplit(base_url)
    host = parts.netloc.removeprefix("api.") if parts.netloc == "api.github.com" else parts.netloc
    return f"{parts.scheme}://{host}/{repository}.git"


@dataclass(frozen=True, slots=True)
class GitHubGround:
    """What a drive over a GitHub backlog works on."""

    repository: Repository
    policy: Policy
    version: str


def prepared(home: Home, backlog: str, settings: Settings, repo: Path | None) -> GitHubGround:
    """The base branch's policy, and the repository to work in: `repo`, or a clone that is kept in the home and brought
    up to the base branch now. Raises CliError, PolicyError, GitError."""
    github = github_at(backlog, settings)
    try:
        branch, commit = _base(github)
        policy = policy_of(home, github, commit)
        if repo is None:
            clone = KeptClone(
                home.path / "github" / github.repository.lower(), clone_url(github.base_url, github.repository)
            )
            clone.bring_up_to(branch, github.token())
            return GitHubGround(Repository(clone.path), policy, version_of(policy))
    except ForgeError as problem:
        raise CliError(f"{GITHUB}{github.repository}: {problem}") from problem
    return GitHubGround(Repository(repo), policy, version_of(policy))


def base_policy(home: Home, backlog: str, settings: Settings) -> Policy:
    """The policy on the repository's base branch as it is now. Raises CliError, PolicyError."""
    github = github_at(backlog, settings)
    try:
        return policy_of(home, github, _base(github)[1])
    except ForgeError as problem:
        raise CliError(f"{GITHUB}{github.repository}: {problem}") from problem


def _base(github: GitHub) -> tuple[str, str]:
    """The base branch and the commit it stands on."""
    branch = reading.default_branch(github)
    return branch, str(github.get(f"git/ref/heads/{branch}").body["object"]["sha"])


def policy_of(home: Home, github: GitHub, commit: str) -> Policy:
    """The policy at a commit of the repository, which a pull request cannot change; what speaks of this machine comes
    from the home's. Raises ForgeError, PolicyError."""
    path = Path(f"{github.repository}@{commit[:12]}:{POLICY}")
    try:
        raw = reading.file_at(github, POLICY, commit)
    except NotFound:
        raw = b""
    policy, _ = parse_policy(raw, path)
    for name in ("data_roots", "repository_roots"):
        for root in getattr(policy, name):
            if Path(root).is_absolute() or ".." in Path(root).parts:
                _outside(path, name)
    for name in ("signing_key", "sandbox_hosts"):
        if getattr(policy, name):
            _outside(path, name)
    own, _ = load_policy(home.policy)
    return policy.model_copy(
        update={
            "data_roots": (*policy.data_roots, *own.data_roots),
            "repository_roots": (*policy.repository_roots, *own.repository_roots),
            "signing_key": own.signing_key,
            "sandbox_hosts": own.sandbox_hosts,
        }
    )


def _outside(path: Path, name: str) -> None:
    remedy = "name it in policy.yaml in the home of whoever runs the drive"
    raise PolicyError(path, [Problem(name, "names something outside of the repository", remedy)])


def source_at(backlog: str, settings: Settings) -> GitHubBacklog:
    """The backlog. Raises CliError."""
    return GitHubBacklog(github_at(backlog, settings))
