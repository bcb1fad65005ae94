//! The store of instances, templates and reports.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::calls::InstancesVersion;
use crate::content::random;
use crate::random_hex;
use crate::report::{Format, ReportInfo};

/// How reports that clients create are made. What is left out of the JSON is as it was at first.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Generation {
    percent_per_list: Option<u64>,
    duration_ms: Option<u64>,
    steps: Option<u64>,
    appear_after_lists: u64,
    format: Format,
    size: Option<u64>,
    foreign: Vec<Map<String, Value>>,
    pub(crate) unknown_template: UnknownTemplate,
}

/// What is answered where a template is unknown.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UnknownTemplate {
    #[default]
    Error,
    Failed,
}

/// Which versions there are of the list of instances, and its format. What is left out of the
/// JSON is as it was at first.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Shapes {
    pub(crate) instances: InstanceList,
    versions: Option<Vec<InstancesVersion>>,
}

impl Shapes {
    pub(crate) fn has(&self, version: InstancesVersion) -> bool {
        let mut versions = self.versions.iter();
        versions.all(|known| known.contains(&version))
    }
}

/// The sources do not agree on the list of instances.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InstanceList {
    #[default]
    Servers,
    Instances,
}

/// What a service might do with the pages of its lists of instances and reports. Nothing of it
/// is documented. What is left out of the JSON is as documented.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Paging {
    cap: Option<usize>,
    first_page_only: bool,
    last_page_again: bool,
    shuffle: bool,
    empty_page: Option<usize>,
    total: Option<Value>,
}

/// Reports or instances to add, as the control address takes them. Fields beside these are of
/// the items of lists.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct New {
    id: Option<String>,
    name: Option<String>,
    format: Option<Format>,
    size: Option<u64>,
    instance: Option<String>,
    pub(crate) count: Option<u64>,
    after_lists: u64,
    extra: Map<String, Value>,
    omit: Vec<String>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

impl New {
    /// The ids and names of all, given how new ids are made, and which there are.
    fn names(
        &self,
        name: impl Fn(&str) -> String,
        new_id: impl Fn() -> String,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, String)>, String> {
        if self.count.is_some() && self.id.is_some() {
            return Err("id: only without count".to_owned());
        }
        let one = |number| {
            let id = self.id.clone().unwrap_or_else(&new_id);
            let name = self.name.clone().unwrap_or_else(|| name(&id));
            match (is_known(&id), self.count) {
                (true, _) => Err("id: there is one of this id already".to_owned()),
                (false, None) => Ok((id, name)),
                (false, Some(_)) => Ok((id, format!("{name} {number}"))),
            }
        };
        (1..=self.count.unwrap_or(1)).map(one).collect()
    }

    fn fields(&self) -> Map<String, Value> {
        self.fields
            .clone()
            .into_iter()
            .chain(self.extra.clone())
            .collect()
    }
}

fn overlay(item: &mut Value, fields: &Map<String, Value>, omit: &[String]) {
    if let Value::Object(item) = item {
        item.extend(fields.clone());
        item.retain(|name, _| !omit.contains(name));
    }
}

/// A template that reports are made from.
#[derive(Clone)]
pub(crate) struct Template {
    pub(crate) id: String,
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    group: &'static str,
}

#[rustfmt::skip]
const TEMPLATES: [(&str, &str, &str); 9] = [
    ("COMPREHENSIVE", "COMPREHENSIVE", "Database security comprehensive report"),
    ("COMPLIANCE", "COMPLIANCE", "Database security compliance report"),
    ("SOX", "COMPLIANCE", "SOX report"),
    ("PCI", "COMPLIANCE", "PCI report"),
    ("DB_ANALYSIS", "DB_SPECIAL", "Database server analysis report"),
    ("CLIENT_IP_ANALYSIS", "CLIENT_SPECIAL", "Client IP address analysis report"),
    ("SQL_DCL_COMMAND", "SQL_SPECIAL", "DCL command report"),
    ("SQL_DDL_COMMAND", "SQL_SPECIAL", "DDL command report"),
    ("SQL_DML_COMMAND", "SQL_SPECIAL", "DML command report"),
];

