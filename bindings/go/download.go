package dbss

import (
	"context"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"example.com/dbss/internal/abi"
)

// DownloadReport downloads an audit report, a PDF or a ZIP file, into memory. Anything less
// than the whole report is an error. A transfer that breaks is resumed or restarted.
//
// The ids are 32 to 64 (instance) and 16 to 64 (report) ASCII letters, digits, "-" and "_".
// Options: [WithLocale], [WithProjectID], [WithMaxMemoryBytes] and those of any call.
//
// Errors: [ErrArgument] and its group, before any request; [ErrNotFound], [ErrForbidden] and
// the rest of [ErrService]; [ErrNetwork] and its group; [ErrLimitExceeded]; [ErrCancelled].
func (c *Client) DownloadReport(ctx context.Context, instanceID, reportID string, options ...CallOption) ([]byte, error) {
	var bytes []byte
	err := c.run(ctx, options, takesLocale, func(k *call) (failure *abi.Failure) {
		s := k.settings
		bytes, failure = abi.ReportDownloadToMemory(k.id, k.context, s.project, instanceID, reportID, s.locale, k.operation)
		return failure
	})
	if err != nil {
		return nil, err
	}
	return bytes, nil
}

// DownloadReportToFile downloads a report to a file, and returns its path. In a directory,
// or if the path ends with a slash, the file gets a safe form of the report's own name. The
// directory must exist. The file appears only when it is complete and on the disk; after a
// failure an existing file is unchanged. Its mode is that of [WithFileMode].
//
// Options: [WithReplace], [WithLocale] and those of any call.
//
// Errors: [ErrFileExists] without [WithReplace], also [fs.ErrExist]; [ErrNotRegularFile];
// [ErrFile] and its group; those of [Client.DownloadReport].
func (c *Client) DownloadReportToFile(ctx context.Context, instanceID, reportID, path string, options ...CallOption) (string, error) {
	download := abi.ReportDownloadToFile
	if info, err := os.Stat(path); strings.HasSuffix(path, "/") || err == nil && info.IsDir() {
		download = abi.ReportDownloadToDirectory
	}
	settings, err := newCallSettings(options, takesLocale|takesReplace)
	if err != nil {
		return "", err
	}
	var result Result
	if settings.result == nil {
		settings.result = &result
	}
	err = c.runWith(ctx, settings, func(k *call) *abi.Failure {
		return download(k.id, k.context, settings.project, instanceID, reportID, settings.locale, path, settings.flags, k.operation)
	})
	if err != nil {
		return "", err
	}
	return settings.result.Path, nil
}

// DownloadReportTo downloads a report to a writer while it arrives. What was written before
// a failure stays written: only after a nil error it was the whole report. An error of the
// writer is returned as it is. To an [*os.File] libdbss writes itself, through a copy of its
// descriptor, without its deadlines; as every close, that of the copy gives back the POSIX
// record locks of the process on the file. Closing the file does not end the call: end its
// context. The reader of a pipe sees the end when the call has ended too.
//
// Errors: [ErrNotResumable] or [ErrTruncated] if the transfer broke and could not be resumed;
// [ErrBrokenPipe], [ErrDiskFull]; those of [Client.DownloadReport].
func (c *Client) DownloadReportTo(ctx context.Context, w io.Writer, instanceID, reportID string, options ...CallOption) error {
	file, isFile := w.(*os.File)
	if w == nil || isFile && file == nil {
		return nilError("w", "must not be nil")
	}
	if isFile {
		return c.downloadToDescriptor(ctx, file, instanceID, reportID, options)
	}
	stream, err := c.OpenReport(ctx, instanceID, reportID, options...)
	if err != nil {
		return err
	}
	defer stream.Close()
	_, err = stream.WriteTo(w)
	return err
}

func (c *Client) downloadToDescriptor(ctx context.Context, file *os.File, instanceID, reportID string, options []CallOption) error {
	return c.run(ctx, options, takesLocale, func(k *call) *abi.Failure {
		fd, err := duplicate(file)
		if err != nil {
			return k.refused(err)
		}
		s := k.settings
		failure := abi.ReportDownloadToFD(k.id, k.context, s.project, instanceID, reportID, s.locale, fd, k.operation)
		if err := syscall.Close(fd); err != nil && failure == nil {
			return k.refused(err)
		}
		return failure
	})
}

// duplicate returns a copy of the descriptor of a file, which must be closed. It is none of 0
// to 2, which a program may have closed.
func duplicate(file *os.File) (int, error) {
	// Not Fd(), which would make the file block.
	connection, err := file.SyscallConn()
	if err != nil {
		return 0, fs.ErrClosed
	}
	var fd uintptr
	var errno syscall.Errno
	// Close waits until Control returns.
	err = connection.Control(func(own uintptr) {
		fd, _, errno = syscall.Syscall(syscall.SYS_FCNTL, own, syscall.F_DUPFD_CLOEXEC, 3)
	})
	if err != nil {
		return 0, fs.ErrClosed
	}
	if errno != 0 {
		return 0, errno
	}
	return int(fd), nil
}

