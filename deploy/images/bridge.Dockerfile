# The media bridge and its audio endpoint, with NVENC where the host has an NVIDIA card and its container toolkit:
#
#   docker build -f deploy/images/bridge.Dockerfile -t babelcast-bridge .
#   docker run --gpus all -v "$PWD/deploy/config:/config" -p 9000:9000/udp babelcast-bridge bridge --env-file /config/media.env
#
# Without a card: --build-arg BASE=ubuntu:24.04. How to: docs/howto/bridge.md.
ARG BASE=nvidia/cuda:12.6.3-runtime-ubuntu24.04
FROM ${BASE}

# which of the driver's libraries the toolkit mounts: NVENC is `video`
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

WORKDIR /src
COPY . .
RUN scripts/system-packages.sh python bridge \
 && python3 -m venv /opt/babelcast \
 && /opt/babelcast/bin/pip install --no-cache-dir -c constraints.txt '.[bridge]' \
 && rm -rf /src/* /var/lib/apt/lists/* \
 && install -d -o 1000 -g 1000 /config /runtime
ENV PATH=/opt/babelcast/bin:$PATH HOME=/runtime
# compose sets another one where deploy/config is not this user's: the API writes media.env
USER 1000:1000
WORKDIR /runtime
VOLUME ["/config", "/runtime"]
ENTRYPOINT ["babelcast"]
CMD ["bridge", "--env-file", "/config/media.env", "--host", "0.0.0.0"]
