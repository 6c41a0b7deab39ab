//! What a message on the shared channels is, told by whoever only watches.
//!
//! In come a channel and the bytes that somebody published there, out comes who writes like that. It reads
//! with the eyes of a pod, so what it calls malformed is what a pod ignores, and what may break a pod of
//! Node's.

use bytes::Bytes;

use super::{
    msgpack::{Malformed, Reader, Token},
    python,
    wire::{self, Form, Note},
};

/// Who writes like that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Writer {
    /// A pod, Node's or ours.
    Pod,
    /// `@socket.io/redis-emitter`, or one like it.
    Emitter,
    /// A manager of python-socketio.
    Python,
    /// One of before 5.14, which nobody should read.
    PythonPickle,
    /// `@socket.io/redis-streams-adapter`.
    StreamsAdapter,
    /// Nobody who is known.
    Unknown(Malformed),
}

/// Says who wrote a message, if its channel is one that is shared.
pub(crate) fn of(
    prefix: &str,
    python_channel: &str,
    channel: &str,
    message: &Bytes,
) -> Option<Writer> {
    if channel == python_channel {
        return Some(of_python(message));
    }
    let rest = channel.strip_prefix(prefix)?;
    if let Some(rest) = rest.strip_prefix("-request#") {
        return rest.contains('#').then(|| of_request(message));
    }
    let (namespace, _) = rest.strip_prefix('#')?.split_once('#')?;
    Some(of_broadcast(namespace, message))
}

/// The namespace of a channel for requests.
pub(crate) fn namespace<'a>(prefix: &str, channel: &'a str) -> Option<&'a str> {
    channel.strip_prefix(prefix)?.strip_prefix("-request#")?.strip_suffix('#')
}

fn of_python(message: &Bytes) -> Writer {
    match python::read(message) {
        Ok(_) => Writer::Python,
        // The first byte of every protocol of pickles that was ever in use there.
        Err(_) if message.first() == Some(&0x80) => Writer::PythonPickle,
        Err(cause) => Writer::Unknown(cause),
    }
}

fn of_request(message: &Bytes) -> Writer {
    match Note::read(message) {
        Err(cause) => Writer::Unknown(cause),
        Ok(note) if note.number("type").is_none() => Writer::Unknown(Malformed::Shape("type")),
        // An emitter's joins, leaves and disconnects say nothing of who sent them.
        Ok(note) => match note.text("uid") {
            None | Some("emitter") => Writer::Emitter,
            Some(_) => Writer::Pod,
        },
    }
}

fn of_broadcast(namespace: &str, message: &Bytes) -> Writer {
    match wire::read_broadcast(message, "", namespace, Form::Text) {
        Ok(_) if sender(message).as_deref() == Some("emitter") => Writer::Emitter,
        Ok(_) => Writer::Pod,
        Err(cause) => {
            let fields = Note::read(message).ok();
            // It has a type and a namespace outside, where the classic format has a list.
            let streams = fields
                .is_some_and(|note| note.number("type").is_some() && note.text("nsp").is_some());
            if streams { Writer::StreamsAdapter } else { Writer::Unknown(cause) }
        }
    }
}

fn sender(message: &Bytes) -> Option<String> {
    let mut reader = Reader::new(message);
    let Token::Array(_) = reader.token().ok()? else { return None };
    let Token::Text(sender) = reader.token().ok()? else { return None };
    Some(String::from_utf8_lossy(sender).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_told_apart() {
        let emitter = b"\x93\xa7emitter\x82\xa4type\x02\xa4data\x91\xa2hi\x83\xa5rooms\x90\xa5flags\x80\xa6except\x90";
        let pod = b"\x93\xa62px9-z\x83\xa4type\x02\xa4data\x91\xa2hi\xa3nsp\xa1/\x80";
        let streams = br#"{"uid":"a","nsp":"/","type":9,"data":{"packet":["a"]}}"#;
        let cases: [(&str, &[u8], Option<Writer>); 12] = [
            ("socket.io#/#", emitter, Some(Writer::Emitter)),
            ("socket.io#/#room#", pod, Some(Writer::Pod)),
            ("socket.io#/#", streams, Some(Writer::StreamsAdapter)),
            (
                "socket.io#/#",
                b"hello",
                Some(Writer::Unknown(Malformed::Shape("list of sender, packet and options"))),
            ),
            (
                "socket.io-request#/#",
                br#"{"uid":"emitter","type":6,"data":["e"]}"#,
                Some(Writer::Emitter),
            ),
            ("socket.io-request#/#", br#"{"type":2,"opts":{},"rooms":[]}"#, Some(Writer::Emitter)),
            ("socket.io-request#/#", br#"{"uid":"2px9-z","type":1}"#, Some(Writer::Pod)),
            ("socket.io-request#/#", b"{}", Some(Writer::Unknown(Malformed::Shape("type")))),
            ("socketio", br#"{"method":"emit","event":"e","data":[]}"#, Some(Writer::Python)),
            ("socketio", b"\x80\x04\x95", Some(Writer::PythonPickle)),
            ("socketio2", b"\x80\x04\x95", None),
            ("socket.io-response#/#", b"", None),
        ];
        for (channel, message, want) in cases {
            let message = Bytes::copy_from_slice(message);
            assert_eq!(
                of("socket.io", "socketio", channel, &message),
                want,
                "{channel} {message:?}"
            );
        }
        assert_eq!(namespace("socket.io", "socket.io-request#/admin#"), Some("/admin"));
        assert_eq!(namespace("socket.io", "socket.io#/admin#"), None);
    }
}
