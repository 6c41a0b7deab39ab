//! The end of a run: what must have been heard by now, what was, and what is therefore lost.

use rustc_hash::FxHashMap;

use super::{
    Swarm,
    client::{Client, Side},
};
use crate::{number::small, plan::Stream, resources, tally::Tally};

impl Swarm {
    /// Everything was heard and acknowledged that had to be.
    pub(super) fn is_settled(&self, sent: &FxHashMap<Stream, u32>) -> bool {
        let total = |stream: &Stream| sent.get(stream).copied().unwrap_or_default();
        let is_whole = |client: &Client| {
            let acked = client.awaited.iter().all(|awaited| awaited.step);
            let heard = client.tracks.iter().all(|(stream, track)| track.complete(total(stream)));
            acked && (heard || !client.present)
        };
        let reads = |client: &Client| {
            self.programs.get(usize::from(client.group)).is_some_and(|program| program.reads)
        };
        // Slow consumers take as long as there is.
        self.clients.iter().all(|client| reads(client) && is_whole(client))
    }

    /// Slow consumers wake up and read what there is, to find out whether they were cut off.
    pub(super) fn wake(&mut self) {
        for at in 0..self.clients.len() {
            let reads =
                self.program(at).and_then(|(programs, group)| Some(programs.get(group)?.reads));
            if reads == Some(false) {
                self.read(at, Side::Main, false);
            }
        }
    }

    /// Counts what has not come, and hands out what was measured.
    pub(super) fn finish(&mut self, sent: &FxHashMap<Stream, u32>) -> Tally {
        self.turn_second(self.clock.now().max(self.start).saturating_add(1_000_000));
        let counts = &mut self.tally.counts;
        for client in &self.clients {
            let reads =
                self.programs.get(usize::from(client.group)).is_some_and(|program| program.reads);
            counts.never_connected += u64::from(!client.was_ready);
            if !reads {
                continue;
            }
            counts.unacked += client.awaited.iter().filter(|awaited| !awaited.step).count() as u64;
            for (stream, track) in &client.tracks {
                let total = sent.get(stream).copied().unwrap_or_default();
                counts.lost += track.holes();
                if client.present {
                    counts.lost += track.behind(total);
                } else {
                    counts.missed += track.behind(total);
                }
            }
        }
        let busy = self.busy();
        self.tally.busy.push(busy);
        let memory = resources::private_bytes(std::process::id()).unwrap_or_default();
        self.tally.memory.push((memory, u64::from(small(self.clients.len()))));
        std::mem::take(&mut self.tally)
    }
}
