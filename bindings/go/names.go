package dbss

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"example.com/dbss/internal/abi"
)

// What this package calls the parameters of C. [optionNames] has those of options.
var parameterNames = map[string]string{
	"instance": "instanceID", "id": "reportID", "template_id": "templateID", "fd": "w", "ctx": "client", "cursor": "list",
	"project": "WithProjectID", "locale": "WithLocale", "page_size": "WithPageSize", "name": "WithNameFilter",
	"status": "WithStatusFilter",
}

// What providers return.
var (
	tokenNames    = map[string]string{"token": "Token.Value", "expires_ms": "Token.ExpiresAt"}
	passcodeNames = map[string]string{"token": "passcode"}
)

// What the user of C does, and what that of Go does.
var advice = strings.NewReplacer(
	"must not be NULL", "must not be nil",
	"allow replacing it", "use WithReplace()",
	`the option "credentials" to "default"`, `WithCredentials("default")`,
	"make another context", "make another client",
	"use one cursor for each thread", "use one list for each goroutine",
	"use -1 if the expiry is not known", "leave it zero if that is not known",
)

var keyInText = regexp.MustCompile(`(^|[ ("])([a-z]+(?:_[a-z]+)+)([ ,;:?)"]|$)`)

// inGo gives an error the names of this package; `own` has those of the call's structure.
func inGo(e *Error, own map[string]string) {
	name := func(of string) string {
		for _, names := range []map[string]string{own, parameterNames, optionNames} {
			if found, ok := names[of]; ok {
				return found
			}
		}
		return of
	}
	given := e.Parameter
	e.Parameter = name(given)
	// The texts of the service and of a provider stay as they are.
	if e.ServiceMessage != "" || e.Status == ErrNoToken {
		return
	}
	if rest, named := strings.CutPrefix(e.Message, given+": "); named && given != "" {
		e.Message = e.Parameter + ": " + rest
	}
	if e.Status == ErrUnknownKey {
		explainKey(e, own)
		return
	}
	// What follows was given by the user.
	text, value := e.Message, ""
	if at := strings.Index(text, `, but is "`); at >= 0 {
		text, value = text[:at], text[at:]
	}
	text = keyInText.ReplaceAllStringFunc(text, func(text string) string {
		parts := keyInText.FindStringSubmatch(text)
		return parts[1] + name(parts[2]) + parts[3]
	})
	e.Message = advice.Replace(text) + value
}

var unknownKey = regexp.MustCompile(`^key: (.*) has no option "(.*)"$`)

// explainKey names the option that was perhaps meant.
func explainKey(e *Error, own map[string]string) {
	parts := unknownKey.FindStringSubmatch(e.Message)
	if parts == nil {
		return
	}
	if name, ok := optionNames[parts[2]]; ok && parts[1] == "an operation" {
		e.Message = fmt.Sprintf(`key: "%s" is an option of a client, not of one call; give %s to NewClient`, parts[2], name)
		return
	}
	names := own
	if names == nil {
		names = optionNames
	}
	e.Message = fmt.Sprintf(`key: there is no option "%s"`, parts[2])
	if similar := nearest(parts[2], names); similar != "" {
		e.Message += fmt.Sprintf("; did you mean %s?", similar)
	}
}

// nearest returns the name, of those of options by their keys, that a text is close to.
func nearest(text string, names map[string]string) (found string) {
	plain := func(name string) string {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "With"), "_ms")
		return strings.ToLower(strings.ReplaceAll(name, "_", ""))
	}
	text = plain(text)
	// Two typing mistakes at most.
	least := min(3, len(text)/2)
	for key, name := range names {
		for _, one := range []string{key, name} {
			if mistakes := distance(text, plain(one)); mistakes < least || mistakes == least && name < found {
				found, least = name, mistakes
			}
		}
	}
	return found
}

// distance counts the bytes to insert, remove or replace between two texts.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range b {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

var (
	durationRange = regexp.MustCompile(`must be a whole number from (\d+) to (\d+)(, or -1 for no limit)?, but is "(.*)"$`)
	modeRange     = regexp.MustCompile(`must be octal digits from (\d+) to (\d+), such as (\d+), but is "(.*)"$`)
)

// refused tells an error about the value in the terms in which it was given.
func (s Setting) refused(failure *abi.Failure) *abi.Failure {
	if s.raw {
		return failure
	}
	if parts := durationRange.FindStringSubmatch(failure.Message); parts != nil && strings.HasSuffix(s.key, "_ms") {
		duration := func(text string) string {
			if value, err := time.ParseDuration(text + "ms"); err == nil {
				return value.String()
			}
			return text
		}
		limit := ""
		if parts[3] != "" {
			limit = ", or NoLimit"
		}
		text := fmt.Sprintf("must be from %s to %s%s, but is %s", duration(parts[1]), duration(parts[2]), limit, duration(parts[4]))
		failure.Message = strings.Replace(failure.Message, parts[0], text, 1)
	}
	failure.Message = modeRange.ReplaceAllString(failure.Message, "must be from 0o$1 to 0o$2, such as 0o$3, but is 0o$4")
	return failure
}
