//! The committed header is the one that `build.rs` makes, and says enough.

const COMMITTED: &str = include_str!("../include/dbss.h");

#[test]
fn the_committed_header_is_up_to_date() {
    let generated = std::fs::read_to_string(env!("DBSS_GENERATED_HEADER")).expect("build.rs wrote it");
    let line = COMMITTED
        .lines()
        .zip(generated.lines())
        .position(|(a, b)| a != b)
        .map_or("its end".to_owned(), |i| format!("line {}", i + 1));
    assert!(
        COMMITTED == generated,
        "include/dbss.h is stale from {line}: run make header"
    );
}

#[test]
fn everything_in_the_header_is_documented() {
    let lines: Vec<&str> = COMMITTED.lines().collect();
    let start = lines
        .iter()
        .position(|l| l.starts_with(" * 1."))
        .expect("the first section");
    let mut seen = 0;
    for (i, line) in lines.iter().enumerate().skip(start) {
        let is_item = line.starts_with("#define DBSS_")
            || line.starts_with("typedef ")
            || (line.contains(" dbss_") || line.contains("*dbss_"))
                && line.contains('(')
                && !line.starts_with(' ');
        if is_item {
            assert_eq!(lines[i - 1], " */", "undocumented: {line}");
            seen += 1;
        }
    }
    assert!(seen > 80, "the search for items found only {seen}");
}

#[test]
fn every_function_says_what_null_does_and_who_owns_what() {
    let comments: Vec<(&str, &str)> = COMMITTED
        .split("/**\n")
        .skip(1)
        .filter_map(|part| part.split_once(" */\n"))
        .filter(|(_, item)| item.starts_with("dbss_status dbss_") && item.contains('('))
        .collect();
    assert!(comments.len() > 6);
    for (comment, item) in comments {
        let name = item.split('(').next().unwrap_or_default();
        if name.contains("dbss_status_group") {
            continue;
        }
        if !name.contains("dbss_error_status") {
            for word in ["Errors:", "DBSS_ERR_NULL_ARGUMENT", "thread"] {
                let said = comment.contains(word) || word != "Errors:" && comment.contains("as for");
                assert!(said, "{name} does not say: {word}");
            }
        }
    }
}
