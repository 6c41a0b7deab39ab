//! `/v1/openapi.json`, made from the types of the bodies.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::bodies;

/// The OpenAPI 3.1 document of the server API.
pub fn openapi() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    let mut add = |path: &str, method: &str, operation: Value| {
        let entry = paths.entry(path.to_owned()).or_insert_with(|| json!({}));
        entry[method] = operation;
    };
    for (path, about, body) in [
        (
            "/v1/emit",
            "Sends an event. An unknown target is no error.",
            body::<bodies::Emit>(&mut schemas),
        ),
        ("/v1/batch", "Does several commands in order.", body::<bodies::Batch>(&mut schemas)),
        ("/v1/rooms/join", "Puts connections into rooms.", body::<bodies::Rooms>(&mut schemas)),
        ("/v1/rooms/leave", "Takes connections out of rooms.", body::<bodies::Rooms>(&mut schemas)),
        ("/v1/disconnect", "Disconnects connections.", body::<bodies::Disconnect>(&mut schemas)),
        ("/v1/locks/release", "Frees a stuck lock.", body::<bodies::Release>(&mut schemas)),
    ] {
        add(path, "post", operation(about, &[], Some(body)));
    }
    let namespace = parameter("namespace", "query", "The namespace; `/` if it is left out.");
    let path = |name: &str, about: &str| parameter(name, "path", about);
    add(
        "/v1/rooms",
        "get",
        operation(
            "The rooms of a namespace, with their connections.",
            &[
                namespace.clone(),
                parameter("prefix", "query", "Only rooms whose names start so."),
                parameter("limit", "query", "Rooms at most, up to 1000."),
                parameter("cursor", "query", "Of the answer before, for the rooms after it."),
            ],
            None,
        ),
    );
    let room = path("room", "The room's name.");
    add(
        "/v1/rooms/{room}/members",
        "get",
        operation("The connections in a room.", &[room.clone(), namespace.clone()], None),
    );
    add(
        "/v1/presence/{room}",
        "get",
        operation("The users in a room, and what they are up to.", &[room, namespace], None),
    );
    add(
        "/v1/users/{id}/connections",
        "get",
        operation("A user's connections.", &[path("id", "The user's id.")], None),
    );
    add(
        "/v1/connections/{sid}",
        "get",
        operation("One connection.", &[path("sid", "Its public id.")], None),
    );
    add("/v1/stats", "get", operation("The cluster in numbers.", &[], None));
    let id = path("id", "The session's id.");
    let session = body::<bodies::Session>(&mut schemas);
    add(
        "/v1/sessions/{id}",
        "put",
        operation("Stores a login session.", &[id.clone()], Some(session)),
    );
    add("/v1/sessions/{id}", "get", operation("A login session.", &[id.clone()], None));
    add("/v1/sessions/{id}", "delete", operation("Ends a login session.", &[id], None));
    add("/v1/openapi.json", "get", operation("This document.", &[], None));
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

fn body<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    schemas.subschema_for::<T>().to_value()
}

fn parameter(name: &str, place: &str, about: &str) -> Value {
    json!({
        "name": name, "in": place, "required": place == "path", "description": about,
        "schema": {"type": if name == "limit" { "integer" } else { "string" }},
    })
}

fn operation(about: &str, parameters: &[Value], body: Option<Value>) -> Value {
    let answer = |text: &str| json!({"description": text, "content": {"application/json": {}}});
    let mut operation = json!({
        "summary": about,
        "parameters": parameters,
        "responses": {
            "200": answer("Done."), "400": answer("The request is wrong."),
            "401": answer("The key is missing or wrong."), "404": answer("There is no such thing."),
            "409": answer("A call with this Idempotency-Key is at work."),
            "413": answer("Too large."), "503": answer("A part behind the gateway is down."),
        },
    });
    if let Some(schema) = body {
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    operation
}
