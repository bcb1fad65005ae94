//! The store of instances, templates and reports.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::random_hex;
use crate::report::{Format, ReportInfo, random};

/// What the service says of a report besides its id, name and format.
const LISTED: [&str; 9] = [
    "percentum",
    "type",
    "template_type",
    "start_time",
    "end_time",
    "finish_time",
    "db_ids",
    "db_names",
    "url",
];

/// How reports that clients create are made. What is left out of the JSON is as it was at first.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Generation {
    pub(crate) percent_per_list: u64,
    pub(crate) duration_ms: Option<u64>,
    pub(crate) steps: u64,
    pub(crate) appear_after_lists: u64,
    pub(crate) format: Format,
    pub(crate) size: Option<u64>,
    pub(crate) foreign: Vec<Map<String, Value>>,
    pub(crate) unknown_template: UnknownTemplate,
}

/// What is answered where a template is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UnknownTemplate {
    Error,
    Failed,
}

impl Default for Generation {
    fn default() -> Self {
        Generation {
            percent_per_list: 50,
            duration_ms: None,
            steps: 10,
            appear_after_lists: 0,
            format: Format::Pdf,
            size: None,
            foreign: Vec::new(),
            unknown_template: UnknownTemplate::Error,
        }
    }
}

/// Which versions there are of the list of instances, and its format. What is left out of the
/// JSON is as it was at first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Shapes {
    pub(crate) instances: InstanceList,
    pub(crate) versions: Vec<InstancesVersion>,
}

impl Default for Shapes {
    fn default() -> Self {
        Shapes {
            instances: InstanceList::default(),
            versions: InstancesVersion::ALL.to_vec(),
        }
    }
}

/// A version of the list of instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InstancesVersion {
    V2,
    V1,
    V1Dbss,
}

impl InstancesVersion {
    /// The newest first.
    pub(crate) const ALL: [InstancesVersion; 3] = [
        InstancesVersion::V2,
        InstancesVersion::V1,
        InstancesVersion::V1Dbss,
    ];
}

/// What a service might do with the pages of its lists of instances and reports. Nothing of it
/// is documented. What is left out of the JSON is as documented.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Paging {
    pub(crate) cap: Option<usize>,
    pub(crate) first_page_only: bool,
    pub(crate) last_page_again: bool,
    pub(crate) shuffle: bool,
    pub(crate) empty_page: Option<usize>,
    pub(crate) total: Option<Value>,
}

/// The sources do not agree on the list of instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InstanceList {
    #[default]
    Servers,
    Instances,
}

/// Reports to add, as the control address takes them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewReports {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) format: Format,
    pub(crate) size: Option<u64>,
    pub(crate) instance: Option<String>,
    pub(crate) count: Option<u64>,
    #[serde(default)]
    pub(crate) after_lists: u64,
    #[serde(default)]
    pub(crate) extra: Map<String, Value>,
    #[serde(default)]
    pub(crate) omit: Vec<String>,
}

impl NewReports {
    /// The fields of the list count as extra ones; null is a value.
    pub(crate) fn from_json(value: Value) -> Result<Self, String> {
        let Value::Object(mut body) = value else {
            return Err("body: not an object".to_owned());
        };
        let listed: Vec<(String, Value)> = LISTED
            .iter()
            .filter_map(|name| body.remove_entry(*name))
            .collect();
        let mut new: NewReports =
            serde_json::from_value(Value::Object(body)).map_err(|error| format!("body: {error}"))?;
        new.extra.extend(listed);
        Ok(new)
    }
}

/// Instances to add, as the control address takes them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NewInstances {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) status: Option<String>,
    pub(crate) count: Option<u64>,
    pub(crate) extra: Map<String, Value>,
    pub(crate) omit: Vec<String>,
}

/// A template that reports are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) id: String,
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    group: &'static str,
}

