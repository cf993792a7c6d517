//! Every path with its method, scope and handler: what is served, and what [`super::openapi`] describes.

use super::clients::{Client, Scope};
use super::contexts::{BatchAnswer, ListAnswer, PutAnswer};
use super::facts::{Batch, ShownFact, ValueBody};
use super::guard::{self, Guard};
use super::qod::types::{
    CreateSession, ExtendSessionDuration, QosProfile, QosProfileQuery, RetrieveSessionsInput, SessionInfo,
};
use super::refusal::Refusal;
use super::{Api, contexts, openapi, qod};
use crate::context_push::Contexts;
use axum::extract::{DefaultBodyLimit, FromRef, Request};
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Json, Router};
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// Octets of a body on the control socket.
const LOCAL_BODY: usize = 64 << 20;

/// The schema of a type, kept among the components.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One operation.
#[derive(Debug)]
pub struct Route<S> {
    /// `get`, `put`, `post` or `delete`.
    pub method: &'static str,
    /// With parameters in braces.
    pub path: &'static str,
    /// What the client must be allowed; none: nothing but to be known.
    pub scope: Option<Scope>,
    /// Its name in the description.
    pub operation: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Parameters of the query.
    pub query: &'static [&'static str],
    /// What it takes.
    pub request: Option<SchemaOf>,
    /// What it answers when all is well.
    pub success: StatusCode,
    /// And with what.
    pub response: Option<SchemaOf>,
    /// Statuses of its failures besides those that every operation has.
    pub failures: &'static [u16],
    handler: MethodRouter<S>,
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    fn new<H, T>(method: &'static str, path: &'static str, operation: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let handler = match method {
            "get" => get(handler),
            "put" => put(handler),
            "delete" => delete(handler),
            _ => post(handler),
        };
        Self {
            method,
            path,
            scope: None,
            operation,
            summary: "",
            query: &[],
            request: None,
            success: StatusCode::OK,
            response: None,
            failures: &[],
            handler,
        }
    }

    fn scope(self, scope: Scope) -> Self {
        Self {
            scope: Some(scope),
            ..self
        }
    }

    fn says(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    fn query(self, query: &'static [&'static str]) -> Self {
        Self { query, ..self }
    }

    fn takes<T: JsonSchema>(self) -> Self {
        Self {
            request: Some(schema::<T>),
            ..self
        }
    }

    fn gives<T: JsonSchema>(self, success: StatusCode) -> Self {
        Self {
            success,
            response: Some(schema::<T>),
            ..self
        }
    }

    fn gives_nothing(self, success: StatusCode) -> Self {
        Self { success, ..self }
    }

    fn fails(self, failures: &'static [u16]) -> Self {
        Self { failures, ..self }
    }
}

/// The context API: on the network and on the control socket.
pub fn native<S>() -> Vec<Route<S>>
where
    S: Clone + Send + Sync + 'static,
    Contexts: FromRef<S>,
{
    const FACT: &str = "/v1/contexts/{kind}/{subject}/{key}";
    vec![
        Route::new("get", "/v1/contexts", "listContexts", contexts::list_all)
            .scope(Scope::ContextsRead)
            .says("Contexts of everybody, or of one subject")
            .query(&["about", "flow", "key_prefix", "offset", "limit"])
            .gives::<ListAnswer>(StatusCode::OK),
        Route::new("post", "/v1/contexts", "changeContexts", contexts::batch)
            .scope(Scope::ContextsWrite)
            .says("Put and remove many contexts, in order; JSON, or NDJSON with one step a line")
            .takes::<Batch>()
            .gives::<BatchAnswer>(StatusCode::OK)
            .fails(&[409, 413, 415]),
        Route::new(
            "get",
            "/v1/contexts/{kind}/{subject}",
            "listContextsOf",
            contexts::list_of,
        )
        .scope(Scope::ContextsRead)
        .says("Contexts of one subject")
        .query(&["flow", "key_prefix", "offset", "limit"])
        .gives::<ListAnswer>(StatusCode::OK),
        Route::new("put", FACT, "putContext", contexts::put_one)
            .scope(Scope::ContextsWrite)
            .says("This is so from now on; 202 if a data plane could not follow yet")
            .takes::<ValueBody>()
            .gives::<PutAnswer>(StatusCode::OK)
            .fails(&[413, 422]),
        Route::new("get", FACT, "getContext", contexts::get_one)
            .scope(Scope::ContextsRead)
            .says("One context")
            .query(&["flow"])
            .gives::<ShownFact>(StatusCode::OK)
            .fails(&[404]),
        Route::new("delete", FACT, "removeContext", contexts::delete_one)
            .scope(Scope::ContextsWrite)
            .says("It is so no longer; answers with what it was")
            .query(&["flow"])
            .gives::<ShownFact>(StatusCode::OK)
            .fails(&[404]),
        Route::new("get", "/v1/sessions/{seid}/qos", "explainSession", contexts::explain)
            .scope(Scope::ContextsRead)
            .says("Which contexts and policies made a session what it is")
            .gives::<serde_json::Value>(StatusCode::OK)
            .fails(&[404]),
    ]
}

