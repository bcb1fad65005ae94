package dbss_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/dbss"
)

// panicOf returns the value with which a function panics.
func panicOf(f func()) (value any) {
	defer func() { value = recover() }()
	f()
	return nil
}

func TestProgressTellsOfTheTransfer(t *testing.T) {
	client := newClient(t)
	report := mock.addReport(t, object{"format": "pdf", "size": 1 << 20})
	var last dbss.Progress
	var result dbss.Result
	_, err := client.DownloadReport(background, mock.InstanceID, report.ID, dbss.WithResult(&result),
		dbss.WithProgress(func(p dbss.Progress) error {
			last = p
			return nil
		}))
	check(t, err)
	if last.Received != 1<<20 || last.Total != 1<<20 || last.Attempts != 1 || last.Percent != -1 || result.Progress != last {
		t.Errorf("wrong progress: %+v, %+v", last, result)
	}
}

func TestProgressEndsACallWithItsError(t *testing.T) {
	client := newClient(t)
	mine := errors.New("mine")
	end := dbss.WithProgress(func(dbss.Progress) error { return mine })
	_, err := client.DownloadReport(background, mock.InstanceID, mock.Reports[0].ID, end)
	var failed *dbss.Error
	if !errors.Is(err, mine) || !errors.As(err, &failed) || failed.CancelledBy != dbss.CancelledByCallback {
		t.Errorf("not my error: %v", err)
	}
	if _, err := client.OpenReport(background, mock.InstanceID, mock.Reports[0].ID, end); !errors.Is(err, mine) {
		t.Errorf("not my error: %v", err)
	}
}

func TestPanicOfProgressReachesTheCaller(t *testing.T) {
	client := newClient(t)
	value := fmt.Errorf("a value")
	ends := dbss.WithProgress(func(dbss.Progress) error { panic(value) })
	for name, call := range map[string]func(){
		"download": func() { client.DownloadReport(background, mock.InstanceID, mock.Reports[0].ID, ends) },
		"open":     func() { client.OpenReport(background, mock.InstanceID, mock.Reports[0].ID, ends) },
		"list":     func() { client.Instances(background, ends).Collect() },
		"mirror":   func() { client.Mirror(background, t.TempDir(), dbss.MirrorOptions{}, ends) },
	} {
		if got := panicOf(call); got != value {
			t.Errorf("%s panics with %v", name, got)
		}
	}
	check(t, client.Check(background))
}

func TestGoexitOfProgressEndsTheCaller(t *testing.T) {
	client := newClient(t)
	returned, done := false, make(chan struct{})
	go func() {
		defer close(done)
		client.DownloadReport(background, mock.InstanceID, mock.Reports[0].ID, dbss.WithProgress(func(dbss.Progress) error {
			// As t.FailNow does.
			exit()
			return nil
		}))
		returned = true
	}()
	<-done
	if returned {
		t.Error("the call returned")
	}
	check(t, client.Check(background))
}

func TestCallbacksMayCallTheClient(t *testing.T) {
	var buffer bytes.Buffer
	client := newClient(t, dbss.WithLogger(slog.New(slog.NewTextHandler(&buffer, nil))))
	var nested error
	_, err := client.DownloadReport(background, mock.InstanceID, "missing-0123456789", dbss.WithProgress(func(dbss.Progress) error {
		nested = client.DeleteReport(background, mock.InstanceID, "other-0123456789")
		return nil
	}))
	for _, one := range []error{err, nested} {
		if !errors.Is(one, dbss.ErrNotFound) {
			t.Errorf("not missing: %v", one)
		}
	}
}

// contextHandler adds a value of the context to each record.
type contextHandler struct{ slog.Handler }

type traceKey struct{}

func (h contextHandler) Handle(ctx context.Context, record slog.Record) error {
	record.AddAttrs(slog.Any("trace", ctx.Value(traceKey{})))
	return h.Handler.Handle(ctx, record)
}

