//! The query of an Engine.IO request: only what the edge needs of it.

/// The value of a key.
pub(super) fn find<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query
        .split('&')
        .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key))
        .map(|(_, v)| v)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds() {
        let query = "EIO=4&transport=polling&sid=abc&t=x";
        assert_eq!(find(query, "sid"), Some("abc"));
        assert_eq!(find(query, "id"), None);
        assert_eq!(find("", "sid"), None);
    }
}
