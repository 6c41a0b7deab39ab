//! Puts load on a Socket.IO server and says what it cost.
//!
//! In come arguments; out go results on stdout, progress on stderr, and an exit status: 0 where everything holds, 1
//! where a threshold does not or a run failed, 2 where the arguments make no sense.
//!
//! ```text
//!  scenario ─▶ plan ─▶ crew ─▶ swarm ─▶ wire ─▶ server
//!                        │       │                 │
//!  outcome ◀── run ◀─────┘     tally         resources
//!     └─▶ threshold, report, compare, table
//! ```

mod cli;
mod clock;
mod compare;
mod control;
mod crew;
mod number;
mod outcome;
mod peak;
mod plan;
mod report;
mod resources;
mod run;
mod scenario;
mod server;
mod swarm;
mod table;
mod tally;
mod template;
mod threshold;
mod token;
mod view;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match arguments.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(1)
        }
    }
}
