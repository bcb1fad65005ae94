package dbss_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"example.com/dbss"
)

func addInstance(t *testing.T) string {
	t.Helper()
	var added struct{ IDs []string }
	mock.control(t, "POST", "/instances", object{"name": "audit"}, &added)
	t.Cleanup(func() { mock.control(t, "DELETE", "/instances", object{"ids": added.IDs}, nil) })
	return added.IDs[0]
}

func TestListsFetchAllPages(t *testing.T) {
	client := newClient(t)
	instance := addInstance(t)
	var added struct{ IDs []string }
	mock.control(t, "POST", "/reports", object{"format": "pdf", "count": 25, "instance": instance}, &added)
	list := client.Reports(background, instance, dbss.WithPageSize(10))
	if list.Total() != -1 {
		t.Errorf("total %d before the first page", list.Total())
	}
	var ids []string
	for list.Next() {
		ids = append(ids, list.Item().ID)
		if !list.Item().Ready() {
			t.Errorf("not ready: %+v", list.Item())
		}
	}
	check(t, list.Err())
	if len(ids) != 25 || list.Total() != 25 || ids[0] != added.IDs[24] {
		t.Errorf("%d reports of %d", len(ids), list.Total())
	}
	if list.Next() || list.Err() != nil {
		t.Errorf("the list goes on: %v", list.Err())
	}
	reports, err := client.Reports(background, instance, dbss.WithNameFilter("no such name")).Collect()
	if len(reports) != 0 || err != nil {
		t.Errorf("%v, %v", reports, err)
	}
	instances, err := client.Instances(background).Collect()
	check(t, err)
	if instances[0].ID != mock.InstanceID || instances[0].Raw["id"] == nil || instances[0].CPU == nil {
		t.Errorf("wrong instance: %+v", instances[0])
	}
	templates, err := client.Templates(background, instance).Collect()
	check(t, err)
	if len(templates) != len(mock.Templates) || templates[0].ID != mock.Templates[0].ID {
		t.Errorf("wrong templates: %+v", templates)
	}
	databases, err := client.Databases(background, instance, dbss.WithStatusFilter("OFF")).Collect()
	check(t, err)
	if len(databases) != 1 || databases[0].Status != "OFF" {
		t.Errorf("wrong databases: %+v", databases)
	}
}

func TestListContinuesAfterAFailure(t *testing.T) {
	client := newClient(t)
	instance := addInstance(t)
	mock.control(t, "POST", "/reports", object{"format": "pdf", "count": 5, "instance": instance}, nil)
	mock.fault(t, "@reports.list", object{"status": 500, "skip": 1, "times": 1})
	list := client.Reports(background, instance, dbss.WithPageSize(2), dbss.WithMaxAttempts(1))
	first, err := list.Collect()
	if len(first) != 2 || !errors.Is(err, dbss.ErrServer) {
		t.Errorf("%d reports, %v", len(first), err)
	}
	rest, err := list.Collect()
	if len(rest) != 3 || err != nil {
		t.Errorf("%d reports, %v", len(rest), err)
	}
}

func TestListDoesNotSkipAPageThatCannotBeRead(t *testing.T) {
	client := newClient(t)
	page := func(first, extra string) {
		item := `{"id":"` + strings.Repeat("a", 35)
		mock.fault(t, "@instances", object{"times": 1, "headers": [][2]string{{"Content-Type", "application/json"}},
			"body": `{"total":4,"instances":[` + item + first + `","extra":` + extra + `},` + item + first + `b"}]}`})
	}
	page("1", strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000))
	page("2", `""`)
	list := client.Instances(background, dbss.WithPageSize(2))
	for i := 0; i < 3; i++ {
		items, err := list.Collect()
		if len(items) != 0 || !errors.Is(err, dbss.ErrUnexpectedResponse) {
			t.Errorf("%d items, %v", len(items), err)
		}
	}
}

