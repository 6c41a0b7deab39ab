//! What waits for one client: bounded in bytes and in packets, and without memory while it is empty.
//!
//! In come packets in the order that they were sent; out they go in the same order. A packet is taken
//! while less waits than may, so one of any size passes through an empty queue, and no more than the
//! limit and one packet ever wait. Where there is no room, volatile packets give way; where that makes
//! none, the caller ends the session. This module never waits, wakes or writes.

use std::collections::VecDeque;

use crate::packet::Packet;

/// How much may wait for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) bytes: usize,
    pub(crate) packets: usize,
    /// Of this many bytes, no volatile packet is taken any more.
    pub(crate) volatile_bytes: usize,
}

/// Whether a packet may be given up for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Reliable,
    Volatile,
}

/// A packet that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) packet: Packet,
    delivery: Delivery,
}

/// The packets of a batch that is being written.
pub(crate) type Batch = VecDeque<Waiting>;

/// Places that an empty queue keeps, so that a message now and then needs no allocation.
const KEPT_PLACES: usize = 4;

/// What waits for one client.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Waiting>,
    /// Bytes that wait here.
    bytes: usize,
    /// Bytes and packets that were handed out to be written, and are not yet.
    leaving_bytes: usize,
    leaving_packets: usize,
    /// Since when the oldest packet waits, and the oldest of those that are being written.
    since: Option<u64>,
    leaving_since: Option<u64>,
}

impl Queue {
    /// All that is not yet written.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes + self.leaving_bytes
    }

    /// Whether nothing waits to be handed out.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Since when the oldest packet that is not yet written waits.
    pub(crate) fn since(&self) -> Option<u64> {
        self.leaving_since.or(self.since)
    }

    /// Whether another reliable packet may wait.
    pub(crate) fn has_room(&self, room: Room) -> bool {
        self.bytes() < room.bytes && self.waiting.len() + self.leaving_packets < room.packets
    }

    /// Whether another volatile packet may wait.
    pub(crate) fn has_volatile_room(&self, room: Room) -> bool {
        self.has_room(room) && self.bytes() < room.volatile_bytes
    }

    /// Puts a packet behind the others.
    pub(crate) fn push(&mut self, packet: Packet, delivery: Delivery, now: u64) {
        self.bytes += packet.size();
        self.since.get_or_insert(now);
        self.waiting.push_back(Waiting { packet, delivery });
    }

    /// Gives up the volatile packets that wait; how many.
    pub(crate) fn drop_volatile(&mut self) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.delivery == Delivery::Reliable);
        self.bytes = self.waiting.iter().map(|waiting| waiting.packet.size()).sum();
        if self.waiting.is_empty() {
            self.since = None;
        }
        before - self.waiting.len()
    }

    /// Hands all that waits to a writer whose batch is empty, in exchange for the batch's memory.
    /// It counts as waiting until [`Queue::written`].
    pub(crate) fn take(&mut self, batch: &mut Batch) {
        debug_assert!(batch.is_empty(), "a batch is written before the next is taken");
        std::mem::swap(&mut self.waiting, batch);
        self.leaving_bytes += std::mem::take(&mut self.bytes);
        self.leaving_packets = batch.len();
        self.leaving_since = self.since.take();
        if self.waiting.capacity() > KEPT_PLACES {
            self.waiting = VecDeque::new();
        }
    }

    /// So much of what was handed out is written, or is given up.
    pub(crate) fn written(&mut self, packets: usize, bytes: usize) {
        self.leaving_packets = self.leaving_packets.saturating_sub(packets);
        self.leaving_bytes = self.leaving_bytes.saturating_sub(bytes);
        if self.leaving_packets == 0 {
            self.leaving_since = None;
        }
    }

    /// Takes the next packet out, to be carried by a poll.
    pub(crate) fn pop(&mut self) -> Option<Packet> {
        let Waiting { packet, .. } = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(packet.size());
        // The attachments of a message that has left must follow it, volatile or not.
        for waiting in &mut self.waiting {
            let attached = matches!(waiting.packet, Packet::Binary(_));
            if !attached || waiting.delivery == Delivery::Reliable {
                break;
            }
            waiting.delivery = Delivery::Reliable;
        }
        if self.waiting.is_empty() {
            self.since = None;
            self.waiting = VecDeque::new();
        }
        Some(packet)
    }

    /// The next packet.
    pub(crate) fn front(&self) -> Option<&Packet> {
        self.waiting.front().map(|waiting| &waiting.packet)
    }

    /// Gives up everything that waits here; how many packets. What is being written is the writer's.
    pub(crate) fn clear(&mut self) -> usize {
        let dropped = self.waiting.len();
        self.waiting = VecDeque::new();
        self.bytes = 0;
        self.since = None;
        dropped
    }
}

