package dbss

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"example.com/dbss/internal/abi"
)

// Status says why a call failed. The constants, such as [ErrNotFound], are errors for
// [errors.Is]. A status that is newer than this package belongs to a group too.
type Status int32

// Error returns the name of the status in C, such as "DBSS_ERR_NOT_FOUND".
func (s Status) Error() string {
	if name, known := statusNames[s]; known {
		return name
	}
	return "DBSS_ERR_UNKNOWN"
}

// Is reports whether the status is in a group, or means an error such as [fs.ErrExist].
func (s Status) Is(target error) bool {
	switch target {
	case fs.ErrExist:
		return s == ErrFileExists
	case fs.ErrClosed:
		return s == ErrClosed
	}
	group, ok := target.(Status)
	return ok && group == s.Group()
}

// Group returns the status that stands for the group of this one, such as [ErrService].
func (s Status) Group() Status { return s / 100 * 100 }

// Detail is an entry of the "details" in a response of the service.
type Detail struct {
	Code    string // its error code; "" if it has none
	Message string // its message; "" if it has none
}

// CancelledBy tells what cancelled a call.
type CancelledBy int32

// What cancels a call. Newer versions may add values.
const (
	CancelledByContext  CancelledBy = abi.CancelledByOperation // the context of the call
	CancelledByClient   CancelledBy = abi.CancelledByContext   // [Client.CancelAll]
	CancelledByClose    CancelledBy = abi.CancelledByClose     // closing the client or the stream
	CancelledByCallback CancelledBy = abi.CancelledByCallback  // the function of [WithProgress]
)

// String returns "context", "client", "close" or "callback", and "nothing" for 0.
func (c CancelledBy) String() string {
	switch c {
	case 0:
		return "nothing"
	case CancelledByContext:
		return "context"
	case CancelledByClient:
		return "client"
	case CancelledByClose:
		return "close"
	case CancelledByCallback:
		return "callback"
	}
	return "CancelledBy(" + strconv.Itoa(int(c)) + ")"
}

// Error is the error of a call. No text in it contains a secret.
//
// [errors.Is] compares it with a [Status] or its group; with [context.Canceled] or
// [context.DeadlineExceeded] if the context ended the call; with [fs.ErrExist],
// [fs.ErrNotExist] and other errors of the system; with [fs.ErrClosed] after Close; with
// [os.ErrDeadlineExceeded] after a timeout; and with the error that a callback returned.
// [errors.As] finds the Status.
type Error struct {
	// Why the call failed.
	Status Status
	// One line for people: what was wrong and what to do.
	Message string
	// The parameter, field or option at fault, by its name in this package, such as
	// "reportID", "StartTime" or "WithTotalTimeout"; empty for none.
	Parameter string
	// The HTTP status of the response; 0 without a response.
	HTTPStatus int
	// The service's own code and message, and its id of the request; empty for none. The
	// message may contain control characters.
	ServiceCode, ServiceMessage, RequestID string
	// The encoded message that explains a refused authorization; empty for none.
	EncodedAuthorizationMessage string
	// The entries of "details" in the response.
	Details []Detail
	// What cancelled the call, for [ErrCancelled]; else 0.
	CancelledBy CancelledBy
	// The ids of the reports that may be the created one, for [ErrAmbiguous]; one if
	// [Client.GenerateReport] failed after it found the report.
	Candidates []string
	// Where the service redirected to, for [ErrRedirected].
	RedirectTarget string
	// The file or directory at fault; empty for none.
	Path string
	// The error of the operating system; 0 for none.
	Errno syscall.Errno
	// Whether the cause is temporary, so that the same call may succeed later.
	Retryable bool
	// The wait that the service requests before the next attempt; -1 for none.
	RetryAfter time.Duration
	// The number of requests before the call gave up.
	Attempts int

	causes []error
}

// Error returns the message, with what caused the error outside of libdbss.
func (e *Error) Error() string {
	text := "dbss: " + e.Message
	if len(e.causes) > 0 {
		// A message that libdbss made of it has it already.
		if cause := e.causes[0].Error(); !strings.Contains(text, strings.TrimPrefix(cause, "dbss: ")) {
			text += ": " + cause
		}
	}
	return text
}

// Unwrap returns the status and the causes: the error of the context, of a callback, of the
// system.
func (e *Error) Unwrap() []error {
	errs := append([]error{e.Status}, e.causes...)
	if e.Errno != 0 {
		errs = append(errs, e.Errno)
	}
	return errs
}

// Is reports whether the error is [os.ErrDeadlineExceeded], as [Error.Timeout] tells.
func (e *Error) Is(target error) bool {
	return target == os.ErrDeadlineExceeded && e.Timeout()
}

// Timeout reports whether one of the timeouts of the call elapsed.
func (e *Error) Timeout() bool {
	switch e.Status {
	case ErrConnectTimeout, ErrStalled, ErrTotalTimeout, ErrNotReady:
		return true
	}
	return errors.Is(errors.Join(e.causes...), context.DeadlineExceeded)
}

func newError(status Status, parameter, message string) *Error {
	return &Error{Status: status, Message: message, Parameter: parameter, RetryAfter: -1}
}

// errorFrom converts an error of libdbss, with the names of this package: those in `own`, and
// the usual ones. It is nil for nil.
func errorFrom(f *abi.Failure, own map[string]string) *Error {
	if f == nil {
		return nil
	}
	var details []Detail
	for _, one := range f.Details {
		details = append(details, Detail(one))
	}
	return &Error{
		Status:                      Status(f.Status),
		Message:                     messageHere(f.Parts, own),
		Parameter:                   nameHere(f.Parameter, own),
		HTTPStatus:                  int(f.HTTPStatus),
		ServiceCode:                 f.ServiceCode,
		ServiceMessage:              f.ServiceMessage,
		RequestID:                   f.RequestID,
		EncodedAuthorizationMessage: f.EncodedAuthorizationMessage,
		Details:                     details,
		CancelledBy:                 CancelledBy(f.CancelledBy),
		Candidates:                  f.Candidates,
		RedirectTarget:              f.RedirectTarget,
		Path:                        f.Path,
		Errno:                       syscall.Errno(f.OSCode),
		Retryable:                   f.IsRetryable != 0,
		RetryAfter:                  milliseconds(f.RetryAfterMs),
		Attempts:                    int(f.Attempts),
	}
}

// milliseconds converts a duration from C; -1 stays -1.
func milliseconds(value int64) time.Duration {
	if value < 0 {
		return -1
	}
	if value > int64(1<<63-1)/int64(time.Millisecond) {
		return 1<<63 - 1
	}
	return time.Duration(value) * time.Millisecond
}
