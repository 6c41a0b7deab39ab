//! The example of the README, as two processes.

use std::{path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    harness::{Node, soon},
    redis_server::Server,
};

/// Where cargo puts examples: beside the folder of this test's binary.
fn chat() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(|folder| folder.parent()).unwrap();
    folder.join("examples/chat")
}

/// Starts one; gives its port.
async fn start(server: &Server) -> (Child, Value) {
    let mut child = Command::new(chat())
        .args([server.config.url.reveal(), "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    loop {
        let line = soon("the example begins", lines.next_line()).await.unwrap();
        let line = line.expect("the example lives");
        assert_ne!(line, "redis is away");
        if let Some(address) = line.strip_prefix("listening on ") {
            let (_, port) = address.rsplit_once(':').unwrap();
            return (child, port.parse::<u16>().unwrap().into());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_is_a_chat_over_pods() {
    let server = Server::start().await;
    let ((_one, first), (_other, second)) = (start(&server).await, start(&server).await);
    let node = Node::start(&server);
    let port = node.serve("stock", "{}").await;
    let id = node.join("a", &first).await;
    node.join("b", &second).await;
    node.join("n", &port).await;
    for client in ["a", "b"] {
        let joined = format!("return clients.{client}.socket.emitWithAck('join', 'tea')");
        assert_eq!(node.run(&joined).await, true, "{client} is reached by the cluster");
    }
    node.run("await clients.n.socket.emitWithAck('join', 'tea')").await;
    node.run("clients.a.socket.emit('say', 'tea', 'hello')").await;
    for client in ["a", "b", "n"] {
        let said = format!("return until('{client}', 'said')");
        assert_eq!(node.run(&said).await, json!([["said", id, "hello"]]), "{client}");
    }
}
