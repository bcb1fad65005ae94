//! The driver of the conformance suite for the Rust API. tests/conformance/README.md
//! describes what it reads and prints.

mod call;
mod json;

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use dbss::{Client, Operation, ReportStream, TokenRequest};
use serde_json::{Value, json};

use json::{Failure, Outcome, bytes, elements, log_fields, operation_fields, text};

#[derive(Default)]
struct Driver {
    clients: Mutex<HashMap<String, Client>>,
    streams: Mutex<HashMap<String, Arc<ReportStream>>>,
    /// The operations of calls, by the ids of their requests.
    operations: Mutex<HashMap<String, Arc<Operation>>>,
    /// Requests of providers that are never answered.
    held: Arc<Mutex<Vec<TokenRequest>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic before")
}

/// Prints one line, which flushes it.
fn print(line: &Value) {
    println!("{line}");
}

fn respond(id: &Value, outcome: Outcome, operation: Option<&Operation>) {
    let mut line = json!({"id": id});
    match outcome {
        Ok(result) => {
            line["status"] = "DBSS_OK".into();
            line["result"] = result;
        }
        Err(Failure::Unsupported(what)) => line["unsupported"] = what.into(),
        Err(Failure::Failed(error, result)) => {
            line["status"] = error.status().name().into();
            line["error"] = json::error_fields(&error);
            if let Some(result) = result {
                line["result"] = result;
            }
        }
    }
    if let Some(operation) = operation {
        line["operation"] = operation_fields(operation);
    }
    print(&line);
}

/// A function that answers requests for tokens or passcodes, in the order of the list.
fn provider(
    client: &str,
    answers: &Value,
    held: &Arc<Mutex<Vec<TokenRequest>>>,
) -> impl Fn(TokenRequest) + Send + Sync + 'static {
    let client = client.to_owned();
    let answers = elements(answers).to_vec();
    let held = Arc::clone(held);
    let asked = AtomicUsize::new(0);
    move |request| {
        let number = asked.fetch_add(1, Ordering::SeqCst);
        let Some(answer) = answers.get(number).or(answers.last()) else {
            return;
        };
        let event = json!({"event": "asked", "client": client, "refused": request.is_after_refusal()});
        if answer["hold"] == true {
            lock(&held).push(request);
            print(&event);
            return;
        }
        print(&event);
        answer_request(request, answer);
    }
}

fn answer_request(request: TokenRequest, answer: &Value) {
    if let Ok(reason) = text(&answer["fail"]) {
        // Only a second answer is an error.
        request.fail(&reason).expect("the first answer");
        return;
    }
    let Ok(secret) = bytes(&answer["token"]).or_else(|_| bytes(&answer["passcode"])) else {
        return;
    };
    let expires = answer["expires_in_ms"].as_i64().map(|ms| {
        let life = Duration::from_millis(ms.unsigned_abs());
        match ms {
            0.. => SystemTime::now() + life,
            _ => SystemTime::now() - life,
        }
    });
    // A wrong token fails the call, which tells why.
    let _ = request.set(secret, expires);
}

impl Driver {
    fn configure(&self, name: &str, request: &Value) -> Outcome {
        lock(&self.clients).remove(name);
        let mut builder = Client::builder();
        if let Some(level) = request["log"].as_str() {
            let name = name.to_owned();
            builder = builder.option("log_level", level).log(move |record| {
                let mut line = log_fields(record);
                line["event"] = "log".into();
                line["client"] = name.as_str().into();
                print(&line);
            });
        }
        for setting in elements(&request["settings"]) {
            let key = text(&setting[0])?;
            builder = match (&*key, &request["passcodes"]) {
                ("iam_user_id", answers @ Value::Array(_)) => {
                    builder.passcode_provider(&text(&setting[1])?, provider(name, answers, &self.held))
                }
                _ => builder.option(&key, bytes(&setting[1])?),
            };
        }
        if let answers @ Value::Array(_) = &request["token_provider"] {
            builder = builder.token_provider(provider(name, answers, &self.held));
        }
        lock(&self.clients).insert(name.to_owned(), builder.build()?);
        Ok(json!({}))
    }

