//! Instances, templates and reports: listed, made, deleted.

use dbss_mock::{
    Fault, Format, Generation, InstanceList, InstancesVersion, Locale, MockService, Shapes, UnknownTemplate,
};
use serde_json::{Value, json};

use crate::common::{self, Call, Reply, header};

struct Case {
    mock: MockService,
    instance: String,
}

impl Case {
    /// With an instance that has no reports yet.
    fn new() -> Self {
        let mock = MockService::start().unwrap();
        let instance = mock.add_instance("empty");
        Case { mock, instance }
    }

    fn send(&self, call: Call) -> Reply {
        call.header("X-Auth-Token", self.mock.token())
            .send(self.mock.http_url())
    }

    fn target(&self, rest: &str) -> String {
        let (project, instance) = (self.mock.project_id(), &self.instance);
        format!("/v1/{project}/audit/{instance}/reports/{rest}")
    }

    fn templates_target(&self) -> String {
        self.target("templates").replacen("v1", "v2", 1)
    }

    fn databases_target(&self) -> String {
        self.templates_target().replace("reports/templates", "databases")
    }

    /// The path of a template's schedule.
    fn schedule_target(&self) -> String {
        let id = &self.order()["template_id"];
        let path = format!("tasks/{}", id.as_str().unwrap());
        self.templates_target().replace("templates", &path)
    }

    fn schedule(&self) -> Value {
        let reply = self.send(Call::new("GET", &self.schedule_target()));
        assert_eq!(reply.status, 200);
        reply.json()["scheduler"].clone()
    }

    fn list(&self, body: &Value) -> Reply {
        self.send(Call::new("POST", &self.target("list")).json(body))
    }