func TestLoggerGetsTheRecords(t *testing.T) {
	var buffer bytes.Buffer
	handler := slog.NewTextHandler(&buffer, &slog.HandlerOptions{Level: slog.LevelDebug})
	client := newClient(t, dbss.WithLogger(slog.New(contextHandler{handler})))
	id := "logged-0123456789"
	mock.fault(t, id, object{"status": 404, "headers": [][2]string{{"X-Request-Id", "the-id"}}})
	ctx := context.WithValue(background, traceKey{}, "the-trace")
	_, err := client.DownloadReport(ctx, mock.InstanceID, id)
	if !errors.Is(err, dbss.ErrNotFound) {
		t.Errorf("not missing: %v", err)
	}
	written := buffer.String()
	for _, part := range []string{"level=ERROR", "level=DEBUG", "report_id=" + id, "request_id=the-id", "http_status=404",
		"status=DBSS_ERR_NOT_FOUND", "attempt=1", "duration=", "trace=the-trace", "error="} {
		if !strings.Contains(written, part) {
			t.Errorf("no %s in %s", part, written)
		}
	}
	if strings.Contains(written, mock.Token) {
		t.Error("the token is in the log")
	}
}

type panickingHandler struct{ slog.Handler }

func (panickingHandler) Handle(context.Context, slog.Record) error { panic("from the log") }

func TestPanicOfTheLoggerReachesTheCaller(t *testing.T) {
	client := newClient(t, dbss.WithLogger(slog.New(panickingHandler{slog.Default().Handler()})))
	for i := 0; i < 3; i++ {
		if got := panicOf(func() { client.DownloadReport(background, mock.InstanceID, "missing-0123456789") }); got != "from the log" {
			t.Errorf("panics with %v", got)
		}
	}
}

// warnedHandler panics at the first warning.
type warnedHandler struct {
	slog.Handler
	warnings *atomic.Int32
}

