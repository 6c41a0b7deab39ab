//! What a token says: the payload of a token whose signature is proven comes in, [`Claims`] go out.
//!
//! It never looks at signatures, and it takes the time as an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{AuthConfig, AuthError, ClaimNames, TokenError};

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Whose it is.
    pub user: User,
    /// The user's roles, in the token's order, each once.
    pub roles: Vec<String>,
    /// When it expires, leeway not counted.
    pub expires_at: Option<SystemTime>,
}

/// A user, as tokens, acks and events show one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct User {
    /// The user's id.
    pub id: String,
    /// The user's name, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The part of `[auth]` that payloads are held against.
#[derive(Debug)]
pub(super) struct Rules {
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Duration,
    names: ClaimNames,
}

impl Rules {
    pub(super) fn new(config: &AuthConfig) -> Result<Self, AuthError> {
        let names = [
            ("claims.user", &config.claims.user),
            ("claims.name", &config.claims.name),
            ("claims.roles", &config.claims.roles),
        ];
        if let Some((key, _)) = names.into_iter().find(|(_, name)| name.is_empty()) {
            return Err(AuthError::BadValue { key, reason: "it names a claim and is not empty" });
        }
        Ok(Self {
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway: config.leeway,
            names: config.claims.clone(),
        })
    }

    /// Checks times, issuer and audience, then reads what the token says.
    pub(super) fn apply(
        &self,
        payload: &Map<String, Value>,
        now: SystemTime,
    ) -> Result<Claims, TokenError> {
        let expires_at = self.check_times(payload, now)?;
        if !says(payload.get("iss"), self.issuer.as_deref())
            || !says(payload.get("aud"), self.audience.as_deref())
        {
            return Err(TokenError::Invalid);
        }
        let id = match at(payload, &self.names.user) {
            Some(Value::String(id)) if !id.is_empty() => id.clone(),
            _ => return Err(TokenError::NoSubject),
        };
        let name = at(payload, &self.names.name).and_then(Value::as_str).map(str::to_owned);
        let roles = roles(at(payload, &self.names.roles));
        Ok(Claims { user: User { id, name }, roles, expires_at })
    }

    /// The expiry, if the token is good now.
    fn check_times(
        &self,
        payload: &Map<String, Value>,
        now: SystemTime,
    ) -> Result<Option<SystemTime>, TokenError> {
        let expires_at = payload.get("exp").map(time).transpose()?;
        let starts_at = payload.get("nbf").map(time).transpose()?;
        let expired = |end: SystemTime| end.checked_add(self.leeway).is_some_and(|end| end <= now);
        if expires_at.is_some_and(expired) {
            return Err(TokenError::Expired);
        }
        let latest_start = now.checked_add(self.leeway);
        if starts_at.zip(latest_start).is_some_and(|(start, latest)| start > latest) {
            return Err(TokenError::Invalid);
        }
        Ok(expires_at)
    }
}

/// A `NumericDate`: seconds since the epoch, whole or not.
fn time(value: &Value) -> Result<SystemTime, TokenError> {
    let seconds = value.as_f64().ok_or(TokenError::Invalid)?;
    let since = Duration::try_from_secs_f64(seconds).map_err(|_| TokenError::Invalid)?;
    UNIX_EPOCH.checked_add(since).ok_or(TokenError::Invalid)
}

/// Whether a claim is, or lists, what is wanted. Where nothing is wanted, anything goes.
fn says(claim: Option<&Value>, wanted: Option<&str>) -> bool {
    let Some(wanted) = wanted else { return true };
    match claim {
        Some(Value::String(one)) => one == wanted,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(wanted)),
        _ => false,
    }
}

/// The claim of this name, or the one at this path. Whole names come first: some providers name claims
/// with addresses, which have dots in them.
fn at<'a>(payload: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(claim) = payload.get(name) {
        return Some(claim);
    }
    let (first, rest) = name.split_once('.')?;
    rest.split('.').try_fold(payload.get(first)?, |value, step| value.get(step))
}

