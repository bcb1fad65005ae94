//go:build !cgo

package abi

var _ = libdbss_needs_CGO_ENABLED_1_and_a_C_compiler
