// Package dbss downloads the audit reports of Huawei Cloud's Database Security Service.
//
//	client, err := dbss.NewClient(dbss.WithRegion("cn-north-4"), dbss.WithCredentials("default"))
//	...
//	defer client.Close()
//	path, err := client.DownloadReportToFile(ctx, instanceID, reportID, "reports/")
//
// It is a layer on libdbss, whose archive is in the module and is linked with cgo. A client
// may be used by any number of goroutines. When the context of a call ends, the call ends
// within 250 ms, with an error that [errors.Is] the context's; only the file system, or your
// own code that the call runs, such as a writer or a progress function, can delay that.
//
// A call that waits occupies a thread of the system. Go ends a program that has 10,000
// threads, see [runtime/debug.SetMaxThreads]; limit the calls that run at a time.
//
// An error is an [*Error]. A callback that panics makes its call panic with the same value,
// but without the stack of the callback: to see that, recover in the callback and log it.
// The logger's handler must not call [runtime.Goexit].
package dbss

import (
	"context"
	"runtime"
	"sync"
	"time"

	"example.com/dbss/internal/abi"
)

const fileReplace = abi.FileReplace

// Version returns the version of libdbss, such as "0.1.0".
func Version() string { return abi.Version() }

// HasFeature reports whether libdbss has a feature, such as "download".
func HasFeature(name string) bool { return abi.HasFeature(name) != 0 }

// Client is a client of the service, with its credentials and its connections, which stay
// open between calls. Make one with [NewClient] and share it.
//
// The garbage collector closes a client, a list or a stream that is forgotten, unless one of
// its functions refers to it, such as a token provider that is a method of the client's owner:
// libdbss refers to these functions. Close such a client or stream.
type Client struct {
	_        noCopy
	context  *resource[abi.Context]
	provider *provider
	logs     bool
}

// NewClient makes a client. It sends no request, but reads files and the environment: the
// trusted certificates, the endpoint of a region, and the credentials that
// [WithCredentials] names.
//
// Errors: [ErrArgument] and its group, such as [ErrNotConfigured] without a region and an
// endpoint; [ErrFile] if a file cannot be read.
func NewClient(options ...Option) (*Client, error) {
	settings := clientSettings{}
	for i, option := range options {
		if err := checkOption(option, i); err != nil {
			return nil, err
		}
		option.applyClient(&settings)
	}
	for _, kind := range settings.kinds {
		if first := settings.kinds[0]; kind != first {
			return nil, newError(ErrArgument, "", first+" and "+kind+" exclude each other; give one of them")
		}
	}
	config, failure := abi.ConfigNew()
	if failure != nil {
		return nil, errorFrom(failure, nil)
	}
	defer abi.ConfigFree(config)
	c := &Client{provider: settings.provider, logs: settings.logger != nil}
	failure = settings.steps.run(config)
	if failure == nil && c.logs {
		failure = abi.ConfigSetLog(config, logTo(settings.logger))
	}
	if failure != nil {
		return nil, errorFrom(failure, nil)
	}
	// Without an operation: the call cannot be cancelled, but its log may panic.
	k := &call{client: c, ctx: context.Background(), settings: &callSettings{}}
	k.prepare()
	defer k.free()
	made, failure := abi.ContextNew(k.id, config)
	defer func() {
		// Its log panicked, although it was made.
		if c.context == nil {
			abi.ContextFree(made)
		}
	}()
	if err := k.finish(failure); err != nil {
		return nil, err
	}
	provider := c.provider
	c.context = newResource(made, func(context abi.Context) {
		if provider != nil {
			provider.cancel()
		}
		abi.ContextFree(context)
	}, nil)
	return c, nil
}

// Close closes the client: calls that run, and open streams, end with [ErrCancelled], and
// later ones fail with [ErrClosed]. It does not wait, and does nothing the second time.
func (c *Client) Close() error {
	defer runtime.KeepAlive(c)
	if err := c.made(); err != nil {
		return err
	}
	c.context.close(abi.ContextClose)
	// After the calls that wait for it: they were cancelled, and did not fail.
	if c.provider != nil {
		c.provider.cancel()
	}
	return nil
}

// CancelAll cancels all calls of the client that run, including open streams: they end with
// [ErrCancelled]. Calls that start later are not affected.
func (c *Client) CancelAll() {
	defer runtime.KeepAlive(c)
	if c.made() != nil {
		return
	}
	if context, ok := c.context.acquire(); ok {
		defer c.context.release()
		abi.ContextCancelAll(context)
	}
}

// SetToken replaces the credentials by a token, 1 to 98304 visible ASCII characters, for
// all requests that start later, also those of running calls.
//
// Errors: [ErrInvalidToken], [ErrClosed].
func (c *Client) SetToken(token string) error {
	defer runtime.KeepAlive(c)
	if err := c.made(); err != nil {
		return err
	}
	context, ok := c.context.acquire()
	if !ok {
		return closedError("client")
	}
	defer c.context.release()
	if failure := abi.ContextSetToken(context, token); failure != nil {
		return errorFrom(failure, map[string]string{"token": "token"})
	}
	return nil
}

