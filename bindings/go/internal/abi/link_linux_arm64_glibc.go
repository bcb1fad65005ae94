//go:build linux && arm64 && !musl && !dbss_repository

package abi

// #cgo CFLAGS: -I${SRCDIR}
// #cgo LDFLAGS: ${SRCDIR}/libdbss_linux_arm64_glibc.a -lpthread -ldl -lm
import "C"
