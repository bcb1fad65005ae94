package dbss

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"example.com/dbss/internal/abi"
)

// Fields are the fields of an item as the service sent them, by name.
type Fields map[string]json.RawMessage

// String returns the fields with their JSON.
func (f Fields) String() string {
	texts := map[string]string{}
	for name, value := range f {
		texts[name] = string(value)
	}
	return fmt.Sprint(texts)
}

// value returns the first of these fields that is there and not null.
func (f Fields) value(names []string) json.RawMessage {
	for _, name := range names {
		if value := f[name]; value != nil && string(value) != "null" {
			return value
		}
	}
	return nil
}

// text returns a text; of another value its JSON.
func (f Fields) text(names ...string) string {
	value := f.value(names)
	var text string
	if json.Unmarshal(value, &text) != nil {
		return string(value)
	}
	return text
}

// integer returns a number, also from a text, without its fraction; nil for anything else. In
// this way libdbss reads the progress of a report too.
func (f Fields) integer(names ...string) *int64 {
	whole, _, _ := strings.Cut(f.text(names...), ".")
	number, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return nil
	}
	return &number
}

func (f Fields) boolean(names ...string) *bool {
	var value *bool
	if json.Unmarshal(f.value(names), &value) != nil {
		return nil
	}
	return value
}

func (f Fields) list(names ...string) []any {
	var value []any
	if json.Unmarshal(f.value(names), &value) != nil {
		return nil
	}
	return value
}

// Ready reports whether the report can be downloaded.
func (r Report) Ready() bool { return r.Percentum != nil && *r.Percentum >= 100 }

// List is a list of the service. It fetches each page when it is needed:
//
//	for list.Next() {
//		use(list.Item())
//	}
//	if err := list.Err(); err != nil {
//
// or, since Go 1.23, "for item, err := range list.All()". The list may change meanwhile: no
// item comes twice, and a deletion does not hide the items that remain. One goroutine uses it
// at a time.
type List[T any] struct {
	_     noCopy
	state *listState[T]
}

// listState is what copies of a List share.
type listState[T any] struct {
	client   *Client
	ctx      context.Context
	settings *callSettings
	open     func(*call) (abi.Cursor, *abi.Failure)
	parse    func(Fields) T
	cursor   *resource[abi.Cursor]
	page     []T
	item     T
	total    int64
	err      error
	// Whether nothing more can come.
	ended bool
	// Why the last page cannot be read: the cursor would not fetch it again.
	unreadable *abi.Failure
}

func newList[T any](
	c *Client, ctx context.Context, options []CallOption, allowed parameter, parse func(Fields) T,
	open func(*call) (abi.Cursor, *abi.Failure),
) *List[T] {
	settings, err := newCallSettings(options, allowed)
	return &List[T]{state: &listState[T]{
		client: c, ctx: ctx, settings: settings, open: open, parse: parse, total: -1, err: err, ended: err != nil,
	}}
}

// made returns the state of the list, with an error if no method of a Client has made it.
func (l *List[T]) made() *listState[T] {
	if l == nil || l.state == nil {
		err := nilError("list", "is not of a client; make it with a method such as Client.Reports")
		return &listState[T]{total: -1, err: err, ended: true}
	}
	return l.state
}

// Next advances to the next item; false at the end and after a failure. After a failure it
// may be called again, for the same page. A page that cannot be read, such as one whose JSON
// is nested more than 10000 deep, fails each time.
func (l *List[T]) Next() bool {
	s := l.made()
	if len(s.page) == 0 && !s.ended {
		s.err = s.client.runWith(s.ctx, s.settings, s.fetch)
	}
	if len(s.page) == 0 || s.err != nil {
		return false
	}
	s.item, s.page = s.page[0], s.page[1:]
	return true
}

