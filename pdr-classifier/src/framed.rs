//! Framed routes (TS 29.244 5.16): the networks behind a UE, found by longest prefix.
//!
//! One binary trie per network instance and address family. Few sessions have framed routes and a packet looks here
//! only when its exact key missed, so this is built to be plainly right: one node per bit, a walk of at most 32 or
//! 128 steps. Readers follow atomic pointers; the one writer stores a route's entry, or cuts a branch that leads
//! nowhere any more and keeps it until a grace period has passed.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};
use upf_model::{IpPrefix, NetworkInstanceId};

/// A prefix as the trie walks it: leading bits first.
#[derive(Debug, Clone, Copy)]
struct Bits {
    v6: bool,
    bits: u128,
    len: u8,
}

impl From<IpPrefix> for Bits {
    fn from(prefix: IpPrefix) -> Self {
        match prefix {
            IpPrefix::V4(p) => Self {
                v6: false,
                bits: (p.addr().to_bits() as u128) << 96,
                len: p.len(),
            },
            IpPrefix::V6(p) => Self {
                v6: true,
                bits: p.addr().to_bits(),
                len: p.len(),
            },
        }
    }
}

const fn bit(bits: u128, depth: u8) -> usize {
    (bits >> (127 - depth) & 1) as usize
}

struct Node<E> {
    children: [AtomicPtr<Node<E>>; 2],
    entry: AtomicPtr<E>,
}

impl<E> Node<E> {
    fn new() -> Self {
        Self {
            children: Default::default(),
            entry: AtomicPtr::default(),
        }
    }

    fn is_bare(&self) -> bool {
        self.entry.load(Ordering::Relaxed).is_null()
            && self.children.iter().all(|c| c.load(Ordering::Relaxed).is_null())
    }
}

impl<E> Drop for Node<E> {
    fn drop(&mut self) {
        for child in &mut self.children {
            // SAFETY: a child comes from `Box::into_raw` and only this node leads to it. Depth is at most 128.
            drop(unsafe { Branch::from_raw(*child.get_mut()) });
        }
    }
}

/// A branch cut off: freed, with all below it, when dropped. (Not a box until then: readers may still be in it.)
pub(crate) struct Branch<E>(NonNull<Node<E>>);

impl<E> Branch<E> {
    /// # Safety
    /// `node` is null, or comes from `Box::into_raw` and no one else frees it. When the branch is dropped, no reader
    /// may be in it.
    unsafe fn from_raw(node: *mut Node<E>) -> Option<Self> {
        NonNull::new(node).map(Self)
    }
}

