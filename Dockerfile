# One image: Ollama for the CPU, a model, and the chat page.
#
#   docker build -t chainlit-ollama .
#   docker run -d --name chainlit-ollama --restart=always -p 8000:8000 chainlit-ollama

ARG OLLAMA_IMAGE=ollama/ollama:0.32.15
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
# 1 adds transformers and PyTorch for the CPU, and the built-in guide that they run.
ARG WITH_TRANSFORMERS=0

# --- Ollama, without what only a graphics card needs: its libraries for the CPU are plain files, all others folders.
FROM ${OLLAMA_IMAGE} AS ollama
RUN mkdir -p /out/bin /out/lib/ollama \
    && cp /usr/bin/ollama /out/bin/ \
    && find /usr/lib/ollama -maxdepth 1 ! -type d -exec cp -P {} /out/lib/ollama/ \;

# --- The models.
FROM ollama AS models
ARG MODELS="gemma2:2b"
ENV OLLAMA_MODELS=/models
COPY docker/pull-models /usr/local/bin/
# shellcheck disable=SC2086 # several names
RUN pull-models ${MODELS}

# --- Python's packages.
FROM ${PYTHON_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 TIKTOKEN_CACHE_DIR=/opt/tiktoken
RUN python -m venv --without-pip /opt/venv && mkdir -p /opt/tiktoken /opt/huggingface /opt/guide
COPY requirements.txt /tmp/
# What Chainlit brings and nothing uses, see app/page/lean.py, goes again.
RUN --mount=type=cache,target=/root/.cache/pip pip --python /opt/venv/bin/python install -r /tmp/requirements.txt \
    && pip --python /opt/venv/bin/python uninstall --yes grpcio traceloop-sdk aiohttp
# Token counts are estimated from bytes where this table cannot be had.
RUN /opt/venv/bin/python -c "import tiktoken; tiktoken.get_encoding('cl100k_base')" \
    || echo "tiktoken's table is out of reach: token counts will be estimated"

FROM packages AS packages-0

FROM packages AS packages-1
COPY requirements-local.txt /tmp/
RUN --mount=type=cache,target=/root/.cache/pip pip --python /opt/venv/bin/python install -r /tmp/requirements-local.txt
ARG QWEN_MODEL=""
RUN test -z "${QWEN_MODEL}" || HF_HOME=/opt/huggingface /opt/venv/bin/hf download "${QWEN_MODEL}"
COPY models/guide /opt/guide

# --- What is needed of the repository.
FROM packages-${WITH_TRANSFORMERS} AS code
WORKDIR /app
COPY .chainlit .chainlit
COPY public public
COPY docker docker
COPY chainlit*.md entrypoint.sh ./
COPY app app
# Compiled here, and Chainlit's own files written, because nothing can be written at run time.
RUN mkdir -p models && ln -s /opt/guide models/guide \
    && CHAINLIT_APP_ROOT=/app /opt/venv/bin/python -c \
        "from app.page.lean import leave_out_unused; leave_out_unused(); import chainlit.server" \
    && /opt/venv/bin/python -m compileall -q app

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="chainlit-ollama" \
      org.opencontainers.image.description="A private chat for a small server: Ollama, a model and a page, on one port"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp/home chat && install -d -o chat -g chat /data
COPY --from=ollama /out /usr
COPY --from=models /models /opt/ollama/models
COPY --from=code /opt/venv /opt/venv
COPY --from=code /opt/tiktoken /opt/tiktoken
COPY --from=code /opt/huggingface /opt/huggingface
COPY --from=code /opt/guide /opt/guide
COPY --from=code /app /app
ARG MODELS="gemma2:2b"
ARG QWEN_MODEL=""
ENV PATH=/opt/venv/bin:$PATH:/app/docker/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DATA_DIR=/data \
    IMAGE_MODELS=${MODELS} \
    QWEN_MODEL=${QWEN_MODEL} \
    TIKTOKEN_CACHE_DIR=/opt/tiktoken
USER 10001:10001
WORKDIR /app
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-S", "docker/healthcheck.py"]
ENTRYPOINT ["/app/entrypoint.sh"]
