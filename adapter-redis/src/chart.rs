//! Servers, and which of them has what.
//!
//! In come addresses and the answers of servers about their cluster; out come servers that can be dialled
//! and the master of a slot. It remembers nothing and decides nothing.

use std::{fmt, sync::Arc};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, RedisError,
    RedisResult, Value, aio::MultiplexedConnection, from_redis_value,
};

use crate::{address::elsewhere, slot::SLOTS};

/// Where something is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Of any master.
    Anywhere,
    /// Of the master of this slot; without a cluster, of the only one.
    Slot(u16),
}

/// One server. Two are the same if their addresses are.
#[derive(Clone)]
pub(crate) struct Node(Arc<Server>);

struct Server {
    name: String,
    information: ConnectionInfo,
    /// It must say that it is a master before it is used.
    proves_itself: bool,
}

impl Node {
    pub(crate) fn new(information: ConnectionInfo, proves_itself: bool) -> Self {
        let name = information.addr().to_string();
        Self(Arc::new(Server { name, information, proves_itself }))
    }

    /// Its address.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// Another server of the same installation, by its host, a colon and its port.
    pub(crate) fn sibling(&self, address: &str) -> Option<Self> {
        let (host, port) = address.rsplit_once(':')?;
        let host = if host.is_empty() { self.host()? } else { host };
        Some(Self::new(elsewhere(&self.0.information, host, port.parse().ok()?), false))
    }

    fn host(&self) -> Option<&str> {
        match self.0.information.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host),
            _ => None,
        }
    }

    /// Connects. The answer is bounded by the caller.
    pub(crate) async fn dial(
        &self,
        protocol: ProtocolVersion,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let information = self.0.information.clone();
        let settings = information.redis_settings().clone().set_protocol(protocol);
        let client = Client::open(information.set_redis_settings(settings))?;
        let mut connection = client.get_multiplexed_async_connection_with_config(config).await?;
        if self.0.proves_itself {
            let role = redis::cmd("ROLE").query_async::<Value>(&mut connection).await;
            match role {
                Ok(role) if text(&role, 0).as_deref() == Some("master") => {}
                Ok(_) => return Err(unknown("the sentinels' master is none yet")),
                // A user who may not ask believes the sentinels.
                Err(error) if error.code() == Some("NOPERM") => {}
                Err(error) => return Err(error),
            }
        }
        Ok(connection)
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

/// The servers as they were when last looked at.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Chart {
    pub(crate) masters: Vec<Node>,
    pub(crate) replicas: Vec<Node>,
    /// First slot, last slot and master, in order. Empty where there is no cluster.
    pub(crate) owners: Vec<(u16, u16, usize)>,
}

impl Chart {
    pub(crate) fn owner(&self, slot: u16) -> Option<&Node> {
        if self.owners.is_empty() {
            return self.masters.first();
        }
        let at = self.owners.partition_point(|(_, last, _)| *last < slot);
        let (first, _, master) = self.owners.get(at)?;
        (*first <= slot).then(|| self.masters.get(*master)).flatten()
    }
}

/// Reads the answer to `CLUSTER SLOTS`, which has the form [first, last, [host, port, …], replicas …].
pub(crate) fn read(slots: &Value, asked: &Node, seed: &ConnectionInfo) -> Option<Chart> {
    let Value::Array(answer) = slots else { return None };
    let mut ranges = Vec::new();
    for range in answer {
        let Value::Array(range) = range else { return None };
        let [first, last, master, replicas @ ..] = range.as_slice() else { return None };
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= SLOTS {
            return None;
        }
        ranges.push((first, last, master, replicas));
    }
    // In their own order, since every node lists them in another.
    ranges.sort_unstable_by_key(|(first, ..)| *first);
    let mut chart = Chart::default();
    for (first, last, master, replicas) in ranges {
        let master = place(&mut chart.masters, node(master, asked, seed)?);
        chart.owners.push((first, last, master));
        for replica in replicas {
            // One that fails has no address for a while.
            if let Some(replica) = node(replica, asked, seed) {
                place(&mut chart.replicas, replica);
            }
        }
    }
    chart.replicas.sort_by(|one, other| one.name().cmp(other.name()));
    (!chart.masters.is_empty()).then_some(chart)
}

