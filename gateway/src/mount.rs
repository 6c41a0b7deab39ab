//! A contract in a namespace: what the mounting adds to the file.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;
use prometheus::IntCounter;
use serde_json::{Map, Value};

use crate::{
    config::Config,
    contract::{AuthMode, BUILT_IN, Contract, ContractError, load_dir},
    metrics::EventMetrics,
    session::Registry,
};

/// A contract, served in one namespace.
#[derive(Debug)]
pub struct Mounted {
    /// The namespace.
    pub namespace: String,
    /// Where upstream events go that name no upstream of their own.
    pub upstream: String,
    /// The namespace for trying things out that comes with this one, rather than the contract's own.
    pub debug: bool,
    /// Its sessions on this pod.
    pub sessions: Registry,
    served: ArcSwap<Served>,
}

/// What is served in a namespace. A reload replaces it as a whole; who began with one ends with it.
#[derive(Debug)]
pub struct Served {
    /// The contract.
    pub contract: Arc<Contract>,
    /// Its options as the operator set them.
    pub options: Value,
    /// Whether a token is needed.
    pub auth: AuthMode,
    /// What counts its events.
    pub handled: HashMap<String, IntCounter>,
}

impl Mounted {
    /// What is served now.
    pub fn served(&self) -> Arc<Served> {
        self.served.load_full()
    }

    /// The contract that is served now.
    pub fn contract(&self) -> Arc<Contract> {
        self.served.load().contract.clone()
    }

    /// Takes over what another mounting of the same namespace would serve.
    pub fn serve_as(&self, other: &Self) {
        self.served.store(other.served());
    }
}

/// Why a mounting is not possible.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// A contract file is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Contracts(Vec<ContractError>),
    /// There is no contract of that name.
    #[error("there is no contract `{name}`; there are {known}")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// Two contracts for one namespace.
    #[error("namespace {0} is mounted twice: say another, as in --contract NAME@/namespace")]
    Twice(String),
    /// An option that the contract does not have, or of another type.
    #[error("contract.{contract}.{option}: {message}")]
    Option {
        /// The contract.
        contract: String,
        /// The option.
        option: String,
        /// What would be right.
        message: String,
    },
    /// A contract that needs tokens in production, without a key to check them.
    #[error(
        "auth.jwt_secret: contract {0} needs tokens, and in production a key to check them: set auth.jwt_secret (GATEWAY_JWT_SECRET), auth.public_keys or auth.jwks_url"
    )]
    NoKey(String),
}

/// Every contract that can be mounted: the built-in ones, and those of the configured folder over them.
///
/// # Errors
/// [`MountError::Contracts`], with every mistake.
pub fn contracts(config: &Config) -> Result<BTreeMap<String, Arc<Contract>>, MountError> {
    let mut found = BTreeMap::new();
    for (file, text) in BUILT_IN.files {
        let contract =
            Contract::read(file, text).map_err(|error| MountError::Contracts(vec![error]))?;
        found.insert(contract.name.clone(), Arc::new(contract));
    }
    if let Some(dir) = &config.contracts.dir {
        for contract in load_dir(dir).map_err(MountError::Contracts)? {
            found.insert(contract.name.clone(), Arc::new(contract));
        }
    }
    Ok(found)
}

/// What is served where.
///
/// # Errors
/// [`MountError`], naming the key.
pub fn mounts(config: &Config, metrics: &EventMetrics) -> Result<Vec<Arc<Mounted>>, MountError> {
    let contracts = contracts(config)?;
    let known = || contracts.keys().cloned().collect::<Vec<_>>().join(", ");
    for (name, options) in &config.contract {
        let contract = contracts
            .get(name)
            .ok_or_else(|| MountError::Unknown { name: name.clone(), known: known() })?;
        check_options(contract, options)?;
    }
    let demo: Vec<crate::config::Mount>;
    let wanted = if config.mount.is_empty() {
        demo = BUILT_IN
            .demo
            .iter()
            .map(|(contract, namespace)| crate::config::Mount {
                contract: (*contract).to_owned(),
                namespace: (*namespace).to_owned(),
                auth: None,
                upstream: None,
            })
            .collect();
        &demo
    } else {
        &config.mount
    };
    let debug = config.debug.enabled.unwrap_or(!config.production);
    let mut mounted: Vec<Arc<Mounted>> = Vec::new();
    for mount in wanted {
        let contract = contracts
            .get(&mount.contract)
            .ok_or_else(|| MountError::Unknown { name: mount.contract.clone(), known: known() })?;
        let auth = mount.auth.unwrap_or(contract.auth);
        if config.production && auth == AuthMode::Required && !has_keys(config) {
            return Err(MountError::NoKey(mount.contract.clone()));
        }
        let mut namespaces = vec![(mount.namespace.clone(), false)];
        if let Some(extra) = contract.debug.as_ref().filter(|_| debug) {
            namespaces.push((extra.namespace.clone(), true));
        }
        for (namespace, debug) in namespaces {
            if mounted.iter().any(|other| other.namespace == namespace) {
                return Err(MountError::Twice(namespace));
            }
            mounted.push(Arc::new(Mounted {
                namespace,
                upstream: mount.upstream.clone().unwrap_or_else(|| "app".to_owned()),
                debug,
                sessions: Registry::default(),
                served: ArcSwap::from_pointee(Served {
                    contract: contract.clone(),
                    options: Value::Object(options(contract, config)),
                    auth,
                    handled: metrics.counters(contract),
                }),
            }));
        }
    }
    Ok(mounted)
}

fn has_keys(config: &Config) -> bool {
    config.auth.jwt_secret.is_some()
        || !config.auth.public_keys.is_empty()
        || config.auth.jwks_url.is_some()
}

fn check_options(contract: &Contract, options: &Map<String, Value>) -> Result<(), MountError> {
    for (option, value) in options {
        let fail = |message: String| MountError::Option {
            contract: contract.name.clone(),
            option: option.clone(),
            message,
        };
        let Some(default) = contract.options.get(option) else {
            let known = contract.options.keys().cloned().collect::<Vec<_>>().join(", ");
            return Err(fail(format!("no such option; there are: {known}")));
        };
        if std::mem::discriminant(default) != std::mem::discriminant(value) {
            return Err(fail(format!("of the type of its default, {default}")));
        }
    }
    Ok(())
}

fn options(contract: &Contract, config: &Config) -> Map<String, Value> {
    let mut options = contract.options.clone();
    options.extend(config.contract.get(&contract.name).cloned().unwrap_or_default());
    options
}
