//! The configuration file, shared by `upf-ctl`, `upf-host` and `upf`: one YAML file describes one UPF.
//!
//! [`load`] gives a configuration that is whole and makes sense, or says what is wrong, every problem with file, line,
//! column, field, what was expected and what was found:
//!
//! ```text
//! upf.yaml:14:5: ports[0].adress: expected one of name, device, mac, ..., found "adress" (did you mean addresses?)
//! ```
//!
//! The commented example is `config/upf.yaml`, the schema for editors `config/upf.schema.json`.
//!
//! | module | owns |
//! | --- | --- |
//! | [`types`] | what a configuration says, and the defaults |
//! | `parse` | text to configuration; the YAML reader's errors in our words |
//! | `source` | where each field stands in the text |
//! | `validate` | that the parts fit together |
//! | [`topology`] | names compiled to the indices that rules and packets carry |
//! | `schema` | the JSON schema |
//!
//! ```
//! let text = "
//! pfcp: { listen: 127.0.0.1:8805 }
//! ports:
//!   - { name: n3, device: net_null0, addresses: [192.0.2.1/24], network_instance: access, interfaces: [access], gtpu: yes }
//! network_instances:
//!   - name: acces
//! ";
//! let error = upf_config::parse(text, "upf.yaml").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "upf.yaml:4:81: ports[0].network_instance: expected the name of one of network_instances: acces, \
//!      found \"access\" (did you mean acces?)"
//! );
//! ```

mod error;
mod parse;
mod schema;
mod source;
pub mod topology;
pub mod types;
mod validate;

pub use error::{ConfigError, Position, Problem};
pub use parse::{TEXT_MAX, load, parse};
pub use schema::schema;
pub use topology::{Endpoint, OnLink, PortTopology, StaticRoute, Topology};
pub use types::*;
pub use validate::validate;
