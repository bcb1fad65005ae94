package dbss

import (
	"strconv"
	"strings"
	"time"

	"example.com/dbss/internal/abi"
)

// What this package calls the parameters of C. [optionNames] has those of options.
var parameterNames = map[string]string{
	"ctx": "client", "cursor": "list", "fd": "w", "id": "reportID", "instance": "instanceID", "locale": "WithLocale",
	"name": "WithNameFilter", "page_size": "WithPageSize", "project": "WithProjectID", "status": "WithStatusFilter",
	"template_id": "templateID",
}

// What providers return.
var (
	tokenNames    = map[string]string{"token": "Token.Value", "expires_ms": "Token.ExpiresAt"}
	passcodeNames = map[string]string{"token": "passcode"}
)

var objectNames = map[string]string{"context": "client", "cursor": "list"}

// nameHere returns the name that a parameter or an option of C has in this package, first by
// the names in `own`; its own one if it has none.
func nameHere(given string, own map[string]string) string {
	for _, names := range []map[string]string{own, parameterNames, optionNames} {
		if name, ok := names[given]; ok {
			return name
		}
	}
	return given
}

// messageHere makes the message of an error of its parts, with the names, units and values of
// this package.
func messageHere(parts []abi.Part, own map[string]string) string {
	var message strings.Builder
	// What a value must be between; the value comes after that.
	var bounds int32
	for _, part := range parts {
		kind, text := part.Kind, part.Text
		if kind == abi.PartValue && bounds != 0 {
			kind, text = bounds, strings.Trim(text, `"`)
		}
		switch kind {
		case abi.PartName:
			text = nameHere(text, own)
		case abi.PartValue:
			// In C an option is text, also if it is a number.
			if value := strings.Trim(text, `"`); isNumber(value) {
				text = value
			}
		case abi.PartDuration:
			bounds, text = kind, durationHere(text)
		case abi.PartMode:
			bounds, text = kind, "0o"+text
		case abi.PartNotation:
			text = ""
		case abi.PartNull:
			text = "nil"
		case abi.PartNoLimit:
			text = "NoLimit"
		case abi.PartUnknown:
			text = "time.Time{}"
		case abi.PartReplace:
			text = "use WithReplace()"
		case abi.PartObject:
			if name, ok := objectNames[text]; ok {
				text = name
			}
		}
		message.WriteString(text)
	}
	return message.String()
}

func isNumber(text string) bool {
	_, err := strconv.ParseInt(text, 10, 64)
	return err == nil
}

// durationHere writes a number of milliseconds, such as "250" or "250 ms", as Go does.
func durationHere(text string) string {
	number := strings.TrimSuffix(text, " ms")
	if value, err := time.ParseDuration(number + "ms"); err == nil {
		return value.String()
	}
	// Longer than a Duration can be.
	return number + "ms"
}

// refused puts the value into an error as it was given: in the notation of C, or a duration.
func (s Setting) refused(failure *abi.Failure) *abi.Failure {
	if failure == nil {
		return nil
	}
	for i := range failure.Parts {
		part := &failure.Parts[i]
		switch {
		case s.raw && part.Kind != abi.PartName && part.Kind != abi.PartObject:
			part.Kind = abi.PartText
		case s.duration != "" && part.Kind == abi.PartValue:
			part.Kind, part.Text = abi.PartText, s.duration
		}
	}
	return failure
}
