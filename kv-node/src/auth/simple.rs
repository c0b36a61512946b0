//! Tokens of this cluster: who, since which auth revision, until when, and a MAC over all of it.
//!
//! They are not kept anywhere: the secret is part of the replicated state, so that each node can read the
//! tokens of the others, and they outlive a restart. Layout before base64: MAC (32 bytes, keyed BLAKE3), expiry
//! in seconds since 1970 (8, big endian), auth revision (8, big endian), the user's name.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use kv_core::Secret;

use super::Bearer;

/// What the MAC is over besides the token, so that the secret can serve for more than tokens.
const PURPOSE: &[u8] = b"quorate token 1";
const MAC_BYTES: usize = 32;
const NUMBERS_BYTES: usize = 16;

pub(super) fn issue(bearer: &Bearer, secret: &Secret, until: Duration) -> String {
    let mut body = Vec::with_capacity(NUMBERS_BYTES + bearer.name.len());
    body.extend(until.as_secs().to_be_bytes());
    body.extend(bearer.revision.to_be_bytes());
    body.extend(bearer.name.as_bytes());
    BASE64.encode([&mac(secret, &body).as_bytes()[..], &body].concat())
}

pub(super) fn verify(token: &[u8], secret: &Secret, now: Duration) -> Option<Bearer> {
    let token = BASE64.decode(token).ok()?;
    let (shown, body) = token.split_first_chunk::<MAC_BYTES>()?;
    // Compares in constant time.
    if mac(secret, body) != *shown {
        return None;
    }
    let (until, rest) = body.split_first_chunk::<8>()?;
    let (revision, name) = rest.split_first_chunk::<8>()?;
    if u64::from_be_bytes(*until) <= now.as_secs() {
        return None;
    }
    Some(Bearer {
        name: String::from_utf8(name.to_vec()).ok()?,
        revision: u64::from_be_bytes(*revision),
    })
}

fn mac(secret: &Secret, body: &[u8]) -> blake3::Hash {
    blake3::Hasher::new_keyed(&secret.0)
        .update(PURPOSE)
        .update(body)
        .finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: Secret = Secret([7; 32]);

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    proptest! {
        #[test]
        fn only_its_own_tokens_until_they_are_over(
            name in "\\PC{0,20}",
            revision: u64,
            flip in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let bearer = Bearer { name, revision };
            let token = issue(&bearer, &SECRET, at(100));
            prop_assert_eq!(verify(token.as_bytes(), &SECRET, at(99)), Some(bearer.clone()));
            prop_assert_eq!(verify(token.as_bytes(), &SECRET, at(100)), None);
            prop_assert_eq!(verify(token.as_bytes(), &Secret([8; 32]), at(99)), None);
            let mut other = BASE64.decode(&token).unwrap();
            let place = flip.index(other.len());
            other[place] ^= 1 << bit;
            prop_assert_eq!(verify(BASE64.encode(other).as_bytes(), &SECRET, at(99)), None);
        }

        #[test]
        fn garbage_is_no_token(garbage: Vec<u8>) {
            prop_assert_eq!(verify(&garbage, &SECRET, at(0)), None);
        }
    }
}
