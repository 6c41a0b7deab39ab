//! The tool, run as people run it: its binary, its arguments, its JSON.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

/// Writes a scenario where only this test finds it.
pub(crate) fn scenario(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.toml"));
    std::fs::write(&path, text).expect("the folder for temporary files can be written");
    path
}

/// Runs a scenario against a server; its JSON result and its exit status.
pub(crate) fn run(file: &PathBuf, url: &str, more: &[&str]) -> (Value, i32) {
    let name = file.file_stem().expect("it has a name").to_string_lossy();
    let json = file.with_file_name(format!(
        "{name}-{}.json",
        more.join("").replace(|c: char| !c.is_ascii_alphanumeric(), "_")
    ));
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .arg("run")
        .arg(file)
        .args(["--target", url, "--quiet", "--json"])
        .arg(&json)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("the tool runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let status = output.status.code().unwrap_or_else(|| panic!("{}: {said}", output.status));
    let text = std::fs::read_to_string(&json)
        .unwrap_or_else(|error| panic!("no result ({error}): {said}"));
    let all: Value = serde_json::from_str(&text).expect("the result is JSON");
    (all[0].clone(), status)
}

/// The exit status of any arguments.
pub(crate) fn status(arguments: &[&str]) -> i32 {
    let output =
        Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).stdin(Stdio::null()).output();
    output.expect("the tool runs").status.code().expect("it ends by itself")
}

/// A count of a result.
pub(crate) fn count(report: &Value, name: &str) -> u64 {
    report["tally"]["counts"][name]
        .as_u64()
        .unwrap_or_else(|| panic!("no count is called {name}: {report}"))
}

/// A figure of a result.
pub(crate) fn figure(report: &Value, name: &str) -> f64 {
    report["figures"][name]
        .as_f64()
        .unwrap_or_else(|| panic!("no figure is called {name}: {}", report["figures"]))
}
