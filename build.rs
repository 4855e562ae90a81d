//! Compiles the `.proto` files (with protox, so no installed protoc is needed) to Rust types and,
//! from the same descriptors, writes the readers and writers of the Mesos JSON mapping and the
//! tables with which binary input is checked for required fields.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Every file that is compiled, relative to [`PROTO_ROOT`].
const PROTOS: &[&str] = &[
    "mesos/v1/mesos.proto",
    "mesos/v1/agent/agent.proto",
    "mesos/v1/allocator/allocator.proto",
    "mesos/v1/executor/executor.proto",
    "mesos/v1/maintenance/maintenance.proto",
    "mesos/v1/master/master.proto",
    "mesos/v1/quota/quota.proto",
    "mesos/v1/resource_provider/resource_provider.proto",
    "mesos/v1/scheduler/scheduler.proto",
    "mesita/peer.proto",
    "mesita/registry.proto",
    "mesita/service.proto",
];

const PROTO_ROOT: &str = "src/api/proto";

/// Messages whose lists are written even when empty, as Mesos' hand-written JSON does. Deprecated
/// lists stay away.
const FULL_LISTS: &[&str] = &[
    ".mesos.v1.master.Response.GetTasks",
    ".mesos.v1.master.Response.GetAgents",
    ".mesos.v1.master.Response.GetFrameworks",
    ".mesos.v1.master.Response.GetExecutors",
    ".mesos.v1.agent.Response.GetTasks",
    ".mesos.v1.agent.Response.GetFrameworks",
    ".mesos.v1.agent.Response.GetExecutors",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={PROTO_ROOT}");
    println!("cargo:rerun-if-changed=build.rs");
    // Bugs planted on purpose, for the tests of the simulator alone.
    println!("cargo:rerun-if-env-changed=MESITA_PLANTED");
    println!("cargo:rustc-check-cfg=cfg(planted)");
    if std::env::var("MESITA_PLANTED").is_ok_and(|value| value == "1") {
        println!("cargo:rustc-cfg=planted");
    }
    let files: Vec<PathBuf> = PROTOS.iter().map(|name| PathBuf::from(PROTO_ROOT).join(name)).collect();
    let descriptors = protox::compile(&files, [PROTO_ROOT])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    write_json(&descriptors, &out)?;
    prost_build::Config::new()
        .btree_map(["."])
        .enable_type_names()
        .include_file("messages.rs")
        .compile_fds(without_deprecation(descriptors))?;
    if std::env::var_os("CARGO_FEATURE_TLS").is_some() {
        write_wire()?;
    }
    Ok(())
}

/// The messages and stubs of the service between nodes, in a file of their own.
fn write_wire() -> Result<(), Box<dyn Error>> {
    let wire = Path::new(PROTO_ROOT).join("mesita/wire.proto");
    tonic_prost_build::configure()
        .build_transport(false)
        .btree_map(".")
        .bytes(".mesita.wire")
        .extern_path(".mesita.peer", "crate::api::peer")
        .extern_path(".mesos.v1", "crate::api::v1")
        .compile_fds(protox::compile([wire], [PROTO_ROOT])?)?;
    Ok(())
}

/// The descriptors without `deprecated` options: Rust attributes for them would only make noise in
/// the generated code (the JSON writer reads the originals).
fn without_deprecation(mut set: FileDescriptorSet) -> FileDescriptorSet {
    fn clear(message: &mut DescriptorProto) {
        for field in &mut message.field {
            if let Some(options) = &mut field.options {
                options.deprecated = None;
            }
        }
        message.nested_type.iter_mut().for_each(clear);
    }
    set.file.iter_mut().flat_map(|file| &mut file.message_type).for_each(clear);
    set
}

/// Everything of package `mesos.v1` and below.
#[derive(Default)]
struct Schema {
    /// Full name (`.mesos.v1.Offer`) → descriptor, in order of names.
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
}

