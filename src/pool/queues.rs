//! The sessions that can go on in this turn, by the kind of their traffic.
//!
//! Two lists share one array of links. So a key is in at most one list, and leaves it in O(1) when its
//! session ends. Nothing is allocated after the start.

/// The kind of a session's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Requests and replies, for which a peer waits.
    Interactive,
    /// A stream that fills the buffer again and again.
    Bulk,
}

/// No key, in the links.
const NONE: u32 = u32::MAX;

/// The queues of the keys `0..capacity`.
#[derive(Debug)]
pub struct Queues {
    links: Vec<Link>,
    lists: [List; 2],
}

#[derive(Clone, Copy, Debug)]
struct Link {
    /// The list that the key is in; `None`: it is in no list.
    queued: Option<Traffic>,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
    len: usize,
}

impl Queues {
    /// Returns empty queues for the keys `0..capacity`.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let link = Link { queued: None, previous: NONE, next: NONE };
        Self { links: vec![link; capacity], lists: [List { first: NONE, last: NONE, len: 0 }; 2] }
    }

    /// Returns the number of keys in one list.
    #[must_use]
    pub fn len(&self, traffic: Traffic) -> usize {
        self.lists[traffic as usize].len
    }

    /// Returns whether both lists are empty.
    #[must_use]
    pub fn are_empty(&self) -> bool {
        self.lists.iter().all(|list| list.len == 0)
    }

    /// Returns whether a key is in a list.
    #[must_use]
    pub fn contains(&self, key: usize) -> bool {
        self.traffic(key).is_some()
    }

    /// Returns the list that a key is in; `None`: it is in no list.
    #[must_use]
    pub fn traffic(&self, key: usize) -> Option<Traffic> {
        self.links[key].queued
    }

    /// Appends a key to a list, unless it is in one already.
    pub fn push(&mut self, key: usize, traffic: Traffic) {
        if self.contains(key) {
            return;
        }
        let list = &mut self.lists[traffic as usize];
        let (key, tail) = (link_of(key), list.last);
        list.last = key;
        list.len += 1;
        match tail {
            NONE => list.first = key,
            tail => self.links[tail as usize].next = key,
        }
        self.links[key as usize] = Link { queued: Some(traffic), previous: tail, next: NONE };
    }

    /// Takes the first key out of a list; `None`: the list is empty.
    #[inline]
    pub fn pop(&mut self, traffic: Traffic) -> Option<usize> {
        let first = self.lists[traffic as usize].first;
        if first == NONE {
            return None;
        }
        self.remove(first as usize);
        Some(first as usize)
    }

    /// Takes a key out of its list, if it is in one.
    #[inline]
    pub fn remove(&mut self, key: usize) {
        let Link { queued: Some(traffic), previous, next } = self.links[key] else { return };
        let list = &mut self.lists[traffic as usize];
        list.len -= 1;
        match previous {
            NONE => list.first = next,
            previous => self.links[previous as usize].next = next,
        }
        let list = &mut self.lists[traffic as usize];
        match next {
            NONE => list.last = previous,
            next => self.links[next as usize].previous = previous,
        }
        self.links[key].queued = None;
    }
}

/// Converts a key. A pool has far fewer slots than a `u32` can count.
#[allow(clippy::cast_possible_truncation)]
fn link_of(key: usize) -> u32 {
    key as u32
}

const _: () = assert!(crate::limits::SESSIONS_MAX < NONE as usize);

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::Traffic::{Bulk, Interactive};
    use super::*;

    proptest! {
        #[test]
        fn two_lists_over_one_array_behave_as_two_queues_of_distinct_keys(
            operations in prop::collection::vec((0..4_u8, 0..8_usize), 1..200),
        ) {
            let mut queues = Queues::new(8);
            let mut model = [VecDeque::new(), VecDeque::new()];
            for (operation, key) in operations {
                match operation {
                    0 | 1 => {
                        let traffic = [Interactive, Bulk][usize::from(operation)];
                        if !model.iter().any(|list| list.contains(&key)) {
                            model[traffic as usize].push_back(key);
                        }
                        queues.push(key, traffic);
                    }
                    2 => {
                        for list in &mut model {
                            list.retain(|&queued| queued != key);
                        }
                        queues.remove(key);
                    }
                    _ => {
                        let traffic = [Interactive, Bulk][key % 2];
                        prop_assert_eq!(queues.pop(traffic), model[traffic as usize].pop_front());
                    }
                }
                prop_assert_eq!([queues.len(Interactive), queues.len(Bulk)], [model[0].len(), model[1].len()]);
                prop_assert_eq!(queues.contains(key), model.iter().any(|list| list.contains(&key)));
                prop_assert_eq!(queues.are_empty(), model.iter().all(VecDeque::is_empty));
            }
        }
    }
}