impl Template {
    fn status(&self) -> &'static str {
        if self.group == "SQL_SPECIAL" { "OFF" } else { "ON" }
    }

    fn item(&self) -> Value {
        let frequency = if self.status() == "ON" {
            json!("WEEK")
        } else {
            Value::Null
        };
        json!({
            "template": {
                "id": self.id, "name": self.name, "type": self.kind, "group": self.group,
                "status": self.status(), "desc": format!("{} 说明", self.name), "frequency": frequency,
                "db_ids": "", "db_names": null, "language": {"default": "en-us"},
            },
            "builtin": true,
        })
    }

    /// Its schedule, until a client sets one.
    fn schedule(&self) -> Value {
        json!({
            "id": self.id, "db_ids": "", "format": "ZIP", "frequency": "AUDIT_REPORT_WEEK", "mode": "AUTO",
            "notice": "OFF", "start_time": "2026-11-23 00:00:00", "status": self.status(), "topic_urn": "",
            "retention": {"days": 30, "of": ["zip", "pdf"]},
        })
    }
}

fn database_item(i: usize, name: &str, status: &str) -> Value {
    json!({
        "database": {
            "id": format!("db{i}_7hQ2kPbXc0aVt-"), "name": name, "type": "MYSQL", "version": "8.0",
            "charset": "UTF8", "ip": format!("192.168.0.{}", 10 + i), "port": "3306", "os": "LINUX64",
            "status": status, "instance_name": format!("rds-{i}"),
            "audit_status": if status == "ON" { "ACTIVE" } else { "SHUTOFF" },
            "agent_url": [format!("agent-{i}")], "db_classification": "RDS",
            "rds_audit_switch_mismatch": i == 1, "rds_id": format!("rds{i}in01"), "rds_obj_info": null,
            "kernel": {"undocumented": true},
        },
    })
}

fn instance_item(region: &str, id: &str, name: &str, new: &New) -> Value {
    let mut item = json!({
        "charge_model": "Period", "comment": null, "config_num": 1, "connect_ip": "192.168.0.10",
        "connect_ipv6": "fd00::10", "cpu": 4, "created": "2026-01-01 08:00:00", "database_limit": 3,
        "effect": null, "expired": "2027-01-01 08:00:00", "id": id, "keep_days": "0", "name": name,
        "new_version": null, "port_id": "00000000-0000-0000-0000-000000000001", "ram": 16,
        "region": region, "remain_days": "361", "resource_id": "00000000000000000000000000000002",
        "resource_spec_code": "dbss.bypassaudit.low", "scene": "",
        "security_group_id": "00000000-0000-0000-0000-000000000003", "specification": "4U16G",
        "status": "ACTIVE", "subnet_id": "00000000-0000-0000-0000-000000000004", "task": "NO_TASK",
        "version": "25.10.0", "vpc_id": "00000000-0000-0000-0000-000000000005",
        "zone": format!("{region}a"), "audit_mode": {"level": 2, "hosts": [null]},
    });
    overlay(&mut item, &new.fields(), &new.omit);
    item
}

struct Entry {
    info: ReportInfo,
    instance: String,
    /// What lists say of it in place of the ordinary fields, or besides, and what they leave out.
    fields: Map<String, Value>,
    omit: Vec<String>,
    growth: Growth,
    finish_time: String,
    hidden: u64,
    described: bool,
}

#[derive(Clone, Copy)]
enum Growth {
    None,
    /// By so many percent with each list of those that have shown it.
    ByList(u64, u64),
    ByTime(Instant, Duration, u64),
}

impl Entry {
    fn percent(&self) -> u64 {
        match self.growth {
            Growth::None => 100,
            Growth::ByList(step, lists) => step.saturating_mul(lists.saturating_sub(1)).min(100),
            Growth::ByTime(since, duration, steps) => {
                let whole = duration.as_nanos().max(1);
                let done = since.elapsed().as_nanos().min(whole);
                (done * u128::from(steps) / whole * 100 / u128::from(steps)) as u64
            }
        }
    }

    /// What is given in place of the percentage holds; and what is no number is no obstacle.
    fn is_finished(&self) -> bool {
        match self.fields.get("percentum") {
            Some(given) => given.as_f64().is_none_or(|percent| percent >= 100.0),
            None => self.percent() >= 100,
        }
    }

    fn item(&self) -> Value {
        let percent = self.percent();
        // Taken at once: it grows by itself.
        let finished = percent >= 100 && self.is_finished();
        let info = &self.info;
        let mut report = json!({
            "id": info.id, "name": info.name, "format": info.format, "percentum": percent,
            "type": "AUDIT_REPORT_DAY", "template_type": "COMPREHENSIVE",
            "start_time": "2026-01-04 00:00:00", "end_time": "2026-01-05 00:00:00",
            "finish_time": finished.then_some(&self.finish_time), "db_ids": "db-1,db-2",
            "db_names": "orders,客户", "url": null, "retention": {"days": 180, "until": null},
        });
        overlay(&mut report, &self.fields, &self.omit);
        json!({"report": report, "selected": false})
    }
}

