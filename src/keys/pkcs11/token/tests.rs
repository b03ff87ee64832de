//! What a failure to log in leaves behind.

use super::*;

#[test]
fn only_a_pin_that_was_tried_and_refused_is_the_end() {
    let now = Instant::now();
    assert_eq!(State::after(&Pkcs11Error::Pin, now), State::Refused);
    for (error, why) in [
        (Pkcs11Error::Locked, Absence::Locked),
        (Pkcs11Error::LastTry, Absence::LastTry),
        (Pkcs11Error::Busy, Absence::Missing),
    ] {
        assert_eq!(State::after(&error, now), State::Away(now, why));
    }
    let told = [Absence::Locked, Absence::LastTry, Absence::Missing].map(Pkcs11Error::from);
    let expected = [Pkcs11Error::Locked, Pkcs11Error::LastTry, Pkcs11Error::Away];
    assert_eq!(told.map(|error| error.to_string()), expected.map(|error| error.to_string()));
}