/// CAMARA's APIs.
pub fn camara() -> Vec<Route<Api>> {
    const SESSIONS: &str = "/quality-on-demand/v1/sessions";
    const SESSION: &str = "/quality-on-demand/v1/sessions/{sessionId}";
    vec![
        Route::new("post", SESSIONS, "createSession", qod::create)
            .says("Ask for a quality of a flow for a time")
            .takes::<CreateSession>()
            .gives::<SessionInfo>(StatusCode::CREATED)
            .fails(&[409, 413, 422]),
        Route::new("get", SESSION, "getSession", qod::get)
            .says("How a session is")
            .gives::<SessionInfo>(StatusCode::OK)
            .fails(&[404]),
        Route::new("delete", SESSION, "deleteSession", qod::delete)
            .says("End a session")
            .gives_nothing(StatusCode::NO_CONTENT)
            .fails(&[404]),
        Route::new(
            "post",
            "/quality-on-demand/v1/sessions/{sessionId}/extend",
            "extendQosSessionDuration",
            qod::extend,
        )
        .says("Let a session last longer")
        .takes::<ExtendSessionDuration>()
        .gives::<SessionInfo>(StatusCode::OK)
        .fails(&[404, 409, 413]),
        Route::new(
            "post",
            "/quality-on-demand/v1/retrieve-sessions",
            "retrieveSessionsByDevice",
            qod::retrieve,
        )
        .says("The sessions of a device")
        .takes::<RetrieveSessionsInput>()
        .gives::<Vec<SessionInfo>>(StatusCode::OK)
        .fails(&[413, 422]),
        Route::new(
            "post",
            "/qos-profiles/v1/retrieve-qos-profiles",
            "retrieveQoSProfiles",
            qod::profiles::retrieve,
        )
        .says("The profiles there are")
        .takes::<QosProfileQuery>()
        .gives::<Vec<QosProfile>>(StatusCode::OK)
        .fails(&[413]),
        Route::new(
            "get",
            "/qos-profiles/v1/qos-profiles/{name}",
            "getQosProfile",
            qod::profiles::get,
        )
        .says("One profile")
        .gives::<QosProfile>(StatusCode::OK)
        .fails(&[404]),
    ]
    .into_iter()
    .map(|route| route.scope(Scope::Qod))
    .collect()
}

/// Everything that is served on the network.
pub fn all() -> Vec<Route<Api>> {
    let description = Route::new("get", "/openapi.json", "describe", || async {
        Json(openapi::document())
    })
    .says("This description")
    .gives::<serde_json::Value>(StatusCode::OK);
    let mut routes = vec![description];
    routes.extend(camara());
    routes.extend(native());
    routes
}

fn router<S: Clone + Send + Sync + 'static>(routes: Vec<Route<S>>) -> Router<S> {
    routes.into_iter().fold(Router::new(), |router, route| {
        let handler = match route.scope {
            Some(scope) => route.handler.layer(from_fn_with_state(scope, guard::require)),
            None => route.handler,
        };
        router.route(route.path, handler)
    })
}

impl Api {
    /// What is served on the network, behind the guard.
    pub fn router(&self, guarded: Guard) -> Router {
        router(all())
            .fallback(|| async { Refusal::not_found("there is no such path; /openapi.json names those there are") })
            .method_not_allowed_fallback(|| async {
                let message = "the path knows other methods; /openapi.json names them";
                Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
            })
            .layer(DefaultBodyLimit::disable())
            .layer(from_fn_with_state(guarded, guard::guard))
            .with_state(self.clone())
    }
}

/// The context API for the control socket, whose file's permissions decide who may.
pub fn local_router(contexts: Contexts) -> Router {
    router(native::<Contexts>())
        .layer(DefaultBodyLimit::max(LOCAL_BODY))
        .layer(from_fn(|mut request: Request, next: Next| async {
            request.extensions_mut().insert(Client::trusted("control socket"));
            next.run(request).await
        }))
        .with_state(contexts)
}