/// A page of all items, under a name, as the service sends it.
/// `by_number`: the pages of the list have numbers, and not an offset.
fn page(
    name: &str,
    total: usize,
    item: impl Fn(usize) -> Value,
    by_number: bool,
    (mut skip, mut take): (usize, usize),
    (paging, seed): (&Paging, u64),
) -> Value {
    let page = skip / take;
    if let Some(cap) = paging.cap.filter(|cap| *cap < take) {
        skip = if by_number { page * cap } else { skip };
        take = cap;
    }
    if paging.first_page_only {
        skip = 0;
    }
    if paging.last_page_again && skip >= total {
        skip = total.saturating_sub(1) / take * take;
    }
    let mut order: Vec<usize> = (0..total).collect();
    if paging.shuffle {
        for at in (1..total).rev() {
            let other = random(seed, at as u64) % (at as u64 + 1);
            order.swap(at, other as usize);
        }
    }
    let mut items: Vec<Value> = order.into_iter().skip(skip).take(take).map(item).collect();
    if paging.empty_page == Some(page + 1) {
        items.clear();
    }
    match &paging.total {
        None => json!({name: items, "total": total}),
        Some(Value::String(word)) if word == "page" => json!({name: items, "total": items.len()}),
        Some(Value::String(_)) => json!({name: items}),
        Some(given) => json!({name: items, "total": given}),
    }
}

pub(crate) struct Store {
    region: String,
    instances: IndexMap<String, Value>,
    pub(crate) templates: Vec<Template>,
    schedules: HashMap<(String, String), Value>,
    pub(crate) generation: Generation,
    pub(crate) shapes: Shapes,
    reports: IndexMap<String, Entry>,
    made: Vec<String>,
    foreign: Vec<String>,
    deletions: Vec<(u64, HashSet<String>)>,
    paging: Paging,
    pages: u64,
}

impl Store {
    /// With one instance and its reports.
    pub(crate) fn new(region: &str, instance: &str) -> Result<Self, String> {
        let template = |(kind, group, name)| Template {
            id: random_hex(16),
            name,
            kind,
            group,
        };
        let mut store = Store {
            region: region.to_owned(),
            instances: IndexMap::new(),
            templates: TEMPLATES.map(template).to_vec(),
            schedules: HashMap::new(),
            generation: Generation::default(),
            shapes: Shapes::default(),
            reports: IndexMap::new(),
            made: Vec::new(),
            foreign: Vec::new(),
            deletions: Vec::new(),
            paging: Paging::default(),
            pages: 0,
        };
        store.add_instances(&New {
            id: Some(instance.to_owned()),
            ..New::default()
        })?;
        for (name, format) in [
            ("Daily audit report", Format::Pdf),
            ("Daily audit report data", Format::Zip),
        ] {
            store.add(&New {
                name: Some(name.to_owned()),
                format: Some(format),
                ..New::default()
            })?;
        }
        Ok(store)
    }

    pub(crate) fn report(&self, id: &str) -> Option<ReportInfo> {
        self.reports.get(id).map(|entry| entry.info.clone())
    }

    /// A report, and whether it is finished.
    pub(crate) fn download(&self, instance: &str, id: &str) -> Option<(ReportInfo, bool)> {
        let entry = self.reports.get(id)?;
        let own = entry.instance == instance && self.has_instance(instance);
        own.then(|| (entry.info.clone(), entry.is_finished()))
    }

    /// The reports there are, but those added in bulk and those made for clients.
    pub(crate) fn described(&self) -> Vec<ReportInfo> {
        let described = self.reports.values().filter(|entry| entry.described);
        described.map(|entry| entry.info.clone()).collect()
    }

    pub(crate) fn new_version(&mut self, id: &str) -> Result<ReportInfo, String> {
        let entry = self
            .reports
            .get_mut(id)
            .ok_or("report: there is no such report")?;
        entry.info = entry.info.next_version()?;
        Ok(entry.info.clone())
    }

