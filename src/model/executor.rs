//! The seam between a session, which knows the wire, and the broker, which knows the queues.

use bytes::Bytes;

use super::{
    ChannelInfo, ChannelNumber, Command, ConfirmSequence, ConnectionInfo, ConnectionProgress,
    Refusal, Reply, Settlement, StagedPublish, Traffic,
};
use crate::protocol::PropertyFacts;

/// A publish, as slices of the read buffer: nothing is allocated before the broker has routed it.
#[derive(Clone, Debug)]
pub struct Publish<'a> {
    /// The exchange's name as it came, not yet checked to be UTF-8.
    pub exchange: &'a [u8],
    /// The routing key.
    pub routing_key: &'a [u8],
    /// Return it when no queue takes it.
    pub mandatory: bool,
    /// The content header's property flags and values, validated by the walk.
    pub properties: &'a [u8],
    /// What the walk noted.
    pub facts: PropertyFacts,
    /// The body.
    pub body: Body<'a>,
    /// The number of this publish when its channel is in confirm mode.
    pub confirm: Option<ConfirmSequence>,
}

/// A body, either still in the read buffer or assembled from several frames.
#[derive(Clone, Debug)]
pub enum Body<'a> {
    /// A slice of the read buffer, to be copied if it is kept.
    Borrowed(&'a [u8]),
    /// Gathered from several frames, to be taken over.
    Assembled(Bytes),
}

impl Body<'_> {
    /// The body's bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(slice) => slice,
            Self::Assembled(bytes) => bytes,
        }
    }
}

/// Whether a publish found a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// At least one queue (or direct reply) was found, or none was asked for.
    Routed,
    /// No queue; `basic.return` 312 if the publish was mandatory.
    Unroutable,
}

/// How a publish ended, for publisher confirms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishOutcome {
    /// Every queue it went to has it, as durably as it was asked to be: `basic.ack`.
    Accepted,
    /// At least one queue refused it: `basic.nack`.
    Rejected,
}

/// A publish of a channel in confirm mode is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The channel.
    pub channel: ChannelNumber,
    /// The publish.
    pub sequence: ConfirmSequence,
    /// How it ended.
    pub outcome: PublishOutcome,
}

/// When the answer to a command comes.
#[derive(Debug)]
pub enum Execution {
    /// Here it is.
    Done(Result<Reply, Refusal>),
    /// Later, through the session's `handle_reply`; the channel waits, the others go on.
    Later,
}

impl Execution {
    /// A refusal, at once.
    pub fn refused(refusal: Refusal) -> Self {
        Self::Done(Err(refusal))
    }

    /// An answer, at once.
    pub fn done(reply: Reply) -> Self {
        Self::Done(Ok(reply))
    }
}

/// What a session needs of the broker. One executor serves one connection and is called from its task
/// alone; the conformance tests put a scripted one in its place.
///
/// Publishes and settlements may be gathered until [`Executor::flush`]; every command sees the effects of
/// those before it.
pub trait Executor {
    /// Runs a rare command for `channel` (0 for the connection's own).
    fn execute(&mut self, channel: ChannelNumber, command: Command) -> Execution;

    /// Publishes a message.
    ///
    /// # Errors
    /// Missing exchange, lacking permission, bad properties: as `rabbit_channel.erl` checks `basic.publish`.
    fn publish(&mut self, channel: ChannelNumber, publish: Publish<'_>)
    -> Result<Routing, Refusal>;

    /// Checks and routes a publish of a channel in transaction mode, without handing it to a queue.
    ///
    /// # Errors
    /// As [`Executor::publish`].
    fn stage(
        &mut self,
        channel: ChannelNumber,
        publish: Publish<'_>,
    ) -> Result<StagedPublish, Refusal>;

    /// Settles a delivery.
    fn settle(&mut self, channel: ChannelNumber, settlement: Settlement);

    /// Hands what was gathered to the queues; called at the end of a burst.
    fn flush(&mut self);

    /// The connection is ending, and its channels are closed one by one after this: what the first of them gives
    /// back must not be assigned to the others, which never send it.
    fn prepare_end(&mut self) {}

    /// The connection has opened its virtual host: what the outside may want to know of it. Called once.
    fn describe(&mut self, _info: ConnectionInfo) {}

    /// What a channel counted since the last report, and how it stands.
    fn report_channel(&mut self, _info: &ChannelInfo, _traffic: &Traffic) {}

    /// Ends a report, after those of the channels.
    fn report_connection(&mut self, _progress: &ConnectionProgress) {}

    /// The next publish that is complete, in any order.
    fn poll_completion(&mut self) -> Option<Completion>;
}
