//! How the dead letters of a queue leave it, and what keeps a deleted queue's log until they have.
//!
//! In: whoever hands letters on, and what was read for them. Out: the next letter, and the log of a deleted queue once nobody needs
//! it. Letters go on leaving when their queue is deleted; where they go is not known here.

use super::{Gone, QueueHandle};
use crate::model::Now;
use crate::queue::effects::Effects;
use crate::queue::leaving::LETTERS_BYTES_MAX;
use crate::queue::letters::NextLetter;
use crate::queue::loading::Load;
use crate::store::messages::ReadBlock;
use crate::store::queue_log::QueueLog;

impl QueueHandle {
    /// What is to be done about the letters by someone who may not wait. `is_congested` if the journal has too much to write.
    pub fn next_letter(&self, is_congested: bool, fx: &mut Effects) -> NextLetter {
        self.with_letters(NextLetter::Nothing, fx, |letters, left| {
            letters.next(is_congested, left)
        })
    }

    /// The same for the one who was told [`NextLetter::Later`] on behalf of all others, until [`NextLetter::Nothing`].
    pub fn next_deferred_letter(&self, is_congested: bool, fx: &mut Effects) -> NextLetter {
        self.with_letters(NextLetter::Nothing, fx, |letters, left| {
            letters.next_deferred(is_congested, left)
        })
    }

    /// Drops the letter of that number from memory because it cannot be handed on. A log that has the message keeps it.
    pub fn drop_letter(&self, number: u64) {
        if let Some(letters) = self.lock().letters() {
            let _ = letters.left(number);
        }
    }

    /// What must be read for the next letters.
    pub fn letters_to_load(&self) -> Option<Load> {
        let span = self.lock().letters()?.to_load()?;
        Some(Load {
            queue: self.id(),
            first: span.first,
            last: span.last,
            bytes_max: LETTERS_BYTES_MAX,
        })
    }

    /// Hands over what was read for that.
    ///
    /// # Errors
    /// The queue is gone, and its letters too.
    pub fn handle_letters_loaded(
        &self,
        load: &Load,
        block: ReadBlock,
        now: Now,
        fx: &mut Effects,
    ) -> Result<(), Gone> {
        fx.begin_section();
        let mut guarded = self.lock();
        let block = self.live(load, block, &mut guarded.log);
        if let Some(state) = &mut guarded.state {
            state.handle_letters_loaded(block, now, fx);
        } else {
            // A deleted queue has no letters that it keeps until they arrive, so nobody is told of those that are lost.
            let _ = guarded.letters().ok_or(Gone)?.handle_loaded(block);
        }
        self.end_section(&mut guarded, fx);
        Ok(())
    }

    /// The log of a deleted queue, once, when the deletion is in the journal and the last letter has left. `is_recorded` says that
    /// the first has come to pass.
    pub fn take_log_of_deleted(&self, is_recorded: bool) -> Option<QueueLog> {
        let mut guarded = self.lock();
        let departure = guarded.departure.as_mut()?;
        departure.is_recorded |= is_recorded;
        if !departure.is_recorded || !departure.letters.is_empty() {
            return None;
        }
        guarded.departure = None;
        Some(std::mem::replace(
            &mut guarded.log,
            self.0.store.new_log(self.id()),
        ))
    }

    fn with_letters<T>(
        &self,
        without: T,
        fx: &mut Effects,
        act: impl FnOnce(
            &mut crate::queue::letters::Letters,
            &mut Vec<crate::model::SharedMessage>,
        ) -> T,
    ) -> T {
        let mut left = Vec::new();
        let mut guarded = self.lock();
        let result = match guarded.letters() {
            Some(letters) => act(letters, &mut left),
            None => return without,
        };
        if !left.is_empty() {
            fx.discard(left);
            if let Some(state) = &mut guarded.state {
                state.settle_budget();
            }
        }
        result
    }
}
