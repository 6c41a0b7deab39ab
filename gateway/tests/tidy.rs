//! What a compiler does not check: the invariants of ARCHITECTURE.md that can be read off the sources,
//! and documents that must not be out of date.
#![expect(clippy::expect_used, reason = "a test that cannot read its sources has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("in a workspace").to_owned()
}

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<(String, String)>) {
        for entry in fs::read_dir(dir).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("text");
                found.push((path.display().to_string(), text));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("gateway/src"), &mut found);
    assert!(found.len() > 50, "the sources are where they are looked for");
    found
}

/// What is before a file's own tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or_default()
}

#[test]
fn every_file_says_what_it_is() {
    for (file, text) in sources() {
        assert!(text.starts_with("//!"), "{file} does not begin with //!");
    }
}

#[test]
fn only_the_wire_names_the_library() {
    for (file, text) in sources() {
        let names = code(&text)
            .lines()
            .any(|line| !line.trim_start().starts_with("//") && line.contains("socketioxide"));
        assert!(!names || file.contains("/src/wire/"), "{file} names the Socket.IO library");
    }
}

#[test]
fn no_application_occurs_in_the_core() {
    let names: Vec<&str> = gateway::contract::BUILT_IN.demo.iter().map(|(name, _)| *name).collect();
    for (file, text) in sources() {
        if file.ends_with("/tests.rs") {
            continue;
        }
        for name in &names {
            let quoted = format!("\"{name}\"");
            assert!(!code(&text).contains(&quoted), "{file} names the application {name}");
        }
    }
}

#[test]
fn the_configuration_reference_is_fresh() {
    let written = fs::read_to_string(root().join("docs/config.md")).expect("docs/config.md");
    let fresh = gateway::config::markdown();
    assert_eq!(
        written.trim_end(),
        fresh.trim_end(),
        "run: cargo run -- default-config --markdown > docs/config.md"
    );
}

#[test]
fn the_openapi_document_is_whole() {
    let document = gateway::api::openapi();
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap_or_default();
        assert!(document.pointer(pointer).is_some(), "{pointer} is not in the document");
    }
}
