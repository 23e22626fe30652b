# Two images: `--target api` (the doors, the janitor, the sender of webhooks; no torch) and `--target worker`
# (`--build-arg TORCH=cpu|cuda`). docs/deploy.md says how to build, pin and check them.
#
# The base is a tag by default. Pin it with --build-arg BASE=python:3.11-slim-bookworm@sha256:…, the digest that
# `docker buildx imagetools inspect python:3.11-slim-bookworm` prints.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS tools
# pip of the base installs into an environment that has none itself. Bytecode is made once, at the end.
ENV PIP_PYTHON=/opt/venv/bin/python \
    PIP_NO_COMPILE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1
RUN python -m venv --without-pip /opt/venv
WORKDIR /src

# Our own code, as wheels.
FROM tools AS code
ARG SOURCE_DATE_EPOCH=0
COPY requirements-worker.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    awk '/^setuptools==/ { on = 1 } on { print } on && !/\\$/ { exit }' requirements-worker.lock >setuptools.lock && \
    python -m pip install --require-hashes -r setuptools.lock
COPY . .
RUN python -m pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /wheels . ./client

FROM tools AS api-environment
COPY requirements-api.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    python -m pip install --no-deps --require-hashes -r requirements-api.lock
COPY --from=code /wheels /wheels
RUN python -m pip install --no-cache-dir --no-deps --no-index /wheels/*.whl && \
    /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv

FROM tools AS worker-environment
ARG TORCH=cpu
COPY scripts/torch scripts/
COPY requirements-torch.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    scripts/torch python "$TORCH"
COPY requirements-api.lock requirements-worker.lock ./
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    python -m pip install --no-deps --require-hashes -r requirements-worker.lock
COPY --from=code /wheels /wheels
# Some of torch's own tests are for newer Pythons.
RUN python -m pip install --no-cache-dir --no-deps --no-index /wheels/*.whl && \
    /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x /torch/testing/ /opt/venv

FROM ${BASE} AS runtime
# OMP_WAIT_POLICY: threads that spin keep the core from the one that they wait for (docs/performance.md).
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    HF_HOME=/weights \
    OMP_WAIT_POLICY=PASSIVE \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DRAGANYTHING_LOG_JSON=true
# By number, so that a cluster can see that it is not root; by name for libraries that ask.
RUN echo 'draganything:x:10001:10001::/tmp:/usr/sbin/nologin' >>/etc/passwd && \
    echo 'draganything:x:10001:' >>/etc/group && \
    install -d -o 10001 -g 10001 /weights
USER 10001:10001
WORKDIR /tmp

FROM runtime AS api
COPY --from=api-environment /opt/venv /opt/venv
EXPOSE 8000 50051
# Any answer is proof of life.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('DRAGANYTHING_PORT', 8000)), timeout=4); c.request('GET', '/livez'); c.getresponse()"]
CMD ["python", "-m", "service.main"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="DragAnything: API, janitor, sender of webhooks" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"

FROM runtime AS worker
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=worker-environment /opt/venv /opt/venv
# It beats in Redis once it has loaded its models.
HEALTHCHECK --interval=30s --timeout=10s --start-period=300s CMD ["python", "-m", "worker.health"]
CMD ["python", "-m", "worker.main"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="DragAnything: worker" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
