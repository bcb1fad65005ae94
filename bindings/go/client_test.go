package dbss_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"example.com/dbss"
)

var background = context.Background()

func TestDownloadReportReturnsTheReport(t *testing.T) {
	client := newClient(t)
	for _, report := range mock.Reports {
		for locale, want := range report.SHA256 {
			var result dbss.Result
			content, err := client.DownloadReport(background, mock.InstanceID, report.ID,
				dbss.WithLocale(locale), dbss.WithResult(&result))
			check(t, err)
			if sum(content) != want {
				t.Errorf("%s in %s: other bytes", report.ID, locale)
			}
			if result.Format.String() != report.Format || result.Received != int64(len(content)) {
				t.Errorf("wrong result: %+v", result)
			}
		}
	}
}

func TestDownloadReportToFileSavesWholeFiles(t *testing.T) {
	client := newClient(t)
	pdf := mock.Reports[0]
	directory := t.TempDir()
	path, err := client.DownloadReportToFile(background, mock.InstanceID, pdf.ID, directory)
	check(t, err)
	if filepath.Dir(path) != directory {
		t.Errorf("saved as %s", path)
	}
	_, err = client.DownloadReportToFile(background, mock.InstanceID, pdf.ID, path)
	if !errors.Is(err, fs.ErrExist) || !errors.Is(err, dbss.ErrFileExists) || !errors.Is(err, dbss.ErrFile) {
		t.Errorf("not the error of an existing file: %v", err)
	}
	var failed *dbss.Error
	if !errors.As(err, &failed) || failed.Path != path {
		t.Errorf("no path: %+v", failed)
	}
	_, err = client.DownloadReportToFile(background, mock.InstanceID, pdf.ID, path,
		dbss.WithReplace(), dbss.WithFileMode(0o640))
	check(t, err)
	info, err := os.Stat(path)
	check(t, err)
	if info.Mode() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
	_, err = client.DownloadReportToFile(background, mock.InstanceID, pdf.ID, directory+"/no/such/directory/file")
	if !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, syscall.ENOENT) {
		t.Errorf("not the error of a missing directory: %v", err)
	}
	cut := mock.addReport(t, object{"format": "pdf", "size": 1 << 20})
	mock.fault(t, cut.ID, object{"cut_after": 1 << 19, "no_etag": true})
	_, err = client.DownloadReportToFile(background, mock.InstanceID, cut.ID, directory+"/cut.pdf", dbss.WithMaxAttempts(1))
	if !errors.Is(err, dbss.ErrTruncated) || !errors.Is(err, dbss.ErrNetwork) {
		t.Errorf("not the error of a cut body: %v", err)
	}
	files, err := os.ReadDir(directory)
	check(t, err)
	if len(files) != 1 {
		t.Errorf("files are left: %v", files)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write(p []byte) (int, error) { return 0, w.err }

func TestDownloadReportToWritesToWriters(t *testing.T) {
	client := newClient(t)
	report := mock.addReport(t, object{"format": "zip", "size": 3 << 20})
	var buffer bytes.Buffer
	check(t, client.DownloadReportTo(background, &buffer, mock.InstanceID, report.ID))
	if sum(buffer.Bytes()) != report.SHA256["en-us"] {
		t.Error("other bytes in a buffer")
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "report"))
	check(t, err)
	defer file.Close()
	check(t, client.DownloadReportTo(background, file, mock.InstanceID, report.ID))
	content, err := os.ReadFile(file.Name())
	check(t, err)
	if sum(content) != report.SHA256["en-us"] {
		t.Error("other bytes in a file")
	}
	mine := errors.New("mine")
	if err := client.DownloadReportTo(background, failingWriter{mine}, mock.InstanceID, report.ID); err != mine {
		t.Errorf("not the writer's error: %v", err)
	}
	reader, writer, err := os.Pipe()
	check(t, err)
	reader.Close()
	defer writer.Close()
	err = client.DownloadReportTo(background, writer, mock.InstanceID, report.ID)
	if !errors.Is(err, dbss.ErrBrokenPipe) || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("not the error of a broken pipe: %v", err)
	}
}

