//! Templates: the values of a contract file that are filled in when an event is handled.
//!
//! In comes a TOML value once, at start, and a [`Scope`] for every event; out goes a JSON value. A
//! string that is one expression (`"{payload.file}"`) gives the value itself, a string around
//! expressions gives text, an object's key that ends in `?` is left out where its value is missing.
//! `{a.b|c|'none'}` takes the first that is there. It never fails at run time.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// What a template may look up: a name such as `payload` or `result`.
pub trait Scope {
    /// The value of a root name, if there is one.
    fn root(&self, name: &str) -> Option<Cow<'_, Value>>;
}

/// A compiled template.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// A value without expressions.
    Literal(Value),
    /// One expression, whose value is taken as it is.
    Expression(Expression),
    /// Text with expressions in it.
    Text(Vec<Piece>),
    /// An object of templates.
    Object(Vec<Field>),
    /// A list of templates.
    List(Vec<Template>),
}

impl<'de> serde::Deserialize<'de> for Template {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::compile(&value).map_err(serde::de::Error::custom)
    }
}

impl<'de> serde::Deserialize<'de> for Condition {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// One field of an object template.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    name: String,
    optional: bool,
    value: Template,
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Text as it stands.
    Plain(String),
    /// Text that is looked up.
    Expression(Expression),
}

/// Alternatives, of which the first that is there is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression(Vec<Alternative>);

#[derive(Clone, Debug, PartialEq)]
enum Alternative {
    Path(Path),
    Literal(Value),
}

/// A dotted path: a root name and the keys below it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Path {
    root: String,
    keys: Vec<String>,
}

/// What is wrong with a template's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without its `}`.
    #[error("`{0}` has a `{{` without its `}}`")]
    Unclosed(String),
    /// An empty path or an empty key.
    #[error("`{0}` is not a path such as `payload.name`")]
    BadPath(String),
}

impl Path {
    /// Reads `payload.file.path`.
    ///
    /// # Errors
    /// [`TemplateError::BadPath`] where a part is empty or has a character that names do not have.
    pub(super) fn parse(text: &str) -> Result<Self, TemplateError> {
        let is_name = |part: &str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | ':'))
        };
        let mut parts = text.trim().split('.');
        let root = parts.next().unwrap_or_default().to_owned();
        let keys: Vec<String> = parts.map(str::to_owned).collect();
        if !is_name(&root) || !keys.iter().all(|key| is_name(key)) {
            return Err(TemplateError::BadPath(text.to_owned()));
        }
        Ok(Self { root, keys })
    }

    /// The name it starts from.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// The value at the path; a missing key and a `null` are both `None`.
    pub(super) fn find<'a>(&self, scope: &'a dyn Scope) -> Option<Cow<'a, Value>> {
        let found = match scope.root(&self.root)? {
            Cow::Borrowed(value) => Cow::Borrowed(walk(value, &self.keys)?),
            Cow::Owned(value) if self.keys.is_empty() => Cow::Owned(value),
            Cow::Owned(value) => Cow::Owned(walk(&value, &self.keys)?.clone()),
        };
        (!found.is_null()).then_some(found)
    }
}

fn walk<'v>(value: &'v Value, keys: &[String]) -> Option<&'v Value> {
    keys.iter().try_fold(value, |value, key| match value {
        Value::Object(map) => map.get(key),
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    })
}

