//! A web server in the data network: as many bytes as the path says, for curl.

use super::{LabError, Namespaces, Side};
use nix::sys::socket::{Shutdown, shutdown};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Serves `GET /BYTES` on port 8080, both families, until it is dropped: a socket would keep its namespace alive.
pub struct WebServer(Arc<TcpListener>);

impl WebServer {
    /// Start it in the data network.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(namespaces: &Namespaces) -> Result<Self, LabError> {
        let listener = Arc::new(namespaces.within(Side::Dn, || TcpListener::bind("[::]:8080"))??);
        let accepting = listener.clone();
        std::thread::Builder::new().name("web".into()).spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                std::thread::spawn(move || serve(&stream));
            }
        })?;
        Ok(Self(listener))
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        // Wakes the thread that accepts, with an error.
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }
}

fn serve(mut stream: &TcpStream) -> std::io::Result<()> {
    let mut request = BufReader::new(stream);
    let mut line = String::new();
    request.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or("/");
    let bytes: usize = path.trim_start_matches('/').parse().unwrap_or(0).min(1 << 30);
    while line.trim() != "" {
        line.clear();
        request.read_line(&mut line)?;
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n"
    )?;
    let block = [b'6'; 16_384];
    let mut left = bytes;
    while left > 0 {
        let n = left.min(block.len());
        stream.write_all(&block[..n])?;
        left -= n;
    }
    Ok(())
}
