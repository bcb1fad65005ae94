package dbss_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/dbss"
)

func exit() { runtime.Goexit() }

// collect runs the garbage collector until finalizers have run too.
func collect() {
	for i := 0; i < 3; i++ {
		done := make(chan struct{})
		runtime.SetFinalizer(&struct{ bytes [16]byte }{}, func(any) { close(done) })
		runtime.GC()
		<-done
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(entries)
}

// residentKiB is the memory of this process that is resident.
func residentKiB(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	check(t, err)
	for _, line := range strings.Split(string(status), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			check(t, err)
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// repeatUntil runs a function again and again, until the function that it returns is called.
func repeatUntil(f func()) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ended:
				return
			default:
				f()
			}
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}

// Signals and collections of garbage, while calls run.
func storm(t *testing.T) {
	stopSignals := repeatUntil(func() {
		syscall.Kill(os.Getpid(), syscall.SIGURG)
		time.Sleep(200 * time.Microsecond)
	})
	stopCollector := repeatUntil(func() {
		runtime.GC()
		time.Sleep(2 * time.Millisecond)
	})
	t.Cleanup(func() {
		stopSignals()
		stopCollector()
	})
}

func TestHundredGoroutinesWithCancelsUnderSignals(t *testing.T) {
	storm(t)
	client := newClient(t)
	silent := mock.silent(t)
	report := mock.addReport(t, object{"format": "pdf", "size": 100_000})
	goroutines := runtime.NumGoroutine()
	var ended sync.WaitGroup
	var whole, cancelled atomic.Int32
	for i := 0; i < 100; i++ {
		random := rand.New(rand.NewSource(int64(i)))
		ended.Add(1)
		go func() {
			defer ended.Done()
			for n := 0; n < 10; n++ {
				id := report.ID
				if random.Intn(2) == 0 {
					id = silent
				}
				ctx, cancel := context.WithTimeout(background, time.Duration(random.Intn(100))*time.Millisecond)
				if random.Intn(2) == 0 {
					time.AfterFunc(time.Duration(random.Intn(50))*time.Millisecond, cancel)
				}
				content, err := client.DownloadReport(ctx, mock.InstanceID, id)
				switch {
				case err == nil && sum(content) == report.SHA256["en-us"]:
					whole.Add(1)
				case errors.Is(err, dbss.ErrCancelled) && ctx.Err() != nil && errors.Is(err, ctx.Err()):
					cancelled.Add(1)
				default:
					t.Errorf("%d bytes, %v", len(content), err)
				}
				if deadline, _ := ctx.Deadline(); time.Since(deadline) > 30*time.Second {
					t.Errorf("%v late", time.Since(deadline))
				}
				cancel()
			}
		}()
	}
	ended.Wait()
	if cancelled.Load() < 100 {
		t.Errorf("%d whole, %d cancelled", whole.Load(), cancelled.Load())
	}
	settle(t, "goroutines", runtime.NumGoroutine, goroutines)
}

// settle waits until a number is not larger than it was.
func settle(t *testing.T, what string, number func() int, before int) {
	t.Helper()
	for until := time.Now().Add(time.Minute); number() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d %s, before %d", number(), what, before)
		}
	}
}

func TestForgottenObjectsAreFreed(t *testing.T) {
	report := mock.addReport(t, object{"format": "pdf", "size": 2 << 20})
	instance := addInstance(t)
	mock.control(t, "POST", "/reports", object{"format": "pdf", "count": 5, "instance": instance}, nil)
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	forget := func() {
		client, err := dbss.NewClient(dbss.WithEndpoint(mock.HTTP), dbss.WithProjectID(mock.ProjectID), dbss.WithToken(mock.Token))
		check(t, err)
		stream, err := client.OpenReport(ctx, mock.InstanceID, report.ID)
		check(t, err)
		_, err = stream.Read(make([]byte, 10))
		check(t, err)
		list := client.Reports(ctx, instance, dbss.WithPageSize(2))
		if !list.Next() {
			t.Error(list.Err())
		}
	}
	forget()
	collect()
	before := descriptors(t)
	for i := 0; i < 20; i++ {
		forget()
	}
	collect()
	settle(t, "descriptors", func() int { collect(); return descriptors(t) }, before)
}

// copied returns a copy, which "go vet" does not see.
func copied[T any](original *T) T { return *original }