impl Template {
    fn all() -> Vec<Template> {
        [
            (
                "COMPREHENSIVE",
                "COMPREHENSIVE",
                "Database security comprehensive report",
            ),
            ("COMPLIANCE", "COMPLIANCE", "Database security compliance report"),
            ("SOX", "COMPLIANCE", "SOX report"),
            ("PCI", "COMPLIANCE", "PCI report"),
            ("DB_ANALYSIS", "DB_SPECIAL", "Database server analysis report"),
            (
                "CLIENT_IP_ANALYSIS",
                "CLIENT_SPECIAL",
                "Client IP address analysis report",
            ),
            ("SQL_DCL_COMMAND", "SQL_SPECIAL", "DCL command report"),
            ("SQL_DDL_COMMAND", "SQL_SPECIAL", "DDL command report"),
            ("SQL_DML_COMMAND", "SQL_SPECIAL", "DML command report"),
        ]
        .into_iter()
        .map(|(kind, group, name)| Template {
            id: random_hex(16),
            name,
            kind,
            group,
        })
        .collect()
    }

    fn item(&self) -> Value {
        let off = self.group == "SQL_SPECIAL";
        json!({
            "template": {
                "id": self.id,
                "name": self.name,
                "type": self.kind,
                "group": self.group,
                "status": if off { "OFF" } else { "ON" },
                "desc": format!("{} 说明", self.name),
                "frequency": if off { Value::Null } else { json!("WEEK") },
                "db_ids": "",
                "db_names": null,
                "language": {"default": "en-us"},
            },
            "builtin": true,
        })
    }

    /// Its schedule, until a client sets one.
    fn schedule(&self) -> Map<String, Value> {
        let off = self.group == "SQL_SPECIAL";
        let Value::Object(schedule) = json!({
            "id": self.id,
            "db_ids": "",
            "format": "ZIP",
            "frequency": "AUDIT_REPORT_WEEK",
            "mode": "AUTO",
            "notice": "OFF",
            "start_time": "2026-11-23 00:00:00",
            "status": if off { "OFF" } else { "ON" },
            "topic_urn": "",
            "retention": {"days": 30, "of": ["zip", "pdf"]},
        }) else {
            return Map::new();
        };
        schedule
    }
}

fn database_item(i: usize, name: &str, status: &str) -> Value {
    json!({
        "database": {
            "id": format!("db{i}_7hQ2kPbXc0aVt-"),
            "name": name,
            "type": "MYSQL",
            "version": "8.0",
            "charset": "UTF8",
            "ip": format!("192.168.0.{}", 10 + i),
            "port": "3306",
            "os": "LINUX64",
            "status": status,
            "instance_name": format!("rds-{i}"),
            "audit_status": if status == "ON" { "ACTIVE" } else { "SHUTOFF" },
            "agent_url": [format!("agent-{i}")],
            "db_classification": "RDS",
            "rds_audit_switch_mismatch": i == 1,
            "rds_id": format!("rds{i}in01"),
            "rds_obj_info": null,
            "kernel": {"undocumented": true},
        },
    })
}

/// What a client asks to be made.
pub(crate) struct CreateRequest<'a> {
    pub(crate) instance: &'a str,
    pub(crate) template: Template,
    pub(crate) fields: Map<String, Value>,
}

struct Instance {
    id: String,
    fields: Map<String, Value>,
}

struct Entry {
    info: ReportInfo,
    instance: String,
    fields: Map<String, Value>,
    omit: Vec<String>,
    growth: Growth,
    finish_time: String,
    hidden: u64,
    described: bool,
}

enum Growth {
    None,
    ByList {
        percent: u64,
        step: u64,
        shown: bool,
    },
    ByTime {
        since: Instant,
        duration: Duration,
        steps: u64,
    },
}

impl Entry {
    fn new(info: ReportInfo, instance: &str) -> Self {
        Entry {
            info,
            instance: instance.to_owned(),
            fields: Map::new(),
            omit: Vec::new(),
            growth: Growth::None,
            finish_time: "2026-01-05 00:10:00".to_owned(),
            hidden: 0,
            described: false,
        }
    }

