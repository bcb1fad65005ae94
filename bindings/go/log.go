package dbss

import (
	"context"
	"log/slog"
	"strings"

	"example.com/dbss/internal/abi"
)

var logLevels = map[int32]slog.Level{
	abi.LogError: slog.LevelError, abi.LogWarning: slog.LevelWarn, abi.LogInfo: slog.LevelInfo,
}

// logTo returns the log function of a client.
func logTo(logger *slog.Logger) abi.LogFn {
	return func(record abi.LogRecord) {
		k, _ := abi.CurrentCall().(*call)
		ctx := context.Background()
		if k != nil {
			ctx = k.ctx
		}
		defer func() {
			if value := recover(); value != nil && k != nil {
				k.panicked, k.panicValue = true, value
				k.cancel()
			}
		}()
		f := abi.ReadLogRecord(record)
		level, known := logLevels[f.Level]
		if !known {
			level = slog.LevelDebug
		}
		if !logger.Enabled(ctx, level) {
			return
		}
		message, attrs := f.Message, logAttrs(f)
		if f.Status != 0 {
			if failure := abi.TakeError(abi.LogRecordError(record)); failure != nil {
				err := k.errorFrom(failure)
				message = strings.Replace(message, failure.Message, err.Message, 1)
				attrs = append(attrs, slog.Any("error", err))
			}
		}
		logger.LogAttrs(ctx, level, message, attrs...)
	}
}

func logAttrs(f abi.LogRecordFields) (attrs []slog.Attr) {
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	number := func(key string, value, none int64) {
		if value != none {
			attrs = append(attrs, slog.Int64(key, value))
		}
	}
	duration := func(key string, value int64) {
		if value >= 0 {
			attrs = append(attrs, slog.Duration(key, milliseconds(value)))
		}
	}
	text("report_id", f.ReportID)
	text("request_id", f.RequestID)
	number("attempt", int64(f.Attempt), 0)
	number("http_status", int64(f.HTTPStatus), 0)
	number("bytes", f.Bytes, -1)
	number("offset", f.Offset, -1)
	duration("duration", f.DurationMs)
	duration("retry_delay", f.RetryDelayMs)
	if f.Status != 0 {
		text("status", Status(f.Status).Error())
	}
	return attrs
}
