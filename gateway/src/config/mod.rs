//! Everything an operator can set, with its default and its meaning.
//!
//! In come a TOML file, `GATEWAY__SECTION__KEY` variables and the few variables with names of their
//! own; out goes one checked [`Config`]. Nothing else reads the environment. What is wrong is named by
//! its key, and by its line where it is in a file.

mod document;
mod load;
mod sections;

pub use document::{default_file, markdown};
pub use load::{ConfigError, Source, load, strangers};
pub use sections::{
    ApiConfig, Config, ConnectionLimits, ContractsConfig, DebugConfig, DrainConfig, EngineConfig,
    HealthConfig, HttpConfig, IpLimits, Limits, LimitsConfig, LogConfig, LogFormat, Mount,
    TraceConfig, UserLimits,
};