func TestFieldsAreConvertedLeniently(t *testing.T) {
	client := newClient(t)
	instance := addInstance(t)
	mock.control(t, "POST", "/reports", object{"format": "pdf", "instance": instance, "percentum": "99.5",
		"type": nil, "db_names": []int{1, 2}, "extra": object{"unknown": object{"a": 1}}}, nil)
	reports, err := client.Reports(background, instance).Collect()
	check(t, err)
	report := reports[0]
	if *report.Percentum != 99 || report.Ready() || report.Type != "" || strings.ReplaceAll(report.DBNames, " ", "") != "[1,2]" {
		t.Errorf("wrong report: %+v", report)
	}
	var unknown struct{ A int }
	check(t, json.Unmarshal(report.Raw["unknown"], &unknown))
	if unknown.A != 1 {
		t.Errorf("wrong field: %s", report.Raw["unknown"])
	}
}

func spec() dbss.ReportSpec {
	return dbss.ReportSpec{
		TemplateID: mock.Templates[0].ID, StartTime: "2026-11-23 00:00:00", EndTime: "2026-11-24 00:00:00",
	}
}

func TestGenerateReportReturnsTheNewReport(t *testing.T) {
	client := newClient(t, dbss.WithPollInterval(time.Millisecond))
	instance := addInstance(t)
	var percents []int
	id, err := client.GenerateReport(background, instance, spec(), dbss.WithProgress(func(p dbss.Progress) error {
		percents = append(percents, p.Percent)
		return nil
	}))
	check(t, err)
	if len(percents) == 0 || percents[len(percents)-1] != 100 {
		t.Errorf("progress %v", percents)
	}
	content, err := client.DownloadReport(background, instance, id)
	check(t, err)
	if !bytes.HasPrefix(content, []byte("%PDF-")) {
		t.Error("not a PDF")
	}
	check(t, client.WaitForReport(background, instance, id))
	check(t, client.DeleteReport(background, instance, id))
	if err := client.DeleteReport(background, instance, id); !errors.Is(err, dbss.ErrNotFound) {
		t.Errorf("not missing: %v", err)
	}
	check(t, client.CreateReport(background, instance, spec()))
	wrong := spec()
	wrong.TemplateID = "0123456789abcdef"
	if _, err := client.GenerateReport(background, instance, wrong); !errors.Is(err, dbss.ErrNotFound) {
		t.Errorf("not missing: %v", err)
	}
	mock.control(t, "POST", "/generation", object{"percent_per_list": 0}, nil)
	defer mock.control(t, "POST", "/generation", object{}, nil)
	_, err = client.GenerateReport(background, instance, spec(), dbss.WithWaitTimeout(50*time.Millisecond))
	if !errors.Is(err, dbss.ErrNotReady) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("not late: %v", err)
	}
}

