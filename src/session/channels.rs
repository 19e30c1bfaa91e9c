//! The channels of a connection, by number.

use super::channel::Channel;
use crate::model::ChannelNumber;

/// Channels sorted by number. The last one found is tried first, because frames come in runs.
#[derive(Debug, Default)]
pub(super) struct Channels {
    list: Vec<Channel>,
    last_found: usize,
}

impl Channels {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn get_mut(&mut self, number: ChannelNumber) -> Option<&mut Channel> {
        let index = match self.list.get(self.last_found) {
            Some(channel) if channel.number == number => self.last_found,
            _ => self.find(number).ok()?,
        };
        self.last_found = index;
        self.list.get_mut(index)
    }

    /// Adds a channel whose number is not there.
    pub(super) fn insert(&mut self, channel: Channel) {
        if let Err(index) = self.find(channel.number) {
            if self.list.is_empty() {
                // Most connections have one channel, and no room is wasted on others.
                self.list.reserve_exact(1);
            }
            self.list.insert(index, channel);
        }
    }

    pub(super) fn remove(&mut self, number: ChannelNumber) {
        if let Ok(index) = self.find(number) {
            self.list.remove(index);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.list.iter()
    }

    /// Takes all, in the order of their numbers.
    pub(super) fn take_all(&mut self) -> Vec<Channel> {
        std::mem::take(&mut self.list)
    }

    fn find(&self, number: ChannelNumber) -> Result<usize, usize> {
        self.list
            .binary_search_by_key(&number, |channel| channel.number)
    }
}
