//! Times of msgpack.
//!
//! In come the 4, 8 or 12 bytes of a timestamp extension, out comes the text that JavaScript writes for
//! such a date, or nothing where it would be no date.

/// The last millisecond that a JavaScript date can hold.
const LAST: i64 = 8_640_000_000_000_000;

/// The time as ISO 8601 with milliseconds.
pub(crate) fn read(bytes: &[u8]) -> Option<String> {
    let (seconds, nanoseconds) = match bytes.len() {
        4 => (i64::from(u32::from_be_bytes(bytes.try_into().ok()?)), 0),
        8 => {
            let packed = u64::from_be_bytes(bytes.try_into().ok()?);
            (i64::try_from(packed & 0x3_ffff_ffff).ok()?, u32::try_from(packed >> 34).ok()?)
        }
        12 => {
            let (head, tail) = bytes.split_at(4);
            let nanoseconds = u32::from_be_bytes(head.try_into().ok()?);
            (i64::from_be_bytes(tail.try_into().ok()?), nanoseconds)
        }
        _ => return None,
    };
    let milliseconds =
        seconds.checked_mul(1000)?.checked_add(i64::from(nanoseconds / 1_000_000))?;
    (-LAST..=LAST).contains(&milliseconds).then(|| iso(milliseconds))
}

/// The time of so many milliseconds since 1970.
pub(crate) fn of_milliseconds(milliseconds: u64) -> String {
    iso(i64::try_from(milliseconds).unwrap_or(LAST).min(LAST))
}

fn iso(milliseconds: i64) -> String {
    let (day, rest) = (milliseconds.div_euclid(86_400_000), milliseconds.rem_euclid(86_400_000));
    let (year, month, day) = civil(day);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, millisecond) = (rest / 1000 % 60, rest % 1000);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{year:+07}"),
    };
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// The date of a day counted from 1970-01-01. Years begin in March here, so that the day that some
/// years have more is the last one.
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_javascript() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_167_140_055, "2026-11-20T09:32:20.055Z"),
            (LAST, "+275760-09-13T00:00:00.000Z"),
            (-LAST, "-271821-04-20T00:00:00.000Z"),
            (-62_198_755_200_000, "-000001-01-01T00:00:00.000Z"),
        ];
        for (milliseconds, want) in cases {
            assert_eq!(iso(milliseconds), want);
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        assert_eq!(read(&[0; 5]), None);
        assert_eq!(read(&[0xff; 12]).as_deref(), Some("1970-01-01T00:00:03.294Z"));
        let mut far = [0; 12];
        far[4] = 0x7f;
        assert_eq!(read(&far), None);
    }
}
