//! What servers cost: CPU time, memory, kernel memory of sockets, and Redis, as the kernel and Redis account them.
//!
//! In come process ids and Redis's address; out goes a [`Sample`] of one moment. It reads `/proc` and asks `INFO`; it
//! never touches the servers themselves.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use serde::{Deserialize, Serialize};

/// The unit of `/proc/PID/stat`: `USER_HZ` is 100 on every Linux that Rust's standard library runs on.
const TICK: u64 = 10_000;

/// Kernel objects that a connection is made of. Their slabs are the whole machine's, so that both ends of a connection
/// are counted where both are here.
const SOCKET_SLABS: [&str; 9] = [
    "TCP",
    "TCPv6",
    "sock_inode_cache",
    "filp",
    "dentry",
    "eventpoll_epi",
    "eventpoll_pwq",
    "skbuff_small_head",
    "skbuff_head_cache",
];

/// How long Redis may take to answer.
const REDIS: Duration = Duration::from_secs(2);

/// Longest answer of Redis's that is read.
const LONGEST_INFO: u64 = 1 << 20;

/// Who is watched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    /// The servers' processes.
    pub pids: Vec<u32>,
    /// Redis, where they share one.
    pub redis: Option<SocketAddr>,
}

/// One moment, over all processes watched.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// When, in microseconds of the Unix epoch.
    pub at: u64,
    /// CPU time so far, in microseconds.
    pub cpu: u64,
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Memory that is theirs alone, which is heap and stacks, in bytes.
    pub private: u64,
    /// Kernel memory of all sockets of this machine, in bytes.
    pub kernel: u64,
    /// Redis.
    pub redis: Option<Redis>,
}

/// Redis at one moment, since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Redis {
    /// CPU time, in microseconds.
    pub cpu: u64,
    /// Bytes that it received.
    pub bytes_in: u64,
    /// Bytes that it sent.
    pub bytes_out: u64,
    /// Messages that were published.
    pub published: u64,
    /// Commands in all.
    pub commands: u64,
}

impl Watched {
    /// How things stand now. A process that is gone fails it: its server has died.
    pub(crate) fn sample(&self, at: u64) -> Result<Sample> {
        let mut sample = Sample { at, kernel: kernel_bytes(), ..Sample::default() };
        for pid in &self.pids {
            sample.cpu += cpu(*pid)?;
            let (rss, private) = memory(*pid)?;
            sample.rss += rss;
            sample.private += private;
        }
        sample.redis = self.redis.map(redis).transpose().context("asking Redis")?;
        Ok(sample)
    }
}

/// The CPU time of a process so far, in microseconds.
pub(crate) fn cpu(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/stat");
    let stat =
        fs::read_to_string(&path).with_context(|| format!("{path}: has the server died?"))?;
    ticks(&stat).map(|ticks| ticks * TICK).ok_or_else(|| anyhow!("{path} cannot be read"))
}

/// `utime + stime`, the 14th and 15th field. The second, the name, may itself hold spaces and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Resident and private memory of a process, in bytes.
fn memory(pid: u32) -> Result<(u64, u64)> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text =
        fs::read_to_string(&path).with_context(|| format!("{path}: has the server died?"))?;
    let of = |name: &str| kib(&text, name).unwrap_or_default() * 1024;
    Ok((of("Rss:"), of("Private_Clean:") + of("Private_Dirty:")))
}

/// Private memory of a process, in bytes.
pub(crate) fn private_bytes(pid: u32) -> Result<u64> {
    memory(pid).map(|(_, private)| private)
}

/// The value of a line such as `Rss:   12 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Kernel memory of sockets: their objects, and what is queued in them.
fn kernel_bytes() -> u64 {
    let queued = fs::read_to_string("/proc/net/sockstat").ok();
    let pages = queued.as_deref().and_then(queued_pages).unwrap_or_default();
    let slabs = fs::read_to_string("/proc/slabinfo").ok();
    let objects = slabs.as_deref().map(object_bytes).or_else(|| {
        // Only root may read the single slabs.
        let text = fs::read_to_string("/proc/meminfo").ok()?;
        Some(kib(&text, "SUnreclaim:")? * 1024)
    });
    pages * 4096 + objects.unwrap_or_default()
}