func (s *listState[T]) fetch(k *call) *abi.Failure {
	if s.unreadable != nil {
		return s.unreadable
	}
	if s.cursor == nil {
		cursor, failure := s.open(k)
		if failure != nil {
			return failure
		}
		s.cursor = newResource(cursor, abi.CursorFree, nil)
	}
	cursor, ok := s.cursor.acquire()
	if !ok {
		return abi.NewFailure(int32(ErrBusy), "list", abi.Part{Text: "list: another goroutine uses it"})
	}
	defer s.cursor.release()
	page, failure := abi.CursorNext(k.id, cursor, k.operation)
	if failure != nil {
		return failure
	}
	if page == nil {
		s.ended = true
		s.cursor.close(nil)
		return nil
	}
	s.total = abi.ReadPage(page).Total
	s.page, s.unreadable = readPage(page, s.parse)
	return s.unreadable
}

// readPage converts the items of a page, which it frees.
func readPage[T any](page abi.Page, parse func(Fields) T) ([]T, *abi.Failure) {
	defer abi.PageFree(page)
	document, failure := abi.PageJSON(page)
	if failure != nil {
		return nil, failure
	}
	var content struct{ Items []Fields }
	if err := json.Unmarshal(document, &content); err != nil {
		return nil, abi.NewFailure(int32(ErrUnexpectedResponse), "", abi.Part{Text: "the service's list: " + err.Error()})
	}
	items := make([]T, 0, len(content.Items))
	for _, fields := range content.Items {
		items = append(items, parse(fields))
	}
	return items, nil
}

// Item returns the item that Next advanced to.
func (l *List[T]) Item() T { return l.made().item }

// Err returns the error that ended the list; nil at its end.
func (l *List[T]) Err() error { return l.made().err }

// Total returns the number of items in the whole list, as the service told with the last
// page; -1 before the first page and if it does not tell.
func (l *List[T]) Total() int64 { return l.made().total }

// Collect returns all items that remain.
func (l *List[T]) Collect() ([]T, error) {
	var items []T
	for l.Next() {
		items = append(items, l.Item())
	}
	return items, l.Err()
}

// Instances lists the audit instances of the project.
//
// Options: [WithPageSize], [WithProjectID] and those of any call, for each page.
//
// Errors, from [List.Err]: [ErrUnexpectedResponse] and those of [Client.DownloadReport].
func (c *Client) Instances(ctx context.Context, options ...CallOption) *List[Instance] {
	return newList(c, ctx, options, takesPageSize, newInstance, func(k *call) (abi.Cursor, *abi.Failure) {
		return abi.InstancesList(k.context, k.settings.project, k.settings.pageSize)
	})
}

// Reports lists the reports of an instance; see [Client.Instances].
//
// Options: [WithNameFilter], [WithPageSize], [WithProjectID] and those of any call.
func (c *Client) Reports(ctx context.Context, instanceID string, options ...CallOption) *List[Report] {
	allowed := takesPageSize | takesName
	return newList(c, ctx, options, allowed, newReport, func(k *call) (abi.Cursor, *abi.Failure) {
		s := k.settings
		return abi.ReportsList(k.context, s.project, instanceID, s.name, s.pageSize)
	})
}

// Templates lists the report templates of an instance; see [Client.Instances].
//
// Options: [WithProjectID] and those of any call.
func (c *Client) Templates(ctx context.Context, instanceID string, options ...CallOption) *List[Template] {
	return newList(c, ctx, options, 0, newTemplate, func(k *call) (abi.Cursor, *abi.Failure) {
		return abi.TemplatesList(k.context, k.settings.project, instanceID)
	})
}

// Databases lists the databases that an instance audits; see [Client.Instances].
//
// Options: [WithStatusFilter], [WithPageSize], [WithProjectID] and those of any call.
func (c *Client) Databases(ctx context.Context, instanceID string, options ...CallOption) *List[Database] {
	allowed := takesPageSize | takesStatus
	return newList(c, ctx, options, allowed, newDatabase, func(k *call) (abi.Cursor, *abi.Failure) {
		s := k.settings
		return abi.DatabasesList(k.context, s.project, instanceID, s.status, s.pageSize)
	})
}

// filled makes an object of options by key and value for a call, uses it and frees it.
func filled[H any](
	k *call, names map[string]string,
	create func() (H, *abi.Failure), set func(H, string, string) *abi.Failure, free func(H),
	each func(func(key, value string)), use func(H) *abi.Failure,
) *abi.Failure {
	k.names = names
	object, failure := create()
	if failure != nil {
		return failure
	}
	defer free(object)
	each(func(key, value string) {
		if failure == nil {
			failure = set(object, key, value)
		}
	})
	if failure != nil {
		return failure
	}
	return use(object)
}

