//! How messages leave a queue by other doors than a consumer's: back into the queue, to a dead-letter exchange, by a purge.
//!
//! In: messages and the reason. Out: dead letters, and what the log must be told: which positions ended, which survive a purge.

use std::sync::Arc;

use super::death_tally::DeathStrategy;
use super::effects::{DeadLetter, Effects, Purge};
use super::entry::Item;
use super::quorum::{DEAD_LETTER_RETRY_MS, Retained, delayed_until};
use super::state::QueueState;
use crate::model::{DeathReason, Now, Position, SharedMessage};
use crate::store::record::Run;

/// A dead letter, apart from what the queue says of itself.
pub struct Letter {
    /// The message, unless it is in the log alone.
    pub message: Option<SharedMessage>,
    /// Why it leaves.
    pub reason: DeathReason,
    /// It stays here until it has arrived.
    pub retained: Option<Position>,
    /// The logged position that it leaves.
    pub source: Option<Position>,
}

impl QueueState {
    /// Puts a handed-out message back: a classic queue to its place, a quorum queue behind other returns.
    pub(super) fn requeue(
        &mut self,
        mut item: Item,
        counts_as_failed: bool,
        now: Now,
        fx: &mut Effects,
    ) {
        if item.is_logged() && self.is_over_budget() {
            fx.free(item.shed());
        }
        let Some(quorum) = &mut self.quorum else {
            self.counters.requeued += 1;
            self.ready.restore(item);
            return;
        };
        if counts_as_failed {
            item.count_failure();
        }
        let attempts = item.attempts();
        if self
            .settings
            .delivery_limit
            .is_some_and(|limit| attempts.failed > limit)
        {
            self.counters.delivery_limited += 1;
            self.dead_letter(item, DeathReason::DeliveryLimit, fx);
            return;
        }
        self.counters.requeued += 1;
        if item.is_logged() {
            fx.requeued
                .push((item.position(), attempts.acquired, attempts.failed));
        }
        let retry = self.settings.delayed_retry;
        match delayed_until(retry, counts_as_failed, attempts.failed, now.wall_ms) {
            Some(ready_at_ms) => quorum.delay(ready_at_ms, item),
            None => self.ready.put_back(item),
        }
    }

    /// A message leaves by the back door; without a dead-letter exchange that is its end.
    pub(super) fn dead_letter(&mut self, item: Item, reason: DeathReason, fx: &mut Effects) {
        let position = item.position();
        let is_logged = item.is_logged();
        fx.deaths
            .count(self.settings.kind, self.death_strategy(), reason);
        if self.settings.dead_letter_exchange.is_none() {
            self.end_logged(position, item.body_bytes(), is_logged, fx);
            fx.free(item.into_message());
            return;
        }
        let is_tight = self.is_half_full();
        if self.settings.retains_dead_letters
            && let Some(quorum) = &mut self.quorum
        {
            let body_bytes = item.body_bytes();
            let message = item.into_message();
            let letter = Letter {
                message: message.clone(),
                reason,
                retained: Some(position),
                source: None,
            };
            let kept = message.filter(|_| !is_logged || !is_tight);
            quorum.retain(
                position,
                Retained {
                    message: kept,
                    body_bytes,
                    is_logged,
                    reason,
                },
            );
            self.send_letter(letter, fx);
            return;
        }
        if is_logged {
            self.leaving.insert(position, item.body_bytes() as u32);
        }
        let letter = Letter {
            message: item.into_message(),
            reason,
            retained: None,
            source: is_logged.then_some(position),
        };
        self.send_letter(letter, fx);
    }

    /// What becomes of dead letters here.
    pub(super) fn death_strategy(&self) -> DeathStrategy {
        if self.settings.dead_letter_exchange.is_none() {
            DeathStrategy::Disabled
        } else if self.settings.retains_dead_letters {
            DeathStrategy::AtLeastOnce
        } else {
            DeathStrategy::AtMostOnce
        }
    }

