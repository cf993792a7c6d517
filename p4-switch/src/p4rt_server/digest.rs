//! Digests as messages: the values a digest carries, in the shape of its type in P4Info.
//!
//! The engine gives one value for each leaf of the type, in order. A type whose leaves are not what the engine gives
//! (p4c may have flattened or dropped some) is answered as a plain struct of bit strings.

use p4runtime::api::p4::config::v1 as config;
use p4runtime::api::p4::config::v1::p4_bitstring_like_type_spec::TypeSpec as Bits;
use p4runtime::api::p4::config::v1::p4_data_type_spec::TypeSpec;
use p4runtime::v1::p4_data::Data;
use p4runtime::{P4Info, v1};

use crate::control::Value;

/// Deepest nesting of types.
const MAX_DEPTH: usize = 16;

/// One digest message.
pub fn data(info: &P4Info, digest_id: u32, values: Vec<Value>) -> v1::P4Data {
    let types = info.message().type_info.as_ref();
    let spec = info.digests.get(digest_id).map(|digest| &digest.type_spec);
    let mut leaves = values.iter();
    let shaped = spec
        .zip(types)
        .and_then(|(spec, types)| shape(spec, types, &mut leaves, 0));
    match shaped {
        Some(data) if leaves.next().is_none() => data,
        _ => {
            let members = values.into_iter().map(|value| wrap(Data::Bitstring(value))).collect();
            wrap(Data::Struct(v1::P4StructLike { members }))
        }
    }
}

fn shape<'v>(
    spec: &config::P4DataTypeSpec,
    types: &config::P4TypeInfo,
    leaves: &mut impl Iterator<Item = &'v Value>,
    depth: usize,
) -> Option<v1::P4Data> {
    if depth > MAX_DEPTH {
        return None;
    }
    let data = match spec.type_spec.as_ref()? {
        TypeSpec::Bitstring(bits) if matches!(bits.type_spec, Some(Bits::Varbit(_))) => return None,
        TypeSpec::Bitstring(_) => Data::Bitstring(leaves.next()?.clone()),
        TypeSpec::Bool(_) => Data::Bool(leaves.next()?.iter().any(|octet| *octet != 0)),
        TypeSpec::SerializableEnum(_) => Data::EnumValue(leaves.next()?.clone()),
        TypeSpec::Tuple(tuple) => {
            let members = tuple
                .members
                .iter()
                .map(|member| shape(member, types, leaves, depth + 1));
            Data::Tuple(v1::P4StructLike {
                members: members.collect::<Option<_>>()?,
            })
        }
        TypeSpec::Struct(named) => {
            let members = types.structs.get(&named.name)?.members.iter();
            let members = members.map(|member| shape(member.type_spec.as_ref()?, types, leaves, depth + 1));
            Data::Struct(v1::P4StructLike {
                members: members.collect::<Option<_>>()?,
            })
        }
        TypeSpec::NewType(named) => match types.new_types.get(&named.name)?.representation.as_ref()? {
            config::p4_new_type_spec::Representation::OriginalType(original) => {
                return shape(original, types, leaves, depth + 1);
            }
            config::p4_new_type_spec::Representation::TranslatedType(_) => Data::Bitstring(leaves.next()?.clone()),
        },
        _ => return None,
    };
    Some(wrap(data))
}

fn wrap(data: Data) -> v1::P4Data {
    v1::P4Data { data: Some(data) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(members: &str) -> P4Info {
        P4Info::from_text(&format!(
            "digests {{ preamble {{ id: 1 name: \"d\" }} type_spec {{ struct {{ name: \"s\" }} }} }}
             type_info {{ structs {{ key: \"s\" value {{ {members} }} }} }}"
        ))
        .expect("valid")
    }

    fn member(name: &str, spec: &str) -> String {
        format!("members {{ name: \"{name}\" type_spec {{ {spec} }} }}")
    }

    #[test]
    fn a_digest_has_the_shape_of_its_type() {
        let info = info(&(member("mac", "bitstring { bit { bitwidth: 48 } }") + &member("known", "bool { }")));
        let bits = |value: &[u8]| wrap(Data::Bitstring(value.to_vec()));
        let members = vec![bits(&[1, 2]), wrap(Data::Bool(true))];
        let expected = wrap(Data::Struct(v1::P4StructLike { members }));
        assert_eq!(data(&info, 1, vec![vec![1, 2], vec![1]]), expected);
    }

    #[test]
    fn values_that_do_not_fit_the_type_are_answered_plainly() {
        let info = info(&member("mac", "bitstring { bit { bitwidth: 48 } }"));
        let plain = data(&info, 1, vec![vec![1], vec![2]]);
        let Some(Data::Struct(plain)) = plain.data else {
            panic!("a struct")
        };
        assert_eq!(plain.members.len(), 2);
    }
}
