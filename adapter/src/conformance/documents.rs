//! Cases of documents.
//!
//! In comes a cluster, out comes an outcome. The merge patch is checked with the examples of RFC 7386.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Cluster, Failure, Outcome, check, check_eq, eventually};

const SHORT: Duration = Duration::from_millis(60);
const LONG: Duration = Duration::from_mins(10);

pub(super) async fn written_is_read_until_removed(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    check_eq!(pod.read("c", "1").await?, None, "before it is written");
    let documents = [
        json!({"a": [], "b": {}, "c": null, "d": 1.5, "e": u64::MAX, "f": "ä\u{0}\n"}),
        json!([]),
        json!(null),
        json!("text"),
    ];
    for document in documents {
        pod.write("c", "1", document.clone(), LONG).await?;
        check_eq!(pod.read("c", "1").await?, Some(document), "as it was written");
    }
    check_eq!(pod.read("c", "2").await?, None, "another id");
    check_eq!(pod.read("d", "1").await?, None, "another collection");
    check!(pod.remove("c", "1").await?, "removing what is there");
    check!(!pod.remove("c", "1").await?, "removing what is not");
    check_eq!(pod.read("c", "1").await?, None, "after it is removed");
    Ok(())
}

pub(super) async fn documents_lapse(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    pod.write("c", "short", json!(1), SHORT).await?;
    pod.write("c", "long", json!(2), SHORT).await?;
    pod.write("c", "long", json!(2), LONG).await?;
    pod.write("c", "ever", json!(3), Duration::MAX).await?;
    eventually("the lapse", || async { Ok(pod.read("c", "short").await?.is_none().then_some(())) })
        .await?;
    check_eq!(pod.read("c", "long").await?, Some(json!(2)), "writing restarts the time to live");
    check_eq!(pod.read("c", "ever").await?, Some(json!(3)), "the longest time to live");
    check_eq!(pod.patch("c", "short", json!({}), LONG).await?, None, "patching what lapsed");
    check!(!pod.remove("c", "short").await?, "removing what lapsed");
    Ok(())
}

pub(super) async fn patch_merges_as_rfc_7386(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    let cases: [(Value, Value, Value); 15] = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a": "b"}), json!(["c"]), json!(["c"])),
        (json!({"a": "foo"}), json!(null), json!(null)),
        (json!({"a": "foo"}), json!("bar"), json!("bar")),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ];
    for (original, patch, want) in cases {
        pod.write("c", "1", original.clone(), LONG).await?;
        let got = pod.patch("c", "1", patch.clone(), LONG).await?;
        check_eq!(got, Some(want.clone()), "{original} patched with {patch}");
        check_eq!(pod.read("c", "1").await?, Some(want), "{patch} is stored");
    }
    Ok(())
}

pub(super) async fn patch_restarts_the_time_to_live(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    pod.write("c", "kept", json!({}), Duration::from_secs(2)).await?;
    pod.write("c", "cut", json!({}), LONG).await?;
    pod.patch("c", "kept", json!({"n": 1}), LONG).await?;
    pod.patch("c", "cut", json!({"n": 1}), SHORT).await?;
    eventually("the lapse", || async { Ok(pod.read("c", "cut").await?.is_none().then_some(())) })
        .await?;
    pod.write("c", "witness", json!({}), Duration::from_secs(2)).await?;
    eventually("the witness's lapse", || async {
        Ok(pod.read("c", "witness").await?.is_none().then_some(()))
    })
    .await?;
    check_eq!(pod.read("c", "kept").await?, Some(json!({"n": 1})), "the patched document");
    check_eq!(pod.count("c").await?, 1, "the count goes with it");
    Ok(())
}

pub(super) async fn patch_of_nothing_is_nothing(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    check_eq!(pod.patch("c", "1", json!({"a": 1}), LONG).await?, None, "no such document");
    check_eq!(pod.read("c", "1").await?, None, "a patch makes no document");
    check_eq!(pod.count("c").await?, 0, "nor a count");
    Ok(())
}

pub(super) async fn racing_patches_all_count(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    pod.write("c", "1", json!({}), LONG).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let pod = pod.clone();
        let name = format!("n{n}");
        tasks.spawn(async move { pod.patch("c", "1", json!({name: n}), LONG).await });
    }
    while let Some(done) = tasks.join_next().await {
        let patched = done.map_err(|error| Failure::new(error.to_string()))??;
        check!(patched.is_some(), "a patch found nothing");
    }
    let document = pod.read("c", "1").await?;
    let members = document.as_ref().and_then(Value::as_object).map(serde_json::Map::len);
    check_eq!(members, Some(16), "no patch is lost: {document:?}");
    Ok(())
}

pub(super) async fn counts_leave_out_the_lapsed(cluster: &dyn Cluster) -> Outcome {
    let pod = cluster.pod("a").await?;
    check_eq!(pod.count("c").await?, 0, "an unknown collection");
    for n in 0..5 {
        let ttl = if n < 2 { Duration::from_secs(1) } else { LONG };
        pod.write("c", &n.to_string(), json!(n), ttl).await?;
    }
    pod.write("c", "4", json!("again"), LONG).await?;
    pod.write("d", "1", json!(1), LONG).await?;
    check_eq!(pod.count("c").await?, 5, "all live");
    eventually("the lapse of two", || async { Ok((pod.count("c").await? == 3).then_some(())) })
        .await?;
    check_eq!(pod.read("c", "0").await?, None, "what is not counted is not read");
    pod.remove("c", "2").await?;
    check_eq!(pod.count("c").await?, 2, "after a removal");
    check_eq!(pod.count("d").await?, 1, "another collection");
    Ok(())
}

pub(super) async fn pods_share_documents(cluster: &dyn Cluster) -> Outcome {
    let (a, b) = (cluster.pod("a").await?, cluster.pod("b").await?);
    a.write("c", "1", json!({"a": 1}), LONG).await?;
    let patched = b.patch("c", "1", json!({"b": 2}), LONG).await?;
    check_eq!(patched, Some(json!({"a": 1, "b": 2})), "b patches what a wrote");
    check_eq!(a.read("c", "1").await?, patched, "a reads what b patched");
    check_eq!(a.count("c").await?, 1, "one document for both");
    Ok(())
}