fn place(nodes: &mut Vec<Node>, node: Node) -> usize {
    let known = nodes.iter().position(|known| *known == node);
    known.unwrap_or_else(|| {
        nodes.push(node);
        nodes.len() - 1
    })
}

fn node(told: &Value, asked: &Node, seed: &ConnectionInfo) -> Option<Node> {
    let Value::Array(fields) = told else { return None };
    let port = number(fields.get(1)?)?;
    // Who does not know its own address is where it was asked.
    let told = text(told, 0).filter(|host| !host.is_empty() && host != "?");
    let host = told.or_else(|| asked.host().map(str::to_owned))?;
    Some(Node::new(elsewhere(seed, &host, port), false))
}

fn number(value: &Value) -> Option<u16> {
    // Read as what it is: the library would cut it to size.
    from_redis_value::<i64>(value.clone()).ok()?.try_into().ok()
}

fn text(list: &Value, at: usize) -> Option<String> {
    let Value::Array(items) = list else { return None };
    from_redis_value(items.get(at)?.clone()).ok()
}

pub(crate) fn unknown(why: &'static str) -> RedisError {
    RedisError::from(std::io::Error::new(std::io::ErrorKind::NotConnected, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> ConnectionInfo {
        Client::open("redis://user:pw@seed:7000").unwrap().get_connection_info().clone()
    }

    fn list(items: Vec<Value>) -> Value {
        Value::Array(items)
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn server(host: &str, port: i64) -> Value {
        list(vec![bulk(host), Value::Int(port), bulk("id"), list(Vec::new())])
    }

    fn range(first: i64, last: i64, servers: Vec<Value>) -> Value {
        list([vec![Value::Int(first), Value::Int(last)], servers].concat())
    }

    fn read_all(ranges: Vec<Value>) -> Option<Chart> {
        read(&list(ranges), &Node::new(seed(), false), &seed())
    }

    #[test]
    fn the_answer_of_any_node_is_the_same_chart() {
        let low = || range(0, 100, vec![server("a", 1), server("c", 3)]);
        let high = || range(200, 16_383, vec![server("", 2), server("?", 4), list(vec![])]);
        let chart = read_all(vec![low(), high()]).unwrap();
        assert_eq!(read_all(vec![high(), low()]).unwrap(), chart);
        let owner = |slot| chart.owner(slot).map(Node::name);
        let cases = [
            (0, Some("a:1")),
            (100, Some("a:1")),
            (101, None),
            (199, None),
            (200, Some("seed:2")),
            (16_383, Some("seed:2")),
        ];
        for (slot, want) in cases {
            assert_eq!(owner(slot), want, "{slot}");
        }
        let replicas: Vec<&str> = chart.replicas.iter().map(Node::name).collect();
        assert_eq!(replicas, ["c:3", "seed:4"], "one without an address is left out");
        let login = chart.masters[0].0.information.redis_settings().clone();
        assert_eq!((login.username(), login.password()), (Some("user"), Some("pw")));
    }

    #[test]
    fn what_is_no_chart_is_refused() {
        let cases = [
            ("no list", Value::Nil),
            ("nothing", list(vec![])),
            ("a range of nothing", list(vec![list(vec![])])),
            ("backwards", list(vec![range(5, 1, vec![server("a", 1)])])),
            ("too far", list(vec![range(0, 16_384, vec![server("a", 1)])])),
            ("negative", list(vec![range(-1, 5, vec![server("a", 1)])])),
            ("no master", list(vec![range(0, 5, vec![])])),
            ("no port", list(vec![range(0, 5, vec![list(vec![bulk("a")])])])),
            ("a port too high", list(vec![range(0, 5, vec![server("a", 70_000)])])),
        ];
        for (name, answer) in cases {
            assert!(read(&answer, &Node::new(seed(), false), &seed()).is_none(), "{name}");
        }
    }

    #[test]
    fn siblings_are_found_by_what_servers_call_them() {
        let node = Node::new(seed(), false);
        let cases = [
            ("b:2", Some("b:2")),
            (":2", Some("seed:2")),
            ("::1:2", Some("::1:2")),
            ("b", None),
            ("b:x", None),
        ];
        for (address, want) in cases {
            let sibling = node.sibling(address);
            assert_eq!(sibling.as_ref().map(Node::name), want, "{address}");
        }
    }
}
