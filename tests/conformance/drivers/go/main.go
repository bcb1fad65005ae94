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

var (
	clients    = map[string]*dbss.Client{}
	streams    = map[string]*dbss.ReportStream{}
	cancels    = map[string]context.CancelFunc{}
	output     sync.Mutex
	background sync.WaitGroup
	// For each request of a provider that is held, where its answer goes.
	held = make(chan chan object, 1000)
)

func main() {
	for lines := json.NewDecoder(bufio.NewReader(os.Stdin)); ; {
		lines.UseNumber()
		var request object
		if lines.Decode(&request) != nil {
			break
		}
		serve(request)
	}
	for _, client := range clients {
		client.Close()
	}
	background.Wait()
}

func put(line object) {
	encoded := must(json.Marshal(line))
	output.Lock()
	defer output.Unlock()
	must(os.Stdout.Write(append(encoded, '\n')))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// text is a value of a request as C takes it; it need not be UTF-8.
func text(value any) string {
	if coded, ok := value.(object); ok {
		return string(must(hex.DecodeString(coded["hex"].(string))))
	}
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

func number(value any) int64 { return must(value.(json.Number).Int64()) }

// orNull is null for the value that stands for none.
func orNull[T comparable](value, none T) any {
	if value == none {
		return nil
	}
	return value
}

func serve(r object) {
	client := clients[text(r["client"])]
	switch r["do"] {
	case "configure":
		respond(r, func() object { return configure(r) })
	case "call":
		ctx, cancel := context.WithCancel(context.Background())
		cancels[text(r["id"])] = cancel
		if r["background"] == false {
			respond(r, func() object { return call(ctx, client, r) })
			return
		}
		background.Add(1)
		go func() {
			defer background.Done()
			respond(r, func() object { return call(ctx, client, r) })
		}()
	case "cancel":
		cancels[text(r["of"])]()
		put(object{"id": r["id"], "status": "DBSS_OK"})
	case "answer":
		answer, _ := r["answer"].(object)
		(<-held) <- answer
		put(object{"id": r["id"], "status": "DBSS_OK"})
	case "cancel_all":
		client.CancelAll()
		put(object{"id": r["id"], "status": "DBSS_OK"})
	case "close", "free":
		client.Close()
		put(object{"id": r["id"], "status": "DBSS_OK"})
	default:
		put(object{"id": r["id"], "unsupported": r["do"]})
	}
}

// respond prints the response of a function, or what it panics with.
func respond(r object, f func() object) {
	defer func() {
		if value := recover(); value != nil {
			put(object{"id": r["id"], "unsupported": fmt.Sprint(value)})
		}
	}()
	response := f()
	response["id"] = r["id"]
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

func errorFields(e *dbss.Error) object {
	details := []object{}
	for _, one := range e.Details {
		details = append(details, object{"code": orNull(one.Code, ""), "message": orNull(one.Message, "")})
	}
	var wait any
	switch e.RetryAfter {
	case -1:
	case math.MaxInt64:
		// As long as a Duration can be, or longer.
		wait = int64(math.MaxInt64)
	default:
		wait = e.RetryAfter.Milliseconds()
	}
	return object{
		"message": e.Message, "parameter": orNull(e.Parameter, ""), "http_status": orNull(e.HTTPStatus, 0),
		"service_code": orNull(e.ServiceCode, ""), "service_message": orNull(e.ServiceMessage, ""),
		"request_id": orNull(e.RequestID, ""), "details": details, "path": asPath(e.Path),
		"encoded_authorization_message": orNull(e.EncodedAuthorizationMessage, ""),
		"cancelled_by":                  []any{nil, "operation", "client", "close", "callback"}[e.CancelledBy],
		"candidates":                    append([]string{}, e.Candidates...), "redirect_target": orNull(e.RedirectTarget, ""),
		"os_code": orNull(int(e.Errno), 0), "retryable": e.Retryable, "retry_after_ms": wait, "attempts": e.Attempts,
	}
}

// asPath is a path, which need not be UTF-8.
func asPath(path string) any {
	if !utf8.ValidString(path) {
		return object{"hex": hex.EncodeToString([]byte(path))}
	}
	return orNull(path, "")
}

func configure(r object) object {
	name := text(r["client"])
	if old := clients[name]; old != nil {
		old.Close()
		delete(clients, name)
	}
	var options []dbss.Option
	for _, one := range r["settings"].([]any) {
		if pair := one.([]any); pair[0] != "token" || r["token_provider"] == nil {
			options = append(options, dbss.WithOption(text(pair[0]), text(pair[1])))
		}
	}
	if answers, ok := r["token_provider"].([]any); ok {
		options = append(options, dbss.WithTokenProvider(provider(name, answers, "token")))
	}
	if answers, ok := r["passcodes"].([]any); ok {
		provide := provider(name, answers, "passcode")
		options = append(options, dbss.WithPasscodeProvider(func(ctx context.Context, refused bool) (string, error) {
			token, err := provide(ctx, refused)
			return token.Value, err
		}))
	}
	if r["log"] != nil {
		options = append(options, dbss.WithOption("log_level", text(r["log"])), dbss.WithLogger(eventLogger(name)))
	}
	client, err := dbss.NewClient(options...)
	if err == nil {
		clients[name] = client
	}
	return outcome(nil, err)
}

// provider gives the answers in order, and the last one again and again.
func provider(client string, answers []any, key string) dbss.TokenProvider {
	return func(ctx context.Context, refused bool) (token dbss.Token, err error) {
		put(object{"event": "asked", "client": client, "refused": refused})
		one := answers[0].(object)
		if len(answers) > 1 {
			answers = answers[1:]
		}
		if one["hold"] != nil {
			later := make(chan object, 1)
			held <- later
			select {
			case one = <-later:
			case <-ctx.Done():
				return token, ctx.Err()
			}
		}
		if one["fail"] != nil {
			return token, errors.New(text(one["fail"]))
		}
		if lifetime := one["expires_in_ms"]; lifetime != nil {
			token.ExpiresAt = time.Now().Add(time.Duration(number(lifetime)) * time.Millisecond)
		}
		token.Value = text(one[key])
		return token, nil
	}
}

func call(ctx context.Context, client *dbss.Client, r object) object {
	what, given := text(r["call"]), r["arguments"].(object)
	var options []dbss.CallOption
	for key, option := range map[string]func(string) dbss.CallOption{
		"project": func(id string) dbss.CallOption { return dbss.WithProjectID(id) },
		"locale":  dbss.WithLocale, "name": dbss.WithNameFilter, "status": dbss.WithStatusFilter,
	} {
		if value := given[key]; value != nil {
			options = append(options, option(text(value)))
		}
	}
	if given["replace"] == true {
		options = append(options, dbss.WithReplace())
	}
	operation, ok := r["operation"].(object)
	if !ok {
		return outcome(perform(ctx, client, what, given, options))
	}
	for _, one := range operation["settings"].([]any) {
		pair := one.([]any)
		options = append(options, dbss.WithOption(text(pair[0]), text(pair[1])))
	}
	if operation["cancelled"] == true {
		cancels[text(r["id"])]()
	}
	if wanted := operation["progress"]; wanted != nil {
		options = append(options, dbss.WithProgress(func(p dbss.Progress) error {
			event := object{"event": "progress", "of": r["id"], "received": p.Received}
			event["total"], event["percent"] = orNull(p.Total, -1), orNull(p.Percent, -1)
			put(event)
			if stop, ends := wanted.(object); ends && p.Received >= number(stop["stop_after"]) {
				return errors.New("enough")
			}
			return nil
		}))
	}
	var after dbss.Result
	response := outcome(perform(ctx, client, what, given, append(options, dbss.WithResult(&after))))
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

// perform makes a call, and returns its result.
func perform(ctx context.Context, c *dbss.Client, what string, given object, options []dbss.CallOption) (object, error) {
	instance, id, template := text(given["instance"]), text(given["id"]), text(given["template"])
	switch what {
	case "check":
		return nil, c.Check(ctx, options...)
	case "find_credentials":
		found, err := c.FindCredentials(ctx, options...)
		if err != nil {
			return nil, err
		}
		result := object{"source": found.Source, "description": found.Description, "expires_ms": nil}
		result["name"], result["project"] = orNull(found.Name, ""), orNull(found.ProjectID, "")
		if !found.ExpiresAt.IsZero() {
			result["expires_ms"] = found.ExpiresAt.UnixMilli()
		}
		return result, nil
	case "set_token":
		return nil, c.SetToken(text(given["token"]))
	case "download", "download_to_memory":
		content, err := c.DownloadReport(ctx, instance, id, options...)
		return saved(given, content, err)
	case "download_to_file", "download_to_directory":
		target := text(given["path"])
		if what == "download_to_directory" {
			target = text(given["directory"]) + "/"
		}
		path, err := c.DownloadReportToFile(ctx, instance, id, target, options...)
		return object{"path": asPath(path)}, err
	case "download_to_descriptor":
		file := opened(given)
		defer file.Close()
		return object{}, c.DownloadReportTo(ctx, file, instance, id, options...)
	case "download_to_callback":
		file := must(os.Create(text(given["into"])))
		defer file.Close()
		return object{}, c.DownloadReportTo(ctx, onlyWriter{file}, instance, id, options...)
	case "open_report":
		return openReport(ctx, c, given, options)
	case "read_stream":
		var reader io.Reader = streams[text(given["stream"])]
		if size := given["size"]; size != nil {
			reader = io.LimitReader(reader, number(size))
		}
		content, err := io.ReadAll(reader)
		result, err := saved(given, content, err)
		result["at_end"] = given["size"] == nil || int64(len(content)) < number(given["size"])
		return result, err
	case "close_stream":
		return nil, streams[text(given["stream"])].Close()
	case "update_schedule":
		return nil, c.UpdateSchedule(ctx, instance, template, dbss.ScheduleChanges{Options: texts(given["changes"])}, options...)
	case "create":
		return nil, c.CreateReport(ctx, instance, dbss.ReportSpec{Options: texts(given["spec"])}, options...)
	case "generate":
		made, err := c.GenerateReport(ctx, instance, dbss.ReportSpec{Options: texts(given["spec"])}, options...)
		return object{"id": orNull(made, "")}, err
	case "wait":
		return nil, c.WaitForReport(ctx, instance, id, options...)
	case "delete":
		return nil, c.DeleteReport(ctx, instance, id, options...)
	case "mirror":
		result, err := c.Mirror(ctx, text(given["directory"]), dbss.MirrorOptions{Options: texts(given["options"])}, options...)
		return mirrorResult(result), err
	}
	return performList(ctx, c, what, given, options)
}

func texts(given any) map[string]string {
	made := map[string]string{}
	for key, value := range given.(object) {
		made[key] = text(value)
	}
	return made
}

func saved(given object, content []byte, err error) (object, error) {
	if err == nil {
		err = os.WriteFile(text(given["into"]), content, 0o600)
	}
	return object{}, err
}

func opened(given object) *os.File {
	open, ok := given["open"].(object)
	if !ok {
		return must(os.Create(text(given["into"])))
	}
	flags := map[string]int{
		"r": os.O_RDONLY, "r+": os.O_RDWR, "w": os.O_WRONLY | os.O_CREATE | os.O_TRUNC,
		"a": os.O_WRONLY | os.O_CREATE | os.O_APPEND,
	}
	file := must(os.OpenFile(text(open["path"]), flags[text(open["mode"])], 0o600))
	if open["offset"] != nil {
		must(file.Seek(number(open["offset"]), io.SeekStart))
	}
	return file
}

func openReport(ctx context.Context, c *dbss.Client, given object, options []dbss.CallOption) (object, error) {
	stream, err := c.OpenReport(ctx, text(given["instance"]), text(given["id"]), options...)
	if err != nil {
		return nil, err
	}
	facts := object{
		"size": orNull(stream.Size, -1), "format": orNull(stream.Format.String(), "unknown"), "filename": stream.Filename,
		"content_type": orNull(stream.ContentType, ""), "request_id": orNull(stream.RequestID, ""),
	}
	if given["keep"] == true {
		streams[text(given["as"])] = stream
		return facts, nil
	}
	defer stream.Close()
	file := must(os.Create(text(given["into"])))
	defer file.Close()
	_, err = io.CopyBuffer(onlyWriter{file}, struct{ io.Reader }{stream}, make([]byte, number(given["read_size"])))
	return facts, err
}
