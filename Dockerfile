# The programs of Kingpost in an image with nothing else in it; docs/deploying.md says how it is built and run.
#
#   docker build -t kingpost .                                  every program of the pipeline; the command says which one runs
#   docker build -t kingpost-loader --build-arg BIN=kingpost-loader .
#   docker build -t kingpost-sandbox --target sandbox .         the fake WDT and Kingdee, for trying it out

# Any image with this Rust, a C compiler and certificates will do, such as a copy in a registry of one's own.
ARG RUST_IMAGE=rust:1.95-slim-bookworm

# What the dependencies follow from: the manifests and the lock file. Sources become empty programs, so that the next
# stage is built anew only when a manifest changes.
FROM ${RUST_IMAGE} AS manifests
WORKDIR /src
COPY . .
RUN find . \( -name Cargo.toml -o -name Cargo.lock \) -exec cp --parents {} /opt/ \; \
    && find . \( -name main.rs -o -name lib.rs \) -exec cp --parents {} /opt/ \; \
    && find /opt -name '*.rs' -exec sh -c 'echo "fn main() { }" >"$1"' sh {} \;

FROM ${RUST_IMAGE} AS build
# Static: the final stage has no C library. Paths of the build are kept out of the programs, so that any directory
# gives the same bytes.
ENV RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=/usr/local/cargo/registry/src=/registry --remap-path-prefix=/src=/kingpost" \
    CFLAGS="-ffile-prefix-map=/usr/local/cargo/registry/src=/registry" \
    SELECTED="--locked --release -p kingpost-extractor -p kingpost-transformer -p kingpost-loader -p kingpost-operator -p kingpost-sandbox --bins"
WORKDIR /src
COPY --from=manifests /opt .
# The target is named although it is the machine's own: only then do build scripts and macros stay dynamic.
# hadolint ignore=SC2086
RUN cargo build $SELECTED --target "$(rustc --print host-tuple)"
COPY . .
# Anything here writes the list of dependencies into the programs, for scanners of images; the Rust image has to have
# cargo-auditable then.
ARG AUDITABLE=
# What was built of the empty programs would pass for newer than the sources.
# hadolint ignore=SC2086
RUN find crates -name '*.rs' -exec touch {} + \
    && cargo ${AUDITABLE:+auditable} build $SELECTED --target "$(rustc --print host-tuple)"
# Seconds since the epoch that every file of the image carries. It isn't known before, since build scripts look at it and
# would run again.
ARG SOURCE_DATE_EPOCH=0
RUN built="target/$(rustc --print host-tuple)/release" \
    && install -D -t /out/programs "$built/kingpost" "$built/kingpost-extractor" "$built/kingpost-transformer" "$built/kingpost-loader" \
    && install -D -t /out/sandbox "$built/kingpost-sandbox" "$built/kingpost" \
    && install -D -m 644 -t /out/root/etc/ssl/certs /etc/ssl/certs/ca-certificates.crt \
    && echo 'kingpost:x:65532:65532:Kingpost:/:/sbin/nologin' >/out/root/etc/passwd \
    && echo 'kingpost:x:65532:' >/out/root/etc/group \
    && install -d -m 1777 /out/root/tmp \
    && install -d -m 755 /out/root/etc/kingpost/schemes \
    && install -d -m 700 -o 65532 -g 65532 /out/root/var/lib/kingpost \
    && find /out -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

FROM scratch AS root
COPY --from=build /out/root /
# A number, because Kubernetes can't tell whether a name is root.
USER 65532:65532
WORKDIR /
# Schemes are no part of the image: mount them, so that a change of a scheme is no new image.
ENV SCHEMES_DIR=/etc/kingpost/schemes
# The drain begins with it.
STOPSIGNAL SIGTERM
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Kingpost" \
      org.opencontainers.image.description="Carries documents from WDT into Kingdee over RabbitMQ, each exactly once" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM root AS sandbox
COPY --from=build /out/sandbox /usr/local/bin/
LABEL org.opencontainers.image.title="Kingpost sandbox" \
      org.opencontainers.image.description="A fake WDT and a fake Kingdee, to try Kingpost with"
CMD ["kingpost-sandbox", "--listen", "0.0.0.0:8099"]

FROM root AS kingpost
# A name or a pattern: which programs the image holds.
ARG BIN=kingpost*
COPY --from=build /out/programs/${BIN} /usr/local/bin/
CMD ["kingpost", "--help"]
