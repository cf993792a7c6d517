//! The OpenAPI 3.1 description of both APIs, made from the table that routes and the types that decode.
//!
//! OpenAPI 3.1 takes JSON Schema as it is, so that the schemas are those of the very types: a description written by
//! hand, or by attributes beside the code, could say something else.

use super::Api;
use super::refusal::ErrorInfo;
use super::routes::{Route, all};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Statuses of failures that every operation has.
const FAILURES: [u16; 7] = [400, 401, 403, 408, 429, 503, 504];

/// The description.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in all() {
        let operation = operation(&route, &mut generator);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation;
    }
    generator.subschema_for::<super::qod::notify::CloudEvent>();
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Context-aware QoS of a 6G UPF",
            "summary": "CAMARA Quality-On-Demand 1.1 and QoS Profiles 1.1, and the context API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"bearer": []}, {"certificate": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "parameters": {
                "x-correlator": {
                    "name": "x-correlator", "in": "header", "description": "Comes back in the answer",
                    "schema": {"type": "string", "pattern": "^[a-zA-Z0-9-_:;.\\/<>{}]{0,256}$"},
                },
                "idempotency-key": {
                    "name": "idempotency-key", "in": "header",
                    "description": "The request is done once, and answered again for a day",
                    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                },
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
        },
    })
}

fn operation(route: &Route<Api>, generator: &mut SchemaGenerator) -> Value {
    let mut parameters = vec![json!({"$ref": "#/components/parameters/x-correlator"})];
    if route.method == "post" {
        parameters.push(json!({"$ref": "#/components/parameters/idempotency-key"}));
    }
    let in_path = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let text = |name: &str, place: &str| json!({"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}});
    parameters.extend(in_path.map(|name| text(name, "path")));
    parameters.extend(route.query.iter().map(|name| text(name, "query")));

    let mut success = json!({"description": "Done"});
    if let Some(schema) = route.response {
        success["content"] = json!({"application/json": {"schema": schema(generator)}});
    }
    let mut responses: Map<String, Value> = Map::new();
    responses.insert(route.success.as_str().to_owned(), success);
    let error = generator.subschema_for::<ErrorInfo>();
    for status in FAILURES.iter().chain(route.failures) {
        let failure = json!({"description": "Refused", "content": {"application/json": {"schema": error}}});
        responses.insert(status.to_string(), failure);
    }
    let mut operation = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses,
        "x-scope": route.scope.map(super::clients::Scope::name),
    });
    if let Some(schema) = route.request {
        operation["requestBody"] = json!({
            "required": true,
            "content": {"application/json": {"schema": schema(generator)}},
        });
        if route.operation == "changeContexts" {
            let step = generator.subschema_for::<super::facts::Step>();
            operation["requestBody"]["content"]["application/x-ndjson"] = json!({"schema": step});
        }
    }
    if route.operation == "createSession" {
        let event = generator.subschema_for::<super::qod::notify::CloudEvent>();
        operation["callbacks"] = json!({"notifications": {"{$request.body#/sink}": {"post": {
            "summary": "The client's: told of a session's new status",
            "requestBody": {"required": true, "content": {"application/cloudevents+json": {"schema": event}}},
            "responses": {"204": {"description": "Taken"}},
        }}}});
    }
    operation
}
