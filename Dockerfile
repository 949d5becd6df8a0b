# docker build -t flickbook .
# With what PyPI has, torch is built for CUDA; it runs without a GPU too, and is large. For a small image name an index
# that has it for the processor only: docker build -t flickbook:cpu --build-arg TORCH_INDEX=ADDRESS .
ARG PYTHON=3.12

FROM python:${PYTHON}-slim-bookworm AS build
ARG TORCH_INDEX=
RUN python -m venv /opt/flickbook
ENV PATH=/opt/flickbook/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt ./
RUN pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install '.[gen,finish,server,ui,mongo,mcp,cluster]' -c constraints.txt

FROM python:${PYTHON}-slim-bookworm
COPY --from=build /opt/flickbook /opt/flickbook
# Login shells, which KubeRay uses, do not keep PATH.
RUN ln -s /opt/flickbook/bin/ray /opt/flickbook/bin/flickbook /usr/local/bin/
RUN useradd --create-home --uid 10001 flickbook && install --directory --owner=flickbook --mode=0700 /data
ENV PATH=/opt/flickbook/bin:$PATH PYTHONUNBUFFERED=1 FLICKBOOK_DATA_DIR=/data FLICKBOOK_CACHE_DIR=/data/cache
USER flickbook
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
ENTRYPOINT ["flickbook"]
# From outside the container it is reached by others, so it wants a key first; docs/service.md says how one is made.
CMD ["serve", "--host", "0.0.0.0", "--json-logs"]
