//go:build go1.23

package dbss_test

import (
	"errors"
	"testing"

	"example.com/dbss"
)

func TestAllIsForRange(t *testing.T) {
	client := newClient(t)
	instance := addInstance(t)
	mock.control(t, "POST", "/reports", object{"format": "pdf", "count": 5, "instance": instance}, nil)
	list := client.Reports(background, instance, dbss.WithPageSize(2))
	count := 0
	for _, err := range list.All() {
		check(t, err)
		if count++; count == 3 {
			break
		}
	}
	for report, err := range list.All() {
		check(t, err)
		if report.ID == "" {
			t.Error("no id")
		}
		count++
	}
	if count != 5 {
		t.Errorf("%d reports", count)
	}
	failures := 0
	for _, err := range client.Reports(background, "no id").All() {
		if !errors.Is(err, dbss.ErrInvalidID) {
			t.Errorf("not refused: %v", err)
		}
		failures++
	}
	if failures != 1 {
		t.Errorf("%d failures", failures)
	}
}
