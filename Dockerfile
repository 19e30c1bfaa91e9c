# The broker in a container of its own: built from source, run as a user without rights.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package haremq --bin haremq

FROM debian:bookworm-slim
RUN useradd --system --uid 999 --user-group --home-dir /var/lib/haremq --create-home haremq
COPY --from=build /src/target/release/haremq /usr/local/bin/haremq

# A container's own loopback is of no use to others, so all addresses are listened on, and, as in
# RabbitMQ's image, no user is bound to loopback. Set RABBITMQ_DEFAULT_USER and RABBITMQ_DEFAULT_PASS.
# These stand in the environment, so flags override them and a configuration file does not.
ENV HAREMQ_DATA_DIR=/var/lib/haremq \
    HAREMQ_LISTEN_AMQP=0.0.0.0:5672 \
    HAREMQ_LISTEN_HTTP=0.0.0.0:15672 \
    HAREMQ_LISTEN_METRICS=0.0.0.0:15692 \
    HAREMQ_AUTH_LOOPBACK_USERS=none

USER haremq
WORKDIR /var/lib/haremq
VOLUME /var/lib/haremq
EXPOSE 5672 15672 15692

# SIGTERM, Docker's default, closes the connections and then the store.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s --retries=3 CMD ["haremq", "ping"]

ENTRYPOINT ["haremq"]
CMD ["serve"]
