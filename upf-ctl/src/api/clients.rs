//! Who may ask for what: the clients file.
//!
//! A line each, `#` begins a comment:
//!
//! ```text
//! video-app  token:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824         qod
//! operator   certificate:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08  contexts:read,contexts:write
//! ```
//!
//! The digest is SHA-256, of the token's octets or of the client's certificate in DER. Tokens themselves are nowhere.

use ring::digest::{SHA256, digest};
use std::path::Path;

/// What a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// CAMARA Quality-On-Demand and QoS Profiles.
    Qod,
    /// Contexts, and what they have made of sessions.
    ContextsRead,
    /// Change contexts.
    ContextsWrite,
}

impl Scope {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Qod, Self::ContextsRead, Self::ContextsWrite];

    /// As files and messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qod => "qod",
            Self::ContextsRead => "contexts:read",
            Self::ContextsWrite => "contexts:write",
        }
    }
}

/// Somebody who has shown who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// As the file names them. Quality-On-Demand sessions and idempotency keys are theirs alone.
    pub name: String,
    /// What they may do.
    pub scopes: Vec<Scope>,
}

impl Client {
    /// Somebody who may do everything, such as the user of the control socket.
    pub fn trusted(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            scopes: Scope::ALL.to_vec(),
        }
    }
}

/// How somebody shows who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A bearer token.
    Token,
    /// A certificate that the TLS handshake has checked.
    Certificate,
}

type Digest = [u8; 32];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    proof: Proof,
    digest: Digest,
    client: Client,
}

/// Everybody known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients(Vec<Entry>);

/// What is wrong with a clients file.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    /// It cannot be read.
    #[error("cannot read the clients file {path}: {error}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// A line is wrong.
    #[error("{path}:{line}: expected {expected}, found {found:?}")]
    Line {
        /// Which file.
        path: String,
        /// From 1.
        line: usize,
        /// What would be right.
        expected: &'static str,
        /// What is there; never a token, unless somebody wrote one where the digest belongs.
        found: String,
    },
}

impl Clients {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`ClientsError`].
    pub fn load(path: &Path) -> Result<Self, ClientsError> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, &name),
            Err(error) => Err(ClientsError::Read { path: name, error }),
        }
    }

    /// Reads the text of a file of this name.
    ///
    /// # Errors
    /// The first line that is wrong.
    pub fn parse(text: &str, path: &str) -> Result<Self, ClientsError> {
        let mut entries: Vec<Entry> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            let wrong = |expected, found: &str| ClientsError::Line {
                path: path.to_owned(),
                line: index + 1,
                expected,
                found: found.to_owned(),
            };
            let (name, secret, scopes) = match words[..] {
                [] => continue,
                [name, secret, scopes] => (name, secret, scopes),
                _ => {
                    return Err(wrong(
                        "NAME token:SHA256|certificate:SHA256 SCOPE,...",
                        &words.len().to_string(),
                    ));
                }
            };
            let (proof, hex) = match secret.split_once(':') {
                Some(("token", hex)) => (Proof::Token, hex),
                Some(("certificate", hex)) => (Proof::Certificate, hex),
                _ => return Err(wrong("token:SHA256 or certificate:SHA256", "another word")),
            };
            let digest = from_hex(hex).ok_or_else(|| wrong("64 hexadecimal digits, a SHA-256 digest", "other text"))?;
            let scope = |word: &str| Scope::ALL.into_iter().find(|scope| scope.name() == word);
            let scopes = scopes
                .split(',')
                .map(|word| scope(word).ok_or_else(|| wrong("qod, contexts:read or contexts:write", word)));
            let client = Client {
                name: name.to_owned(),
                scopes: scopes.collect::<Result<_, _>>()?,
            };
            if entries.iter().any(|e| e.proof == proof && e.digest == digest) {
                return Err(wrong("each digest once", name));
            }
            entries.push(Entry { proof, digest, client });
        }
        Ok(Self(entries))
    }

    /// Whose token or certificate (DER) this is. The time it takes does not depend on how much of a digest is right.
    pub fn find(&self, proof: Proof, secret: &[u8]) -> Option<&Client> {
        let shown = digest(&SHA256, secret);
        let mut found = None;
        for entry in &self.0 {
            let equal = same(&entry.digest, shown.as_ref()) & (entry.proof == proof);
            if equal {
                found = Some(&entry.client);
            }
        }
        found
    }
}

/// Equality that looks at every octet whatever the others are.
fn same(a: &[u8], b: &[u8]) -> bool {
    let difference = a
        .iter()
        .zip(b)
        .fold(a.len() ^ b.len(), |d, (a, b)| d | usize::from(a ^ b));
    std::hint::black_box(difference) == 0
}

fn from_hex(text: &str) -> Option<Digest> {
    let bytes = text.as_bytes();
    let mut digest = Digest::default();
    if bytes.len() != 2 * digest.len() {
        return None;
    }
    for (octet, pair) in digest.iter_mut().zip(bytes.chunks(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *octet = (high << 4 | low) as u8;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of `hello`, as `printf hello | sha256sum` has it.
    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    #[test]
    fn a_client_is_found_by_its_token_and_only_as_a_token() {
        let text = format!("# who\n\nvideo token:{HELLO} qod,contexts:read # the app\n");
        let clients = Clients::parse(&text, "clients").unwrap();
        let video = clients.find(Proof::Token, b"hello").unwrap();
        assert_eq!((video.name.as_str(), video.scopes.len()), ("video", 2));
        assert_eq!(clients.find(Proof::Token, b"hellp"), None);
        assert_eq!(clients.find(Proof::Token, b""), None);
        assert_eq!(clients.find(Proof::Certificate, b"hello"), None);
    }

    #[test]
    fn a_wrong_line_is_named_and_its_secret_is_not_repeated() {
        let wrong = |text: &str| Clients::parse(text, "clients").unwrap_err().to_string();
        assert_eq!(
            wrong("\nvideo hello qod"),
            "clients:2: expected token:SHA256 or certificate:SHA256, found \"another word\""
        );
        assert!(wrong("video token:hello qod").contains("64 hexadecimal digits"));
        assert!(wrong(&format!("video token:{HELLO} root")).contains("found \"root\""));
        assert!(wrong(&format!("video token:{HELLO}")).contains("NAME token"));
        assert!(wrong(&format!("a token:{HELLO} qod\nb token:{HELLO} qod")).contains("each digest once"));
    }
}