func TestDownloadReportToRefusesAClosedFile(t *testing.T) {
	client := newClient(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "report"))
	check(t, err)
	check(t, file.Close())
	err = client.DownloadReportTo(background, file, mock.InstanceID, mock.Reports[0].ID)
	if failed := failure(t, err); failed.Parameter != "w" || !errors.Is(err, dbss.ErrArgument) || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("%+v", failed)
	}
}

func TestPipeCanBeClosedDuringADownloadToIt(t *testing.T) {
	client := newClient(t)
	report := mock.addReport(t, object{"format": "pdf", "size": 1 << 20})
	reader, writer, err := os.Pipe()
	check(t, err)
	defer reader.Close()
	closing := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		var once sync.Once
		ended <- client.DownloadReportTo(background, writer, mock.InstanceID, report.ID,
			dbss.WithProgress(func(p dbss.Progress) error {
				if p.Received > 0 {
					once.Do(func() {
						writer.Close()
						close(closing)
					})
				}
				return nil
			}))
	}()
	select {
	case <-closing:
	case <-time.After(30 * time.Second):
		t.Fatal("Close does not return")
	}
	content, err := io.ReadAll(reader)
	check(t, err)
	check(t, <-ended)
	if sum(content) != report.SHA256["en-us"] {
		t.Errorf("%d other bytes", len(content))
	}
}

func TestReportStreamIsAReader(t *testing.T) {
	client := newClient(t)
	report := mock.addReport(t, object{"format": "pdf", "size": 300_000})
	want, err := client.DownloadReport(background, mock.InstanceID, report.ID)
	check(t, err)
	stream, err := client.OpenReport(background, mock.InstanceID, report.ID)
	check(t, err)
	if stream.Size != 300_000 || stream.Format != dbss.FormatPDF || stream.Filename == "" {
		t.Errorf("wrong stream: %+v", stream)
	}
	check(t, iotest.TestReader(stream, want))
	check(t, stream.Close())
	check(t, stream.Close())
	if _, err := stream.Read(make([]byte, 1)); !errors.Is(err, dbss.ErrClosed) || !errors.Is(err, fs.ErrClosed) {
		t.Errorf("not the error of a closed stream: %v", err)
	}
}

func TestSecondReaderOfAStreamIsRefused(t *testing.T) {
	client := newClient(t)
	report := mock.addReport(t, object{"format": "pdf", "size": 1 << 20})
	mock.fault(t, report.ID, object{"stall_after": 1000})
	refused := make(chan error, 100)
	var stream *dbss.ReportStream
	// While a read waits.
	second := dbss.WithProgress(func(dbss.Progress) error {
		if stream != nil {
			_, err := stream.Read(make([]byte, 1))
			refused <- err
			return err
		}
		return nil
	})
	opened, err := client.OpenReport(background, mock.InstanceID, report.ID, second)
	check(t, err)
	stream = opened
	defer stream.Close()
	if _, err := io.ReadAll(stream); !errors.Is(err, dbss.ErrBusy) || !errors.Is(err, dbss.ErrCancelled) {
		t.Errorf("not busy: %v", err)
	}
	if err := <-refused; !errors.Is(err, dbss.ErrBusy) {
		t.Errorf("not busy: %v", err)
	}
}

// A buffer inside of memory that has pointers is no concern of cgo's checks.
func TestReportStreamReadsIntoPartOfAStructure(t *testing.T) {
	client := newClient(t)
	stream, err := client.OpenReport(background, mock.InstanceID, mock.Reports[0].ID)
	check(t, err)
	defer stream.Close()
	place := &struct {
		name   *string
		buffer [4096]byte
	}{name: &mock.Token}
	n, err := stream.Read(place.buffer[:])
	check(t, err)
	if n == 0 || !bytes.HasPrefix(place.buffer[:n], []byte("%PDF-")) {
		t.Errorf("%d bytes: %q", n, place.buffer[:5])
	}
}

