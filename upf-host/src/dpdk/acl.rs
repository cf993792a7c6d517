//! DPDK's packet classifier, `librte_acl`: a set of multi-bit tries, built as a whole and then only read.
//!
//! The data plane does not use it, because a change of one rule is a new build of all of them; `bench -- classifier`
//! does, to say what a static classifier of the same rules would reach. The five fields are fixed here: two prefixes,
//! two ranges of ports, a protocol.

use super::{Eal, Errno};
use dpdk_sys::{rte_acl_config, rte_acl_ctx, rte_acl_field, rte_acl_field_def, rte_acl_param, rte_acl_rule_data};
use std::ffi::CString;
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Keys that one call of [`Acl::classify`] takes at most.
pub const MAX_KEYS: usize = 32;
const FIELDS: usize = 5;
const ANY_SOCKET: i32 = -1;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclRule {
    /// The lower value wins, as in PFCP (DPDK's own priorities count the other way). Below 2^29 - 1.
    pub precedence: u32,
    /// What [`Acl::classify`] gives; below `u32::MAX`.
    pub number: u32,
    /// Two addresses, each with the length of its prefix.
    pub addresses: [(u32, u8); 2],
    /// Two ports.
    pub ports: [RangeInclusive<u16>; 2],
    /// `None`: every protocol.
    pub protocol: Option<u8>,
}

/// The fields of a packet as the tries read them: bytes in network order, in groups of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct AclKey {
    protocol: [u8; 4],
    addresses: [[u8; 4]; 2],
    ports: [[u8; 2]; 2],
}

impl AclKey {
    /// Of a packet's two addresses, two ports and protocol.
    #[must_use]
    pub const fn new(addresses: [u32; 2], ports: [u16; 2], protocol: u8) -> Self {
        Self {
            protocol: [protocol, 0, 0, 0],
            addresses: [addresses[0].to_be_bytes(), addresses[1].to_be_bytes()],
            ports: [ports[0].to_be_bytes(), ports[1].to_be_bytes()],
        }
    }
}

/// Why there is no classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("rte_acl, {step} {rules} rules: {errno}")]
pub struct AclError {
    step: &'static str,
    rules: usize,
    errno: Errno,
}

/// A built classifier.
#[derive(Debug)]
pub struct Acl {
    raw: NonNull<rte_acl_ctx>,
    eal: Eal,
}

// SAFETY: nothing in a context is tied to the thread that made it.
unsafe impl Send for Acl {}

/// A rule as `RTE_ACL_RULE_DEF` lays it out.
#[repr(C)]
struct RawRule {
    data: rte_acl_rule_data,
    fields: [rte_acl_field; FIELDS],
}

impl Acl {
    /// Builds the tries of all rules: milliseconds for hundreds of rules, seconds for tens of thousands.
    ///
    /// # Errors
    /// There is no memory for them, or a precedence is out of range.
    pub fn build(eal: &Eal, rules: &[AclRule]) -> Result<Self, AclError> {
        static CONTEXTS: AtomicU32 = AtomicU32::new(0);
        let fail = |step, errno| AclError {
            step,
            rules: rules.len(),
            errno,
        };
        let invalid = || fail("taking", Errno(libc::EINVAL));
        let count = u32::try_from(rules.len()).map_err(|_| invalid())?;
        let raw_rules = rules
            .iter()
            .map(raw_rule)
            .collect::<Option<Vec<_>>>()
            .ok_or_else(invalid)?;
        let name = CString::new(format!("acl-{}", CONTEXTS.fetch_add(1, Ordering::Relaxed))).map_err(|_| invalid())?;
        let parameters = rte_acl_param {
            name: name.as_ptr(),
            socket_id: ANY_SOCKET,
            rule_size: size_of::<RawRule>() as u32,
            max_rule_num: count.max(1),
        };
        // SAFETY: the EAL is initialised; DPDK copies the parameters and the name in them.
        let raw = unsafe { dpdk_sys::rte_acl_create(&parameters) };
        let raw = NonNull::new(raw).ok_or_else(|| fail("making room for", Errno::last()))?;
        let acl = Self { raw, eal: eal.clone() };
        // SAFETY: `count` rules of the size that the context was made with; DPDK copies them.
        let added = unsafe { dpdk_sys::rte_acl_add_rules(raw.as_ptr(), raw_rules.as_ptr().cast(), count) };
        Errno::check(added).map_err(|errno| fail("adding", errno))?;
        // SAFETY: the context is ours, and nobody searches it yet.
        let built = unsafe { dpdk_sys::rte_acl_build(raw.as_ptr(), &layout()) };
        Errno::check(built).map_err(|errno| fail("building", errno))?;
        Ok(acl)
    }

