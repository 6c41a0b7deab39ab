//! Questions to the other pods.
//!
//! In comes a request that was published, out come the answers that arrive in time. The wire says how many
//! must answer, not who: Node's pods stay nameless. Ours put their name into their answers, where Node
//! ignores it, so that of those we can say who was silent. What waits is bounded, in number and in time.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rand::distr::{Alphanumeric, SampleString};
use serde_json::Value as Tree;
use socketioxide_core::Value;
use tokio::{sync::mpsc, time::Instant};

use super::{counters::Counters, wire::Note};

/// Pods that are remembered by name.
const PEERS: usize = 1024;

/// What one pod answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) pod: Option<Box<str>>,
    pub(crate) said: Said,
}

#[derive(Debug)]
pub(crate) enum Said {
    /// The list, or the value, that was asked for.
    Tree(Tree),
    /// How many connections will acknowledge.
    Clients(u64),
    /// What one of them acknowledged.
    Ack(Value),
}

/// Answers of the cluster, this pod's own included where it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Gathered<T> {
    /// What was answered, by whoever was in time.
    pub items: Vec<T>,
    /// How many pods did not answer in time. One, where not even their number could be found out.
    pub missing: usize,
    /// Pods that are known to answer and did not: among them are the missing ones, unless those are
    /// Node's, which have no names.
    pub silent: Vec<String>,
}

/// The questions that wait for answers.
pub(crate) struct Asks {
    waiting: Mutex<HashMap<Box<str>, mpsc::Sender<Answer>>>,
    /// Names of our own pods that have answered before.
    peers: Mutex<HashSet<Box<str>>>,
    most: usize,
    answers: usize,
    counters: Arc<Counters>,
}

impl Asks {
    pub(crate) fn new(most: usize, answers: usize, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            peers: Mutex::default(),
            most,
            answers,
            counters,
        })
    }

    /// Makes room for the answers to a question, unless too many wait already.
    pub(crate) fn open(self: &Arc<Self>) -> Option<Ask> {
        let id = Alphanumeric.sample_string(&mut rand::rng(), 20);
        let (sender, receiver) = mpsc::channel(self.answers);
        let mut waiting = self.waiting.lock();
        if waiting.len() >= self.most {
            return None;
        }
        waiting.insert(id.clone().into(), sender);
        drop(waiting);
        self.counters.asked.one();
        Some(Ask { id, receiver, asks: self.clone(), named: HashSet::new() })
    }

    /// Whether anybody waits for answers to this question.
    pub(crate) fn awaits(&self, id: &str) -> bool {
        self.waiting.lock().contains_key(id)
    }

    /// Hands an answer to whoever asked.
    pub(crate) fn answer(&self, note: &Note, said: Said) {
        let pod = note.text("pod").map(Box::from);
        let sender = note.text("requestId").and_then(|id| self.waiting.lock().get(id).cloned());
        let taken = sender.is_some_and(|sender| sender.try_send(Answer { pod, said }).is_ok());
        if !taken {
            self.counters.late.one();
        }
    }
}

/// One question.
pub(crate) struct Ask {
    pub(crate) id: String,
    receiver: mpsc::Receiver<Answer>,
    asks: Arc<Asks>,
    named: HashSet<Box<str>>,
}

impl Ask {
    /// The next answer, if one comes in time.
    pub(crate) async fn next(&mut self, deadline: Instant) -> Option<Said> {
        let answer = tokio::time::timeout_at(deadline, self.receiver.recv()).await.ok()??;
        if let Some(pod) = answer.pod {
            self.named.insert(pod);
        }
        Some(answer.said)
    }

    /// Gathers an answer of each of so many pods.
    pub(crate) async fn gather(mut self, pods: Option<usize>, timeout: Duration) -> Gathered<Tree> {
        let mut gathered = Gathered { items: Vec::new(), missing: 1, silent: Vec::new() };
        let deadline = Instant::now() + timeout;
        let Some(pods) = pods else {
            gathered.silent = self.close(gathered.missing);
            return gathered;
        };
        let mut answers = 0;
        while answers < pods {
            match self.next(deadline).await {
                Some(Said::Tree(tree)) => {
                    gathered.items.push(tree);
                    answers += 1;
                }
                Some(Said::Clients(_) | Said::Ack(_)) => {}
                None => break,
            }
        }
        gathered.missing = pods - answers;
        gathered.silent = self.close(gathered.missing);
        gathered
    }

    /// Ends the question. Says which of the pods known by name were silent, and remembers those that
    /// were not; where nobody is missing, the silent ones are gone and forgotten.
    pub(crate) fn close(self, missing: usize) -> Vec<String> {
        let mut peers = self.asks.peers.lock();
        let mut silent = Vec::new();
        if missing == 0 {
            peers.clear();
        } else {
            self.asks.counters.partial.one();
            silent.extend(peers.difference(&self.named).map(ToString::to_string));
            silent.sort();
        }
        for pod in &self.named {
            if peers.len() < PEERS {
                peers.insert(pod.clone());
            }
        }
        silent
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        self.asks.waiting.lock().remove(self.id.as_str());
    }
}
