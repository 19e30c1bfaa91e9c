//! The kinds of queue, and the arguments that each knows. Source: `capabilities/0` of RabbitMQ's queue
//! types, tag v4.3.5.

pub use crate::model::QueueKind;

impl QueueKind {
    /// The value of `x-queue-type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }

    /// The name of RabbitMQ's module, which its refusals print.
    pub const fn module_name(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }

    /// The arguments that this kind knows: they are validated, and compared when declared again.
    pub const fn known_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Classic => &[
                "x-expires",
                "x-message-ttl",
                "x-dead-letter-exchange",
                "x-dead-letter-routing-key",
                "x-max-length",
                "x-max-length-bytes",
                "x-max-priority",
                "x-overflow",
                "x-queue-mode",
                "x-queue-version",
                "x-single-active-consumer",
                "x-queue-type",
                "x-queue-master-locator",
                "x-queue-leader-locator",
            ],
            Self::Quorum => &[
                "x-dead-letter-exchange",
                "x-dead-letter-routing-key",
                "x-dead-letter-strategy",
                "x-expires",
                "x-max-length",
                "x-max-length-bytes",
                "x-max-in-memory-length",
                "x-max-in-memory-bytes",
                "x-overflow",
                "x-single-active-consumer",
                "x-queue-type",
                "x-quorum-initial-group-size",
                "x-delivery-limit",
                "x-message-ttl",
                "x-queue-leader-locator",
                "x-consumer-disconnected-timeout",
                "x-consumer-timeout",
                "x-delayed-retry-type",
                "x-delayed-retry-min",
                "x-delayed-retry-max",
            ],
        }
    }

    /// Whether this kind knows `argument`.
    pub fn knows(self, argument: &str) -> bool {
        self.known_arguments().contains(&argument)
    }

    /// Whether another kind of queue knows `argument` and this one does not.
    pub fn is_foreign(self, argument: &str) -> bool {
        !self.knows(argument)
            && (Self::Classic.knows(argument)
                || Self::Quorum.knows(argument)
                || STREAM_ARGUMENTS.contains(&argument))
    }
}

/// Arguments that only streams know.
const STREAM_ARGUMENTS: [&str; 4] = [
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
];
