//! Every way to connect, against a real server: the plain one of the library below the gateway.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use crate::tool::{count, run, scenario};

const CHATTER: &str = r#"
name = "chatter"
rest = "0s"
warm_up = "0s"
duration = "2s"
[[group]]
name = "member"
clients = 10
rooms = 2
[[group.step]]
event = "subscribe"
data = { channel = "{room}" }
[group.cycle]
rate = 1.0
leave = [{ event = "unsubscribe", data = { channel = "{room}" } }]
join = [{ event = "subscribe", data = { channel = "{room}" } }]
[[group]]
name = "talker"
clients = 2
rooms = 2
[[group.step]]
event = "subscribe"
data = { channel = "{room}" }
[[group.send]]
event = "message"
data = { channel = "{room}", text = "{mark}" }
rate = 20.0
to = "others"
[[group.send]]
event = "message"
data = { channel = "{room}", text = "{mark}", file = "{bytes}" }
bytes = 3000
rate = 5.0
to = "others"
"#;

/// A server that ends with the test.
struct Server(Child, String);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_plain-socketioxide"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("its output is piped");
        BufReader::new(out).read_line(&mut line).expect("it says where it listens");
        let addr =
            line.trim().strip_prefix("ready public=").expect("it says where it listens").to_owned();
        Self(child, format!("http://{addr}"))
    }
}

#[test]
fn every_transport_delivers_text_and_binary_whole() {
    let server = Server::start();
    for transport in ["websocket", "polling", "upgrade"] {
        let file = scenario(&format!("chatter-{transport}"), CHATTER);
        let pid = server.0.id().to_string();
        let change = format!("transport={transport}");
        let (report, status) = run(&file, &server.1, &["--set", &change, "--pid", &pid]);
        assert_eq!(status, 0, "{transport}");
        let counts = &report["tally"]["counts"];
        assert_eq!(count(&report, "connected"), 12, "{transport}: {counts}");
        assert_eq!(count(&report, "sent"), 2 * 2 * 25, "{transport}: {counts}");
        assert_eq!(count(&report, "acked"), count(&report, "sent"), "{transport}: {counts}");
        for wrong in [
            "lost",
            "duplicated",
            "refused",
            "unacked",
            "disconnected",
            "connects_refused",
            "missed",
        ] {
            assert_eq!(count(&report, wrong), 0, "{wrong} over {transport}: {counts}");
        }
        // Whoever is away for a moment hears less, nobody hears more.
        let most = count(&report, "sent") * 5;
        let heard = count(&report, "delivered") + count(&report, "stray");
        assert!(heard <= most && heard > most / 2, "{heard} of {most} over {transport}: {counts}");
        assert!(count(&report, "steps") >= 12 + 2 * 10 * 2, "{transport}: {counts}");
        assert!(
            report["resources"]["to"]["cpu"].as_u64()
                > report["resources"]["before"]["cpu"].as_u64(),
            "{transport}"
        );
    }
}

#[test]
fn the_report_is_one_page_that_needs_nothing_else() {
    let server = Server::start();
    let file = scenario("page", CHATTER);
    let page = file.with_extension("html");
    let path = page.to_string_lossy().into_owned();
    let (_, status) = run(&file, &server.1, &["--set", "duration=1s", "--html", &path]);
    assert_eq!(status, 0);
    let html = std::fs::read_to_string(&page).expect("the page is written");
    for part in
        ["Latency over time", "Latency by percentile", "Throughput", "<svg", "chatter", "</html>"]
    {
        assert!(html.contains(part), "{part}");
    }
    for part in ["http://", "https://", "<script", "NaN", "url("] {
        let rest = html.replace(&server.1, "");
        assert!(!rest.contains(part), "{part}");
    }
}
