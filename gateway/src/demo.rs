//! The demo application: what contracts write under `demo`, filled in.
//!
//! In comes a call as any upstream gets it; out go answers that depend on nothing else, so that what a
//! person tries, and what a test expects, is the same every time.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::{
    contract::{Contract, Scope},
    upstream::{Answer, Call, DemoScript},
};

/// Plays the scripts of contracts.
#[derive(Debug)]
pub struct Demo(BTreeMap<String, Arc<Contract>>);

impl Demo {
    /// With the scripts of these contracts.
    pub const fn new(contracts: BTreeMap<String, Arc<Contract>>) -> Self {
        Self(contracts)
    }
}

struct Names<'a>(&'a Call);

impl Scope for Names<'_> {
    fn root(&self, name: &str) -> Option<Cow<'_, Value>> {
        let call = self.0;
        match name {
            "payload" => call.args.first().map(Cow::Borrowed),
            "event" => Some(Cow::Owned(Value::from(call.event.as_str()))),
            "sid" => Some(Cow::Owned(Value::from(call.connection.sid.as_str()))),
            "state" => call.state.as_ref().map(Cow::Borrowed),
            "args" => Some(Cow::Owned(Value::from(call.args.clone()))),
            _ => None,
        }
    }
}

impl DemoScript for Demo {
    fn answers(&self, call: &Call) -> Vec<Answer> {
        let names = Names(call);
        let event = self.0.get(&call.contract).and_then(|contract| contract.event.get(&call.event));
        let Some(parts) = event.and_then(|event| event.demo.as_ref()) else {
            let result = json!({"echo": call.args.first()});
            return answer(&json!({"result": result})).into_iter().collect();
        };
        parts
            .iter()
            .filter(|part| part.when.as_ref().is_none_or(|when| when.holds(&names)))
            .filter_map(|part| answer(&part.answer.fill(&names)))
            .collect()
    }
}

fn answer(value: &Value) -> Option<Answer> {
    match Answer::parse(value.to_string().as_bytes()) {
        Ok(answer) => Some(answer),
        Err(error) => {
            tracing::error!(%error, "a demo answer is none");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::contract::{BUILT_IN, Contract};

    /// Every part of every script is an answer that an application could give.
    #[test]
    fn scripts_are_answers() {
        for (file, text) in BUILT_IN.files {
            let contract = Contract::read(file, text).unwrap_or_else(|error| panic!("{error}"));
            for (name, event) in &contract.event {
                for part in event.demo.iter().flatten() {
                    struct Nothing;
                    impl super::Scope for Nothing {
                        fn root(&self, _: &str) -> Option<std::borrow::Cow<'_, super::Value>> {
                            Some(std::borrow::Cow::Owned(super::json!({"session": "x"})))
                        }
                    }
                    let mut value = part.answer.fill(&Nothing);
                    // What is looked up in a payload is not there in this test.
                    if let Some(result) = value.get_mut("result") {
                        *result = super::json!({});
                    }
                    if let Some(list) = value.get_mut("emit").and_then(super::Value::as_array_mut) {
                        list.iter_mut().for_each(|emit| emit["event"] = super::json!("e"));
                    }
                    assert!(super::answer(&value).is_some(), "{file} {name}: {value}");
                }
            }
        }
    }
}
