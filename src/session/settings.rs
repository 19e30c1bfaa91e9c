//! What a session is allowed and what it offers: plain values, nothing left to default. Where they come from (file,
//! environment, flags) is not known here.

use std::time::Duration;

use crate::protocol::FieldTable;

/// Octets above which no body is taken, whatever the settings say (`rabbit.hrl`, `MAX_MSG_SIZE`): 512 MiB.
pub const MESSAGE_BYTES_TOP: u64 = 536_870_912;

/// The settings of the connections of one listener.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// `server-properties` of connection.start, as the caller built them, capabilities included.
    pub server_properties: FieldTable,
    /// SASL mechanisms offered, with spaces between them.
    pub mechanisms: String,
    /// Most channels that a client may negotiate; 0 for no limit.
    pub channel_max: u16,
    /// Largest frame that a client may negotiate, in octets; 0 for no limit.
    pub frame_max: u32,
    /// The heartbeat interval that connection.tune offers, in seconds; the client's answer is final.
    pub heartbeat_s: u16,
    /// Time from the first byte possible to connection.open-ok.
    pub handshake_timeout: Duration,
    /// Time that a closing connection waits for connection.close-ok, and a refused client for its socket's end.
    pub close_timeout: Duration,
    /// Largest body in octets; above it 406, and above [`MESSAGE_BYTES_TOP`] 501.
    pub message_bytes_max: u64,
    /// Most consumers of one channel; above it 530.
    pub consumers_per_channel_max: Option<u32>,
    /// Octets of replies, returns and confirms not yet sent, above which nothing more is read.
    pub reply_bytes_max: usize,
    /// Octets of frames that wait on suspended channels, above which nothing more is read.
    pub pending_bytes_max: usize,
    /// Octets that the staged publishes of one transaction may cost; above it 406.
    pub transaction_bytes_max: usize,
    /// Whether `basic.qos` with `global=true` means one limit for the channel; otherwise it is taken as `global=false`.
    pub permit_global_qos: bool,
}

/// The defaults of RabbitMQ 4.3, and for what it does not limit, limits of our own.
impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            server_properties: FieldTable::new(),
            mechanisms: "PLAIN AMQPLAIN".to_owned(),
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_s: 60,
            handshake_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(3),
            message_bytes_max: 16 * 1024 * 1024,
            consumers_per_channel_max: None,
            reply_bytes_max: 1024 * 1024,
            pending_bytes_max: 1024 * 1024,
            transaction_bytes_max: 256 * 1024 * 1024,
            permit_global_qos: true,
        }
    }
}
