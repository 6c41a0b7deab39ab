//! The sentinels, where there are any.
//!
//! In comes what each says of the master, out come findings about whether they could replace it.

use super::{Report, ask::Asker};

/// With fewer, one that is away leaves no majority.
const ENOUGH: usize = 3;

pub(super) async fn examine(asker: &mut Asker, report: &mut Report) {
    let Some((sentinels, name)) = asker.nodes.sentinels() else { return };
    let all = sentinels.len();
    if all < ENOUGH {
        report.warn(
            "sentinels",
            format!("Only {all} sentinels are in the URL: without one of them the others may find no majority, or pods no sentinel. Run three and name all of them."),
        );
    }
    let (mut answered, mut refusals) = (0_usize, Vec::new());
    for sentinel in sentinels {
        match asker.ask::<String>(&sentinel, &["SENTINEL", "CKQUORUM", &name]).await {
            Ok(_) => answered += 1,
            Err(error) if error.is_io_error() || error.is_timeout() => report.warn(
                "sentinels",
                format!("The sentinel {} does not answer: {error}. Start it again, or take it out of the URL.", sentinel.name()),
            ),
            Err(error) => {
                answered += 1;
                refusals.push(format!("{}: {error}", sentinel.name()));
            }
        }
    }
    // One that was just started knows little; where most say so, it is so.
    if refusals.len() * 2 > answered {
        report.error(
            "sentinels",
            format!("The sentinels could not replace {name} now ({}). See that most of them reach each other and the replicas.", refusals.join("; ")),
        );
    }
    let replicas = report.findings.iter_mut().filter(|finding| finding.about == "replicas");
    for finding in replicas {
        // Sentinels are there to replace the master: without a replica they cannot.
        finding.severity = finding.severity.max(super::Severity::Warning);
    }
}
