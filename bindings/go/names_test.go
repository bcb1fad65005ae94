package dbss_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/dbss"
)

// failure returns the error of a call as what it is.
func failure(t testing.TB, err error) *dbss.Error {
	t.Helper()
	var failed *dbss.Error
	if !errors.As(err, &failed) {
		t.Fatalf("not an Error: %v", err)
	}
	return failed
}

func TestErrorsSpeakOfWhatAUserOfGoWrites(t *testing.T) {
	client := newClient(t)
	made := func(options ...dbss.Option) error {
		_, err := dbss.NewClient(append([]dbss.Option{dbss.WithEndpoint(mock.HTTP)}, options...)...)
		return err
	}
	id, report := mock.InstanceID, mock.Reports[0].ID
	download := func(instanceID, reportID string, options ...dbss.CallOption) error {
		_, err := client.DownloadReport(background, instanceID, reportID, options...)
		return err
	}
	mirror := func(options dbss.MirrorOptions) error {
		_, err := client.Mirror(background, t.TempDir(), options)
		return err
	}
	unconfigured, err := dbss.NewClient(dbss.WithEndpoint(mock.HTTP), dbss.WithProjectID(mock.ProjectID))
	check(t, err)
	defer unconfigured.Close()
	existing := filepath.Join(t.TempDir(), "report")
	check(t, os.WriteFile(existing, nil, 0o600))
	decimal := fs.FileMode(0o1130) // 600 in decimal
	cases := map[string]struct {
		parameter, message string
		err                error
	}{
		"report":    {"reportID", "reportID: must have 16 to 64 characters", download(id, "")},
		"instance":  {"instanceID", "instanceID: must have 32 to 64", download("", report)},
		"project":   {"WithProjectID", "WithProjectID: must have 32", download(id, report, dbss.WithProjectID("x"))},
		"locale":    {"WithLocale", `WithLocale: must be one of en-us, zh-cn, but is "ca_file"`, download(id, report, dbss.WithLocale("ca_file"))},
		"NUL":       {"reportID", "reportID: must not hold a NUL", download(id, report+"\x00")},
		"template":  {"templateID", "templateID: must have", client.UpdateSchedule(background, id, "x", dbss.ScheduleChanges{Status: "ON"})},
		"spec":      {"TemplateID", "TemplateID: is missing", client.CreateReport(background, id, dbss.ReportSpec{})},
		"start":     {"StartTime", "StartTime: is missing", client.CreateReport(background, id, dbss.ReportSpec{TemplateID: report})},
		"changes":   {"Status", "Status: must be one of ON, OFF", client.UpdateSchedule(background, id, report, dbss.ScheduleChanges{Status: "on "})},
		"mirror":    {"InstanceID", "InstanceID: must have", mirror(dbss.MirrorOptions{InstanceID: "x"})},
		"mirror 2":  {"Since", `Since: must be a day such as 2026-11-24, but is "x"`, mirror(dbss.MirrorOptions{Since: "x"})},
		"mirror 3":  {"Name", "Name: must have 1 to 256", mirror(dbss.MirrorOptions{Name: strings.Repeat("x", 257)})},
		"mirror 4":  {"Until", "Until: is before", mirror(dbss.MirrorOptions{Since: "2026-12-01", Until: "2026-11-01"})},
		"mirror 5":  {"Options", `Options: there is no option "instance_id"; did you mean InstanceID?`, mirror(dbss.MirrorOptions{Options: map[string]string{"instance_id": id}})},
		"mirror 6":  {"Options", "Options: must not hold a NUL", mirror(dbss.MirrorOptions{Options: map[string]string{"a\x00": ""}})},
		"spec 2":    {"Options", `Options: there is no option "colour"`, client.CreateReport(background, id, dbss.ReportSpec{Options: map[string]string{"colour": ""}})},
		"changes 2": {"Options", `Options: there is no option "colour"`, client.UpdateSchedule(background, id, report, dbss.ScheduleChanges{Options: map[string]string{"colour": ""}})},
		"endpoint":  {"WithEndpoint", "WithEndpoint: must not be empty", made(dbss.WithEndpoint(""))},
		"endpoints": {"WithEndpoint", "urls[1] of WithEndpoint: must not be empty", made(dbss.WithEndpoint(mock.HTTP, ""))},
		"comma":     {"WithEndpoint", "urls[0] of WithEndpoint: must not hold a comma", made(dbss.WithEndpoint("https://a,https://b", mock.HTTP))},
		"too many":  {"WithEndpoint", "WithEndpoint: must have at most 16 URLs, but has 17", made(dbss.WithEndpoint(strings.Split(strings.Repeat(mock.HTTP+" ", 16)+mock.HTTP, " ")...))},
		"no limit":  {"WithTotalTimeout", "WithTotalTimeout: must be from 1ms to 720h0m0s, or NoLimit for no limit, but is 0s", download(id, report, dbss.WithTotalTimeout(0))},
		"too short": {"WithStallTimeout", "WithStallTimeout: must be from 1ms to 24h0m0s, or NoLimit for no limit, but is -5s", made(dbss.WithStallTimeout(-5 * time.Second))},
		"too long":  {"WithPollInterval", "WithPollInterval: must be from 1ms to 24h0m0s, but is 48h0m0s", made(dbss.WithPollInterval(48 * time.Hour))},
		"as text":   {"WithTotalTimeout", `must be a whole number from 1 to 2592000000, or -1 for no limit, but is "0"`, made(dbss.WithOption("total_timeout_ms", "0"))},
		"mode":      {"WithFileMode", "WithFileMode: must be from 0o600 to 0o777, such as 0o640, but is 0o1130", made(dbss.WithFileMode(decimal))},
		"mode 2":    {"WithFileMode", `must be octal digits from 600 to 777, such as 640, but is "1130"`, made(dbss.WithOption("file_mode", "1130"))},
		"number":    {"WithMaxAttempts", "WithMaxAttempts: must be a whole number from 1 to 1000, but is 0", made(dbss.WithMaxAttempts(0))},
		"number 2":  {"WithMaxAttempts", `from 1 to 1000, but is "0"`, made(dbss.WithOption("max_attempts", "0"))},
		"key":       {"key", `key: there is no option "stall_timeout"; did you mean WithStallTimeout?`, download(id, report, dbss.WithOption("stall_timeout", "1"))},
		"key 2":     {"key", `key: there is no option "max_atempts"; did you mean WithMaxAttempts?`, made(dbss.WithOption("max_atempts", "1"))},
		"key 3":     {"key", `key: there is no option "proxy"; it is an option of a client, not of one call`, download(id, report, dbss.WithOption("proxy", "1"))},
		"key 4":     {"key", `key: there is no option "colour"`, made(dbss.WithOption("colour", ""))},
		"secret":    {"WithSecretKey", "WithSecretKey: is missing: WithAccessKey is configured and needs it", made(dbss.WithAccessKey("AK"))},
		"user":      {"WithIAMPassword", "logs in with WithIAMUser, WithIAMPassword and WithIAMDomain", made(dbss.WithIAMUser("u"), dbss.WithRegion("cn-north-4"))},
		"none":      {"WithCredentials", `or WithCredentials to "default" to use`, unconfigured.Check(background)},
		"plaintext": {"WithEndpoint", "use https, or set WithAllowPlaintext", made(dbss.WithEndpoint("http://192.0.2.1"), dbss.WithToken("t"))},
		"token":     {"token", "token: must not be empty", client.SetToken("")},
		"token 2":   {"WithToken", "WithToken: ", made(dbss.WithToken(""))},
		"memory":    {"", "and WithMaxMemoryBytes is 1; raise the limit", download(id, report, dbss.WithMaxMemoryBytes(1))},
		"stall":     {"", "longer than WithStallTimeout (50ms)", download(id, mock.silent(t), dbss.WithStallTimeout(50*time.Millisecond), dbss.WithMaxAttempts(1))},
	}
	for name, one := range cases {
		failed := failure(t, one.err)
		if !strings.Contains(failed.Message, one.message) || (one.parameter != "" && failed.Parameter != one.parameter) {
			t.Errorf("%s: %s: %s", name, failed.Parameter, failed.Message)
		}
	}
	for _, size := range []int{-1, 1 << 31} {
		_, err := client.Instances(background, dbss.WithPageSize(size)).Collect()
		failed := failure(t, err)
		if failed.Status != dbss.ErrInvalidValue || failed.Parameter != "WithPageSize" || strings.Contains(failed.Message, "2147483647") {
			t.Errorf("%s: %s", failed.Parameter, failed.Message)
		}
	}
	_, err = client.DownloadReportToFile(background, id, report, existing)
	if failed := failure(t, err); !strings.Contains(failed.Message, "exists already; use WithReplace(), or") {
		t.Error(failed)
	}
	file, err := os.Open(existing)
	check(t, err)
	defer file.Close()
	if failed := failure(t, client.DownloadReportTo(background, file, id, report)); failed.Parameter != "w" {
		t.Error(failed)
	}
	client.Close()
	if failed := failure(t, client.Check(background)); failed.Parameter != "client" {
		t.Error(failed)
	}
}

