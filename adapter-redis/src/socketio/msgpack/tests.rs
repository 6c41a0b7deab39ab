//! Values in both forms: what the stock parser writes, what it reads, and whatever else there may be.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn encode(text: &str, attachments: &[&'static [u8]]) -> Result<Bytes, Malformed> {
    let mut writer = Writer::default();
    let attachments = attachments.iter().map(|bytes| Bytes::from_static(bytes)).collect();
    writer.json(text, &attachments)?;
    Ok(writer.into_bytes())
}

fn decode(bytes: &Bytes) -> Result<Json, Malformed> {
    let mut reader = Reader::new(bytes);
    let json = reader.json()?;
    reader.finish()?;
    Ok(json)
}

/// Both ways.
#[test]
fn values_are_written_and_read_as_node_does() {
    let long = format!("\"{}\"", "x".repeat(300));
    let many = format!("[{}]", vec!["0"; 16].join(","));
    let cases = [
        ("null", "c0"),
        ("true", "c3"),
        ("false", "c2"),
        ("0", "00"),
        ("127", "7f"),
        ("128", "cc80"),
        ("256", "cd0100"),
        ("65536", "ce00010000"),
        ("4294967296", "cf0000000100000000"),
        ("18446744073709551615", "cfffffffffffffffff"),
        ("-1", "ff"),
        ("-32", "e0"),
        ("-33", "d0df"),
        ("-128", "d080"),
        ("-129", "d1ff7f"),
        ("-32769", "d2ffff7fff"),
        ("-2147483649", "d3ffffffff7fffffff"),
        ("1.5", "cb3ff8000000000000"),
        ("\"a\"", "a161"),
        ("\"\\n\\\"\\\\\\u0001é\"", "a60a225c01c3a9"),
        (&long, &format!("da012c{}", "78".repeat(300))),
        ("[]", "90"),
        ("[1,[2],{}]", "93 01 9102 80"),
        (&many, &format!("dc0010{}", "00".repeat(16))),
        ("{\"a\":{\"b\":true}}", "81 a161 81 a162 c3"),
    ];
    for (text, hex) in cases {
        let bytes = unhex(hex);
        assert_eq!(encode(text, &[]), Ok(bytes.clone()), "{text} is written");
        assert_eq!(decode(&bytes).map(|json| json.text), Ok(text.to_owned()), "{hex} is read");
    }
}

#[test]
fn numbers_are_written_as_javascript_has_them() {
    let cases = [
        ("1.0", "01"),
        ("-0.0", "00"),
        ("-3.0", "fd"),
        ("1e3", "cd03e8"),
        ("1e19", "cf8ac7230489e80000"),
        ("1e300", "cb7e37e43c8800759c"),
        ("123456789012345678901", "cb441ac53a7e04bcda"),
    ];
    for (text, hex) in cases {
        assert_eq!(encode(text, &[]), Ok(unhex(hex)), "{text}");
    }
}

/// What others write, and Node reads.
#[test]
fn other_forms_are_read() {
    let cases = [
        ("cb4000000000000000", "2"),
        ("ca3fc00000", "1.5"),
        ("cb7ff8000000000000", "null"),
        ("cb7ff0000000000000", "null"),
        ("da000161", "\"a\""),
        ("dc000101", "[1]"),
        ("dd0000000101", "[1]"),
        ("df00000001a16101", "{\"a\":1}"),
        ("810501", "{\"5\":1}"),
        ("81c001", "{\"null\":1}"),
        ("d60000000000", "{\"_placeholder\":true,\"num\":0}"),
        ("d40000", "null"),
        ("d6ff00000000", "\"1970-01-01T00:00:00.000Z\""),
        ("d7ff08583b00651d5f80", "\"2023-10-04T12:50:08.035Z\""),
        ("c70cff00000000ffffffffffffffff", "\"1969-12-31T23:59:59.000Z\""),
        ("d40507", "[5,{\"_placeholder\":true,\"num\":0}]"),
        ("a2ff61", "\"\u{fffd}a\""),
    ];
    for (hex, want) in cases {
        let read = decode(&unhex(hex)).map(|json| json.text);
        assert_eq!(read.as_deref(), Ok(want), "{hex}");
    }
}

#[test]
fn attachments_stand_in_their_places() {
    let placeholder = |n| format!("{{\"_placeholder\":true,\"num\":{n}}}");
    let (zero, one) = (placeholder(0), placeholder(1));
    let text = format!("[\"e\",{zero},{{\"x\":{one}}}]");
    let bytes = unhex("93 a165 c403010203 81 a178 c4020908");
    assert_eq!(encode(&text, &[&[1, 2, 3], &[9, 8]]), Ok(bytes.clone()));
    let read = decode(&bytes).unwrap();
    assert_eq!(read.text, text);
    assert_eq!(read.attachments, [&[1, 2, 3][..], &[9, 8]]);

    let swapped = format!("[{one},{zero},{zero}]");
    assert_eq!(encode(&swapped, &[&[1], &[2]]), Ok(unhex("93 c40102 c40101 c40101")));
    let reversed = "[{\"num\":0,\"_placeholder\":true}]";
    assert_eq!(encode(reversed, &[&[1]]), Ok(unhex("91 c40101")));
    let none = encode(&zero, &[]).unwrap();
    assert_eq!(decode(&none).unwrap().text, zero, "without attachments it is a map as any other");
    assert!(encode(&one, &[&[1]]).is_err(), "a placeholder of no attachment");
}

#[test]
fn what_cannot_be_read_is_refused() {
    let deep = "91".repeat(200) + "00";
    let bins = format!("dc{:04x}{}", 10_001, "c400".repeat(10_001));
    let cases = [
        ("", Malformed::Truncated),
        ("c1", Malformed::Unreadable),
        ("a5 6161", Malformed::Truncated),
        ("dfffffffff", Malformed::Truncated),
        ("ddffffffff", Malformed::Truncated),
        ("c6ffffffff00", Malformed::Truncated),
        ("c0c0", Malformed::Trailing),
        ("819001", Malformed::Shape("key of a map")),
        (&deep, Malformed::Excessive),
        (&bins, Malformed::Excessive),
    ];
    for (hex, want) in cases {
        assert_eq!(decode(&unhex(hex)), Err(want), "{}", hex.get(..20).unwrap_or(hex));
    }
    let mut reader_of_depth = vec![0x91; 1_000_000];
    reader_of_depth.push(0);
    let bytes = Bytes::from(reader_of_depth);
    assert_eq!(Reader::new(&bytes).skip(), Ok(()), "passing over takes no stack");
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f32>().prop_map(|n| (f64::from(n) + 0.5).into()),
        ".{0,40}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 80, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Into::into),
            prop::collection::hash_map(".{0,6}", inner, 0..20)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_comes_back_as_it_was(value in json()) {
        let bytes = encode(&value.to_string(), &[]).unwrap();
        let back: serde_json::Value = serde_json::from_str(&decode(&bytes).unwrap().text).unwrap();
        // Whole floats come back as whole numbers.
        prop_assert_eq!(normal(back), normal(value));
    }

    #[test]
    fn no_bytes_panic_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        if let Ok(json) = decode(&bytes) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&json.text).is_ok());
        }
        let _ = Reader::new(&bytes).skip();
    }
}

fn normal(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Number(n) => n.as_f64().map_or(serde_json::Value::Null, Into::into),
        serde_json::Value::Array(items) => items.into_iter().map(normal).collect(),
        serde_json::Value::Object(entries) => {
            entries.into_iter().map(|(key, value)| (key, normal(value))).collect()
        }
        other => other,
    }
}