impl Expression {
    fn parse(text: &str) -> Result<Self, TemplateError> {
        text.split('|')
            .map(|part| {
                let part = part.trim();
                match literal(part) {
                    Some(value) => Ok(Alternative::Literal(value)),
                    None => Path::parse(part).map(Alternative::Path),
                }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn find<'a>(&'a self, scope: &'a dyn Scope) -> Option<Cow<'a, Value>> {
        self.0.iter().find_map(|alternative| match alternative {
            Alternative::Path(path) => path.find(scope),
            Alternative::Literal(value) => Some(Cow::Borrowed(value)),
        })
    }
}

/// `'text'`, a number, `true`, `false`, `null`, `{}` or `[]`.
pub(super) fn literal(text: &str) -> Option<Value> {
    if let Some(inner) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return Some(Value::String(inner.to_owned()));
    }
    let starts_literal = text.starts_with(|c: char| c.is_ascii_digit() || "-{[".contains(c))
        || matches!(text, "true" | "false" | "null");
    starts_literal.then(|| serde_json::from_str(text).ok()).flatten()
}

impl Template {
    /// Compiles a value of a contract file.
    ///
    /// # Errors
    /// [`TemplateError`] naming the text that cannot be read.
    pub fn compile(value: &Value) -> Result<Self, TemplateError> {
        Ok(match value {
            Value::String(text) => Self::text(text)?,
            Value::Array(list) => {
                Self::List(list.iter().map(Self::compile).collect::<Result<_, _>>()?)
            }
            Value::Object(map) => Self::Object(
                map.iter()
                    .map(|(key, value)| {
                        let optional = key.ends_with('?');
                        Ok(Field {
                            name: key.trim_end_matches('?').to_owned(),
                            optional,
                            value: Self::compile(value)?,
                        })
                    })
                    .collect::<Result<_, _>>()?,
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Literal(value.clone()),
        })
    }

    /// Compiles a string.
    ///
    /// # Errors
    /// As [`Template::compile`].
    pub fn text(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            if open > 0 {
                pieces.push(Piece::Plain(rest[..open].to_owned()));
            }
            let close =
                closing(&rest[open..]).ok_or_else(|| TemplateError::Unclosed(text.to_owned()))?;
            pieces.push(Piece::Expression(Expression::parse(&rest[open + 1..open + close])?));
            rest = &rest[open + close + 1..];
        }
        if pieces.is_empty() {
            return Ok(Self::Literal(Value::String(text.to_owned())));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Plain(rest.to_owned()));
        }
        if pieces.len() == 1
            && let Some(Piece::Expression(expression)) = pieces.pop()
        {
            return Ok(Self::Expression(expression));
        }
        Ok(Self::Text(pieces))
    }

    /// The value, with `null` and empty text for what is missing.
    pub fn fill(&self, scope: &dyn Scope) -> Value {
        match self {
            Self::Literal(value) => value.clone(),
            Self::Expression(expression) => {
                expression.find(scope).map_or(Value::Null, Cow::into_owned)
            }
            Self::Text(pieces) => Value::String(join(pieces, scope).0),
            Self::Object(fields) => {
                let mut map = Map::with_capacity(fields.len());
                for field in fields {
                    if field.optional {
                        if let Some(value) = field.value.fill_whole(scope) {
                            map.insert(field.name.clone(), value);
                        }
                    } else {
                        map.insert(field.name.clone(), field.value.fill(scope));
                    }
                }
                Value::Object(map)
            }
            Self::List(list) => list.iter().map(|item| item.fill(scope)).collect(),
        }
    }

    /// The value, or `None` where any of its expressions has none.
    pub fn fill_whole(&self, scope: &dyn Scope) -> Option<Value> {
        match self {
            Self::Expression(expression) => expression.find(scope).map(Cow::into_owned),
            Self::Text(pieces) => {
                let (text, whole) = join(pieces, scope);
                whole.then_some(Value::String(text))
            }
            Self::Literal(_) | Self::Object(_) | Self::List(_) => Some(self.fill(scope)),
        }
    }

    /// The value as text, or `None` where something of it is missing.
    pub fn fill_text(&self, scope: &dyn Scope) -> Option<String> {
        self.fill_whole(scope).map(|value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        })
    }

    /// The text that every value of it starts with: what the author wrote, not the peer.
    pub fn fixed_start(&self) -> &str {
        match self {
            Self::Literal(Value::String(text)) => text,
            Self::Text(pieces) => match pieces.first() {
                Some(Piece::Plain(text)) => text,
                Some(Piece::Expression(_)) | None => "",
            },
            Self::Literal(_) | Self::Expression(_) | Self::Object(_) | Self::List(_) => "",
        }
    }

    /// Every root name that it looks up.
    pub fn roots(&self) -> Vec<&str> {
        let mut found = Vec::new();
        self.collect_roots(&mut found);
        found
    }

    fn collect_roots<'a>(&'a self, found: &mut Vec<&'a str>) {
        let mut add = |expression: &'a Expression| {
            found.extend(expression.0.iter().filter_map(|alternative| match alternative {
                Alternative::Path(path) => Some(path.root.as_str()),
                Alternative::Literal(_) => None,
            }));
        };
        match self {
            Self::Literal(_) => {}
            Self::Expression(expression) => add(expression),
            Self::Text(pieces) => {
                for piece in pieces {
                    if let Piece::Expression(expression) = piece {
                        add(expression);
                    }
                }
            }
            Self::Object(fields) => {
                fields.iter().for_each(|field| field.value.collect_roots(found));
            }
            Self::List(list) => list.iter().for_each(|item| item.collect_roots(found)),
        }
    }
}

