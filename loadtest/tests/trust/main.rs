//! Can the tool be trusted? A server that drops, doubles, reorders, delays, refuses and cuts off on purpose, and counts
//! each; the tool's report must say exactly the same.
//!
//! The server's WebSocket is another implementation than the tool's own, so that both cannot be wrong in the same way.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod liar;
mod tool;
mod transports;

use std::time::Duration;

use liar::{Faults, Liar};
use serde_json::Value;
use tool::{count, figure, run, scenario};

const ROOM: &str = r#"
name = "room"
rest = "0s"
warm_up = "0s"
duration = "2s"
settle = "6s"
returns_after = "100ms"
connects_per_second = 200.0
[[group]]
name = "listener"
clients = 12
rooms = 2
[[group.step]]
event = "subscribe"
data = { channel = "{room}" }
[[group]]
name = "talker"
clients = 4
rooms = 2
[[group.step]]
event = "subscribe"
data = { channel = "{room}" }
[[group.send]]
event = "message"
data = { channel = "{room}", text = "{mark}" }
rate = 100.0
to = "others"
"#;

/// The counts that the tool's report must have.
fn assert_counts(report: &Value, want: &[(&str, u64)]) {
    for (name, want) in want {
        assert_eq!(count(report, name), *want, "{name}: {}", report["tally"]["counts"]);
    }
}

/// A message goes to the 6 listeners and the other talker of its room.
const RECEIVERS: u64 = 7;

#[test]
fn an_honest_server_has_nothing_wrong() {
    let liar = Liar::start(Faults::default());
    let (report, status) = run(&scenario("honest", ROOM), &liar.url, &["--fail-if", "lost>0"]);
    let sent = count(&report, "sent");
    assert_eq!(sent, 4 * 200, "every send is on schedule");
    let said = liar.counted();
    assert_counts(
        &report,
        &[
            ("delivered", sent * RECEIVERS),
            ("acked", sent),
            ("lost", 0),
            ("duplicated", 0),
            ("out_of_order", 0),
            ("stray", 0),
            ("refused", 0),
            ("unacked", 0),
            ("disconnected", 0),
            ("reconnected", 0),
            ("connected", 16),
            ("never_connected", 0),
        ],
    );
    assert_eq!(said.delivered, sent * RECEIVERS, "what the server says that it delivered");
    assert_eq!(status, 0);
}

#[test]
fn each_fault_is_reported_with_its_exact_count() {
    let faults = Faults { drop: 50, double: 35, swap: 20, ..Faults::default() };
    for workers in ["1", "3"] {
        let liar = Liar::start(faults);
        let arguments = ["--workers", workers, "--fail-if", "lost>0"];
        let (report, status) = run(&scenario("faults", ROOM), &liar.url, &arguments);
        let said = liar.counted();
        assert!(said.dropped > 10 && said.doubled > 10 && said.swapped > 10, "{said:?}");
        let sent = count(&report, "sent");
        assert_counts(
            &report,
            &[
                ("sent", 800),
                ("lost", said.dropped),
                ("duplicated", said.doubled),
                ("out_of_order", said.swapped),
                ("delivered", sent * RECEIVERS - said.dropped),
                ("acked", sent),
            ],
        );
        assert_eq!(status, 1, "{workers} workers: a threshold does not hold");
    }
}

#[test]
fn acks_that_are_missing_doubled_or_refusals_are_counted() {
    let faults = Faults { no_ack: 40, two_acks: 30, refuse: 25, ..Faults::default() };
    let liar = Liar::start(faults);
    let (report, _) = run(&scenario("acks", ROOM), &liar.url, &[]);
    let said = liar.counted();
    assert!(said.unacked > 5 && said.acked_twice > 5 && said.refused > 5, "{said:?}");
    assert_counts(
        &report,
        &[
            ("unacked", said.unacked),
            ("acked", count(&report, "sent") - said.unacked),
            ("acks_duplicated", said.acked_twice),
            ("refused", said.refused),
            ("lost", 0),
        ],
    );
    assert_eq!(report["tally"]["reasons"]["NOT_TODAY"].as_u64(), Some(said.refused));
}

