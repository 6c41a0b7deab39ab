//! What keys are called.
//!
//! In come namespaces, collections and keys, some of them chosen by peers; out come key names. Every
//! name begins with the prefix, so that one ACL pattern covers them, and carries a hash tag, so that all
//! keys of one script are in one slot of a Redis Cluster.

/// Makes the names of keys under one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The set of namespaces in which anybody ever held anything.
    pub(crate) fn namespaces(&self) -> String {
        format!("{}:namespaces", self.prefix)
    }

    /// What all keys of a namespace's holds begin with.
    pub(crate) fn holds(&self, namespace: &str) -> String {
        format!("{}:{{{}}}", self.prefix, tag(namespace))
    }

    /// The deadlines of a collection's documents.
    pub(crate) fn collection(&self, collection: &str) -> String {
        format!("{}:docs:{{{}}}", self.prefix, tag(collection))
    }

    pub(crate) fn document(&self, collection: &str, id: &str) -> String {
        format!("{}:doc:{{{}}}:{id}", self.prefix, tag(collection))
    }

    /// Who has the turn, the line for it, and who of the line asked lately.
    pub(crate) fn turn(&self, key: &str) -> [String; 3] {
        let turn = format!("{}:turn:{{{}}}", self.prefix, tag(key));
        [turn.clone(), format!("{turn}:line"), format!("{turn}:seen")]
    }

    /// A token bucket. All are in one slot, because any of them may be charged together.
    pub(crate) fn bucket(&self, bucket: &str) -> String {
        format!("{}:{{charge}}:{bucket}", self.prefix)
    }

    pub(crate) fn reply(&self, key: &str) -> String {
        format!("{}:reply:{{{}}}", self.prefix, tag(key))
    }
}

/// A hash tag ends at the first closing brace, and an empty one is none.
fn tag(text: &str) -> String {
    if text.is_empty() {
        return "%".to_owned();
    }
    text.replace('%', "%25").replace('}', "%7D")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Redis Cluster hashes of a key.
    fn hashed(key: &str) -> &str {
        let Some(open) = key.find('{') else { return key };
        let Some(length) = key[open + 1..].find('}') else { return key };
        if length == 0 { key } else { &key[open + 1..open + 1 + length] }
    }

    #[test]
    fn names_share_a_slot_and_are_told_apart() {
        let names = Names::new("gateway");
        let mut seen = std::collections::HashSet::new();
        for text in ["", "%", "a", "}", "{", "{}", "a}b", "a%7Db", "a:b", "/codx"] {
            let [turn, line, asked] = names.turn(text);
            let tag = hashed(&turn).to_owned();
            assert!(!tag.starts_with("gateway"), "{text:?} has a tag of its own: {turn}");
            assert_eq!((hashed(&line), hashed(&asked)), (&*tag, &*tag), "{text:?}");
            assert_eq!(
                hashed(&names.collection(text)),
                hashed(&names.document(text, "}{")),
                "{text:?}"
            );
            assert!(turn.starts_with("gateway:"), "{text:?}");
            assert!(seen.insert(turn), "{text:?} has the name of another");
        }
    }
}
