# docker build -t outstep .
# docker build -t outstep --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .     for GPUs
# docker run -v "$PWD/ml:/opt/ml" outstep train                                                or serve
#
# docs/deploy.md says what lies where below /opt/ml. The image runs as root, as SageMaker wants it to; elsewhere
# docker run --user "$(id -u)" does too, as nothing is written but below /opt/ml and /tmp.
FROM python:3.11-slim

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 HOME=/tmp
# The driver is the host's; this asks for it, and does nothing where there is none.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /opt/outstep
COPY constraints.txt .
# By far the largest part, in a layer of its own. An index's own builds (2.13.0+cpu) are newer than PyPI's of that number.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --extra-index-url "$TORCH_INDEX" -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY envs envs
COPY buffers buffers
COPY algorithms algorithms
COPY trainer trainer
COPY conf conf
COPY outstep outstep
# `serve,ray` for jobs of several machines.
ARG EXTRAS=serve
RUN pip install --extra-index-url "$TORCH_INDEX" -c constraints.txt ".[$EXTRAS]"

# First on Python's path: an image FROM this one may copy games of its own here.
WORKDIR /opt/code
# A program and no shell, so that SIGTERM reaches it.
ENTRYPOINT ["outstep", "container"]