// Check checks that the service accepts the credentials; it downloads and changes nothing.
//
// Errors: [ErrUnauthenticated], [ErrForbidden], and those of [Client.DownloadReport].
func (c *Client) Check(ctx context.Context, options ...CallOption) error {
	return c.run(ctx, options, 0, func(k *call) *abi.Failure {
		return abi.ContextCheck(k.id, k.context, k.settings.project, k.operation)
	})
}

// Credentials describes the credentials of a client; it contains no secret.
type Credentials struct {
	// "token", "access_key", "token_provider", "iam_user", "environment", "profile",
	// "metadata", "oidc", "federation", "pod_identity" or "agency"; there may be others.
	Source string
	// The same in words, with the variable, file or address.
	Description string
	// The user's name, or the access key with its middle masked; empty if it is unknown.
	Name string
	// The default project of calls; empty if it is unknown without a look-up.
	ProjectID string
	// When they expire; zero if they do not, or if it is unknown.
	ExpiresAt time.Time
}

// FindCredentials finds the credentials that a call would use now, as a call does: it may
// call the token provider, log in, or fetch a temporary key.
//
// Errors: [ErrNotConfigured], [ErrNoToken], [ErrInvalidCredentials], [ErrService] and its
// group from IAM, [ErrNetwork] and its group, [ErrFile].
func (c *Client) FindCredentials(ctx context.Context, options ...CallOption) (Credentials, error) {
	var found Credentials
	err := c.run(ctx, options, 0, func(k *call) *abi.Failure {
		handle, failure := abi.ContextFindCredentials(k.id, k.context, k.operation)
		defer abi.CredentialsFree(handle)
		f := abi.ReadCredentials(handle)
		found = Credentials{Source: f.Source, Description: f.Description, Name: f.Name, ProjectID: f.Project}
		if f.ExpiresMs >= 0 {
			found.ExpiresAt = time.UnixMilli(f.ExpiresMs)
		}
		return failure
	})
	return found, err
}

// Format is the format of a report, by its first bytes.
type Format int32

// The formats.
const (
	FormatUnknown Format = abi.FormatUnknown // neither of these
	FormatPDF     Format = abi.FormatPDF     // the first bytes are "%PDF-"
	FormatZIP     Format = abi.FormatZIP     // the first bytes are "PK" and the signature of a ZIP record
)

// String returns "pdf", "zip" or "unknown".
func (f Format) String() string {
	switch f {
	case FormatPDF:
		return "pdf"
	case FormatZIP:
		return "zip"
	}
	return "unknown"
}

// Progress is the progress of a call.
type Progress struct {
	// The bytes that have arrived, including those before a resumption.
	Received int64
	// The size of the report in bytes; -1 if it is unknown.
	Total int64
	// The bytes that a resumption saved.
	Resumed int64
	// The number of requests so far.
	Attempts int
	// The progress of the service in generating a report, or the part of the reports of a
	// mirror that are finished, in percent; -1 if it is unknown.
	Percent int
}

// Result is what a call found out; see [WithResult].
type Result struct {
	Progress
	// Where the report was saved; empty if it was not.
	Path string
	// A safe form of the report's own name, its header Content-Type, the service's id of
	// the request; empty until the report has begun to arrive.
	Filename, ContentType, RequestID string
	// The format of the report.
	Format Format
}

func newResult(f abi.OperationFields) Result {
	progress := Progress{f.Received, f.Total, f.Resumed, int(f.Attempts), int(f.Percent)}
	return Result{progress, f.Path, f.Filename, f.ContentType, f.RequestID, Format(f.Format)}
}

// call is a call of libdbss that runs, or a stream.
type call struct {
	client   *Client
	ctx      context.Context
	settings *callSettings
	// What it calls the options of its structure, such as a [ReportSpec]; nil for none.
	names     map[string]string
	context   abi.Context
	operation abi.Operation
	// What its callbacks find it by; 0 if it has none.
	id abi.Call
	// Ends the watch on the context.
	unwatch func() bool
	// Held while the operation is cancelled or freed.
	cancelling sync.Mutex
	freed      bool

	// What a callback did.
	callbackErr error
	panicked    bool
	panicValue  any
}

func (k *call) prepare() {
	if k.client.logs || k.settings.progress != nil {
		k.id = abi.NewCall(k)
	}
}