func TestTextsOfOthersStayAsTheyAre(t *testing.T) {
	client := newClient(t)
	id, text := "names-0123456789", "set max_attempts or ca_file of the context, not NULL, and allow replacing it"
	mock.fault(t, id, object{"status": 400, "json": object{"error_code": "DBSS.1", "error_msg": text}})
	_, err := client.DownloadReport(background, mock.InstanceID, id)
	if failed := failure(t, err); !strings.Contains(failed.Message, text) {
		t.Error(failed)
	}
	mine := errors.New("set max_attempts please")
	failing := func(context.Context, bool) (dbss.Token, error) { return dbss.Token{}, mine }
	client, err = dbss.NewClient(dbss.WithEndpoint(mock.HTTP), dbss.WithProjectID(mock.ProjectID), dbss.WithTokenProvider(failing))
	check(t, err)
	defer client.Close()
	if err := client.Check(background); !errors.Is(err, mine) || !strings.Contains(failure(t, err).Message, mine.Error()) {
		t.Error(err)
	}
}

func TestLogSpeaksOfWhatAUserOfGoWrites(t *testing.T) {
	var log bytes.Buffer
	client := newClient(t, dbss.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), dbss.WithMaxAttempts(1))
	_, err := client.DownloadReport(background, mock.InstanceID, mock.silent(t), dbss.WithStallTimeout(50*time.Millisecond))
	message := failure(t, err).Message
	if !strings.Contains(message, "WithStallTimeout (50ms)") || !strings.Contains(log.String(), ": "+message+`"`) {
		t.Errorf("%s: %s", message, &log)
	}
}

