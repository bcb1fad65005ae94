// Downloads a report, and shows its progress. Ctrl-C ends it; then there is no file.
//
//	download INSTANCE REPORT PATH
//
// The service is that of DBSS_REGION or DBSS_ENDPOINT, and the credentials are DBSS_TOKEN or
// those that the official SDKs would find.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"

	"example.com/dbss"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: download INSTANCE REPORT PATH")
		os.Exit(2)
	}
	if err := download(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func download(instance, report, path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := newClient()
	if err != nil {
		return err
	}
	defer client.Close()
	saved, err := client.DownloadReportToFile(ctx, instance, report, path, dbss.WithProgress(show))
	fmt.Fprintln(os.Stderr)
	var failed *dbss.Error
	if errors.As(err, &failed) {
		for _, detail := range failed.Details {
			fmt.Fprintf(os.Stderr, "  %s: %s\n", detail.Code, detail.Message)
		}
	}
	if err != nil {
		return err
	}
	fmt.Println("saved", saved)
	return nil
}

func show(p dbss.Progress) error {
	if p.Total > 0 { // else the size is not known
		fmt.Fprintf(os.Stderr, "\r%d of %d bytes ", p.Received, p.Total)
	}
	return nil
}

func newClient() (*dbss.Client, error) {
	options := []dbss.Option{dbss.WithCredentials("default")}
	if token := os.Getenv("DBSS_TOKEN"); token != "" {
		options = []dbss.Option{dbss.WithToken(token)}
	}
	if endpoint := os.Getenv("DBSS_ENDPOINT"); endpoint != "" {
		options = append(options, dbss.WithEndpoint(endpoint), dbss.WithProjectID(os.Getenv("DBSS_PROJECT_ID")))
	} else {
		options = append(options, dbss.WithRegion(os.Getenv("DBSS_REGION")))
	}
	return dbss.NewClient(options...)
}
