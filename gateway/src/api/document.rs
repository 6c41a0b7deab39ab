//! `/v1/openapi.json`, made from the types of the bodies and answers.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{answers, bodies};

/// One call, as the document describes it.
struct Call {
    path: &'static str,
    method: &'static str,
    about: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    answer: Value,
}

/// The `OpenAPI` 3.1 document of the server API.
pub fn openapi() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut schemas = settings.into_generator();
    let refused = schema::<answers::Refused>(&mut schemas);
    let mut paths = Map::new();
    for call in calls(&mut schemas) {
        let entry = paths.entry(call.path.to_owned()).or_insert_with(|| json!({}));
        let method = call.method;
        entry[method] = call.describe(&refused);
    }
    let schemas = schemas.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Gateway server API", "version": env!("CARGO_PKG_VERSION")},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn calls(schemas: &mut SchemaGenerator) -> Vec<Call> {
    let done = schema::<answers::Done>(schemas);
    let mut calls = Vec::new();
    for (path, about, body) in [
        (
            "/v1/emit",
            "Sends an event. An unknown target is no error.",
            schema::<bodies::Emit>(schemas),
        ),
        ("/v1/rooms/join", "Puts connections into rooms.", schema::<bodies::Rooms>(schemas)),
        ("/v1/rooms/leave", "Takes connections out of rooms.", schema::<bodies::Rooms>(schemas)),
        ("/v1/disconnect", "Disconnects connections.", schema::<bodies::Disconnect>(schemas)),
        ("/v1/locks/release", "Frees a stuck lock.", schema::<bodies::Release>(schemas)),
    ] {
        let answer = done.clone();
        calls.push(Call {
            path,
            method: "post",
            about,
            parameters: vec![],
            body: Some(body),
            answer,
        });
    }
    calls.push(Call {
        path: "/v1/batch",
        method: "post",
        about: "Does several commands in order.",
        parameters: vec![],
        body: Some(schema::<bodies::Batch>(schemas)),
        answer: schema::<answers::Results>(schemas),
    });
    let named = |name: &str, about: &str| parameter(name, "path", about);
    let namespace = parameter("namespace", "query", "The namespace; `/` if it is left out.");
    let room = named("room", "The room's name.");
    let pages = vec![
        namespace.clone(),
        parameter("prefix", "query", "Only rooms whose names start so."),
        parameter("limit", "query", "Rooms at most, up to 1000."),
        parameter("cursor", "query", "Of the answer before, for the rooms after it."),
    ];
    let in_room = vec![room, namespace];
    for (path, about, parameters, answer) in [
        ("/v1/rooms", "The rooms of a namespace.", pages, schema::<answers::RoomList>(schemas)),
        (
            "/v1/rooms/{room}/members",
            "The connections in a room.",
            in_room.clone(),
            schema::<answers::Members>(schemas),
        ),
        (
            "/v1/presence/{room}",
            "The users in a room, and what they are up to.",
            in_room,
            schema::<answers::Presence>(schemas),
        ),
        (
            "/v1/users/{id}/connections",
            "A user's connections.",
            vec![named("id", "The user's id.")],
            schema::<answers::Connections>(schemas),
        ),
        (
            "/v1/connections/{sid}",
            "One connection.",
            vec![named("sid", "Its public id.")],
            schema::<answers::Known>(schemas),
        ),
        ("/v1/stats", "The cluster in numbers.", vec![], schema::<answers::Stats>(schemas)),
        ("/v1/openapi.json", "This document.", vec![], json!({"type": "object"})),
    ] {
        calls.push(Call { path, method: "get", about, parameters, body: None, answer });
    }
    let session = schema::<answers::LoginSession>(schemas);
    let body = schema::<bodies::Session>(schemas);
    for (method, about, body, answer) in [
        ("put", "Stores a login session.", Some(body), session.clone()),
        ("get", "A login session.", None, session),
        ("delete", "Ends a login session.", None, done),
    ] {
        let parameters = vec![named("id", "The session's id.")];
        calls.push(Call { path: "/v1/sessions/{id}", method, about, parameters, body, answer });
    }
    calls
}

fn schema<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

fn parameter(name: &str, place: &str, about: &str) -> Value {
    json!({
        "name": name, "in": place, "required": place == "path", "description": about,
        "schema": {"type": if name == "limit" { "integer" } else { "string" }},
    })
}

fn json_of(text: &str, schema: &Value) -> Value {
    json!({"description": text, "content": {"application/json": {"schema": schema}}})
}

impl Call {
    fn describe(self, refused: &Value) -> Value {
        let mut responses = Map::from_iter([("200".to_owned(), json_of("Done.", &self.answer))]);
        for (status, text) in [
            ("400", "The request is wrong."),
            ("401", "The key is missing or wrong."),
            ("404", "There is no such thing."),
            ("409", "A call with this Idempotency-Key is at work."),
            ("413", "Too large."),
            ("429", "A count is full."),
            ("503", "A part behind the gateway is down."),
        ] {
            responses.insert(status.to_owned(), json_of(text, refused));
        }
        let mut operation = json!({
            "summary": self.about, "parameters": self.parameters, "responses": responses,
        });
        if let Some(body) = self.body {
            operation["requestBody"] =
                json!({"required": true, "content": {"application/json": {"schema": body}}});
        }
        operation
    }
}
