# The action's image: an Alpine that builds packages, and pakman with its dependencies in an environment of their own.
# It stays root: GitHub's file commands and the workspace belong to others, and a build drops its privileges itself.
ARG ALPINE=3.24

FROM alpine:${ALPINE} AS environment
# hadolint ignore=DL3018
RUN apk add --no-cache python3 && python3 -m venv /opt/pakman
COPY requirements.lock /
# Of botocore's 400 services only those that a bucket and its credentials need: all others weigh more than all the rest.
# Bytecode goes by no file time: what builds or unpacks an image may set them all to one.
RUN /opt/pakman/bin/pip install --no-cache-dir --no-compile --no-deps --only-binary=:all: --require-hashes --requirement=/requirements.lock \
	&& /opt/pakman/bin/pip uninstall --yes pip \
	&& find /opt/pakman/lib/python3*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
		! -name s3 ! -name sso ! -name sso-oidc ! -name sts -exec rm -r {} + \
	&& /opt/pakman/bin/python3 -m compileall -q --invalidation-mode=unchecked-hash /opt/pakman/lib
COPY schemas /schemas
COPY pakman /pakman
# The link to the schemas becomes files.
RUN cp -RL /pakman /opt/pakman/lib/python3*/site-packages/ \
	&& /opt/pakman/bin/python3 -m compileall -q --invalidation-mode=unchecked-hash /opt/pakman/lib/python3*/site-packages/pakman \
	&& /opt/pakman/bin/python3 -I -c 'from pakman import templating; templating.compile_all()'
COPY entrypoint.py /opt/pakman/

FROM alpine:${ALPINE}
# hadolint ignore=DL3018
RUN apk add --no-cache abuild build-base docker-cli git python3 tar
COPY --from=environment /opt/pakman /opt/pakman
# What is in PATH, PYTHONPATH or the workspace decides nothing here: jobs carry their runner's settings inside.
ENTRYPOINT ["/opt/pakman/bin/python3", "-I", "/opt/pakman/entrypoint.py"]
# Source, revision and version are the release's to say.
LABEL org.opencontainers.image.title="pakman" \
	org.opencontainers.image.description="One instellar.yml becomes signed Alpine packages in an S3 bucket that apk reads as a repository" \
	org.opencontainers.image.licenses="MIT"
