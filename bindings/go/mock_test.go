package dbss_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"example.com/dbss"
)

// mockService is the program dbss-mock; tests/mock/README.md describes it.
type mockService struct {
	HTTP       string `json:"http"`
	Control    string `json:"control"`
	Token      string `json:"token"`
	AccessKey  string `json:"access_key"`
	SecretKey  string `json:"secret_key"`
	ProjectID  string `json:"project_id"`
	InstanceID string `json:"instance_id"`
	Region     string `json:"region"`
	IAM        string `json:"iam"`
	User       string `json:"user"`
	UserID     string `json:"user_id"`
	Password   string `json:"password"`
	Domain     string `json:"domain"`
	Reports    []mockReport
	Templates  []struct{ ID, Name, Type string }
}

type mockReport struct {
	ID, Name, Format string
	Sizes            map[string]int64
	SHA256           map[string]string
}

var mock *mockService

func buildDirectory() string {
	if directory := os.Getenv("DBSS_BUILD_DIR"); directory != "" {
		return directory
	}
	directory, err := filepath.Abs("../../build")
	if err != nil {
		panic(err)
	}
	return directory
}

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	// Programs that a test starts find the mock service here.
	if ready := os.Getenv("DBSS_TEST_MOCK"); ready != "" {
		if err := json.Unmarshal([]byte(ready), &mock); err != nil {
			panic(err)
		}
		return m.Run()
	}
	// Credentials and proxies of the user must not reach the tests.
	for _, name := range []string{"http_proxy", "HTTP_PROXY", "HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK"} {
		os.Unsetenv(name)
	}
	program := exec.Command(filepath.Join(buildDirectory(), "bin/dbss-mock"))
	// It ends with its input.
	input, err := program.StdinPipe()
	if err != nil {
		panic(err)
	}
	output, err := program.StdoutPipe()
	if err != nil {
		panic(err)
	}
	if err := program.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "%v; try: make mock\n", err)
		return 1
	}
	line, err := bufio.NewReader(output).ReadBytes('\n')
	if err != nil {
		panic(err)
	}
	if err := json.Unmarshal(line, &mock); err != nil {
		panic(err)
	}
	os.Setenv("DBSS_TEST_MOCK", string(line))
	defer program.Wait()
	defer input.Close()
	return m.Run()
}

// control sends a request to the control address and decodes the response.
func (m *mockService) control(t testing.TB, method, path string, body, response any) {
	t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequest(method, m.Control+path, bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	got, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	content, err := io.ReadAll(got.Body)
	if err != nil || got.StatusCode != 200 {
		t.Fatalf("%s %s: %v %s", method, path, err, content)
	}
	if response != nil {
		if err := json.Unmarshal(content, response); err != nil {
			t.Fatal(err)
		}
	}
}

type object map[string]any

// fault sets a fault for a report or a call; it is removed at the end of the test.
func (m *mockService) fault(t testing.TB, report string, fault object) {
	t.Helper()
	fault["report"] = report
	m.control(t, "POST", "/faults", fault, nil)
	t.Cleanup(func() { m.control(t, "DELETE", "/faults?report="+url.QueryEscape(report), nil, nil) })
}

func (m *mockService) addReport(t testing.TB, report object) (added mockReport) {
	t.Helper()
	m.control(t, "POST", "/reports", report, &added)
	t.Cleanup(func() { m.control(t, "DELETE", "/reports", object{"id": added.ID}, nil) })
	return added
}

type mockRequest struct {
	Method, Path, Body string
	Headers            [][2]string
}

func (m *mockService) requests(t testing.TB, report string) (found []mockRequest) {
	t.Helper()
	m.control(t, "GET", "/requests?report="+url.QueryEscape(report), nil, &found)
	return found
}

// silent is a report whose download never gets an answer.
func (m *mockService) silent(t testing.TB) string {
	t.Helper()
	id := fmt.Sprintf("silent-%016x", time.Now().UnixNano())
	m.fault(t, id, object{"no_response": true})
	return id
}

// newClient makes a client for the mock service; it is closed at the end of the test.
func newClient(t testing.TB, options ...dbss.Option) *dbss.Client {
	t.Helper()
	options = append([]dbss.Option{
		dbss.WithEndpoint(mock.HTTP), dbss.WithProjectID(mock.ProjectID), dbss.WithToken(mock.Token),
	}, options...)
	client, err := dbss.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func sum(content []byte) string {
	hash := sha256.Sum256(content)
	return hex.EncodeToString(hash[:])
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// prompt expects that something is at most 250 ms late: on a busy machine, at one time of twenty.
func prompt(t testing.TB, lateness func() time.Duration) {
	t.Helper()
	for i := 0; i < 20; i++ {
		if lateness() <= 250*time.Millisecond {
			return
		}
	}
	t.Error("it was late each time")
}
