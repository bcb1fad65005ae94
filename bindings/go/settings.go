package dbss

import (
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"example.com/dbss/internal/abi"
)

// Option is an option of [NewClient]. If two set the same, only the last is used, and checked.
type Option interface{ applyClient(*clientSettings) }

// CallOption is an option of one call. If two set the same, only the last is used, and
// checked. An option that does not apply to the call, such as [WithPageSize] to a download,
// fails with [ErrArgument].
type CallOption interface{ applyCall(*callSettings) }

// Setting is an option for a client, and for one call, where it overrides the client's.
type Setting struct {
	key string
	// Not the text itself, which fmt would print in a field that is not exported.
	value func() string
	// From WithOption: among credentials the last ones count, as in C.
	raw bool
	// The value of a duration as Go writes it, for messages.
	duration string
}

func newSetting(key, value string) Setting {
	return Setting{key: key, value: func() string { return value }}
}

func newDuration(key string, value time.Duration) Setting {
	setting := newSetting(key, durationText(value))
	if setting.duration = value.String(); value == NoLimit {
		setting.duration = "NoLimit"
	}
	return setting
}

// Format writes the key alone: the value may be a secret.
func (s Setting) Format(state fmt.State, _ rune) { fmt.Fprintf(state, "{%s ***}", s.key) }

func (s Setting) applyClient(c *clientSettings) {
	if kind := credentialKinds[s.key]; kind != "" && !s.raw {
		c.kinds = append(c.kinds, kind)
	}
	c.steps.add(s.key, func(config abi.Config) *abi.Failure {
		return s.refused(abi.ConfigSet(config, s.key, s.value()))
	})
}

func (s Setting) applyCall(c *callSettings) {
	if s.key == "project_id" {
		project := s.value()
		c.project = &project
		return
	}
	c.steps.add(s.key, func(operation abi.Operation) *abi.Failure {
		return s.refused(abi.OperationSet(operation, s.key, s.value()))
	})
}

// checkOption refuses what is no option.
func checkOption(option any, index int) error {
	if option == nil {
		return nilError("options", fmt.Sprintf("has a nil at index %d", index))
	}
	if setting, ok := option.(Setting); ok && setting.value == nil {
		return nilError("options", fmt.Sprintf("has an empty Setting at index %d; make it with WithOption", index))
	}
	return nil
}

// steps set options of an object of libdbss, in order.
type steps[H any] []step[H]

type step[H any] struct {
	key string
	set func(H) *abi.Failure
}

// add adds a step, in place of an earlier one with the same key.
func (s *steps[H]) add(key string, set func(H) *abi.Failure) {
	var kept steps[H]
	for _, one := range *s {
		if one.key != key {
			kept = append(kept, one)
		}
	}
	*s = append(kept, step[H]{key, set})
}

func (s steps[H]) run(object H) *abi.Failure {
	for _, one := range s {
		if failure := one.set(object); failure != nil {
			return failure
		}
	}
	return nil
}

// NoLimit is no limit, for the options that allow it.
const NoLimit time.Duration = -1

// WithProjectID sets the id of the project, 32 to 64 characters. Without it, the project is
// that of the credentials, or the one with the region's name, which is looked up once.
func WithProjectID(value string) Setting { return newSetting("project_id", value) }

type clientOption func(*clientSettings)

func (f clientOption) applyClient(c *clientSettings) { f(c) }

type clientSettings struct {
	steps    steps[abi.Config]
	kinds    []string
	logger   *slog.Logger
	provider *provider
}

// What excludes each other, by the keys of the options.
var credentialKinds = map[string]string{
	"token": "a token", "access_key": "an access key", "secret_key": "an access key",
	"security_token": "an access key", "iam_user": "an IAM user", "iam_password": "an IAM user",
	"iam_domain": "an IAM user", "iam_user_id": "an IAM user", "credentials": "credentials to be found",
}