#[test]
fn connects_that_are_refused_and_connections_that_are_cut_are_counted() {
    let faults = Faults { refuse_connects: 5, cut_after: 120, cuts: 3, ..Faults::default() };
    let liar = Liar::start(faults);
    let (report, _) = run(&scenario("cuts", ROOM), &liar.url, &[]);
    let said = liar.counted();
    assert_eq!((said.connects_refused, said.cut), (5, 3), "{said:?}");
    assert_counts(
        &report,
        &[
            ("connects_refused", 5),
            ("disconnected", 3),
            ("reconnected", 3),
            ("connected", 16),
            ("never_connected", 0),
            ("lost", 0),
            ("duplicated", 0),
        ],
    );
    assert!(count(&report, "missed") > 0, "what was said while they were away");
    assert_eq!(report["tally"]["reasons"]["connect: full"].as_u64(), Some(5));
    let expected = count(&report, "sent") * RECEIVERS;
    let away = count(&report, "missed") + count(&report, "unsent") * RECEIVERS;
    let heard = count(&report, "delivered");
    assert!(
        heard <= expected && heard + away + 3 * 2 * 100 >= expected,
        "{heard} of {expected}, {away} away"
    );
}

#[test]
fn a_stall_is_charged_for_all_who_would_have_waited() {
    let stall = Duration::from_secs(1);
    let liar = Liar::start(Faults { stall: Some((100, stall)), ..Faults::default() });
    let (report, _) = run(&scenario("stall", ROOM), &liar.url, &[]);
    // One second of two was stalled: a quarter of all messages waited for half a second or more.
    let (p50, p90, max) = (figure(&report, "p50"), figure(&report, "p90"), figure(&report, "max"));
    assert!(max >= 950.0, "{max} ms");
    assert!(p90 >= 500.0, "{p90} ms: only what was sent before the stall is timed");
    assert!(p50 < p90, "{p50} ms");
    assert_counts(&report, &[("lost", 0), ("sent", 800)]);
}

#[test]
fn a_delay_is_measured_as_long_as_it_is() {
    let liar = Liar::start(Faults { delay: Duration::from_millis(150), ..Faults::default() });
    let (report, _) = run(&scenario("delay", ROOM), &liar.url, &[]);
    let buckets = report["tally"]["deliveries"].as_array().expect("a histogram");
    let least = buckets.first().and_then(|bucket| bucket[0].as_u64()).expect("a time");
    assert!(least >= 149_800, "{least} us");
    assert_counts(&report, &[("lost", 0), ("out_of_order", 0)]);
}

#[test]
fn the_tool_says_when_it_is_the_limit() {
    let flood = ROOM
        .replace("rate = 100.0", "rate = 500000.0")
        .replace("duration = \"2s\"", "duration = \"300ms\"");
    let flood = flood.replace("to = \"others\"", "to = \"nobody\"\nack = false");
    let liar = Liar::start(Faults { deaf: true, ..Faults::default() });
    let (report, _) = run(&scenario("flood", &flood), &liar.url, &[]);
    let said =
        report["limited"].as_str().unwrap_or_else(|| panic!("not said: {}", report["figures"]));
    assert!(said.contains("the tool"), "{said}");
}

#[test]
fn thresholds_and_mistakes_have_their_exit_status() {
    let liar = Liar::start(Faults::default());
    let file = scenario("status", &ROOM.replace("duration = \"2s\"", "duration = \"200ms\""));
    for (condition, want) in
        [("p99>1h", 0), ("sent>0", 1), ("delivered_per_second<1", 0), ("nonsense>0", 1)]
    {
        let (_, status) = run(&file, &liar.url, &["--fail-if", condition]);
        assert_eq!(status, want, "{condition}");
    }
    for arguments in [&["run"][..], &["run", "echo", "--fail-if", "p99"], &["fly"]] {
        assert_eq!(tool::status(arguments), 2, "{arguments:?}");
    }
    for arguments in
        [&["run", "no-such-scenario", "--target", "http://127.0.0.1:1"][..], &["run", "echo"]]
    {
        assert_eq!(tool::status(arguments), 1, "{arguments:?}");
    }
}