func TestCopiesLiveAsLongAsOneIsUsed(t *testing.T) {
	instance := addInstance(t)
	mock.control(t, "POST", "/reports", object{"format": "pdf", "count": 50, "instance": instance}, nil)
	report := mock.addReport(t, object{"format": "pdf", "size": 2 << 20})
	made, err := dbss.NewClient(dbss.WithEndpoint(mock.HTTP), dbss.WithProjectID(mock.ProjectID), dbss.WithToken(mock.Token))
	check(t, err)
	// A part of an object of its own, whose beginning is another field.
	holder := &struct {
		name   string
		client dbss.Client
		list   dbss.List[dbss.Report]
		stream dbss.ReportStream
	}{client: copied(made)}
	made = nil
	collect()
	check(t, holder.client.Check(background))
	holder.list = copied(holder.client.Reports(background, instance, dbss.WithPageSize(20)))
	stream, err := holder.client.OpenReport(background, mock.InstanceID, report.ID)
	check(t, err)
	holder.stream, stream = copied(stream), nil
	if !holder.list.Next() {
		t.Fatal(holder.list.Err())
	}
	list := copied(&holder.list)
	holder.list = dbss.List[dbss.Report]{}
	collect()
	rest, err := list.Collect()
	if len(rest) != 49 || err != nil {
		t.Errorf("%d reports remain, %v", len(rest), err)
	}
	content, err := io.ReadAll(&holder.stream)
	if sum(content) != report.SHA256["en-us"] || err != nil {
		t.Errorf("%d bytes, %v", len(content), err)
	}
	check(t, holder.client.Close())
}

func TestCollectionsOfGarbageDuringCalls(t *testing.T) {
	storm(t)
	report := mock.addReport(t, object{"format": "zip", "size": 300_000})
	var ended sync.WaitGroup
	for i := 0; i < 10; i++ {
		ended.Add(1)
		go func() {
			defer ended.Done()
			for n := 0; n < 10; n++ {
				client, err := dbss.NewClient(dbss.WithEndpoint(mock.HTTP), dbss.WithProjectID(mock.ProjectID),
					dbss.WithLogger(slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}))),
					dbss.WithTokenProvider(func(context.Context, bool) (dbss.Token, error) {
						return dbss.Token{Value: mock.Token}, nil
					}))
				if err != nil {
					t.Error(err)
					return
				}
				stream, err := client.OpenReport(background, mock.InstanceID, report.ID,
					dbss.WithProgress(func(dbss.Progress) error { return nil }))
				if err != nil {
					t.Error(err)
					return
				}
				content, err := io.ReadAll(stream)
				if err != nil || sum(content) != report.SHA256["en-us"] {
					t.Errorf("%d bytes, %v", len(content), err)
				}
				// Neither is closed.
			}
		}()
	}
	ended.Wait()
}

func TestPanicsOfCallbacksInManyGoroutines(t *testing.T) {
	storm(t)
	client := newClient(t, dbss.WithLogger(slog.New(panickingHandler{slog.Default().Handler()})))
	var ended sync.WaitGroup
	for i := 0; i < 50; i++ {
		i := i
		ended.Add(1)
		go func() {
			defer ended.Done()
			for n := 0; n < 5; n++ {
				mine := fmt.Sprint(i, n)
				got := panicOf(func() {
					client.DownloadReport(background, mock.InstanceID, mock.Reports[0].ID,
						dbss.WithProgress(func(dbss.Progress) error { panic(mine) }))
				})
				if got != mine && got != "from the log" {
					t.Errorf("panics with %v", got)
				}
			}
		}()
	}
	ended.Wait()
}