func (h warnedHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

func (h warnedHandler) Handle(context.Context, slog.Record) error {
	if h.warnings.Add(1) == 1 {
		panic("from the log")
	}
	return nil
}

func TestPanicOfTheLoggerEndsACallWithoutACancelableContext(t *testing.T) {
	id := mock.addReport(t, object{"format": "pdf"}).ID
	mock.fault(t, id, object{"status": 503})
	var warnings atomic.Int32
	logger := slog.New(warnedHandler{slog.Default().Handler(), &warnings})
	client := newClient(t, dbss.WithLogger(logger), dbss.WithMaxAttempts(3))
	if got := panicOf(func() { client.DownloadReport(background, mock.InstanceID, id) }); got != "from the log" {
		t.Errorf("panics with %v", got)
	}
	if sent := len(mock.requests(t, id)); sent != 1 {
		t.Errorf("%d requests", sent)
	}
}

func TestStreamThatLostBytesToAPanicDoesNotEndWithEOF(t *testing.T) {
	for i := 0; i < 2; i++ {
		report := mock.addReport(t, object{"format": "pdf", "size": 1 << 20})
		mock.fault(t, report.ID, object{"reset_after": 300_000, "times": 1})
		var warnings atomic.Int32
		logger := slog.New(warnedHandler{slog.Default().Handler(), &warnings})
		client := newClient(t, dbss.WithLogger(logger))
		ctx, cancel := background, func() {}
		if i == 1 {
			ctx, cancel = context.WithCancel(background)
		}
		defer cancel()
		stream, err := client.OpenReport(ctx, mock.InstanceID, report.ID)
		check(t, err)
		defer stream.Close()
		panics := 0
		buffer := make([]byte, 100_000)
		for err == nil {
			if panicOf(func() { _, err = stream.Read(buffer) }) != nil {
				panics++
			}
		}
		var failed *dbss.Error
		if panics != 1 || !errors.As(err, &failed) || failed.CancelledBy != dbss.CancelledByCallback {
			t.Errorf("%d panics, then %v", panics, err)
		}
		if _, again := stream.Read(buffer); again != err {
			t.Errorf("%v, then %v", err, again)
		}
	}
}

func tokens(t *testing.T, provide dbss.TokenProvider) *dbss.Client {
	client, err := dbss.NewClient(dbss.WithEndpoint(mock.HTTP), dbss.WithProjectID(mock.ProjectID),
		dbss.WithTokenProvider(provide))
	check(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

func TestTokenProviderRunsOnceForAllCalls(t *testing.T) {
	var calls atomic.Int32
	client := tokens(t, func(_ context.Context, refused bool) (dbss.Token, error) {
		if calls.Add(1); refused {
			t.Error("refused at first")
		}
		return dbss.Token{Value: mock.Token, ExpiresAt: time.Now().Add(time.Hour)}, nil
	})
	var ended sync.WaitGroup
	for i := 0; i < 20; i++ {
		ended.Add(1)
		go func() {
			defer ended.Done()
			if err := client.Check(background); err != nil {
				t.Error(err)
			}
		}()
	}
	ended.Wait()
	if calls.Load() != 1 {
		t.Errorf("%d calls", calls.Load())
	}
	found, err := client.FindCredentials(background)
	check(t, err)
	if found.Source != "token_provider" || time.Until(found.ExpiresAt) < 59*time.Minute {
		t.Errorf("wrong credentials: %+v", found)
	}
}

func TestTokenProviderIsAskedAgainForARefusedToken(t *testing.T) {
	client := tokens(t, func(_ context.Context, refused bool) (dbss.Token, error) {
		if refused {
			return dbss.Token{Value: mock.Token}, nil
		}
		return dbss.Token{Value: "old"}, nil
	})
	check(t, client.Check(background))
}

func TestTokenMayExpireAtAnyTime(t *testing.T) {
	for _, one := range []struct {
		at   time.Time
		want error
	}{
		{time.Unix(1<<63-62135596801, 999_999_999), nil},
		{time.Unix(math.MaxInt64/1000+10, 0), nil},
		{time.Unix(math.MaxInt64/1000, 999_999_999), nil},
		{time.UnixMilli(math.MaxInt64), nil},
		{time.Unix(-1, 999_999_999), dbss.ErrNoToken},
		{time.Unix(math.MinInt64/1000-10, 0), dbss.ErrNoToken},
		{time.UnixMilli(math.MinInt64), dbss.ErrNoToken},
	} {
		var calls atomic.Int32
		client := tokens(t, func(context.Context, bool) (dbss.Token, error) {
			calls.Add(1)
			return dbss.Token{Value: mock.Token, ExpiresAt: one.at}, nil
		})
		for i := 0; i < 2; i++ {
			if err := client.Check(background); !errors.Is(err, one.want) {
				t.Errorf("%v: %v", one.at, err)
			}
		}
		if one.want == nil && calls.Load() != 1 {
			t.Errorf("%v: %d calls", one.at, calls.Load())
		}
	}
}

func TestErrorOfTheTokenProviderIsACause(t *testing.T) {
	mine := errors.New("the vault\nis closed" + strings.Repeat("\u00e9", 600))
	client := tokens(t, func(context.Context, bool) (dbss.Token, error) { return dbss.Token{}, mine })
	if err := client.Check(background); !errors.Is(err, mine) || !errors.Is(err, dbss.ErrNoToken) {
		t.Errorf("not my error: %v", err)
	}
	client = tokens(t, func(context.Context, bool) (dbss.Token, error) { return dbss.Token{Value: "a b"}, nil })
	if err := client.Check(background); !errors.Is(err, dbss.ErrNoToken) || strings.Contains(err.Error(), "a b") {
		t.Errorf("not an invalid token: %v", err)
	}
	client = tokens(t, func(context.Context, bool) (dbss.Token, error) { panic("the provider's") })
	for i := 0; i < 2; i++ {
		if got := panicOf(func() { client.Check(background) }); got != "the provider's" {
			t.Errorf("panics with %v", got)
		}
	}
	client = tokens(t, func(context.Context, bool) (dbss.Token, error) {
		exit()
		return dbss.Token{}, nil
	})
	if err := client.Check(background); !errors.Is(err, dbss.ErrNoToken) {
		t.Errorf("not without a token: %v", err)
	}
}

func TestLongErrorOfTheTokenProviderIsShortened(t *testing.T) {
	for _, one := range []string{"a", "\u00e9", "\U0001f512", "\xff", "\n"} {
		mine := errors.New("x" + strings.Repeat(one, 80_000))
		client := tokens(t, func(context.Context, bool) (dbss.Token, error) { return dbss.Token{}, mine })
		began := time.Now()
		err := client.Check(background)
		var failed *dbss.Error
		if !errors.As(err, &failed) || !errors.Is(err, mine) || len(failed.Message) > 600 {
			t.Errorf("%q: %.700v", one, err)
		}
		// The time of a quadratic loop would be longer.
		if took := time.Since(began); took > 10*time.Second {
			t.Fatalf("%q: %v", one, took)
		}
	}
}

func TestErrorOfTheTokenProviderIsACauseWhateverItsText(t *testing.T) {
	texts := []string{"", " ", "\n", "x ", "caf\u00e9", "e\u0301", "\u0915\u094d\u0937", "\xff\x80", strings.Repeat("\u00e9", 600)}
	for _, part := range [][2]rune{{1, 0x33ff}, {0xf900, 0xffff}, {0x13430, 0x1345f}, {0x1bca0, 0x1bcaf}, {0x1d170, 0x1d18f}, {0xe0000, 0xe0fff}} {
		for first := part[0]; first <= part[1]; first += 64 {
			text := ""
			for r := first; r < first+64 && r <= part[1]; r++ {
				text += string(r)
			}
			texts = append(texts, text)
		}
	}
	var mine error
	client := tokens(t, func(context.Context, bool) (dbss.Token, error) { return dbss.Token{}, mine })
	for _, text := range texts {
		mine = errors.New(text)
		if err := client.Check(background); !errors.Is(err, mine) {
			t.Errorf("%q: not my error: %v", text, err)
		}
	}
}

func TestInvalidTokenOfAProviderIsACause(t *testing.T) {
	var lost atomic.Int32
	for i := 0; i < 200; i++ {
		// A new client, which has no earlier failure with the same text.
		client, err := dbss.NewClient(dbss.WithEndpoint(mock.HTTP), dbss.WithProjectID(mock.ProjectID),
			dbss.WithTokenProvider(func(context.Context, bool) (dbss.Token, error) { return dbss.Token{Value: "\u00e9"}, nil }))
		check(t, err)
		var ended sync.WaitGroup
		for n := 0; n < 8; n++ {
			ended.Add(1)
			go func() {
				defer ended.Done()
				if err := client.Check(background); !errors.Is(err, dbss.ErrInvalidToken) {
					lost.Add(1)
				}
			}()
		}
		ended.Wait()
		client.Close()
	}
	if lost.Load() > 0 {
		t.Errorf("%d calls without the cause", lost.Load())
	}
}

func TestContextEndsACallThatWaitsForATokenProvider(t *testing.T) {
	prompt(t, func() time.Duration {
		var asked atomic.Bool
		ended := make(chan struct{})
		client := tokens(t, func(ctx context.Context, _ bool) (dbss.Token, error) {
			asked.Store(true)
			defer close(ended)
			<-ctx.Done()
			return dbss.Token{}, ctx.Err()
		})
		ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
		defer cancel()
		if err := client.Check(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("not the context's error: %v", err)
		}
		deadline, _ := ctx.Deadline()
		late := time.Since(deadline)
		client.Close()
		// On a busy machine the time may be over before the provider is asked.
		if !asked.Load() {
			return time.Hour
		}
		<-ended
		return late
	})
}

func TestClosingAClientCancelsCallsThatWaitForATokenProvider(t *testing.T) {
	for i := 0; i < 20; i++ {
		client := tokens(t, func(ctx context.Context, _ bool) (dbss.Token, error) {
			<-ctx.Done()
			return dbss.Token{}, ctx.Err()
		})
		ended, waiting := make(chan error), make(chan struct{}, 1000)
		for n := 0; n < 5; n++ {
			go func() {
				ended <- client.Check(background, dbss.WithProgress(func(dbss.Progress) error {
					waiting <- struct{}{}
					return nil
				}))
			}()
		}
		for n := 0; n < 5; n++ {
			<-waiting
		}
		client.Close()
		for n := 0; n < 5; n++ {
			if err := <-ended; !errors.Is(err, dbss.ErrCancelled) && !errors.Is(err, dbss.ErrClosed) {
				t.Errorf("not cancelled: %v", err)
			}
		}
	}
}

func TestPasscodeProviderLogsIn(t *testing.T) {
	mock.control(t, "POST", "/iam", object{"passcodes": []string{"123456"}}, nil)
	defer mock.control(t, "POST", "/iam", object{}, nil)
	client, err := dbss.NewClient(
		dbss.WithEndpoint(mock.HTTP), dbss.WithRegion(mock.Region), dbss.WithIAMEndpoint(mock.IAM),
		dbss.WithIAMUser(mock.User), dbss.WithIAMPassword(mock.Password), dbss.WithIAMDomain(mock.Domain),
		dbss.WithIAMUserID(mock.UserID),
		dbss.WithPasscodeProvider(func(context.Context, bool) (string, error) { return "123456", nil }))
	check(t, err)
	defer client.Close()
	check(t, client.Check(background))
}

func TestTokenDoesNotPrintItsValue(t *testing.T) {
	token := dbss.Token{Value: "secret-token", ExpiresAt: time.Unix(0, 0)}
	holder := struct{ Token dbss.Token }{token}
	options := []dbss.Option{dbss.WithToken("secret-token"), dbss.WithOption("token", "secret-token")}
	hidden := struct {
		one     dbss.Option
		setting dbss.Setting
		options []dbss.Option
	}{dbss.WithSecretKey("secret-key"), dbss.WithOption("token", "secret-token"), options}
	var buffer bytes.Buffer
	all := []any{token, &token, holder, &holder, options[0], options[1], options, hidden, &hidden}
	handlers := []slog.Handler{slog.NewJSONHandler(&buffer, nil), slog.NewTextHandler(&buffer, nil)}
	for _, one := range all {
		fmt.Fprintf(&buffer, "%v %+v %#v %s %q %x", one, one, one, one, one, one)
		encoded, err := json.Marshal(one)
		check(t, err)
		buffer.Write(encoded)
		for _, handler := range handlers {
			slog.New(handler).Info("a record", "value", one)
		}
	}
	printed := buffer.String()
	if strings.Contains(printed, "secret-") || strings.Contains(printed, "7365637265742d") {
		t.Error(printed)
	}
}

func TestStreamCanBeUsedAfterItsClientIsForgotten(t *testing.T) {
	report := mock.addReport(t, object{"format": "pdf", "size": 2 << 20})
	open := func() io.ReadCloser {
		client, err := dbss.NewClient(dbss.WithEndpoint(mock.HTTP), dbss.WithProjectID(mock.ProjectID), dbss.WithToken(mock.Token))
		check(t, err)
		stream, err := client.OpenReport(background, mock.InstanceID, report.ID)
		check(t, err)
		return stream
	}
	stream := open()
	defer stream.Close()
	collect()
	content, err := io.ReadAll(stream)
	check(t, err)
	if sum(content) != report.SHA256["en-us"] {
		t.Error("other bytes")
	}
}
