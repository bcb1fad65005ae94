//! Lists, and reports that the service makes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dbss::{Item, Items, Operation, Report, ReportSpec, ScheduleChanges, Status};
use serde_json::json;

use super::{Fixture, status};

const RANGE: [&str; 2] = ["2026-11-24 00:00:00", "2026-11-25 00:00:00"];

fn all(items: Items) -> Vec<Item> {
    items.collect::<Result<_, _>>().expect("a list")
}

#[test]
fn iterator_reads_all_pages() {
    let fixture = Fixture::new();
    let instance = fixture.instance("many");
    let added = fixture.reports(&instance, 25);
    let mut reports = fixture.client.reports(&instance).page_size(10);
    assert_eq!(reports.total(), None);
    let mut seen = HashSet::new();
    while let Some(report) = reports.next() {
        let report = report.expect("a report");
        assert_eq!(report.get("id"), Some(report.id()));
        assert_eq!(report.get("no_such_field"), None);
        assert!(report.json().starts_with('{') && report.json().contains(report.id()));
        assert!(seen.insert(report.id().to_owned()));
        assert_eq!(reports.total(), Some(25));
    }
    assert!(reports.next().is_none());
    assert_eq!(seen, added.into_iter().collect());
    assert_eq!(fixture.service.requests(Some("@reports.list")).len(), 3);
}

#[test]
fn lists_return_instances_reports_and_templates() {
    let fixture = Fixture::new();
    let instances = all(fixture.client.instances());
    assert_eq!(instances[0].id(), fixture.service.value("instance_id"));
    let reports = all(fixture.client.reports(instances[0].id()));
    let name = reports[0].get("name").expect("a name");
    let found = all(fixture.client.reports(instances[0].id()).name(name));
    assert!(found.iter().any(|report| report.id() == reports[0].id()));
    assert!(
        found
            .iter()
            .all(|report| report.get("name").is_some_and(|n| n.contains(name)))
    );
    assert!(all(fixture.client.reports(instances[0].id()).name("no such name")).is_empty());
    assert!(!all(fixture.client.templates(instances[0].id())).is_empty());
}

#[test]
fn databases_are_listed_by_status() {
    let fixture = Fixture::new();
    let instance = fixture.service.value("instance_id");
    let mut databases = fixture.client.databases(instance).page_size(1);
    let first = databases.next().expect("a database").expect("a list");
    assert_eq!(first.get("rds_audit_switch_mismatch"), Some("false"));
    assert_eq!(databases.total(), Some(3));
    assert_eq!(all(databases).len(), 2);
    let off = all(fixture.client.databases(instance).status("off").page_size(10_000));
    assert_eq!(off.len(), 1);
    assert_eq!(off[0].get("status"), Some("OFF"));
}

