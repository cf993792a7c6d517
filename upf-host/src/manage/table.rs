//! Owns something for each session, found by its number. Numbers are dense, so this is an array, in pieces: it grows
//! without moving what is there, which with a million sessions would take longer than a batch may. Pieces stay.

use std::collections::BTreeMap;
use upf_model::SessionId;

/// See the module. A piece that is nearly empty (sparse numbers) costs what a full one does.
pub(super) struct Table<T> {
    pieces: BTreeMap<u32, Box<[Option<T>; PIECE]>>,
    count: usize,
}

const PIECE: usize = 256;

fn place(id: SessionId) -> (u32, usize) {
    (id.0 / PIECE as u32, id.0 as usize % PIECE)
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self {
            pieces: BTreeMap::new(),
            count: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn get(&self, id: SessionId) -> Option<&T> {
        let (piece, at) = place(id);
        self.pieces.get(&piece)?[at].as_ref()
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut T> {
        let (piece, at) = place(id);
        self.pieces.get_mut(&piece)?[at].as_mut()
    }

    pub(super) fn insert(&mut self, id: SessionId, value: T) {
        let (piece, at) = place(id);
        let piece = self.pieces.entry(piece);
        let piece = piece.or_insert_with(|| Box::new([const { None }; PIECE]));
        self.count += usize::from(piece[at].replace(value).is_none());
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<T> {
        let (piece, at) = place(id);
        let removed = self.pieces.get_mut(&piece)?[at].take();
        self.count -= usize::from(removed.is_some());
        removed
    }

    /// Ascending.
    pub(super) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.pieces.iter().flat_map(|(piece, values)| {
            let there = values.iter().enumerate().filter(|(_, value)| value.is_some());
            there.map(move |(at, _)| SessionId(piece * PIECE as u32 + at as u32))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_there_until_it_is_taken_whatever_its_number() {
        let mut table = Table::new();
        let ids = [7, 0, 255, 256, 1_000_000, u32::MAX].map(SessionId);
        for id in ids {
            table.insert(id, id.0);
        }
        table.insert(ids[0], 8);
        assert_eq!((table.len(), table.get(ids[0])), (6, Some(&8)));
        assert_eq!(table.remove(ids[2]), Some(255));
        assert_eq!((table.remove(ids[2]), table.get(ids[3])), (None, Some(&256)));
        let left: Vec<u32> = table.ids().map(|id| id.0).collect();
        assert_eq!((table.len(), left), (5, vec![0, 7, 256, 1_000_000, u32::MAX]));
    }
}
