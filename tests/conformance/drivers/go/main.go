// The conformance driver for the Go package; ../../README.md describes the protocol.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"example.com/dbss"
)

type object = map[string]any

// text is a text of a request, which need not be UTF-8; nil for null.
type text []byte

func (t *text) UnmarshalJSON(raw []byte) error {
	var coded struct{ Hex string }
	if json.Unmarshal(raw, &coded) == nil && coded.Hex != "" {
		decoded, err := hex.DecodeString(coded.Hex)
		*t = decoded
		return err
	}
	var plain any
	err := json.Unmarshal(raw, &plain)
	if plain != nil {
		// Numbers and booleans as C takes them.
		*t = text(fmt.Sprint(plain))
	}
	return err
}

type request struct {
	ID                        int
	Do, Call, Client          string
	Settings                  [][2]text
	Log                       *string
	Token_Provider, Passcodes []answer
	Arguments                 arguments
	Operation                 *operation
	Background                bool
	Of                        int
}

type answer struct {
	Token, Passcode, Fail *string
	Hold                  bool
	Expires_In_Ms         *int64
}

type operation struct {
	Settings  [][2]text
	Progress  any
	Cancelled bool
}

type arguments struct {
	Project, Instance, ID, Locale, Path, Directory, Template, Token text
	Name, Status                                                    text
	Into, As, Stream                                                string
	Replace, Keep                                                   bool
	Open                                                            *struct {
		Path, Mode string
		Offset     int64
	}
	Page_Size, Read_Size   int
	Size                   *int64
	Fields                 []string
	Spec, Changes, Options map[string]text
}

var (
	clients    = map[string]*dbss.Client{}
	streams    = map[string]*dbss.ReportStream{}
	cancels    = map[int]context.CancelFunc{}
	output     sync.Mutex
	background sync.WaitGroup
)

func put(line object) {
	encoded, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	os.Stdout.Write(append(encoded, '\n'))
}

func main() {
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		serve(line)
	}
	for _, client := range clients {
		client.Close()
	}
	background.Wait()
}

func serve(line []byte) {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		panic(err)
	}
	switch r.Do {
	case "call":
		ctx, cancel := context.WithCancel(context.Background())
		cancels[r.ID] = cancel
		client := clients[r.Client]
		if !r.Background {
			respond(r, func() object { return call(ctx, client, r) })
			return
		}
		background.Add(1)
		go func() {
			defer background.Done()
			respond(r, func() object { return call(ctx, client, r) })
		}()
	case "configure":
		respond(r, func() object { return configure(r) })
	case "cancel":
		cancels[r.Of]()
		put(object{"id": r.ID, "status": "DBSS_OK"})
	case "cancel_all":
		clients[r.Client].CancelAll()
		put(object{"id": r.ID, "status": "DBSS_OK"})
	case "close", "free":
		clients[r.Client].Close()
		put(object{"id": r.ID, "status": "DBSS_OK"})
	default:
		put(object{"id": r.ID, "unsupported": r.Do})
	}
}

// respond prints the response of a function, or what it panics with.
func respond(r request, f func() object) {
	defer func() {
		if value := recover(); value != nil {
			put(object{"id": r.ID, "unsupported": fmt.Sprint(value)})
		}
	}()
	response := f()
	response["id"] = r.ID
	put(response)
}

// outcome is the response for an error, or for a result.
func outcome(result object, err error) object {
	if err == nil {
		return object{"status": "DBSS_OK", "result": result}
	}
	var failed *dbss.Error
	if !errors.As(err, &failed) {
		panic(err)
	}
	response := object{"status": failed.Status.Error(), "error": errorFields(failed)}
	if result != nil {
		response["result"] = result
	}
	return response
}

// orNull is null for the value that stands for none.
func orNull[T comparable](value, none T) any {
	if value == none {
		return nil
	}
	return value
}

// asPath is a path, which need not be UTF-8.
func asPath(path string) any {
	if !utf8.ValidString(path) {
		return object{"hex": hex.EncodeToString([]byte(path))}
	}
	return orNull(path, "")
}

