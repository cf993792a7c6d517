//! Questions to a running upf-ctl, over its UNIX socket.

use http_body_util::{BodyExt, Full};
use hyper::Method;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("cannot reach upf-ctl at {path}: {error}; is it running, and is this its configuration?")]
    Unreachable {
        /// The socket.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It answered with a failure.
    #[error("upf-ctl answered {status}: {body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// The connection broke, or the answer is not JSON.
    #[error("unreadable answer from upf-ctl: {0}")]
    Unreadable(String),
}

/// A client of one upf-ctl.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Of the upf-ctl at this socket.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// GET a path; the answer as JSON. Blocks; not to be called from an async task.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get(&self, path: &str) -> Result<serde_json::Value, ClientError> {
        self.call(Method::GET, path, None)
    }

    /// PUT JSON to a path; the answer as JSON. Blocks; not to be called from an async task.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn put(&self, path: &str, body: &serde_json::Value) -> Result<serde_json::Value, ClientError> {
        self.call(Method::PUT, path, Some(body))
    }

    /// Any request. Blocks; not to be called from an async task.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<serde_json::Value, ClientError> {
        // A thread of its own, so that a caller inside a runtime is no obstacle.
        let asking = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| ClientError::Unreadable(e.to_string()))?;
            runtime.block_on(async {
                match tokio::time::timeout(PATIENCE, self.ask(method, path, body)).await {
                    Ok(answer) => answer,
                    Err(_) => Err(ClientError::Unreadable(format!("none within {PATIENCE:?}"))),
                }
            })
        };
        std::thread::scope(|scope| scope.spawn(asking).join())
            .unwrap_or_else(|_| Err(ClientError::Unreadable("the asking thread panicked".into())))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<serde_json::Value, ClientError> {
        let unreadable = |e: hyper::Error| ClientError::Unreadable(e.to_string());
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| ClientError::Unreachable {
                path: self.socket.display().to_string(),
                error,
            })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(unreadable)?;
        tokio::spawn(connection);
        let body = body.map(serde_json::Value::to_string).unwrap_or_default();
        let request = hyper::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "upf-ctl")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)));
        let request = request.map_err(|e| ClientError::Unreadable(e.to_string()))?;
        let response = sender.send_request(request).await.map_err(unreadable)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(unreadable)?.to_bytes();
        if !status.is_success() {
            let body = String::from_utf8_lossy(&body).trim().to_owned();
            return Err(ClientError::Refused {
                status: status.as_u16(),
                body,
            });
        }
        serde_json::from_slice(&body).map_err(|e| ClientError::Unreadable(e.to_string()))
    }
}