impl<E> Drop for Branch<E> {
    fn drop(&mut self) {
        // SAFETY: the word of `from_raw`'s caller.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// All framed routes. Readers and the writer share it; methods that change it are the writer's.
pub(crate) struct FramedRoutes<E> {
    /// The head of a list that only grows: a network instance that once had a framed route keeps its tries.
    instances: AtomicPtr<Instance<E>>,
}

/// The tries of one network instance.
struct Instance<E> {
    ni: NetworkInstanceId,
    v4: Node<E>,
    v6: Node<E>,
    next: *mut Instance<E>,
}

// SAFETY: it leads to entries by plain pointers that it never follows; nodes are changed through atomics only.
unsafe impl<E: Send + Sync> Send for FramedRoutes<E> {}
// SAFETY: as above; the writer's methods are called by the one `Writer` only, through `&mut Writer`.
unsafe impl<E: Send + Sync> Sync for FramedRoutes<E> {}

impl<E> FramedRoutes<E> {
    pub fn new() -> Self {
        Self {
            instances: AtomicPtr::default(),
        }
    }

    /// Whether there never was a framed route: the usual case, one load.
    #[inline]
    pub fn is_unused(&self) -> bool {
        self.instances.load(Ordering::Relaxed).is_null()
    }

    fn root(&self, ni: NetworkInstanceId, v6: bool) -> Option<&Node<E>> {
        let mut instance = self.instances.load(Ordering::Acquire);
        // SAFETY: instances come from `Box::into_raw` and live as long as `self`.
        while let Some(found) = unsafe { instance.as_ref() } {
            if found.ni == ni {
                return Some(if v6 { &found.v6 } else { &found.v4 });
            }
            instance = found.next;
        }
        None
    }

    fn root_or_new(&self, ni: NetworkInstanceId, v6: bool) -> &Node<E> {
        if let Some(root) = self.root(ni, v6) {
            return root;
        }
        let next = self.instances.load(Ordering::Relaxed);
        let instance = Box::new(Instance {
            ni,
            v4: Node::new(),
            v6: Node::new(),
            next,
        });
        self.instances.store(Box::into_raw(instance), Ordering::Release);
        self.root(ni, v6).expect("it was just put there")
    }

    /// Of the prefixes around the address (`len` leading bits of `bits`, IPv4 in the top 32), the longest whose entry
    /// `accept` takes: it is asked for each, the shortest first. Call it within a burst.
    pub fn longest<F>(
        &self,
        ni: NetworkInstanceId,
        (v6, bits, len): (bool, u128, u8),
        accept: impl Fn(NonNull<E>) -> Option<F>,
    ) -> Option<F> {
        let mut node = self.root(ni, v6)?;
        let mut longest = None;
        for depth in 0..=len {
            let entry = NonNull::new(node.entry.load(Ordering::Acquire));
            longest = entry.and_then(&accept).or(longest);
            if depth == len {
                break;
            }
            let child = node.children[bit(bits, depth)].load(Ordering::Acquire);
            // SAFETY: a node that can be reached is freed only after a grace period.
            let Some(child) = (unsafe { child.as_ref() }) else {
                break;
            };
            node = child;
        }
        longest
    }

    /// The entry of exactly that prefix.
    pub fn get(&self, ni: NetworkInstanceId, prefix: IpPrefix) -> Option<NonNull<E>> {
        let prefix = Bits::from(prefix);
        let mut node = self.root(ni, prefix.v6)?;
        for depth in 0..prefix.len {
            // SAFETY: as in `longest`.
            node = unsafe { node.children[bit(prefix.bits, depth)].load(Ordering::Relaxed).as_ref() }?;
        }
        NonNull::new(node.entry.load(Ordering::Relaxed))
    }

    /// Makes `prefix` lead to `entry`.
    pub fn set(&self, ni: NetworkInstanceId, prefix: IpPrefix, entry: NonNull<E>) {
        let prefix = Bits::from(prefix);
        let mut node = self.root_or_new(ni, prefix.v6);
        for depth in 0..prefix.len {
            let slot = &node.children[bit(prefix.bits, depth)];
            if slot.load(Ordering::Relaxed).is_null() {
                slot.store(Box::into_raw(Box::new(Node::new())), Ordering::Release);
            }
            // SAFETY: not null, and freed only by the writer, that is, here.
            node = unsafe { &*slot.load(Ordering::Relaxed) };
        }
        node.entry.store(entry.as_ptr(), Ordering::Release);
    }

    /// Removes `prefix`. What is cut off may be dropped after a grace period.
    #[must_use]
    pub fn remove(&self, ni: NetworkInstanceId, prefix: IpPrefix) -> Option<Branch<E>> {
        let prefix = Bits::from(prefix);
        let mut node = self.root(ni, prefix.v6)?;
        // The deepest slot above which something is still needed.
        let mut cut: Option<&AtomicPtr<Node<E>>> = None;
        for depth in 0..prefix.len {
            let side = bit(prefix.bits, depth);
            let needed_itself = depth == 0
                || !node.entry.load(Ordering::Relaxed).is_null()
                || !node.children[1 - side].load(Ordering::Relaxed).is_null();
            if needed_itself {
                cut = Some(&node.children[side]);
            }
            // SAFETY: as in `longest`.
            node = unsafe { node.children[side].load(Ordering::Relaxed).as_ref() }?;
        }
        node.entry.store(ptr::null_mut(), Ordering::Release);
        if !node.is_bare() {
            return None;
        }
        let branch = cut?.swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: it comes from `Box::into_raw`, and after the swap nothing leads to it.
        unsafe { Branch::from_raw(branch) }
    }
}

impl<E> Drop for FramedRoutes<E> {
    fn drop(&mut self) {
        let mut instance = *self.instances.get_mut();
        while !instance.is_null() {
            // SAFETY: instances come from `Box::into_raw`, and `&mut self` says that no reader is left.
            let owned = unsafe { Box::from_raw(instance) };
            instance = owned.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn prefix() -> impl Strategy<Value = IpPrefix> {
        let v4 = (any::<[u8; 4]>(), 0..=32u8).prop_map(|(a, l)| IpPrefix::new(IpAddr::from(a.map(|b| b & 0x81)), l));
        let v6 = (any::<[u8; 16]>(), 0..=128u8).prop_map(|(a, l)| IpPrefix::new(IpAddr::from(a.map(|b| b & 1)), l));
        prop_oneof![v4, v6].prop_map(|p| p.expect("a length of its family"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]
        #[test]
        fn the_longest_prefix_is_found_after_any_changes(
            changes in prop::collection::vec((prefix(), 0..3u16, any::<bool>()), 1..40),
            addresses in prop::collection::vec((prefix(), 0..3u16), 1..20),
        ) {
            let routes = FramedRoutes::<u32>::new();
            let mut model: Vec<(NetworkInstanceId, IpPrefix, NonNull<u32>)> = Vec::new();
            let mut entries = vec![0u32; changes.len()];
            let base = NonNull::new(entries.as_mut_ptr()).expect("a vector");
            for (i, (prefix, ni, put)) in changes.into_iter().enumerate() {
                let ni = NetworkInstanceId(ni);
                model.retain(|(n, p, _)| (*n, *p) != (ni, prefix));
                if put {
                    // SAFETY: within the vector.
                    let entry = unsafe { base.add(i) };
                    routes.set(ni, prefix, entry);
                    model.push((ni, prefix, entry));
                } else {
                    drop(routes.remove(ni, prefix));
                }
            }
            for (around, ni) in addresses {
                let ni = NetworkInstanceId(ni);
                let Bits { v6, bits, .. } = around.into();
                let expected = model
                    .iter()
                    .filter(|(n, p, _)| *n == ni && p.contains(around.addr()))
                    .max_by_key(|(_, p, _)| p.len());
                let found = routes.longest(ni, (v6, bits, if v6 { 128 } else { 32 }), Some);
                prop_assert_eq!(found, expected.map(|(_, _, e)| *e));
            }
            for (ni, prefix, entry) in model {
                prop_assert_eq!(routes.get(ni, prefix), Some(entry));
                drop(routes.remove(ni, prefix));
                prop_assert_eq!(routes.get(ni, prefix), None);
            }
            for instance in 0..3 {
                for v6 in [false, true] {
                    let root = routes.root(NetworkInstanceId(instance), v6);
                    prop_assert!(root.is_none_or(Node::is_bare), "nothing is left of what was removed");
                }
            }
        }
    }
}