func errorFields(e *dbss.Error) object {
	names := []any{nil, "operation", "client", "close", "callback"}
	details := []object{}
	for _, one := range e.Details {
		details = append(details, object{"code": orNull(one.Code, ""), "message": orNull(one.Message, "")})
	}
	return object{
		"message": e.Message, "parameter": orNull(e.Parameter, ""), "http_status": orNull(e.HTTPStatus, 0),
		"service_code": orNull(e.ServiceCode, ""), "service_message": orNull(e.ServiceMessage, ""),
		"request_id": orNull(e.RequestID, ""), "details": details, "cancelled_by": names[e.CancelledBy],
		"encoded_authorization_message": orNull(e.EncodedAuthorizationMessage, ""),
		"candidates":                    append([]string{}, e.Candidates...), "redirect_target": orNull(e.RedirectTarget, ""),
		"path": asPath(e.Path), "os_code": orNull(int(e.Errno), 0), "retryable": e.Retryable,
		"retry_after_ms": milliseconds(e.RetryAfter), "attempts": e.Attempts,
	}
}

func milliseconds(value time.Duration) any {
	switch value {
	case -1:
		return nil
	case math.MaxInt64:
		// As long as a Duration can be, or longer.
		return int64(math.MaxInt64)
	}
	return value.Milliseconds()
}

func configure(r request) object {
	if old := clients[r.Client]; old != nil {
		old.Close()
		delete(clients, r.Client)
	}
	var options []dbss.Option
	for _, one := range r.Settings {
		if string(one[0]) != "token" || r.Token_Provider == nil {
			options = append(options, dbss.WithOption(string(one[0]), string(one[1])))
		}
	}
	if r.Token_Provider != nil {
		provide := provider(r.Token_Provider)
		options = append(options, dbss.WithTokenProvider(provide))
	}
	if r.Passcodes != nil {
		provide := provider(r.Passcodes)
		options = append(options, dbss.WithPasscodeProvider(func(ctx context.Context, refused bool) (string, error) {
			token, err := provide(ctx, refused)
			return token.Value, err
		}))
	}
	if r.Log != nil {
		options = append(options, dbss.WithOption("log_level", *r.Log), dbss.WithLogger(eventLogger(r.Client)))
	}
	client, err := dbss.NewClient(options...)
	if err == nil {
		clients[r.Client] = client
	}
	return outcome(nil, err)
}

// provider gives the answers in order, and the last one again and again.
func provider(answers []answer) dbss.TokenProvider {
	return func(ctx context.Context, _ bool) (token dbss.Token, err error) {
		one := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		switch {
		case one.Hold:
			<-ctx.Done()
			return token, ctx.Err()
		case one.Fail != nil:
			return token, errors.New(*one.Fail)
		case one.Passcode != nil:
			return dbss.Token{Value: *one.Passcode}, nil
		case one.Expires_In_Ms != nil:
			token.ExpiresAt = time.Now().Add(time.Duration(*one.Expires_In_Ms) * time.Millisecond)
		}
		token.Value = *one.Token
		return token, nil
	}
}

func call(ctx context.Context, client *dbss.Client, r request) object {
	given := r.Arguments
	var options []dbss.CallOption
	if given.Project != nil {
		options = append(options, dbss.WithProjectID(string(given.Project)))
	}
	if r.Operation == nil {
		return outcome(perform(ctx, client, r.Call, given, options))
	}
	for _, one := range r.Operation.Settings {
		options = append(options, dbss.WithOption(string(one[0]), string(one[1])))
	}
	if r.Operation.Cancelled {
		cancels[r.ID]()
	}
	var after dbss.Result
	options = append(options, dbss.WithResult(&after))
	if wanted := r.Operation.Progress; wanted != nil {
		options = append(options, dbss.WithProgress(func(p dbss.Progress) error {
			put(object{
				"event": "progress", "of": r.ID, "received": p.Received,
				"total": orNull(p.Total, -1), "percent": orNull(p.Percent, -1),
			})
			stop, ends := wanted.(object)
			if ends && float64(p.Received) >= stop["stop_after"].(float64) {
				return errors.New("enough")
			}
			return nil
		}))
	}
	response := outcome(perform(ctx, client, r.Call, given, options))
	response["operation"] = object{
		"received": after.Received, "total": orNull(after.Total, -1), "resumed": after.Resumed,
		"attempts": after.Attempts, "percent": orNull(after.Percent, -1), "path": asPath(after.Path),
		"filename": orNull(after.Filename, ""), "request_id": orNull(after.RequestID, ""),
		"content_type": orNull(after.ContentType, ""), "format": orNull(after.Format.String(), "unknown"),
	}
	return response
}

