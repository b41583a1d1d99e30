# syntax=docker/dockerfile:1
# The API alone: no notebooks, no training data, no build tools. The home (tables, models) is mounted, see compose.yaml.
FROM python:3.11-slim AS build
COPY locks/serving.lock /build/serving.lock
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes --only-binary :all: -r /build/serving.lock \
    && /opt/venv/bin/pip uninstall --yes pip setuptools

FROM python:3.11-slim
# LightGBM's library is linked with OpenMP's runtime, which the slim image lacks.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home churn
COPY --from=build /opt/venv /opt/venv
COPY churn_utils /app/churn_utils
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=true \
    CHURN_HOME=/data
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
# 0.0.0.0 inside the container only; compose.yaml publishes the port to 127.0.0.1.
CMD ["python", "-m", "churn_utils", "serve", "--host", "0.0.0.0", "--port", "8000"]
