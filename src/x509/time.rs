//! Times as certificates write them (RFC 5280 4.1.2.5).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::der::{Element, GENERALIZED_TIME, Malformed, Reader, UTC_TIME, Writer};

const DAY: i64 = 86_400;

/// Reads a UTCTime for the years 1950 to 2049 or a GeneralizedTime for all later ones, in
/// Greenwich time, with seconds.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<SystemTime, Malformed> {
    let Element { tag, content, .. } = reader.element()?;
    let digits = content.strip_suffix(b"Z").ok_or(Malformed)?;
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = pair(digits)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (century, rest) = pair(digits)?;
            let (year, rest) = pair(rest)?;
            (century * 100 + year, rest)
        }
        _ => return Err(Malformed),
    };
    if tag == GENERALIZED_TIME && year < 2050 {
        return Err(Malformed);
    }
    let (month, rest) = pair(rest)?;
    let (day, rest) = pair(rest)?;
    let (hour, rest) = pair(rest)?;
    let (minute, rest) = pair(rest)?;
    let (second, _) = pair(rest)?;
    if day < 1 || day > days_of_month(year, month)? || hour > 23 || minute > 59 || second > 59 {
        return Err(Malformed);
    }
    let seconds = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.ok_or(Malformed)
}

/// Writes a time to the second, rounded down.
pub(super) fn write(writer: &mut Writer, time: SystemTime) {
    let seconds = crate::clock::unix_seconds(time).min(253_402_300_799); // the end of 9999
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY));
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    if year < 2050 {
        writer.value(UTC_TIME, format!("{:02}{rest}", year % 100).as_bytes());
    } else {
        writer.value(GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes());
    }
}

fn pair(digits: &[u8]) -> Result<(i64, &[u8]), Malformed> {
    match digits {
        [tens @ b'0'..=b'9', units @ b'0'..=b'9', rest @ ..] => {
            Ok((i64::from(tens - b'0') * 10 + i64::from(units - b'0'), rest))
        }
        _ => Err(Malformed),
    }
}

fn days_of_month(year: i64, month: i64) -> Result<i64, Malformed> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Ok(31),
        4 | 6 | 9 | 11 => Ok(30),
        2 if leap => Ok(29),
        2 => Ok(28),
        _ => Err(Malformed),
    }
}

/// Days since 1970. A year starts in March here, so that the leap day is its last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::from_unix_seconds;

    #[track_caller]
    fn check(tag: u8, text: &str, expected: Result<i64, Malformed>) {
        let mut writer = Writer::default();
        writer.value(tag, text.as_bytes());
        let der = writer.finish();
        assert_eq!(read(&mut Reader::new(&der)), expected.map(from_unix_seconds), "{text}");
        if let Ok(seconds) = expected {
            let mut writer = Writer::default();
            write(&mut writer, from_unix_seconds(seconds));
            assert_eq!(writer.finish(), der, "{text} written back");
        }
    }

    #[test]
    fn a_time_has_one_encoding() {
        check(UTC_TIME, "700101000000Z", Ok(0));
        check(UTC_TIME, "240229235959Z", Ok(1_709_251_199));
        check(UTC_TIME, "491231235959Z", Ok(2_524_607_999));
        check(GENERALIZED_TIME, "20500101000000Z", Ok(2_524_608_000));
        check(GENERALIZED_TIME, "99991231235959Z", Ok(253_402_300_799));
        check(GENERALIZED_TIME, "20491231235959Z", Err(Malformed)); // RFC 5280 4.1.2.5
        check(UTC_TIME, "230229000000Z", Err(Malformed)); // no leap year
        check(UTC_TIME, "231301000000Z", Err(Malformed));
        check(UTC_TIME, "230100000000Z", Err(Malformed));
        check(UTC_TIME, "230101240000Z", Err(Malformed));
        check(UTC_TIME, "230101000060Z", Err(Malformed));
        check(UTC_TIME, "2301010000Z", Err(Malformed)); // no seconds
        check(UTC_TIME, "230101000000+0100", Err(Malformed));
        check(UTC_TIME, "2301010000 0Z", Err(Malformed));
        check(GENERALIZED_TIME, "20500101000000.5Z", Err(Malformed));
    }
}