func TestClosingAStreamEndsItsRead(t *testing.T) {
	client := newClient(t)
	report := mock.addReport(t, object{"format": "pdf", "size": 1 << 20})
	mock.fault(t, report.ID, object{"stall_after": 1000})
	stream, err := client.OpenReport(background, mock.InstanceID, report.ID)
	check(t, err)
	ended := make(chan error)
	go func() {
		_, err := io.CopyN(io.Discard, stream, 1000)
		ended <- err
		_, err = stream.Read(make([]byte, 1))
		ended <- err
	}()
	check(t, <-ended)
	stream.Close()
	if err := <-ended; !errors.Is(err, dbss.ErrCancelled) && !errors.Is(err, dbss.ErrClosed) {
		t.Errorf("the read ended with %v", err)
	}
}

func TestContextEndsACallWithin250ms(t *testing.T) {
	client := newClient(t)
	silent := mock.silent(t)
	calls := map[string]func(context.Context) error{
		"download": func(ctx context.Context) error {
			_, err := client.DownloadReport(ctx, mock.InstanceID, silent)
			return err
		},
		"file": func(ctx context.Context) error {
			_, err := client.DownloadReportToFile(ctx, mock.InstanceID, silent, t.TempDir())
			return err
		},
		"open": func(ctx context.Context) error {
			_, err := client.OpenReport(ctx, mock.InstanceID, silent)
			return err
		},
		"wait": func(ctx context.Context) error {
			growing := mock.addReport(t, object{"format": "pdf", "percentum": 0})
			return client.WaitForReport(ctx, mock.InstanceID, growing.ID, dbss.WithPollInterval(time.Hour))
		},
	}
	mine := errors.New("mine")
	ends := map[string]struct {
		want  error
		begin func() (context.Context, func())
	}{
		"cancel": {context.Canceled, func() (context.Context, func()) {
			ctx, cancel := context.WithCancel(background)
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}},
		"cause": {mine, func() (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(background)
			time.AfterFunc(50*time.Millisecond, func() { cancel(mine) })
			return ctx, func() { cancel(nil) }
		}},
		"deadline": {context.DeadlineExceeded, func() (context.Context, func()) {
			return context.WithTimeout(background, 50*time.Millisecond)
		}},
		"before": {context.Canceled, func() (context.Context, func()) {
			ctx, cancel := context.WithCancel(background)
			cancel()
			return ctx, cancel
		}},
	}
	for name, call := range calls {
		for end, one := range ends {
			t.Run(name+"/"+end, func(t *testing.T) {
				var ctx context.Context
				var err error
				prompt(t, func() time.Duration {
					var cancel func()
					ctx, cancel = one.begin()
					defer cancel()
					var ended time.Time
					recorded := make(chan struct{})
					context.AfterFunc(ctx, func() {
						ended = time.Now()
						close(recorded)
					})
					err = call(ctx)
					<-recorded
					return time.Since(ended)
				})
				if !errors.Is(err, one.want) || !errors.Is(err, ctx.Err()) || !errors.Is(err, dbss.ErrCancelled) {
					t.Errorf("not the context's error: %v", err)
				}
				var failed *dbss.Error
				if !errors.As(err, &failed) || failed.CancelledBy != dbss.CancelledByContext {
					t.Errorf("wrong error: %+v", failed)
				}
				if failed.Timeout() != (end == "deadline") {
					t.Errorf("Timeout() is %v", failed.Timeout())
				}
			})
		}
	}
}

func TestContextEndsAnOpenStream(t *testing.T) {
	client := newClient(t)
	report := mock.addReport(t, object{"format": "pdf", "size": 1 << 20})
	mock.fault(t, report.ID, object{"stall_after": 1000})
	ctx, cancel := context.WithCancel(background)
	stream, err := client.OpenReport(ctx, mock.InstanceID, report.ID)
	check(t, err)
	defer stream.Close()
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := io.ReadAll(stream); !errors.Is(err, context.Canceled) {
		t.Errorf("not the context's error: %v", err)
	}
}

