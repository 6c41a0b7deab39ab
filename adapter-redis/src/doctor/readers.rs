//! Listeners that read too slowly.
//!
//! In come the clients of each server that listen to anything, out come findings about those for which
//! much is waiting. Where this user may not list clients it stays silent.

use super::{Report, ask::Asker};

/// What may wait for a listener that only was not scheduled for a moment.
const WAITS: u64 = 1 << 20;
/// Listeners that are named.
const NAMED: usize = 5;

pub(super) async fn examine(asker: &mut Asker, report: &mut Report) {
    for node in asker.nodes.all() {
        let list = asker.ask::<String>(&node, &["CLIENT", "LIST", "TYPE", "pubsub"]).await;
        let Ok(list) = list else { continue };
        let mut slow: Vec<(u64, String)> = list.lines().filter_map(reader).collect();
        slow.sort_by(|one, other| other.cmp(one));
        let many = slow.len();
        for (waits, who) in slow.into_iter().take(NAMED) {
            report.warn(
                "slow-listener",
                format!("{} has {} MiB waiting for the listener at {who}, one of {many}: it hangs or reads too slowly, and is cut off at client-output-buffer-limit. Look at that process.", node.name(), waits >> 20),
            );
        }
    }
}

/// How much waits for a client, and who that is, if it is much.
fn reader(line: &str) -> Option<(u64, String)> {
    let field = |name: &str| {
        let mut fields = line.split_whitespace().filter_map(|field| field.split_once('='));
        fields.find(|(field, _)| *field == name).map_or("", |(_, value)| value)
    };
    let waits: u64 = field("omem").parse().ok()?;
    (waits > WAITS).then(|| {
        let called = match (field("name"), field("lib-name")) {
            ("", "") => String::new(),
            ("", library) => format!(" ({library})"),
            (name, _) => format!(" ({name})"),
        };
        (waits, format!("{}{called}", field("addr")))
    })
}
