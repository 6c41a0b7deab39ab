//! What the engine counts. All of it can be read at any time, by anybody who has a share of it.
//!
//! Each connection adds what one run of its task did at once, so counting costs next to nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use engineioxide_core::TransportType;

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The client said so, or closed its stream.
    Client,
    /// The stream broke, or the poll was taken back.
    Broken,
    /// This side said so.
    Server,
    /// No sign of life came.
    Heartbeat,
    /// More waited for the client than may.
    SlowConsumer,
    /// The client read nothing for too long, or something waited for it for too long.
    WriteTimeout,
    /// The client did not poll again.
    PollTimeout,
    /// The client sent too much.
    Flood,
    /// The client sent what is no packet, or what breaks the protocol of its transport.
    BadPacket,
    /// The client polled, or posted, twice at a time.
    Overlap,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 10] = [
        Self::Client,
        Self::Broken,
        Self::Server,
        Self::Heartbeat,
        Self::SlowConsumer,
        Self::WriteTimeout,
        Self::PollTimeout,
        Self::Flood,
        Self::BadPacket,
        Self::Overlap,
    ];

    /// Its name in logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Broken => "broken",
            Self::Server => "server",
            Self::Heartbeat => "ping_timeout",
            Self::SlowConsumer => "slow_consumer",
            Self::WriteTimeout => "write_timeout",
            Self::PollTimeout => "poll_timeout",
            Self::Flood => "flood",
            Self::BadPacket => "bad_packet",
            Self::Overlap => "overlap",
        }
    }

    /// The code of the WebSocket close frame that tells the client.
    pub(crate) const fn close_code(self) -> u16 {
        match self {
            Self::Client | Self::Server => 1000,
            Self::BadPacket => 1002,
            Self::SlowConsumer | Self::Flood | Self::Overlap => 1008,
            Self::Broken | Self::Heartbeat | Self::WriteTimeout | Self::PollTimeout => 1011,
        }
    }
}

/// Counters of one engine.
#[derive(Debug, Default)]
pub struct Stats {
    polling: AtomicU64,
    websocket: AtomicU64,
    upgrades: AtomicU64,
    upgrades_failed: AtomicU64,
    refused: [AtomicU64; REFUSALS],
    packets_in: AtomicU64,
    packets_out: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    volatile_dropped: AtomicU64,
    dropped: AtomicU64,
    high_water: AtomicU64,
    closed: [AtomicU64; Cause::ALL.len()],
}

/// Codes of refused handshakes, 0 to 5.
const REFUSALS: usize = 6;

/// What one run of a connection's task did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Stats {
    fn gauge(&self, transport: TransportType) -> &AtomicU64 {
        match transport {
            TransportType::Polling => &self.polling,
            TransportType::Websocket => &self.websocket,
        }
    }

    pub(crate) fn opened(&self, transport: TransportType) {
        self.gauge(transport).fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self, transport: TransportType, cause: Cause) {
        self.gauge(transport).fetch_sub(1, Ordering::Relaxed);
        if let Some(counter) = self.closed.get(cause as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn upgraded(&self) {
        self.upgrades.fetch_add(1, Ordering::Relaxed);
        self.polling.fetch_sub(1, Ordering::Relaxed);
        self.websocket.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn upgrade_failed(&self) {
        self.upgrades_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, code: u8) {
        if let Some(counter) = self.refused.get(usize::from(code)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn received(&self, traffic: Traffic) {
        self.packets_in.fetch_add(traffic.packets, Ordering::Relaxed);
        self.bytes_in.fetch_add(traffic.bytes, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, traffic: Traffic) {
        self.packets_out.fetch_add(traffic.packets, Ordering::Relaxed);
        self.bytes_out.fetch_add(traffic.bytes, Ordering::Relaxed);
    }

    pub(crate) fn gave_up_volatile(&self, packets: usize) {
        self.volatile_dropped.fetch_add(packets as u64, Ordering::Relaxed);
    }

    pub(crate) fn gave_up(&self, packets: usize) {
        self.dropped.fetch_add(packets as u64, Ordering::Relaxed);
    }

    pub(crate) fn reached_high_water(&self) {
        self.high_water.fetch_add(1, Ordering::Relaxed);
    }

    /// Sessions that are open over a transport.
    pub fn open(&self, transport: TransportType) -> u64 {
        read(self.gauge(transport))
    }

    /// Sessions that went over to a WebSocket.
    pub fn upgrades(&self) -> u64 {
        read(&self.upgrades)
    }

    /// Sessions that tried to, and did not.
    pub fn upgrades_failed(&self) -> u64 {
        read(&self.upgrades_failed)
    }

    /// Requests that were refused with a code of the protocol, 0 to 5.
    pub fn handshakes_refused(&self, code: u8) -> u64 {
        self.refused.get(usize::from(code)).map_or(0, read)
    }

    /// Packets that came.
    pub fn packets_in(&self) -> u64 {
        read(&self.packets_in)
    }

    /// Packets that were written.
    pub fn packets_out(&self) -> u64 {
        read(&self.packets_out)
    }

    /// Bytes that came, as the transport carried them.
    pub fn bytes_in(&self) -> u64 {
        read(&self.bytes_in)
    }

    /// Bytes that were written, as the transport carries them.
    pub fn bytes_out(&self) -> u64 {
        read(&self.bytes_out)
    }

    /// Volatile packets that were dropped because more waited than may.
    pub fn volatile_dropped(&self) -> u64 {
        read(&self.volatile_dropped)
    }

    /// Other packets that did not reach their client because its session was ended.
    pub fn dropped(&self) -> u64 {
        read(&self.dropped)
    }

    /// How often as much waited for a client as may.
    pub fn high_water(&self) -> u64 {
        read(&self.high_water)
    }

    /// Sessions that ended for a cause.
    pub fn ended(&self, cause: Cause) -> u64 {
        self.closed.get(cause as usize).map_or(0, read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_counted_apart() {
        let stats = Stats::default();
        for (index, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause as usize, index, "{}", cause.code());
            stats.opened(TransportType::Websocket);
            stats.closed(TransportType::Websocket, cause);
            assert_eq!(stats.ended(cause), 1, "{}", cause.code());
        }
        assert_eq!(stats.open(TransportType::Websocket), 0);
    }
}
