//! Properties that own their values, for the few who change or build them: dead-lettering, copies by CC and BCC, the HTTP
//! API. Encoded octets come in and go out; messages on their way do not pass through here.

use super::{PropertiesView, PropertyFacts, flag};
use crate::protocol::{
    shortstr::{ShortStr, ShortString},
    table::{FieldTable, Table},
    wire::{Fault, write_shortstr},
};

/// All properties of class basic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<ShortString>,
    /// MIME encoding of the body.
    pub content_encoding: Option<ShortString>,
    /// The application's header fields.
    pub headers: Option<FieldTable>,
    /// 1 for transient, 2 for persistent.
    pub delivery_mode: Option<u8>,
    /// Priority, from 0 up.
    pub priority: Option<u8>,
    /// The application's correlation identifier.
    pub correlation_id: Option<ShortString>,
    /// Queue that awaits the answer.
    pub reply_to: Option<ShortString>,
    /// Time to live: milliseconds in decimal digits.
    pub expiration: Option<ShortString>,
    /// The application's message identifier.
    pub message_id: Option<ShortString>,
    /// The application's time, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// The application's name for the kind of message.
    pub type_: Option<ShortString>,
    /// The user who published.
    pub user_id: Option<ShortString>,
    /// The application that published.
    pub app_id: Option<ShortString>,
    /// Reserved by the specification, carried all the same.
    pub cluster_id: Option<ShortString>,
}

impl Properties {
    /// Decodes flags and values.
    ///
    /// # Errors
    /// The octets are not the properties of class basic.
    pub fn decode(properties: &[u8]) -> Result<Self, Fault> {
        Ok(PropertyFacts::of(properties)?.view(properties).decode())
    }

    pub(super) fn from_view(view: &PropertiesView<'_>) -> Self {
        let own = |text: Option<ShortStr<'_>>| text.map(ShortString::from);
        Self {
            content_type: own(view.content_type()),
            content_encoding: own(view.content_encoding()),
            headers: view.headers().map(Table::decode),
            delivery_mode: view.delivery_mode(),
            priority: view.priority(),
            correlation_id: own(view.correlation_id()),
            reply_to: own(view.reply_to()),
            expiration: own(view.expiration()),
            message_id: own(view.message_id()),
            timestamp: view.timestamp(),
            type_: own(view.type_()),
            user_id: own(view.user_id()),
            app_id: own(view.app_id()),
            cluster_id: own(view.cluster_id()),
        }
    }

    /// Appends flags and values.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.flags().to_be_bytes());
        write_texts(out, [&self.content_type, &self.content_encoding]);
        if let Some(headers) = &self.headers {
            headers.encode(out);
        }
        out.extend(self.delivery_mode);
        out.extend(self.priority);
        write_texts(
            out,
            [
                &self.correlation_id,
                &self.reply_to,
                &self.expiration,
                &self.message_id,
            ],
        );
        if let Some(timestamp) = self.timestamp {
            out.extend_from_slice(&timestamp.to_be_bytes());
        }
        write_texts(
            out,
            [&self.type_, &self.user_id, &self.app_id, &self.cluster_id],
        );
    }

    /// The encoded form alone.
    pub fn to_encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    fn flags(&self) -> u16 {
        let present = [
            (flag::CONTENT_TYPE, self.content_type.is_some()),
            (flag::CONTENT_ENCODING, self.content_encoding.is_some()),
            (flag::HEADERS, self.headers.is_some()),
            (flag::DELIVERY_MODE, self.delivery_mode.is_some()),
            (flag::PRIORITY, self.priority.is_some()),
            (flag::CORRELATION_ID, self.correlation_id.is_some()),
            (flag::REPLY_TO, self.reply_to.is_some()),
            (flag::EXPIRATION, self.expiration.is_some()),
            (flag::MESSAGE_ID, self.message_id.is_some()),
            (flag::TIMESTAMP, self.timestamp.is_some()),
            (flag::TYPE, self.type_.is_some()),
            (flag::USER_ID, self.user_id.is_some()),
            (flag::APP_ID, self.app_id.is_some()),
            (flag::CLUSTER_ID, self.cluster_id.is_some()),
        ];
        let flags = present.iter().filter(|(_, is_there)| *is_there);
        flags.fold(0, |word, (flag, _)| word | flag)
    }
}

fn write_texts<const N: usize>(out: &mut Vec<u8>, texts: [&Option<ShortString>; N]) {
    for text in texts.into_iter().flatten() {
        write_shortstr(out, text.as_short_str());
    }
}
