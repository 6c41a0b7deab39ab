//! Requests, as the protocol reads them: which transport, which session, and what is refused.
//!
//! In come a request's method, query and headers; out go a [`Wanted`] or a [`Refusal`], with the code
//! and the words that Node's server gives. It keeps nothing and answers nobody.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::BytesMut;
use engineioxide_core::{ProtocolVersion, Str, TransportType};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts};
use sha1::{Digest, Sha1};

use crate::config::EngineIoConfig;

/// What the WebSocket protocol adds to a client's key.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Headers that only the transport of a request needs: no session keeps them.
const OF_TRANSPORT: [HeaderName; 7] = [
    header::CONNECTION,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_EXTENSIONS,
];

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// There is no such transport, or it is not served.
    #[error("Transport unknown")]
    UnknownTransport,
    /// There is no such session here.
    #[error("Session ID unknown")]
    UnknownSession,
    /// A session is not begun with this method.
    #[error("Bad handshake method")]
    BadMethod,
    /// The request does not fit its session, or is no upgrade where it must be.
    #[error("Bad request")]
    BadRequest,
    /// The request may not be.
    #[error("Forbidden")]
    Forbidden,
    /// The client speaks another version.
    #[error("Unsupported protocol version")]
    UnsupportedVersion,
}

impl Refusal {
    /// Its number in the protocol.
    pub const fn code(self) -> u8 {
        match self {
            Self::UnknownTransport => 0,
            Self::UnknownSession => 1,
            Self::BadMethod => 2,
            Self::BadRequest => 3,
            Self::Forbidden => 4,
            Self::UnsupportedVersion => 5,
        }
    }

    /// The status of its answer.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::UnknownTransport
            | Self::UnknownSession
            | Self::BadMethod
            | Self::BadRequest
            | Self::UnsupportedVersion => StatusCode::BAD_REQUEST,
        }
    }

    /// The body of its answer.
    pub(crate) fn body(self) -> String {
        format!(r#"{{"code":{},"message":"{self}"}}"#, self.code())
    }
}

/// What a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted<'a> {
    /// A session.
    Open { protocol: ProtocolVersion, transport: TransportType, text_only: bool },
    /// What waits for the client of a session.
    Poll { id: Cow<'a, str> },
    /// To bring packets of a session.
    Post { id: Cow<'a, str> },
    /// To carry a session with a WebSocket from now on.
    Upgrade { id: Cow<'a, str> },
}

/// The value of a key in a query; escapes are undone only where there are any.
fn find<'a>(query: &'a str, key: &str) -> Option<Cow<'a, str>> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| *name == key)?;
    if !value.contains('%') {
        return Some(Cow::Borrowed(value));
    }
    let mut plain = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let escaped = (*byte == b'%')
            .then(|| rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(escaped.unwrap_or(*byte));
        if escaped.is_some() {
            rest = rest.get(2..).unwrap_or_default();
        }
    }
    // What is no text is a value all the same, and one that nobody was given.
    Some(Cow::Owned(String::from_utf8_lossy(&plain).into_owned()))
}

/// What a request wants, or why it is refused: in the order in which Node's server looks.
pub(crate) fn read<'a>(
    method: &Method,
    uri: &'a Uri,
    headers: &HeaderMap,
    config: &EngineIoConfig,
) -> Result<Wanted<'a>, Refusal> {
    let query = uri.query().unwrap_or_default();
    let transport = find(query, "transport")
        .and_then(|name| name.parse().ok())
        .filter(|transport| config.allowed_transport(*transport))
        .ok_or(Refusal::UnknownTransport)?;
    if let Some(id) = find(query, "sid") {
        return match (transport, method) {
            (TransportType::Websocket, &Method::GET) if is_upgrade(headers) => {
                Ok(Wanted::Upgrade { id })
            }
            (TransportType::Websocket, _) => Err(Refusal::BadRequest),
            (TransportType::Polling, &Method::GET) => Ok(Wanted::Poll { id }),
            (TransportType::Polling, &Method::POST) => Ok(Wanted::Post { id }),
            (TransportType::Polling, _) => Err(Refusal::BadMethod),
        };
    }
    if method != Method::GET {
        return Err(Refusal::BadMethod);
    }
    if transport == TransportType::Websocket && !is_upgrade(headers) {
        return Err(Refusal::BadRequest);
    }
    let protocol = find(query, "EIO").and_then(|version| version.parse().ok());
    let protocol = protocol.ok_or(Refusal::UnsupportedVersion)?;
    let text_only = find(query, "b64").is_some_and(|flag| matches!(&*flag, "1" | "true"));
    Ok(Wanted::Open { protocol, transport, text_only })
}

