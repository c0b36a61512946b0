# One image for every part of the system: it holds the one binary `quorate`, and the command says which part it is.
#
#   docker build -t quorate .                     compiles in the builder stage
#   docker build -t quorate -f Dockerfile \
#     --build-arg BUILDER=debian:bookworm-slim --build-arg PREBUILT=quorate DIR
#                                                 takes DIR/quorate, compiled before (what the tests do)
#
# Without a registry, scripts/base-images makes both base images from Debian's packages. Nothing here needs BuildKit.

ARG BUILDER=rust:1-bookworm

FROM ${BUILDER} AS builder
ARG PREBUILT=
# Lets the tests remove what the builder stage leaves behind.
LABEL quorate-builder=${PREBUILT:-source}
WORKDIR /build
COPY . .
# A binary compiled elsewhere must find its C library in the runtime image: build it on Debian 12 or older.
RUN mkdir -p /out/data \
    && if [ -n "$PREBUILT" ]; then cp "$PREBUILT" /out/quorate; \
       else cargo build --release --locked --bin quorate && cp target/release/quorate /out/quorate; fi \
    && chmod 0755 /out/quorate

FROM debian:bookworm-slim
COPY --from=builder /out/quorate /usr/local/bin/quorate
# Owned by the user which the servers run as, and so is every volume that is first mounted here.
COPY --from=builder --chown=10001:10001 /out/data /var/lib/quorate
USER 10001:10001
WORKDIR /var/lib/quorate
# The image holds no curl and needs none. This check is a node's; docker-compose.yml has those of the other parts.
HEALTHCHECK --interval=3s --timeout=4s --start-period=30s --retries=3 \
    CMD ["quorate", "health", "http://127.0.0.1:2379/readyz"]
EXPOSE 2379 2380 3000 8080 8404
ENTRYPOINT ["quorate"]
CMD ["node", "--data-dir", "/var/lib/quorate", \
     "--listen-client-urls", "http://0.0.0.0:2379", "--listen-peer-urls", "http://0.0.0.0:2380"]