    /// The number of the rule of lowest precedence value that matches each key: of the first [`MAX_KEYS`], and of as
    /// many as the shorter slice has.
    pub fn classify(&self, keys: &[AclKey], numbers: &mut [Option<u32>]) {
        let count = keys.len().min(numbers.len()).min(MAX_KEYS);
        let mut data = [std::ptr::null::<u8>(); MAX_KEYS];
        for (data, key) in data.iter_mut().zip(&keys[..count]) {
            *data = std::ptr::from_ref(key).cast();
        }
        let mut results = [0; MAX_KEYS];
        // SAFETY: the context is built; `count` pointers to keys of the configured layout and room for as many results.
        unsafe {
            dpdk_sys::rte_acl_classify(
                self.raw.as_ptr(),
                data.as_mut_ptr(),
                results.as_mut_ptr(),
                count as u32,
                1,
            )
        };
        for (number, result) in numbers.iter_mut().zip(&results[..count]) {
            *number = result.checked_sub(1);
        }
    }

    /// Bytes of DPDK's heap that are in use, by everything.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let _alive = &self.eal;
        let mut statistics = dpdk_sys::rte_malloc_socket_stats::default();
        // SAFETY: the EAL is initialised, and the structure is ours.
        unsafe { dpdk_sys::rte_malloc_get_socket_stats(0, &mut statistics) };
        statistics.heap_allocsz_bytes
    }
}

impl Drop for Acl {
    fn drop(&mut self) {
        // SAFETY: made by `build`, freed once, and `&mut self` says that nobody searches it.
        unsafe { dpdk_sys::rte_acl_free(self.raw.as_ptr()) };
    }
}

/// `None` if DPDK cannot express it.
fn raw_rule(rule: &AclRule) -> Option<RawRule> {
    let priority = dpdk_sys::RTE_ACL_MAX_PRIORITY
        .checked_sub(rule.precedence)
        .filter(|p| *p > 0)?;
    let [first, second] = rule
        .addresses
        .map(|(address, length)| field(address, u32::from(length)));
    let [own, other] = rule
        .ports
        .clone()
        .map(|range| field((*range.start()).into(), (*range.end()).into()));
    Some(RawRule {
        data: rte_acl_rule_data {
            category_mask: 1,
            priority: priority as i32,
            userdata: rule.number.checked_add(1)?,
        },
        fields: [
            rule.protocol
                .map_or_else(|| field(0, 0), |protocol| field(protocol.into(), 0xff)),
            first,
            second,
            own,
            other,
        ],
    })
}

fn field(value: u32, mask_or_end: u32) -> rte_acl_field {
    let mut field = rte_acl_field::default();
    field.value.u32_ = value;
    field.mask_range.u32_ = mask_or_end;
    field
}

/// Where the fields are in an [`AclKey`].
fn layout() -> rte_acl_config {
    let (mask, range, bits) = (
        dpdk_sys::RTE_ACL_FIELD_TYPE_MASK,
        dpdk_sys::RTE_ACL_FIELD_TYPE_RANGE,
        dpdk_sys::RTE_ACL_FIELD_TYPE_BITMASK,
    );
    // Kind, size, group of four bytes, offset.
    let fields: [(_, u8, u8, u32); FIELDS] = [
        (bits, 1, 0, 0),
        (mask, 4, 1, 4),
        (mask, 4, 2, 8),
        (range, 2, 3, 12),
        (range, 2, 3, 14),
    ];
    let mut config = rte_acl_config {
        num_categories: 1,
        num_fields: FIELDS as u32,
        ..rte_acl_config::default()
    };
    for (index, (def, (kind, size, input_index, offset))) in config.defs.iter_mut().zip(fields).enumerate() {
        *def = rte_acl_field_def {
            type_: kind as u8,
            size,
            field_index: index as u8,
            input_index,
            offset,
        };
    }
    config
}