/// The text, and whether every expression had a value.
fn join(pieces: &[Piece], scope: &dyn Scope) -> (String, bool) {
    let mut text = String::new();
    let mut whole = true;
    for piece in pieces {
        match piece {
            Piece::Plain(plain) => text.push_str(plain),
            Piece::Expression(expression) => match expression.find(scope).as_deref() {
                Some(Value::String(value)) => text.push_str(value),
                Some(value) => text.push_str(&value.to_string()),
                None => whole = false,
            },
        }
    }
    (text, whole)
}

/// Where the brace that opens at 0 closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// A condition: `path`, `!path`, `path == literal` or `path != literal`.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    path: Path,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    There,
    Missing,
    Equal(Value),
    Unequal(Value),
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// [`TemplateError::BadPath`] where it is none of the four forms.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let bad = || TemplateError::BadPath(text.to_owned());
        for (sign, equal) in [("==", true), ("!=", false)] {
            if let Some((path, value)) = text.split_once(sign) {
                let value = literal(value.trim()).ok_or_else(bad)?;
                let test = if equal { Test::Equal(value) } else { Test::Unequal(value) };
                return Ok(Self { path: Path::parse(path)?, test });
            }
        }
        match text.strip_prefix('!') {
            Some(path) => Ok(Self { path: Path::parse(path)?, test: Test::Missing }),
            None => Ok(Self { path: Path::parse(text)?, test: Test::There }),
        }
    }

    /// The name it looks up.
    pub fn root(&self) -> &str {
        self.path.root()
    }

    /// Whether it holds. `false`, `""` and what is missing count as not there.
    pub fn holds(&self, scope: &dyn Scope) -> bool {
        let found = self.path.find(scope);
        let there = || match found.as_deref() {
            None | Some(Value::Bool(false) | Value::Null) => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(_) => true,
        };
        match &self.test {
            Test::There => there(),
            Test::Missing => !there(),
            Test::Equal(value) => found.as_deref() == Some(value),
            Test::Unequal(value) => found.as_deref() != Some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Fixed(Value);

    impl Scope for Fixed {
        fn root(&self, name: &str) -> Option<Cow<'_, Value>> {
            self.0.get(name).map(Cow::Borrowed)
        }
    }

    #[test]
    fn fills() {
        let scope = Fixed(json!({"payload": {"a": 1, "s": "x", "n": null, "l": [5]}, "t": true}));
        let cases = [
            ("whole value", json!("{payload.a}"), json!(1)),
            ("text", json!("room:{payload.s}/{payload.a}"), json!("room:x/1")),
            ("missing is null", json!("{payload.z}"), json!(null)),
            ("missing in text is empty", json!("<{payload.z}>"), json!("<>")),
            ("alternative", json!("{payload.n|payload.s}"), json!("x")),
            ("literal alternative", json!("{payload.z|'none'}"), json!("none")),
            ("object alternative", json!("{payload.z|{}}"), json!({})),
            ("false alternative", json!("{payload.z|false}"), json!(false)),
            (
                "optional left out",
                json!({"a?": "{payload.z}", "b": "{payload.z}"}),
                json!({"b": null}),
            ),
            ("list", json!(["{payload.l.0}", 2]), json!([5, 2])),
            ("plain", json!("plain"), json!("plain")),
        ];
        for (name, template, want) in cases {
            let template = Template::compile(&template).expect(name);
            assert_eq!(template.fill(&scope), want, "{name}");
        }
    }

    #[test]
    fn refuses() {
        let cases =
            [("unclosed", "a{b"), ("empty", "{}x"), ("empty key", "{a..b}"), ("space", "{a b}")];
        for (name, text) in cases {
            assert!(Template::text(text).is_err(), "{name}");
        }
    }

    #[test]
    fn conditions() {
        let scope = Fixed(json!({"p": {"s": "x", "e": "", "f": false, "n": 2}}));
        let cases = [
            ("p.s", true),
            ("!p.s", false),
            ("p.e", false),
            ("p.f", false),
            ("p.z", false),
            ("!p.z", true),
            ("p.n == 2", true),
            ("p.s != 'y'", true),
            ("p.s == 'y'", false),
        ];
        for (text, want) in cases {
            assert_eq!(Condition::parse(text).expect(text).holds(&scope), want, "{text}");
        }
    }

    #[test]
    fn fixed_start_is_what_the_author_wrote() {
        let cases = [("project:{payload.x}", "project:"), ("{payload.x}", ""), ("all", "all")];
        for (text, want) in cases {
            assert_eq!(Template::text(text).expect(text).fixed_start(), want, "{text}");
        }
    }
}
