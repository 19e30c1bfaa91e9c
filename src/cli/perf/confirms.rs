//! The window of unconfirmed messages of a channel.
//!
//! In: how many were published, and the broker's acks and nacks. Out: each message that is settled, once. Nothing is
//! known of sockets and times.

use std::collections::VecDeque;

/// Messages that are published and not yet settled. Publish tags count from 1 (RabbitMQ's confirms); the numbers here
/// from 0.
#[derive(Debug, Default)]
pub struct Confirms {
    /// All numbers below are settled.
    first: u64,
    /// From `first` on, whether settled.
    settled: VecDeque<bool>,
    outstanding: usize,
}

impl Confirms {
    /// Takes note of messages that are published.
    pub fn publish(&mut self, messages: usize) {
        self.settled.extend(std::iter::repeat_n(false, messages));
        self.outstanding += messages;
    }

    /// Messages that are not settled.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Settles the message of a tag, or all up to it, and gives each number to `each`.
    ///
    /// # Errors
    /// The tag was never published, or was settled alone before.
    pub fn settle(
        &mut self,
        tag: u64,
        multiple: bool,
        mut each: impl FnMut(u64),
    ) -> Result<(), WrongTag> {
        let published = self.first + self.settled.len() as u64;
        // Tag 0 with `multiple` is all that is outstanding (specification 1.8.3.13).
        let number = match (tag, multiple) {
            (0, true) => published.checked_sub(1).ok_or(WrongTag(tag))?,
            _ => tag.checked_sub(1).ok_or(WrongTag(tag))?,
        };
        if number >= published {
            return Err(WrongTag(tag));
        }
        if multiple {
            while self.first <= number {
                if self.settled.pop_front() == Some(false) {
                    self.outstanding -= 1;
                    each(self.first);
                }
                self.first += 1;
            }
        } else {
            let index = number.checked_sub(self.first).ok_or(WrongTag(tag))?;
            let place = self.settled.get_mut(index as usize).ok_or(WrongTag(tag))?;
            if *place {
                return Err(WrongTag(tag));
            }
            *place = true;
            self.outstanding -= 1;
            each(number);
        }
        while self.settled.front() == Some(&true) {
            self.settled.pop_front();
            self.first += 1;
        }
        Ok(())
    }
}

/// A confirm for a message that does not await one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongTag(pub u64);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn settled(confirms: &mut Confirms, tag: u64, multiple: bool) -> Result<Vec<u64>, WrongTag> {
        let mut numbers = Vec::new();
        confirms.settle(tag, multiple, |number| numbers.push(number))?;
        Ok(numbers)
    }

    #[test]
    fn each_message_is_settled_once_in_any_order() {
        let mut confirms = Confirms::default();
        confirms.publish(5);
        assert_eq!(settled(&mut confirms, 3, false), Ok(vec![2]));
        assert_eq!(settled(&mut confirms, 1, false), Ok(vec![0]));
        assert_eq!(confirms.outstanding(), 3);
        assert_eq!(settled(&mut confirms, 4, true), Ok(vec![1, 3]));
        confirms.publish(2);
        assert_eq!(settled(&mut confirms, 0, true), Ok(vec![4, 5, 6]));
        assert_eq!(confirms.outstanding(), 0);
    }

    #[test]
    fn tags_that_await_nothing_are_errors() {
        let mut confirms = Confirms::default();
        assert_eq!(settled(&mut confirms, 0, true), Err(WrongTag(0)));
        confirms.publish(2);
        assert_eq!(settled(&mut confirms, 3, true), Err(WrongTag(3)));
        assert_eq!(settled(&mut confirms, 0, false), Err(WrongTag(0)));
        assert_eq!(settled(&mut confirms, 2, false), Ok(vec![1]));
        assert_eq!(settled(&mut confirms, 2, false), Err(WrongTag(2)));
        assert_eq!(settled(&mut confirms, 1, true), Ok(vec![0]));
        assert_eq!(settled(&mut confirms, 1, false), Err(WrongTag(1)));
    }
}
