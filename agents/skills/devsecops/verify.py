"""Skill `devsecops.verify`: nothing goes into an environment before its signature, bytes and documents are checked."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data import files
from agents.skills.data.loading import load_rows
from agents.skills.data.markdown import cell, origin_note, table
from agents.skills.devsecops.environments import Release, check_rows
from agents.skills.devsecops.trust import PACKAGE, Signed, verified
from agents.skills.training.inuse import Package, open_in_use, read_package
from schemas.values import Measurement, Mode, Role, TickedItem

ENVELOPE = "provenance.json.dsse.json"
CONFIG = "deployment-config.yaml"
SBOM = "sbom.cdx.json"
EVALUATED = ("metrics.json", "risk-profile.json")
"""Artifacts without which a package was not made by the whole line: its provenance must name one of them at least."""
_BESIDE = "keep the files of a delivery's `deployment` folder together"


class DevsecopsVerify(Skill[Parameters, SkillOutput]):
    """Verify a delivered package's signature, digests and documents before it is released into any environment."""

    name = "devsecops.verify"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.DELIVER})
    reads_source = True
    produces = ("release.json", "verification.md", PACKAGE, "provenance-envelope.json", CONFIG, SBOM)
    seconds = 120.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write what later phases deploy, and the record of the verification.

        Raises InputError when the ticket names no package, it is not signed by a trusted key, its bytes or those of a
        document beside it are not the signed ones, or the rows to send as requests lack what the model reads.
        """
        named = (context.ticket.package or "").strip()
        if not named:
            raise InputError(
                "the ticket names no package to release",
                "add `package:` with the path of a delivery's model-package.zip below the backlog",
            )
        place = PurePosixPath(named).parent
        package = read_package(named, _read(context, named, {".zip": "package"}, "model package"))
        envelope = _read(context, str(place / ENVELOPE), {".json": "envelope"}, "signed provenance")
        signed = verified(package.data, envelope, context.facts)
        config = _read(context, str(place / CONFIG), {".yaml": "configuration"}, "deployment configuration")
        sbom = _read(context, str(place / SBOM), {".json": "components"}, "bill of materials")
        for name, content in ((CONFIG, config), (SBOM, sbom)):
            if hashlib.sha256(content).hexdigest() != signed.documents.get(name):
                raise InputError(f"{name} beside the package is not the one that was signed", _BESIDE)
        if not any(name in signed.materials for name in EVALUATED):
            raise InputError(f"the provenance names none of {', '.join(EVALUATED)}: it was not evaluated", "deliver it")
        in_use = open_in_use(context) if context.ticket.model else None
        source = load_rows(context.ticket, context.roots, context.max_data_bytes).source
        check_rows(package, source.columns, source.uri)
        if in_use is not None:
            check_rows(in_use, source.columns, source.uri)
        release = Release(
            package=package.manifest["name"], version=package.manifest["version"], sha256=package.sha256,
            signed_by=signed.key, in_use=in_use.sha256 if in_use else None, requests=source,
        )  # fmt: skip
        context.write_json("release.json", release.model_dump(mode="json"))
        (context.out / PACKAGE).write_bytes(package.data)
        (context.out / "provenance-envelope.json").write_bytes(envelope)
        (context.out / CONFIG).write_bytes(config)
        (context.out / SBOM).write_bytes(sbom)
        context.write_text("verification.md", _document(context, package, signed, in_use, release))
        warnings = [] if in_use else ["no model in use is named: the way back is to withdraw the service"]
        return SkillOutput(
            summary=f"{release.package} {release.version} ({release.sha256[:12]}) is signed by {signed.key[:12]}",
            ticked=(
                TickedItem(item="signature-verified", evidence=f"release.json: key {signed.key[:16]}"),
                TickedItem(item="package-signed", evidence=f"release.json: package {package.sha256}"),
                TickedItem(item="evaluation-named", evidence=f"verification.md: {len(signed.materials)} materials"),
                TickedItem(item="requests-fit", evidence=f"release.json: {source.rows:,} rows of {source.uri}"),
            ),
            measurements=(Measurement(scope="release", name="verified", value=1.0),),
            warnings=tuple(warnings),
        )


def _read(context: SkillContext, name: str, kinds: dict[str, str], what: str) -> bytes:
    return files.read(files.locate(name, context.roots, kinds, what), context.max_data_bytes)


def _document(context: SkillContext, package: Package, signed: Signed, in_use: Package | None, release: Release) -> str:
    built = signed.statement["predicate"]["runDetails"]["metadata"]
    before = f"{in_use.manifest['name']} {in_use.manifest['version']}" if in_use else "none: a first release"
    lines = [
        f"# Verification: {cell(context.ticket.title, 300)}", "", *origin_note(context.ticket),
        *table(
            ("what", "found"),
            [
                ("package", f"{release.package} {release.version}"), ("SHA-256", package.sha256),
                ("signed by the key", signed.key), ("made by session", built["invocationId"]),
                ("made at", built["startedOn"]), ("model in use", before),
                ("requests", f"{release.requests.rows:,} rows of {release.requests.uri}"),
            ],
        ),
        "", "## What was checked", "",
        "- the signature over the provenance (DSSE, ed25519), by a trusted public key",
        "- that the provenance is an in-toto statement of SLSA provenance about a package with these bytes",
        "- each file in the package against its manifest, and the deployment configuration against the provenance",
        "- that the package was measured on hold-out rows before it was made: see the materials", "",
        "## What it was made from", "",
        *table(("material", "SHA-256"), sorted(signed.materials.items())),
    ]  # fmt: skip
    return "\n".join(lines)
