"""A clone that is kept for a repository elsewhere: one branch of it, checked out, never with a credential on disk."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workspace.git import GitError, Repository, run_git

FETCH_SECONDS = 600.0


def login_environment(url: str, secret: str) -> Mapping[str, str]:
    """Settings for one call of git, in its environment: log in at `url` with a token, ask nobody and follow nowhere
    else. The empty header takes away those of the user's own settings."""
    basic = b64encode(f"x-access-token:{secret}".encode()).decode()
    settings = (
        (f"http.{url}.extraHeader", ""),
        (f"http.{url}.extraHeader", f"Authorization: Basic {basic}"),
        ("http.followRedirects", "false"),
        ("credential.helper", ""),
        (f"url.{url}.insteadOf", url),
        (f"url.{url}.pushInsteadOf", url),
        ("push.recurseSubmodules", "no"),
        ("push.followTags", "false"),
        ("protocol.ext.allow", "never"),
    )
    numbered = {f"GIT_CONFIG_KEY_{n}": key for n, (key, _) in enumerate(settings)}
    numbered |= {f"GIT_CONFIG_VALUE_{n}": value for n, (_, value) in enumerate(settings)}
    return {"GIT_CONFIG_COUNT": str(len(settings)), **numbered}


@dataclass(frozen=True, slots=True)
class KeptClone:
    """A clone at `path` of what is at `url`. It names no remote; its checkout is ours alone and follows the branch."""

    path: Path
    url: str

    def bring_up_to(self, branch: str, secret: str) -> str:
        """Fetch `branch` and check it out; the commit. `secret` is the token to read with, "" for none. Raises
        GitError, whose text never holds it."""
        if not (self.path / ".git").is_dir():
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            run_git(self.path, "init", "--quiet")
        kept = f"refs/remotes/origin/{branch}"
        login = login_environment(self.url, secret) if secret else {}
        try:
            run_git(
                self.path, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
                self.url, f"+refs/heads/{branch}:{kept}", environment=login, seconds=FETCH_SECONDS,
            )  # fmt: skip
        except GitError as problem:
            said = problem.problem.replace(secret, "***") if secret else problem.problem
            raise GitError(said, "check that the token may read contents, and the network") from None
        run_git(self.path, "checkout", "--quiet", "--force", "--detach", "--no-recurse-submodules", kept)
        run_git(self.path, "clean", "--quiet", "-ffdx")
        return Repository(self.path).head_commit()
