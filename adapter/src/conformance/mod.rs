//! The suite that every implementation of [`State`](crate::State) passes.
//!
//! In comes a [`Cluster`], which makes the pods of one fresh, empty state; out comes whether a case
//! holds, and if not, what was otherwise. It knows nothing of how the state is kept. It waits for
//! conditions up to [`PATIENCE`], never for a length of time.
//!
//! An implementation gives each case a test of its own name:
//!
//! ```text
//! use adapter::{case_tests, one_pod_cases, two_pod_cases};
//!
//! one_pod_cases!(case_tests, MyCluster::start());
//! two_pod_cases!(case_tests, MyCluster::start());
//! ```
//!
//! A state that lives in one process leaves out the second line: its pods share nothing.

use std::{fmt, future::Future, pin::Pin, time::Duration};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use crate::{Denied, Held, Kind, Place, SharedState, StateError, Wish};

mod charges;
mod documents;
mod holds;
mod lapses;
mod queues;
mod turns;

/// Refuses a case, with the reason, unless the condition holds.
macro_rules! check {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Failure::new(format!($($why)+)));
        }
    };
}
/// Refuses a case, naming both sides, unless they are equal.
macro_rules! check_eq {
    ($got:expr, $want:expr, $($why:tt)+) => {{
        let (got, want) = (&$got, &$want);
        if got != want {
            let why = format!($($why)+);
            return Err($crate::conformance::Failure::new(
                format!("{why}: got {got:?}, want {want:?}"),
            ));
        }
    }};
}
pub(crate) use {check, check_eq};

/// How long a case waits for something that must come: longer than any bound of the contract.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Makes the pods of one state. Every cluster starts empty.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// A pod of this name. Pods of one cluster share what they keep.
    ///
    /// # Errors
    /// Where the pod cannot be started.
    async fn pod(&self, name: &str) -> Result<SharedState, Failure>;
}

/// Why a case does not hold.
pub struct Failure(String);

impl Failure {
    /// A failure with this reason.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// Test runners print an error with `Debug`; the reason reads better without quotes around it.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self(error.to_string())
    }
}

/// What a case comes to.
pub type Outcome = Result<(), Failure>;

type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// A case of the suite.
pub struct Case {
    /// Its name, also that of its test.
    pub name: &'static str,
    /// How many pods of one cluster it needs.
    pub pods: usize,
    run: for<'a> fn(&'a dyn Cluster) -> Running<'a>,
}

impl Case {
    /// Runs the case on a cluster that nobody used before.
    ///
    /// # Errors
    /// Where it does not hold.
    pub async fn run(&self, cluster: &dyn Cluster) -> Outcome {
        (self.run)(cluster).await
    }
}

/// Runs the case of this name.
///
/// # Errors
/// Where it does not hold, or there is none of this name.
pub async fn run(name: &str, cluster: &dyn Cluster) -> Outcome {
    let case = ONE_POD.iter().chain(TWO_PODS).find(|case| case.name == name);
    let Some(case) = case else { return Err(Failure::new(format!("no case is called {name}"))) };
    case.run(cluster).await
}

/// The cases that one pod can run, handed to a macro together with what it needs.
#[macro_export]
macro_rules! one_pod_cases {
    ($callback:ident $(, $with:expr)?) => {
        $callback! { ($($with)?)
            holds first_and_last_go_by_holder;
            holds holding_again_replaces_and_keeps_since;
            holds shares_are_listed_oldest_first;
            holds exclusive_stands_against_others;
            holds shared_stands_against_exclusive;
            holds sole_holder_changes_its_lock;
            holds one_holder_locks_over_several_connections;
            holds at_most_counts_all_and_spares_replacement;
            holds release_by_sid_by_holder_and_by_all;
            holds release_of_the_unknown_is_empty;
            holds namespaces_kinds_and_odd_keys_are_apart;
            holds held_by_names_what_a_connection_holds;
            holds depart_ends_everything_in_order;
            holds racing_locks_have_one_winner;
            lapses ttl_lapse_is_handed_out_once;
            lapses holding_again_puts_off_the_lapse;
            lapses holding_again_without_ttl_stays;
            lapses lapsed_shares_stand_against_nobody;
            lapses departed_marks_do_not_lapse_again;
            lapses quiet_tick_is_empty;
            documents written_is_read_until_removed;
            documents documents_lapse;
            documents patch_merges_as_rfc_7386;
            documents patch_restarts_the_time_to_live;
            documents patch_of_nothing_is_nothing;
            documents racing_patches_all_count;
            documents counts_leave_out_the_lapsed;
            turns one_at_a_time_in_order;
            turns keys_do_not_wait_for_each_other;
            turns who_gives_up_does_not_block;
            charges burst_then_refusal_with_the_right_wait;
            charges all_or_none;
            charges cost_counts_and_excess_is_never_granted;
            charges one_bucket_named_twice_pays_twice;
            charges racing_charges_never_exceed_the_burst;
            queues queue_refuses_at_its_cap;
            queues replies_are_remembered;
            queues forgotten_replies_are_new_again;
            queues replies_lapse;
        }
    };
}

