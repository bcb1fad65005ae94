//! Parses the service's times: `2026-11-24 16:00:00`, in UTC according to all sources.
//! Other notations and numbers since 1970 are accepted too. The result is none for other
//! texts.

use std::ops::RangeInclusive;

const MINUTES_PER_DAY: i64 = 24 * 60;

/// The days since 1970 of the years 1 to 9999, which a date can show.
pub(super) const DAYS: RangeInclusive<i64> = -719_162..=2_932_896;

/// Returns the day of a time at an offset from UTC in minutes, counted since 1970. A date
/// without a time is the same day at every offset.
pub(super) fn day(text: &str, offset: i64) -> Option<i64> {
    let text = text.trim();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if all_digits(whole) && all_digits(fraction) && !matches!(whole.len(), 8 | 14) {
        let units = match whole.len() {
            9..=11 => 1,
            12..=14 => 1_000,
            15..=17 => 1_000_000,
            18..=19 => 1_000_000_000,
            _ => return None,
        };
        let minutes = whole.parse::<i64>().ok()? / units / 60;
        return Some((minutes + offset).div_euclid(MINUTES_PER_DAY));
    }
    let mut rest = text;
    let date = day_number(
        number(&mut rest, 4)?,
        number(&mut rest, 2)?,
        number(&mut rest, 2)?,
    )?;
    let Some(time) = rest.find(|c: char| c.is_ascii_digit()) else {
        return Some(date);
    };
    if rest[..time].contains(['+', '-']) {
        return Some(date);
    }
    let hour = number(&mut rest, 2).filter(|hour| *hour <= 24)?;
    let minute = match rest.find(|c: char| c.is_ascii_digit()) {
        Some(at) if !rest[..at].contains(['+', '-', '.']) => number(&mut rest, 2).filter(|m| *m < 60)?,
        _ => 0,
    };
    let letters: String = rest.chars().filter(char::is_ascii_alphabetic).collect();
    if !["", "Z", "UTC", "GMT"].contains(&&*letters.to_ascii_uppercase()) {
        return None;
    }
    let zone = rest
        .rfind(['+', '-'])
        .map_or(Some(0), |at| parse_offset(&rest[at..]))?;
    let minutes = date * MINUTES_PER_DAY + hour * 60 + minute - zone + offset;
    Some(minutes.div_euclid(MINUTES_PER_DAY))
}

/// Reads the next number of at most `max_digits` digits, and skips the characters before
/// it.
fn number(rest: &mut &str, max_digits: usize) -> Option<i64> {
    let begin = rest.find(|c: char| c.is_ascii_digit())?;
    let digits = rest[begin..]
        .bytes()
        .take(max_digits)
        .take_while(u8::is_ascii_digit);
    let end = begin + digits.count();
    let number = rest[begin..end].parse().ok();
    *rest = &rest[end..];
    number
}

/// Parses an offset from UTC such as +08:00, in minutes.
pub(super) fn parse_offset(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => return None,
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some(parts) => parts,
        None if digits.len() == 4 && digits.is_ascii() => digits.split_at(2),
        None => (digits, "0"),
    };
    let parse = |text: &str, max: i64| {
        let is_valid = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|n| is_valid && *n <= max)
    };
    Some(sign * (parse(hours, 14)? * 60 + parse(minutes, 59)?))
}

/// Converts a Gregorian date to a day since 1970.
pub(super) fn day_number(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=9999).contains(&year) || !(1..=days).contains(&day) {
        return None;
    }
    // Counting years from March puts the leap day at the end of the year.
    let shifted = year - i64::from(month <= 2);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719_468)
}

/// Converts a day since 1970 to year, month and day.
pub(super) fn date(number: i64) -> (i64, i64, i64) {
    // Not later than the day, and not before the first year that has a number.
    let mut year = (1970 + number.div_euclid(366).min(number.div_euclid(365))).max(1);
    while day_number(year + 1, 1, 1).is_some_and(|next| next <= number) {
        year += 1;
    }
    let starts = |month: &i64| day_number(year, *month, 1).is_some_and(|first| first <= number);
    let month = (1..=12).rev().find(starts).unwrap_or(1);
    let first = day_number(year, month, 1).unwrap_or(number);
    (year, month, number - first + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local_date(text: &str, offset: i64) -> Option<(i64, i64, i64)> {
        day(text, offset).map(date)
    }

    #[test]
    fn time_notations_are_parsed() {
        for text in [
            "2025-12-31 16:00:00",
            "2025-12-31T16:00:00Z",
            "2025-12-31T16:00:00.000+00:00",
            "2026-01-01T00:00:00+08:00",
            "2026-01-01 00:00:00+0800",
            "2025-12-31T11:30:00-0430",
            "20251231160000",
            "20251231T160000Z",
            "2025/12/31 16:00",
            "2025-12-31 16:00:00 UTC",
            "1767196800",
            "1767196800000",
            "1767196800000.0",
            "1767196800000000",
        ] {
            assert_eq!(local_date(text, 0), Some((2025, 12, 31)), "{text}");
            assert_eq!(local_date(text, 8 * 60), Some((2026, 1, 1)), "{text}");
        }
        for text in ["2026-03-01", "20260301", "2026/3/1", " 2026年3月1日 "] {
            for offset in [-720, 0, 480] {
                assert_eq!(local_date(text, offset), Some((2026, 3, 1)), "{text}");
            }
        }
        assert_eq!(local_date("2026-03-01 00:30:00", -60), Some((2026, 2, 28)));
        for text in [
            "",
            "soon",
            "2026-13-01",
            "2026-02-30",
            "2026-02",
            "12",
            "2026-01-01 25:00:00",
            "2026-01-01 04:00 PM",
            "Wed, 26 Nov 2026 16:00:00 GMT",
            "99999999999999999999",
        ] {
            assert_eq!(local_date(text, 0), None, "{text}");
        }
    }

    #[test]
    fn day_numbers_round_trip_through_dates() {
        assert_eq!(day_number(1970, 1, 1), Some(0));
        assert_eq!(day_number(2000, 3, 1), Some(11_017));
        assert_eq!(day_number(1, 1, 1), Some(*DAYS.start()));
        assert_eq!(day_number(9999, 12, 31), Some(*DAYS.end()));
        for number in DAYS.step_by(5) {
            let (year, month, day) = date(number);
            assert_eq!(day_number(year, month, day), Some(number));
        }
    }

    #[test]
    fn only_valid_offsets_are_parsed() {
        for (text, minutes) in [("+08:00", 480), ("-0430", -270), ("+5", 300), ("+00:00", 0)] {
            assert_eq!(parse_offset(text), Some(minutes), "{text}");
        }
        for text in [
            "",
            "8",
            "+",
            "+8:",
            "+24:00",
            "+08:60",
            "+a",
            "+08:00:00",
            "+-8",
            "+é1",
        ] {
            assert_eq!(parse_offset(text), None, "{text}");
        }
    }
}
