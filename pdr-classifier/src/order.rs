//! Which of at most sixteen rows wins: the order of a small set in one word.
//!
//! Of up to four rows, the word is the answer to all sixteen questions, two bits each: which row wins if these match. Of
//! up to sixteen, nibble *r* is the rank of row *r*: of rows that match, the one of least rank wins. So the rows may stand
//! in any order, and a change of any precedences, however many at once, is one store: a packet sees the order before or
//! the order after, and never half of one. (Sixteen precedence values side by side could be read while two of them
//! change, in an order that no session ever had.)

/// Rows whose order fits a word.
pub(crate) const MOST: usize = 16;

/// What [`least`] and its vector forms give if nothing matches.
pub(crate) const NOTHING: u32 = u32::MAX;

/// Rows that have their answers in the word.
pub(crate) const ANSWERED: usize = 4;

/// The word for rows of those precedences, in the order of their rules; of equals, the earlier row comes first. `lanes`
/// is the number of lanes of their block.
pub(crate) fn of(precedences: &[u32], lanes: usize) -> u64 {
    debug_assert!(precedences.len() <= lanes && lanes <= MOST);
    if lanes <= ANSWERED {
        let mut four = [u32::MAX; ANSWERED];
        four.iter_mut().zip(precedences).for_each(|(place, p)| *place = *p);
        return of_four(four);
    }
    let mut word = 0;
    for (row, mine) in precedences.iter().enumerate() {
        let before = precedences[..row].iter().filter(|p| *p <= mine).count();
        let after = precedences[row + 1..].iter().filter(|p| *p < mine).count();
        word |= ((before + after) as u64) << (4 * row);
    }
    word
}

/// The same for a block of four lanes, without a loop: a context push is full of these.
#[inline(always)]
pub(crate) fn of_four([a, b, c, d]: [u32; ANSWERED]) -> u64 {
    let less = |x: u32, y: u32| usize::from(x < y);
    let (ab, ac, ad) = (less(b, a), less(c, a), less(d, a));
    let (bc, bd, cd) = (less(c, b), less(d, b), less(d, c));
    let ranks = [ab + ac + ad, 1 - ab + bc + bd, 2 - ac - bc + cd, 3 - ad - bd - cd];
    ANSWERS[ranks[0] | ranks[1] << 2 | ranks[2] << 4 | ranks[3] << 6].into()
}

/// The answers for four rows of given ranks, two bits of the index each.
static ANSWERS: [u32; 256] = {
    let mut answers = [0; 256];
    let mut ranks = 0;
    while ranks < 256 {
        let mut matching = 1;
        while matching < 16 {
            let (mut least, mut winner, mut row) = (4, 0, 0);
            while row < 4 {
                let rank = ranks >> (2 * row) & 3;
                if matching >> row & 1 == 1 && rank < least {
                    (least, winner) = (rank, row);
                }
                row += 1;
            }
            answers[ranks] |= winner << (2 * matching);
            matching += 1;
        }
        ranks += 1;
    }
    answers
};

/// Of the rows in `matching`, the one that wins, in a block of four lanes. There is one.
#[inline(always)]
pub(crate) const fn answer(order: u64, matching: u32) -> u32 {
    (order >> (2 * (matching & 0xf))) as u32 & 3
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
            let lanes = if rows <= 4 { 4 } else { MOST };
            let matching = u32::from(matching) & ((1u32 << rows) - 1);
            let expected = (0..rows).filter(|row| matching >> row & 1 == 1).min_by_key(|row| (precedences[*row], *row));
            let expected = expected.map_or(NOTHING, |row| row as u32);
            let order = of(&precedences, lanes);
            let found = match matching {
                0 => NOTHING,
                _ if lanes == 4 => answer(order, matching),
                _ => least(order, matching),
            };
            prop_assert_eq!(found, expected);
        }
    }
}