    fn percent(&self) -> u64 {
        match self.growth {
            Growth::None => 100,
            Growth::ByList { percent, .. } => percent,
            Growth::ByTime {
                since,
                duration,
                steps,
            } => {
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
        let mut report = json!({
            "id": self.info.id,
            "name": self.info.name,
            "format": self.info.format,
            "percentum": percent,
            "type": "AUDIT_REPORT_DAY",
            "template_type": "COMPREHENSIVE",
            "start_time": "2026-01-04 00:00:00",
            "end_time": "2026-01-05 00:00:00",
            "finish_time": if finished { json!(self.finish_time) } else { Value::Null },
            "db_ids": "db-1,db-2",
            "db_names": "orders,客户",
            "url": null,
            "retention": {"days": 180, "until": null},
        });
        overlay(&mut report, &self.fields, &self.omit);
        json!({"report": report, "selected": false})
    }

    /// What is about to be shown for the first time is as it was made.
    fn grow(&mut self) {
        if let Growth::ByList { percent, step, shown } = &mut self.growth
            && self.hidden == 0
        {
            if *shown {
                *percent = percent.saturating_add(*step).min(100);
            }
            *shown = true;
        }
    }
}

fn overlay(item: &mut Value, fields: &Map<String, Value>, omit: &[String]) {
    if let Value::Object(item) = item {
        for (name, value) in fields {
            item.insert(name.clone(), value.clone());
        }
        item.retain(|name, _| !omit.contains(name));
    }
}

struct Deletion {
    lists: u64,
    ids: HashSet<String>,
}

/// A page of a list, and how long the list is.
pub(crate) struct Page {
    items: Vec<Value>,
    total: Value,
}

impl Page {
    /// A page of all items as the service sends it, under a name.
    /// `by_number`: the pages of the list have numbers, and not an offset.
    fn of(
        total: usize,
        item: impl Fn(usize) -> Value,
        by_number: bool,
        (skip, take): (usize, usize),
        paging: &Paging,
        number: u64,
    ) -> Self {
        let page = skip / take;
        let mut skip = skip;
        let mut take = take;
        if let Some(cap) = paging.cap.filter(|cap| *cap < take) {
            if by_number {
                skip = page * cap;
            }
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
                let other = random(number, at as u64) % (at as u64 + 1);
                order.swap(at, other as usize);
            }
        }
        let mut items: Vec<Value> = order.into_iter().skip(skip).take(take).map(item).collect();
        if paging.empty_page == Some(page + 1) {
            items.clear();
        }
        let total = match &paging.total {
            None => json!(total),
            Some(Value::String(word)) if word == "page" => json!(items.len()),
            Some(Value::String(_)) => Value::Null,
            Some(given) => given.clone(),
        };
        Page { items, total }
    }

    /// The response, after a change of each item.
    pub(crate) fn json(self, name: &str, change: impl FnMut(Value) -> Value) -> Value {
        let items: Vec<Value> = self.items.into_iter().map(change).collect();
        match self.total {
            Value::Null => json!({name: items}),
            total => json!({name: items, "total": total}),
        }
    }
}

/// How a report is found that somebody wants to download.
pub(crate) enum ReportLookup {
    Ready(ReportInfo),
    NotReady,
    Unknown,
}

pub(crate) struct Store {
    region: String,
    instances: Vec<Instance>,
    templates: Vec<Template>,
    schedules: HashMap<(String, String), Map<String, Value>>,
    generation: Generation,
    shapes: Shapes,
    reports: BTreeMap<u64, Entry>,
    ages: HashMap<String, u64>,
    next: u64,
    made: Vec<String>,
    foreign: Vec<String>,
    deletions: Vec<Deletion>,
    paging: Paging,
    pages: u64,
}

impl Store {
    /// With one instance and its reports.
    pub(crate) fn new(region: &str, instance: &str, reports: &[ReportInfo]) -> Self {
        let mut store = Store {
            region: region.to_owned(),
            instances: Vec::new(),
            templates: Template::all(),
            schedules: HashMap::new(),
            generation: Generation::default(),
            shapes: Shapes::default(),
            reports: BTreeMap::new(),
            ages: HashMap::new(),
            next: 0,
            made: Vec::new(),
            foreign: Vec::new(),
            deletions: Vec::new(),
            paging: Paging::default(),
            pages: 0,
        };
        store.insert_instance(instance.to_owned(), "audit", "ACTIVE", &NewInstances::default());
        for info in reports {
            store.insert(Entry {
                described: true,
                ..Entry::new(info.clone(), instance)
            });
        }
        store
    }

    fn insert(&mut self, entry: Entry) {
        self.ages.insert(entry.info.id.clone(), self.next);
        self.reports.insert(self.next, entry);
        self.next += 1;
    }

    fn entry(&self, id: &str) -> Option<&Entry> {
        self.reports.get(self.ages.get(id)?)
    }

