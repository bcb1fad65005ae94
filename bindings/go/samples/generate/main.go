// Lets the service generate a report, waits for it and downloads it.
//
//	generate INSTANCE TEMPLATE START_TIME END_TIME PATH
//
// Times are such as "2026-11-24 00:00:00". The service is that of DBSS_ENDPOINT, with
// DBSS_TOKEN and DBSS_PROJECT_ID.
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
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: generate INSTANCE TEMPLATE START_TIME END_TIME PATH")
		os.Exit(2)
	}
	spec := dbss.ReportSpec{TemplateID: os.Args[2], StartTime: os.Args[3], EndTime: os.Args[4]}
	if err := generate(os.Args[1], spec, os.Args[5]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func generate(instance string, spec dbss.ReportSpec, path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := dbss.NewClient(dbss.WithEndpoint(os.Getenv("DBSS_ENDPOINT")),
		dbss.WithToken(os.Getenv("DBSS_TOKEN")), dbss.WithProjectID(os.Getenv("DBSS_PROJECT_ID")))
	if err != nil {
		return err
	}
	defer client.Close()
	shown := -1
	id, err := client.GenerateReport(ctx, instance, spec, dbss.WithProgress(func(p dbss.Progress) error {
		if p.Percent > shown {
			shown = p.Percent
			fmt.Fprintf(os.Stderr, "generated %d%%\n", p.Percent)
		}
		return nil
	}))
	if errors.Is(err, dbss.ErrNotFound) {
		return fmt.Errorf("no such instance or template: %w", err)
	}
	if err != nil {
		return err
	}
	// The report is at the service, also if the download fails.
	saved, err := client.DownloadReportToFile(ctx, instance, id, path)
	if err != nil {
		return fmt.Errorf("report %s: %w", id, err)
	}
	fmt.Println("saved", id, "as", saved)
	return nil
}