impl Schema {
    fn read(set: &FileDescriptorSet) -> Self {
        let mut schema = Self::default();
        for file in set.file.iter().filter(|file| file.package().starts_with("mesos.v1")) {
            let prefix = format!(".{}", file.package());
            for message in &file.message_type {
                schema.add(&prefix, message);
            }
            for one in &file.enum_type {
                schema.enums.insert(format!("{prefix}.{}", one.name()), one.clone());
            }
        }
        schema
    }

    fn add(&mut self, prefix: &str, message: &DescriptorProto) {
        let name = format!("{prefix}.{}", message.name());
        for nested in &message.nested_type {
            self.add(&name, nested);
        }
        for one in &message.enum_type {
            self.enums.insert(format!("{name}.{}", one.name()), one.clone());
        }
        self.messages.insert(name, message.clone());
    }

    fn is_map(&self, field: &FieldDescriptorProto) -> Option<&DescriptorProto> {
        let entry = self.messages.get(field.type_name())?;
        entry.options.as_ref().is_some_and(|options| options.map_entry()).then_some(entry)
    }
}

/// Rust path of a message or enum, below `crate::api`.
fn rust_path(full_name: &str) -> String {
    let parts: Vec<&str> = full_name.trim_start_matches(".mesos.").split('.').collect();
    let (last, modules) = parts.split_last().expect("a name");
    let mut path = String::from("crate::api");
    for module in modules {
        write!(path, "::{}", module.to_snake_case()).expect("writing to a string");
    }
    format!("{path}::{}", last.to_upper_camel_case())
}

/// Rust name of a field.
fn rust_field(name: &str) -> String {
    let name = name.to_snake_case();
    if matches!(name.as_str(), "type" | "ref" | "mod" | "match") { format!("r#{name}") } else { name }
}

fn write_json(set: &FileDescriptorSet, out: &Path) -> Result<(), Box<dyn Error>> {
    let schema = Schema::read(set);
    let mut json = String::new();
    for (name, message) in &schema.messages {
        if !message.options.as_ref().is_some_and(|options| options.map_entry()) {
            json.push_str(&message_impl(&schema, name, message));
        }
    }
    fs::write(out.join("json.rs"), json)?;
    fs::write(out.join("tables.rs"), tables(&schema))?;
    Ok(())
}

fn message_impl(schema: &Schema, name: &str, message: &DescriptorProto) -> String {
    let path = rust_path(name);
    let mut write = String::new();
    let mut read = String::new();
    for field in message.field.iter().filter(|field| field.oneof_index.is_none()) {
        write.push_str(&write_field(schema, name, field));
        read.push_str(&read_field(schema, field));
    }
    for (index, oneof) in message.oneof_decl.iter().enumerate() {
        let members: Vec<&FieldDescriptorProto> =
            message.field.iter().filter(|field| field.oneof_index == i32::try_from(index).ok()).collect();
        let module = path.rsplit_once("::").map_or("", |(module, _)| module);
        let kind =
            format!("{module}::{}::{}", message.name().to_snake_case(), oneof.name().to_upper_camel_case());
        write.push_str(&write_oneof(schema, &kind, oneof.name(), &members));
        read.push_str(&read_oneof(schema, &kind, oneof.name(), &members));
    }
    let writer = if write.is_empty() { "_w" } else { "w" };
    let reader = if read.is_empty() { "_object" } else { "object" };
    format!(
        "impl Json for {path} {{\n    fn write(&self, {writer}: &mut Writer) {{\n{write}    }}\n    \
         fn read(value: &Value, at: &mut At) -> Result<Self, JsonError> {{\n        \
         let {reader} = at.object(value)?;\n        Ok(Self {{\n{read}        }})\n    }}\n}}\n"
    )
}

/// An expression that writes `v`, a reference to a value of the field's type.
fn write_value(field: &FieldDescriptorProto, v: &str) -> String {
    match field.r#type() {
        Type::String => format!("w.string({v})"),
        Type::Bytes => format!("w.bytes({v})"),
        Type::Bool => format!("w.bool(*{v})"),
        Type::Double => format!("w.double(*{v})"),
        Type::Float => format!("w.double(f64::from(*{v}))"),
        Type::Message => format!("w.message({v})"),
        Type::Enum => unreachable!("enums are written with their key"),
        _ => format!("w.integer(*{v})"),
    }
}

