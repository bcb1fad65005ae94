//go:build linux && amd64 && !musl && !dbss_repository

package abi

// #cgo CFLAGS: -I${SRCDIR}
// #cgo LDFLAGS: ${SRCDIR}/libdbss_linux_amd64_glibc.a -lpthread -ldl -lm
import "C"
