# The gateway's image: two static binaries, the certificates of public authorities, and nothing else. `/gateway` serves;
# `/loadtest` is for `helm test` and for load from inside a cluster.
#
#   docker build -t gateway .
#
# Binaries that are built already go into the same image, in place of the first stage:
#   FOLDER/out/gateway, FOLDER/out/loadtest and FOLDER/etc/ssl/certs/ca-certificates.crt, then
#   docker build --build-context builder=FOLDER -t gateway .

# The version of rust-toolchain.toml.
FROM docker.io/library/rust:1.95.0-bookworm AS builder
WORKDIR /src
COPY . .
# With `--target`, the flags are for the binaries alone: procedural macros cannot be static.
RUN target=$(rustc --print host-tuple) \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target" \
        --package gateway --package loadtest --bin gateway --bin loadtest \
    && install -D --strip --target-directory /out "target/$target/release/gateway" "target/$target/release/loadtest"

FROM scratch
COPY --from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=builder /out/gateway /gateway
COPY --from=builder /out/loadtest /loadtest
USER 65532:65532
EXPOSE 3001 3002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/gateway", "health", "--internal-listen", "127.0.0.1:3002"]
ENTRYPOINT ["/gateway"]
# Of the two listeners, only 3001 is for the outside.
CMD ["serve", "--listen", "0.0.0.0:3001", "--internal-listen", "0.0.0.0:3002"]
