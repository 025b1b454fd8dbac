"""A patch on a clean checkout: whether it applies and may be applied."""

from __future__ import annotations

from agents.skill import InputError, SkillContext
from agents.skills.change.secrets import find_secrets
from agents.skills.change.workplace import clean_checkout
from workspace.changes import Changed, refusals
from workspace.checkout import CleanCheckout
from workspace.git import GitError, ticket_folder


def why_not(changes: tuple[Changed, ...], context: SkillContext) -> list[str]:
    """What no change may do and these do, one sentence each."""
    return refusals(changes, ticket_folder(context.ticket.id))


def patched(context: SkillContext, patch: bytes, name: str) -> CleanCheckout:
    """A clean checkout of the base with `patch`. Raises InputError when it does not apply or may not be applied."""
    checkout = clean_checkout(context, name)
    try:
        checkout.apply(patch)
    except GitError as problem:
        raise InputError(
            f"the patch does not apply to {checkout.base[:12]}: {problem.problem}",
            "make it anew with `git diff` against that commit",
        ) from problem
    if found := why_not(checkout.changes(), context):
        raise InputError(f"the patch is refused: {'; '.join(found[:5])}", "leave that out of the change")
    return checkout


def refuse_secrets(patch: bytes) -> None:
    """Raises InputError naming each place where the patch adds what looks like a credential: it must not even reach
    the artifact store or a branch."""
    if found := find_secrets(patch):
        places = ", ".join(f"{each.path}:{each.line} ({each.kind})" for each in found[:5])
        raise InputError(
            f"the patch adds what looks like a credential: {places}",
            "take it out, read it from the environment instead, and replace it where it is valid",
        )
