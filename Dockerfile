# The service with the shipped model: docker build -t nmt . && docker run -p 50051:50051 -p 8080:8080 nmt
FROM python:3.12-slim-bookworm AS build
# PyTorch's own index has a small build for the CPU; PyPI's brings several gigabytes of CUDA libraries.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ENV PIP_EXTRA_INDEX_URL=$PIP_EXTRA_INDEX_URL PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The compiler makes the 8-bit kernels; which version makes no difference.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/nmt
WORKDIR /src
COPY . .
RUN /opt/nmt/bin/pip install -c constraints.txt '.[otel]'

FROM python:3.12-slim-bookworm
COPY --from=build /opt/nmt /opt/nmt
ENV PATH=/opt/nmt/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
# gRPC, web page and HTTP API, metrics
EXPOSE 50051 8080 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["nmt", "health"]
ENTRYPOINT ["nmt"]
CMD ["serve", "--listen", "0.0.0.0:50051", "--web", "0.0.0.0:8080", "--set", "metrics_listen=0.0.0.0:9464"]
