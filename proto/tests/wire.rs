//! Holds the compiled .proto files against `wire.txt`, the list of what the standards and SPIRE
//! publish: a number or a name that moves is another wire.

use std::collections::BTreeSet;

use prost::Message;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    ServiceDescriptorProto,
};
use steeple_proto::spire::api::types::PermissionDeniedDetails;
use steeple_proto::spire::api::types::permission_denied_details::Reason;

/// WAPI-03, WEP-19: the service is called as it is published, and has no more than that.
#[test]
fn every_rpc_field_and_enum_value_is_the_published_one() {
    let published: BTreeSet<String> = include_str!("wire.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(String::from)
        .collect();
    let compiled = compiled();

    let missing: Vec<_> = published.difference(&compiled).collect();
    let unknown: Vec<_> = compiled.difference(&published).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "published, but not compiled: {missing:#?}\ncompiled, but not published: {unknown:#?}"
    );
}

#[test]
fn a_detail_of_an_error_carries_its_type() {
    let details = PermissionDeniedDetails { reason: Reason::AgentBanned.into() };
    let any = prost_types::Any::from_msg(&details).unwrap();
    assert_eq!(any.type_url, "type.googleapis.com/spire.api.types.PermissionDeniedDetails");
    assert_eq!(any.to_msg(), Ok(details));
}

/// Whether others publish it: what is ours alone is not on their list.
fn is_published(package: &str) -> bool {
    package != "google.protobuf" && !package.starts_with("steeple.")
}

/// One line for each rpc, field, enum value and empty message of our own files.
fn compiled() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(steeple_proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut lines = BTreeSet::new();
    for file in set.file.iter().filter(|file| is_published(file.package())) {
        let package = match file.package() {
            "" => String::new(),
            package => format!("{package}."),
        };
        for service in &file.service {
            push_service(&package, service, &mut lines);
        }
        for message in &file.message_type {
            push_message(&package, message, &mut lines);
        }
        for values in &file.enum_type {
            push_enum(&package, values, &mut lines);
        }
    }
    lines
}

fn push_service(package: &str, service: &ServiceDescriptorProto, lines: &mut BTreeSet<String>) {
    for rpc in &service.method {
        lines.insert(format!(
            "rpc /{package}{}/{}: {}{} -> {}{}",
            service.name(),
            rpc.name(),
            if rpc.client_streaming() { "stream " } else { "" },
            type_name(rpc.input_type()),
            if rpc.server_streaming() { "stream " } else { "" },
            type_name(rpc.output_type()),
        ));
    }
}

fn push_message(scope: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let name = format!("{scope}{}", message.name());
    if message.field.is_empty() {
        lines.insert(format!("message {name}"));
    }
    for field in &message.field {
        lines.insert(format!(
            "{name}.{} = {}: {}{}",
            field.name(),
            field.number(),
            field_type(message, field),
            oneof(message, field),
        ));
    }
    let inner = format!("{name}.");
    for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        push_message(&inner, nested, lines);
    }
    for values in &message.enum_type {
        push_enum(&inner, values, lines);
    }
}

fn push_enum(scope: &str, values: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &values.value {
        lines.insert(format!(
            "enum {scope}{}.{} = {}",
            values.name(),
            value.name(),
            value.number()
        ));
    }
}

fn field_type(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry = message
        .nested_type
        .iter()
        .find(|nested| is_map_entry(nested) && field.type_name().ends_with(nested.name()));
    if let Some(entry) = entry {
        return format!("map<{}, {}>", scalar(&entry.field[0]), scalar(&entry.field[1]));
    }
    let prefix = match field.label() {
        Label::Repeated => "repeated ",
        Label::Optional if field.proto3_optional() => "optional ",
        Label::Optional | Label::Required => "",
    };
    format!("{prefix}{}", scalar(field))
}

fn scalar(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => type_name(field.type_name()).into(),
        other => other.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

fn oneof(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    match field.oneof_index {
        Some(index) if !field.proto3_optional() => {
            format!(" oneof {}", message.oneof_decl[usize::try_from(index).unwrap()].name())
        }
        Some(_) | None => String::new(),
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

/// The name without the dot that says it is absolute.
fn type_name(name: &str) -> &str {
    name.trim_start_matches('.')
}
