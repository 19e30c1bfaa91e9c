//! What goes wrong in AMQP's own terms: a reply code, a text, a scope, the method at fault.
//!
//! Disk errors and bugs of ours are other types; they become [`Refusal`]s of code 541 at the border.

use crate::protocol::ReplyCode;

/// A command that the broker refuses, in the terms of the wire.
///
/// The text is what follows `NAME - ` in the reply text; the session adds the prefix, the class and
/// the method at fault, and cuts the whole at 255 bytes as RabbitMQ does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reply code; its class (soft or hard) decides the scope.
    pub code: ReplyCode,
    /// The explanation without the `NAME - ` prefix.
    pub text: String,
}

impl Refusal {
    /// A refusal with `code` and the explanation `text`.
    pub fn new(code: ReplyCode, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// 403 ACCESS_REFUSED.
    pub fn access_refused(text: impl Into<String>) -> Self {
        Self::new(ReplyCode::AccessRefused, text)
    }

    /// 404 NOT_FOUND.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(ReplyCode::NotFound, text)
    }

    /// 405 RESOURCE_LOCKED.
    pub fn resource_locked(text: impl Into<String>) -> Self {
        Self::new(ReplyCode::ResourceLocked, text)
    }

    /// 406 PRECONDITION_FAILED.
    pub fn precondition_failed(text: impl Into<String>) -> Self {
        Self::new(ReplyCode::PreconditionFailed, text)
    }

    /// 530 NOT_ALLOWED (ends the connection).
    pub fn not_allowed(text: impl Into<String>) -> Self {
        Self::new(ReplyCode::NotAllowed, text)
    }

    /// 540 NOT_IMPLEMENTED (ends the connection).
    pub fn not_implemented(text: impl Into<String>) -> Self {
        Self::new(ReplyCode::NotImplemented, text)
    }

    /// 541 INTERNAL_ERROR (ends the connection).
    pub fn internal_error(text: impl Into<String>) -> Self {
        Self::new(ReplyCode::InternalError, text)
    }

    /// What this refusal ends.
    pub fn scope(&self) -> Scope {
        if self.code.is_hard() {
            Scope::Connection
        } else {
            Scope::Channel
        }
    }
}

/// What an error ends: one channel or the whole connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A soft error: `channel.close`.
    Channel,
    /// A hard error: `connection.close`.
    Connection,
}

/// A refusal with the method that caused it, as it goes on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// What is refused, and why.
    pub refusal: Refusal,
    /// The class of the method at fault, 0 when there is none.
    pub class_id: u16,
    /// The method at fault, 0 when there is none.
    pub method_id: u16,
}