/// The pages of `TCP: … mem N`.
fn queued_pages(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("TCP:"))?;
    line.split_ascii_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
}

/// The bytes of all objects that sockets are made of.
fn object_bytes(text: &str) -> u64 {
    let bytes = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().filter(|name| SOCKET_SLABS.contains(name))?;
        debug_assert!(!name.is_empty());
        let active: u64 = words.next()?.parse().ok()?;
        let size: u64 = words.nth(1)?.parse().ok()?;
        Some(active * size)
    };
    text.lines().filter_map(bytes).sum()
}

/// Asks Redis.
fn redis(addr: SocketAddr) -> Result<Redis> {
    let mut stream = TcpStream::connect_timeout(&addr, REDIS)?;
    stream.set_read_timeout(Some(REDIS))?;
    stream.set_write_timeout(Some(REDIS))?;
    stream.write_all(b"INFO everything\r\nQUIT\r\n")?;
    let mut text = String::new();
    stream.take(LONGEST_INFO).read_to_string(&mut text)?;
    Ok(parse_info(&text))
}

fn parse_info(text: &str) -> Redis {
    let value = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default()
    };
    let count = |name: &str| value(name).trim().parse::<u64>().unwrap_or_default();
    let seconds = |name: &str| {
        // `12.345678`: six digits after the point, always.
        let (whole, rest) = value(name).trim().split_once('.').unwrap_or_default();
        let whole: u64 = whole.parse().unwrap_or_default();
        whole * 1_000_000 + rest.parse::<u64>().unwrap_or_default()
    };
    let calls = |name: &str| {
        let rest = value(name).strip_prefix("calls=").unwrap_or_default();
        rest.split(',').next().and_then(|calls| calls.parse::<u64>().ok()).unwrap_or_default()
    };
    Redis {
        cpu: seconds("used_cpu_sys") + seconds("used_cpu_user"),
        bytes_in: count("total_net_input_bytes"),
        bytes_out: count("total_net_output_bytes"),
        published: calls("cmdstat_publish") + calls("cmdstat_spublish"),
        commands: count("total_commands_processed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stat() {
        let line = "7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 120 30 0 0 20";
        assert_eq!(ticks(line), Some(150));
        assert_eq!(ticks("7 (a) S 1 2"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn own_time_and_memory_grow() {
        let me = Watched { pids: vec![std::process::id()], redis: None };
        let before = me.sample(1).unwrap();
        let ballast = std::hint::black_box(vec![1_u8; 32 << 20]);
        let mut sum = 0_u64;
        while cpu(std::process::id()).unwrap() < before.cpu + TICK * 3 {
            sum = (0..100_000_u64).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
        }
        let after = me.sample(2).unwrap();
        assert!(after.cpu > before.cpu);
        assert!(after.private >= before.private + (30 << 20), "{before:?} {after:?}");
        assert_eq!(ballast.len(), 32 << 20);
    }

    #[test]
    fn reads_what_redis_and_the_kernel_say() {
        let info = "# CPU\r\nused_cpu_sys:1.000002\r\nused_cpu_user:0.500000\r\n\
                    total_net_input_bytes:7\r\ncmdstat_publish:calls=12,usec=3\r\n";
        let redis = parse_info(info);
        assert_eq!((redis.cpu, redis.bytes_in, redis.published), (1_500_002, 7, 12));
        assert_eq!(
            queued_pages("sockets: used 12\nTCP: inuse 1 orphan 0 tw 2 alloc 1 mem 342\n"),
            Some(342)
        );
        let slabs = "# name\nTCP 10 16 2048 1 1 : x\nTCP_other 10 16 2048\nfilp 3 4 256 1\n";
        assert_eq!(object_bytes(slabs), 10 * 2048 + 3 * 256);
        assert_eq!(kib("Rss:    12 kB\n", "Rss:"), Some(12));
    }
}
