//! Numbers that actions compute, on whichever of the three machines, and the lines of `log_msg`.

use std::fmt::Write;

use num_bigint::BigInt;

use crate::program::expr::{Env, Num, big};

/// A number that has been computed.
#[derive(Debug, Clone)]
pub(crate) enum Computed {
    Word(u64),
    Double(u128),
    Big(BigInt),
}

impl Computed {
    pub(crate) fn of(number: &Num, phv: &[u8], env: &Env) -> Self {
        match number {
            Num::Word(e) => Computed::Word(e.eval(phv, env)),
            Num::Double(x) => Computed::Double(x.eval(phv, env)),
            Num::Big(ast) => Computed::Big(big(ast, phv, env)),
        }
    }

    pub(super) fn low(&self) -> u64 {
        match self {
            Computed::Word(word) => *word,
            Computed::Double(double) => *double as u64,
            Computed::Big(number) => u64::try_from(number & BigInt::from(u64::MAX)).unwrap_or(0),
        }
    }

    pub(super) fn into_big(self) -> BigInt {
        match self {
            Computed::Word(word) => BigInt::from(word),
            Computed::Double(double) => BigInt::from(double),
            Computed::Big(number) => number,
        }
    }

    /// Writes the low `width` bits into words, the most significant first.
    pub(super) fn put(self, words: &mut [u64], width: usize) {
        let number = self.into_big();
        for (i, word) in words.iter_mut().rev().enumerate() {
            let bits = (width - 64 * i).min(64);
            let chunk = (&number >> (64 * i)) & BigInt::from(u64::MAX >> (64 - bits));
            *word = u64::try_from(chunk).unwrap_or(0);
        }
    }
}

/// Replaces each `{}` by the next value.
pub(super) fn format_log(format: &str, values: &[BigInt]) -> String {
    let mut line = String::with_capacity(format.len() + 16);
    let mut values = values.iter();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('{') {
        if let Some(plain) = before.strip_suffix('\\') {
            line.push_str(plain);
            line.push('{');
            rest = after;
            continue;
        }
        line.push_str(before);
        rest = after.split_once('}').map_or("", |(_, tail)| tail);
        if let Some(value) = values.next() {
            // Writing to a string cannot fail.
            let _ = write!(line, "{value}");
        }
    }
    line.push_str(&rest.replace("\\}", "}"));
    line
}
