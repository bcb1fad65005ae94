// Prints the SHA-256 of a report while it arrives, in little memory.
//
//	stream INSTANCE REPORT
//
// The service is that of DBSS_ENDPOINT, with DBSS_TOKEN and DBSS_PROJECT_ID.
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"time"

	"example.com/dbss"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: stream INSTANCE REPORT")
		os.Exit(2)
	}
	if err := stream(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func stream(instance, report string) error {
	client, err := dbss.NewClient(dbss.WithEndpoint(os.Getenv("DBSS_ENDPOINT")),
		dbss.WithToken(os.Getenv("DBSS_TOKEN")), dbss.WithProjectID(os.Getenv("DBSS_PROJECT_ID")))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	stream, err := client.OpenReport(ctx, instance, report, dbss.WithLocale("zh-cn"))
	if err != nil {
		return err
	}
	defer stream.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, stream); err != nil {
		return err
	}
	fmt.Printf("%x  %s\n", hash.Sum(nil), stream.Filename)
	return nil
}