// Calls of each kind, again and again: as many descriptors, threads, goroutines and as much
// memory as before. DBSS_TEST_SOAK multiplies the number of calls.
func TestTenThousandCallsLeakNothing(t *testing.T) {
	times, err := strconv.Atoi(os.Getenv("DBSS_TEST_SOAK"))
	if err != nil {
		times = 1
	}
	small := mock.addReport(t, object{"format": "pdf", "size": 1 << 14})
	client := newClient(t, dbss.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	calls := []func() error{
		func() error { _, err := client.DownloadReport(ctx, mock.InstanceID, small.ID); return err },
		func() error {
			stream, err := client.OpenReport(ctx, mock.InstanceID, small.ID)
			if err != nil {
				return err
			}
			defer stream.Close()
			_, err = stream.Read(make([]byte, 100))
			return err
		},
		func() error {
			_, err := client.DownloadReport(ctx, mock.InstanceID, "short")
			if errors.Is(err, dbss.ErrInvalidID) {
				return nil
			}
			return err
		},
		func() error {
			var result dbss.Result
			return client.Check(ctx, dbss.WithResult(&result), dbss.WithProgress(func(dbss.Progress) error { return nil }))
		},
		func() error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			if err := client.Check(ctx); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
	}
	run := func(count int) {
		var ended sync.WaitGroup
		for i := 0; i < 4; i++ {
			ended.Add(1)
			go func() {
				defer ended.Done()
				for n := 0; n < count/4; n++ {
					if err := calls[n%len(calls)](); err != nil {
						t.Error(err)
						return
					}
				}
			}()
		}
		ended.Wait()
		for i := 0; i < count; i++ {
			if err := client.DeleteReport(ctx, mock.InstanceID, "short"); !errors.Is(err, dbss.ErrInvalidID) {
				t.Fatal(err)
			}
		}
		for i := 0; i < count/50; i++ {
			other, err := dbss.NewClient(dbss.WithEndpoint(mock.HTTP), dbss.WithToken(mock.Token))
			check(t, err)
			check(t, other.Close())
		}
		collect()
	}
	run(4000 * times)
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	// The heap of Go grows now and then; what leaks grows every time.
	grown := int64(0)
	for round := 0; round < 3; round++ {
		resident := residentKiB(t)
		run(10_000 * times)
		if grown = residentKiB(t) - resident; grown < 1024 {
			break
		}
	}
	// A client keeps a connection and a wake-up for each of its calls at a time, of which there are four.
	settle(t, "descriptors", func() int { return descriptors(t) }, fds+8)
	settle(t, "goroutines", runtime.NumGoroutine, goroutines)
	// The race detector keeps memory of its own.
	if grown >= 1024 && !raceDetector {
		t.Errorf("%d KiB more are resident", grown)
	}
}

// startAgain runs one test of this program in a process of its own.
func startAgain(t *testing.T, test string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	check(t, err)
	// A timer that kills the process would read what Start writes.
	ctx, cancel := context.WithTimeout(background, 2*time.Minute)
	t.Cleanup(cancel)
	command := exec.CommandContext(ctx, program, "-test.run=^"+test+"$")
	// It may exit without removing its temporary files.
	command.Env = append(os.Environ(), "DBSS_TEST_CHILD=1", "TMPDIR="+t.TempDir())
	return command
}

func TestProcessExitsDuringCalls(t *testing.T) {
	if os.Getenv("DBSS_TEST_CHILD") != "" {
		client := newClient(t)
		silent := os.Getenv("DBSS_TEST_SILENT")
		for i := 0; i < 20; i++ {
			go client.DownloadReport(background, mock.InstanceID, silent, dbss.WithProgress(func(dbss.Progress) error { return nil }))
			go client.Mirror(background, filepath.Join(t.TempDir(), fmt.Sprint(i)), dbss.MirrorOptions{})
		}
		for len(mock.requests(t, silent)) < 5 {
			time.Sleep(time.Millisecond)
		}
		os.Exit(7)
	}
	for i := 0; i < 5; i++ {
		// Of this process alone: it waits for requests of its own.
		silent := mock.silent(t)
		command := startAgain(t, "TestProcessExitsDuringCalls")
		command.Env = append(command.Env, "DBSS_TEST_SILENT="+silent)
		output, err := command.CombinedOutput()
		if code := command.ProcessState.ExitCode(); code != 7 {
			t.Fatalf("%v, code %d: %s", err, code, output)
		}
	}
}

func TestProgramsThatAreStartedDuringCallsInheritNothing(t *testing.T) {
	client := newClient(t)
	report := mock.addReport(t, object{"format": "pdf", "size": 1 << 20})
	stop := make([]func(), 4)
	for i := range stop {
		stop[i] = repeatUntil(func() {
			if _, err := client.DownloadReport(background, mock.InstanceID, report.ID); err != nil {
				t.Error(err)
			}
		})
	}
	for i := 0; i < 50; i++ {
		// The descriptor of the directory is its own.
		output, err := exec.Command("sh", "-c", "ls -l /proc/self/fd | grep -c socket:; true").Output()
		check(t, err)
		if got := strings.TrimSpace(string(output)); got != "0" {
			t.Errorf("%s sockets are inherited", got)
		}
	}
	for _, one := range stop {
		one()
	}
}
