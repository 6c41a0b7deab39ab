//! Whether a contract's parts fit together, and loading contracts from a folder.
//!
//! In comes the text of a file; out goes a checked [`Contract`], or every mistake in it, each with its
//! key. A contract that loads cannot fail for its own fault when an event comes.

use std::{fmt, path::Path};

use super::{
    file::{Contract, Event},
    schema::Shape,
    step::{Refused, Step, Verb},
    template::Template,
};

/// Names by which the official clients tell of their own affairs.
pub const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// What is wrong with a contract file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractError {
    /// The file.
    pub file: String,
    /// Key and mistake, one each.
    pub mistakes: Vec<String>,
}

impl fmt::Display for ContractError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> =
            self.mistakes.iter().map(|mistake| format!("{}: {mistake}", self.file)).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ContractError {}

/// Names that templates may look up anywhere.
const ROOTS: &[&str] = &[
    "payload",
    "args",
    "event",
    "sid",
    "ts",
    "user",
    "actor",
    "roles",
    "ack",
    "option",
    "namespace",
    // bound by steps and rules
    "activity",
    "data",
    "error",
    "health",
    "image",
    "members",
    "progress",
    "reason",
    "records",
    "result",
    "results",
    "room",
    "session",
    "state",
    "status",
    "typing",
    "users",
];

/// Reads every `*.toml` file of a folder, in the order of their names.
///
/// # Errors
/// The mistakes of all files that have some.
pub fn load_dir(dir: &Path) -> Result<Vec<Contract>, Vec<ContractError>> {
    let trouble = |mistake: String| {
        vec![ContractError { file: dir.display().to_string(), mistakes: vec![mistake] }]
    };
    let mut paths: Vec<_> = if dir.is_file() {
        vec![dir.to_owned()]
    } else {
        let entries = std::fs::read_dir(dir)
            .map_err(|error| trouble(format!("no folder of contracts: {error}")))?;
        entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect()
    };
    paths.sort();
    if paths.is_empty() {
        return Err(trouble("no *.toml file here".to_owned()));
    }
    let (mut contracts, mut errors) = (Vec::new(), Vec::new());
    for path in paths {
        let name = path.display().to_string();
        let read = std::fs::read_to_string(&path).map_err(|error| ContractError {
            file: name.clone(),
            mistakes: vec![error.to_string()],
        });
        match read.and_then(|text| Contract::read(&name, &text)) {
            Ok(contract) => contracts.push((name, contract)),
            Err(error) => errors.push(error),
        }
    }
    let mut seen: std::collections::HashMap<String, String> = std::collections::HashMap::new();
    for (file, contract) in &contracts {
        if let Some(other) = seen.insert(contract.name.clone(), file.clone()) {
            let mistake = format!("name: {} is the name of {other} as well", contract.name);
            errors.push(ContractError { file: file.clone(), mistakes: vec![mistake] });
        }
    }
    if errors.is_empty() {
        Ok(contracts.into_iter().map(|(_, contract)| contract).collect())
    } else {
        Err(errors)
    }
}

impl Contract {
    /// Reads and checks the text of a contract file; `file` names it in errors.
    ///
    /// # Errors
    /// Every mistake that was found.
    pub fn read(file: &str, text: &str) -> Result<Self, ContractError> {
        let fail = |mistakes| ContractError { file: file.to_owned(), mistakes };
        let deserializer = toml::Deserializer::parse(text)
            .map_err(|error| fail(vec![error.to_string().trim_end().to_owned()]))?;
        let mut contract: Self =
            serde_path_to_error::deserialize(deserializer).map_err(|error| {
                let path = error.path().to_string();
                fail(vec![format!("{path}: {}", error.into_inner().to_string().trim_end())])
            })?;
        let mut mistakes = contract.take_over();
        mistakes.extend(contract.compile_shapes());
        mistakes.extend(contract.check_rules());
        mistakes.extend(contract.check_steps());
        if mistakes.is_empty() { Ok(contract) } else { Err(fail(mistakes)) }
    }

    /// Fills in what events take over from others by `like`.
    fn take_over(&mut self) -> Vec<String> {
        let originals = self.event.clone();
        let mut mistakes = Vec::new();
        for (name, event) in &mut self.event {
            let Some(like) = event.like.clone() else { continue };
            match originals.get(&like) {
                Some(original) if original.like.is_none() => event.take_over(original),
                Some(_) => {
                    mistakes.push(format!("event.{name}.like: `{like}` is itself like another"));
                }
                None => mistakes.push(format!("event.{name}.like: there is no event `{like}`")),
            }
        }
        mistakes
    }

    fn compile_shapes(&mut self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let defs = &self.schemas;
        for (name, event) in &mut self.event {
            if let Some(schema) = &event.payload {
                match Shape::compile(schema, defs) {
                    Ok(shape) => event.shape = Some(shape),
                    Err(error) => mistakes.push(format!("event.{name}.payload: {error}")),
                }
            }
        }
        for (name, out) in &mut self.out {
            if let Some(schema) = &out.payload {
                match Shape::compile(schema, defs) {
                    Ok(shape) => out.shape = Some(shape),
                    Err(error) => mistakes.push(format!("out.{name}.payload: {error}")),
                }
            }
        }
        mistakes
    }

