# The sidecar with its ledger, as `spend up` runs them.
#
#   docker build -t spend-sidecar .
#   docker run --read-only --network container:YOUR_APP -v spend:/var/lib/spend spend-sidecar
#
# It listens on loopback: put it into the network namespace of the application that it serves (in Kubernetes, the same
# pod). Nothing here widens that, and publishing a port reaches nobody. Stopping it takes up to half a minute: live
# calls are let end, so give it as long (`docker stop -t 30`, terminationGracePeriodSeconds: 30).

# Any image with a Python of at least 3.11 on its PATH and, for the first stage, pip and a shell.
ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY config config
COPY sidecar sidecar
# No package is compiled: all come as wheels. Byte code, of Python's own modules too, is made now, since nothing can be
# written later; that of what is installed here is not held against its source at each start.
RUN python -m pip wheel -q --no-cache-dir --no-deps --wheel-dir /wheel . \
    && python -m venv --without-pip /opt/spend \
    && python -m pip --python /opt/spend/bin/python install -q --no-cache-dir --no-compile --only-binary :all: \
        -c constraints.txt "$(echo /wheel/*.whl)[postgres]" \
    && export PYTHONPYCACHEPREFIX=/opt/spend/bytecode \
    && /opt/spend/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/spend/lib \
    && /opt/spend/bin/python -P -c 'import prometheus_client, sidecar.app.up, sidecar.cli.main' \
    && mkdir /state

FROM ${PYTHON}
LABEL org.opencontainers.image.title="Spend Sidecar" \
      org.opencontainers.image.description="Decides, before every model call, whether its customer may still spend." \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/spend /opt/spend
COPY --from=build --chown=65532:65532 /state /var/lib/spend
# All state is in a folder of the volume, and not in its root: whoever mounts a volume may own its root, and the state
# must belong to the user below alone. SQLite's passing files go there too: no other folder need be writable.
ENV PATH=/opt/spend/bin:$PATH \
    PYTHONPYCACHEPREFIX=/opt/spend/bytecode \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SPEND_DATA=/var/lib/spend/data \
    SQLITE_TMPDIR=/var/lib/spend/data
VOLUME /var/lib/spend
# The proxy; the ledger's API; health and metrics.
EXPOSE 8402 8403 9402
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
# Whoever runs it asks /livez and /readyz on 9402, from within its network namespace: that port is on loopback too.
HEALTHCHECK NONE
ENTRYPOINT ["spend"]
CMD ["up"]
