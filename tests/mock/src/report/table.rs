//! The audit rows that reports of every format show.

use super::{Locale, Origin};

const USERS: [&str; 5] = ["app_reader", "root", "backup", "etl_loader", "j.doe"];
const DATABASES: [&str; 4] = ["orders", "billing", "customers", "inventory"];
const STATEMENTS: [&str; 6] = ["SELECT", "UPDATE", "DELETE", "INSERT", "DROP TABLE", "GRANT"];
const RISKS: [[&str; 4]; 2] = [["low", "medium", "high", "none"], ["低", "中", "高", "无"]];

/// The title of a report.
pub(super) fn title(locale: Locale) -> &'static str {
    match locale {
        Locale::EnUs => "Database audit report",
        Locale::ZhCn => "数据库审计报告",
    }
}

/// The heads of the columns of [`rows`].
pub(super) fn heads(locale: Locale) -> [&'static str; 5] {
    match locale {
        Locale::EnUs => ["Time", "User", "Database", "Statement", "Risk"],
        Locale::ZhCn => ["时间", "用户", "数据库", "语句", "风险"],
    }
}

/// As many rows as asked for, the same for the same origin, and as long in every version.
pub(super) fn rows(origin: Origin, locale: Locale, count: u64) -> impl Iterator<Item = [String; 5]> {
    (0..count).map(move |row| {
        let pick = |shift: u32, len: usize| {
            let turned = origin.seed.rotate_left(shift).wrapping_add(row * 7);
            (turned % len as u64) as usize
        };
        // The time has the same width whatever it is, so it is what a new version changes.
        let second = (60 * pick(3, 60) as u64 + pick(9, 60) as u64 + origin.version) % 3600;
        [
            format!("2025-09-09 {:02}:{:02}:{:02}", row % 24, second / 60, second % 60),
            USERS[pick(13, USERS.len())].to_owned(),
            DATABASES[pick(21, DATABASES.len())].to_owned(),
            STATEMENTS[pick(34, STATEMENTS.len())].to_owned(),
            RISKS[locale as usize][pick(47, 4)].to_owned(),
        ]
    })
}
