//! How many calls run and wait, in which order, and when they are not made at all.

use tokio::sync::Semaphore;

use super::*;

/// A server that says which event came, and answers when it is let.
async fn gated() -> (String, mpsc::Receiver<String>, Arc<Semaphore>) {
    let (seen, received) = mpsc::channel(100);
    let gate = Arc::new(Semaphore::new(0));
    let opener = Arc::clone(&gate);
    let url = serve(move |request| {
        let (seen, gate) = (seen.clone(), Arc::clone(&gate));
        async move {
            let event = request.json()["event"].as_str().unwrap().to_owned();
            seen.send(event).await.unwrap();
            gate.acquire().await.unwrap().forget();
            ok()
        }
    })
    .await;
    (url, received, opener)
}

fn narrow(url: &str, queue: u32) -> UpstreamConfig {
    let max_in_flight = std::num::NonZeroU32::MIN;
    UpstreamConfig { max_in_flight, queue, ..config(url) }
}

async fn soon(received: &mut mpsc::Receiver<String>) -> String {
    timeout(SOON, received.recv()).await.expect("a request").expect("the server is up")
}

#[tokio::test]
async fn places_are_taken_by_the_call_and_served_in_order() {
    let (url, mut received, gate) = gated().await;
    let (upstreams, registry) = build(narrow(&url, 2)).unwrap();
    let app = upstreams.get(APP).unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|event| app.call(call(event)));
    assert_eq!(counted(&registry, "gateway_upstream_in_flight", &["app"]), "1");
    assert_eq!(counted(&registry, "gateway_upstream_waiting", &["app"]), "2");
    let refused = all(app.call(call("d"))).await;
    assert_eq!(refused, [Err(Failure::Unavailable(Reason::QueueFull))]);
    // They are waited for in the other order, and served in that of the calls all the same.
    let endings = [c, b, a].map(|answers| tokio::spawn(ending(answers)));
    for event in ["a", "b", "c"] {
        assert_eq!(soon(&mut received).await, event);
        assert!(received.try_recv().is_err(), "one at a time");
        gate.add_permits(1);
    }
    for ending in endings {
        assert_eq!(ending.await.unwrap(), "ok");
    }
    assert_eq!(counted(&registry, "gateway_upstream_in_flight", &["app"]), "0");
    assert_eq!(counted(&registry, "gateway_upstream_waiting", &["app"]), "0");
    assert_eq!(counted(&registry, "gateway_upstream_calls_total", &["app", "ok"]), "3");
    assert_eq!(counted(&registry, "gateway_upstream_calls_total", &["app", "queue_full"]), "1");
}

#[tokio::test]
async fn dropped_answers_free_the_slot_and_the_place() {
    let (url, mut received, gate) = gated().await;
    let (upstreams, registry) = build(narrow(&url, 1)).unwrap();
    let app = upstreams.get(APP).unwrap();
    let mut running = app.call(call("a"));
    tokio::select! {
        _ = running.next() => panic!("the gate is shut"),
        event = soon(&mut received) => assert_eq!(event, "a"),
    }
    let waiting = app.call(call("b"));
    assert_eq!(ending(app.call(call("c"))).await, "UNAVAILABLE");
    drop(waiting);
    let waiting = app.call(call("d"));
    drop(running);
    let ending = tokio::spawn(ending(waiting));
    assert_eq!(soon(&mut received).await, "d");
    gate.add_permits(2);
    assert_eq!(ending.await.unwrap(), "ok");
    assert_eq!(counted(&registry, "gateway_upstream_calls_total", &["app", "cancelled"]), "2");
    assert!(app.healthy(), "a call that was given up is no failure");
}

#[tokio::test]
async fn a_slot_is_free_once_the_only_part_is_handed_out() {
    let (url, _received) = serve_in_turn(vec![(200, "application/json", "{}")]).await;
    let upstream = upstream(narrow(&url, 0));
    let mut first = upstream.call(call("a"));
    assert!(matches!(next(&mut first).await, Some(Ok(_))));
    assert_eq!(ending(upstream.call(call("b"))).await, "ok", "while the first is still held");
    assert_eq!(next(&mut first).await, None);
}