/// Whether a header's list has a word.
fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}

/// Whether a request opens a WebSocket.
fn is_upgrade(headers: &HeaderMap) -> bool {
    lists(headers, &header::UPGRADE, "websocket")
        && lists(headers, &header::CONNECTION, "upgrade")
        && lists(headers, &header::SEC_WEBSOCKET_VERSION, "13")
        && accept_key(headers).is_some()
}

/// The answer to a client's key, if it is one.
pub(crate) fn accept_key(headers: &HeaderMap) -> Option<HeaderValue> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes();
    let decoded = BASE64_STANDARD.decode(key).ok()?;
    if decoded.len() != 16 {
        return None;
    }
    let digest = Sha1::new().chain_update(key).chain_update(WEBSOCKET_GUID).finalize();
    HeaderValue::try_from(BASE64_STANDARD.encode(digest)).ok()
}

/// The packet that tells a client its session id and what holds for it.
pub(crate) fn open_packet(id: &str, transport: TransportType, config: &EngineIoConfig) -> Str {
    let upgradable =
        transport == TransportType::Polling && config.allowed_transport(TransportType::Websocket);
    let upgrades = if upgradable { r#""websocket""# } else { "" };
    let (interval, timeout) = (config.ping_interval.as_millis(), config.ping_timeout.as_millis());
    let most = config.max_payload;
    // The id has no character that JSON would escape.
    Str::from(format!(
        r#"0{{"sid":"{id}","upgrades":[{upgrades}],"pingInterval":{interval},"pingTimeout":{timeout},"maxPayload":{most}}}"#
    ))
}

/// A request as a session keeps it. What hyper gives are slices of its read buffer, and one of them
/// kept would keep all of it in memory: so all that is kept is copied, into one piece.
pub(crate) fn keep(mut parts: Parts, kept: Option<&[HeaderName]>) -> Parts {
    let wanted = |name: &HeaderName| match kept {
        Some(kept) => kept.contains(name),
        None => !OF_TRANSPORT.contains(name),
    };
    let old = std::mem::take(&mut parts.headers);
    let few: Vec<(&HeaderName, &HeaderValue)> =
        old.iter().filter(|(name, _)| wanted(name)).collect();
    let mut all = BytesMut::with_capacity(few.iter().map(|(_, value)| value.len()).sum());
    let mut headers = HeaderMap::with_capacity(few.len());
    for (name, value) in few {
        all.extend_from_slice(value.as_bytes());
        let copy = all.split().freeze();
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(copy) {
            copy.set_sensitive(value.is_sensitive());
            headers.append(own(name), copy);
        }
    }
    parts.headers = headers;
    parts.uri = parts.uri.to_string().parse().unwrap_or_default();
    parts
}

/// A name of its own: one that is not of the standard may be a slice, too.
fn own(name: &HeaderName) -> HeaderName {
    HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn upgrade() -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (header::UPGRADE, "WebSocket"),
            (header::CONNECTION, "keep-alive, Upgrade"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            (header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ=="),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn requests() {
        use ProtocolVersion::V4;
        use TransportType::{Polling, Websocket};
        let open = |transport, text_only| Ok(Wanted::Open { protocol: V4, transport, text_only });
        let id = || Cow::Borrowed("a.b");
        let (get, post) = (Method::GET, Method::POST);
        let cases = [
            ("polling", &get, "EIO=4&transport=polling", false, open(Polling, false)),
            ("base64", &get, "EIO=4&transport=polling&b64=1", false, open(Polling, true)),
            ("websocket", &get, "EIO=4&transport=websocket", true, open(Websocket, false)),
            ("poll", &get, "EIO=4&transport=polling&sid=a.b", false, Ok(Wanted::Poll { id: id() })),
            ("escaped", &get, "transport=polling&sid=a%2eb", false, Ok(Wanted::Poll { id: id() })),
            ("post", &post, "transport=polling&sid=a.b", false, Ok(Wanted::Post { id: id() })),
            (
                "upgrade",
                &get,
                "transport=websocket&sid=a.b",
                true,
                Ok(Wanted::Upgrade { id: id() }),
            ),
            ("no transport", &get, "EIO=4", false, Err(Refusal::UnknownTransport)),
            ("no such transport", &get, "EIO=4&transport=x", false, Err(Refusal::UnknownTransport)),
            ("posted handshake", &post, "EIO=4&transport=polling", false, Err(Refusal::BadMethod)),
            ("no upgrade", &get, "EIO=4&transport=websocket", false, Err(Refusal::BadRequest)),
            ("put", &Method::PUT, "transport=polling&sid=a", false, Err(Refusal::BadMethod)),
            ("version", &get, "EIO=5&transport=polling", false, Err(Refusal::UnsupportedVersion)),
            ("no version", &get, "transport=polling", false, Err(Refusal::UnsupportedVersion)),
        ];
        for (name, method, query, upgrades, want) in cases {
            let uri: Uri = format!("/engine.io/?{query}").parse().expect("a URI");
            let headers = if upgrades { upgrade() } else { HeaderMap::new() };
            let config = EngineIoConfig::default();
            assert_eq!(read(method, &uri, &headers, &config), want, "{name}");
        }
    }

    #[test]
    fn refusals_are_nodes() {
        let cases = [
            (Refusal::UnknownTransport, 400, r#"{"code":0,"message":"Transport unknown"}"#),
            (Refusal::UnknownSession, 400, r#"{"code":1,"message":"Session ID unknown"}"#),
            (Refusal::BadMethod, 400, r#"{"code":2,"message":"Bad handshake method"}"#),
            (Refusal::BadRequest, 400, r#"{"code":3,"message":"Bad request"}"#),
            (Refusal::Forbidden, 403, r#"{"code":4,"message":"Forbidden"}"#),
            (
                Refusal::UnsupportedVersion,
                400,
                r#"{"code":5,"message":"Unsupported protocol version"}"#,
            ),
        ];
        for (refusal, status, body) in cases {
            assert_eq!((refusal.status().as_u16(), refusal.body().as_str()), (status, body));
        }
    }

    #[test]
    fn keys_are_answered_as_the_protocol_says() {
        let accepted = accept_key(&upgrade()).expect("a key");
        assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for bad in ["", "x", "dGhlIHNhbXBsZSBub25jZQ"] {
            let mut headers = upgrade();
            headers.insert(header::SEC_WEBSOCKET_KEY, HeaderValue::from_static(bad));
            assert_eq!(accept_key(&headers), None, "{bad:?}");
        }
    }

    #[test]
    fn the_open_packet_is_nodes() {
        let config = EngineIoConfig::builder()
            .ping_interval(Duration::from_millis(300))
            .ping_timeout(Duration::from_millis(200))
            .max_payload(1000);
        let config = config.build();
        let rest = r#""pingInterval":300,"pingTimeout":200,"maxPayload":1000}"#;
        let cases = [
            (TransportType::Polling, r#""upgrades":["websocket"]"#),
            (TransportType::Websocket, r#""upgrades":[]"#),
        ];
        for (transport, upgrades) in cases {
            let want = format!(r#"0{{"sid":"a.b",{upgrades},{rest}"#);
            assert_eq!(open_packet("a.b", transport, &config).as_str(), want);
        }
    }

    #[test]
    fn a_session_keeps_what_is_not_of_the_transport() {
        let mut request = http::Request::builder().uri("/engine.io/?a=b");
        for (name, value) in upgrade().iter().map(|(name, value)| (name.clone(), value.clone())) {
            request = request.header(name, value);
        }
        let request = request.header("cookie", "a=1").header("cookie", "b=2").header("x-mine", "y");
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let kept = keep(parts.clone(), None);
        assert_eq!(kept.headers.len(), 3);
        assert_eq!(kept.headers.get_all("cookie").iter().count(), 2);
        assert_eq!(kept.uri, "/engine.io/?a=b");
        let few = keep(parts, Some(&[HeaderName::from_static("x-mine")]));
        assert_eq!(few.headers.len(), 1);
    }
}
