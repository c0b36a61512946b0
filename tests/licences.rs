//! Holds the licences and sources of all dependencies against deny.toml, with nothing but cargo.
//!
//! `cargo deny` checks the same and more, but is not on every machine on which the tests run.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// The strings of the array `key` in deny.toml.
fn allowed(deny: &str, key: &str) -> BTreeSet<String> {
    let start = deny
        .find(&format!("\n{key} = ["))
        .unwrap_or_else(|| panic!("deny.toml has no {key}"));
    let array = &deny[start..];
    let array = &array[..array.find(']').expect("an array ends")];
    array.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Whether an SPDX expression can be satisfied with the allowed licences. `/` is how crates once wrote OR.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let result = any_of(&mut rest, allowed);
    assert!(
        rest.is_empty(),
        "cannot read the licence expression {expression:?} from {rest:?} on"
    );
    result
}

fn any_of(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut result = all_of(words, allowed);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        result |= all_of(words, allowed);
    }
    result
}

fn all_of(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut result = one(words, allowed);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        result &= one(words, allowed);
    }
    result
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let result = any_of(words, allowed);
            let [")", rest @ ..] = *words else {
                panic!("an unclosed parenthesis in a licence expression")
            };
            *words = rest;
            result
        }
        [licence, "WITH", exception, rest @ ..] => {
            *words = rest;
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, rest @ ..] => {
            *words = rest;
            allowed.contains(*licence)
        }
        [] => panic!("a licence expression ends too early"),
    }
}

#[test]
fn every_dependency_has_an_allowed_licence_and_source() {
    let root = env!("CARGO_MANIFEST_DIR");
    let deny = std::fs::read_to_string(format!("{root}/deny.toml")).unwrap();
    let licences = allowed(&deny, "allow");
    let registries = allowed(&deny, "allow-registry");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(
        packages.len() > 100,
        "only {} packages: this is not the whole graph",
        packages.len()
    );
    let mut refused = Vec::new();
    for package in packages {
        let text = |field: &str| package[field].as_str().unwrap_or_default();
        let named = format!("{} {}", text("name"), text("version"));
        let licence = text("license");
        if licence.is_empty() || !satisfied(licence, &licences) {
            refused.push(format!("{named}: licence {licence:?}"));
        }
        if let Some(source) = package["source"].as_str()
            && !source
                .strip_prefix("registry+")
                .is_some_and(|registry| registries.contains(registry))
        {
            refused.push(format!("{named}: source {source}"));
        }
    }
    assert!(
        refused.is_empty(),
        "not allowed by deny.toml:\n{}",
        refused.join("\n")
    );
}

#[test]
fn licence_expressions_are_read_as_spdx_defines_them() {
    let allowed = BTreeSet::from(["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned));
    let verdict = |expression: &str| satisfied(expression, &allowed);
    assert!(verdict("MIT") && verdict("GPL-3.0 OR MIT") && verdict("GPL-3.0/MIT") && verdict("MIT AND Zlib"));
    assert!(verdict("(GPL-3.0 OR MIT) AND Zlib") && verdict("Apache-2.0 WITH LLVM-exception"));
    assert!(!verdict("GPL-3.0") && !verdict("MIT AND GPL-3.0") && !verdict("Apache-2.0"));
    assert!(
        !verdict("(MIT OR Zlib) AND GPL-3.0"),
        "AND binds the whole parenthesis"
    );
}