func TestTokenOfAProviderIsNamed(t *testing.T) {
	for message, token := range map[string]dbss.Token{
		"the token provider failed: Token.Value: must not be empty":                                             {},
		"the token provider failed: Token.Value: must not hold a NUL byte":                                      {Value: "a\x00b"},
		"the token provider failed: Token.Value: contains a space or tab at":                                    {Value: "a b"},
		"Token.ExpiresAt: is in the past, so the token has expired; use time.Time{} if the expiry is not known": {Value: "t", ExpiresAt: time.Unix(1, 0)},
	} {
		provide := func(context.Context, bool) (dbss.Token, error) { return token, nil }
		client, err := dbss.NewClient(dbss.WithEndpoint(mock.HTTP), dbss.WithProjectID(mock.ProjectID), dbss.WithTokenProvider(provide))
		check(t, err)
		defer client.Close()
		if failed := failure(t, client.Check(background)); failed.Status != dbss.ErrNoToken || !strings.Contains(failed.Message, message) {
			t.Error(failed)
		}
	}
}

func TestNilIsAnErrorThatNamesIt(t *testing.T) {
	client := newClient(t)
	id, report := mock.InstanceID, mock.Reports[0].ID
	var none context.Context
	var file *os.File
	var zero dbss.Client
	var missing *dbss.Client
	var stream dbss.ReportStream
	var list dbss.List[dbss.Report]
	var noList *dbss.List[dbss.Report]
	opened, err := client.OpenReport(background, id, report)
	check(t, err)
	defer opened.Close()
	second := func(_ any, err error) error { return err }
	cases := map[string]struct {
		parameter string
		err       error
	}{
		"option":         {"options", second(dbss.NewClient(dbss.WithToken("t"), nil))},
		"empty option":   {"options", second(dbss.NewClient(dbss.WithToken("t"), dbss.Setting{}))},
		"empty setting":  {"options", client.Check(background, dbss.Setting{})},
		"call option":    {"options", client.Check(background, nil)},
		"stream option":  {"options", second(client.OpenReport(background, id, report, nil))},
		"list option":    {"options", second(client.Instances(background, nil).Collect())},
		"context":        {"ctx", client.Check(none)},
		"stream context": {"ctx", second(client.OpenReport(none, id, report))},
		"list context":   {"ctx", second(client.Instances(none).Collect())},
		"writer":         {"w", client.DownloadReportTo(background, nil, id, report)},
		"file":           {"w", client.DownloadReportTo(background, file, id, report)},
		"stream writer":  {"w", second(opened.WriteTo(nil))},
		"provider":       {"WithTokenProvider", second(dbss.NewClient(dbss.WithTokenProvider(nil)))},
		"passcodes":      {"WithPasscodeProvider", second(dbss.NewClient(dbss.WithPasscodeProvider(nil)))},
		"zero client":    {"client", zero.Check(background)},
		"zero token":     {"client", zero.SetToken("t")},
		"zero stream":    {"client", second(zero.OpenReport(background, id, report))},
		"zero list":      {"client", second(zero.Instances(background).Collect())},
		"zero file":      {"client", zero.DownloadReportTo(background, os.Stdout, id, report)},
		"zero close":     {"client", zero.Close()},
		"no client":      {"client", missing.Check(background)},
		"not opened":     {"stream", second(io.ReadAll(&stream))},
		"not to close":   {"stream", stream.Close()},
		"not a list":     {"list", second(list.Collect())},
		"no list":        {"list", noList.Err()},
	}
	for name, one := range cases {
		failed := failure(t, one.err)
		if failed.Status != dbss.ErrNullArgument || failed.Parameter != one.parameter || !strings.HasPrefix(failed.Message, one.parameter+": ") {
			t.Errorf("%s: %+v", name, failed)
		}
	}
	if message := failure(t, zero.Check(background)).Message; !strings.Contains(message, "make it with NewClient") {
		t.Error(message)
	}
	zero.CancelAll()
	if list.Next() || noList.Next() || list.Total() != -1 || list.Item().ID != "" {
		t.Error("a list of nothing has items")
	}
	// These are as if they were not given.
	var logger *slog.Logger
	quiet := newClient(t, dbss.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))), dbss.WithLogger(logger))
	check(t, quiet.Check(background, dbss.WithProgress(nil), dbss.WithResult(nil)))
}

