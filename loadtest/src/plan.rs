//! What one worker of a run has to do: the scenario, where the servers are, and which of the clients are its own.
//!
//! In comes a client's number; out goes its group, its room, its server, its worker, and which streams it must hear.
//! All of it follows from the plan alone, so that workers need not tell each other.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use anyhow::{Context as _, Result, bail};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::{
    number::{index, small},
    scenario::{Group, Scenario, To, Via},
};

/// One run, for one worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// What is done.
    pub scenario: Scenario,
    /// The servers, over which the clients are spread in turns.
    pub targets: Vec<Address>,
    /// The internal listeners, for groups that speak the server API.
    pub internal: Vec<Address>,
    /// The number of the run.
    pub run: u32,
    /// Which worker this is.
    pub worker: u32,
    /// How many there are.
    pub workers: u32,
    /// Addresses to connect from, in turns; none: the system's choice.
    pub sources: Vec<IpAddr>,
    /// The secret that tokens are signed with.
    pub secret: String,
    /// The key of the server API.
    pub key: String,
    /// How far this worker's clock is ahead of the coordinator's, in microseconds.
    pub ahead: i64,
    /// The core that the worker is bound to, if any.
    pub core: Option<usize>,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    /// Where to connect to.
    pub addr: SocketAddr,
    /// What it is called in `Host`.
    pub host: String,
}

impl Address {
    /// Finds the address of `http://host:port`.
    pub(crate) fn find(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("ws://"));
        let Some(rest) = rest else { bail!("{url}: written as http://host:port") };
        let host = rest.split('/').next().unwrap_or_default();
        let named = if host.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
            host.to_owned()
        } else {
            format!("{host}:80")
        };
        let addr = named.to_socket_addrs().with_context(|| url.to_owned())?.next();
        let addr = addr.with_context(|| format!("{url}: no address"))?;
        Ok(Self { addr, host: host.to_owned() })
    }
}

/// One kind of send of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// The sender.
    pub sender: u32,
    /// Which of its sends.
    pub send: u8,
}

impl Plan {
    /// The clients of all groups, numbered in order: the number and its group.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (u32, usize)> {
        let groups = self.scenario.groups.iter().enumerate();
        let each = groups.flat_map(|(at, group)| (0..group.clients).map(move |_| at));
        (0..).zip(each)
    }

    /// A client is this worker's.
    pub(crate) fn is_mine(&self, number: u32) -> bool {
        (number / self.pods()) % self.workers.max(1) == self.worker
    }

    /// The server that a client connects to.
    pub(crate) fn pod(&self, number: u32) -> u32 {
        number % self.pods()
    }

    /// The address that a client connects to.
    pub(crate) fn address(&self, number: u32, via: Via) -> Option<&Address> {
        let list = match via {
            Via::Socket => &self.targets,
            Via::Api => &self.internal,
        };
        let count = small(list.len());
        if count == 0 { None } else { list.get(index(number % count)) }
    }

    fn pods(&self) -> u32 {
        small(self.targets.len()).max(1)
    }
}

/// Which streams reach whom.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    to_room: FxHashMap<u32, Vec<(Stream, To)>>,
    to_all: Vec<Stream>,
    groups: Vec<usize>,
    rooms: Vec<u32>,
    to_self: Vec<Vec<u8>>,
}