    fn check_rules(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if self.name.is_empty()
            || !self.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        {
            mistakes.push("name: letters, digits, `-` and `_` only, at least one".to_owned());
        }
        for (name, event) in &self.event {
            if RESERVED.contains(&name.as_str()) {
                mistakes.push(format!("event.{name}: the clients keep this name for themselves"));
            }
            if name.chars().any(|c| c.is_control() || matches!(c, '"' | '\\')) {
                mistakes.push(format!(
                    "event.{name:?}: a name has no quote, backslash or control character"
                ));
            }
            if event.payload.is_some() && event.payload.as_ref().is_some_and(|p| !p.is_object()) {
                mistakes.push(format!("event.{name}.payload: a schema is a table"));
            }
            if let Some(limit) = event.limit
                && !(limit.per_second > 0.0 && limit.per_second.is_finite() && limit.burst > 0)
            {
                mistakes.push(format!("event.{name}.limit: rate and burst are more than 0"));
            }
            if event.ack.is_some() && event.reply.is_some() {
                mistakes.push(format!(
                    "event.{name}: `ack` adds to the usual ack, `reply` replaces it; one of them"
                ));
            }
        }
        for pattern in self.room.keys() {
            if let Err(error) = super::file::pattern(pattern) {
                mistakes.push(format!("room.\"{pattern}\": {error}"));
            }
        }
        if let Some(debug) = &self.debug
            && !debug.namespace.starts_with('/')
        {
            mistakes.push("debug.namespace: starts with `/`".to_owned());
        }
        mistakes
    }

    fn check_steps(&self) -> Vec<String> {
        let mut walk = Walk { contract: self, mistakes: Vec::new(), params: self.params() };
        walk.steps("on_connect.do", &self.on_connect.steps);
        walk.refused("refused", &self.refused);
        for (name, event) in &self.event {
            walk.event(name, event);
        }
        if let Some(envelope) = &self.envelope {
            walk.template("envelope", envelope);
        }
        walk.rules();
        walk.mistakes
    }

    /// Names that rules bind: the parameters of rooms and locks.
    fn params(&self) -> Vec<String> {
        let rooms = self.room.keys().filter_map(|pattern| super::file::pattern(pattern).ok());
        let mut params: Vec<String> =
            rooms.filter_map(|(_, param, _)| param.map(str::to_owned)).collect();
        for lock in self.lock.values() {
            params.extend(lock.name.roots().into_iter().map(str::to_owned));
        }
        params.push("lockType".to_owned());
        for event in self.event.values() {
            given(event.steps.as_deref().unwrap_or_default(), &mut params);
        }
        params
    }
}

/// The parameters that steps give to locks: their rules may show those that are not in the name, too.
fn given(steps: &[Step], params: &mut Vec<String>) {
    for step in steps {
        match &step.verb {
            Verb::Lock(lock) | Verb::Unlock(lock) | Verb::Unlocked(lock) => {
                params.extend(lock.with.keys().cloned());
            }
            Verb::Upstream(step) => {
                given(&step.on_part, params);
                given(&step.on_result, params);
                given(&step.on_error, params);
            }
            Verb::LeaveAll(steps) => given(steps, params),
            _ => {}
        }
    }
}

impl Event {
    fn take_over(&mut self, from: &Self) {
        fn fill<T: Clone>(mine: &mut Option<T>, theirs: Option<&T>) {
            if mine.is_none() {
                *mine = theirs.cloned();
            }
        }
        fill(&mut self.payload, from.payload.as_ref());
        fill(&mut self.aliases, from.aliases.as_ref());
        fill(&mut self.login, from.login.as_ref());
        fill(&mut self.roles, from.roles.as_ref());
        fill(&mut self.limit, from.limit.as_ref());
        fill(&mut self.upstream, from.upstream.as_ref());
        fill(&mut self.steps, from.steps.as_ref());
        fill(&mut self.refused, from.refused.as_ref());
        fill(&mut self.demo, from.demo.as_ref());
        if self.reply.is_none() {
            fill(&mut self.ack, from.ack.as_ref());
        }
        if self.ack.is_none() {
            fill(&mut self.reply, from.reply.as_ref());
        }
    }
}

struct Walk<'a> {
    contract: &'a Contract,
    mistakes: Vec<String>,
    params: Vec<String>,
}

