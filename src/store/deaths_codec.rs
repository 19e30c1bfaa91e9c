//! The history of a dead letter as bytes. In: [`Deaths`]; out: bytes, and the way back, or nothing if they make no sense.
//!
//! First death: reason, queue, exchange; the last exchange; then each death, the most recent first: reason, queue, exchange,
//! u64 count, u64 first time, original expiration (u8 whether there is one), u32 number of routing keys. Texts stand behind
//! their length (u32), a reason is one byte. Little end first.

use bytes::Bytes;

use super::numbers;
use crate::model::{Death, DeathReason, Deaths, FirstDeath, Name};

/// Encodes a history.
pub(super) fn encode(deaths: &Deaths) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 * (deaths.recent.len() + 1));
    out.push(code(deaths.first.reason));
    put(&mut out, deaths.first.queue.as_bytes());
    put(&mut out, deaths.first.exchange.as_bytes());
    put(&mut out, deaths.last_exchange.as_bytes());
    for death in &deaths.recent {
        out.push(code(death.reason));
        put(&mut out, death.queue.as_bytes());
        put(&mut out, death.exchange.as_bytes());
        out.extend_from_slice(&death.count.to_le_bytes());
        out.extend_from_slice(&death.first_ms.to_le_bytes());
        out.push(u8::from(death.original_expiration.is_some()));
        if let Some(expiration) = &death.original_expiration {
            put(&mut out, expiration);
        }
        out.extend_from_slice(&(death.routing_keys.len() as u32).to_le_bytes());
        for key in &death.routing_keys {
            put(&mut out, key);
        }
    }
    out
}

/// Decodes a history.
pub(super) fn decode(bytes: &[u8]) -> Option<Deaths> {
    let mut reader = Reader(numbers::Reader::new(bytes));
    let first = FirstDeath {
        reason: reader.reason()?,
        queue: reader.name()?,
        exchange: reader.name()?,
    };
    let last_exchange = reader.name()?;
    let mut recent = Vec::new();
    while !reader.0.is_empty() {
        recent.push(reader.death()?);
    }
    Some(Deaths {
        recent,
        first,
        last_exchange,
    })
}

const fn code(reason: DeathReason) -> u8 {
    match reason {
        DeathReason::Rejected => 1,
        DeathReason::Expired => 2,
        DeathReason::MaxLen => 3,
        DeathReason::DeliveryLimit => 4,
    }
}

fn put(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}

struct Reader<'a>(numbers::Reader<'a>);

impl<'a> Reader<'a> {
    fn death(&mut self) -> Option<Death> {
        let reason = self.reason()?;
        let (queue, exchange) = (self.name()?, self.name()?);
        let (count, first_ms) = (self.0.u64()?, self.0.u64()?);
        let original_expiration = match self.0.take(1)? {
            [0] => None,
            _ => Some(Bytes::copy_from_slice(self.text()?)),
        };
        let keys = self.0.u32()? as usize;
        // Each key takes four bytes at least, so a number that lies is noticed before it allocates.
        if keys > self.0.rest().len() / 4 {
            return None;
        }
        let routing_keys = (0..keys)
            .map(|_| self.text().map(Bytes::copy_from_slice))
            .collect::<Option<_>>()?;
        Some(Death {
            queue,
            reason,
            count,
            first_ms,
            exchange,
            routing_keys,
            original_expiration,
        })
    }

    fn reason(&mut self) -> Option<DeathReason> {
        Some(match self.0.take(1)? {
            [1] => DeathReason::Rejected,
            [2] => DeathReason::Expired,
            [3] => DeathReason::MaxLen,
            [4] => DeathReason::DeliveryLimit,
            _ => return None,
        })
    }

    fn name(&mut self) -> Option<Name> {
        std::str::from_utf8(self.text()?).ok().map(Name::from)
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let bytes = self.0.u32()? as usize;
        self.0.take(bytes)
    }
}