    pub(crate) fn report(&self, id: &str) -> Option<ReportInfo> {
        self.entry(id).map(|entry| entry.info.clone())
    }

    pub(crate) fn download(&self, instance: &str, id: &str) -> ReportLookup {
        let of_instance = |entry: &&Entry| entry.instance == instance && self.has_instance(instance);
        match self.entry(id).filter(of_instance) {
            Some(entry) if !entry.is_finished() => ReportLookup::NotReady,
            Some(entry) => ReportLookup::Ready(entry.info.clone()),
            None => ReportLookup::Unknown,
        }
    }

    /// The reports there are, but those added in bulk and those made for clients.
    pub(crate) fn described(&self) -> Vec<ReportInfo> {
        self.reports
            .values()
            .filter(|entry| entry.described)
            .map(|entry| entry.info.clone())
            .collect()
    }

    pub(crate) fn new_version(&mut self, id: &str) -> Option<ReportInfo> {
        let entry = self.reports.get_mut(self.ages.get(id)?)?;
        // A size that was large enough once is so for every version.
        entry.info = entry.info.next_version().ok()?;
        Some(entry.info.clone())
    }

    /// Adds reports, the oldest first.
    pub(crate) fn add(&mut self, new: &NewReports) -> Result<Vec<ReportInfo>, String> {
        if new.count.is_some() && new.id.is_some() {
            return Err("id: only without count".to_owned());
        }
        let instance = match &new.instance {
            Some(instance) if !self.has_instance(instance) => {
                return Err("instance: there is no such instance".to_owned());
            }
            Some(instance) => instance.clone(),
            None => match self.instances.first() {
                Some(first) => first.id.clone(),
                None => return Err("instance: there is no such instance".to_owned()),
            },
        };
        let mut added = Vec::new();
        for number in 1..=new.count.unwrap_or(1) {
            let id = new.id.clone().unwrap_or_else(|| random_hex(16));
            if self.ages.contains_key(&id) {
                return Err("id: there is one of this id already".to_owned());
            }
            let name = match (&new.name, new.count) {
                (Some(name), None) => name.clone(),
                (Some(name), Some(_)) => format!("{name} {number}"),
                (None, _) => format!("Report {id}"),
            };
            let info = ReportInfo::new(id, name, new.format, new.size)?;
            self.insert(Entry {
                fields: new.extra.clone(),
                omit: new.omit.clone(),
                hidden: new.after_lists,
                described: new.count.is_none(),
                ..Entry::new(info.clone(), &instance)
            });
            added.push(info);
        }
        Ok(added)
    }

    /// Removes a report; returns whether there was one.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let age = self.ages.remove(id);
        age.is_some_and(|age| self.reports.remove(&age).is_some())
    }

    /// The same for one that has to be the instance's.
    pub(crate) fn remove_from(&mut self, instance: &str, id: &str) -> bool {
        let own = self.entry(id).is_some_and(|entry| entry.instance == instance);
        own && self.remove(id)
    }

    pub(crate) fn has_instance(&self, id: &str) -> bool {
        self.instances.iter().any(|instance| instance.id == id)
    }

    fn insert_instance(&mut self, id: String, name: &str, status: &str, new: &NewInstances) {
        let zone = format!("{}a", self.region);
        let mut fields = json!({
            "charge_model": "Period",
            "comment": null,
            "config_num": 1,
            "connect_ip": "192.168.0.10",
            "connect_ipv6": "fd00::10",
            "cpu": 4,
            "created": "2026-01-01 08:00:00",
            "database_limit": 3,
            "effect": null,
            "expired": "2027-01-01 08:00:00",
            "id": id,
            "keep_days": "0",
            "name": name,
            "new_version": null,
            "port_id": "00000000-0000-0000-0000-000000000001",
            "ram": 16,
            "region": self.region,
            "remain_days": "361",
            "resource_id": "00000000000000000000000000000002",
            "resource_spec_code": "dbss.bypassaudit.low",
            "scene": "",
            "security_group_id": "00000000-0000-0000-0000-000000000003",
            "specification": "4U16G",
            "status": status,
            "subnet_id": "00000000-0000-0000-0000-000000000004",
            "task": "NO_TASK",
            "version": "25.10.0",
            "vpc_id": "00000000-0000-0000-0000-000000000005",
            "zone": zone,
            "audit_mode": {"level": 2, "hosts": [null]},
        });
        overlay(&mut fields, &new.extra, &new.omit);
        let Value::Object(fields) = fields else {
            unreachable!("it is an object");
        };
        self.instances.push(Instance { id, fields });
    }