// onlyWriter hides that a target is a file.
type onlyWriter struct{ io.Writer }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// perform makes a call.
func perform(ctx context.Context, client *dbss.Client, what string, given arguments, options []dbss.CallOption) (object, error) {
	instance, id, template := string(given.Instance), string(given.ID), string(given.Template)
	if given.Locale != nil {
		options = append(options, dbss.WithLocale(string(given.Locale)))
	}
	if given.Replace {
		options = append(options, dbss.WithReplace())
	}
	switch what {
	case "check":
		return nil, client.Check(ctx, options...)
	case "find_credentials":
		found, err := client.FindCredentials(ctx, options...)
		if err != nil {
			return nil, err
		}
		return object{
			"source": found.Source, "description": found.Description, "name": orNull(found.Name, ""),
			"project": orNull(found.ProjectID, ""), "expires_ms": expiry(found.ExpiresAt),
		}, nil
	case "set_token":
		return nil, client.SetToken(string(given.Token))
	case "download", "download_to_memory":
		content, err := client.DownloadReport(ctx, instance, id, options...)
		if err == nil {
			err = os.WriteFile(given.Into, content, 0o600)
		}
		return object{}, err
	case "download_to_file", "download_to_directory":
		target := string(given.Path)
		if what == "download_to_directory" {
			target = string(given.Directory) + "/"
		}
		path, err := client.DownloadReportToFile(ctx, instance, id, target, options...)
		return object{"path": asPath(path)}, err
	case "download_to_descriptor":
		return object{}, client.DownloadReportTo(ctx, opened(given), instance, id, options...)
	case "download_to_callback":
		file := must(os.Create(given.Into))
		defer file.Close()
		return object{}, client.DownloadReportTo(ctx, onlyWriter{file}, instance, id, options...)
	case "open_report", "read_stream", "close_stream":
		return performStream(ctx, client, what, given, options)
	case "instances", "reports", "templates", "databases", "schedule":
		return performList(ctx, client, what, given, options)
	case "update_schedule":
		return nil, client.UpdateSchedule(ctx, instance, template, dbss.ScheduleChanges{Options: texts(given.Changes)}, options...)
	case "create":
		return nil, client.CreateReport(ctx, instance, dbss.ReportSpec{Options: texts(given.Spec)}, options...)
	case "generate":
		made, err := client.GenerateReport(ctx, instance, dbss.ReportSpec{Options: texts(given.Spec)}, options...)
		return object{"id": orNull(made, "")}, err
	case "wait":
		return nil, client.WaitForReport(ctx, instance, id, options...)
	case "delete":
		return nil, client.DeleteReport(ctx, instance, id, options...)
	case "mirror":
		result, err := client.Mirror(ctx, string(given.Directory), dbss.MirrorOptions{Options: texts(given.Options)}, options...)
		return mirrorResult(result), err
	}
	panic(what)
}

func texts(given map[string]text) map[string]string {
	made := map[string]string{}
	for key, value := range given {
		made[key] = string(value)
	}
	return made
}

func expiry(at time.Time) any {
	if at.IsZero() {
		return nil
	}
	return at.UnixMilli()
}

func opened(given arguments) *os.File {
	if given.Open == nil {
		return must(os.Create(given.Into))
	}
	flags := map[string]int{
		"r": os.O_RDONLY, "r+": os.O_RDWR, "w": os.O_WRONLY | os.O_CREATE | os.O_TRUNC,
		"a": os.O_WRONLY | os.O_CREATE | os.O_APPEND,
	}
	file := must(os.OpenFile(given.Open.Path, flags[given.Open.Mode], 0o600))
	must(file.Seek(given.Open.Offset, io.SeekStart))
	return file
}

func performStream(ctx context.Context, client *dbss.Client, what string, given arguments, options []dbss.CallOption) (object, error) {
	switch what {
	case "close_stream":
		return nil, streams[given.Stream].Close()
	case "read_stream":
		var reader io.Reader = streams[given.Stream]
		if given.Size != nil {
			reader = io.LimitReader(reader, *given.Size)
		}
		content, err := io.ReadAll(reader)
		if err == nil {
			err = os.WriteFile(given.Into, content, 0o600)
		}
		return object{"at_end": given.Size == nil || int64(len(content)) < *given.Size}, err
	}
	stream, err := client.OpenReport(ctx, string(given.Instance), string(given.ID), options...)
	if err != nil {
		return nil, err
	}
	facts := object{
		"size": orNull(stream.Size, -1), "format": orNull(stream.Format.String(), "unknown"), "filename": stream.Filename,
		"content_type": orNull(stream.ContentType, ""), "request_id": orNull(stream.RequestID, ""),
	}
	if given.Keep {
		streams[given.As] = stream
		return facts, nil
	}
	defer stream.Close()
	file := must(os.Create(given.Into))
	defer file.Close()
	_, err = io.CopyBuffer(onlyWriter{file}, struct{ io.Reader }{stream}, make([]byte, given.Read_Size))
	return facts, err
}
