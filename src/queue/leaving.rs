//! How messages leave a queue by other doors than a consumer's: back into the queue, to a dead-letter exchange, by a purge.
//!
//! In: messages and the reason. Out: dead letters, and what the log must be told: which positions ended, which survive a purge.

use super::arrivals::Arrival;
use super::death_tally::DeathStrategy;
use super::effects::{Effects, Purge};
use super::entry::Item;
use super::letters::{Death, Dying, NextLetter};
use super::loading::{Load, LoadedBlock};
use super::quorum::{DEAD_LETTER_RETRY_MS, Retained, delayed_until};
use super::state::QueueState;
use crate::model::{DeathReason, Now, Position};
use crate::store::record::Run;

/// Bytes of letters that are read at once.
pub(super) const LETTERS_BYTES_MAX: u64 = 256 << 10;

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
            if self.is_drop_owed() {
                self.arrive(Arrival::Restored(item), now, fx);
            } else {
                self.ready.restore(item);
            }
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
            None if self.arrivals.is_drop_owed => self.arrive(Arrival::PutBack(item), now, fx),
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
        let dying = Dying {
            position: Some(position),
            body_bytes: item.body_bytes() as u32,
            is_logged,
            message: item.into_message(),
        };
        let mut is_retained = false;
        if self.settings.retains_dead_letters
            && let Some(quorum) = &mut self.quorum
        {
            is_retained = true;
            let kept = dying.message.clone().filter(|_| !is_logged || !is_tight);
            quorum.retain(
                position,
                Retained {
                    message: kept,
                    body_bytes: u64::from(dying.body_bytes),
                    is_logged,
                    reason,
                },
            );
        }
        self.send_letter(dying, reason, is_retained, fx);
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

    /// Puts a message among the letters, if there is a dead-letter exchange.
    pub(super) fn send_letter(
        &mut self,
        dying: Dying,
        reason: DeathReason,
        is_retained: bool,
        fx: &mut Effects,
    ) {
        let Some(exchange) = &self.settings.dead_letter_exchange else {
            fx.free(dying.message);
            return;
        };
        let routing_key = self.settings.dead_letter_routing_key.as_ref();
        let death = Death {
            reason,
            address: self.letters.address(exchange, routing_key),
            is_retained,
        };
        fx.free(self.letters.push(dying, death));
        fx.dead_letters.push(self.id);
    }

    /// What is to be done about the letters by someone who may not wait: see [`NextLetter`]. `is_congested` if the journal has too
    /// much to write.
    pub fn next_letter(&mut self, is_congested: bool, fx: &mut Effects) -> NextLetter {
        let mut left = Vec::new();
        let next = self.letters.next(is_congested, &mut left);
        if !left.is_empty() {
            fx.discard(left);
        }
        next
    }

    /// The same for the one who was told [`NextLetter::Later`] on behalf of all others, until [`NextLetter::Nothing`].
    pub fn next_deferred_letter(&mut self, is_congested: bool, fx: &mut Effects) -> NextLetter {
        let mut left = Vec::new();
        let next = self.letters.next_deferred(is_congested, &mut left);
        if !left.is_empty() {
            fx.discard(left);
        }
        next
    }

    /// The letter of that number was recorded elsewhere, or nobody takes it: its message ends here, unless the queue keeps it until it
    /// has arrived. `false` if it is not the next one any more.
    pub fn letter_left(&mut self, number: u64, fx: &mut Effects) -> bool {
        let is_next = self.letters.is_next(number);
        fx.settled.extend(self.letters.left(number));
        is_next
    }

    /// What must be read for the next letters.
    pub fn letters_to_load(&self) -> Option<Load> {
        let span = self.letters.to_load()?;
        Some(Load {
            queue: self.id,
            first: span.first,
            last: span.last,
            bytes_max: LETTERS_BYTES_MAX,
        })
    }

    /// What was read of that. Letters that cannot be read do not leave, and are given up.
    pub fn handle_letters_loaded(&mut self, block: LoadedBlock, now: Now, fx: &mut Effects) {
        let lost = self.letters.handle_loaded(block);
        for (position, is_retained) in lost {
            if is_retained {
                self.settle_dead_letter(position, true, now, fx);
            }
        }
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
        let has_logged = self.ready.has_logged() || self.arrivals.has_logged();
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
        let arrivals = std::mem::take(&mut self.arrivals);
        let messages = purged.messages() + arrivals.messages();
        self.counters.purged += messages;
        if messages > 0 {
            fx.discard((purged, arrivals));
        }
        messages
    }

    /// The logged positions that are not ready, as runs.
    fn survivors(&self) -> Vec<Run> {
        let mut positions = Vec::new();
        self.unsettled.logged_positions(&mut positions);
        if let Some(quorum) = &self.quorum {
            quorum.logged_delayed(&mut positions);
        }
        positions.sort_unstable();
        let mut runs = Vec::new();
        for (position, body_bytes) in positions {
            Run::push(&mut runs, position, body_bytes);
        }
        runs.extend(self.letters.logged());
        runs.sort_unstable_by_key(|run| run.first);
        runs.dedup_by(|next, run| run.try_join(next));
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