impl Streams {
    /// Works out all streams of a plan.
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut streams = Self::default();
        let mut in_group = vec![0_u32; plan.scenario.groups.len()];
        for (sender, at) in plan.clients() {
            let (Some(group), Some(place)) = (plan.scenario.groups.get(at), in_group.get_mut(at))
            else {
                continue;
            };
            let room = *place % group.rooms;
            *place += 1;
            streams.groups.push(at);
            streams.rooms.push(room);
            streams.add(sender, room, group);
        }
        let own = |group: &Group| {
            let sends = (0..).zip(&group.sends);
            sends.filter(|(_, send)| send.to == To::Sender).map(|(at, _)| at).collect()
        };
        streams.to_self = plan.scenario.groups.iter().map(own).collect();
        streams
    }

    fn add(&mut self, sender: u32, room: u32, group: &Group) {
        for (send, what) in (0..).zip(&group.sends) {
            let stream = Stream { sender, send };
            match what.to {
                To::Nobody | To::Sender => {}
                To::Others | To::Room => {
                    self.to_room.entry(room).or_default().push((stream, what.to));
                }
                To::All => self.to_all.push(stream),
            }
        }
    }

    /// The group of a client.
    pub(crate) fn group(&self, number: u32) -> usize {
        self.groups.get(index(number)).copied().unwrap_or_default()
    }

    /// The room of a client.
    pub(crate) fn room(&self, number: u32) -> u32 {
        self.rooms.get(index(number)).copied().unwrap_or_default()
    }

    /// The streams that a client must hear, in order.
    pub(crate) fn heard_by(&self, number: u32, group: &Group) -> Vec<Stream> {
        let own = self.to_self.get(self.group(number)).into_iter().flatten();
        let own = own.map(|send| Stream { sender: number, send: *send });
        let mut heard: Vec<Stream> = own.collect();
        // An application that speaks through the server API hears nothing there.
        if group.listens && group.via == Via::Socket {
            let room = self.to_room.get(&self.room(number)).into_iter().flatten();
            let room = room.filter(|(stream, to)| *to == To::Room || stream.sender != number);
            heard.extend(room.map(|(stream, _)| *stream));
            heard.extend(&self.to_all);
        }
        heard.sort_unstable();
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str, workers: u32, pods: usize) -> Plan {
        let addr = Address { addr: ([127, 0, 0, 1], 1).into(), host: "h".into() };
        Plan {
            scenario: Scenario::load(name, &[]).unwrap(),
            targets: vec![addr; pods],
            internal: Vec::new(),
            run: 1,
            worker: 0,
            workers,
            sources: Vec::new(),
            secret: String::new(),
            key: String::new(),
            ahead: 0,
            core: None,
        }
    }

    #[test]
    fn everybody_hears_the_talker_and_the_talker_nobody() {
        let plan = plan("fan-out", 1, 1);
        let streams = Streams::of(&plan);
        let talker = 1000;
        let [listeners, talkers] = &plan.scenario.groups[..] else { panic!("two groups") };
        assert_eq!(streams.heard_by(5, listeners), [Stream { sender: talker, send: 0 }]);
        assert_eq!(streams.heard_by(talker, talkers), []);
    }

    #[test]
    fn rooms_are_apart() {
        let plan = plan("rooms", 1, 1);
        let streams = Streams::of(&plan);
        let heard = streams.heard_by(7, &plan.scenario.groups[0]);
        assert_eq!(heard.len(), 9);
        assert!(heard.iter().all(|stream| stream.sender % 100 == 7 && stream.sender != 7));
    }

    #[test]
    fn every_client_has_one_worker_and_pods_are_spread_over_workers() {
        let mut plan = plan("rooms", 3, 2);
        let mut owners = vec![0; 1000];
        for worker in 0..3 {
            plan.worker = worker;
            let mine: Vec<u32> =
                plan.clients().map(|(n, _)| n).filter(|n| plan.is_mine(*n)).collect();
            for pod in 0..2 {
                assert!(mine.iter().any(|number| plan.pod(*number) == pod), "{worker} {pod}");
            }
            mine.iter().for_each(|number| owners[*number as usize] += 1);
        }
        assert!(owners.iter().all(|count| *count == 1));
    }

    #[test]
    fn addresses() {
        let found = Address::find("http://127.0.0.1:3001/").unwrap();
        assert_eq!((found.addr.port(), found.host.as_str()), (3001, "127.0.0.1:3001"));
        assert_eq!(Address::find("http://127.0.0.1").unwrap().addr.port(), 80);
        for bad in ["https://a", "a:1", "http://no.such.host.invalid:1"] {
            assert!(Address::find(bad).is_err(), "{bad}");
        }
    }
}