    /// Adds reports, the oldest first.
    pub(crate) fn add(&mut self, new: &New) -> Result<Vec<ReportInfo>, String> {
        let first = self.instances.first().map(|(id, _)| id);
        let instance = new.instance.as_ref().or(first).filter(|id| self.has_instance(id));
        let instance = instance.ok_or("instance: there is no such instance")?.clone();
        let format = new.format.ok_or("format: pdf, zip or bytes is needed")?;
        let is_known = |id: &str| self.reports.contains_key(id);
        let names = new.names(|id| format!("Report {id}"), || random_hex(16), is_known)?;
        let mut added = Vec::new();
        for (id, name) in names {
            let info = ReportInfo::new(&id, &name, format, new.size)?;
            let entry = Entry {
                info: info.clone(),
                instance: instance.clone(),
                fields: new.fields(),
                omit: new.omit.clone(),
                growth: Growth::None,
                finish_time: "2026-01-05 00:10:00".to_owned(),
                hidden: new.after_lists,
                described: new.count.is_none(),
            };
            self.reports.insert(id, entry);
            added.push(info);
        }
        Ok(added)
    }

    /// Removes reports and returns how many of these there were.
    pub(crate) fn remove(&mut self, ids: &HashSet<String>) -> usize {
        let before = self.reports.len();
        self.reports.retain(|id, _| !ids.contains(id));
        before - self.reports.len()
    }

    /// Removes one that has to be the instance's.
    pub(crate) fn remove_from(&mut self, instance: &str, id: &str) -> bool {
        let own = self
            .reports
            .get(id)
            .is_some_and(|entry| entry.instance == instance);
        own && self.remove(&HashSet::from([id.to_owned()])) == 1
    }

    pub(crate) fn has_instance(&self, id: &str) -> bool {
        self.instances.contains_key(id)
    }

    /// Adds instances; returns their ids.
    pub(crate) fn add_instances(&mut self, new: &New) -> Result<Vec<String>, String> {
        let names = new.names(|_| "audit".to_owned(), random_uuid, |id| self.has_instance(id))?;
        for (id, name) in &names {
            let item = instance_item(&self.region, id, name, new);
            self.instances.insert(id.clone(), item);
        }
        Ok(names.into_iter().map(|(id, _)| id).collect())
    }

    /// Removes instances, as above. Their reports wait for their return.
    pub(crate) fn remove_instances(&mut self, ids: &HashSet<String>) -> usize {
        let before = self.instances.len();
        self.instances.retain(|id, _| !ids.contains(id));
        before - self.instances.len()
    }

    pub(crate) fn set_generation(&mut self, generation: Generation) -> Result<(), String> {
        ReportInfo::new("any", "any", generation.format, generation.size)?;
        self.generation = generation;
        Ok(())
    }

    pub(crate) fn set_paging(&mut self, paging: Paging) {
        self.paging = paging;
        self.pages = 0;
    }

    pub(crate) fn template(&self, id: &str) -> Option<Template> {
        self.templates.iter().find(|template| template.id == id).cloned()
    }

    pub(crate) fn template_items(&self) -> Vec<Value> {
        self.templates.iter().map(Template::item).collect()
    }

    /// Lists databases, the same of all instances, of one status if it is given.
    pub(crate) fn databases(&self, status: Option<&str>, skip: usize, take: usize) -> Value {
        let all = [("orders", "ON"), ("billing 账单", "ON"), ("archive", "OFF")];
        let wanted = |one: &(usize, &(&str, &str))| status.is_none_or(|status| status == one.1.1);
        let items = all.iter().enumerate().filter(wanted);
        let items: Vec<Value> = items
            .map(|(i, (name, status))| database_item(i, name, status))
            .collect();
        let shown: Vec<&Value> = items.iter().skip(skip).take(take).collect();
        json!({"databases": shown, "total": items.len()})
    }

    /// The schedule of a template: the one that a client set, or the first one.
    pub(crate) fn schedule(&self, instance: &str, template: &str) -> Option<Value> {
        let key = (instance.to_owned(), template.to_owned());
        let template = self.template(template)?;
        let set = self.schedules.get(&key).cloned();
        Some(set.unwrap_or_else(|| template.schedule()))
    }

    /// False if there is no such template.
    pub(crate) fn set_schedule(&mut self, instance: &str, schedule: Value) -> bool {
        let template = schedule["id"].as_str().and_then(|id| self.template(id));
        template.is_some_and(|template| {
            self.schedules
                .insert((instance.to_owned(), template.id), schedule);
            true
        })
    }