/// A server that answers with what stands in the cell, and counts.
async fn moody() -> (String, Arc<parking_lot::Mutex<(u16, usize)>>) {
    let mood = Arc::new(parking_lot::Mutex::new((500, 0)));
    let shared = Arc::clone(&mood);
    let url = serve(move |_| {
        let mut mood = shared.lock();
        mood.1 += 1;
        let status = mood.0;
        async move { reply(status, "application/json", r#"{"error": {"code": "CONFLICT"}}"#) }
    })
    .await;
    (url, mood)
}

/// Moves the runtime's clock; nothing is under way that the jump could time out.
async fn later(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

#[tokio::test]
async fn the_breaker_opens_refuses_at_once_and_recovers_with_one_probe() {
    let (url, mood) = moody().await;
    let (upstreams, registry) = build(config(&url)).unwrap();
    let app = upstreams.get(APP).unwrap();
    for _ in 0..4 {
        assert_eq!(ending(app.call(call("e"))).await, "UNAVAILABLE");
    }
    assert!(app.healthy());
    assert_eq!(ending(app.call(call("e"))).await, "UNAVAILABLE");
    assert!(!app.healthy(), "five in a row");
    assert_eq!(counted(&registry, "gateway_upstream_breaker_open", &["app"]), "1");
    let refused = all(app.call(call("e"))).await;
    assert_eq!(refused, [Err(Failure::Unavailable(Reason::BreakerOpen))]);
    assert_eq!(mood.lock().1, 5, "an open breaker asks nobody");

    later(Duration::from_secs(5)).await;
    assert_eq!(ending(app.call(call("e"))).await, "UNAVAILABLE", "the probe fails");
    assert_eq!(ending(app.call(call("e"))).await, "UNAVAILABLE");
    assert_eq!(mood.lock().1, 6, "one probe");

    later(Duration::from_secs(5)).await;
    mood.lock().0 = 409;
    assert_eq!(ending(app.call(call("e"))).await, "CONFLICT", "a refusal shows that it is well");
    assert!(app.healthy());
    assert_eq!(counted(&registry, "gateway_upstream_breaker_open", &["app"]), "0");
    assert_eq!(counted(&registry, "gateway_upstream_calls_total", &["app", "breaker_open"]), "2");
    assert_eq!(counted(&registry, "gateway_upstream_calls_total", &["app", "unavailable"]), "6");
}

#[tokio::test]
async fn refusals_never_open_the_breaker() {
    let (url, mood) = moody().await;
    mood.lock().0 = 409;
    let upstream = upstream(config(&url));
    for _ in 0..20 {
        assert_eq!(ending(upstream.call(call("e"))).await, "CONFLICT");
    }
    assert!(upstream.healthy());
}

#[tokio::test]
async fn calls_in_line_are_refused_when_the_breaker_opens() {
    let (url, mood) = moody().await;
    let breaker_failures = std::num::NonZeroU32::MIN;
    let upstream = upstream(UpstreamConfig { breaker_failures, ..narrow(&url, 2) });
    let [first, second, third] = ["a", "b", "c"].map(|event| upstream.call(call(event)));
    assert_eq!(ending(first).await, "UNAVAILABLE");
    let refused = [Err(Failure::Unavailable(Reason::BreakerOpen))];
    assert_eq!(all(second).await, refused);
    assert_eq!(all(third).await, refused);
    assert_eq!(mood.lock().1, 1);
}

#[tokio::test]
async fn only_one_probe_is_out_and_the_others_do_not_wait_for_it() {
    let (seen, mut received) = mpsc::channel(10);
    let answered = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&answered);
    let url = serve(move |request| {
        let (seen, gate) = (seen.clone(), Arc::clone(&gate));
        async move {
            if request.json()["event"] == "broken" {
                return reply(500, "text/plain", "");
            }
            seen.send(()).await.unwrap();
            gate.acquire().await.unwrap().forget();
            ok()
        }
    })
    .await;
    let breaker_failures = std::num::NonZeroU32::MIN;
    let upstream = upstream(UpstreamConfig { breaker_failures, ..config(&url) });
    assert_eq!(ending(upstream.call(call("broken"))).await, "UNAVAILABLE");
    later(Duration::from_secs(5)).await;
    let probe = tokio::spawn(ending(upstream.call(call("probe"))));
    timeout(SOON, received.recv()).await.unwrap().unwrap();
    assert_eq!(ending(upstream.call(call("other"))).await, "UNAVAILABLE");
    answered.add_permits(2);
    assert_eq!(probe.await.unwrap(), "ok");
    assert_eq!(ending(upstream.call(call("other"))).await, "ok");
}
