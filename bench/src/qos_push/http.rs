//! HTTP/1.1 on one connection that stays open: what a controller of applications would have.

use super::Outcome;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection to upf-ctl's control socket.
pub struct Connection(BufReader<UnixStream>);

impl Connection {
    /// Connects.
    pub fn open(socket: &Path) -> Outcome<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// A request, ready to be sent.
    pub fn request(method: &str, path: &str, body: Option<&Value>) -> Vec<u8> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        format!("{method} {path} HTTP/1.1\r\nhost: upf\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
            .into_bytes()
    }

    /// Sends one.
    pub fn send(&mut self, request: &[u8]) -> Outcome<()> {
        Ok(self.0.get_mut().write_all(request)?)
    }

    /// Its answer, which must be a success.
    pub fn answer(&mut self) -> Outcome<Value> {
        let mut head = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            head.push_str(&line);
            head.push('\n');
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        if !head.starts_with("http/1.1 2") {
            return Err(format!("{head}{}", String::from_utf8_lossy(&body)).into());
        }
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }
}
