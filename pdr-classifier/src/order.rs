//! Which of at most sixteen rows wins: the order of a small set in one word.
//!
//! Nibble *r* of the word is the rank of row *r*: of rows that match, the one of least rank wins. So the rows may stand
//! in any order, and a change of any precedences, however many at once, is one store: a packet sees the order before or
//! the order after, and never half of one. (Sixteen precedence values side by side could be read while two of them
//! change, in an order that no session ever had.)

/// Rows whose order fits a word.
pub(crate) const MOST: usize = 16;

/// What [`least`] and its vector forms give if nothing matches.
pub(crate) const NOTHING: u32 = u32::MAX;

/// The word for rows of those precedences, in the order of their rules; of equals, the earlier row comes first.
#[inline]
pub(crate) fn of(precedences: &[u32]) -> u64 {
    debug_assert!(precedences.len() <= MOST);
    let mut word = 0;
    for (row, mine) in precedences.iter().enumerate() {
        let before = precedences[..row].iter().filter(|p| *p <= mine).count();
        let after = precedences[row + 1..].iter().filter(|p| *p < mine).count();
        word |= ((before + after) as u64) << (4 * row);
    }
    word
}

/// The same for at most four rows, without a loop: a context push is full of these.
#[inline(always)]
pub(crate) fn of_four([a, b, c, d]: [u32; 4], rows: usize) -> u64 {
    let less = |x: u32, y: u32| u64::from(x < y);
    let (ab, ac, ad) = (less(b, a), less(c, a), less(d, a));
    let (bc, bd, cd) = (less(c, b), less(d, b), less(d, c));
    let ranks = [ab + ac + ad, 1 - ab + bc + bd, 2 - ac - bc + cd, 3 - ad - bd - cd];
    let word = ranks[0] | ranks[1] << 4 | ranks[2] << 8 | ranks[3] << 12;
    word & ((1 << (4 * rows)) - 1)
}

/// Of the rows in `matching`, the one of least rank.
#[inline(always)]
pub(crate) fn least(order: u64, matching: u32) -> u32 {
    let mut left = matching;
    let mut least = NOTHING;
    while left != 0 {
        let row = left.trailing_zeros();
        let rank = (order >> (4 * row) & 0xf) as u32;
        least = least.min(rank << 4 | row);
        left &= left - 1;
    }
    if least == NOTHING { NOTHING } else { least & 0xf }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_lowest_precedence_of_those_that_match_wins_and_of_equals_the_first(
            precedences in prop::collection::vec(0..6u32, 1..=MOST),
            matching in any::<u16>(),
        ) {
            let rows = precedences.len();
            let matching = u32::from(matching) & ((1u32 << rows) - 1);
            let expected = (0..rows).filter(|row| matching >> row & 1 == 1).min_by_key(|row| (precedences[*row], *row));
            let expected = expected.map_or(NOTHING, |row| row as u32);
            prop_assert_eq!(least(of(&precedences), matching), expected);
            if rows <= 4 {
                let mut four = [u32::MAX; 4];
                four[..rows].copy_from_slice(&precedences);
                prop_assert_eq!(of_four(four, rows), of(&precedences));
            }
        }
    }
}
