//! HTTP/1.1, as much of it as handshakes, polling and a server API need.
//!
//! In come the bytes of a stream; out goes one answer, borrowed from them where it came in one piece, and how many bytes
//! it took. Requests are written whole. Redirects, compression and trailers are never asked for.

use std::borrow::Cow;

use super::frame::Broken;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer<'b> {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Cow<'b, [u8]>,
    /// How many bytes of the stream it took.
    pub length: usize,
}

/// Longest head that is taken.
const LONGEST_HEAD: usize = 64 << 10;

/// Longest body that is taken.
const LONGEST_BODY: usize = 64 << 20;

/// The first answer of a stream's bytes; `None` where it is not here whole.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Answer<'_>>, Broken> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > LONGEST_HEAD { Err(Broken) } else { Ok(None) };
    };
    let head = std::str::from_utf8(bytes.get(..end).ok_or(Broken)?).map_err(|_| Broken)?;
    let start = end + 4;
    let rest = bytes.get(start..).ok_or(Broken)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).ok_or(Broken)?;
    let status: u16 = status.get(..3).and_then(|code| code.parse().ok()).ok_or(Broken)?;
    let mut length = None;
    let mut chunked = false;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>().map_err(|_| Broken)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    if chunked {
        let Some((body, used)) = chunks(rest)? else { return Ok(None) };
        return Ok(Some(Answer { status, body: Cow::Owned(body), length: start + used }));
    }
    let length = match (status, length) {
        (101 | 204 | 304, _) => 0,
        (_, Some(length)) if length <= LONGEST_BODY => length,
        // A body that ends with its stream cannot be told from one that is cut.
        (_, Some(_) | None) => return Err(Broken),
    };
    let body = rest.get(..length).map(Cow::Borrowed);
    Ok(body.map(|body| Answer { status, body, length: start + length }))
}

/// A chunked body and the bytes that it took.
fn chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Broken> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let rest = bytes.get(at..).ok_or(Broken)?;
        let Some(end) = memchr::memmem::find(rest, b"\r\n") else { return Ok(None) };
        let size = rest.get(..end).and_then(|size| std::str::from_utf8(size).ok()).ok_or(Broken)?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| Broken)?;
        if body.len().saturating_add(size) > LONGEST_BODY {
            return Err(Broken);
        }
        let from = at + end + 2;
        let Some(chunk) = bytes.get(from..from + size) else { return Ok(None) };
        match bytes.get(from + size..from + size + 2) {
            Some(b"\r\n") => {}
            Some(_) => return Err(Broken),
            None => return Ok(None),
        }
        body.extend_from_slice(chunk);
        at = from + size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
    }
}

/// Writes a request that asks for a WebSocket.
pub(crate) fn upgrade(host: &str, path: &str, out: &mut Vec<u8>) {
    // The key is there against caches that answer what they do not understand; the server's word for it is not
    // checked, since a server that answers 101 and then speaks frames is one.
    out.extend_from_slice(
        format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: bG9hZHRlc3QtbG9hZHRlcw==\r\n\r\n"
        )
        .as_bytes(),
    );
}

/// Writes a request without a body.
pub(crate) fn get(host: &str, path: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n\r\n").as_bytes(),
    );
}

/// Writes a request with a body; `headers` are whole lines.
pub(crate) fn post(host: &str, path: &str, headers: &str, body: &[u8], out: &mut Vec<u8>) {
    let length = body.len();
    out.extend_from_slice(
        format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {length}\r\n\r\n"
        )
        .as_bytes(),
    );
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_whole_or_not_at_all() {
        let cases: [(&str, &[u8], u16, &[u8]); 4] = [
            ("a length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
            (
                "chunks",
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=1\r\nlo\r\n0\r\n\r\n",
                200,
                b"hello",
            ),
            ("an upgrade", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n", 101, b""),
            ("a refusal", b"HTTP/1.1 429 Too Many\r\ncontent-length: 0\r\n\r\n", 429, b""),
        ];
        for (name, bytes, status, body) in cases {
            let answer = decode(bytes).unwrap().unwrap();
            assert_eq!(
                (answer.status, &*answer.body, answer.length),
                (status, body, bytes.len()),
                "{name}"
            );
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), Ok(None), "{name} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let cases: [(&str, &[u8]); 4] = [
            ("not HTTP", b"SSH-2.0\r\n\r\n"),
            ("no length", b"HTTP/1.1 200 OK\r\n\r\n"),
            ("a length that is none", b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"),
            (
                "chunks that are none",
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            ),
        ];
        for (name, bytes) in cases {
            assert_eq!(decode(bytes), Err(Broken), "{name}");
        }
    }
}