    /// Adds instances; returns their ids.
    pub(crate) fn add_instances(&mut self, new: &NewInstances) -> Result<Vec<String>, String> {
        if new.count.is_some() && new.id.is_some() {
            return Err("id: only without count".to_owned());
        }
        let mut ids = Vec::new();
        for number in 1..=new.count.unwrap_or(1) {
            let id = new.id.clone().unwrap_or_else(random_uuid);
            if self.has_instance(&id) {
                return Err("id: there is one of this id already".to_owned());
            }
            let name = new.name.as_deref().unwrap_or("audit");
            let name = match new.count {
                Some(_) => format!("{name} {number}"),
                None => name.to_owned(),
            };
            let status = new.status.as_deref().unwrap_or("ACTIVE");
            self.insert_instance(id.clone(), &name, status, new);
            ids.push(id);
        }
        Ok(ids)
    }

    /// Removes an instance and returns whether there was one. Its reports wait for its return.
    pub(crate) fn remove_instance(&mut self, id: &str) -> bool {
        let before = self.instances.len();
        self.instances.retain(|instance| instance.id != id);
        self.instances.len() < before
    }

    pub(crate) fn set_generation(&mut self, generation: Generation) -> Result<(), String> {
        ReportInfo::new("any", "any", generation.format, generation.size)?;
        self.generation = generation;
        Ok(())
    }

    pub(crate) fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    pub(crate) fn set_paging(&mut self, paging: Paging) {
        self.paging = paging;
        self.pages = 0;
    }

    pub(crate) fn set_shapes(&mut self, shapes: Shapes) {
        self.shapes = shapes;
    }

    pub(crate) fn unknown_template(&self) -> UnknownTemplate {
        self.generation.unknown_template
    }

    pub(crate) fn templates(&self) -> &[Template] {
        &self.templates
    }

    pub(crate) fn template(&self, id: &str) -> Option<Template> {
        self.templates.iter().find(|template| template.id == id).cloned()
    }

    pub(crate) fn template_items(&self) -> Vec<Value> {
        self.templates.iter().map(Template::item).collect()
    }

    /// Lists databases, the same of all instances, of one status if it is given; and how many
    /// there are.
    pub(crate) fn databases(&self, status: Option<&str>, skip: usize, take: usize) -> (Vec<Value>, usize) {
        let all = [("orders", "ON"), ("billing 账单", "ON"), ("archive", "OFF")];
        let items: Vec<Value> = all
            .iter()
            .enumerate()
            .filter(|(_, database)| status.is_none_or(|status| status == database.1))
            .map(|(i, (name, status))| database_item(i, name, status))
            .collect();
        let total = items.len();
        (items.into_iter().skip(skip).take(take).collect(), total)
    }

    /// The schedule of a template: the one that a client set, or the first one.
    pub(crate) fn schedule(&self, instance: &str, template: &Template) -> Map<String, Value> {
        let key = (instance.to_owned(), template.id.clone());
        let set = self.schedules.get(&key).cloned();
        set.unwrap_or_else(|| template.schedule())
    }

    pub(crate) fn set_schedule(&mut self, instance: &str, template: &str, schedule: Map<String, Value>) {
        let key = (instance.to_owned(), template.to_owned());
        self.schedules.insert(key, schedule);
    }

    /// Begins to make a report, and those that others make meanwhile.
    pub(crate) fn make(&mut self, order: &CreateRequest) -> Result<(), String> {
        let stamp = service_time(OffsetDateTime::now_utc()).replace(['-', ' ', ':'], "");
        let name = format!("{}_{stamp}", order.template.name);
        let foreign = self.generation.foreign.clone();
        let before = |fields: &&Map<String, Value>| fields.get("before") == Some(&Value::Bool(true));
        for fields in foreign.iter().filter(before) {
            let id = self.make_one(order, &name, Some(fields))?;
            self.foreign.push(id);
        }
        let id = self.make_one(order, &name, None)?;
        self.made.push(id);
        for fields in foreign.iter().filter(|fields| !before(fields)) {
            let id = self.make_one(order, &name, Some(fields))?;
            self.foreign.push(id);
        }
        Ok(())
    }

