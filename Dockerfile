# A CPU:  docker build -t maml .
# A GPU, with the CUDA that TensorFlow 2.15 is built for, and libdevice, without which XLA
# compiles nothing there: the smaller images (runtime) lack it.
#         docker build -t maml --build-arg BASE=nvidia/cuda:12.2.2-cudnn8-devel-ubuntu22.04 .
# Then:   docker run --rm -v "$PWD/logs:/maml/logs" maml main.py
# docs/index.md has more.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# Not every base has what makes environments.
RUN python3 -c 'import ensurepip, venv' \
    || { apt-get update && apt-get install -y --no-install-recommends python3-venv \
         && rm -rf /var/lib/apt/lists/*; }

RUN useradd --create-home maml && install -d -o maml /maml /maml/logs /maml/data
WORKDIR /maml
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib

# Before the code, so that packages are installed again when they change only.
COPY requirements.lock ./
RUN python3 -m venv /venv \
    && pip install --no-cache-dir --require-hashes -r requirements.lock

COPY --chown=maml . .
USER maml
ENTRYPOINT ["python"]
CMD ["main.py"]