// WithEndpoint sets the URL of the service instead of the region's, or up to 16 in the order
// of preference: if one cannot be reached, the next one is tried, and used from then on.
// Without a scheme it is https.
func WithEndpoint(urls ...string) Option {
	return clientOption(func(c *clientSettings) {
		c.steps.add("endpoint", func(config abi.Config) *abi.Failure {
			for i, url := range urls {
				failure := abi.ConfigSet(config, "endpoint", url)
				// C would read a URL with a comma as two.
				if strings.Contains(url, ",") {
					failure = abi.NewFailure(int32(ErrInvalidEndpoint), "endpoint", abi.Part{Text: "WithEndpoint: must not hold a comma"})
				}
				if failure == nil {
					continue
				}
				if len(urls) > 1 {
					failure.Parts = append([]abi.Part{{Text: fmt.Sprintf("urls[%d] of ", i)}}, failure.Parts...)
				}
				return failure
			}
			return abi.ConfigSet(config, "endpoint", strings.Join(urls, ","))
		})
	})
}

// WithOption sets an option by its key and its value as text, also one that is newer than
// this package; include/dbss.h has all of them, and those that one call takes. Among
// credentials the last ones count. Do not set "interruptible": the runtime of Go handles
// signals all the time.
func WithOption(key, value string) Setting {
	setting := newSetting(key, value)
	setting.raw = true
	return setting
}

// WithLogger sends the log records of the client's calls to a logger, with the context of
// the call, on its goroutine. No record holds a secret. [WithLogLevel] selects records
// before they are made. A nil logger is none.
//
// A record has those of these attributes that are known: "report_id", "request_id" (the
// service's), "attempt" (the number of the request within the call), "http_status", "bytes"
// (the size of the body), "offset" (where a transfer broke or continues), "duration" (of the
// call so far), "retry_delay" (until the next attempt); and about a failure "status", such as
// "DBSS_ERR_NOT_FOUND", and "error", an [*Error].
func WithLogger(logger *slog.Logger) Option {
	return clientOption(func(c *clientSettings) { c.logger = logger })
}

// WithTokenProvider sets a function that provides tokens, instead of other credentials. It
// is called when the first call needs a token, before a token expires, and when the service
// has rejected the last one. It runs once for all calls that wait, on a goroutine of its
// own; each call keeps its own context and timeouts. Its context ends when the client is
// closed. Its error is a cause of the [ErrNoToken] of these calls, and they panic if it does.
func WithTokenProvider(provide TokenProvider) Option {
	return clientOption(func(c *clientSettings) {
		c.kinds = append(c.kinds, "a token provider")
		c.provide("WithTokenProvider", provide == nil, newProvider(provide, tokenNames), abi.ConfigSetTokenProvider)
	})
}

// WithPasscodeProvider sets a function that provides passcodes of the MFA device of
// [WithIAMUserID]. It is called before each login, as that of [WithTokenProvider] is; each
// passcode is sent once. After a rejected login the next call logs in again with a new
// passcode, so a wrong password is sent again.
func WithPasscodeProvider(provide PasscodeProvider) Option {
	return clientOption(func(c *clientSettings) {
		c.kinds = append(c.kinds, "an IAM user")
		c.provide("WithPasscodeProvider", provide == nil, newProvider(provide.asTokens, passcodeNames), abi.ConfigSetPasscodeProvider)
	})
}

func (c *clientSettings) provide(
	name string, isNil bool, p *provider, set func(abi.Config, abi.TokenProviderFn) *abi.Failure,
) {
	c.provider = p
	c.steps.add(name, func(config abi.Config) *abi.Failure {
		if isNil {
			return abi.NewFailure(int32(ErrNullArgument), name, abi.Part{Text: name + ": must not be nil"})
		}
		return set(config, p.request)
	})
}

type parameter uint8

const (
	takesLocale parameter = 1 << iota
	takesReplace
	takesPageSize
	takesName
	takesStatus
)

