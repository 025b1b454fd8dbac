# One image for every component; compose.yaml says which command each container runs.
FROM python:3.13.7-slim-bookworm AS build
# nkeys comes as source only, and nothing is resolved: constraints.txt is complete and has a hash for each file.
RUN python -m venv /opt/valuetrain
ENV PATH=/opt/valuetrain/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
COPY constraints.txt ./
RUN sed -n -E '/^(pip|setuptools)==/,/# via/p' constraints.txt >installer.txt \
    && python -m pip install --no-deps --require-hashes -r installer.txt \
    && python -m pip install --no-deps --no-build-isolation --require-hashes -r constraints.txt
COPY . .
RUN python -m pip install --no-deps --no-build-isolation --no-index .

FROM python:3.13.7-slim-bookworm
# git is the effect executor's; whoever the container runs as may use the repository that is mounted into it.
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap git && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory /repository \
    && useradd --uid 10001 --no-create-home --home-dir /train train
# A new named volume takes over the owner of the folder it is mounted on.
RUN install --directory --owner=train --mode=0700 /train /train/blobs /train/attempts /train/worktrees /train/keys \
    /train/bus /train/bus/credentials /train/gateway \
    && install --directory --owner=train --mode=0755 /init/nats /init/nats-data /init/database \
    && for role in lead data feature training devsecops evaluation risk autopilot gateway; do \
    install --directory --owner=train --mode=0700 "/init/logins/$role"; done
COPY --from=build /opt/valuetrain /opt/valuetrain
ENV PATH=/opt/valuetrain/bin:$PATH PYTHONUNBUFFERED=1 VALUETRAIN_HOME=/train
USER train
WORKDIR /train
ENTRYPOINT ["valuetrain"]
CMD ["--help"]
