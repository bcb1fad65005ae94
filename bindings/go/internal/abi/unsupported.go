//go:build !linux || !(amd64 || arm64)

package abi

var _ = libdbss_is_built_for_linux_on_amd64_and_arm64_only
