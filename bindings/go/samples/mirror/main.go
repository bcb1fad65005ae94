// Brings a local archive of reports up to date, for a nightly job.
//
//	mirror DIRECTORY [SINCE]
//
// SINCE is a day such as 2026-11-24. The service is that of DBSS_ENDPOINT, with DBSS_TOKEN
// and DBSS_PROJECT_ID.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"example.com/dbss"
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: mirror DIRECTORY [SINCE]")
		os.Exit(2)
	}
	options := dbss.MirrorOptions{}
	if len(os.Args) == 3 {
		options.Since = os.Args[2]
	}
	if err := mirror(os.Args[1], options); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func mirror(directory string, options dbss.MirrorOptions) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	client, err := dbss.NewClient(dbss.WithEndpoint(os.Getenv("DBSS_ENDPOINT")),
		dbss.WithToken(os.Getenv("DBSS_TOKEN")), dbss.WithProjectID(os.Getenv("DBSS_PROJECT_ID")),
		dbss.WithLogger(logger), dbss.WithLogLevel("warning"))
	if err != nil {
		return err
	}
	defer client.Close()
	result, err := client.Mirror(ctx, directory, options)
	if result != nil {
		fmt.Printf("%d new, %d already there, %d not ready yet\n", result.Downloaded, result.Present, result.NotReady)
		for _, one := range result.Failures {
			fmt.Fprintf(os.Stderr, "instance %s, report %s: %v\n", one.InstanceID, one.ReportID, one.Err)
		}
		for _, gap := range result.Gaps {
			fmt.Printf("no %s of %s for instance %s\n", gap.Type, gap.Period, gap.InstanceID)
		}
	}
	return err
}