/// The cases that need two pods of one cluster.
#[macro_export]
macro_rules! two_pod_cases {
    ($callback:ident $(, $with:expr)?) => {
        $callback! { ($($with)?)
            holds pods_see_each_others_holds;
            holds one_pod_releases_the_others_lock;
            holds pods_race_for_one_lock;
            lapses lapses_are_handed_out_once_among_pods;
            lapses a_living_pod_keeps_its_holds;
            documents pods_share_documents;
            turns pods_never_have_the_turn_at_once;
            charges pods_share_buckets;
            queues pods_share_replies;
        }
    };
}

/// Makes a test of each case; each runs on a cluster of its own, made by the expression.
#[macro_export]
macro_rules! case_tests {
    (($cluster:expr) $($module:ident $name:ident;)+) => {
        $(
            #[tokio::test]
            async fn $name() -> $crate::conformance::Outcome {
                let cluster = $cluster;
                $crate::conformance::run(stringify!($name), &cluster).await
            }
        )+
    };
}

macro_rules! table_of_one {
    (() $($module:ident $name:ident;)+) => {
        /// The cases that one pod can run.
        pub const ONE_POD: &[Case] = &[$(Case {
            name: stringify!($name),
            pods: 1,
            run: |cluster| Box::pin($module::$name(cluster)),
        }),+];
    };
}
macro_rules! table_of_two {
    (() $($module:ident $name:ident;)+) => {
        /// The cases that need two pods of one cluster.
        pub const TWO_PODS: &[Case] = &[$(Case {
            name: stringify!($name),
            pods: 2,
            run: |cluster| Box::pin($module::$name(cluster)),
        }),+];
    };
}
one_pod_cases!(table_of_one);
two_pod_cases!(table_of_two);

/// Asks again and again until there is an answer, up to [`PATIENCE`].
async fn eventually<T, F>(what: &str, mut ask: impl FnMut() -> F + Send) -> Result<T, Failure>
where
    F: Future<Output = Result<Option<T>, Failure>> + Send,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        check!(Instant::now() < deadline, "{what} did not come within {PATIENCE:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A place in the namespace `/`.
fn place(kind: Kind, key: &str) -> Place {
    Place { namespace: "/".to_owned(), kind, key: key.to_owned() }
}

/// A shared wish without data, ttl or limit.
fn wish(place: &Place, sid: &str, holder: &str) -> Wish {
    Wish {
        place: place.clone(),
        sid: sid.to_owned(),
        holder: holder.to_owned(),
        exclusive: false,
        data: serde_json::Value::Null,
        ttl: None,
        at_most: None,
    }
}

/// Holds, and fails where it is denied.
async fn granted(state: &SharedState, wish: Wish) -> Result<Held, Failure> {
    let what = format!("{} for {}", wish.place.key, wish.sid);
    state.hold(wish).await?.map_err(|denied| Failure::new(format!("{what} was denied: {denied:?}")))
}

/// Holds, and fails where it is granted.
async fn denied(state: &SharedState, wish: Wish) -> Result<Denied, Failure> {
    let what = format!("{} for {}", wish.place.key, wish.sid);
    match state.hold(wish).await? {
        Ok(held) => Err(Failure::new(format!("{what} was granted: {held:?}"))),
        Err(denied) => Ok(denied),
    }
}
