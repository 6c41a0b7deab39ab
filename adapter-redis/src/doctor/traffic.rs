//! Who else writes under the same prefix.
//!
//! In come a few seconds of the shared channels, and keys and channels by which other adapters are known;
//! out come who writes what, and what that does to the others. What it hears it keeps no longer than it
//! takes to look at it.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, RedisResult, Value,
    aio::MultiplexedConnection,
};
use tokio::sync::Notify;

use super::{Report, WriterReport, ask::Asker};
use crate::{
    config::RedisConfig,
    nodes::{At, Node},
    socketio::{
        AdapterConfig,
        witness::{self, Writer},
    },
};

/// How long it is listened.
const LISTENED: Duration = Duration::from_secs(3);
/// Messages after which enough was heard.
const ENOUGH: u64 = 20_000;

/// Subscribes on a connection of its own, for as long as it is kept.
pub(super) async fn listen(
    node: &Node,
    channels: &[String],
    patterns: &[String],
    hear: impl Fn(PushInfo) + Send + Sync + 'static,
) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(LISTENED))
        .set_response_timeout(Some(LISTENED))
        .set_push_sender(move |push| {
            hear(push);
            Ok::<(), Infallible>(())
        });
    let mut connection = node.dial(ProtocolVersion::RESP3, &config).await?;
    if !channels.is_empty() {
        connection.subscribe(channels).await?;
    }
    if !patterns.is_empty() {
        connection.psubscribe(patterns).await?;
    }
    Ok(connection)
}

#[derive(Default)]
struct Heard {
    writers: BTreeMap<Writer, u64>,
    messages: u64,
}

pub(super) async fn examine(asker: &mut Asker, config: &RedisConfig, report: &mut Report) {
    let prefix = config.channel_prefix.clone();
    sharded_and_streams(asker, &prefix, report).await;
    let python = AdapterConfig::default().python_channel;
    let heard: Arc<Mutex<Heard>> = Arc::default();
    let enough = Arc::new(Notify::new());
    let Ok(node) = asker.node(At::Anywhere).await else { return };
    let patterns = [format!("{prefix}#*"), format!("{prefix}-request#*")];
    let (hearing, full, channel) = (heard.clone(), enough.clone(), python.clone());
    let hear = move |push: PushInfo| {
        if let Some((name, message)) = message(push)
            && let Some(writer) = witness::of(&prefix, &channel, &name, &message)
        {
            let mut heard = hearing.lock();
            *heard.writers.entry(writer).or_default() += 1;
            heard.messages += 1;
            if heard.messages >= ENOUGH {
                full.notify_one();
            }
        }
    };
    let listening = listen(&node, &[python], &patterns, hear).await;
    match listening {
        Ok(_connection) => {
            // Either is an end.
            let _ = tokio::time::timeout(LISTENED, enough.notified()).await;
        }
        Err(error) => {
            report.note(
                "traffic",
                format!("What is written under the prefix could not be listened to ({error}). Allow this user PSUBSCRIBE, and the literal patterns &{}#* and &{}-request#*, to have it checked.", config.channel_prefix, config.channel_prefix),
            );
            return;
        }
    }
    let writers = std::mem::take(&mut heard.lock().writers);
    for (writer, messages) in writers {
        judge(writer, messages, report);
    }
}

fn message(push: PushInfo) -> Option<(String, Bytes)> {
    let mut data = push.data.into_iter();
    match push.kind {
        PushKind::Message => {}
        // The pattern comes first.
        PushKind::PMessage => drop(data.next()?),
        _ => return None,
    }
    let (Value::BulkString(channel), Value::BulkString(payload)) = (data.next()?, data.next()?)
    else {
        return None;
    };
    Some((String::from_utf8(channel).ok()?, payload.into()))
}

fn judge(writer: Writer, messages: u64, report: &mut Report) {
    let name = match writer {
        Writer::Pod => "pods".to_owned(),
        Writer::Emitter => "an emitter".to_owned(),
        Writer::Python => "a manager of python-socketio".to_owned(),
        Writer::PythonPickle => {
            report.warn(
                "python",
                format!("A python-socketio older than 5.14 writes pickles ({messages} messages): they are ignored, since reading them runs their code. Upgrade python-socketio in that backend."),
            );
            "pickles of python-socketio".to_owned()
        }
        Writer::StreamsAdapter => {
            report.error(
                "streams-adapter",
                format!("A streams adapter of Node writes to the channels of the classic one ({messages} messages): they are ignored here, and end pods of Node's that use the classic adapter. Give it a channelPrefix of its own."),
            );
            "the streams adapter".to_owned()
        }
        Writer::Unknown(cause) => {
            report.error(
                "malformed",
                format!("Somebody writes what no pod understands ({messages} messages; {cause}): it is ignored here, but ends or deafens pods of Node's. Look for emitters of other versions or parsers, and for socketioxide-redis, under this prefix."),
            );
            "somebody unknown".to_owned()
        }
    };
    report.writers.push(WriterReport { writer: name, messages });
}

/// Adapters that are known by what they leave in Redis.
async fn sharded_and_streams(asker: &mut Asker, prefix: &str, report: &mut Report) {
    let pattern = format!("{prefix}#*");
    let sharded = asker.ask_all::<Vec<String>>(&["PUBSUB", "SHARDCHANNELS", &pattern]).await;
    if let Some(channel) = sharded.iter().flatten().next() {
        report.error(
            "sharded-adapter",
            format!("Pods with Node's sharded adapter are on this prefix ({channel}): neither do they hear ours nor ours them. Move them to the classic adapter, or give them another channelPrefix."),
        );
    }
    let kind: String = asker.ask_of(&["TYPE", prefix]).await.unwrap_or_default();
    if kind == "stream" {
        report.error(
            "streams-adapter",
            format!("The key {prefix} is a stream: Node's streams adapter is, or was, on this prefix. What it sends does not reach our pods. Move it to the classic adapter, or delete the stream if nobody uses it."),
        );
    }
}