func withSpec(k *call, spec ReportSpec, use func(abi.ReportSpec) *abi.Failure) *abi.Failure {
	return filled(k, reportSpecNames, abi.ReportSpecNew, abi.ReportSpecSet, abi.ReportSpecFree, spec.each, use)
}

// CreateReport starts the creation of a report. The service returns no id:
// [Client.GenerateReport] finds the new report and waits for it.
//
// The request is sent again only if it cannot have taken effect: if nothing of it was sent,
// if the response was HTTP 429 or 503, or if the credentials were rejected and could be
// renewed. After another failure, such as a lost connection, it is not repeated, because the
// report may have been created.
//
// Errors: [ErrNotConfigured] if a required field of the spec is empty; [ErrRejected]; those
// of [Client.DownloadReport].
func (c *Client) CreateReport(ctx context.Context, instanceID string, spec ReportSpec, options ...CallOption) error {
	return c.run(ctx, options, 0, func(k *call) *abi.Failure {
		return withSpec(k, spec, func(spec abi.ReportSpec) *abi.Failure {
			return abi.ReportCreate(k.id, k.context, k.settings.project, instanceID, spec, k.operation)
		})
	})
}

// GenerateReport creates a report, waits until it is ready, and returns its id. If it fails
// after it found the report, Candidates of the [Error] has its id, for [Client.WaitForReport].
//
// Options: [WithWaitTimeout], [WithPollInterval] and those of any call.
//
// Errors: [ErrNotFound] also without such a template; [ErrAmbiguous], [ErrNotReady]; those
// of [Client.CreateReport].
func (c *Client) GenerateReport(ctx context.Context, instanceID string, spec ReportSpec, options ...CallOption) (string, error) {
	var id string
	err := c.run(ctx, options, 0, func(k *call) *abi.Failure {
		return withSpec(k, spec, func(spec abi.ReportSpec) (failure *abi.Failure) {
			id, failure = abi.ReportGenerate(k.id, k.context, k.settings.project, instanceID, spec, k.operation)
			return failure
		})
	})
	return id, err
}

// WaitForReport waits until a report can be downloaded.
//
// Options: [WithWaitTimeout], [WithPollInterval] and those of any call.
//
// Errors: [ErrNotFound] also if it is deleted meanwhile; [ErrNotReady]; those of
// [Client.DownloadReport].
func (c *Client) WaitForReport(ctx context.Context, instanceID, reportID string, options ...CallOption) error {
	return c.run(ctx, options, 0, func(k *call) *abi.Failure {
		return abi.ReportWait(k.id, k.context, k.settings.project, instanceID, reportID, k.operation)
	})
}

// DeleteReport deletes a report at the service, permanently.
//
// Errors: [ErrNotFound], [ErrRejected]; those of [Client.DownloadReport].
func (c *Client) DeleteReport(ctx context.Context, instanceID, reportID string, options ...CallOption) error {
	return c.run(ctx, options, 0, func(k *call) *abi.Failure {
		return abi.ReportDelete(k.id, k.context, k.settings.project, instanceID, reportID, k.operation)
	})
}

// Schedule returns the schedule on which the service generates reports from a template,
// whose id has 16 to 64 characters.
//
// Errors: [ErrNotFound], [ErrUnexpectedResponse]; those of [Client.DownloadReport].
func (c *Client) Schedule(ctx context.Context, instanceID, templateID string, options ...CallOption) (Schedule, error) {
	var found []Schedule
	err := c.run(ctx, options, 0, func(k *call) *abi.Failure {
		page, failure := abi.ScheduleShow(k.id, k.context, k.settings.project, instanceID, templateID, k.operation)
		if failure == nil {
			found, failure = readPage(page, newSchedule)
		}
		return failure
	})
	if err != nil || len(found) == 0 {
		return Schedule{}, err
	}
	return found[0], nil
}

