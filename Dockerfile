# The gateway's image: one static binary, the certificates of public authorities, and nothing else.
#
#   docker build -t gateway .
#
# A binary that is built already goes into the same image, in place of the first stage:
#   FOLDER/out/gateway and FOLDER/etc/ssl/certs/ca-certificates.crt, then
#   docker build --build-context builder=FOLDER -t gateway .

# The version of rust-toolchain.toml.
FROM docker.io/library/rust:1.95.0-bookworm AS builder
WORKDIR /src
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY adapter adapter
COPY adapter-redis adapter-redis
COPY contracts contracts
COPY gateway gateway
COPY loadtest loadtest
# With `--target`, the flags are for the binary alone: procedural macros cannot be static.
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --package gateway --target "$target" \
    && install -D "target/$target/release/gateway" /out/gateway

FROM scratch
COPY --from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=builder /out/gateway /gateway
USER 65532:65532
EXPOSE 3001 3002
STOPSIGNAL SIGTERM
ENTRYPOINT ["/gateway"]
# Of the two listeners, only 3001 is for the outside.
CMD ["serve", "--listen", "0.0.0.0:3001", "--internal-listen", "0.0.0.0:3002"]