// refused is the failure of a call whose file cannot be used.
func (k *call) refused(err error) *abi.Failure {
	k.callbackErr = err
	status := ErrFile
	switch err {
	case fs.ErrClosed, syscall.EBADF:
		status = ErrArgument
	case syscall.EMFILE:
		status = ErrResource
	case syscall.ENOSPC, syscall.EDQUOT:
		status = ErrDiskFull
	}
	failure := abi.NewFailure(int32(status), "w", abi.Part{Text: "w: " + err.Error()})
	if errno, ok := err.(syscall.Errno); ok {
		failure.OSCode = int32(errno)
	}
	return failure
}

// ReportStream is a report that is read in parts. One goroutine reads; any may close it.
type ReportStream struct {
	_ noCopy
	// The size in bytes that the service announced; -1 if it announced none.
	Size int64
	// The format of the report.
	Format Format
	// A safe form of the report's own name.
	Filename string
	// The header Content-Type, and the service's id of the request; empty for none.
	ContentType, RequestID string

	open *openReport
}

// openReport is what copies of a ReportStream share.
type openReport struct {
	handle  *resource[abi.ReportStream]
	call    *call
	reading atomic.Bool
	// Of the goroutine that reads: what later reads return.
	end error
}

// OpenReport opens a report for reading, when its first bytes have arrived. The context
// counts until the stream is closed, which it must be.
//
// Errors: those of [Client.DownloadReport].
func (c *Client) OpenReport(ctx context.Context, instanceID, reportID string, options ...CallOption) (*ReportStream, error) {
	defer runtime.KeepAlive(c)
	settings, err := newCallSettings(options, takesLocale)
	if err != nil {
		return nil, err
	}
	k, err := c.newCall(ctx, settings)
	if err != nil {
		return nil, err
	}
	var handle abi.ReportStream
	opened := false
	defer func() {
		// Also if a callback panicked.
		if !opened {
			abi.ReportStreamFree(handle)
			k.free()
		}
	}()
	handle, failure := abi.ReportOpen(k.id, k.context, settings.project, instanceID, reportID, settings.locale, k.operation)
	if err := k.finish(failure); err != nil {
		return nil, err
	}
	opened = true
	f := abi.ReadReportStream(handle)
	s := &ReportStream{
		Size: f.Size, Format: Format(f.Format), Filename: f.Filename,
		ContentType: f.ContentType, RequestID: f.RequestID,
	}
	free := func(handle abi.ReportStream) {
		abi.ReportStreamFree(handle)
		k.free()
	}
	s.open = &openReport{handle: newResource(handle, free, abi.ReportStreamClose), call: k}
	return s, nil
}

// Read reads the next bytes, at least one. [io.EOF] comes only when the report is complete
// and its length correct. After a failure, later reads fail with the same error. A read whose
// callback panics may lose bytes, so later ones fail with [ErrCancelled].
//
// Errors: [ErrClosed] after Close; [ErrBusy] if another goroutine reads; [ErrTruncated] and
// others of [Client.DownloadReport].
func (s *ReportStream) Read(p []byte) (int, error) {
	if err := s.opened(); err != nil {
		return 0, err
	}
	open := s.open
	defer runtime.KeepAlive(open)
	handle, ok := open.handle.acquire()
	if !ok {
		return 0, closedError("stream")
	}
	defer open.handle.release()
	if len(p) == 0 {
		return 0, nil
	}
	if !open.reading.CompareAndSwap(false, true) {
		return 0, newError(ErrBusy, "stream", "stream: another goroutine reads it")
	}
	defer open.reading.Store(false)
	if open.end != nil {
		return 0, open.end
	}
	n, failure := abi.ReportStreamRead(open.call.id, handle, p)
	if open.call.panicked {
		lost := newError(ErrCancelled, "", "a callback panicked during an earlier read of the stream")
		lost.CancelledBy = CancelledByCallback
		open.end = lost
	}
	if err := open.call.finish(failure); err != nil {
		open.end = err
		return 0, err
	}
	if n == 0 {
		open.end = io.EOF
	}
	return n, open.end
}

var buffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// WriteTo writes the rest of the report to a writer. An error of the writer is returned as
// it is.
func (s *ReportStream) WriteTo(w io.Writer) (written int64, err error) {
	if w == nil {
		return 0, nilError("w", "must not be nil")
	}
	buffer := buffers.Get().(*[256 << 10]byte)
	defer buffers.Put(buffer)
	for {
		n, err := s.Read(buffer[:])
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		wrote, err := w.Write(buffer[:n])
		written += int64(wrote)
		if err == nil && wrote != n {
			err = io.ErrShortWrite
		}
		if err != nil {
			return written, err
		}
	}
}

// Close closes the stream, also before its end. A read that runs ends with [ErrCancelled],
// and later ones with [ErrClosed]. It returns nil, and does nothing the second time.
func (s *ReportStream) Close() error {
	if err := s.opened(); err != nil {
		return err
	}
	s.open.handle.close(abi.ReportStreamClose)
	return nil
}

// opened returns an error for a stream that OpenReport has not opened.
func (s *ReportStream) opened() error {
	if s == nil || s.open == nil {
		return nilError("stream", "is not open; open it with Client.OpenReport")
	}
	return nil
}
