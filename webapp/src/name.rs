//! What a name is, and when two names are the same.
//!
//! Pure: text in, [`Name`] or [`NameError`] out. A [`Name`] has two faces:
//!
//! - [`Name::shown`]: the text as its owner typed it, in normal form C, without white space at its ends;
//! - [`Name::key`]: what is compared. Two names are the same if their keys are equal. It is Unicode's
//!   compatibility caseless match (Unicode Standard, section 3.13, definition D146) in normal form KC, with
//!   joiners and variation selectors left out and every run of white space as one space. So `Straße`,
//!   `STRASSE` and `ｓｔｒａｓｓｅ` are one name, and a zero-width joiner does not make a second `Ann`.
//!
//! A name has 1 to [`CHARS_MAX`] Unicode scalar values, counted after normalisation and trimming. Refused are:
//!
//! - control characters, line and paragraph separators;
//! - everything that changes the direction of text: with it a name could rearrange the line it stands in;
//! - invisible characters (zero-width space, word joiner, soft hyphen, fillers, ...), except joiners and
//!   variation selectors, which Persian, Indic scripts and emoji are written with;
//! - private-use code points, noncharacters, and U+FFFD, the trace of text that could not be decoded;
//! - names that show nothing by themselves (only joiners, only combining marks), or that start with a combining
//!   mark, which would sit on whatever stands before it;
//! - `.` and `..`, because no URL can address them: every client resolves them as path steps.
//!
//! Not promised: names that look alike in different scripts (Latin `a`, Cyrillic `а`) stay different names.

use caseless::Caseless;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The most Unicode scalar values a name may have, after normalisation and trimming.
pub const CHARS_MAX: usize = 64;

/// The most bytes a comparison key may have. Four bytes for each of [`CHARS_MAX`] scalars, and a factor of four for
/// compatibility characters that stand for several letters.
pub const KEY_BYTES_MAX: usize = CHARS_MAX * 4 * 4;

/// A valid name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    shown: String,
    key: String,
}

/// Why a text is not a name. The message is meant for the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is left after trimming.
    #[error("a name needs at least one character")]
    Empty,
    /// More than [`CHARS_MAX`] scalars.
    #[error("a name has at most {CHARS_MAX} characters, this one has {chars}")]
    TooLong {
        /// How many scalars it has.
        chars: usize,
    },
    /// Its comparison key would be longer than [`KEY_BYTES_MAX`] bytes.
    #[error("this name is too long once its compatibility characters are written out")]
    ExpandsTooFar,
    /// It contains a character that no name may contain.
    #[error("a name cannot contain {what} (U+{code:04X}, character {position})")]
    Forbidden {
        /// What sort of character it is, with its article.
        what: &'static str,
        /// Its code point.
        code: u32,
        /// Its place in the trimmed text, counted from 1.
        position: usize,
    },
    /// Nothing in it can be seen.
    #[error("a name needs at least one visible character")]
    Invisible,
    /// Its first character is a combining mark.
    #[error("a name cannot start with a combining mark")]
    StartsWithMark,
    /// `.` or `..`.
    #[error("\".\" and \"..\" cannot be names, because no web address can contain them")]
    DotSegment,
}

impl Name {
    /// Reads a name from what somebody typed.
    ///
    /// # Errors
    /// [`NameError`] says which rule of the module's list the text breaks.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        let normalised: String = text.nfc().collect();
        let shown = normalised.trim_matches(is_blank);
        if shown.is_empty() {
            return Err(NameError::Empty);
        }
        for (index, c) in shown.chars().enumerate() {
            if let Some(what) = forbidden(c) {
                return Err(NameError::Forbidden {
                    what,
                    code: c as u32,
                    position: index + 1,
                });
            }
        }
        let chars = shown.chars().count();
        if chars > CHARS_MAX {
            return Err(NameError::TooLong { chars });
        }
        if shown == "." || shown == ".." {
            return Err(NameError::DotSegment);
        }
        if !shown
            .chars()
            .any(|c| !is_blank(c) && !is_joiner(c) && !is_combining_mark(c))
        {
            return Err(NameError::Invisible);
        }
        if shown
            .chars()
            .find(|c| !is_joiner(*c))
            .is_some_and(is_combining_mark)
        {
            return Err(NameError::StartsWithMark);
        }
        let key = comparison_key(shown);
        if key.len() > KEY_BYTES_MAX {
            return Err(NameError::ExpandsTooFar);
        }
        assert!(
            !key.is_empty(),
            "a visible character always leaves something to compare"
        );
        Ok(Name {
            shown: shown.to_owned(),
            key,
        })
    }

    /// The text to show.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The text to compare; at most [`KEY_BYTES_MAX`] bytes.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Folds a text to what is compared; see the module's head.
fn comparison_key(text: &str) -> String {
    let folded: String = text
        .chars()
        .filter(|c| !is_joiner(*c))
        .nfd()
        .default_case_fold()
        .nfkd()
        .default_case_fold()
        .nfkc()
        .collect();
    let mut key = String::with_capacity(folded.len());
    for word in folded.split(is_blank).filter(|word| !word.is_empty()) {
        if !key.is_empty() {
            key.push(' ');
        }
        key.push_str(word);
    }
    key
}

/// White space, and the braille cell without dots, which looks the same.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{2800}'
}

/// Invisible characters that spelling needs: shown, but left out of the comparison.
fn is_joiner(c: char) -> bool {
    matches!(c,
        '\u{034F}'                      // combining grapheme joiner
        | '\u{180B}'..='\u{180D}' | '\u{180F}' // Mongolian variation selectors
        | '\u{200C}' | '\u{200D}'       // zero-width non-joiner and joiner
        | '\u{FE00}'..='\u{FE0F}'       // variation selectors
        | '\u{E0020}'..='\u{E007F}'     // tags: the flags of England, Scotland, Wales
        | '\u{E0100}'..='\u{E01EF}'     // variation selectors supplement
    )
}

/// What is wrong with a character that no name may contain.
fn forbidden(c: char) -> Option<&'static str> {
    match c {
        c if c.is_control() => Some("a control character"),
        '\u{2028}' | '\u{2029}' => Some("a line or paragraph separator"),
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
            Some("a character that changes the direction of text")
        }
        '\u{FFFD}' => Some("the sign for text that could not be read"),
        '\u{00AD}'
        | '\u{115F}'
        | '\u{1160}'
        | '\u{17B4}'
        | '\u{17B5}'
        | '\u{180E}'
        | '\u{200B}'
        | '\u{2060}'..='\u{2065}'
        | '\u{206A}'..='\u{206F}'
        | '\u{3164}'
        | '\u{FEFF}'
        | '\u{FFA0}'
        | '\u{FFF0}'..='\u{FFFC}'
        | '\u{1BCA0}'..='\u{1BCA3}'
        | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E001F}'
        | '\u{E0080}'..='\u{E00FF}'
        | '\u{E01F0}'..='\u{E0FFF}' => Some("an invisible character"),
        '\u{E000}'..='\u{F8FF}' | '\u{F0000}'..='\u{FFFFD}' | '\u{100000}'..='\u{10FFFD}' => {
            Some("a private-use character")
        }
        '\u{FDD0}'..='\u{FDEF}' => Some("a code point that is no character"),
        c if (c as u32) & 0xFFFE == 0xFFFE => Some("a code point that is no character"),
        _ => None,
    }
}

#[cfg(test)]
#[path = "name_tests.rs"]
mod tests;