    fn make_one(
        &mut self,
        order: &CreateRequest,
        name: &str,
        other: Option<&Map<String, Value>>,
    ) -> Result<String, String> {
        let generation = &self.generation;
        let id = random_hex(16);
        let name = other
            .and_then(|fields| fields.get("name")?.as_str())
            .unwrap_or(name);
        let info = ReportInfo::new(&id, name, generation.format, generation.size)?;
        let duration = Duration::from_millis(generation.duration_ms.unwrap_or_default());
        let end = OffsetDateTime::now_utc().checked_add(duration.try_into().unwrap_or(time::Duration::ZERO));
        let growth = match generation.duration_ms {
            Some(_) => Growth::ByTime {
                since: Instant::now(),
                duration,
                steps: generation.steps.max(1),
            },
            None => Growth::ByList {
                percent: 0,
                step: generation.percent_per_list,
                shown: false,
            },
        };
        let mut fields = order.fields.clone();
        fields.insert("type".to_owned(), json!("AUDIT_REPORT_REAL_TIME"));
        fields.insert("template_type".to_owned(), json!(order.template.kind));
        fields.extend(other.cloned().unwrap_or_default());
        fields.remove("before");
        let hidden = generation.appear_after_lists;
        self.insert(Entry {
            fields,
            growth,
            finish_time: end.map(service_time).unwrap_or_default(),
            hidden,
            ..Entry::new(info, order.instance)
        });
        Ok(id)
    }

    /// The ids of the reports made for clients, and of those that others made meanwhile.
    pub(crate) fn made(&self) -> (&[String], &[String]) {
        (&self.made, &self.foreign)
    }

    /// Lists reports, the youngest first, and lets time pass.
    pub(crate) fn list(&mut self, instance: &str, name: &str, skip: usize, take: usize) -> Page {
        for entry in self.reports.values_mut() {
            if entry.instance == instance {
                entry.grow();
            }
        }
        let matching = self
            .reports
            .values()
            .rev()
            .filter(|entry| entry.instance == instance && entry.hidden == 0)
            .filter(|entry| entry.info.name.contains(name));
        let matching: Vec<&Entry> = matching.collect();
        let page = Page::of(
            matching.len(),
            |at| matching[at].item(),
            true,
            (skip, take),
            &self.paging,
            self.pages,
        );
        for entry in self.reports.values_mut() {
            if entry.instance == instance {
                entry.hidden = entry.hidden.saturating_sub(1);
            }
        }
        self.listed();
        page
    }

    /// Lists instances, the oldest first.
    pub(crate) fn list_instances(&mut self, skip: usize, take: usize) -> Page {
        let page = Page::of(
            self.instances.len(),
            |at| Value::Object(self.instances[at].fields.clone()),
            false,
            (skip, take),
            &self.paging,
            self.pages,
        );
        self.listed();
        page
    }

    /// Lets reports and instances vanish after so many more lists.
    pub(crate) fn delete_after(&mut self, lists: u64, ids: HashSet<String>) {
        self.deletions.push(Deletion { lists, ids });
        self.vanish();
    }

    fn listed(&mut self) {
        self.pages += 1;
        for deletion in &mut self.deletions {
            deletion.lists = deletion.lists.saturating_sub(1);
        }
        self.vanish();
    }

    fn vanish(&mut self) {
        let (due, waiting) = std::mem::take(&mut self.deletions)
            .into_iter()
            .partition(|deletion| deletion.lists == 0);
        self.deletions = waiting;
        let due: Vec<Deletion> = due;
        for id in due.iter().flat_map(|deletion| &deletion.ids) {
            self.remove(id);
            self.remove_instance(id);
        }
    }
}

/// A time as the service writes it.
fn service_time(time: OffsetDateTime) -> String {
    let (date, hour, minute, second) = (time.date(), time.hour(), time.minute(), time.second());
    format!("{date} {hour:02}:{minute:02}:{second:02}")
}

/// Random, in the form of an instance's id.
pub(crate) fn random_uuid() -> String {
    let hex = random_hex(16);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}