func TestErrorHasTheDetailsOfTheService(t *testing.T) {
	client := newClient(t)
	id := "details-0123456789"
	mock.fault(t, id, object{
		"status": 403, "headers": [][2]string{{"X-Request-Id", "the-id"}},
		"json": object{
			"error_code": "DBSS.1", "error_msg": "no", "encoded_authorization_message": "coded",
			"details": []object{{"error_code": "D.1", "error_msg": "first"}, {"error_code": "D.2", "error_msg": "second"}},
		},
	})
	_, err := client.DownloadReport(background, mock.InstanceID, id)
	var failed *dbss.Error
	if !errors.As(err, &failed) || !errors.Is(err, dbss.ErrForbidden) || !errors.Is(err, dbss.ErrService) {
		t.Fatalf("wrong error: %v", err)
	}
	if errors.Is(err, dbss.ErrNotFound) || errors.Is(err, dbss.ErrNetwork) || errors.Is(err, context.Canceled) {
		t.Error("the error is others too")
	}
	details := []dbss.Detail{{Code: "D.1", Message: "first"}, {Code: "D.2", Message: "second"}}
	if failed.HTTPStatus != 403 || failed.ServiceCode != "DBSS.1" || failed.ServiceMessage != "no" ||
		failed.RequestID != "the-id" || failed.EncodedAuthorizationMessage != "coded" ||
		len(failed.Details) != 2 || failed.Details[0] != details[0] || failed.Details[1] != details[1] ||
		failed.RetryAfter != -1 || failed.Attempts != 1 || failed.Retryable {
		t.Errorf("wrong error: %+v", failed)
	}
	if !strings.HasPrefix(err.Error(), "dbss: ") || failed.Status.Error() != "DBSS_ERR_FORBIDDEN" {
		t.Errorf("wrong texts: %v, %v", err, failed.Status)
	}
}

func TestInvalidArgumentsFailBeforeAnyRequest(t *testing.T) {
	client := newClient(t)
	report := mock.Reports[0].ID
	cases := []struct {
		want      dbss.Status
		parameter string
		call      func() error
	}{
		{dbss.ErrInvalidID, "reportID", func() error {
			_, err := client.DownloadReport(background, mock.InstanceID, "short")
			return err
		}},
		{dbss.ErrInvalidID, "instanceID", func() error {
			_, err := client.DownloadReport(background, mock.InstanceID+"\x00", report)
			return err
		}},
		{dbss.ErrInvalidLocale, "WithLocale", func() error {
			_, err := client.DownloadReport(background, mock.InstanceID, report, dbss.WithLocale("fr\x00"))
			return err
		}},
		{dbss.ErrInvalidUTF8, "WithLocale", func() error {
			_, err := client.DownloadReport(background, mock.InstanceID, report, dbss.WithLocale("\xff"))
			return err
		}},
		{dbss.ErrInvalidValue, "WithStallTimeout", func() error {
			return client.Check(background, dbss.WithStallTimeout(-time.Second))
		}},
		{dbss.ErrArgument, "WithPageSize", func() error {
			return client.Check(background, dbss.WithPageSize(1))
		}},
		{dbss.ErrInvalidValue, "WithPageSize", func() error {
			_, err := client.Instances(background, dbss.WithPageSize(-1)).Collect()
			return err
		}},
		{dbss.ErrInvalidValue, "path", func() error {
			_, err := client.DownloadReportToFile(background, mock.InstanceID, report, "")
			return err
		}},
		{dbss.ErrInvalidToken, "token", func() error { return client.SetToken("a\x00b") }},
		{dbss.ErrUnknownKey, "key", func() error {
			_, err := dbss.NewClient(dbss.WithOption("no_such_option", ""))
			return err
		}},
		{dbss.ErrInvalidEndpoint, "WithEndpoint", func() error {
			_, err := dbss.NewClient(dbss.WithEndpoint("https://a,https://b"))
			return err
		}},
		{dbss.ErrNotConfigured, "", func() error {
			_, err := dbss.NewClient()
			return err
		}},
		{dbss.ErrNotConfigured, "TemplateID", func() error {
			return client.CreateReport(background, mock.InstanceID, dbss.ReportSpec{})
		}},
		{dbss.ErrArgument, "", func() error {
			_, err := dbss.NewClient(dbss.WithRegion("cn-north-4"), dbss.WithToken("t"), dbss.WithCredentials("default"))
			return err
		}},
	}
	for i, one := range cases {
		err := one.call()
		var failed *dbss.Error
		if !errors.As(err, &failed) || failed.Status != one.want || (one.parameter != "" && failed.Parameter != one.parameter) {
			t.Errorf("case %d: %+v", i, err)
		}
		if failed != nil && (!errors.Is(err, dbss.ErrArgument) || failed.Attempts != 0) {
			t.Errorf("case %d: %+v", i, failed)
		}
	}
}