#[test]
fn schedule_update_keeps_what_is_not_set() {
    let fixture = Fixture::new();
    let instance = fixture.service.value("instance_id");
    let template = all(fixture.client.templates(instance)).remove(0);
    let show = || {
        fixture
            .client
            .schedule(instance, template.id())
            .expect("a schedule")
    };
    assert_eq!(show().get("status"), Some("ON"));
    let mut changes = ScheduleChanges::default();
    let update = |changes: &ScheduleChanges| fixture.client.update_schedule(instance, template.id(), changes);
    assert_eq!(status(update(&changes)), Status::NotConfigured);
    assert_eq!(status(changes.set("status", "maybe")), Status::InvalidValue);
    assert_eq!(status(changes.set("id", template.id())), Status::UnknownKey);
    changes.set("status", "OFF").expect("a status");
    update(&changes).expect("changed");
    let schedule = show();
    for (name, value) in [
        ("id", template.id()),
        ("status", "OFF"),
        ("frequency", "AUDIT_REPORT_WEEK"),
        ("smn_effective", "true"),
        ("retention", r#"{"days":30,"of":["zip","pdf"]}"#),
    ] {
        assert_eq!(schedule.get(name), Some(value), "{name}");
    }
    assert!(schedule.json().starts_with('{') && schedule.json().contains(template.id()));
    fixture.fault("@schedule.set", json!({"json": {"status": "fail"}}));
    assert_eq!(status(update(&changes)), Status::Rejected);
}

#[test]
fn iterator_ends_after_failure() {
    let fixture = Fixture::new();
    let operation = Operation::new();
    let client = fixture.client.with_operation(&operation);
    for mut wrong in [
        client.reports("short"),
        client.templates("short"),
        client.reports(fixture.service.value("instance_id")).name(""),
        client.instances().page_size(1001),
        client.databases("short"),
        client
            .databases(fixture.service.value("instance_id"))
            .status("ACTIVE"),
        client
            .databases(fixture.service.value("instance_id"))
            .page_size(10_001),
        client.with_project("short").instances(),
    ] {
        let error = wrong.next().expect("a word").expect_err("wrong");
        assert_eq!(error.attempts(), 0);
        assert_eq!(operation.error().map(|e| e.status()), Some(error.status()));
        assert!(wrong.next().is_none());
    }
    assert_eq!(fixture.service.connections(), 0);

    let instance = fixture.instance("many");
    fixture.reports(&instance, 25);
    fixture.fault("@reports.list", json!({"skip": 1, "status": 403}));
    let outcomes: Vec<Status> = client.reports(&instance).page_size(10).map(status).collect();
    assert_eq!(outcomes.len(), 11);
    assert_eq!(outcomes[9..], [Status::Ok, Status::Forbidden]);
}

fn spec(fixture: &Fixture) -> ReportSpec {
    let template = fixture
        .client
        .templates(fixture.service.value("instance_id"))
        .next()
        .expect("a template")
        .expect("a list");
    ReportSpec::new(template.id(), RANGE[0], RANGE[1]).expect("a spec")
}

fn fast(builder: dbss::ClientBuilder, service: &dbss_mock::MockService) -> dbss::ClientBuilder {
    builder
        .token(service.value("token"))
        .option("poll_interval_ms", "1")
}

#[test]
fn created_report_is_found_and_downloaded() {
    let fixture = Fixture::with(fast);
    fixture.control("POST", "/generation", json!({"percent_per_list": 25}));
    let operation = Operation::new();
    let percent = Arc::new(AtomicU32::new(0));
    let told = Arc::clone(&percent);
    operation
        .set_progress(move |operation| {
            told.fetch_max(operation.percent().unwrap_or_default(), Ordering::Relaxed);
            true
        })
        .expect("an idle operation");
    let instance = fixture.service.value("instance_id");
    let id = fixture
        .client
        .with_operation(&operation)
        .generate(instance, &spec(&fixture))
        .expect("a report");
    assert_eq!(fixture.control("GET", "/made", json!(null))["ids"], json!([id]));
    assert_eq!(percent.load(Ordering::Relaxed), 100);
    let report = Report::new(instance, &id);
    fixture.client.wait(&report).expect("ready");
    let bytes = fixture.client.download(&report).expect("a report");
    assert!(bytes.starts_with(b"%PDF-"));
    fixture.client.delete(&report).expect("deleted");
    assert_eq!(status(fixture.client.wait(&report)), Status::NotFound);
    assert_eq!(status(fixture.client.delete(&report)), Status::NotFound);
}

#[test]
fn spec_is_sent_unchanged() {
    let fixture = Fixture::new();
    let spec = spec(&fixture)
        .start_date("2026-11-24")
        .and_then(|spec| spec.end_date("2026-11-25"))
        .and_then(|spec| spec.db_ids("1,2"))
        .expect("a spec");
    fixture
        .client
        .create(fixture.service.value("instance_id"), &spec)
        .expect("created");
    let requests = fixture.service.requests(Some("@reports.create"));
    let body: serde_json::Value =
        serde_json::from_str(requests[0].body.as_deref().expect("a body")).expect("JSON");
    for (key, value) in [
        ("start_time", RANGE[0]),
        ("end_time", RANGE[1]),
        ("start_date", "2026-11-24"),
        ("end_date", "2026-11-25"),
        ("db_ids", "1,2"),
    ] {
        assert_eq!(body[key], value);
    }
    let error = ReportSpec::new("no/id", RANGE[0], RANGE[1])
        .and_then(|spec| fixture.client.create(fixture.service.value("instance_id"), &spec));
    assert_eq!(error.expect_err("no id").parameter(), Some("template_id"));
}

#[test]
fn ambiguous_report_error_has_candidate_ids() {
    let fixture = Fixture::with(fast);
    let generation = json!({"foreign": [{}], "format": "zip"});
    fixture.control("POST", "/generation", generation);
    let instance = fixture.instance("empty");
    let error = fixture
        .client
        .generate(&instance, &spec(&fixture))
        .expect_err("two new reports");
    assert_eq!(error.status(), Status::Ambiguous);
    let listed: HashSet<String> = all(fixture.client.reports(&instance))
        .iter()
        .map(|report| report.id().to_owned())
        .collect();
    assert_eq!(listed.len(), 2);
    assert_eq!(error.candidates().iter().cloned().collect::<HashSet<_>>(), listed);
}
