//go:build dbss_repository

package abi

// In the repository: what `make lib` has built.

// #cgo CFLAGS: -I${SRCDIR}/../../../../include
// #cgo LDFLAGS: ${SRCDIR}/../../../../build/lib/libdbss.a -lpthread -ldl -lm
import "C"
