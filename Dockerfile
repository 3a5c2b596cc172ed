# One image for all programs: sagepool-operator, sagepool-router, sagepool-sidecar,
# sagepool-downloader, sagepool-simulator, sagepool-crds.
# Any base with Python 3.11 or newer and its venv module will do; BUILD_BASE has the same Python
# with its headers and a C compiler.
ARG BASE=python:3.12-slim
ARG BUILD_BASE=python:3.12

# The root file system is read-only where this runs: what Python compiles, it compiles here.
FROM ${BASE} AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_COMPILE=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python3 -m venv --without-pip /opt/sagepool \
    && python3 -m venv /opt/build
COPY requirements/image.txt requirements/image.txt
RUN /opt/build/bin/pip --python /opt/sagepool/bin/python install -r requirements/image.txt \
    && find /opt/sagepool/lib -type d \( -name tests -o -name test \) -prune -exec rm -rf {} + \
    && /opt/sagepool/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
       /opt/sagepool/lib

# Our own few files are a layer of their own: all that changes from one commit to the next. The
# request path is compiled; mypy finds the types of what it imports where that will be installed.
FROM ${BUILD_BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/build.txt requirements/build.txt
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install -r requirements/build.txt
COPY --from=dependencies /opt/sagepool /opt/sagepool
RUN echo /opt/sagepool/lib/python3.*/site-packages > /tmp/types.pth \
    && mv /tmp/types.pth /opt/build/lib/python3.*/site-packages/
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY crds/ crds/
COPY operator/ operator/
COPY router/ router/
COPY sidecar/ sidecar/
COPY downloader/ downloader/
COPY simulator/ simulator/
COPY client/ client/
RUN HATCH_BUILD_HOOK_ENABLE_CUSTOM=true \
       /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && /opt/build/bin/pip --python /opt/sagepool/bin/python install --no-deps --prefix /opt/own \
       wheels/*.whl \
    && /opt/sagepool/bin/python -m compileall -q --invalidation-mode unchecked-hash \
       -s /opt/own -p /opt/sagepool /opt/own/lib

FROM ${BASE} AS runtime
LABEL org.opencontainers.image.title="sagepool" \
      org.opencontainers.image.description="Chat and embedding models in one pool behind one OpenAI-compatible address" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/sagepool/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=dependencies /opt/sagepool /opt/sagepool
COPY --from=build /opt/own /opt/sagepool
USER 65532:65532
CMD ["python3", "-c", "print('Name a program: sagepool-operator, sagepool-router, sagepool-sidecar, sagepool-downloader, sagepool-simulator or sagepool-crds; each knows --help')"]

# What the demo's client needs on top.
FROM dependencies AS demo-build
COPY requirements/demo.txt requirements/demo.txt
RUN python3 -m venv --without-pip /opt/demo \
    && /opt/build/bin/pip --python /opt/demo/bin/python install -r requirements/demo.txt \
    && /opt/demo/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/demo/lib

FROM runtime AS demo
ENV PATH=/opt/demo/bin:$PATH
COPY --from=demo-build /opt/demo /opt/demo

# Last, so that it is what a build without --target makes.
FROM runtime
