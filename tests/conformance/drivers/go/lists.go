package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"reflect"
	"strings"

	"example.com/dbss"
)

func performList(ctx context.Context, c *dbss.Client, what string, given object, options []dbss.CallOption) (object, error) {
	instance, fields := text(given["instance"]), given["fields"].([]any)
	if size := given["page_size"]; what != "templates" && size != nil {
		options = append(options, dbss.WithPageSize(int(number(size))))
	}
	switch what {
	case "instances":
		return collect(c.Instances(ctx, options...), fields)
	case "reports":
		return collect(c.Reports(ctx, instance, options...), fields)
	case "templates":
		return collect(c.Templates(ctx, instance, options...), fields)
	case "databases":
		return collect(c.Databases(ctx, instance, options...), fields)
	case "schedule":
		schedule, err := c.Schedule(ctx, instance, text(given["template"]), options...)
		if err != nil {
			return nil, err
		}
		return fieldsOf(schedule, fields), nil
	}
	panic(what)
}

func collect[T any](list *dbss.List[T], fields []any) (object, error) {
	found, err := list.Collect()
	if err != nil {
		return nil, err
	}
	items := []object{}
	for _, one := range found {
		items = append(items, fieldsOf(one, fields))
	}
	return object{"items": items, "total": orNull(list.Total(), -1)}, nil
}

// fieldsOf returns fields of an item as text, by their names at the service.
func fieldsOf(item any, names []any) object {
	value := reflect.ValueOf(item)
	raw := value.FieldByName("Raw").Interface().(dbss.Fields)
	found := object{}
	for _, one := range names {
		name := text(one)
		field := value.FieldByNameFunc(func(one string) bool {
			return strings.EqualFold(one, strings.ReplaceAll(name, "_", ""))
		})
		sent := raw[name]
		var asText *string
		isText := json.Unmarshal(sent, &asText) == nil && asText != nil
		switch {
		case field.IsValid() && field.Kind() == reflect.String && (field.Len() > 0 || isText):
			found[name] = field.String()
		case field.IsValid() && (field.Kind() == reflect.String || field.IsNil()):
			found[name] = nil
		case field.IsValid():
			found[name] = string(must(json.Marshal(field.Interface())))
		case isText:
			found[name] = *asText
		default:
			found[name] = orNull(strings.TrimPrefix(string(sent), "null"), "")
		}
	}
	return found
}

func mirrorResult(result *dbss.MirrorResult) object {
	if result == nil {
		return nil
	}
	failures, gaps := []object{}, []object{}
	for _, one := range result.Failures {
		fields := errorFields(one.Err)
		fields["status"] = one.Err.Status.Error()
		failures = append(failures, object{"id": orNull(one.ReportID, ""), "instance": one.InstanceID, "error": fields})
	}
	for _, one := range result.Gaps {
		gaps = append(gaps, object{"period": one.Period, "type": one.Type, "instance": one.InstanceID})
	}
	return object{
		"listed": result.Listed, "downloaded": result.Downloaded, "present": result.Present, "not_ready": result.NotReady,
		"vanished": result.Vanished, "failed": result.Failed, "repaired": result.Repaired, "failures": failures, "gaps": gaps,
	}
}

// eventLogger prints each record as an event.
func eventLogger(client string) *slog.Logger { return slog.New(eventHandler{client}) }

type eventHandler struct{ client string }

func (h eventHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h eventHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h eventHandler) WithGroup(string) slog.Handler            { return h }

func (h eventHandler) Handle(_ context.Context, record slog.Record) error {
	levels := map[slog.Level]string{slog.LevelError: "error", slog.LevelWarn: "warning", slog.LevelInfo: "info", slog.LevelDebug: "debug"}
	event := object{"event": "log", "client": h.client, "level": levels[record.Level], "message": record.Message}
	for _, name := range []string{"status", "attempt", "request_id", "report_id", "bytes", "duration_ms", "offset", "retry_delay_ms", "http_status"} {
		event[name] = nil
	}
	record.Attrs(func(one slog.Attr) bool {
		switch {
		case one.Key == "error":
		case one.Value.Kind() == slog.KindDuration:
			event[one.Key+"_ms"] = one.Value.Duration().Milliseconds()
		default:
			event[one.Key] = one.Value.Any()
		}
		return true
	})
	put(event)
	return nil
}