// newCall begins a call, which must be freed.
func (c *Client) newCall(ctx context.Context, settings *callSettings) (*call, error) {
	if err := c.made(); err != nil {
		return nil, err
	}
	if ctx == nil {
		return nil, nilError("ctx", "must not be nil; use context.Background() for none")
	}
	k := &call{client: c, ctx: ctx, settings: settings}
	if settings.result != nil {
		*settings.result = Result{Progress: Progress{Total: -1, Percent: -1}}
	}
	if reason := ctx.Err(); reason != nil {
		return nil, k.contextError(newError(ErrCancelled, "", "the context ended before the call"), reason)
	}
	context_, ok := c.context.acquire()
	if !ok {
		return nil, closedError("client")
	}
	k.context = context_
	k.prepare()
	// A panic of the logger cancels the operation.
	if ctx.Done() == nil && !c.logs && len(settings.steps) == 0 && settings.progress == nil && settings.result == nil {
		return k, nil
	}
	var failure *abi.Failure
	if k.operation, failure = abi.OperationNew(); failure == nil {
		failure = k.configure()
	}
	if failure != nil {
		k.free()
		return nil, errorFrom(failure, nil)
	}
	if ctx.Done() != nil {
		k.unwatch = context.AfterFunc(ctx, k.cancel)
	}
	return k, nil
}

func (k *call) configure() *abi.Failure {
	if failure := k.settings.steps.run(k.operation); failure != nil || k.settings.progress == nil {
		return failure
	}
	return abi.OperationSetProgress(k.operation, k.onProgress)
}

func (k *call) cancel() {
	k.cancelling.Lock()
	defer k.cancelling.Unlock()
	if k.operation != nil && !k.freed {
		abi.OperationCancel(k.operation)
	}
}

// free releases what the call has. The stream that uses its operation is freed before.
func (k *call) free() {
	if k.unwatch != nil {
		k.unwatch()
	}
	if k.settings.result != nil && k.operation != nil {
		*k.settings.result = newResult(abi.ReadOperation(k.operation))
	}
	k.cancelling.Lock()
	k.freed = true
	abi.OperationFree(k.operation)
	k.cancelling.Unlock()
	k.id.Delete()
	if k.context != nil {
		k.client.context.release()
	}
}

// errorFrom converts an error of the call, or of none for nil.
func (k *call) errorFrom(failure *abi.Failure) *Error {
	switch {
	case failure == nil || k == nil:
		return errorFrom(failure, nil)
	case Status(failure.Status) == ErrNoToken && k.client.provider != nil:
		return errorFrom(failure, k.client.provider.names)
	}
	return errorFrom(failure, k.names)
}

// finish returns the error of the call, or panics as a callback did.
func (k *call) finish(failure *abi.Failure) error {
	if k.panicked {
		k.panicked = false
		if k.panicValue == nil {
			runtime.Goexit()
		}
		panic(k.panicValue)
	}
	err := k.errorFrom(failure)
	switch {
	case k.callbackErr != nil:
		if err == nil {
			err = newError(ErrCancelled, "", "a callback ended the call")
		}
		err.causes = append(err.causes, k.callbackErr)
	case err == nil:
		return nil
	case err.CancelledBy == CancelledByContext:
		if reason := k.ctx.Err(); reason != nil {
			return k.contextError(err, reason)
		}
	case err.Status == ErrNoToken && k.client.provider != nil:
		k.client.provider.explain(err)
	}
	return err
}

func (k *call) contextError(err *Error, reason error) error {
	err.CancelledBy = CancelledByContext
	// The same error twice does no harm. A context of the user's may have errors that
	// cannot be compared.
	err.causes = append(err.causes, reason, context.Cause(k.ctx))
	return err
}

// onProgress calls the function for progress; anything but 0 ends the call.
func (k *call) onProgress(operation abi.Operation) int32 {
	progress := newResult(abi.ReadOperation(operation)).Progress
	done := make(chan struct{})
	// On another goroutine, because on this one runtime.Goexit would skip frames of C.
	go func() {
		defer close(done)
		k.panicked = true
		defer func() { k.panicValue = recover() }()
		k.callbackErr = k.settings.progress(progress)
		k.panicked = false
	}()
	<-done
	if k.panicked || k.callbackErr != nil {
		return 1
	}
	return 0
}

// run runs a call from its options to its error.
func (c *Client) run(ctx context.Context, options []CallOption, allowed parameter, f func(*call) *abi.Failure) error {
	settings, err := newCallSettings(options, allowed)
	if err != nil {
		return err
	}
	return c.runWith(ctx, settings, f)
}

func (c *Client) runWith(ctx context.Context, settings *callSettings, f func(*call) *abi.Failure) error {
	defer runtime.KeepAlive(c)
	k, err := c.newCall(ctx, settings)
	if err != nil {
		return err
	}
	defer k.free()
	return k.finish(f(k))
}

// made returns an error for a client that NewClient has not made.
func (c *Client) made() error {
	if c == nil || c.context == nil {
		return nilError("client", "has no connection to libdbss; make it with NewClient")
	}
	return nil
}

func closedError(what string) *Error {
	return newError(ErrClosed, what, "the "+what+" is closed")
}

func nilError(parameter, what string) *Error {
	return newError(ErrNullArgument, parameter, parameter+": "+what)
}
