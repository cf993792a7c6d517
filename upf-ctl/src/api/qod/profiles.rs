//! CAMARA QoS Profiles 1.1: the policy file's profiles as applications see them.

use super::super::Api;
use super::super::facts::decode;
use super::super::refusal::Refusal;
use super::types::{Duration, ProfileStatus, QosProfile, QosProfileQuery, Rate, profile_name};
use crate::context_push::Command;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use serde_json::Value;

/// The longest session of a profile that says nothing, seconds: a day.
const MAX_DURATION_S: u64 = 86_400;

/// A profile as this API needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Sessions ask for it by this.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// 1 to 100, the least first.
    pub priority: Option<u64>,
    /// kbit/s.
    pub max_uplink: Option<u64>,
    /// kbit/s.
    pub max_downlink: Option<u64>,
    /// Seconds.
    pub durations: std::ops::RangeInclusive<u64>,
}

impl Profile {
    /// Of the controller's answer: a description, or an object with one and limits.
    fn read(name: &str, said: &Value) -> Self {
        let number = |field: &str| said.get(field).and_then(Value::as_u64);
        let description = said
            .as_str()
            .or_else(|| said.get("description").and_then(Value::as_str));
        let shortest = number("min_duration_s").unwrap_or(1).max(1);
        let longest = number("max_duration_s").unwrap_or(MAX_DURATION_S);
        Self {
            name: name.to_owned(),
            description: description.filter(|text| !text.is_empty()).map(str::to_owned),
            priority: number("priority").filter(|p| (1..=100).contains(p)),
            max_uplink: number("max_uplink_kbps"),
            max_downlink: number("max_downlink_kbps"),
            durations: shortest..=longest.max(shortest),
        }
    }

    fn shown(&self) -> QosProfile {
        QosProfile {
            name: self.name.clone(),
            description: self.description.clone(),
            status: ProfileStatus::Active,
            max_upstream_rate: self.max_uplink.map(rate),
            max_downstream_rate: self.max_downlink.map(rate),
            min_duration: seconds(*self.durations.start()),
            max_duration: seconds(*self.durations.end()),
            priority: self.priority,
        }
    }
}

fn seconds(value: u64) -> Duration {
    Duration {
        value,
        unit: "Seconds".to_owned(),
    }
}

/// CAMARA's rates go to 1024 of a unit; what does not fit is rounded down in the next one.
fn rate(kbps: u64) -> Rate {
    let mut value = kbps;
    for unit in ["kbps", "Mbps", "Gbps"] {
        if value <= 1_024 {
            return Rate {
                value,
                unit: unit.to_owned(),
            };
        }
        value /= 1_000;
    }
    Rate {
        value: value.min(1_024),
        unit: "Tbps".to_owned(),
    }
}

impl Api {
    /// Every profile, by name.
    pub(super) async fn profiles(&self) -> Result<Vec<Profile>, Refusal> {
        let said = self.contexts.ask(|reply| Command::Profiles { reply }).await?;
        let said = said.as_object();
        Ok(said
            .into_iter()
            .flatten()
            .map(|(name, said)| Profile::read(name, said))
            .collect())
    }
}

/// `POST /qos-profiles/v1/retrieve-qos-profiles`
pub async fn retrieve(State(api): State<Api>, body: Bytes) -> Result<Json<Vec<QosProfile>>, Refusal> {
    let query: QosProfileQuery = decode(&body)?;
    if let Some(device) = &query.device {
        device.check()?;
    }
    let fits = |profile: &QosProfile| {
        query.name.as_ref().is_none_or(|name| *name == profile.name)
            && query.status.is_none_or(|status| status == profile.status)
    };
    let profiles = api.profiles().await?;
    Ok(Json(profiles.iter().map(Profile::shown).filter(fits).collect()))
}

/// `GET /qos-profiles/v1/qos-profiles/{name}`
pub async fn get(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<QosProfile>, Refusal> {
    profile_name(&name)?;
    let profiles = api.profiles().await?;
    let found = profiles.iter().find(|profile| profile.name == name);
    found
        .map(|profile| Json(profile.shown()))
        .ok_or_else(|| Refusal::not_found("there is no such QoS profile"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_in_a_unit_that_camara_allows() {
        let shown = |kbps| {
            let rate = rate(kbps);
            format!("{} {}", rate.value, rate.unit)
        };
        assert_eq!(shown(1_024), "1024 kbps");
        assert_eq!(shown(1_500), "1 Mbps");
        assert_eq!(shown(10_000_000), "10 Gbps");
        assert_eq!(shown(u64::MAX), "1024 Tbps");
    }

    #[test]
    fn a_profile_is_a_description_or_an_object() {
        let plain = Profile::read("QOS_E", &serde_json::json!("for games"));
        assert_eq!(
            (plain.description.as_deref(), plain.durations),
            (Some("for games"), 1..=MAX_DURATION_S)
        );
        let full = serde_json::json!({"description": "x", "min_duration_s": 10, "max_duration_s": 60, "priority": 7});
        let full = Profile::read("QOS_E", &full);
        assert_eq!((full.durations, full.priority), (10..=60, Some(7)));
    }
}
