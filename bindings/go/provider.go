package dbss

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"example.com/dbss/internal/abi"
)

// Token is a token, and when it expires. Neither fmt, a log nor JSON shows the token, with one
// exception: fmt prints all of a Token in a field that is not exported, such as that of a
// cache, because it calls no method there. [encoding/gob] writes all of it too.
type Token struct {
	// 1 to 98304 visible ASCII characters.
	Value string
	// When it expires, by the clock of this machine; zero if that is unknown.
	ExpiresAt time.Time
}

// Format writes neither the token nor a part of it.
func (t Token) Format(state fmt.State, _ rune) { fmt.Fprintf(state, "{*** %s}", t.ExpiresAt) }

// MarshalText returns what Format writes, also for JSON. It cannot be read back.
func (t Token) MarshalText() ([]byte, error) { return []byte(fmt.Sprint(t)), nil }

// LogValue is the value for a log, without the token.
func (t Token) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(t)) }

// TokenProvider returns a token; refused tells whether the service rejected the last one.
// See [WithTokenProvider].
type TokenProvider func(ctx context.Context, refused bool) (Token, error)

// PasscodeProvider returns a passcode; refused tells whether IAM refused the last login. See
// [WithPasscodeProvider].
type PasscodeProvider func(ctx context.Context, refused bool) (string, error)

func (p PasscodeProvider) asTokens(ctx context.Context, refused bool) (Token, error) {
	passcode, err := p(ctx, refused)
	return Token{Value: passcode}, err
}

type provider struct {
	provide TokenProvider
	// What it calls that which it returns.
	names  map[string]string
	ctx    context.Context
	cancel context.CancelFunc

	// Held while a request is completed, so that calls see its failure.
	mu sync.Mutex
	// The last failures, as calls that waited for them may return later.
	failures []providerFailure
}

type providerFailure struct {
	reason     string
	err        error
	panicValue any
}

func newProvider(provide TokenProvider, names map[string]string) *provider {
	p := &provider{provide: provide, names: names}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// request answers on another goroutine, so that the call can be cancelled meanwhile.
func (p *provider) request(request abi.TokenRequest) { go p.serve(request) }

func (p *provider) serve(request abi.TokenRequest) {
	// A request that is not completed, after runtime.Goexit, counts as failed.
	defer abi.TokenRequestFree(request)
	defer func() {
		if value := recover(); value != nil {
			reason := fmt.Sprintf("the provider panicked: %v", value)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.fail(request, reason, nil, value)
		}
	}()
	token, err := p.provide(p.ctx, abi.ReadTokenRequest(request).Refused != 0)
	if err != nil {
		reason := err.Error()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.fail(request, reason, err, nil)
		return
	}
	expires := int64(-1)
	if !token.ExpiresAt.IsZero() {
		expires = unixMilliseconds(token.ExpiresAt)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := errorFrom(abi.TokenRequestSet(request, token.Value, expires), p.names); err != nil {
		p.fail(request, err.Message, err, nil)
	}
}

// unixMilliseconds converts a time for C; the nearest one for a time that is out of range. A
// time before 1970 has expired like 1970 itself; -1 would mean unknown.
func unixMilliseconds(value time.Time) int64 {
	switch seconds := value.Unix(); {
	case seconds < 0:
		return 0
	case seconds >= math.MaxInt64/1000:
		return math.MaxInt64
	}
	return value.UnixMilli()
}

// fail completes a request, unless libdbss has done so with the same reason. It needs the lock.
func (p *provider) fail(request abi.TokenRequest, reason string, err error, panicValue any) {
	reason = printable(reason)
	if len(p.failures) == 16 {
		p.failures = p.failures[1:]
	}
	p.failures = append(p.failures, providerFailure{reason, err, panicValue})
	abi.TokenRequestFail(request, &reason)
}

// printable returns the beginning of a text as libdbss repeats it, which is up to 512 bytes.
func printable(text string) string {
	var line strings.Builder
	for _, r := range text {
		if !unicode.IsPrint(r) || r == '\u2800' || unicode.In(r, deceptive...) {
			r = ' '
		}
		if line.Len()+utf8.RuneLen(r) > 500 {
			break
		}
		line.WriteRune(r)
	}
	if strings.TrimSpace(line.String()) == "" {
		return "no reason given"
	}
	return line.String()
}

// Characters that libdbss replaces, as it does those that cannot be printed.
var deceptive = []*unicode.RangeTable{unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector}

// explain adds to an error what the provider failed with, or panics as it did.
func (p *provider) explain(err *Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.failures) - 1; i >= 0; i-- {
		failure := p.failures[i]
		if !strings.HasSuffix(err.Message, " provider failed: "+failure.reason) {
			continue
		}
		if failure.panicValue != nil {
			panic(failure.panicValue)
		}
		err.causes = append(err.causes, failure.err)
		return
	}
}
