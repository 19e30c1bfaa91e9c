//! Whether each message came, once, whole and in order.
//!
//! In: the stamps of what was consumed, queue by queue, and in the end how many messages each stream had. Out: how many
//! were lost, came twice, out of order or damaged, with the first examples in words. No sockets, no time.
//!
//! Loss and duplicates are questions to a queue, whose consumers share one [`QueueCheck`]. Order is a question to one
//! consumer, because several consumers of a queue run beside each other; redelivered messages are excused from it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write;

use serde_json::json;

use super::stamp::Stamp;

/// Numbers between the first missing message of a stream and the last that came; 128 MiB of bits. Beyond that the
/// oldest numbers are forgotten, and of them no duplicate is noticed any more.
const SPAN_MAX: u64 = 1 << 30;

/// Numbers in a word of bits.
const WORD_BITS: u64 = u64::BITS as u64;

/// Examples that are told in words.
const EXAMPLES_MAX: usize = 5;

/// The numbers of a stream that have come.
#[derive(Debug, Default)]
pub struct Numbers {
    /// The number of the first bit of `words`; below, all have come or are forgotten.
    base: u64,
    words: VecDeque<u64>,
    /// How many different ones have come.
    distinct: u64,
    /// The lowest one that was missing when it was forgotten.
    forgotten_missing: Option<u64>,
}

impl Numbers {
    /// Takes note of a number; whether it is new. `None` for one so high that it cannot be true.
    pub fn record(&mut self, number: u64) -> Option<bool> {
        let Some(distance) = number.checked_sub(self.base) else {
            return Some(false);
        };
        if distance >= 2 * SPAN_MAX {
            return None;
        }
        let (word, bit) = ((distance / WORD_BITS) as usize, 1 << (distance % WORD_BITS));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.distinct += u64::from(is_new);
        while let Some(front) = self.words.front().copied()
            && (front == u64::MAX || self.words.len() as u64 * WORD_BITS > SPAN_MAX)
        {
            if front != u64::MAX && self.forgotten_missing.is_none() {
                self.forgotten_missing = Some(self.base + u64::from(front.trailing_ones()));
            }
            self.words.pop_front();
            self.base += WORD_BITS;
        }
        Some(is_new)
    }

    /// The lowest number that has not come.
    pub fn first_missing(&self) -> u64 {
        if let Some(number) = self.forgotten_missing {
            return number;
        }
        let mut number = self.base;
        for word in &self.words {
            number += u64::from(word.trailing_ones());
            if *word != u64::MAX {
                break;
            }
        }
        number
    }
}

/// What has come through one queue.
#[derive(Debug, Default)]
pub struct QueueCheck {
    streams: HashMap<u32, Numbers>,
    duplicated: u64,
    /// Numbers beyond any that can have been published.
    impossible: u64,
    example: Option<(u32, u64)>,
}

impl QueueCheck {
    /// Takes note of a message.
    pub fn record(&mut self, stamp: &Stamp) {
        let numbers = self.streams.entry(stamp.stream).or_default();
        match numbers.record(stamp.sequence) {
            Some(true) => {}
            Some(false) => {
                self.duplicated += 1;
                self.example.get_or_insert((stamp.stream, stamp.sequence));
            }
            None => self.impossible += 1,
        }
    }
}

/// What one consumer sees for itself.
#[derive(Debug, Default)]
pub struct ConsumerCheck {
    last: HashMap<(u32, u32), u64>,
    reordered: u64,
    damaged: u64,
    foreign: u64,
    example: Option<(u32, u32, u64, u64)>,
}

impl ConsumerCheck {
    /// Takes note of a message from a queue.
    pub fn record(&mut self, queue: u32, stamp: &Stamp, redelivered: bool) {
        if redelivered {
            return;
        }
        let key = (queue, stamp.stream);
        let last = self.last.entry(key).or_insert(stamp.sequence);
        if stamp.sequence < *last {
            self.reordered += 1;
            self.example
                .get_or_insert((queue, stamp.stream, stamp.sequence, *last));
        } else {
            *last = stamp.sequence;
        }
    }

    /// A message whose body is not the one that was published.
    pub fn damaged(&mut self) {
        self.damaged += 1;
    }