func TestTimeoutsOfACallOverrideTheClients(t *testing.T) {
	client := newClient(t, dbss.WithMaxAttempts(1))
	silent := mock.silent(t)
	_, err := client.DownloadReport(background, mock.InstanceID, silent, dbss.WithStallTimeout(50*time.Millisecond))
	if !errors.Is(err, dbss.ErrStalled) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("not a stall: %v", err)
	}
	_, err = client.DownloadReport(background, mock.InstanceID, silent, dbss.WithTotalTimeout(50*time.Millisecond))
	var timeout interface{ Timeout() bool }
	if !errors.Is(err, dbss.ErrTotalTimeout) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("not a timeout: %v", err)
	}
}

func TestClosingAClientEndsItsCalls(t *testing.T) {
	client := newClient(t)
	silent := mock.silent(t)
	var ended sync.WaitGroup
	for i := 0; i < 10; i++ {
		ended.Add(1)
		go func() {
			defer ended.Done()
			_, err := client.DownloadReport(background, mock.InstanceID, silent)
			var failed *dbss.Error
			if !errors.As(err, &failed) || (failed.CancelledBy != dbss.CancelledByClose && failed.Status != dbss.ErrClosed) {
				t.Errorf("not closed: %v", err)
			}
		}()
	}
	for len(mock.requests(t, silent)) < 5 {
		time.Sleep(time.Millisecond)
	}
	check(t, client.Close())
	check(t, client.Close())
	ended.Wait()
	if err := client.Check(background); !errors.Is(err, dbss.ErrClosed) {
		t.Errorf("not closed: %v", err)
	}
	if err := client.SetToken("t"); !errors.Is(err, dbss.ErrClosed) {
		t.Errorf("not closed: %v", err)
	}
	client.CancelAll()
}

func TestCancelAllEndsCallsAndKeepsTheClient(t *testing.T) {
	client := newClient(t)
	silent := mock.silent(t)
	ended := make(chan error)
	go func() {
		_, err := client.DownloadReport(background, mock.InstanceID, silent)
		ended <- err
	}()
	for len(mock.requests(t, silent)) == 0 {
		time.Sleep(time.Millisecond)
	}
	client.CancelAll()
	var failed *dbss.Error
	if err := <-ended; !errors.As(err, &failed) || failed.CancelledBy != dbss.CancelledByClient {
		t.Errorf("not cancelled: %v", err)
	}
	check(t, client.Check(background))
}

func TestVersionAndFeatures(t *testing.T) {
	if dbss.Version() == "" || !dbss.HasFeature("download") || dbss.HasFeature("download\x00") {
		t.Errorf("version %s", dbss.Version())
	}
}

