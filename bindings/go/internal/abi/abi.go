// Package abi has the functions of libdbss with types of Go. It is generated but for this
// file and those that link the library; only package dbss uses it.
//
// A function that can fail returns its error with the call: the C function in shim.h takes
// it before the goroutine can continue on another thread. Strings and buffers from C are
// copied. A string that is NULL is empty.
package abi

/*
#include "shim.h"
*/
import "C"

import (
	"runtime/cgo"
	"strings"
	"unsafe"
)

// Call stands for a call of package dbss in the callbacks that it causes; 0 for none.
type Call cgo.Handle

// NewCall makes a Call with a value. Delete it when the call is over.
func NewCall(value any) Call { return Call(cgo.NewHandle(value)) }

// Delete ends the use of a Call; of 0, it does nothing.
func (c Call) Delete() { deleteCallback(C.uintptr_t(c)) }

// CurrentCall returns, in a callback, the value of the call that it runs in, or nil.
func CurrentCall() any {
	if current := C.dbss_go_current_call(); current != 0 {
		return cgo.Handle(current).Value()
	}
	return nil
}

// Failure is an error of libdbss.
type Failure struct {
	ErrorFields
	Parts      []Part
	Details    []Detail
	Candidates []string
}

// Part is a part of the message of an error.
type Part struct {
	Kind int32
	Text string
}

// Detail is an entry of the "details" in a response of the service.
type Detail struct{ Code, Message string }

// TakeError reads an error and frees it; nil for NULL.
func TakeError(handle Error) *Failure {
	if handle == nil {
		return nil
	}
	defer ErrorFree(handle)
	failure := &Failure{ErrorFields: ReadError(handle)}
	for i := 0; i < failure.PartCount; i++ {
		failure.Parts = append(failure.Parts, Part{ErrorPartKind(handle, i), ErrorPartText(handle, i)})
	}
	for i := 0; i < failure.DetailCount; i++ {
		detail := Detail{ErrorDetailCode(handle, i), ErrorDetailMessage(handle, i)}
		failure.Details = append(failure.Details, detail)
	}
	for i := 0; i < failure.CandidateCount; i++ {
		failure.Candidates = append(failure.Candidates, ErrorCandidate(handle, i))
	}
	return failure
}

func failureOf(status C.dbss_status, handle Error) *Failure {
	if status == C.DBSS_OK {
		return nil
	}
	if failure := TakeError(handle); failure != nil {
		return failure
	}
	// There was no memory for the error itself.
	return NewFailure(int32(status), "", Part{Text: StatusMessage(int32(status))})
}

// NewFailure makes an error that does not come from C.
func NewFailure(status int32, parameter string, parts ...Part) *Failure {
	fields := ErrorFields{Status: status, Parameter: parameter, RetryAfterMs: -1}
	failure := &Failure{ErrorFields: fields, Parts: parts}
	for _, part := range parts {
		failure.Message += part.Text
	}
	return failure
}

// inputs converts texts for C, which end at the first NUL there.
type inputs struct{ failure *Failure }

func (in *inputs) required(parameter, text string) *C.char {
	if strings.IndexByte(text, 0) >= 0 && in.failure == nil {
		status, known := invalid[parameter]
		if !known {
			status = ErrInvalidValue
		}
		parts := []Part{{PartName, parameter}, {PartText, ": must not hold a NUL byte"}}
		in.failure = NewFailure(status, parameter, parts...)
	}
	// Memory of Go, which C uses until the function returns, and which holds no pointer.
	bytes := make([]byte, len(text)+1)
	copy(bytes, text)
	return (*C.char)(unsafe.Pointer(&bytes[0]))
}

func (in *inputs) optional(parameter string, text *string) *C.char {
	if text == nil {
		return nil
	}
	return in.required(parameter, *text)
}

// takeBuffer copies the bytes of a buffer and frees it.
func takeBuffer(buffer *C.dbss_buffer) []byte {
	if buffer.data == nil {
		return nil
	}
	// append does not clear the memory first, as make would.
	bytes := append([]byte(nil), unsafe.Slice((*byte)(buffer.data), int(buffer.len))...)
	C.dbss_buffer_free(buffer)
	return bytes
}

func newCallback(function any, none bool) C.uintptr_t {
	if none {
		return 0
	}
	return C.uintptr_t(cgo.NewHandle(function))
}

func deleteCallback(callback C.uintptr_t) {
	if callback != 0 {
		cgo.Handle(callback).Delete()
	}
}
