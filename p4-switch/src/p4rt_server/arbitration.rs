//! Who is primary: client arbitration for one device (specification, section "Client Arbitration and Controller
//! Replication"), as a pure state machine. It is told of messages and ends of streams, and says whom to tell what.
//!
//! Roles are independent of one another; the default role is the one without a name. A role's highest election id is
//! remembered for as long as the switch runs, so that a client that lost its stream must come back with an id at least
//! as high. A `role.config` is refused: no scheme for it is agreed upon, and every role has the whole pipeline.

use std::collections::{BTreeMap, HashMap};

use p4runtime::api::google::rpc;
use p4runtime::client::{from_uint128, uint128};
use p4runtime::v1;
use tonic::Code;

use super::refusal::Refusal;

/// Streams of one role. More are refused with RESOURCE_EXHAUSTED.
const MAX_STREAMS: usize = 256;
/// Roles. More are refused with RESOURCE_EXHAUSTED.
const MAX_ROLES: usize = 256;

/// A stream, for as long as the server runs.
pub type StreamId = u64;

/// What to send to which stream.
pub type Notifications = Vec<(StreamId, v1::MasterArbitrationUpdate)>;

/// The state of one device.
#[derive(Debug, Default)]
pub struct Arbitration {
    roles: HashMap<String, Role>,
    /// Role of each live stream.
    streams: HashMap<StreamId, String>,
}

#[derive(Debug, Default)]
struct Role {
    /// Live streams and their election ids; without one a stream is never primary.
    streams: BTreeMap<StreamId, Option<u128>>,
    /// The highest election id that any client ever had.
    highest: Option<u128>,
    primary: Option<StreamId>,
    /// The client named the role, so that answers name it as well.
    named: Option<v1::Role>,
}

impl Arbitration {
    /// A client's message. The error ends its stream.
    pub fn update(&mut self, stream: StreamId, message: v1::MasterArbitrationUpdate) -> Result<Notifications, Refusal> {
        let name = role_name(&message);
        let election_id = message.election_id.as_ref().map(from_uint128);
        if message.role.as_ref().is_some_and(|role| role.config.is_some()) {
            return Err(Refusal::invalid(
                "role.config is not understood; leave it unset for full access",
            ));
        }
        let known = self.streams.get(&stream);
        if known.is_some_and(|role| *role != name) {
            let problem = "a stream keeps its role; open another one for another role";
            return Err(Refusal::new(Code::FailedPrecondition, problem));
        }
        if known.is_none() && !self.roles.contains_key(&name) && self.roles.len() >= MAX_ROLES {
            return Err(Refusal::new(
                Code::ResourceExhausted,
                format!("there are {MAX_ROLES} roles already"),
            ));
        }
        let is_new = known.is_none();
        let role = self.roles.entry(name.clone()).or_default();
        if is_new && role.streams.len() >= MAX_STREAMS {
            return Err(Refusal::new(
                Code::ResourceExhausted,
                format!("role has {MAX_STREAMS} streams already"),
            ));
        }
        let taken = |(other, id): (&StreamId, &Option<u128>)| *other != stream && *id == election_id;
        if election_id.is_some() && role.streams.iter().any(taken) {
            return Err(Refusal::invalid("the election id is that of another live client"));
        }
        if role.named.is_none() {
            role.named = message.role.clone();
        }
        role.streams.insert(stream, election_id);
        self.streams.insert(stream, name);

        let was_primary = role.primary == Some(stream);
        if election_id.is_some() && election_id >= role.highest {
            role.highest = election_id;
            role.primary = Some(stream);
            return Ok(role.notify_all(message.device_id));
        }
        if was_primary {
            role.primary = None;
            return Ok(role.notify_all(message.device_id));
        }
        Ok(vec![(stream, role.notification(stream, message.device_id))])
    }

    /// A stream ended.
    pub fn end(&mut self, stream: StreamId, device_id: u64) -> Notifications {
        let Some(role) = self.streams.remove(&stream).and_then(|name| self.roles.get_mut(&name)) else {
            return Vec::new();
        };
        role.streams.remove(&stream);
        if role.primary != Some(stream) {
            return Vec::new();
        }
        role.primary = None;
        role.notify_all(device_id)
    }

