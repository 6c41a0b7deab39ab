//! Conditions under which a run has failed: `p99>50ms`, `lost>0`, `delivered_per_second<20000`.
//!
//! In comes a text, and later the figures of a run; out goes whether the condition holds. A figure that a run did not
//! measure fails it: a check that checks nothing must not pass.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::{Result, anyhow, bail};

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Threshold {
    figure: String,
    relation: Relation,
    bound: f64,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl FromStr for Threshold {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let at = text.find(['<', '>']).ok_or_else(|| anyhow!("{text}: written as p99>50ms"))?;
        let (figure, rest) = text.split_at(at);
        let (relation, bound) = match rest.as_bytes() {
            [b'>', b'=', ..] => (Relation::AtLeast, rest.get(2..)),
            [b'>', ..] => (Relation::Above, rest.get(1..)),
            [b'<', b'=', ..] => (Relation::AtMost, rest.get(2..)),
            _ => (Relation::Below, rest.get(1..)),
        };
        let bound = bound.unwrap_or_default().trim();
        let bound = match bound.parse::<f64>() {
            Ok(number) => number,
            Err(_) => match humantime::parse_duration(bound) {
                // Times are told in milliseconds.
                Ok(time) => time.as_secs_f64() * 1000.0,
                Err(_) => bail!("{text}: {bound} is neither a number nor a time such as 50ms"),
            },
        };
        let figure = figure.trim().to_owned();
        Ok(Self { figure, relation, bound, text: text.to_owned() })
    }
}

impl Threshold {
    /// Why a run has failed by this condition, if it has.
    pub(crate) fn failed(&self, figures: &BTreeMap<String, f64>) -> Option<String> {
        let Some(value) = figures.get(&self.figure).copied() else {
            let known: Vec<&str> = figures.keys().map(String::as_str).collect();
            let known = known.join(", ");
            return Some(format!("{}: not measured by this run; it has {known}", self.text));
        };
        let holds = match self.relation {
            Relation::Above => value > self.bound,
            Relation::AtLeast => value >= self.bound,
            Relation::Below => value < self.bound,
            Relation::AtMost => value <= self.bound,
        };
        holds.then(|| format!("{}: it is {value:.3}", self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let figures = BTreeMap::from([("p99".to_owned(), 60.0), ("lost".to_owned(), 0.0)]);
        let cases = [
            ("p99>50ms", true),
            ("p99>60ms", false),
            ("p99>=60ms", true),
            ("p99<1s", true),
            ("p99 <= 59.9", false),
            ("lost>0", false),
            ("lost>=0", true),
            ("absent>0", true),
        ];
        for (text, fails) in cases {
            let threshold: Threshold = text.parse().unwrap();
            assert_eq!(threshold.failed(&figures).is_some(), fails, "{text}");
        }
        for bad in ["p99", "p99>", "p99>fast", "p99=5"] {
            assert!(bad.parse::<Threshold>().is_err(), "{bad}");
        }
    }
}
