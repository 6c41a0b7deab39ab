//! The query of an Engine.IO request: only what the edge needs of it.

/// The value of a key.
pub(super) fn find<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key))
        .map(|(_, v)| v)
}

/// The query with another value for a key.
pub(super) fn replace(query: &str, key: &str, value: &str) -> String {
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if name == key => format!("{name}={value}"),
        Some(_) | None => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_and_replaces() {
        let query = "EIO=4&transport=polling&sid=abc&t=x";
        assert_eq!(find(query, "sid"), Some("abc"));
        assert_eq!(find(query, "id"), None);
        assert_eq!(find("", "sid"), None);
        assert_eq!(replace(query, "sid", "z"), "EIO=4&transport=polling&sid=z&t=x");
        assert_eq!(replace("sid", "sid", "z"), "sid", "a key without a value stays");
    }
}