    /// Whether a client that names this role and election id may write (specification, section "Write RPC").
    pub fn check_primary(&self, role: &str, election_id: Option<&v1::Uint128>) -> Result<(), Refusal> {
        let Some(state) = self.roles.get(role) else {
            // The default role is always there, only without a primary.
            return Err(match role {
                "" => Refusal::new(
                    Code::PermissionDenied,
                    "there is no primary: arbitrate on StreamChannel first",
                ),
                _ => Refusal::new(Code::NotFound, format!("no client has the role {role:?}")),
            });
        };
        let primary = state
            .primary
            .and_then(|stream| state.streams.get(&stream).copied().flatten());
        match (primary, election_id.map(from_uint128)) {
            (Some(primary), Some(id)) if primary == id => Ok(()),
            (Some(_), _) => Err(Refusal::new(
                Code::PermissionDenied,
                "not primary: another election id is",
            )),
            (None, _) => Err(Refusal::new(
                Code::PermissionDenied,
                "not primary: no client is at the moment",
            )),
        }
    }

    /// Whether a stream has arbitrated.
    pub fn knows(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Whether a stream is its role's primary.
    pub fn is_primary(&self, stream: StreamId) -> bool {
        let role = self.streams.get(&stream).and_then(|name| self.roles.get(name));
        role.is_some_and(|role| role.primary == Some(stream))
    }

    /// Every role's primary.
    pub fn primaries(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.roles.values().filter_map(|role| role.primary)
    }
}

impl Role {
    fn notify_all(&self, device_id: u64) -> Notifications {
        self.streams
            .keys()
            .map(|stream| (*stream, self.notification(*stream, device_id)))
            .collect()
    }