    /// A message of another run or program.
    pub fn foreign(&mut self) {
        self.foreign += 1;
    }
}

/// A stream as one queue should have got it.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// Number of the queue.
    pub queue: u32,
    /// Number of the stream.
    pub stream: u32,
    /// Messages published: numbers from 0 up to, and without, this one.
    pub published: u64,
    /// Numbers that need not have come, because the broker refused them with a nack.
    pub excused: &'a HashSet<u64>,
}

/// What became of the messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Published and not refused, and never came.
    pub lost: u64,
    /// Came again.
    pub duplicated: u64,
    /// Came after a later one of the same stream, to the same consumer, and was not marked as redelivered.
    pub reordered: u64,
    /// Of another length or content than published.
    pub damaged: u64,
    /// Of another run or program; no fault.
    pub foreign: u64,
    /// The first faults in words.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Compares what should have come with what came. `queues` are in the order of their numbers.
    pub fn of(
        expected: &[Expected<'_>],
        queues: &mut [QueueCheck],
        consumers: &[ConsumerCheck],
    ) -> Self {
        let mut verdict = Self::default();
        for one in expected {
            let Some(queue) = queues.get_mut(one.queue as usize) else {
                continue;
            };
            let numbers = queue.streams.entry(one.stream).or_default();
            for number in one.excused {
                numbers.record(*number);
            }
            let lost = one.published.saturating_sub(numbers.distinct);
            if lost > 0 {
                verdict.lost += lost;
                verdict.example(format!(
                    "queue {} lost {lost} of {} messages of stream {}, first number {}",
                    one.queue,
                    one.published,
                    one.stream,
                    numbers.first_missing()
                ));
            }
            // More different numbers than were published cannot all be true.
            verdict.damaged += numbers.distinct.saturating_sub(one.published);
        }
        for (index, queue) in queues.iter().enumerate() {
            verdict.duplicated += queue.duplicated;
            verdict.damaged += queue.impossible;
            if let Some((stream, number)) = queue.example {
                verdict.example(format!(
                    "queue {index} delivered number {number} of stream {stream} twice"
                ));
            }
        }
        for consumer in consumers {
            verdict.reordered += consumer.reordered;
            verdict.damaged += consumer.damaged;
            verdict.foreign += consumer.foreign;
            if let Some((queue, stream, number, last)) = consumer.example {
                verdict.example(format!(
                    "queue {queue} delivered number {number} of stream {stream} after {last}"
                ));
            }
        }
        verdict
    }

    fn example(&mut self, words: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(words);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.lost + self.duplicated + self.reordered + self.damaged == 0
    }

    /// The verdict in one line.
    pub fn words(&self) -> String {
        let mut words = format!(
            "{} lost, {} duplicated, {} reordered, {} damaged",
            self.lost, self.duplicated, self.reordered, self.damaged
        );
        if self.foreign > 0 {
            let _ = write!(words, "; {} of other runs ignored", self.foreign);
        }
        words
    }

    /// The verdict for programs.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "ok": self.is_good(),
            "lost": self.lost,
            "duplicated": self.duplicated,
            "reordered": self.reordered,
            "damaged": self.damaged,
            "foreign": self.foreign,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn stamp(stream: u32, sequence: u64) -> Stamp {
        Stamp {
            run: 1,
            stream,
            sequence,
            due_ns: 0,
        }
    }

    /// One queue and one consumer that got these numbers of stream 0, of so many published.
    fn check(published: u64, excused: &[u64], came: &[u64]) -> Verdict {
        let mut queues = [QueueCheck::default()];
        let mut consumer = ConsumerCheck::default();
        for number in came {
            queues[0].record(&stamp(0, *number));
            consumer.record(0, &stamp(0, *number), false);
        }
        let excused = excused.iter().copied().collect();
        let expected = Expected {
            queue: 0,
            stream: 0,
            published,
            excused: &excused,
        };
        Verdict::of(&[expected], &mut queues, &[consumer])
    }

    #[test]
    fn all_in_order_is_good() {
        let verdict = check(200, &[], &(0..200).collect::<Vec<_>>());
        assert!(verdict.is_good(), "{verdict:?}");
        assert!(check(0, &[], &[]).is_good());
    }

    #[test]
    fn lost_ones_are_counted_wherever_they_are() {
        assert_eq!(check(3, &[], &[]).lost, 3);
        assert_eq!(check(3, &[], &[0, 1]).lost, 1);
        assert_eq!(check(3, &[], &[1, 2]).lost, 1);
        let without_70: Vec<_> = (0..200).filter(|number| *number != 70).collect();
        let verdict = check(200, &[], &without_70);
        assert_eq!(
            (verdict.lost, verdict.duplicated, verdict.reordered),
            (1, 0, 0)
        );
        assert_eq!(
            verdict.examples,
            ["queue 0 lost 1 of 200 messages of stream 0, first number 70"]
        );
        let nothing = check(1, &[], &[]);
        assert_eq!(
            nothing.words(),
            "1 lost, 0 duplicated, 0 reordered, 0 damaged"
        );
    }

    #[test]
    fn refused_ones_are_not_lost_and_may_come() {
        assert!(check(4, &[1, 3], &[0, 2]).is_good());
        assert!(check(4, &[1, 3], &[0, 1, 2]).is_good());
        assert_eq!(check(4, &[1], &[0, 2]).lost, 1);
    }

    #[test]
    fn duplicates_and_reordered_ones_are_told_apart() {
        let twice = check(3, &[], &[0, 1, 1, 2]);
        assert_eq!((twice.lost, twice.duplicated, twice.reordered), (0, 1, 0));
        let back = check(3, &[], &[0, 2, 1]);
        assert_eq!((back.lost, back.duplicated, back.reordered), (0, 0, 1));
        assert_eq!(
            back.examples,
            ["queue 0 delivered number 1 of stream 0 after 2"]
        );
        let late_duplicate: Vec<_> = (0..100).chain([5]).collect();
        let late = check(100, &[], &late_duplicate);
        assert_eq!((late.lost, late.duplicated, late.reordered), (0, 1, 1));
    }

    #[test]
    fn a_duplicate_does_not_hide_a_loss() {
        let verdict = check(3, &[], &[0, 1, 1]);
        assert_eq!((verdict.lost, verdict.duplicated), (1, 1));
    }

    #[test]
    fn numbers_that_were_never_published_are_damage() {
        assert_eq!(check(2, &[], &[0, 1, 2]).damaged, 1);
        assert_eq!(check(1, &[], &[0, u64::MAX]).damaged, 1);
    }

    #[test]
    fn redelivered_ones_need_no_order() {
        let mut consumer = ConsumerCheck::default();
        consumer.record(0, &stamp(0, 5), false);
        consumer.record(0, &stamp(0, 3), true);
        consumer.record(0, &stamp(0, 6), false);
        consumer.record(0, &stamp(1, 0), false);
        consumer.record(1, &stamp(0, 0), false);
        assert_eq!(consumer.reordered, 0);
        consumer.damaged();
        consumer.foreign();
        let verdict = Verdict::of(&[], &mut [], &[consumer]);
        assert!(!verdict.is_good());
        assert_eq!((verdict.damaged, verdict.foreign), (1, 1));
        assert_eq!(verdict.json()["damaged"], 1);
        assert_eq!(verdict.json()["ok"], false);
    }

    #[test]
    fn consumers_of_one_queue_share_what_came() {
        let mut queues = [QueueCheck::default()];
        let mut consumers = [ConsumerCheck::default(), ConsumerCheck::default()];
        for number in [1, 0, 3, 2] {
            queues[0].record(&stamp(0, number));
            consumers[(number % 2) as usize].record(0, &stamp(0, number), false);
        }
        let expected = Expected {
            queue: 0,
            stream: 0,
            published: 4,
            excused: &HashSet::new(),
        };
        let verdict = Verdict::of(&[expected], &mut queues, &consumers);
        assert!(verdict.is_good(), "{verdict:?}");
    }

    #[test]
    fn memory_is_bounded_by_the_span() {
        let mut numbers = Numbers::default();
        numbers.record(0);
        numbers.record(SPAN_MAX + 640);
        assert!(numbers.words.len() as u64 <= SPAN_MAX / WORD_BITS);
        assert_eq!(numbers.first_missing(), 1);
        assert_eq!(numbers.distinct, 2);
    }
}
