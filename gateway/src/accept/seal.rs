//! Sealed ids: the Engine.IO session id that a client holds is its credential.
//!
//! The library uses one id for the session and for the connection that others see. So the id in the
//! handshake of a polling client gets a seal that only this pod can make, and a request with an id
//! that is not sealed is not of this session, whoever has seen the id.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

/// Characters of the library's id.
const ID: usize = 16;

/// Bytes of the seal: more than can be guessed.
const SEAL: usize = 16;

/// Makes and checks seals.
#[derive(Clone, Debug)]
pub(super) struct Sealer(hmac::Key);

impl Sealer {
    /// With a key of its own.
    pub(super) fn new() -> Self {
        let key: [u8; 32] = rand::random();
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    fn of(&self, sid: &str) -> String {
        let tag = hmac::sign(&self.0, sid.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(&tag.as_ref()[..SEAL])
    }

    /// The id with its seal.
    pub(super) fn seal(&self, sid: &str) -> String {
        format!("{sid}{}", self.of(sid))
    }

    /// The id of a sealed one, if the seal is ours.
    pub(super) fn open<'a>(&self, sealed: &'a str) -> Option<&'a str> {
        let (sid, seal) = sealed.split_at_checked(ID)?;
        let seal = BASE64_URL_SAFE_NO_PAD.decode(seal).ok()?;
        let tag = hmac::sign(&self.0, sid.as_bytes());
        let good = aws_lc_rs::constant_time::verify_slices_are_equal(&tag.as_ref()[..SEAL], &seal);
        good.is_ok().then_some(sid)
    }

    /// The handshake of a polling client with its id sealed, and the id. `None` where it is no such
    /// answer. Engine.IO 3 counts the characters of a packet in front of it, in text or in bytes.
    pub(super) fn handshake(&self, body: &[u8]) -> Option<(Vec<u8>, String)> {
        let mark = b"\"sid\":\"";
        let at = body.windows(mark.len()).position(|window| window == mark)? + mark.len();
        let sid = std::str::from_utf8(body.get(at..at + ID)?).ok()?.to_owned();
        let sealed = self.seal(&sid);
        let extra = sealed.len() - ID;
        let open = body.iter().position(|byte| *byte == b'{')?;
        let head = longer(body.get(..open)?, extra)?;
        let mut sealed_body = head;
        sealed_body.extend_from_slice(&body[open..at]);
        sealed_body.extend_from_slice(sealed.as_bytes());
        sealed_body.extend_from_slice(&body[at + ID..]);
        Some((sealed_body, sid))
    }
}

/// What stands before the first packet's JSON, counting `extra` characters more.
fn longer(head: &[u8], extra: usize) -> Option<Vec<u8>> {
    let (packet, count) = head.split_last()?;
    if count.is_empty() {
        return Some(vec![*packet]);
    }
    if let Some(text) = count.strip_suffix(b":") {
        let length: usize = std::str::from_utf8(text).ok()?.parse().ok()?;
        let mut head = format!("{}:", length + extra).into_bytes();
        head.push(*packet);
        return Some(head);
    }
    let digits = count.strip_prefix(&[0])?.strip_suffix(&[0xff])?;
    let length = digits.iter().fold(0_usize, |sum, digit| sum * 10 + usize::from(*digit)) + extra;
    let mut head = vec![0];
    head.extend(length.to_string().bytes().map(|digit| digit - b'0'));
    head.extend([0xff, *packet]);
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seals_and_opens() {
        let (ours, theirs) = (Sealer::new(), Sealer::new());
        let sealed = ours.seal("AAAAAAAAAAAAAAAA");
        assert_eq!(ours.open(&sealed), Some("AAAAAAAAAAAAAAAA"));
        let forged = format!("BAAAAAAAAAAAAAAA{}", &sealed[16..]);
        for (name, id) in [
            ("bare", "AAAAAAAAAAAAAAAA"),
            ("short", "A"),
            ("empty", ""),
            ("of another", forged.as_str()),
            ("not ascii", "ÄÖÜäöüÄÖÜäöü"),
        ] {
            assert_eq!(ours.open(id), None, "{name}");
        }
        assert_eq!(theirs.open(&sealed), None, "another pod's");
    }

    #[test]
    fn seals_handshakes_of_both_protocols() {
        let sealer = Sealer::new();
        let json = br#"{"sid":"AAAAAAAAAAAAAAAA","upgrades":[]}"#;
        let text = |head: &[u8]| [head, json].concat();
        let grown = 22;
        let cases = [
            ("v4", text(b"0"), b"0".to_vec()),
            ("v3 text", text(b"41:0"), format!("{}:0", 41 + grown).into_bytes()),
            ("v3 binary", text(&[0, 4, 1, 0xff, b'0']), vec![0, 6, 3, 0xff, b'0']),
        ];
        for (name, body, head) in cases {
            let (sealed, sid) = sealer.handshake(&body).expect(name);
            assert_eq!(sid, "AAAAAAAAAAAAAAAA", "{name}");
            assert!(sealed.starts_with(&head), "{name}: {:?}", &sealed[..8]);
            let want = sealer.seal("AAAAAAAAAAAAAAAA");
            assert!(String::from_utf8_lossy(&sealed).contains(&want), "{name}");
        }
        assert_eq!(sealer.handshake(b"{\"code\":1}"), None);
    }
}
