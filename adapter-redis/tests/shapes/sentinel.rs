//! A master that is replaced under pods that work.

use adapter::Kind;

use crate::{
    installation::Sentinels,
    redis_server::until,
    two::{Two, hold},
};

/// How a master goes.
#[derive(Clone, Copy, Debug)]
enum End {
    Killed,
    Asked,
    Hangs,
}

async fn survives(end: End) {
    let mut sentinels = Sentinels::start().await;
    let two = Two::start(&sentinels.config).await;
    hold(&two.states[0], Kind::Roster, "room", "s1").await;
    hold(&two.states[1], Kind::Roster, "room", "s2").await;
    hold(&two.states[1], Kind::Lock, "file", "s2").await;
    two.members("room", &["s1", "s2"]).await;
    two.messages_flow("before").await;

    let [master, replica] = &mut sentinels.servers;
    match end {
        End::Killed => master.kill(),
        End::Hangs => master.freeze(),
        End::Asked => drop(sentinels.sentinels[0].ask("SENTINEL FAILOVER main").await),
    }
    until("the replica is the master", || async {
        // Whoever changes sides closes its connections.
        let replication = replica.try_text("INFO replication").await?;
        replication.contains("role:master").then_some(())
    })
    .await;
    two.members("room", &["s1", "s2"]).await;
    two.messages_flow("after").await;
    two.is_well().await;
    if matches!(end, End::Hangs) {
        master.thaw();
    }
    if !matches!(end, End::Killed) {
        let (master, replica) = (&*master, &*replica);
        until("the old master follows the new one", || async {
            let replication = master.try_text("INFO replication").await?;
            replication.contains("role:slave").then_some(())
        })
        .await;
        until("nobody listens to the old master", || async {
            let heard = master.ask("PUBSUB NUMSUB socket.io#/#").await;
            let (_, count): (String, u32) = redis::from_redis_value(heard).unwrap();
            let heard = replica.ask("PUBSUB NUMSUB socket.io#/#").await;
            let (_, there): (String, u32) = redis::from_redis_value(heard).unwrap();
            ((count, there) == (0, 2)).then_some(())
        })
        .await;
    }
    // What is new is known to both, so both are where it is written.
    hold(&two.states[0], Kind::Roster, "later", "s3").await;
    two.members("later", &["s3"]).await;
    two.messages_flow("at last").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_is_replaced() {
    survives(End::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_hands_over_is_left() {
    survives(End::Asked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_hangs_is_replaced_and_not_returned_to() {
    survives(End::Hangs).await;
}