fn write_field(schema: &Schema, message: &str, field: &FieldDescriptorProto) -> String {
    let (name, rust) = (field.name(), rust_field(field.name()));
    let pad = "        ";
    if let Some(entry) = schema.is_map(field) {
        let value = &entry.field[1];
        let write = write_value(value, "v");
        return format!("{pad}w.map(\"{name}\", &self.{rust}, |w, v| {write});\n");
    }
    let is_enum = field.r#type() == Type::Enum;
    let text =
        |v: &str| format!("{}::try_from({v}).ok().map(|e| e.as_str_name())", rust_path(field.type_name()));
    match field.label() {
        Label::Repeated => {
            let deprecated = field.options.as_ref().is_some_and(|options| options.deprecated());
            let always = FULL_LISTS.contains(&message) && !deprecated;
            if is_enum {
                return format!("{pad}w.enums(\"{name}\", &self.{rust}, |v| {});\n", text("v"));
            }
            format!("{pad}w.list(\"{name}\", &self.{rust}, {always}, |w, v| {});\n", write_value(field, "v"))
        }
        Label::Required if is_enum => {
            format!("{pad}w.enumeration(\"{name}\", {});\n", text(&format!("self.{rust}")))
        }
        Label::Required => {
            format!(
                "{pad}w.key(\"{name}\");\n{pad}{{ let v = &self.{rust}; {}; }}\n",
                write_value(field, "v")
            )
        }
        Label::Optional => {
            let some = if is_enum {
                format!("w.enumeration(\"{name}\", {})", text("*v"))
            } else {
                format!("{{ w.key(\"{name}\"); {}; }}", write_value(field, "v"))
            };
            let Some(default) = default_of(field) else {
                return format!("{pad}if let Some(v) = &self.{rust} {{ {some}; }}\n");
            };
            let none = format!("{{ w.key(\"{name}\"); w.raw({default:?}); }}");
            format!("{pad}match &self.{rust} {{ Some(v) => {some}, None => {none} }}\n")
        }
    }
}

/// The JSON text of an explicit default that is not deprecated.
fn default_of(field: &FieldDescriptorProto) -> Option<String> {
    let default = field.default_value.as_ref()?;
    if field.options.as_ref().is_some_and(|options| options.deprecated()) {
        return None;
    }
    Some(match field.r#type() {
        Type::String | Type::Enum => format!("\"{default}\""),
        Type::Double if !default.contains('.') => format!("{default}.0"),
        _ => default.clone(),
    })
}

/// A function that reads one value of the field's type.
fn read_value(field: &FieldDescriptorProto) -> String {
    let function = match field.r#type() {
        Type::String => "At::string",
        Type::Bytes => "At::bytes",
        Type::Bool => "At::bool",
        Type::Double => "At::double",
        Type::Float => "At::float",
        Type::Int32 | Type::Sint32 | Type::Sfixed32 => "At::integer::<i32>",
        Type::Int64 | Type::Sint64 | Type::Sfixed64 => "At::integer::<i64>",
        Type::Uint32 | Type::Fixed32 => "At::integer::<u32>",
        Type::Uint64 | Type::Fixed64 => "At::integer::<u64>",
        Type::Message => {
            // The google type has a JSON form of its own (a plain object), written by hand.
            return format!("|at, v| <{} as Json>::read(v, at)", message_path(field.type_name()));
        }
        Type::Enum | Type::Group => unreachable!("enums are read by name; there are no groups"),
    };
    function.to_owned()
}

fn message_path(type_name: &str) -> String {
    if type_name == ".google.protobuf.Duration" {
        "::prost_types::Duration".to_owned()
    } else {
        rust_path(type_name)
    }
}

