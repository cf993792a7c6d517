//! Huge pages for the length of one start.

use std::path::Path;

const SETTING: &str = "/proc/sys/vm/nr_hugepages";
const PAGE_MB: u32 = 2;

/// What packet memory is made of.
pub enum Pages {
    /// 4 KiB.
    Small,
    /// 2 MiB; with the system's number of them before, if it was raised. Dropped, it is put back: pages that are in use
    /// stay with their user and go with it.
    Huge {
        /// What to put back.
        before: Option<u32>,
    },
}

impl Pages {
    /// Huge ones if there are enough free or more can be had; small ones otherwise.
    pub fn huge(mb: u32) -> Self {
        let needed = mb.div_ceil(PAGE_MB);
        if free() >= needed {
            return Self::Huge { before: None };
        }
        let Some(before) = read(SETTING) else {
            return Self::Small;
        };
        // Pages that are in use count as well, also those that outlived a setting that was put back.
        let in_use = all().saturating_sub(free());
        let _ = std::fs::write(SETTING, (before.max(in_use) + needed).to_string());
        let pages = Self::Huge { before: Some(before) };
        if free() >= needed { pages } else { Self::Small }
    }

    pub const fn are_huge(&self) -> bool {
        matches!(self, Self::Huge { .. })
    }

    pub const fn name(&self) -> &'static str {
        if self.are_huge() { "2 MiB pages" } else { "4 KiB pages" }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Self::Huge { before: Some(before) } = self {
            let _ = std::fs::write(SETTING, before.to_string());
        }
    }
}

fn free() -> u32 {
    pages("free")
}

fn all() -> u32 {
    pages("nr")
}

fn pages(which: &str) -> u32 {
    read(format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{which}_hugepages")).unwrap_or(0)
}

fn read(path: impl AsRef<Path>) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