    fn client(&self, name: &str) -> Result<Client, Failure> {
        let client = lock(&self.clients).get(name).cloned();
        client.ok_or_else(|| Failure::Unsupported(format!("a client {name}")))
    }

    /// Makes a call, and prints its outcome.
    fn call(&self, request: &Value, client: Result<Client, Failure>, operation: Option<&Arc<Operation>>) {
        let id = &request["id"];
        let outcome = client.and_then(|mut client| {
            if let Some(operation) = operation {
                set_up(operation, id, &request["operation"])?;
                client = client.with_operation(operation);
            }
            match (request["call"].as_str(), operation) {
                (Some("look"), Some(_)) => Ok(json!({})),
                (Some("reset"), Some(operation)) => Ok(operation.reset().map(|()| json!({}))?),
                _ => self.make(&client, request),
            }
        });
        respond(id, outcome, operation.map(Arc::as_ref));
    }

    /// Does what a request says; returns the thread of a call that goes on.
    fn handle(self: &Arc<Driver>, request: Value) -> Option<JoinHandle<()>> {
        let name = request["client"].as_str().unwrap_or("client").to_owned();
        let outcome = match request["do"].as_str() {
            Some("configure") => self.configure(&name, &request),
            Some("call") => {
                let of = lock(&self.operations)
                    .get(&request["operation"]["of"].to_string())
                    .cloned();
                let is_under_one = request["operation"].is_object();
                let operation = of.or_else(|| is_under_one.then(Operation::new));
                if let Some(operation) = &operation {
                    lock(&self.operations).insert(request["id"].to_string(), Arc::clone(operation));
                }
                // Before the next request, which may free it.
                let client = self.client(&name);
                let is_background = request["background"] == true;
                let driver = Arc::clone(self);
                let call = move || driver.call(&request, client, operation.as_ref());
                if is_background {
                    return Some(thread::spawn(call));
                }
                call();
                return None;
            }
            Some("cancel") => {
                if let Some(operation) = lock(&self.operations).get(&request["of"].to_string()) {
                    operation.cancel();
                }
                Ok(json!({}))
            }
            Some("answer") => match lock(&self.held).pop() {
                Some(held) => {
                    answer_request(held, &request["answer"]);
                    Ok(json!({}))
                }
                None => Err(Failure::Unsupported("an answer to nothing".to_owned())),
            },
            Some("cancel_all") => self.client(&name).map(|client| {
                client.cancel_all();
                json!({})
            }),
            Some("close") => self.client(&name).map(|client| {
                client.close();
                json!({})
            }),
            Some("free") => {
                lock(&self.clients).remove(&name);
                Ok(json!({}))
            }
            _ => Err(Failure::Unsupported(request["do"].to_string())),
        };
        respond(&request["id"], outcome, None);
        None
    }
}

/// Gives an operation its options and its progress.
fn set_up(operation: &Arc<Operation>, id: &Value, request: &Value) -> Result<(), Failure> {
    for setting in elements(&request["settings"]) {
        operation.set(&text(&setting[0])?, bytes(&setting[1])?)?;
    }
    let progress = &request["progress"];
    if !progress.is_null() {
        let (id, stop_after) = (id.clone(), progress["stop_after"].as_u64());
        operation.set_progress(move |operation| {
            let received = operation.received();
            let (total, percent) = (operation.total(), operation.percent());
            print(&json!({"event": "progress", "of": id, "received": received, "total": total, "percent": percent}));
            stop_after.is_none_or(|limit| received < limit)
        })?;
    }
    if request["cancelled"] == true {
        operation.cancel();
    }
    Ok(())
}

fn main() {
    // Else a panic on a thread would only leave a response out.
    let print_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print_panic(panic);
        std::process::abort();
    }));
    let driver = Arc::new(Driver::default());
    let mut threads = Vec::new();
    for line in io::stdin().lines() {
        let line = line.expect("text");
        threads.extend(driver.handle(serde_json::from_str(&line).expect("JSON")));
    }
    // What still runs ends; the rest is freed.
    for (_, client) in lock(&driver.clients).drain() {
        client.close();
    }
    for operation in lock(&driver.operations).values() {
        operation.cancel();
    }
    for thread in threads {
        thread.join().expect("no panic");
    }
}
