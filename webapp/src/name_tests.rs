//! Tests of [`super::Name`]: a table of cases, and the laws.

use super::*;
use proptest::prelude::*;

fn key(text: &str) -> String {
    Name::parse(text)
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
        .key()
        .to_owned()
}

fn why(text: &str) -> String {
    Name::parse(text).expect_err(text).to_string()
}

#[test]
fn shows_what_was_typed_and_compares_without_case() {
    let name = Name::parse("  Ada  Lovelace\n").unwrap();
    assert_eq!(name.shown(), "Ada  Lovelace");
    assert_eq!(name.key(), "ada lovelace");
}

#[test]
fn same_name() {
    for (one, other) in [
        ("Ada", "ADA"),
        ("Straße", "STRASSE"),
        ("ｓｔｒａｓｓｅ", "Straße"),
        ("Jose\u{301}", "JOSÉ"),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("ﬁona", "Fiona"),
        ("Ann\u{200D}", "Ann"),
        ("❤\u{FE0F}", "❤"),
        ("Ada\u{A0}Lovelace", "ada \u{3000} lovelace"),
        ("ᾳ\u{301}", "ᾴ"),
    ] {
        assert_eq!(key(one), key(other), "{one:?} and {other:?}");
    }
}

#[test]
fn different_names() {
    for (one, other) in [
        ("Ada", "Adá"),
        ("a b", "ab"),
        ("a", "а"),
        ("<b>", "b"),
        ("a/b", "a%2Fb"),
    ] {
        assert_ne!(key(one), key(other), "{one:?} and {other:?}");
    }
}

#[test]
fn html_is_text_like_any_other() {
    let name = Name::parse("<script>alert('1')</script>").unwrap();
    assert_eq!(name.shown(), "<script>alert('1')</script>");
}

#[test]
fn emoji_keep_their_joiners() {
    let family = "👩\u{200D}👩\u{200D}👧";
    assert_eq!(Name::parse(family).unwrap().shown(), family);
}

#[test]
fn refusals_say_why() {
    assert_eq!(why(""), "a name needs at least one character");
    assert_eq!(
        why(" \t\u{2003}\u{2800}\n"),
        "a name needs at least one character"
    );
    assert_eq!(
        why(&"x".repeat(65)),
        "a name has at most 64 characters, this one has 65"
    );
    assert_eq!(
        why("a\u{7}b"),
        "a name cannot contain a control character (U+0007, character 2)"
    );
    assert_eq!(
        why("a\tb"),
        "a name cannot contain a control character (U+0009, character 2)"
    );
    assert_eq!(
        why("a\u{2028}b"),
        "a name cannot contain a line or paragraph separator (U+2028, character 2)"
    );
    assert_eq!(
        why("user\u{202E}nimda"),
        "a name cannot contain a character that changes the direction of text (U+202E, character 5)"
    );
    assert_eq!(
        why("\u{200B}"),
        "a name cannot contain an invisible character (U+200B, character 1)"
    );
    assert_eq!(
        why("\u{3164}"),
        "a name cannot contain an invisible character (U+3164, character 1)"
    );
    assert_eq!(
        why("a\u{FFFD}"),
        "a name cannot contain the sign for text that could not be read (U+FFFD, character 2)"
    );
    assert_eq!(
        why("\u{E000}"),
        "a name cannot contain a private-use character (U+E000, character 1)"
    );
    assert_eq!(
        why("\u{1FFFF}"),
        "a name cannot contain a code point that is no character (U+1FFFF, character 1)"
    );
    assert_eq!(
        why("\u{200D}\u{200D}"),
        "a name needs at least one visible character"
    );
    assert_eq!(why("\u{301}"), "a name needs at least one visible character");
    assert_eq!(why("\u{301}a"), "a name cannot start with a combining mark");
    assert_eq!(
        why("\u{200D}\u{301}a"),
        "a name cannot start with a combining mark"
    );
    assert_eq!(
        why(" .. "),
        "\".\" and \"..\" cannot be names, because no web address can contain them"
    );
    assert_eq!(
        why(&"\u{FDFA}".repeat(64)),
        "this name is too long once its compatibility characters are written out"
    );
}

#[test]
fn length_counts_scalars_after_normalisation() {
    assert!(
        Name::parse(&"e\u{301}".repeat(64)).is_ok(),
        "composed: 64 scalars"
    );
    assert!(Name::parse(&"🦀".repeat(64)).is_ok());
    assert_eq!(
        Name::parse(&"🦀".repeat(65)),
        Err(NameError::TooLong { chars: 65 })
    );
    assert!(
        Name::parse(&format!("  {}  ", "x".repeat(64))).is_ok(),
        "white space at the ends does not count"
    );
}

/// Texts that have a chance to be names, rich in what folding and normalising change.
fn likely_name() -> impl Strategy<Value = String> {
    let tricky = prop::sample::select(vec![
        'ß', 'ẞ', 'İ', 'ı', 'ſ', 'K', 'ﬁ', 'Σ', 'ς', 'ᾳ', '\u{345}', '\u{301}', '\u{327}', '¨', '½', '…',
        '㎏', '\u{200D}', '\u{FE0F}', '\u{A0}', ' ', 'ŉ', 'ǰ', '가', '\u{1100}', '\u{1161}', 'Ꭰ', 'ꭰ', '𝔄',
        '<', '&',
    ]);
    prop::collection::vec(
        prop_oneof![tricky, prop::char::any(), prop::char::range('!', '~')],
        1..30,
    )
    .prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn parsing_never_panics(text in any::<String>()) {
        let _ = Name::parse(&text);
    }

    #[test]
    fn parsing_what_is_shown_changes_nothing(text in likely_name()) {
        if let Ok(name) = Name::parse(&text) {
            prop_assert_eq!(Name::parse(name.shown()), Ok(name.clone()));
            prop_assert!(name.shown().chars().count() <= CHARS_MAX);
            prop_assert!(name.key().len() <= KEY_BYTES_MAX);
        }
    }

    #[test]
    fn folding_a_key_again_changes_nothing(text in likely_name()) {
        if let Ok(name) = Name::parse(&text) {
            let again = comparison_key(name.key());
            prop_assert_eq!(again.as_str(), name.key());
        }
    }

    #[test]
    fn every_spelling_of_one_name_has_one_key(text in likely_name()) {
        if let Ok(name) = Name::parse(&text) {
            // A joiner between two marks keeps them in their order; without it they may change places. So
            // folding, which makes a letter of the mark U+0345, comes after joiners are left out.
            let plain: String = name.shown().chars().filter(|c| !is_joiner(*c)).collect();
            for spelling in [
                name.shown().nfd().collect::<String>(),
                name.shown().nfkc().collect(),
                name.shown().nfkd().collect(),
                // Case folding is defined on NFD: U+0345 becomes a letter and must be in its place by then.
                plain.nfd().default_case_fold().collect(),
                format!("\u{3000} {} ", name.shown()),
                name.shown().chars().flat_map(|c| [c, '\u{200D}']).collect(),
            ] {
                let key = comparison_key(&spelling);
                prop_assert_eq!(key.as_str(), name.key(), "{:?}", spelling);
            }
        }
    }

    #[test]
    fn ascii_case_never_matters(text in "[ -~]{1,64}") {
        if let Ok(name) = Name::parse(&text) {
            let upper = Name::parse(&text.to_ascii_uppercase()).unwrap();
            prop_assert_eq!(upper.key(), name.key());
        }
    }
}
