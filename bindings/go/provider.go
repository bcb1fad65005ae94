package dbss

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"

	"example.com/dbss/internal/abi"
)

// Token is a token, and when it expires. It does not print the token.
type Token struct {
	// 1 to 98304 visible ASCII characters.
	Value string
	// When it expires, by the clock of this machine; zero if that is unknown.
	ExpiresAt time.Time
}

// Format writes neither the token nor a part of it.
func (t Token) Format(state fmt.State, _ rune) { fmt.Fprintf(state, "{*** %s}", t.ExpiresAt) }

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

	// The last failure. Held while a request is completed, so that calls see its reason.
	mu     sync.Mutex
	reason string
	// The reason in the words of this package.
	shown      string
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
		// A time before 1970 has expired like 1970 itself; -1 would mean unknown.
		expires = max(0, token.ExpiresAt.UnixMilli())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if failure := abi.TokenRequestSet(request, token.Value, expires); failure != nil {
		reason, err := failure.Message, errorFrom(failure, p.names)
		p.fail(request, reason, err, nil)
		p.shown = err.Message
	}
}

// fail completes a request, unless libdbss has done so with the same reason. The caller
// holds the lock.
func (p *provider) fail(request abi.TokenRequest, reason string, err error, panicValue any) {
	reason = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(reason, "\uFFFD"))
	// libdbss repeats 512 bytes of it.
	for len(reason) > 500 {
		runes := []rune(reason)
		reason = string(runes[:len(runes)-1])
	}
	p.reason, p.shown, p.err, p.panicValue = reason, reason, err, panicValue
	abi.TokenRequestFail(request, &reason)
}

// explain adds to an error what the provider failed with, or panics as it did.
func (p *provider) explain(err *Error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reason == "" || !strings.Contains(err.Message, p.reason) {
		return
	}
	if p.panicValue != nil {
		panic(p.panicValue)
	}
	err.Message = strings.Replace(err.Message, p.reason, p.shown, 1)
	err.causes = append(err.causes, p.err)
}