fn read_field(schema: &Schema, field: &FieldDescriptorProto) -> String {
    let (name, rust) = (field.name(), rust_field(field.name()));
    let pad = "            ";
    if let Some(entry) = schema.is_map(field) {
        return format!("{pad}{rust}: at.map(object, \"{name}\", {})?,\n", read_value(&entry.field[1]));
    }
    let how = match field.label() {
        Label::Repeated => "repeated",
        Label::Required => "required",
        Label::Optional => "optional",
    };
    if field.r#type() == Type::Enum {
        let by_name =
            format!("|name| {}::from_str_name(name).map(|e| e as i32)", rust_path(field.type_name()));
        return format!("{pad}{rust}: at.{how}_enum(object, \"{name}\", {by_name})?,\n");
    }
    let read = read_value(field);
    if field.r#type() == Type::Message && how != "repeated" {
        let into = if how == "optional" { ".map(Into::into)" } else { ".into()" };
        return format!("{pad}{rust}: at.{how}(object, \"{name}\", {read})?{into},\n");
    }
    format!("{pad}{rust}: at.{how}(object, \"{name}\", {read})?,\n")
}

fn write_oneof(_schema: &Schema, kind: &str, oneof: &str, members: &[&FieldDescriptorProto]) -> String {
    let mut arms = String::new();
    for member in members {
        let (name, variant) = (member.name(), member.name().to_upper_camel_case());
        let write = if member.r#type() == Type::Enum {
            let text =
                format!("{}::try_from(*v).ok().map(|e| e.as_str_name())", rust_path(member.type_name()));
            format!("w.enumeration(\"{name}\", {text})")
        } else {
            format!("{{ w.key(\"{name}\"); {}; }}", write_value(member, "v"))
        };
        writeln!(arms, "            Some({kind}::{variant}(v)) => {write},").expect("writing to a string");
    }
    format!("        match &self.{} {{\n{arms}            None => {{}}\n        }}\n", rust_field(oneof))
}

fn read_oneof(_schema: &Schema, kind: &str, oneof: &str, members: &[&FieldDescriptorProto]) -> String {
    let mut chain = String::new();
    for member in members {
        let (name, variant) = (member.name(), member.name().to_upper_camel_case());
        let read = if member.r#type() == Type::Enum {
            let by_name =
                format!("|name| {}::from_str_name(name).map(|e| e as i32)", rust_path(member.type_name()));
            format!("at.optional_enum(object, \"{name}\", {by_name})?")
        } else {
            format!("at.optional(object, \"{name}\", {})?", read_value(member))
        };
        write!(chain, "if let Some(v) = {read} {{ Some({kind}::{variant}(v.into())) }} else ")
            .expect("writing to a string");
    }
    format!("            {}: {chain}{{ None }},\n", rust_field(oneof))
}

/// Static tables of every message: what is required, and where messages and enums are nested.
fn tables(schema: &Schema) -> String {
    let names: Vec<&String> = schema.messages.keys().collect();
    let index = |name: &str| names.iter().position(|other| other.as_str() == name);
    let mut text = String::from("static TABLES: &[Table] = &[\n");
    for (name, message) in &schema.messages {
        writeln!(text, "    Table {{ name: {:?}, fields: &[", name.trim_start_matches('.'))
            .expect("writing to a string");
        for field in &message.field {
            let kind = match field.r#type() {
                Type::Message => index(field.type_name())
                    .map_or_else(|| "Kind::Plain".to_owned(), |at| format!("Kind::Message({at})")),
                Type::Enum => {
                    let known = schema
                        .enums
                        .get(field.type_name())
                        .map(|one| one.value.iter().map(|value| value.number()).collect::<Vec<_>>());
                    format!("Kind::Enum(&{:?})", known.unwrap_or_default())
                }
                _ => "Kind::Plain".to_owned(),
            };
            let (number, required) = (field.number(), field.label() == Label::Required);
            writeln!(
                text,
                "        Field {{ number: {number}, name: {:?}, required: {required}, kind: {kind} }},",
                field.name()
            )
            .expect("writing to a string");
        }
        text.push_str("    ] },\n");
    }
    text.push_str("];\n");
    text
}