func TestUpdateScheduleChangesWhatIsGiven(t *testing.T) {
	client := newClient(t)
	instance := addInstance(t)
	template := mock.Templates[0].ID
	before, err := client.Schedule(background, instance, template)
	check(t, err)
	none := ""
	check(t, client.UpdateSchedule(background, instance, template,
		dbss.ScheduleChanges{Status: "OFF", Format: "ZIP", TopicURN: &none}))
	after, err := client.Schedule(background, instance, template)
	check(t, err)
	if after.Status != "OFF" || after.Format != "ZIP" || after.TopicURN != "" || after.Frequency != before.Frequency {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if before.SMNEffective == nil || !*before.SMNEffective {
		t.Errorf("wrong schedule: %+v", before)
	}
	err = client.UpdateSchedule(background, instance, template, dbss.ScheduleChanges{})
	if !errors.Is(err, dbss.ErrNotConfigured) {
		t.Errorf("not refused: %v", err)
	}
}

func TestMirrorReturnsItsResult(t *testing.T) {
	client := newClient(t)
	instance := addInstance(t)
	var added struct{ IDs []string }
	mock.control(t, "POST", "/reports", object{"format": "pdf", "count": 5, "instance": instance}, &added)
	refused := added.IDs[2]
	mock.fault(t, refused, object{"status": 403, "times": 1})
	directory := filepath.Join(t.TempDir(), "archive")
	options := dbss.MirrorOptions{InstanceID: instance, Parallel: 2}
	result, err := client.Mirror(background, directory, options)
	if !errors.Is(err, dbss.ErrPartial) || result == nil {
		t.Fatalf("%+v, %v", result, err)
	}
	if result.Downloaded != 4 || result.Failed != 1 || len(result.Failures) != 1 {
		t.Errorf("wrong result: %+v", result)
	}
	if one := result.Failures[0]; one.ReportID != refused || one.InstanceID != instance || !errors.Is(one.Err, dbss.ErrForbidden) {
		t.Errorf("wrong failure: %+v", one)
	}
	var percent int
	result, err = client.Mirror(background, directory, options, dbss.WithProgress(func(p dbss.Progress) error {
		percent = p.Percent
		return nil
	}))
	check(t, err)
	if result.Downloaded != 1 || result.Present != 4 || percent != 100 {
		t.Errorf("wrong result: %+v at %d %%", result, percent)
	}
	if _, err := os.Stat(filepath.Join(directory, "SHA256SUMS")); err != nil {
		t.Error(err)
	}
	day := func(days int) string { return time.Date(2026, 11, 1+days, 0, 0, 0, 0, time.UTC).Format("2006-01-02") }
	mock.control(t, "POST", "/reports", object{"format": "pdf", "instance": instance, "type": "AUDIT_REPORT_DAY",
		"start_time": day(0) + " 00:00:00", "end_time": day(1) + " 00:00:00"}, nil)
	result, err = client.Mirror(background, directory, dbss.MirrorOptions{
		InstanceID: instance, Since: day(0), Until: day(2), Type: "AUDIT_REPORT_DAY",
	})
	check(t, err)
	if want := (dbss.Gap{InstanceID: instance, Type: "AUDIT_REPORT_DAY", Period: day(1)}); len(result.Gaps) == 0 || result.Gaps[0] != want {
		t.Errorf("wrong gaps: %+v", result.Gaps)
	}
	result, err = client.Mirror(background, directory, dbss.MirrorOptions{Since: "soon"})
	if result != nil || !errors.Is(err, dbss.ErrInvalidValue) {
		t.Errorf("%+v, %v", result, err)
	}
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := client.Mirror(ctx, directory, options); !errors.Is(err, context.Canceled) {
		t.Errorf("not cancelled: %v", err)
	}
}

func TestListRemembersItsEnd(t *testing.T) {
	client := newClient(t)
	ctx, cancel := context.WithCancel(background)
	list := client.Templates(ctx, mock.InstanceID)
	_, err := list.Collect()
	check(t, err)
	cancel()
	client.Close()
	if list.Next() || list.Err() != nil {
		t.Errorf("the end became %v", list.Err())
	}
	if items, err := list.Collect(); len(items) != 0 || err != nil {
		t.Errorf("%d items, %v", len(items), err)
	}
}

func TestReadyReportsAreThoseThatAWaitFinds(t *testing.T) {
	client := newClient(t)
	instance := addInstance(t)
	for _, percentum := range []any{100, "100", "100.0", "+100", 250, 99.9, "99.9", "1e2", "0x64p0", "1_00", "100 %", ".5", "-100", true, "", nil} {
		report := mock.addReport(t, object{"format": "pdf", "instance": instance, "percentum": percentum})
		found, err := client.Reports(background, instance).Collect()
		check(t, err)
		err = client.WaitForReport(background, instance, report.ID, dbss.WithWaitTimeout(time.Millisecond))
		if found[0].ID != report.ID || found[0].Ready() != (err == nil) {
			t.Errorf("%#v: ready: %v, %v", percentum, found[0].Ready(), err)
		}
	}
}

func TestFieldsPrintTheirJSON(t *testing.T) {
	report := dbss.Report{Raw: dbss.Fields{"id": json.RawMessage(`"a"`), "percentum": json.RawMessage("100")}}
	if text := fmt.Sprintf("%+v", report); !strings.Contains(text, `Raw:map[id:"a" percentum:100]`) {
		t.Error(text)
	}
}
