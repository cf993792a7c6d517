//! Connections: how many, how long, how large, and over TLS where configured.

use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

/// For the handshake, and for a request's header to be there.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// For a connection in all; the request that is under way is finished.
const CONNECTION_TIME: Duration = Duration::from_secs(600);
/// Octets of a request's header.
const HEADER_BYTES: usize = 16 << 10;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Its certificate (DER), issued by one of `client_ca`.
    pub certificate: Option<Arc<[u8]>>,
}

fn file_error(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {error}", path.display()))
}

/// Certificates of a PEM file, one at least.
pub fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| file_error(path, error))?;
    let found = found
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| file_error(path, error))?;
    match found.is_empty() {
        true => Err(file_error(path, "expected a certificate in PEM, found none")),
        false => Ok(found),
    }
}

/// Roots of a PEM file.
pub fn roots(path: &Path) -> io::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates(path)?);
    Ok(store)
}

/// The cryptography of both sides: ring's, so that no C compiler's choice decides.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The server side of TLS as configured.
///
/// # Errors
/// A file cannot be read, or key and certificate do not belong together.
pub fn tls(config: &upf_config::ApiTls) -> io::Result<TlsAcceptor> {
    let chain = certificates(&config.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| file_error(&config.key, error))?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = match &config.client_ca {
        Some(path) => {
            let roots = Arc::new(roots(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            builder.with_client_cert_verifier(verifier.build().map_err(|error| file_error(path, error))?)
        }
        None => builder.with_no_client_auth(),
    };
    let server = builder.with_single_cert(chain, key);
    let server = server.map_err(|error| file_error(&config.certificate, error))?;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

/// Serves this many connections at once until the process ends; more wait in the listener's queue.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: usize,
    router: Router,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(connections));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return Ok(());
        };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the peer was gone before we came: neither ends the server.
                tracing::debug!(%error, "accept");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        // Answers are short: without this, each would wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let (router, tls) = (router.clone(), tls.clone());
        let mut peer = Peer {
            address: address.ip(),
            certificate: None,
        };
        tokio::spawn(async move {
            match tls {
                None => connection(stream, peer, router).await,
                Some(tls) => match tokio::time::timeout(HEADER_TIME, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                        peer.certificate = shown.map(|certificate| certificate.as_ref().into());
                        connection(stream, peer, router).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, %address, "TLS handshake"),
                    Err(_) => tracing::debug!(%address, "no TLS handshake in time"),
                },
            }
            drop(place);
        });
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer, router: Router) {
    let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(peer.clone());
        let router = router.clone();
        async move { hyper::service::Service::call(&hyper_util::service::TowerToHyperService::new(router), request).await }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = tokio::time::sleep(CONNECTION_TIME) => {
            // Whoever is well connects again; whoever reads no answers must not keep a place for ever.
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(HEADER_TIME, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection");
    }
}
