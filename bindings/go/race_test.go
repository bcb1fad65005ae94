//go:build race

package dbss_test

const raceDetector = true