func TestOptionsReachTheirCalls(t *testing.T) {
	client, err := dbss.NewClient(dbss.WithEndpoint(mock.HTTP), dbss.WithAccessKey(mock.AccessKey),
		dbss.WithSecretKey(mock.SecretKey), dbss.WithProjectID(mock.ProjectID), dbss.WithUserAgentSuffix("app/1"),
		dbss.WithConnectTimeout(dbss.NoLimit), dbss.WithFollowRedirects(false), dbss.WithMaxRetryAfter(time.Second))
	check(t, err)
	defer client.Close()
	get := func(id string, options ...dbss.CallOption) (failed *dbss.Error) {
		_, err := client.DownloadReport(background, mock.InstanceID, id, options...)
		errors.As(err, &failed)
		return failed
	}
	report := mock.addReport(t, object{"format": "pdf", "size": 100_000})
	if failed := get(report.ID, dbss.WithMaxMemoryBytes(99_999)); failed == nil || failed.Status != dbss.ErrLimitExceeded {
		t.Errorf("not limited: %v", failed)
	}
	if failed := get(report.ID, dbss.WithMaxMemoryBytes(100_000)); failed != nil {
		t.Error(failed)
	}
	agent := ""
	for _, header := range mock.requests(t, report.ID)[0].Headers {
		if strings.EqualFold(header[0], "user-agent") {
			agent = header[1]
		}
	}
	if !strings.HasSuffix(agent, " app/1") {
		t.Errorf("user agent %q", agent)
	}
	other := strings.Repeat("0", 32)
	if failed := get(report.ID, dbss.WithProjectID(other)); failed == nil || failed.Status != dbss.ErrForbidden {
		t.Errorf("not another project: %v", failed)
	}
	busy := "busy-0123456789abcdef"
	mock.fault(t, busy, object{"status": 429, "headers": [][2]string{{"Retry-After", "120"}}})
	failed := get(busy, dbss.WithMaxAttempts(5))
	if failed == nil || failed.Status != dbss.ErrThrottled || failed.RetryAfter != 2*time.Minute || failed.Attempts != 1 || !failed.Retryable {
		t.Errorf("not throttled: %+v", failed)
	}
	// A limit below a millisecond is one, and not none.
	failed = get(mock.silent(t), dbss.WithStallTimeout(time.Microsecond), dbss.WithMaxAttempts(1))
	if failed == nil || failed.Status != dbss.ErrStalled {
		t.Errorf("not stalled: %v", failed)
	}
	if failed := get(report.ID, dbss.WithOption("no_such_option", "")); failed == nil || failed.Status != dbss.ErrUnknownKey {
		t.Errorf("not refused: %v", failed)
	}
}

func TestReportStreamRemembersItsEnd(t *testing.T) {
	client := newClient(t)
	ctx, cancel := context.WithCancel(background)
	stream, err := client.OpenReport(ctx, mock.InstanceID, mock.Reports[0].ID)
	check(t, err)
	defer stream.Close()
	_, err = io.ReadAll(stream)
	check(t, err)
	cancel()
	client.Close()
	if _, err := stream.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the end became %v", err)
	}
}

