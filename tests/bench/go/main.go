// Downloads a report COUNT times over one connection and prints what that cost, as JSON.
//
//	bench-go PEER SINK ENDPOINT REPORT COUNT
//
// PEER is libdbss, net/http or sdk; SINK is memory or stream, which discards the bytes.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"example.com/dbss"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/auth/basic"
	sdk "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/dbss/v1"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/dbss/v1/model"
)

const (
	project  = "0123456789abcdef0123456789abcdef"
	instance = "00000000-1111-2222-3333-444444444444"
)

// As long as those of IAM.
var token = strings.Repeat("t", 4096)

// A download returns the number of bytes.
type download func() (int64, error)

func withDbss(ctx context.Context, endpoint, report string, stream bool) (download, error) {
	client, err := dbss.NewClient(dbss.WithEndpoint(endpoint), dbss.WithToken(token), dbss.WithProjectID(project))
	return func() (int64, error) {
		if !stream {
			content, err := client.DownloadReport(ctx, instance, report)
			return int64(len(content)), err
		}
		opened, err := client.OpenReport(ctx, instance, report)
		if err != nil {
			return 0, err
		}
		defer opened.Close()
		return io.Copy(&counter{}, opened)
	}, err
}

func withHTTP(ctx context.Context, endpoint, report string, stream bool) (download, error) {
	url := fmt.Sprintf("%s/v1/%s/audit/%s/reports/%s/download", endpoint, project, instance, report)
	return func() (int64, error) {
		request, err := http.NewRequestWithContext(ctx, "GET", url, nil)
		if err != nil {
			return 0, err
		}
		request.Header.Set("X-Auth-Token", token)
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err
		}
		defer response.Body.Close()
		if response.StatusCode != 200 {
			return 0, fmt.Errorf("%s", response.Status)
		}
		if stream {
			return io.Copy(&counter{}, response.Body)
		}
		content, err := io.ReadAll(response.Body)
		return int64(len(content)), err
	}, nil
}

func withSDK(_ context.Context, endpoint, report string, stream bool) (download, error) {
	credentials, err := basic.NewCredentialsBuilder().WithAk("BENCHMARK").WithSk(strings.Repeat("x", 40)).
		WithProjectId(project).SafeBuild()
	if err != nil {
		return nil, err
	}
	built, err := sdk.DbssClientBuilder().WithCredential(credentials).WithEndpoints([]string{endpoint}).SafeBuild()
	if err != nil {
		return nil, err
	}
	client := sdk.NewDbssClient(built)
	request := &model.DownloadAuditReportRequest{InstanceId: instance, Id: report}
	return func() (int64, error) {
		response, err := client.DownloadAuditReport(request)
		if err != nil {
			return 0, err
		}
		if stream {
			counted := &counter{}
			_, err = response.Consume(counted)
			return counted.bytes, err
		}
		var buffer bytes.Buffer
		_, err = response.Consume(&buffer)
		return int64(buffer.Len()), err
	}, nil
}

// counter is no io.ReaderFrom, as io.Discard is, which reads in small pieces.
type counter struct{ bytes int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += int64(len(p))
	return len(p), nil
}

func cpu() (seconds float64) {
	var used syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

// peak returns the peak of resident memory in KiB; that of getrusage includes the parent's.
func peak() (kib int64) {
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	_, err = fmt.Sscan(rest, &kib)
	check(err)
	return kib
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	peer, sink, endpoint, report := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	count, err := strconv.Atoi(os.Args[5])
	check(err)
	// One that can end, as most contexts of programs can.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	makers := map[string]func(context.Context, string, string, bool) (download, error){
		"libdbss": withDbss, "net/http": withHTTP, "sdk": withSDK,
	}
	get, err := makers[peer](ctx, endpoint, report, sink == "stream")
	check(err)
	warm, err := makers[peer](ctx, endpoint, "benchmark-warm-up", false)
	check(err)
	_, err = warm()
	check(err)
	idle := peak()
	if sink != "stream" {
		_, err = get()
		check(err)
	}
	started := time.Now()
	before := cpu()
	received := int64(0)
	for i := 0; i < count; i++ {
		n, err := get()
		check(err)
		received += n
	}
	after := cpu()
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"wall_s": time.Since(started).Seconds(), "cpu_s": after - before, "bytes": received,
		"idle_kib": idle, "peak_kib": peak(),
	}))
}