var callOptionNames = map[parameter]string{
	takesLocale: "WithLocale", takesReplace: "WithReplace", takesPageSize: "WithPageSize",
	takesName: "WithNameFilter", takesStatus: "WithStatusFilter",
}

type callOption struct {
	what  parameter
	apply func(*callSettings)
}

func (o callOption) applyCall(c *callSettings) {
	c.given |= o.what
	o.apply(c)
}

type callSettings struct {
	steps                         steps[abi.Operation]
	given                         parameter
	project, locale, name, status *string
	pageSize, flags               uint32
	progress                      func(Progress) error
	result                        *Result
	failure                       *Error
}

func newCallSettings(options []CallOption, allowed parameter) (*callSettings, error) {
	settings := &callSettings{}
	for i, option := range options {
		if err := checkOption(option, i); err != nil {
			return nil, err
		}
		option.applyCall(settings)
	}
	if wrong := settings.given &^ allowed; wrong != 0 {
		name := callOptionNames[wrong&-wrong]
		return nil, newError(ErrArgument, name, name+": does not apply to this call")
	}
	if settings.failure != nil {
		return nil, settings.failure
	}
	return settings, nil
}

// WithLocale sets the language of a report: "en-us", which is the default, or "zh-cn".
func WithLocale(locale string) CallOption {
	return callOption{takesLocale, func(c *callSettings) { c.locale = &locale }}
}

// WithReplace lets [Client.DownloadReportToFile] replace an existing file, atomically, when
// the new one is complete.
func WithReplace() CallOption {
	return callOption{takesReplace, func(c *callSettings) { c.flags |= fileReplace }}
}

// WithPageSize sets how many items of a list a request fetches: 1 to 1000, for databases
// 1 to 10000; 0 for the default, 100.
func WithPageSize(size int) CallOption {
	return callOption{takesPageSize, func(c *callSettings) {
		// C refuses what is out of range, unless it does not fit.
		if c.pageSize, c.failure = uint32(size), nil; size < 0 || size > 1<<31-1 {
			text := fmt.Sprintf("WithPageSize: must be 1 to 1000, for databases 1 to 10000, or 0 for 100, but is %d", size)
			c.failure = newError(ErrInvalidValue, "WithPageSize", text)
		}
	}}
}

// WithNameFilter lets [Client.Reports] list only reports whose name contains a text, as the
// service searches; 1 to 256 bytes.
func WithNameFilter(name string) CallOption {
	return callOption{takesName, func(c *callSettings) { c.name = &name }}
}

// WithStatusFilter lets [Client.Databases] list only those that are "ON" or "OFF".
func WithStatusFilter(status string) CallOption {
	return callOption{takesStatus, func(c *callSettings) { c.status = &status }}
}

// WithProgress calls a function when the call starts, at least ten times a second while it
// runs, even if no bytes arrive, and when all have arrived. If it returns an error, the
// call ends with it as a cause; if it panics, the call panics. It runs on another goroutine
// while the call waits for it. A nil function is none.
func WithProgress(progress func(Progress) error) CallOption {
	return callOption{0, func(c *callSettings) { c.progress = progress }}
}

// WithResult fills a Result when the call is over, also if it failed; for a stream, when it
// is closed, or collected as garbage, and no read runs any more. A nil result is none.
func WithResult(result *Result) CallOption {
	return callOption{0, func(c *callSettings) { c.result = result }}
}

// Texts of values for C. What is out of range is refused there.

func durationText(value time.Duration) string {
	switch {
	case value == NoLimit:
		return "-1"
	case value < 0:
		return value.String()
	}
	// A limit is not made shorter, and never zero.
	whole := value / time.Millisecond
	if value%time.Millisecond != 0 {
		whole++
	}
	return strconv.FormatInt(int64(whole), 10)
}

func sizeText(value int64) string { return strconv.FormatInt(value, 10) }

func modeText(value fs.FileMode) string { return fmt.Sprintf("%o", uint32(value)) }
