//! The allocator of a program that holds many sessions, linked by `use process as _;`: jemalloc on transparent huge pages.
//!
//! A packet touches a few cache lines of its session, anywhere in gigabytes. On 4 KiB pages each of them misses the
//! translation of its address as well, which costs as much as the line; on 2 MiB pages a million sessions need a few
//! hundred translations. The system's allocator asks for huge pages only if told so by the environment of the process, and
//! spends more on lines that are to be aligned. Where the kernel has huge pages switched off, all works on small ones.

#[global_allocator]
static HEAP: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads when it starts.
// SAFETY: the symbol is jemalloc's own, a pointer to a string that ends with zero; nobody else defines it.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static SETTINGS: &[u8; 29] = b"thp:always,metadata_thp:auto\0";