    /// Hands a letter to whoever routes it, if there is a dead-letter exchange.
    pub(super) fn send_letter(&mut self, letter: Letter, fx: &mut Effects) {
        let Some(exchange) = &self.settings.dead_letter_exchange else {
            fx.free(letter.message);
            return;
        };
        fx.dead_letters.push(DeadLetter {
            queue: self.id,
            vhost: Arc::clone(&self.vhost),
            queue_name: Arc::clone(&self.name),
            message: letter.message,
            reason: letter.reason,
            exchange: Arc::clone(exchange),
            routing_key: self.settings.dead_letter_routing_key.clone(),
            retained: letter.retained,
            source: letter.source,
        });
    }

    /// The dead letter of a logged message was recorded together with the end of that message, or was dropped and the end recorded alone.
    /// Until then a purge spares the position. Gives the bytes of its body, unless that was said before.
    pub fn letter_left(&mut self, position: Position) -> Option<u32> {
        self.leaving.remove(&position)
    }

    /// A retained dead letter fared so: it has arrived in every queue that it was routed to, at least
    /// one, or it must be sent again.
    pub fn settle_dead_letter(
        &mut self,
        position: Position,
        has_arrived: bool,
        now: Now,
        fx: &mut Effects,
    ) {
        let Some(quorum) = &mut self.quorum else {
            return;
        };
        if has_arrived {
            if let Some(letter) = quorum.arrived(position) {
                fx.deaths.confirmed += 1;
                self.end_logged(position, letter.body_bytes, letter.is_logged, fx);
                fx.free(letter.message);
            }
        } else {
            quorum.retry(now.wall_ms.saturating_add(DEAD_LETTER_RETRY_MS), position);
        }
    }

    /// Dead letters that have not arrived are given up, because the policy no longer asks for their keeping.
    pub(super) fn give_up_retained(&mut self, fx: &mut Effects) {
        let Some(quorum) = &mut self.quorum else {
            return;
        };
        let retained = quorum.take_retained();
        for (position, letter) in &retained {
            self.end_logged(*position, letter.body_bytes, letter.is_logged, fx);
        }
        if !retained.is_empty() {
            fx.discard(retained);
        }
    }

    /// `queue.purge`: the ready messages go, not dead-lettered. Returns how many they were. What it costs depends on what
    /// stays, not on what goes.
    pub fn purge(&mut self, fx: &mut Effects) -> u64 {
        let has_logged = self.ready.has_logged();
        let mut retained_logged = false;
        if let Some(quorum) = &mut self.quorum {
            retained_logged = quorum.has_logged_retained();
            fx.discard(quorum.take_retained());
        }
        let messages = self.take_ready(fx);
        if has_logged || retained_logged {
            fx.purged = Some(Purge {
                survivors: self.survivors(),
            });
        }
        self.answer_gets_empty(fx);
        messages
    }

    /// Everything that is ready goes.
    pub(super) fn take_ready(&mut self, fx: &mut Effects) -> u64 {
        let purged = self.ready.take_all();
        let messages = purged.messages();
        self.counters.purged += messages;
        if messages > 0 {
            fx.discard(purged);
        }
        messages
    }

    /// The logged positions that are not ready, as runs.
    fn survivors(&self) -> Vec<Run> {
        let leaving = self
            .leaving
            .iter()
            .map(|(position, bytes)| (*position, *bytes));
        let mut positions: Vec<(Position, u32)> = leaving.collect();
        self.unsettled.logged_positions(&mut positions);
        if let Some(quorum) = &self.quorum {
            quorum.logged_delayed(&mut positions);
        }
        positions.sort_unstable();
        let mut runs = Vec::new();
        for (position, body_bytes) in positions {
            Run::push(&mut runs, position, body_bytes);
        }
        runs
    }

    /// A message has come to its end; the log must know if it has it.
    pub(super) fn end_logged(
        &self,
        position: Position,
        body_bytes: u64,
        is_logged: bool,
        fx: &mut Effects,
    ) {
        if is_logged {
            fx.settled.push((position, body_bytes as u32));
        }
    }
}
