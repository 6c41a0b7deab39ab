//! The adapter in a cluster with the stock packages of npm and of Python, on a real Redis.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod harness;
mod broadcasts;
mod requests;
mod emitters;
mod outages;
mod subscriptions;
mod example;

#[expect(dead_code, reason = "the tests of the state need more of it than these")]
#[path = "../state/harness.rs"]
mod redis_server;

#[test]
fn the_example_of_the_readme_is_the_one_that_is_compiled() {
    let readme = include_str!("../../README.md");
    let example = include_str!("../../examples/chat.rs");
    assert!(readme.contains(example), "README.md shows another examples/chat.rs");
}
