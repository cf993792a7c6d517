//! The committed API is what the vendored protos generate. `P4RUNTIME_GENERATE=1 cargo test -p p4runtime --test
//! generated` writes it anew; nobody else needs a protobuf compiler, and this test needs none but protox.

use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

const PROTOS: [&str; 2] = ["p4/v1/p4runtime.proto", "p4/config/v1/p4info.proto"];

#[test]
fn committed_api_is_what_the_protos_generate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let generated = Path::new(env!("CARGO_TARGET_TMPDIR")).join("api");
    std::fs::create_dir_all(&generated).expect("target directory is writable");
    let descriptors = protox::compile(PROTOS, [root.join("proto")]).expect("the vendored protos compile");
    std::fs::write(generated.join("schema.rs"), schema(&descriptors)).expect("target directory is writable");
    tonic_prost_build::configure()
        .out_dir(&generated)
        .compile_fds(descriptors)
        .expect("code is generated");

    for file in ["google.rpc.rs", "p4.config.v1.rs", "p4.v1.rs", "schema.rs"] {
        let fresh = std::fs::read_to_string(generated.join(file)).expect("generated file");
        let committed = root.join("src/api").join(file);
        if std::env::var_os("P4RUNTIME_GENERATE").is_some() {
            std::fs::write(&committed, &fresh).expect("src/api is writable");
        }
        let committed = std::fs::read_to_string(committed).unwrap_or_default();
        assert!(
            committed == fresh,
            "src/api/{file} is stale: P4RUNTIME_GENERATE=1 cargo test -p p4runtime --test generated"
        );
    }
}

/// The table that `src/text.rs` reads text format with: every message reachable from P4Info, by full name.
fn schema(descriptors: &FileDescriptorSet) -> String {
    let mut messages = BTreeMap::new();
    let mut enums = BTreeMap::new();
    for file in &descriptors.file {
        collect(
            &format!(".{}", file.package()),
            &file.message_type,
            &file.enum_type,
            &mut messages,
            &mut enums,
        );
    }
    let mut wanted = vec![".p4.config.v1.P4Info".to_owned()];
    let mut next = 0;
    while let Some(name) = wanted.get(next).cloned() {
        next += 1;
        let message: &DescriptorProto = messages[&name];
        for field in message.field.iter().filter(|field| field.r#type() == Type::Message) {
            if !wanted.iter().any(|known| known == field.type_name()) {
                wanted.push(field.type_name().to_owned());
            }
        }
    }
    let mut text = String::from("// @generated from proto/ by tests/generated.rs\n/// The P4Info message.\n");
    let _ = writeln!(
        text,
        "const ROOT: usize = 0;\n/// Messages by position.\nconst MESSAGES: &[MessageSchema] = &["
    );
    for name in &wanted {
        let message = messages[name];
        let _ = writeln!(text, "    MessageSchema {{ name: {:?}, fields: &[", message.name());
        for field in &message.field {
            let kind = kind(field, &wanted, &enums);
            let (name, number) = (field.name(), field.number());
            let _ = writeln!(
                text,
                "        FieldSchema {{ name: {name:?}, number: {number}, kind: {kind} }},"
            );
        }
        text.push_str("    ] },\n");
    }
    text.push_str("];\n");
    text
}

fn kind(field: &FieldDescriptorProto, wanted: &[String], enums: &BTreeMap<String, &EnumDescriptorProto>) -> String {
    match field.r#type() {
        Type::Message => {
            let position = wanted.iter().position(|name| name == field.type_name());
            format!("Kind::Message({})", position.expect("collected before"))
        }
        Type::Enum => {
            let values = &enums[field.type_name()].value;
            let values: Vec<String> = values
                .iter()
                .map(|v| format!("({:?}, {})", v.name(), v.number()))
                .collect();
            format!("Kind::Enum(&[{}])", values.join(", "))
        }
        Type::String => "Kind::String".into(),
        Type::Bytes => "Kind::Bytes".into(),
        Type::Bool => "Kind::Bool".into(),
        Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 => "Kind::Integer".into(),
        other => panic!("P4Info has a field of type {other:?}, which the text reader does not know"),
    }
}

fn collect<'a>(
    scope: &str,
    messages: &'a [DescriptorProto],
    enums: &'a [EnumDescriptorProto],
    all_messages: &mut BTreeMap<String, &'a DescriptorProto>,
    all_enums: &mut BTreeMap<String, &'a EnumDescriptorProto>,
) {
    for descriptor in enums {
        all_enums.insert(format!("{scope}.{}", descriptor.name()), descriptor);
    }
    for message in messages {
        let name = format!("{scope}.{}", message.name());
        collect(&name, &message.nested_type, &message.enum_type, all_messages, all_enums);
        all_messages.insert(name, message);
    }
}