/// A batch that was written, which keeps no more memory than an idle connection may.
pub(crate) fn emptied(batch: &mut Batch) {
    if batch.capacity() > KEPT_PLACES {
        *batch = Batch::new();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const ROOM: Room = Room { bytes: 100, packets: 5, volatile_bytes: 50 };

    fn binary(length: usize) -> Packet {
        Packet::Binary(Bytes::from(vec![0; length]))
    }

    #[test]
    fn one_of_any_size_passes_an_empty_queue() {
        let mut queue = Queue::default();
        assert!(queue.has_room(ROOM));
        queue.push(binary(1000), Delivery::Reliable, 7);
        assert_eq!((queue.bytes(), queue.since(), queue.has_room(ROOM)), (1001, Some(7), false));
        let mut batch = Batch::new();
        queue.take(&mut batch);
        assert!(!queue.has_room(ROOM), "what is being written still counts");
        queue.written(1, 1001);
        assert_eq!((queue.bytes(), queue.since(), queue.has_room(ROOM)), (0, None, true));
    }

    #[test]
    fn packets_are_counted_too() {
        let mut queue = Queue::default();
        for _ in 0..ROOM.packets {
            assert!(queue.has_room(ROOM));
            queue.push(Packet::Ping, Delivery::Reliable, 0);
        }
        assert!(!queue.has_room(ROOM));
        queue.take(&mut Batch::new());
        assert!(!queue.has_room(ROOM));
    }

    #[test]
    fn volatile_ones_give_way() {
        let mut queue = Queue::default();
        queue.push(binary(10), Delivery::Reliable, 0);
        queue.push(binary(60), Delivery::Volatile, 0);
        assert!(queue.has_room(ROOM) && !queue.has_volatile_room(ROOM));
        queue.push(binary(10), Delivery::Reliable, 0);
        assert_eq!(queue.drop_volatile(), 1);
        assert_eq!((queue.bytes(), queue.drop_volatile()), (22, 0));
    }

    #[test]
    fn attachments_follow_a_message_that_left() {
        let mut queue = Queue::default();
        for packet in [Packet::Message("51-".into()), binary(1), Packet::Message("2".into())] {
            queue.push(packet, Delivery::Volatile, 0);
        }
        assert_eq!(queue.pop(), Some(Packet::Message("51-".into())));
        assert_eq!(queue.drop_volatile(), 1);
        assert_eq!((queue.pop(), queue.pop()), (Some(binary(1)), None));
        assert_eq!((queue.bytes(), queue.since()), (0, None));
    }

    proptest! {
        #[test]
        fn bytes_are_those_of_the_packets(steps in prop::collection::vec((0_u8..5, 0_usize..40), 0..60)) {
            let mut queue = Queue::default();
            let mut batch = Batch::new();
            for (step, length) in steps {
                match step {
                    0 => queue.push(binary(length), Delivery::Reliable, 0),
                    1 => queue.push(binary(length), Delivery::Volatile, 0),
                    2 => drop(queue.pop()),
                    3 => drop(queue.drop_volatile()),
                    _ => {
                        let bytes = batch.iter().map(|waiting| waiting.packet.size()).sum();
                        queue.written(batch.len(), bytes);
                        batch.clear();
                        queue.take(&mut batch);
                    }
                }
                let sizes = |queue: &VecDeque<Waiting>| -> usize {
                    queue.iter().map(|waiting| waiting.packet.size()).sum()
                };
                prop_assert_eq!(queue.bytes(), sizes(&queue.waiting) + sizes(&batch));
                prop_assert_eq!(queue.since().is_some(), !(queue.is_empty() && batch.is_empty()));
            }
        }
    }
}
