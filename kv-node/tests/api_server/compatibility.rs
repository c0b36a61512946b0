//! docs/etcd-compatibility.md names everything that etcd's clients and operators may ask for.

use std::process::Command;

use clap::Args;
use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::differential::program;

const DOCUMENT: &str = include_str!("../../../docs/etcd-compatibility.md");

/// The row of a table whose first cell is this.
fn row(first: &str) -> Option<&'static str> {
    let begin = format!("| {first} |");
    DOCUMENT.lines().find(|line| line.starts_with(&begin))
}

fn is_etcds(package: &str) -> bool {
    !package.starts_with("quorate") && !package.starts_with("google")
}

#[test]
fn every_field_and_method_is_in_the_document() {
    let pool = DescriptorPool::decode(kv_proto::FILE_DESCRIPTOR_SET).unwrap();
    let tells = |message: &MessageDescriptor| message.fields().any(|field| field.name() != "header");
    let messages = pool
        .all_messages()
        .filter(|message| is_etcds(message.package_name()) && tells(message));
    let mut seen = 0;
    for message in messages {
        let row = row(message.name()).unwrap_or_else(|| panic!("no row for {}", message.name()));
        for field in message.fields() {
            let name = format!("`{}`", field.name());
            assert!(row.contains(&name), "{} of {}", field.name(), message.name());
            seen += 1;
        }
    }
    assert!(seen > 150, "{seen}");
    let services = pool.services().filter(|service| is_etcds(service.package_name()));
    for method in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let named = |cell: &str| cell.split([' ', ',']).any(|word| word == method.name());
        let mut rows = DOCUMENT.lines().filter_map(|line| line.split('|').nth(1));
        assert!(rows.any(named), "{}", method.name());
    }
}

#[test]
fn every_flag_of_etcd_is_known() {
    let Some(etcd) = program() else { return };
    let help = Command::new(etcd).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap() + &String::from_utf8(help.stderr).unwrap();
    let flags: Vec<&str> = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--"))
        .filter_map(|flag| flag.split(' ').next())
        .collect();
    assert!(flags.len() > 80, "{help}");
    let node = kv_node::cli::Args::augment_args(clap::Command::new("kv-node"));
    for flag in flags {
        let known = node.get_arguments().find(|arg| {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            arg.get_long() == Some(flag) || aliases.contains(&flag)
        });
        let known = known.unwrap_or_else(|| panic!("--{flag} is not known"));
        let is_ours = !known.is_hide_set() && known.get_long() == Some(flag);
        assert!(
            is_ours || DOCUMENT.contains(&format!("`--{flag}`")),
            "--{flag} is not in the document"
        );
    }
}