    /// Begins to make a report, and those that others make meanwhile.
    pub(crate) fn make(
        &mut self,
        instance: &str,
        template: &Template,
        fields: &Map<String, Value>,
    ) -> Result<(), String> {
        let generation = self.generation.clone();
        let duration = Duration::from_millis(generation.duration_ms.unwrap_or_default());
        let now = OffsetDateTime::now_utc();
        let stamp = service_time(now).replace(['-', ' ', ':'], "");
        let (before, after): (Vec<_>, Vec<_>) = generation
            .foreign
            .iter()
            .map(Some)
            .partition(|other| other.is_some_and(|other| other.get("before") == Some(&json!(true))));
        for other in before.into_iter().chain([None]).chain(after) {
            let id = random_hex(16);
            let name = other.and_then(|other| other.get("name")?.as_str());
            let name = name.map_or_else(|| format!("{}_{stamp}", template.name), str::to_owned);
            let info = ReportInfo::new(&id, &name, generation.format, generation.size)?;
            let mut fields = fields.clone();
            fields.insert("type".to_owned(), json!("AUDIT_REPORT_REAL_TIME"));
            fields.insert("template_type".to_owned(), json!(template.kind));
            fields.extend(other.cloned().unwrap_or_default());
            let growth = match generation.duration_ms {
                Some(_) => Growth::ByTime(Instant::now(), duration, generation.steps.unwrap_or(10).max(1)),
                None => Growth::ByList(generation.percent_per_list.unwrap_or(50), 0),
            };
            let entry = Entry {
                info,
                instance: instance.to_owned(),
                fields,
                omit: vec!["before".to_owned()],
                growth,
                finish_time: service_time(now + duration),
                hidden: generation.appear_after_lists,
                described: false,
            };
            self.reports.insert(id.clone(), entry);
            if other.is_some() {
                &mut self.foreign
            } else {
                &mut self.made
            }
            .push(id);
        }
        Ok(())
    }

    /// The ids of the reports made for clients, and of those that others made meanwhile.
    pub(crate) fn made(&self) -> Value {
        json!({"ids": self.made, "foreign": self.foreign})
    }

    /// Lists reports, the youngest first, and lets time pass: what is about to be shown for the
    /// first time is as it was made.
    pub(crate) fn list(&mut self, instance: &str, name: &str, skip: usize, take: usize) -> Value {
        let own = |entry: &&mut Entry| entry.instance == instance;
        for entry in self.reports.values_mut().filter(own) {
            if let Growth::ByList(_, lists) = &mut entry.growth
                && entry.hidden == 0
            {
                *lists += 1;
            }
        }
        let shown = |entry: &&Entry| entry.instance == instance && entry.hidden == 0;
        let shown = self.reports.values().rev().filter(shown);
        let shown: Vec<&Entry> = shown.filter(|entry| entry.info.name.contains(name)).collect();
        let item = |at: usize| shown[at].item();
        let paging = (&self.paging, self.pages);
        let page = page("reports", shown.len(), item, true, (skip, take), paging);
        for entry in self.reports.values_mut().filter(own) {
            entry.hidden = entry.hidden.saturating_sub(1);
        }
        self.listed();
        page
    }

    /// Lists instances, the oldest first.
    pub(crate) fn list_instances(&mut self, skip: usize, take: usize) -> Value {
        let item = |at: usize| self.instances[at].clone();
        let paging = (&self.paging, self.pages);
        let page = page(
            "instances",
            self.instances.len(),
            item,
            false,
            (skip, take),
            paging,
        );
        self.listed();
        page
    }

    /// Lets reports and instances vanish after so many more lists.
    pub(crate) fn delete_after(&mut self, lists: u64, ids: HashSet<String>) {
        self.deletions.push((lists, ids));
        self.vanish();
    }

    fn listed(&mut self) {
        self.pages += 1;
        for (lists, _) in &mut self.deletions {
            *lists = lists.saturating_sub(1);
        }
        self.vanish();
    }

    fn vanish(&mut self) {
        let due: Vec<_> = self.deletions.extract_if(.., |(lists, _)| *lists == 0).collect();
        for (_, ids) in &due {
            self.remove(ids);
            self.remove_instances(ids);
        }
    }
}

/// A time as the service writes it.
fn service_time(time: OffsetDateTime) -> String {
    let (hour, minute, second) = time.to_hms();
    format!("{} {hour:02}:{minute:02}:{second:02}", time.date())
}

/// Random, in the form of an instance's id.
pub(crate) fn random_uuid() -> String {
    let hex = random_hex(16);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}