impl Walk<'_> {
    fn event(&mut self, name: &str, event: &Event) {
        let at = format!("event.{name}");
        self.steps(&format!("{at}.do"), event.steps.as_deref().unwrap_or_default());
        for (key, template) in [("ack", &event.ack), ("reply", &event.reply)] {
            if let Some(template) = template {
                self.template(&format!("{at}.{key}"), template);
            }
        }
        if let Some(refused) = &event.refused {
            self.refused(&format!("{at}.refused"), refused);
        }
        for (number, part) in event.demo.iter().flatten().enumerate() {
            let at = format!("{at}.demo[{number}]");
            self.template(&at, &part.answer);
            if let Some(when) = &part.when {
                self.root(&at, when.root());
            }
        }
    }

    /// Rules that announce what begins and ends by itself.
    fn rules(&mut self) {
        let contract = self.contract;
        for (pattern, rule) in &contract.room {
            for (key, announcement) in [("joined", &rule.joined), ("left", &rule.left)] {
                if let Some(announcement) = announcement {
                    self.template(&format!("room.\"{pattern}\".{key}"), &announcement.data);
                }
            }
        }
        for (name, rule) in &contract.lock {
            self.template(&format!("lock.{name}.room"), &rule.room);
            self.template(&format!("lock.{name}.locked"), &rule.locked.data);
            self.template(&format!("lock.{name}.unlocked"), &rule.unlocked.data);
        }
        for (name, rule) in &contract.roster {
            self.template(&format!("roster.{name}.left"), &rule.left.data);
        }
        for (name, out) in &contract.out {
            self.optional(&format!("out.{name}.default"), out.default.as_ref());
        }
        self.optional("typing.data", contract.typing.as_ref().map(|rule| &rule.data));
        self.optional("presence.data", contract.presence.as_ref().map(|rule| &rule.data));
        self.optional("watch.data", contract.watch.as_ref().map(|rule| &rule.data));
    }

    fn refused(&mut self, at: &str, refused: &Refused) {
        self.template(&format!("{at}.data"), &refused.data);
    }

    fn steps(&mut self, at: &str, steps: &[Step]) {
        for (number, step) in steps.iter().enumerate() {
            let at = format!("{at}[{number}]");
            if let Some(when) = &step.when {
                self.root(&format!("{at}.when"), when.root());
            }
            if let Some(refused) = &step.refused {
                self.refused(&format!("{at}.refused"), refused);
            }
            self.verb(&at, &step.verb);
        }
    }

    fn verb(&mut self, at: &str, verb: &Verb) {
        match verb {
            Verb::Batch(batch) => self.template(at, &batch.updates),
            Verb::Emit(emit) => {
                self.template(at, &emit.event);
                self.template(at, &emit.data);
                self.optional(at, emit.room.as_ref());
            }
            Verb::Enter(enter) => {
                if !self.contract.roster.contains_key(&enter.roster) {
                    self.mistakes.push(format!("{at}: there is no [roster.{}]", enter.roster));
                }
                self.template(at, &enter.data);
            }
            Verb::Relay(relay) => {
                self.optional(at, relay.room.as_ref());
                self.optional(at, relay.add.as_ref());
            }
            Verb::Lock(lock) | Verb::Unlock(lock) | Verb::Unlocked(lock) => {
                if !self.contract.lock.contains_key(&lock.rule) {
                    self.mistakes.push(format!("{at}: there is no [lock.{}]", lock.rule));
                }
                lock.with.values().for_each(|value| self.template(at, value));
                self.optional(at, lock.kind.as_ref());
            }
            Verb::Upstream(step) => {
                self.optional(at, step.session.as_ref());
                self.steps(&format!("{at}.on_part"), &step.on_part);
                self.steps(&format!("{at}.on_result"), &step.on_result);
                self.steps(&format!("{at}.on_error"), &step.on_error);
            }
            Verb::LeaveAll(steps) => self.steps(&format!("{at}.leave_all"), steps),
            Verb::Typing(step) => {
                if self.contract.typing.is_none() {
                    self.mistakes.push(format!("{at}: there is no [typing]"));
                }
                self.template(at, &step.on);
                self.optional(at, step.room.as_ref());
            }
            Verb::Presence(template) => {
                if self.contract.presence.is_none() {
                    self.mistakes.push(format!("{at}: there is no [presence]"));
                }
                self.template(at, template);
            }
            Verb::Expect(expect) => self.template(at, &expect.value),
            Verb::Image(image) => {
                self.template(at, &image.data);
                self.template(at, &image.max_bytes);
            }
            Verb::Logout(announcement) => self.template(at, &announcement.data),
            Verb::Close(template)
            | Verb::File(template)
            | Verb::Join(template)
            | Verb::Leave(template)
            | Verb::Load(template)
            | Verb::Login(template)
            | Verb::Member(template)
            | Verb::Patch(template)
            | Verb::Refresh(template) => self.template(at, template),
            Verb::Health | Verb::Log(_) | Verb::Open | Verb::Whoami => {}
        }
    }

    fn optional(&mut self, at: &str, template: Option<&Template>) {
        if let Some(template) = template {
            self.template(at, template);
        }
    }

    fn template(&mut self, at: &str, template: &Template) {
        for root in template.roots() {
            self.root(at, root);
        }
    }

    fn root(&mut self, at: &str, root: &str) {
        let known = ROOTS.contains(&root) || self.params.iter().any(|param| param == root);
        if !known {
            let names = ROOTS.join(", ");
            self.mistakes.push(format!("{at}: nothing is called `{root}`; there are {names}"));
        }
    }
}
