//! A web server in the data network: as many bytes as the path says, for curl.

use super::{LabError, Namespaces, Side};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// Serves `GET /BYTES` on port 8080, both families, as long as the process lives.
pub struct WebServer;

impl WebServer {
    /// Start it in the data network.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(namespaces: &Namespaces) -> Result<Self, LabError> {
        let listener = namespaces.within(Side::Dn, || TcpListener::bind("[::]:8080"))??;
        std::thread::Builder::new().name("web".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(&stream));
            }
        })?;
        Ok(Self)
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
