// The official SDK for Go. A request is in tests/sdk/README.md; the result is printed.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"

	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/auth/basic"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/auth/provider"
	dbss "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/dbss/v1"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/dbss/v1/model"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/dbss/v1/region"
)

type request struct {
	Arguments map[string]string
	Implicit  bool
	List      string
	Report    bool
}

// The credentials of the arguments, or those that the chain finds.
func credentialsOf(given map[string]string) (*basic.Credentials, error) {
	key, project, iam := given["access_key"], given["project_id"], given["iam_endpoint"]
	if key == "" {
		found, err := provider.BasicCredentialProviderChain().GetCredentials()
		if err != nil {
			return nil, err
		}
		credentials := found.(*basic.Credentials)
		if project != "" {
			credentials.ProjectId = project
		}
		if iam != "" {
			credentials.IamEndpoint = iam
		}
		return credentials, nil
	}
	builder := basic.NewCredentialsBuilder().WithAk(key).WithSk(given["secret_key"]).
		WithSecurityToken(given["security_token"]).WithProjectId(project)
	return builder.WithIamEndpointOverride(iam).SafeBuild()
}

func clientOf(given map[string]string, implicit bool) (*dbss.DbssClient, error) {
	builder := dbss.DbssClientBuilder()
	if !implicit {
		credentials, err := credentialsOf(given)
		if err != nil {
			return nil, err
		}
		builder.WithCredential(credentials)
	}
	if endpoint := given["endpoint"]; endpoint != "" {
		builder.WithEndpoints([]string{endpoint})
	}
	if id := given["region"]; id != "" {
		found, err := region.SafeValueOf(id)
		if err != nil {
			return nil, err
		}
		builder.WithRegion(found)
	}
	built, err := builder.SafeBuild()
	if err != nil {
		return nil, err
	}
	return dbss.NewDbssClient(built), nil
}

func instancesOf(client *dbss.DbssClient, version string) ([]string, error) {
	ids := []string{}
	switch version {
	case "v2":
		found, err := client.ListAuditInstancesLast(&model.ListAuditInstancesLastRequest{})
		if err != nil {
			return nil, err
		}
		for _, one := range *found.Instances {
			ids = append(ids, *one.Id)
		}
	case "v1":
		found, err := client.ListAuditInstancesNew(&model.ListAuditInstancesNewRequest{})
		if err != nil {
			return nil, err
		}
		for _, one := range *found.Instances {
			ids = append(ids, *one.InstanceId)
		}
	default:
		found, err := client.ListAuditInstances(&model.ListAuditInstancesRequest{})
		if err != nil {
			return nil, err
		}
		for _, one := range *found.Servers {
			ids = append(ids, one.Id)
		}
	}
	return ids, nil
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func reportsOf(client *dbss.DbssClient, instance string) []string {
	body := &model.ReportGetReportsRequest{Page: 1, Size: 100}
	ids := []string{}
	list := must(client.ListAuditReports(&model.ListAuditReportsRequest{InstanceId: instance, Body: body}))
	for _, one := range *list.Reports {
		ids = append(ids, *one.Report.Id)
	}
	return ids
}

// Makes a report of the first template, downloads it and deletes it.
func makeReport(client *dbss.DbssClient, instance string, result map[string]any) {
	templates := must(client.ListAuditReportTemplates(&model.ListAuditReportTemplatesRequest{InstanceId: instance}))
	body := &model.CreateReportRequestBody{
		TemplateId: *(*templates.Templates)[0].Template.Id,
		StartTime:  "2026-01-01 00:00:00",
		EndTime:    "2026-01-02 00:00:00",
	}
	before := reportsOf(client, instance)
	created := must(client.CreateReport(&model.CreateReportRequest{InstanceId: instance, Body: body}))
	// The newest one is the first. It is complete with the third list that shows it.
	reportsOf(client, instance)
	reportsOf(client, instance)
	made, locale := reportsOf(client, instance)[0], "zh-cn"
	var received bytes.Buffer
	download := must(client.DownloadAuditReport(&model.DownloadAuditReportRequest{InstanceId: instance, Id: made, Local: &locale}))
	must(download.Consume(&received))
	deleted := must(client.DeleteAuditReport(&model.DeleteAuditReportRequest{InstanceId: instance, Id: made}))
	result["created"], result["report"], result["deleted"] = *created.Result, made, *deleted.Status
	result["format"], result["length"] = string(received.Bytes()[:5]), received.Len()
	result["left"] = reflect.DeepEqual(reportsOf(client, instance), before)
}

func run(asked request) (result map[string]any, err error) {
	defer func() {
		// The SDK itself panics where it gets no list.
		if failure := recover(); failure != nil {
			err = fmt.Errorf("panic: %v", failure)
		}
	}()
	client, err := clientOf(asked.Arguments, asked.Implicit)
	if err != nil {
		return nil, err
	}
	ids, err := instancesOf(client, asked.List)
	if err != nil {
		return nil, err
	}
	result = map[string]any{"instances": ids}
	if asked.Report {
		makeReport(client, ids[0], result)
	}
	return result, nil
}

func main() {
	var asked request
	if err := json.Unmarshal([]byte(os.Args[1]), &asked); err != nil {
		panic(err)
	}
	result, err := run(asked)
	if err != nil {
		result = map[string]any{"error": reflect.TypeOf(err).String(), "message": err.Error()}
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		panic(err)
	}
}