func TestLastOfTheOptionsThatSetTheSameCounts(t *testing.T) {
	var provided atomic.Bool
	provide := func(context.Context, bool) (dbss.Token, error) {
		provided.Store(true)
		return dbss.Token{Value: mock.Token}, nil
	}
	cases := map[string]struct {
		asks    bool
		options []dbss.Option
	}{
		"a provider, then a token":   {false, []dbss.Option{dbss.WithTokenProvider(provide), dbss.WithOption("token", mock.Token)}},
		"a token, then a provider":   {true, []dbss.Option{dbss.WithOption("token", "old"), dbss.WithTokenProvider(provide)}},
		"a nil, then a provider":     {true, []dbss.Option{dbss.WithTokenProvider(nil), dbss.WithTokenProvider(provide)}},
		"an empty one, then a token": {false, []dbss.Option{dbss.WithToken(""), dbss.WithToken(mock.Token)}},
		"settings": {false, []dbss.Option{dbss.WithToken(mock.Token), dbss.WithEndpoint("no URL"), dbss.WithEndpoint(mock.HTTP),
			dbss.WithMaxAttempts(0), dbss.WithMaxAttempts(3), dbss.WithProjectID("short"), dbss.WithProjectID(mock.ProjectID)}},
	}
	for name, one := range cases {
		provided.Store(false)
		client, err := dbss.NewClient(append([]dbss.Option{dbss.WithEndpoint(mock.HTTP), dbss.WithProjectID(mock.ProjectID)}, one.options...)...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		defer client.Close()
		if err := client.Check(background); err != nil || provided.Load() != one.asks {
			t.Errorf("%s: %v, asks: %v", name, err, provided.Load())
		}
	}
	_, err := newClient(t).Instances(background, dbss.WithMaxAttempts(0), dbss.WithMaxAttempts(1), dbss.WithPageSize(-1), dbss.WithPageSize(1),
		dbss.WithProjectID("short"), dbss.WithProjectID(mock.ProjectID)).Collect()
	check(t, err)
	for name, options := range map[string][]dbss.Option{
		"a nil":    {dbss.WithTokenProvider(provide), dbss.WithTokenProvider(nil)},
		"attempts": {dbss.WithMaxAttempts(3), dbss.WithMaxAttempts(0)},
	} {
		if _, err := dbss.NewClient(append(options, dbss.WithEndpoint(mock.HTTP))...); !errors.Is(err, dbss.ErrArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// oddError cannot be compared.
type oddError []string

func (e oddError) Error() string { return "odd" }

// oddContext ends when its channel is closed.
type oddContext struct {
	context.Context
	done chan struct{}
}

func (c oddContext) Done() <-chan struct{} { return c.done }

func (c oddContext) Err() error {
	select {
	case <-c.done:
		return oddError{}
	default:
		return nil
	}
}

func TestErrorOfAContextNeedNotBeComparable(t *testing.T) {
	client := newClient(t)
	ctx := oddContext{background, make(chan struct{})}
	var once sync.Once
	end := dbss.WithProgress(func(dbss.Progress) error {
		once.Do(func() { close(ctx.done) })
		return nil
	})
	_, during := client.DownloadReport(ctx, mock.InstanceID, mock.silent(t), end)
	for _, err := range []error{during, client.Check(ctx)} {
		var odd oddError
		if !errors.As(err, &odd) || !errors.Is(err, dbss.ErrCancelled) {
			t.Errorf("not the context's error: %v", err)
		}
	}
}

func TestStatusIsAnErrorOfItsGroup(t *testing.T) {
	client := newClient(t)
	_, real := client.DownloadReport(background, mock.InstanceID, "missing-0123456789")
	// What a test double may return in place of a client.
	for _, err := range []error{real, fmt.Errorf("x: %w", dbss.ErrNotFound)} {
		var status dbss.Status
		if !errors.Is(err, dbss.ErrNotFound) || !errors.Is(err, dbss.ErrService) || errors.Is(err, dbss.ErrNetwork) ||
			errors.Is(err, dbss.ErrForbidden) || !errors.As(err, &status) || status != dbss.ErrNotFound {
			t.Errorf("%v is %v", err, status)
		}
	}
	if errors.Is(dbss.ErrService, dbss.ErrNotFound) || !errors.Is(dbss.ErrFileExists, fs.ErrExist) || !errors.Is(dbss.ErrClosed, fs.ErrClosed) {
		t.Error("a status is another error")
	}
}

func TestCancelledByHasNames(t *testing.T) {
	names := fmt.Sprint(dbss.CancelledBy(0), dbss.CancelledByContext, dbss.CancelledByClient, dbss.CancelledByClose,
		dbss.CancelledByCallback, dbss.CancelledBy(9))
	if names != "nothing context client close callback CancelledBy(9)" {
		t.Error(names)
	}
}