    fn notification(&self, stream: StreamId, device_id: u64) -> v1::MasterArbitrationUpdate {
        let (code, message) = match self.primary {
            Some(primary) if primary == stream => (Code::Ok, "you are primary"),
            Some(_) => (Code::AlreadyExists, "you are backup"),
            None => (Code::NotFound, "you are backup, and there is no primary"),
        };
        v1::MasterArbitrationUpdate {
            device_id,
            role: self.named.clone(),
            election_id: self.highest.map(uint128),
            status: Some(rpc::Status {
                code: code as i32,
                message: message.into(),
                details: Vec::new(),
            }),
        }
    }
}

/// Roles have names since 1.4; before, numbers. Zero and the empty name are the default role.
fn role_name(message: &v1::MasterArbitrationUpdate) -> String {
    let Some(role) = &message.role else {
        return String::new();
    };
    #[expect(deprecated, reason = "clients older than 1.4 still send it")]
    let id = role.id;
    role_key(&role.name, id)
}

/// The name of a role that a request names, or the number of an older client's as a name that no client can choose.
pub fn role_key(name: &str, id: u64) -> String {
    match (name, id) {
        ("", 0) => String::new(),
        ("", id) => format!("\0{id}"),
        (name, _) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(role: &str, id: Option<u128>) -> v1::MasterArbitrationUpdate {
        let role = (!role.is_empty()).then(|| v1::Role {
            name: role.into(),
            ..Default::default()
        });
        v1::MasterArbitrationUpdate {
            device_id: 1,
            role,
            election_id: id.map(uint128),
            status: None,
        }
    }

    /// (stream, code, election id) of each notification.
    fn told(notifications: Notifications) -> Vec<(StreamId, Code, Option<u128>)> {
        let summary = |(stream, update): (StreamId, v1::MasterArbitrationUpdate)| {
            let code = Code::from_i32(update.status.expect("a status").code);
            (stream, code, update.election_id.as_ref().map(from_uint128))
        };
        notifications.into_iter().map(summary).collect()
    }

    #[test]
    fn the_highest_election_id_is_primary_and_everybody_hears_of_a_change() {
        let mut state = Arbitration::default();
        assert_eq!(
            told(state.update(1, message("", Some(5))).expect("accepted")),
            [(1, Code::Ok, Some(5))]
        );
        assert_eq!(
            told(state.update(2, message("", Some(3))).expect("accepted")),
            [(2, Code::AlreadyExists, Some(5))]
        );
        let told = told(state.update(3, message("", Some(9))).expect("accepted"));
        assert_eq!(
            told,
            [
                (1, Code::AlreadyExists, Some(9)),
                (2, Code::AlreadyExists, Some(9)),
                (3, Code::Ok, Some(9))
            ]
        );
        assert!(state.check_primary("", Some(&uint128(9))).is_ok());
        assert_eq!(
            state.check_primary("", Some(&uint128(5))).expect_err("demoted").code,
            Code::PermissionDenied
        );
    }

    #[test]
    fn a_primary_that_leaves_is_not_replaced_by_a_lower_id() {
        let mut state = Arbitration::default();
        state.update(1, message("", Some(5))).expect("accepted");
        state.update(2, message("", Some(3))).expect("accepted");
        assert_eq!(told(state.end(1, 1)), [(2, Code::NotFound, Some(5))]);
        assert_eq!(
            told(state.update(2, message("", Some(4))).expect("accepted")),
            [(2, Code::NotFound, Some(5))]
        );
        assert!(state.check_primary("", Some(&uint128(4))).is_err());
        assert_eq!(
            told(state.update(2, message("", Some(5))).expect("accepted")),
            [(2, Code::Ok, Some(5))]
        );
    }

    #[test]
    fn a_primary_may_step_down() {
        let mut state = Arbitration::default();
        state.update(1, message("", Some(5))).expect("accepted");
        state.update(2, message("", Some(3))).expect("accepted");
        let told = told(state.update(1, message("", Some(1))).expect("accepted"));
        assert_eq!(told, [(1, Code::NotFound, Some(5)), (2, Code::NotFound, Some(5))]);
        assert_eq!(state.primaries().count(), 0);
    }

    #[test]
    fn without_an_election_id_a_client_is_backup_and_zero_is_an_election_id() {
        let mut state = Arbitration::default();
        assert_eq!(
            told(state.update(1, message("", None)).expect("accepted")),
            [(1, Code::NotFound, None)]
        );
        state
            .update(2, message("", None))
            .expect("two without an id do not clash");
        assert!(state.check_primary("", None).is_err());
        state.update(3, message("", Some(0))).expect("accepted");
        assert!(state.is_primary(3) && state.check_primary("", Some(&uint128(0))).is_ok());
    }

    #[test]
    fn a_second_client_with_the_same_election_id_is_refused() {
        let mut state = Arbitration::default();
        state.update(1, message("", Some(5))).expect("accepted");
        assert_eq!(
            state.update(2, message("", Some(5))).expect_err("taken").code,
            Code::InvalidArgument
        );
        state.update(1, message("", Some(5))).expect("its own id again");
    }

    #[test]
    fn roles_do_not_see_each_other() {
        let mut state = Arbitration::default();
        state.update(1, message("", Some(5))).expect("accepted");
        let told = told(state.update(2, message("sdn", Some(1))).expect("accepted"));
        assert_eq!(told, [(2, Code::Ok, Some(1))]);
        assert!(state.check_primary("sdn", Some(&uint128(1))).is_ok());
        assert_eq!(
            state
                .check_primary("other", Some(&uint128(1)))
                .expect_err("unknown")
                .code,
            Code::NotFound
        );
        assert_eq!(
            state.update(2, message("", Some(9))).expect_err("changed").code,
            Code::FailedPrecondition
        );
        assert_eq!(state.primaries().count(), 2);
    }

    #[test]
    fn a_role_configuration_is_refused() {
        let mut update = message("sdn", Some(1));
        update.role.as_mut().expect("a role").config = Some(prost_types::Any::default());
        assert_eq!(
            Arbitration::default().update(1, update).expect_err("no scheme").code,
            Code::InvalidArgument
        );
    }
}
