//! What a signature must cover, and how old it may be.

use dbss_mock::MockService;

use crate::common::{Call, path};

struct Case(MockService);

impl Case {
    fn call(&self) -> Call {
        let target = path(&self.0, &self.0.pdf().id) + "?local=zh-cn";
        Call::new("GET", &target)
            .header("X-Project-Id", self.0.project_id())
            .header("X-Mark", "1")
    }

    fn signed(&self, ago: i64) -> Call {
        self.call().signed(self.0.access_key(), self.0.secret_key(), ago)
    }

    fn status(&self, call: &Call) -> u16 {
        call.send(self.0.http_url()).status
    }

    fn refused(&self, call: &Call, word: &str) {
        let reply = call.send(self.0.http_url());
        let error = reply.json();
        assert_eq!(
            (reply.status, error["error_code"].as_str()),
            (401, Some("APIG.0301")),
            "{word}"
        );
        assert!(error["error_msg"].as_str().unwrap().contains(word), "{error}");
    }
}

#[test]
fn signature_of_other_request_is_refused() {
    let case = Case(MockService::start().unwrap());
    let good = case.signed(0);
    assert_eq!(case.status(&good), 200);
    let spoilt = |spoil: &dyn Fn(&mut Call)| {
        let mut call = good.clone();
        spoil(&mut call);
        case.refused(&call, "signature does not match");
    };
    spoilt(&|call| call.target = call.target.replace("zh-cn", "en-us"));
    spoilt(&|call| call.target += "&x=");
    spoilt(&|call| call.target = call.target.replace(&case.0.pdf().id, &case.0.zip().id));
    spoilt(&|call| call.headers[1].1 = "2".to_owned());
    spoilt(&|call| call.body = "x".to_owned());
    let mut with_body = case.call();
    with_body.body = "a body".to_owned();
    let mut with_body = with_body.signed(case.0.access_key(), case.0.secret_key(), 0);
    assert_eq!(case.status(&with_body), 200);
    with_body.body = "A body".to_owned();
    case.refused(&with_body, "signature does not match");
    // Another method is refused for its own sake, so another call has to show it.
    let call = Call::new("HEAD", "/v3/projects").signed(case.0.access_key(), case.0.secret_key(), 0);
    let other = Call {
        method: "GET".to_owned(),
        ..call
    };
    assert_eq!(other.send(case.0.iam_url()).status, 401);
}

#[test]
fn unknown_or_wrong_key_is_refused() {
    let case = Case(MockService::start().unwrap());
    let (access, secret) = (case.0.access_key(), case.0.secret_key());
    case.refused(
        &case.call().signed(access, "other", 0),
        "signature does not match",
    );
    case.refused(&case.call().signed("other", secret, 0), "unknown access key");
    let unsigned = case.signed(0).header("X-Security-Token", "t");
    case.refused(&unsigned, "x-security-token is sent but not signed");
    let other = "0".repeat(32);
    let elsewhere = Call::new("GET", &path(&case.0, &case.0.pdf().id))
        .header("X-Project-Id", &other)
        .signed(access, secret, 0);
    case.refused(&elsewhere, "x-project-id");
}

#[test]
fn signature_is_valid_within_15_minutes() {
    let case = Case(MockService::start().unwrap());
    // Half a minute is more than a request takes on a loaded machine.
    for ago in [0, 870, -870] {
        assert_eq!(case.status(&case.signed(ago)), 200, "{ago}");
    }
    for ago in [930, -930, 86_400, -86_400] {
        case.refused(&case.signed(ago), "too far from the clock");
    }
}