    /// A page of reports, without what wraps them, and the total.
    fn page(&self, body: &Value) -> (Vec<Value>, u64) {
        let reply = self.list(body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        let json = reply.json();
        let reports = json["reports"].as_array().unwrap();
        let unwrapped = reports.iter().map(|item| item["report"].clone()).collect();
        (unwrapped, json["total"].as_u64().unwrap())
    }

    fn all(&self) -> Vec<Value> {
        self.page(&json!({"page": 1, "size": 1000})).0
    }

    fn ids(&self) -> Vec<String> {
        self.all().iter().map(|report| text(&report["id"])).collect()
    }

    fn order(&self) -> Value {
        let template = self.mock.to_json()["templates"][2]["id"].clone();
        json!({
            "template_id": template, "start_time": "2026-01-01 00:00:00", "end_time": "2026-01-02 00:00:00",
            "db_ids": "7,8",
        })
    }

    fn create(&self, body: &Value) -> Reply {
        self.send(Call::new("POST", &self.target("create")).json(body))
    }

    fn delete(&self, id: &str) -> Reply {
        self.send(Call::new("DELETE", &self.target(id)))
    }

    fn download(&self, id: &str) -> Reply {
        self.send(Call::new("GET", &self.target(&format!("{id}/download"))))
    }

    fn instances(&self, query: &str) -> Reply {
        let project = self.mock.project_id();
        self.send(Call::new("GET", &format!("/v1/{project}/audit/instances{query}")))
    }

    fn control(&self, method: &str, target: &str, body: Value) -> Value {
        self.mock.control(method, target, &body).unwrap()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn code(reply: &Reply) -> (u16, String) {
    (reply.status, text(&reply.json()["error_code"]))
}

#[test]
fn instances_are_paged() {
    let case = Case::new();
    let ids = case.control(
        "POST",
        "/instances",
        json!({"count": 150, "name": "n", "status": "FROZEN"}),
    );
    let ids: Vec<String> = ids["ids"].as_array().unwrap().iter().map(text).collect();
    let own = [case.mock.instance_id().to_owned(), case.instance.clone()];
    let all = [&own[..], &ids].concat();
    let page = |query: &str| {
        let json = case.instances(query).json();
        assert_eq!(json["total"], 152);
        let servers = json["servers"].as_array().unwrap().clone();
        servers
            .iter()
            .map(|server| text(&server["id"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(page(""), all[..100]);
    assert_eq!(page("?offset=100"), all[100..]);
    assert_eq!(page("?limit=1&offset=2"), all[2..3]);
    assert_eq!(page("?offset=0&limit=1000"), all);
    assert_eq!(page("?offset=152"), [""; 0]);
    assert_eq!(page("?offset=18446744073709551615"), [""; 0]);
    for query in [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1&limit=1",
        "offset=-1",
        "offset=1.5",
    ] {
        let reply = case.instances(&format!("?{query}"));
        assert_eq!(code(&reply), (400, "DBSS.10000001".to_owned()), "{query}");
    }

    let json = case.instances("?limit=3").json();
    let (first, third) = (&json["servers"][0], &json["servers"][2]);
    assert_eq!(
        (&first["name"], &first["status"]),
        (&json!("audit"), &json!("ACTIVE"))
    );
    assert_eq!(
        (&third["name"], &third["status"]),
        (&json!("n 1"), &json!("FROZEN"))
    );
    assert_eq!(first["region"], case.mock.region());
    for field in [
        "version",
        "created",
        "expired",
        "remain_days",
        "connect_ip",
        "charge_model",
        "zone",
    ] {
        assert!(first[field].is_string(), "{field}");
    }
    assert_eq!((&first["cpu"], &first["new_version"]), (&json!(4), &Value::Null));
    assert!(first["audit_mode"]["hosts"][0].is_null());

    let odd =
        json!({"id": "i".repeat(32), "extra": {"status": "NEW", "cpu": null, "more": [1]}, "omit": ["name"]});
    case.control("POST", "/instances", odd);
    let json = case.instances("?offset=152").json();
    let odd = json["servers"][0].as_object().unwrap();
    assert_eq!(
        (&odd["status"], &odd["cpu"], &odd["more"]),
        (&json!("NEW"), &Value::Null, &json!([1]))
    );
    assert!(!odd.contains_key("name"));
    assert_eq!(
        case.control("DELETE", "/instances", json!({"ids": all})),
        json!({"removed": 152})
    );
    assert_eq!(
        case.control("DELETE", "/instances", json!({"id": "i".repeat(32)})),
        json!({"removed": 1})
    );
    assert_eq!(case.instances("").json(), json!({"servers": [], "total": 0}));
}

#[test]
fn instances_have_a_shape_in_each_version() {
    let case = Case::new();
    let project = case.mock.project_id();
    let get = |version: &str| {
        let target = match version {
            "v1_dbss" => format!("/v1/{project}/dbss/audit/instances"),
            version => format!("/{version}/{project}/audit/instances"),
        };
        case.send(Call::new("GET", &target))
    };
    let servers = get("v1").json();
    assert_eq!(get("v1_dbss").json(), servers);
    assert!(servers["servers"][0].get("supported_feature").is_none());
    let current = get("v2").json();
    assert_eq!((&current["total"], &servers["total"]), (&json!(2), &json!(2)));
    let instance = current["instances"][0].as_object().unwrap();
    assert_eq!(instance["id"], case.mock.instance_id());
    assert_eq!(instance["supported_feature"], json!(["report"]));
    assert!(instance.contains_key("connect_ipv6"));

    case.mock.set_shapes(Shapes {
        instances: InstanceList::Instances,
        ..Shapes::default()
    });
    let json = case.instances("?limit=1").json();
    assert_eq!(json["total"], 2);
    let instance = json["instances"][0].as_object().unwrap();
    assert_eq!(instance["instance_id"], case.mock.instance_id());
    assert!(!instance.contains_key("id") && !instance.contains_key("connect_ipv6"));
    assert!(instance.contains_key("connectIpv6") && instance.contains_key("timezone"));
    assert_eq!(get("v1_dbss").json(), servers);
    assert_eq!(get("v2").json(), current);

    for (version, name) in InstancesVersion::ALL.into_iter().zip(["v2", "v1", "v1_dbss"]) {
        case.mock.set_shapes(Shapes {
            versions: vec![version],
            ..Shapes::default()
        });
        for other in ["v2", "v1", "v1_dbss"] {
            let reply = get(other);
            match other == name {
                true => assert_eq!(reply.status, 200),
                false => assert_eq!(code(&reply), (404, "APIG.0101".to_owned())),
            }
        }
    }
}

#[test]
fn pages_differ_from_documents_on_command() {
    let case = Case::new();
    case.mock.add_reports(&case.instance, 25).unwrap();
    let all = case.ids();
    let read = |page: usize| {
        let json = case.list(&json!({"page": page, "size": 10})).json();
        let reports = json["reports"].as_array().unwrap();
        let ids: Vec<String> = reports.iter().map(|item| text(&item["report"]["id"])).collect();
        (ids, json.get("total").cloned())
    };
    let page = |paging: Value, page: usize| {
        case.control("POST", "/paging", paging);
        read(page)
    };
    let total = Some(json!(25));
    assert_eq!(page(json!({}), 3), (all[20..].to_vec(), total.clone()));
    assert_eq!(page(json!({"cap": 4}), 2), (all[4..8].to_vec(), total.clone()));
    assert_eq!(
        page(json!({"first_page_only": true}), 3),
        (all[..10].to_vec(), total.clone())
    );
    assert_eq!(
        page(json!({"last_page_again": true}), 7),
        (all[20..].to_vec(), total.clone())
    );
    assert_eq!(page(json!({"empty_page": 2}), 2), (Vec::new(), total.clone()));
    assert_eq!(page(json!({"empty_page": 2}), 1), (all[..10].to_vec(), total));
    for (given, sent) in [
        (json!(7), Some(json!(7))),
        (json!("page"), Some(json!(10))),
        (json!("missing"), None),
    ] {
        assert_eq!(page(json!({"total": given}), 1), (all[..10].to_vec(), sent));
    }
    // Another order each time.
    let (one, other) = (page(json!({"shuffle": true}), 1), read(1));
    assert_ne!(one.0, other.0);
}

#[test]
fn undocumented_parts_of_downloads_are_left_out_on_command() {
    let case = Case::new();
    let added = case.control(
        "POST",
        "/reports",
        json!({"instance": case.instance, "format": "pdf"}),
    );
    let id = text(&added["id"]);
    let headers = ["ETag", "Accept-Ranges", "Content-Type", "Content-Disposition"];
    let present = || headers.map(|name| header(&case.download(&id).head, name).is_some());
    assert_eq!(present(), [true; 4]);
    let none = json!({
        "ranges": false, "etag": "none", "content_type": false, "content_disposition": false,
    });
    case.control("POST", "/undocumented", none);
    assert_eq!(present(), [false; 4]);
    let unfinished = json!({"instance": case.instance, "format": "pdf", "percentum": 50});
    let id = text(&case.control("POST", "/reports", unfinished)["id"]);
    for (answer, status) in [("bad_request", 400), ("not_found", 404), ("empty", 200)] {
        case.control("POST", "/undocumented", json!({"unfinished": answer}));
        assert_eq!(case.download(&id).status, status);
    }
}

#[test]
fn reports_are_paged_newest_first() {
    let case = Case::new();
    assert_eq!(
        case.list(&json!({"page": 1, "size": 10})).json(),
        json!({"reports": [], "total": 0})
    );
    let mut ids = case.mock.add_reports(&case.instance, 25).unwrap();
    ids.reverse();
    let page = |page: u64, size: u64| {
        let (reports, total) = case.page(&json!({"page": page, "size": size}));
        assert_eq!(total, 25);
        reports
            .iter()
            .map(|report| text(&report["id"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(page(1, 10), ids[..10]);
    assert_eq!(page(3, 10), ids[20..]);
    assert_eq!(page(4, 10), [""; 0]);
    assert_eq!(page(25, 1), ids[24..]);
    assert_eq!(page(u64::MAX, 1000), [""; 0]);
    assert_eq!(page(1, 1000), ids);
    // Those of another instance are not among them.
    let reply = Case {
        instance: case.mock.instance_id().to_owned(),
        ..case
    };
    assert_eq!(reply.ids(), [reply.mock.zip().id, reply.mock.pdf().id]);
}

#[test]
fn report_fields_are_configurable() {
    let case = Case::new();
    let reply = case.control(
        "POST",
        "/reports",
        json!({
            "instance": case.instance, "format": "zip", "name": "Täglich",
            "type": "AUDIT_REPORT_WEEK", "template_type": "PCI", "start_time": "s", "end_time": null,
            "finish_time": "f", "percentum": 73, "db_ids": "1", "db_names": null,
            "extra": {"more": {"x": 1}}, "omit": ["url"],
        }),
    );
    let id = text(&reply["id"]);
    let item = case.list(&json!({"page": 1, "size": 1})).json()["reports"][0].clone();
    assert_eq!(item["selected"], false);
    let mut expected = json!({
        "id": id, "name": "Täglich", "format": "zip", "percentum": 73, "type": "AUDIT_REPORT_WEEK",
        "template_type": "PCI", "start_time": "s", "end_time": null, "finish_time": "f", "db_ids": "1",
        "db_names": null, "more": {"x": 1},
    });
    expected["retention"] = item["report"]["retention"].clone();
    assert_eq!(item["report"], expected);
    assert_eq!(code(&case.download(&id)), (400, "DBSS.10000001".to_owned()));

    case.control(
        "POST",
        "/reports",
        json!({"instance": case.instance, "format": "pdf"}),
    );
    let report = &case.all()[0];
    for field in [
        "name",
        "type",
        "template_type",
        "start_time",
        "end_time",
        "finish_time",
        "db_ids",
    ] {
        assert!(report[field].is_string(), "{field}");
    }
    assert_eq!(
        (&report["percentum"], &report["url"]),
        (&json!(100), &Value::Null)
    );
    assert_eq!(case.download(&text(&report["id"])).status, 200);
}

#[test]
fn reports_filter_by_part_of_name() {
    let case = Case::new();
    case.control(
        "POST",
        "/reports",
        json!({"instance": case.instance, "format": "pdf", "name": "Wöchentlich", "count": 12}),
    );
    case.control(
        "POST",
        "/reports",
        json!({"instance": case.instance, "format": "pdf", "name": "other"}),
    );
    let found = |name: &str| case.page(&json!({"name": name, "page": 1, "size": 3}));
    let (reports, total) = found("öchentlich 1");
    let names: Vec<_> = reports.iter().map(|report| text(&report["name"])).collect();
    assert_eq!(names, ["Wöchentlich 12", "Wöchentlich 11", "Wöchentlich 10"]);
    assert_eq!(
        (total, found("").1, found("wöch").1, found("other").1),
        (4, 13, 0, 1)
    );
}

#[test]
fn invalid_bodies_are_refused() {
    let case = Case::new();
    let wrong = |reply: Reply, word: &str| {
        assert_eq!(code(&reply), (400, "DBSS.10000001".to_owned()), "{word}");
        assert!(reply.text().contains(word), "{}", reply.text());
    };
    wrong(case.list(&json!({"page": 0, "size": 1})), "page");
    wrong(case.list(&json!({"page": -1, "size": 1})), "-1");
    wrong(case.list(&json!({"page": 1, "size": 0})), "size");
    wrong(case.list(&json!({"page": 1, "size": 1001})), "size");
    wrong(case.list(&json!({"page": "1", "size": 1})), "string");
    wrong(case.list(&json!({"page": 1})), "size");
    wrong(case.list(&json!({"page": 1, "size": 1, "offset": 0})), "offset");
    wrong(case.list(&json!({"page": 1, "size": 1, "name": 5})), "string");
    let plain = Call {
        body: r#"{"page":1,"size":1}"#.to_owned(),
        ..Call::new("POST", &case.target("list"))
    };
    wrong(case.send(plain), "Content-Type");
    for field in ["template_id", "start_time", "end_time"] {
        let mut order = case.order();
        order.as_object_mut().unwrap().remove(field);
        wrong(case.create(&order), field);
    }
    let mut order = case.order();
    order["db_ids"] = json!(["7", "8"]);
    wrong(case.create(&order), "sequence");
    order["db_ids"] = Value::Null;
    order["start_date"] = json!("2026-01-01");
    order["end_date"] = json!("2026-01-02");
    assert_eq!(case.create(&order).status, 200);
}

#[test]
fn databases_are_listed_by_status_and_page() {
    let case = Case::new();
    let list = |query: &str| case.send(Call::new("GET", &(case.databases_target() + query)));
    let names = |query: &str| {
        let page = list(query).json();
        let items = page["databases"].as_array().unwrap();
        let names: Vec<String> = items
            .iter()
            .map(|item| item["database"]["name"].as_str().unwrap().to_owned())
            .collect();
        (names.join(","), page["total"].as_u64().unwrap())
    };
    assert_eq!(names(""), ("orders,billing 账单,archive".to_owned(), 3));
    assert_eq!(names("?status=OFF&limit=10000"), ("archive".to_owned(), 1));
    assert_eq!(names("?offset=1&limit=1"), ("billing 账单".to_owned(), 3));
    for query in ["?status=on", "?limit=0", "?limit=10001", "?offset=-1"] {
        assert_eq!(list(query).status, 400, "{query}");
    }
}

#[test]
fn schedule_is_kept_as_it_was_set() {
    let case = Case::new();
    let mut schedule = case.schedule();
    let set = |schedule: &Value| {
        case.send(Call::new("POST", &case.target("task")).json(&json!({"scheduler": schedule})))
    };
    schedule["status"] = json!("OFF");
    schedule["later"] = json!([1]);
    let reply = set(&schedule);
    assert_eq!(reply.json(), json!({"status": "success"}));
    assert_eq!(case.schedule(), schedule);
    for (name, wrong) in [
        ("status", json!("off")),
        ("notice", json!(true)),
        ("frequency", json!("DAY")),
        ("mode", Value::Null),
        ("topic_urn", json!(1)),
    ] {
        let mut changed = schedule.clone();
        changed[name] = wrong;
        assert_eq!(code(&set(&changed)), (400, "DBSS.10000001".to_owned()), "{name}");
    }
    schedule["id"] = json!("0123456789abcdef");
    assert_eq!(code(&set(&schedule)), (404, "DBSS.10021004".to_owned()));
    assert_eq!(case.schedule()["id"], case.order()["template_id"]);
}

#[test]
fn management_errors_equal_download_errors() {
    let case = Case::new();
    let order = case.order();
    let id = case.mock.add_reports(&case.instance, 1).unwrap().concat();
    let project = case.mock.project_id();
    let instances = format!("/v1/{project}/audit/instances");
    let schedule = case.schedule();
    case.mock.clear_requests();
    let calls = [
        ("@instances", Call::new("GET", &instances), "POST"),
        (
            "@reports.list",
            Call::new("POST", &case.target("list")).json(&json!({"page": 1, "size": 1})),
            "GET",
        ),
        ("@templates", Call::new("GET", &case.templates_target()), "POST"),
        (
            "@reports.create",
            Call::new("POST", &case.target("create")).json(&order),
            "PUT",
        ),
        ("@reports.delete", Call::new("DELETE", &case.target(&id)), "GET"),
        ("@databases", Call::new("GET", &case.databases_target()), "POST"),
        (
            "@schedule.show",
            Call::new("GET", &case.schedule_target()),
            "POST",
        ),
        (
            "@schedule.set",
            Call::new("POST", &case.target("task")).json(&json!({"scheduler": schedule})),
            "GET",
        ),
    ];
    for (name, call, other) in calls {
        let url = case.mock.http_url();
        let with = |target: &str| Call {
            target: target.to_owned(),
            ..call.clone()
        };
        assert_eq!(code(&call.send(url)), (401, "APIG.0301".to_owned()), "{name}");
        let stranger = call.clone().header("X-Auth-Token", "x");
        assert_eq!(code(&stranger.send(url)), (401, "APIG.0301".to_owned()));
        let reply = case.send(Call {
            method: other.to_owned(),
            ..call.clone()
        });
        assert_eq!(code(&reply), (404, "APIG.0101".to_owned()), "{name}");
        let bad = case.send(with(&call.target.replace(project, "p")));
        assert_eq!(code(&bad), (400, "DBSS.10020021".to_owned()), "{name}");
        let reply = case.send(with(&call.target.replace(project, &"0".repeat(32))));
        let json = reply.json();
        assert_eq!((reply.status, &json["error_code"]), (403, &Value::Null), "{name}");
        assert!(json["details"][0]["error_msg"].is_string());
        if name != "@instances" {
            let bad = case.send(with(&call.target.replace(&case.instance, "i")));
            assert_eq!(code(&bad), (400, "DBSS.10020021".to_owned()), "{name}");
            let unknown = case.send(with(&call.target.replace(&case.instance, &"0".repeat(32))));
            assert_eq!(code(&unknown), (404, "DBSS.10021004".to_owned()), "{name}");
        }
        case.mock
            .fault_json(
                name,
                json!({"status": 500, "json": {"error_code": "x"}, "times": 1}),
            )
            .unwrap();
        assert_eq!(code(&case.send(call.clone())), (500, "x".to_owned()), "{name}");
        let signed = Call {
            headers: call
                .headers
                .iter()
                .filter(|header| header.0 == "Content-Type")
                .cloned()
                .collect(),
            ..call.clone()
        };
        let (access, secret) = (case.mock.access_key(), case.mock.secret_key());
        let signed = signed.header("X-Project-Id", project).signed(access, secret, 0);
        assert_eq!(signed.send(url).status, 200, "{name}");
        let seen = case.mock.requests_for(name);
        assert_eq!(seen.len(), if name == "@instances" { 7 } else { 9 });
        assert!(seen.iter().all(|one| one.body.as_deref() == Some(&*call.body)));
    }
}

#[test]
fn signature_of_other_body_is_refused() {
    let case = Case::new();
    let (access, secret) = (case.mock.access_key(), case.mock.secret_key());
    let call = Call::new("POST", &case.target("list")).json(&json!({"page": 1, "size": 1}));
    let mut call = call.signed(access, secret, 0);
    assert_eq!(call.send(case.mock.http_url()).status, 200);
    call.body = call.body.replace("\"page\":1", "\"page\":2");
    assert_eq!(call.send(case.mock.http_url()).status, 401);
}

#[test]
fn templates_are_returned() {
    let case = Case::new();
    let reply = case.send(Call::new("GET", &case.templates_target()));
    let json = reply.json();
    assert_eq!(json["os_type"], "LINUX");
    let templates = json["templates"].as_array().unwrap();
    let ready = case.mock.to_json()["templates"].clone();
    assert_eq!((templates.len(), ready.as_array().unwrap().len()), (9, 9));
    for (item, ready) in templates.iter().zip(ready.as_array().unwrap()) {
        let template = &item["template"];
        assert_eq!(text(&template["id"]).len(), 32);
        for field in ["id", "name", "type"] {
            assert_eq!(template[field], ready[field]);
        }
        assert!(template["group"].is_string() && template["desc"].is_string());
        assert!(["ON", "OFF"].contains(&template["status"].as_str().unwrap()));
        assert!(template["db_names"].is_null() && template["language"].is_object());
        assert_eq!(item["builtin"], true);
    }
}

#[test]
fn created_report_progresses_with_each_list() {
    let case = Case::new();
    let reply = case.create(&case.order());
    assert_eq!((reply.status, reply.json()), (200, json!({"result": "success"})));
    let id = case.mock.made().concat();
    let report = case.all().remove(0);
    assert_eq!(report["id"], json!(id));
    assert!(text(&report["name"]).starts_with("SOX report_20"));
    assert_eq!(
        (&report["template_type"], &report["type"]),
        (&json!("SOX"), &json!("AUDIT_REPORT_REAL_TIME"))
    );
    assert_eq!(report["start_time"], "2026-01-01 00:00:00");
    assert_eq!(report["end_time"], "2026-01-02 00:00:00");
    assert_eq!(
        (&report["db_ids"], &report["format"]),
        (&json!("7,8"), &json!("pdf"))
    );
    assert_eq!(
        (&report["percentum"], &report["finish_time"]),
        (&json!(0), &Value::Null)
    );
    assert_eq!(code(&case.download(&id)), (400, "DBSS.10000001".to_owned()));
    assert_eq!(case.all()[0]["percentum"], 50);
    assert_eq!(case.download(&id).status, 400);
    let done = case.all().remove(0);
    assert_eq!(done["percentum"], 100);
    assert!(text(&done["finish_time"]).starts_with("20"));
    let reply = case.download(&id);
    assert_eq!(reply.status, 200);
    assert!(reply.body.starts_with(b"%PDF-"));
}

#[test]
fn generation_settings_apply() {
    let case = Case::new();
    let set = |generation| case.mock.set_generation(generation).unwrap();
    let percents = || {
        case.create(&case.order());
        [0, 0, 0, 0].map(|_| case.all()[0]["percentum"].clone())
    };
    set(Generation {
        percent_per_list: 34,
        ..Generation::default()
    });
    assert_eq!(percents(), [0, 34, 68, 100]);
    set(Generation {
        percent_per_list: 0,
        format: Format::Zip,
        size: Some(100_000),
        ..Generation::default()
    });
    assert_eq!(percents(), [0, 0, 0, 0]);
    assert_eq!(case.all()[0]["format"], "zip");
    set(Generation {
        duration_ms: Some(0),
        size: Some(100_000),
        ..Generation::default()
    });
    assert_eq!(percents(), [100, 100, 100, 100]);
    assert_eq!(
        case.download(case.mock.made().last().unwrap()).body.len(),
        100_000
    );
    set(Generation {
        duration_ms: Some(3_600_000),
        ..Generation::default()
    });
    assert_eq!(percents(), [0, 0, 0, 0]);
    let small = Generation {
        size: Some(1),
        ..Generation::default()
    };
    assert!(case.mock.set_generation(small).is_err());

    let case = Case::new();
    case.mock
        .set_generation(Generation {
            duration_ms: Some(60),
            steps: 3,
            ..Generation::default()
        })
        .unwrap();
    case.create(&case.order());
    let mut seen = Vec::new();
    common::wait_until(|| {
        seen.push(case.all()[0]["percentum"].as_u64().unwrap());
        seen.last() == Some(&100)
    });
    assert!(
        seen.is_sorted() && seen.iter().all(|percent| [0, 33, 66, 100].contains(percent)),
        "{seen:?}"
    );
}

#[test]
fn new_report_appears_late_among_foreign_ones() {
    let case = Case::new();
    let foreign = |fields: Value| fields.as_object().unwrap().clone();
    case.mock
        .set_generation(Generation {
            appear_after_lists: 2,
            foreign: vec![
                foreign(json!({"before": true})),
                foreign(json!({"template_type": "PCI", "name": "by another"})),
            ],
            ..Generation::default()
        })
        .unwrap();
    case.create(&case.order());
    assert_eq!((case.ids().len(), case.ids().len()), (0, 0));
    let reports = case.all();
    let made = case.control("GET", "/made", Value::Null);
    let ids: Vec<_> = reports.iter().map(|report| &report["id"]).collect();
    assert_eq!(ids, [&made["foreign"][1], &made["ids"][0], &made["foreign"][0]]);
    for field in [
        "name",
        "template_type",
        "type",
        "start_time",
        "end_time",
        "db_ids",
        "percentum",
    ] {
        assert_eq!(reports[1][field], reports[2][field], "{field}");
    }
    assert_eq!(
        (&reports[0]["template_type"], &reports[0]["name"]),
        (&json!("PCI"), &json!("by another"))
    );
    assert!(
        reports
            .iter()
            .all(|report| !report.as_object().unwrap().contains_key("before"))
    );
    let after = json!({"instance": case.instance, "format": "pdf", "after_lists": 1});
    case.control("POST", "/reports", after);
    assert_eq!((case.ids().len(), case.ids().len()), (3, 4));
}

#[test]
fn unknown_template_creates_nothing() {
    let case = Case::new();
    let mut order = case.order();
    order["template_id"] = json!("x".repeat(32));
    assert_eq!(code(&case.create(&order)), (400, "DBSS.10000001".to_owned()));
    case.mock
        .set_generation(Generation {
            unknown_template: UnknownTemplate::Failed,
            ..Generation::default()
        })
        .unwrap();
    let reply = case.create(&order);
    assert_eq!((reply.status, reply.json()), (200, json!({"result": "failed"})));
    let failed = Fault::response_json(200, json!({"result": "failed"})).once();
    case.mock.fault("@reports.create", failed).unwrap();
    assert_eq!(case.create(&case.order()).json(), json!({"result": "failed"}));
    assert_eq!(case.ids().len(), 0);
}

#[test]
fn response_lost_after_action() {
    let case = Case::new();
    let lost = json!({"perform": true, "reset_before_answer": true, "times": 1});
    case.mock.fault_json("@reports.create", lost.clone()).unwrap();
    let call = Call::new("POST", &case.target("create")).json(&case.order());
    let text = format!(
        "POST {} HTTP/1.1\r\nX-Auth-Token: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
        call.target,
        case.mock.token(),
        call.body.len(),
        call.body
    );
    assert_eq!(
        common::exchange(case.mock.http_url(), &text),
        (Vec::new(), common::End::Reset)
    );
    assert_eq!(case.ids(), case.mock.made());
    let failed = json!({"perform": true, "json": {"status": "FAILED"}, "times": 1});
    case.mock.fault_json("@reports.delete", failed).unwrap();
    let reply = case.delete(&case.mock.made()[0]);
    assert_eq!((reply.json(), case.ids().len()), (json!({"status": "FAILED"}), 0));
    let id = case.mock.pdf().id;
    assert!(
        case.mock
            .fault_json(&id, lost)
            .unwrap_err()
            .to_string()
            .contains("perform")
    );
}

#[test]
fn deleted_report_returns_404() {
    let case = Case::new();
    let ids = case.mock.add_reports(&case.instance, 3).unwrap();
    let elsewhere = case.mock.pdf().id;
    assert_eq!(code(&case.delete(&elsewhere)), (404, "DBSS.10021004".to_owned()));
    assert_eq!(code(&case.delete("short")), (400, "DBSS.10020021".to_owned()));
    let reply = case.delete(&ids[1]);
    assert_eq!((reply.status, reply.json()), (200, json!({"status": "SUCCESS"})));
    assert_eq!(code(&case.delete(&ids[1])), (404, "DBSS.10021004".to_owned()));
    assert_eq!(code(&case.download(&ids[1])), (404, "DBSS.10021004".to_owned()));
    assert_eq!(case.ids(), [ids[2].clone(), ids[0].clone()]);
    let failed = Fault::response_json(200, json!({"status": "FAILED"})).once();
    case.mock.fault("@reports.delete", failed).unwrap();
    assert_eq!(case.delete(&ids[0]).json(), json!({"status": "FAILED"}));
    assert_eq!(case.ids().len(), 2);
    assert!(case.mock.remove_report(&ids[0]) && !case.mock.remove_report(&ids[0]));
    assert_eq!(
        case.control("DELETE", "/reports", json!({"ids": ids})),
        json!({"removed": 1})
    );
    assert!(case.mock.remove_instance(&case.instance));
    assert_eq!(case.list(&json!({"page": 1, "size": 1})).status, 404);
}

#[test]
fn deletions_apply_between_pages() {
    let case = Case::new();
    let ids = case.mock.add_reports(&case.instance, 4).unwrap();
    let other = case.mock.add_instance("other");
    let gone = json!([ids[0], ids[3], other]);
    case.control("POST", "/deletions", json!({"after_lists": 2, "ids": gone}));
    let page = |page: u64| case.page(&json!({"page": page, "size": 2}));
    assert_eq!(page(1).1, 4);
    assert_eq!(case.download(&ids[3]).status, 200, "no list");
    assert_eq!(case.instances("").json()["total"], 3, "a list, and the second");
    let (reports, total) = page(2);
    assert_eq!((reports.len(), total), (0, 2));
    assert_eq!(
        page(1).0.iter().map(|one| text(&one["id"])).collect::<Vec<_>>(),
        [&*ids[2], &*ids[1]]
    );
    assert_eq!(case.instances("").json()["total"], 2);
    case.control("POST", "/deletions", json!({"after_lists": 0, "ids": [ids[1]]}));
    assert_eq!(case.ids(), [ids[2].clone()]);
}

#[test]
fn thousands_of_items_are_added_in_bulk() {
    let case = Case::new();
    let began = std::time::Instant::now();
    let ids = case.control(
        "POST",
        "/reports",
        json!({"instance": case.instance, "format": "zip", "count": 2500}),
    );
    assert_eq!(ids["ids"].as_array().unwrap().len(), 2500);
    case.control("POST", "/instances", json!({"count": 2500}));
    let (page, total) = case.page(&json!({"page": 3, "size": 1000}));
    assert_eq!((page.len(), total), (500, 2500));
    assert_eq!(page[499]["id"], ids["ids"][0]);
    assert_eq!(
        case.instances("?limit=1000&offset=2000").json()["servers"]
            .as_array()
            .unwrap()
            .len(),
        502
    );
    // What is in bulk is not described there: that would take the hashes of all their bytes.
    assert_eq!(case.mock.to_json()["reports"].as_array().unwrap().len(), 2);
    assert!(began.elapsed() < common::PATIENCE);
    let reply = case.download(ids["ids"][7].as_str().unwrap());
    assert!(reply.body.starts_with(b"PK"));
    let report = case.mock.add_report(Format::Zip, None);
    assert_eq!(report.bytes(Locale::EnUs).len() as u64, report.size(Locale::EnUs));
}
