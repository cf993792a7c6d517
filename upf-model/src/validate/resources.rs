//! What validation asks of the controller: names, tunnel endpoints, UE addresses.
//!
//! The controller implements [`Resources`] as a *transaction* on behalf of one session: everything done through
//! it is committed when the session has taken effect in every plane, and rolled back whole otherwise. Validation
//! never undoes anything itself.
//!
//! What a session holds is a function of its rules: each distinct local F-TEID of its PDIs; and for each PDI
//! that is not tunnelled each UE address and each framed route, in the PDI's network instance. Validation calls
//! `reserve_*` or `allocate_*` once for what the new rules hold and the old did not, and `release_*` once for
//! what the old rules held and the new do not. An address that was allocated for tunnelled PDIs alone is given
//! back with the session. Deleting a session releases everything it holds; that is the controller's to do.

use super::Cause;
use crate::{Interface, IpPrefix, LocalFTeid, NetworkInstanceId, UeIpAddress};
use std::net::IpAddr;

/// Names, tunnel endpoints and UE addresses, for one session, until commit or roll-back.
pub trait Resources {
    /// Resolves a signalled name; `None` asks for the default instance of that interface. `None` is returned
    /// for an unknown name, and where the interface has no default.
    fn network_instance(&self, name: Option<&str>, interface: Interface) -> Option<NetworkInstanceId>;

    /// Whether packets to this address reach our GTP-U.
    fn is_endpoint(&self, addr: IpAddr) -> bool;

    /// Chooses an F-TEID (CHOOSE): an unused TEID other than 0, with an address of each family asked for. At
    /// least one of `v4` and `v6` is set. Called at most once for one CHOOSE ID in a request.
    fn allocate_fteid(
        &mut self,
        choose_id: Option<u8>,
        v4: bool,
        v6: bool,
        interface: Interface,
        ni: NetworkInstanceId,
    ) -> Result<LocalFTeid, ResourceError>;

    /// Takes an F-TEID that the SMF chose; fails with [`ResourceError::InUse`] if another session has it.
    /// Its addresses have passed [`Resources::is_endpoint`].
    fn reserve_fteid(&mut self, fteid: LocalFTeid) -> Result<(), ResourceError>;

    /// Gives back an F-TEID, whoever chose it.
    fn release_fteid(&mut self, fteid: LocalFTeid);

    /// Chooses a UE address (CHV4, CHV6) for each family asked for; at least one is.
    fn allocate_ue_ip(&mut self, ni: NetworkInstanceId, v4: bool, v6: bool) -> Result<UeIpAddress, ResourceError>;

    /// Takes a UE address; exactly one family is present. Fails with [`ResourceError::InUse`] if it overlaps
    /// another session's; does nothing if this session holds it already.
    fn reserve_ue_ip(&mut self, ni: NetworkInstanceId, ue: UeIpAddress) -> Result<(), ResourceError>;

    /// Gives back a UE address; exactly one family is present.
    fn release_ue_ip(&mut self, ni: NetworkInstanceId, ue: UeIpAddress);

    /// Takes a framed route; fails with [`ResourceError::InUse`] if another session has the same prefix.
    fn reserve_framed_route(&mut self, ni: NetworkInstanceId, route: IpPrefix) -> Result<(), ResourceError>;

    /// Gives back a framed route.
    fn release_framed_route(&mut self, ni: NetworkInstanceId, route: IpPrefix);
}

/// Why a resource is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// Another session has it. Refused with cause 73.
    #[error("{0} is in use by another session")]
    InUse(String),
    /// None is left. Refused with cause 75; with cause 79 for UE addresses.
    #[error("no {0} is left")]
    Exhausted(String),
    /// This network instance or interface has none, by configuration. Refused with cause 76; with cause 71 for
    /// F-TEIDs.
    #[error("{0}")]
    NotConfigured(String),
}

impl ResourceError {
    pub(super) fn fteid_cause(&self) -> Cause {
        match self {
            Self::InUse(_) => Cause::RuleCreationModificationFailure,
            Self::Exhausted(_) => Cause::NoResourcesAvailable,
            Self::NotConfigured(_) => Cause::InvalidFTeidAllocationOption,
        }
    }

    pub(super) fn ue_ip_cause(&self) -> Cause {
        match self {
            Self::InUse(_) => Cause::RuleCreationModificationFailure,
            Self::Exhausted(_) => Cause::AllDynamicAddressesAreOccupied,
            Self::NotConfigured(_) => Cause::ServiceNotSupported,
        }
    }
}
