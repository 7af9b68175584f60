# syntax=docker/dockerfile:1

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=""
WORKDIR /src
ENV CGO_ENABLED=0 GOMODCACHE=/cache/mod GOCACHE=/cache/build
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/cache/mod go mod download
COPY cmd cmd
COPY drift drift
COPY internal internal
COPY reconciler reconciler
COPY sources sources
RUN --mount=type=cache,target=/cache/mod --mount=type=cache,target=/cache/build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
      -ldflags="-s -w -X github.com/holdfast-gitops/holdfast/cmd/internal/cli.version=$VERSION" \
      -o /out/holdfast ./cmd/holdfast \
 && mkdir -p /out/data

FROM gcr.io/distroless/static:nonroot
COPY --from=build /out/holdfast /usr/local/bin/holdfast
# The volume takes over owner and mode of this folder.
COPY --from=build --chown=65532:65532 --chmod=0700 /out/data /var/lib/holdfast
ENV HOLDFAST_DATA_DIR=/var/lib/holdfast
VOLUME /var/lib/holdfast
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/holdfast"]
CMD ["run", "--config", "/etc/holdfast/holdfast.yaml"]