func TestDurationOutOfRangeIsShownAsGoWritesIt(t *testing.T) {
	options := map[string]func(time.Duration) dbss.Option{
		"WithAgencyDuration: must be from 15m0s to 24h0m0s": dbss.WithAgencyDuration,
		"WithTotalTimeout: must be from 1ms to 720h0m0s, or NoLimit for no limit": func(value time.Duration) dbss.Option {
			return dbss.WithTotalTimeout(value)
		},
		"WithMaxRetryAfter: must be from 0s to 24h0m0s": dbss.WithMaxRetryAfter,
	}
	values := []time.Duration{
		math.MinInt64, -48 * time.Hour, -time.Second, -time.Millisecond, -time.Microsecond, -2,
		999 * time.Hour, 999*time.Hour + 1, math.MaxInt64 / 1e6 * 1e6, math.MaxInt64,
	}
	for message, option := range options {
		for _, value := range values {
			_, err := dbss.NewClient(option(value))
			if failed := failure(t, err); failed.Message != message+", but is "+value.String() {
				t.Errorf("%v: %s", value, failed.Message)
			}
		}
	}
	_, err := dbss.NewClient(dbss.WithMaxRetryAfter(dbss.NoLimit))
	if failed := failure(t, err); !strings.HasSuffix(failed.Message, ", but is NoLimit") {
		t.Error(failed.Message)
	}
	_, err = dbss.NewClient(dbss.WithAgencyDuration(15*time.Minute + 500*time.Millisecond))
	if failed := failure(t, err); failed.Message != "WithAgencyDuration: must be whole seconds, but is 15m0.5s" {
		t.Error(failed.Message)
	}
}