// UpdateSchedule changes the schedule of a template. It gets the present one and sends all of
// it back with the changes, so a change that somebody else makes in between is lost. The
// change is sent again only if it cannot have taken effect, as the request of
// [Client.CreateReport]. After another failure, such as a lost connection, the schedule may
// have been changed.
//
// Errors: [ErrNotConfigured] if nothing changes; [ErrRejected]; those of [Client.Schedule].
func (c *Client) UpdateSchedule(ctx context.Context, instanceID, templateID string, changes ScheduleChanges, options ...CallOption) error {
	return c.run(ctx, options, 0, func(k *call) *abi.Failure {
		use := func(changes abi.ScheduleChanges) *abi.Failure {
			return abi.ScheduleUpdate(k.id, k.context, k.settings.project, instanceID, templateID, changes, k.operation)
		}
		return filled(k, scheduleChangesNames, abi.ScheduleChangesNew, abi.ScheduleChangesSet, abi.ScheduleChangesFree, changes.each, use)
	})
}

// MirrorFailure is a report, or a list of reports, that a mirror failed to get.
type MirrorFailure struct {
	// The id of the instance.
	InstanceID string
	// The id of the report; empty if the list of the instance's reports failed.
	ReportID string
	// Why it failed.
	Err *Error
}

// Gap is a day, week or month without a report.
type Gap struct {
	// The id of the instance, the type of the missing report, and the first day of the
	// period, such as "2026-11-24".
	InstanceID, Type, Period string
}

// MirrorResult is the result of a mirror.
type MirrorResult struct {
	MirrorCounts
	// The reports, and lists of them, that failed.
	Failures []MirrorFailure
	// The days, weeks and months without a report of an instance and a type, from Since to
	// Until, or without these from the first to the last report. What has no report at all
	// has gaps only if Type selects it, Since and Until are set, and it is not weekly. At
	// most 10,000 of an instance and a type, the latest ones.
	Gaps []Gap
}

// Mirror brings a local archive of reports up to date: it downloads every report that is
// ready and not there, several at once, into files {instance}/{year}/{name}_{id}.pdf or
// .zip, and writes manifest.jsonl and SHA256SUMS. It deletes nothing. After a failure or a
// cancel the next call continues. The directory is created if it does not exist.
//
// The result is nil only if the mirror did not begin; with an error it is partial.
//
// Errors: [ErrPartial] if some reports failed and the others are there; [ErrMirrorLocked];
// [ErrFile] and its group; those of [Client.Reports].
func (c *Client) Mirror(ctx context.Context, directory string, mirror MirrorOptions, options ...CallOption) (*MirrorResult, error) {
	var result *MirrorResult
	err := c.run(ctx, options, 0, func(k *call) *abi.Failure {
		use := func(mirror abi.MirrorOptions) *abi.Failure {
			handle, failure := abi.ReportsMirror(k.id, k.context, k.settings.project, directory, mirror, k.operation)
			result = newMirrorResult(handle)
			return failure
		}
		return filled(k, mirrorOptionsNames, abi.MirrorOptionsNew, abi.MirrorOptionsSet, abi.MirrorOptionsFree, mirror.each, use)
	})
	return result, err
}

func newMirrorResult(handle abi.MirrorResult) *MirrorResult {
	if handle == nil {
		return nil
	}
	defer abi.MirrorResultFree(handle)
	fields := abi.ReadMirrorResult(handle)
	result := &MirrorResult{MirrorCounts: newMirrorCounts(fields)}
	for i := 0; i < fields.FailureCount; i++ {
		failure := abi.TakeError(abi.MirrorResultFailureError(handle, i))
		instance, report := abi.MirrorResultFailureInstance(handle, i), abi.MirrorResultFailureID(handle, i)
		result.Failures = append(result.Failures, MirrorFailure{instance, report, errorFrom(failure, nil)})
	}
	for i := 0; i < fields.GapCount; i++ {
		result.Gaps = append(result.Gaps, Gap{
			abi.MirrorResultGapInstance(handle, i), abi.MirrorResultGapType(handle, i), abi.MirrorResultGapPeriod(handle, i),
		})
	}
	return result
}
