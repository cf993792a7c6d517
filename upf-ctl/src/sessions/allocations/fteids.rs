//! Owns who holds which F-TEID, and what became of each TEID index: a million of either take some 30 bytes each.

use std::collections::HashMap;
use std::net::IpAddr;
use upf_model::{SessionId, Teid};

/// Who holds which F-TEID.
#[derive(Debug, Default)]
pub(super) struct FTeids {
    /// Ours: few. F-TEIDs name them by their place here.
    addresses: Vec<IpAddr>,
    holders: HashMap<(u16, Teid), SessionId>,
}

impl FTeids {
    fn place(&self, address: IpAddr) -> Option<u16> {
        let place = self.addresses.iter().position(|known| *known == address)?;
        u16::try_from(place).ok()
    }

    pub(super) fn get(&self, address: IpAddr, teid: Teid) -> Option<SessionId> {
        self.holders.get(&(self.place(address)?, teid)).copied()
    }

    pub(super) fn insert(&mut self, address: IpAddr, teid: Teid, holder: SessionId) {
        let place = self.place(address).unwrap_or_else(|| {
            self.addresses.push(address);
            (self.addresses.len() - 1) as u16
        });
        self.holders.insert((place, teid), holder);
    }

    pub(super) fn remove(&mut self, address: IpAddr, teid: Teid) {
        if let Some(place) = self.place(address) {
            self.holders.remove(&(place, teid));
        }
    }

    /// How many are held, each address counted.
    pub(super) fn len(&self) -> usize {
        self.holders.len()
    }
}

/// What became of a TEID index that was ever used.
#[derive(Debug, Clone, Copy)]
pub(super) struct TeidIndex {
    pub(super) generation: u8,
    pub(super) in_use: bool,
}

/// TEID indexes that were ever used. They are dense, but for those that SMFs choose.
#[derive(Debug, Default)]
pub(super) struct TeidIndexes(HashMap<u32, Box<[Option<TeidIndex>; PAGE]>>);

const PAGE: usize = 256;

impl TeidIndexes {
    pub(super) fn get(&self, index: u32) -> Option<TeidIndex> {
        self.0.get(&(index / PAGE as u32))?[index as usize % PAGE]
    }

    pub(super) fn insert(&mut self, index: u32, value: TeidIndex) {
        let page = self.0.entry(index / PAGE as u32);
        page.or_insert_with(|| Box::new([None; PAGE]))[index as usize % PAGE] = Some(value);
    }
}
