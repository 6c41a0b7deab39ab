//! `image`, `file`, `expect`: values that come from elsewhere and are checked before they are used.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::{Flow, Stopped};
use crate::{
    contract::{Expect, ImageStep, Template},
    refusal::{Code, Refusal},
};

/// A file with more than this is not read.
const FILE_BYTES: u64 = 16 * 1024 * 1024;

/// How images begin, and what they are then.
const IMAGES: [(&[u8], &str); 5] = [
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"RIFF", "webp"),
];

pub(super) fn image(flow: &mut Flow, step: &ImageStep) -> Result<(), Stopped> {
    let text = step.data.fill_text(flow).unwrap_or_default();
    let most = step.max_bytes.fill(flow).as_u64().and_then(|most| usize::try_from(most).ok());
    let (kind, bytes) = check_image(&text, most.unwrap_or(usize::MAX))?;
    flow.bind("image", json!({"type": kind, "bytes": bytes}));
    Ok(())
}

/// What an image is, and its size.
fn check_image(text: &str, most: usize) -> Result<(&'static str, usize), Refusal> {
    let base64 = match text.split_once(";base64,") {
        Some((head, rest)) if head.starts_with("data:") => rest,
        Some(_) | None => text,
    };
    if base64.len() / 4 * 3 > most.saturating_add(2) {
        return Err(Refusal::new(Code::TooLarge, format!("an image has {most} bytes at most")));
    }
    let bad = || Refusal::new(Code::BadPayload, "image must be base64 of a PNG, JPEG, GIF or WebP");
    let bytes = BASE64_STANDARD.decode(base64.trim()).map_err(|_| bad())?;
    if bytes.len() > most {
        return Err(Refusal::new(Code::TooLarge, format!("an image has {most} bytes at most")));
    }
    let (_, kind) =
        IMAGES.into_iter().find(|(start, _)| bytes.starts_with(start)).ok_or_else(bad)?;
    if kind == "webp" && bytes.get(8..12) != Some(b"WEBP") {
        return Err(bad());
    }
    Ok((kind, bytes.len()))
}

/// Reads records: a JSON array, or a JSON object a line.
pub(super) async fn file(flow: &mut Flow, path: &Template) -> Result<(), Stopped> {
    let unavailable = |message: &str| Refusal::new(Code::Unavailable, message);
    let path = path.fill_text(flow).unwrap_or_default();
    let file = tokio::fs::File::open(&path).await.map_err(|error| {
        tracing::warn!(path, %error, "a contract's file cannot be read");
        unavailable("the log file is missing")
    })?;
    let mut text = String::new();
    let read = file.take(FILE_BYTES + 1).read_to_string(&mut text).await;
    let too_long = u64::try_from(text.len()).is_ok_and(|length| length > FILE_BYTES);
    let records = records(&text).filter(|_| read.is_ok() && !too_long);
    let records = records.ok_or_else(|| unavailable("the log file is not valid"))?;
    flow.bind("records", Value::from(records));
    Ok(())
}

fn records(text: &str) -> Option<Vec<Value>> {
    if let Ok(Value::Array(records)) = serde_json::from_str(text) {
        return Some(records);
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).ok().filter(Value::is_object)).collect()
}

pub(super) fn expect(flow: &mut Flow, expect: &Expect) -> Result<(), Stopped> {
    let value = expect.value.fill(flow);
    let good = match expect.shape.as_deref() {
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some("string") => value.is_string(),
        Some(_) | None => !value.is_null(),
    };
    if good { Ok(()) } else { Err(Refusal::new(Code::Unavailable, expect.message.clone()).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        let encode = |bytes: &[u8]| BASE64_STANDARD.encode(bytes);
        let png = encode(b"\x89PNG\r\n\x1a\n1234");
        let cases = [
            ("png", png.clone(), 100, Ok("png")),
            ("data url", format!("data:image/png;base64,{png}"), 100, Ok("png")),
            ("jpeg", encode(b"\xff\xd8\xff\xe0"), 100, Ok("jpeg")),
            ("gif", encode(b"GIF89a.."), 100, Ok("gif")),
            ("webp", encode(b"RIFF0000WEBPVP8 "), 100, Ok("webp")),
            ("wav", encode(b"RIFF0000WAVEfmt "), 100, Err(Code::BadPayload)),
            ("text", encode(b"hello"), 100, Err(Code::BadPayload)),
            ("not base64", "%%%".to_owned(), 100, Err(Code::BadPayload)),
            ("empty", String::new(), 100, Err(Code::BadPayload)),
            ("at the limit", png.clone(), 12, Ok("png")),
            ("over it", png, 11, Err(Code::TooLarge)),
        ];
        for (name, text, most, want) in cases {
            let got =
                check_image(&text, most).map(|(kind, _)| kind).map_err(|refusal| refusal.code);
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn files() {
        let cases = [
            ("array", "[{\"a\":1}]", Some(1)),
            ("lines", "{\"a\":1}\n\n{\"a\":2}\n", Some(2)),
            ("empty", "", Some(0)),
            ("broken", "{\"a\":", None),
            ("scalars", "1\n2\n", None),
        ];
        for (name, text, want) in cases {
            assert_eq!(records(text).map(|records| records.len()), want, "{name}");
        }
    }
}
