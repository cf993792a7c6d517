//! What the wire tests share: vectors from files, and an encoder of SMF requests written apart from the product's
//! code, so that a misreading of the standard would have to be made twice.
#![allow(dead_code)] // Each test binary uses its part.

pub mod decoded;
pub mod encode;

use encode::ie;

/// Name and octets of each line of a vector file.
pub fn vectors(file: &str) -> Vec<(String, Vec<u8>)> {
    let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (name, octets) = line.split_once(' ').expect("a name and octets");
            (name.to_owned(), hex(octets))
        })
        .collect()
}

/// The octets of one vector.
pub fn vector(file: &str, name: &str) -> Vec<u8> {
    let found = vectors(file).into_iter().find(|(n, _)| n == name);
    found.unwrap_or_else(|| panic!("no vector {name} in {file}")).1
}

/// Octets from hexadecimal digits.
pub fn hex(digits: &str) -> Vec<u8> {
    let digits: String = digits.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex"))
        .collect()
}

/// A Session Establishment Request with these IEs after a Node ID and a CP F-SEID.
pub fn establishment(ies: &[u8]) -> Vec<u8> {
    let node_id = ie(60, &[0, 192, 0, 2, 1]);
    let fseid = ie(57, &[2, 0, 0, 0, 0, 0, 0, 0, 9, 192, 0, 2, 1]);
    encode::message(50, Some(0), 1, &[&node_id, &fseid, ies])
}

/// A Session Modification Request with these IEs.
pub fn modification(ies: &[u8]) -> Vec<u8> {
    encode::message(52, Some(7), 1, &[ies])
}