fn roles(claim: Option<&Value>) -> Vec<String> {
    let named: Vec<&str> = match claim {
        Some(Value::String(line)) => line.split_ascii_whitespace().collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let mut roles: Vec<String> = Vec::with_capacity(named.len());
    for role in named {
        if !roles.iter().any(|known| known == role) {
            roles.push(role.to_owned());
        }
    }
    roles
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(change: impl FnOnce(&mut AuthConfig)) -> Rules {
        let mut config = AuthConfig::default();
        change(&mut config);
        Rules::new(&config).unwrap()
    }

    fn judged(rules: &Rules, payload: &Value) -> Result<Claims, TokenError> {
        rules.apply(payload.as_object().unwrap(), UNIX_EPOCH + Duration::from_secs(1000))
    }

    #[test]
    fn times_are_checked_with_leeway() {
        let rules = rules(|_| {});
        let cases = [
            ("no times", json!({"sub": "u"}), Ok(None)),
            ("good", json!({"sub": "u", "exp": 2000, "nbf": 900}), Ok(Some(2000))),
            ("within leeway", json!({"sub": "u", "exp": 996}), Ok(Some(996))),
            ("at the end of leeway", json!({"sub": "u", "exp": 995}), Err(TokenError::Expired)),
            ("expired", json!({"sub": "u", "exp": 10}), Err(TokenError::Expired)),
            ("expired, nobody's", json!({"exp": 10}), Err(TokenError::Expired)),
            ("fraction", json!({"sub": "u", "exp": 2000.0}), Ok(Some(2000))),
            ("exp a string", json!({"sub": "u", "exp": "2000"}), Err(TokenError::Invalid)),
            ("exp null", json!({"sub": "u", "exp": null}), Err(TokenError::Invalid)),
            ("exp negative", json!({"sub": "u", "exp": -1}), Err(TokenError::Invalid)),
            ("exp huge", json!({"sub": "u", "exp": 1e300}), Err(TokenError::Invalid)),
            ("starts within leeway", json!({"sub": "u", "nbf": 1005}), Ok(None)),
            ("starts later", json!({"sub": "u", "nbf": 1006}), Err(TokenError::Invalid)),
            ("nbf a list", json!({"sub": "u", "nbf": []}), Err(TokenError::Invalid)),
        ];
        for (name, payload, want) in cases {
            let want = want.map(|end| end.map(|s| UNIX_EPOCH + Duration::from_secs(s)));
            assert_eq!(judged(&rules, &payload).map(|claims| claims.expires_at), want, "{name}");
        }
    }

    #[test]
    fn issuer_and_audience_are_checked_where_set() {
        let set = rules(|config| {
            config.issuer = Some("us".into());
            config.audience = Some("gateway".into());
        });
        let cases = [
            ("both", json!({"sub": "u", "iss": "us", "aud": "gateway"}), true),
            ("listed", json!({"sub": "u", "iss": "us", "aud": ["x", "gateway"]}), true),
            ("no issuer", json!({"sub": "u", "aud": "gateway"}), false),
            ("other issuer", json!({"sub": "u", "iss": "them", "aud": "gateway"}), false),
            ("issuer a number", json!({"sub": "u", "iss": 1, "aud": "gateway"}), false),
            ("no audience", json!({"sub": "u", "iss": "us"}), false),
            ("other audience", json!({"sub": "u", "iss": "us", "aud": ["x"]}), false),
        ];
        for (name, payload, want) in cases {
            assert_eq!(judged(&set, &payload).is_ok(), want, "{name}");
        }
        let unset = rules(|_| {});
        assert!(judged(&unset, &json!({"sub": "u", "iss": "x", "aud": "y"})).is_ok());
    }

    /// A name, whether claims are named by path, the payload; the user's id, name and roles.
    type Case = (
        &'static str,
        bool,
        Value,
        Option<(&'static str, Option<&'static str>, Vec<&'static str>)>,
    );

    #[test]
    fn users_and_roles_are_read_by_name_or_path() {
        let paths = rules(|config| {
            config.claims.user = "user.id".into();
            config.claims.roles = "realm_access.roles".into();
            config.claims.name = "https://example.com/name".into();
        });
        let plain = rules(|_| {});
        let cases: Vec<Case> = vec![
            (
                "plain",
                false,
                json!({"sub": "u", "name": "U", "roles": ["a", "b", "a"]}),
                Some(("u", Some("U"), vec!["a", "b"])),
            ),
            (
                "spaces",
                false,
                json!({"sub": "u", "roles": " a  b "}),
                Some(("u", None, vec!["a", "b"])),
            ),
            (
                "odd roles",
                false,
                json!({"sub": "u", "roles": [1, "a", null]}),
                Some(("u", None, vec!["a"])),
            ),
            ("roles a number", false, json!({"sub": "u", "roles": 7}), Some(("u", None, vec![]))),
            ("name a list", false, json!({"sub": "u", "name": []}), Some(("u", None, vec![]))),
            ("no subject", false, json!({}), None),
            ("empty subject", false, json!({"sub": ""}), None),
            ("subject a number", false, json!({"sub": 7}), None),
            (
                "paths",
                true,
                json!({"user": {"id": "u"}, "realm_access": {"roles": ["a"]}, "https://example.com/name": "U"}),
                Some(("u", Some("U"), vec!["a"])),
            ),
            ("path through text", true, json!({"user": "u", "sub": "u"}), None),
        ];
        for (name, by_path, payload, want) in cases {
            let got = judged(if by_path { &paths } else { &plain }, &payload);
            let want = want.ok_or(TokenError::NoSubject).map(|(id, called, roles)| Claims {
                user: User { id: id.into(), name: called.map(Into::into) },
                roles: roles.into_iter().map(Into::into).collect(),
                expires_at: None,
            });
            assert_eq!(got, want, "{name}");
        }
    }
}
